"""Numbers as a person reads them."""

from __future__ import annotations

import re
from typing import Any

import xarray as xr

from .statistics import spread

DATASETS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn_cropped": "SVHN",
}
"""Data sets as papers write them, where their names here are others."""

NETWORKS = {"dnn": "fully connected", "cnn": "convolutional"}
"""The networks, in words."""

ACTIVATIONS = {"gelu": "GELU", "relu": "ReLU"}


def minus(text: str) -> str:
    """Text with real minus signs before its numbers.

    Example:
        >>> minus("-0.1 to -3, fine-tuned at 1e-4")
        '−0.1 to −3, fine-tuned at 1e−4'
    """
    return re.sub(r"(?<![A-Za-df-z\d])(?<![A-Za-z]e)-(?=[\d.])", "−", text)


def plus_minus(runs: Any, mean: str = ".3f", deviation: str | None = None) -> str:
    """Mean ± standard deviation over seeds; the value alone where there is one seed.

    Args:
        runs: Values with the one dimension ``seed``.
        mean: Format of the mean.
        deviation: Format of the standard deviation; None: that of the mean.

    Example:
        >>> plus_minus(xr.DataArray([0.1, 0.2, 0.3], dims="seed"))
        '0.200 ± 0.100'
    """
    middle, reach = spread(runs)
    if runs.sizes["seed"] == 1:
        return f"{float(middle):{mean}}"
    return f"{float(middle):{mean}} ± {float(reach):{deviation or mean}}"


def listed(
    runs: xr.DataArray, dim: str, mean: str = ".3g", deviation: str = ".1g", name: str = ""
) -> str:
    """``plus_minus`` of each entry along ``dim``, after its coordinate formatted by ``name``.

    Example:
        >>> runs = xr.DataArray([[1, 2], [3, 4]], {"layer": [1, 2]}, ("seed", "layer"))
        >>> listed(runs, "layer", name="{}: ")
        '1: 2 ± 1, 2: 3 ± 1'
    """
    return ", ".join(
        name.format(one[dim].item() if dim in one.coords else "") + plus_minus(one, mean, deviation)
        for one in runs.transpose(dim, ...)
    )


def start_to_end(runs: xr.DataArray, mean: str, deviation: str, dim: str = "epoch") -> str:
    """Means over seeds of curves (seed, dim), first and last, with the last one's deviation."""
    first = spread(runs.isel({dim: 0}))[0]
    return f"{float(first):{mean}} → {plus_minus(runs.isel({dim: -1}), mean, deviation)}"


def linearity_heads(depth: int) -> list[str]:
    """The heads of a table with ``linearity_cells``."""
    layers = range(1, depth + 1)
    linearity = [head for layer in layers for head in (f"TL {layer}", f"TL {layer}, held out")]
    return ["train accuracy", "test accuracy", *linearity]


def linearity_cells(of: xr.Dataset) -> list[str]:
    """What ``linearity_metrics`` measured at one time: accuracies, and target linearity by layer.

    Args:
        of: ``train_accuracy`` and ``test_accuracy`` (seed,); ``target_linearity`` and ``heldout``
            (seed, layer).
    """
    layers = [of.sel(layer=layer) for layer in of["layer"]]
    linearity = [one[name] for one in layers for name in ("target_linearity", "heldout")]
    return [plus_minus(v) for v in (of["train_accuracy"], of["test_accuracy"], *linearity)]


def over_seeds(seeds: int) -> str:
    """What a caption says of the curves."""
    return "one seed" if seeds == 1 else f"mean ± one standard deviation of {seeds} seeds"


def named(dataset: str) -> str:
    """A data set as papers write it."""
    return DATASETS.get(dataset, dataset)
