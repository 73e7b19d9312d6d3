"""Numbers as a person reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from experiments.shared.statistics import spread


def plus_minus(runs: Any, mean: str = ".3f", deviation: str | None = None) -> str:
    """Mean ± standard deviation over seeds.

    Args:
        runs: Values with the one dimension ``seed``.
        mean: Format of the mean.
        deviation: Format of the standard deviation; None: that of the mean.

    Example:
        >>> plus_minus(xr.DataArray([0.1, 0.2, 0.3], dims="seed"))
        '0.200 ± 0.100'
    """
    middle, reach = spread(runs)
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


def over_seeds(seeds: int) -> str:
    """What a title says of the curves."""
    return "one seed" if seeds == 1 else f"mean ± deviation of {seeds} seeds"


def spelled(values: np.ndarray, digits: int = 3) -> str:
    """``plus_minus`` of an array (seeds,): for families that do not use the labels yet."""
    return plus_minus(np.asarray(values, float), f".{digits}f")


def about(values: np.ndarray) -> str:
    """``plus_minus`` of an array (seeds,): for families that do not use the labels yet."""
    return plus_minus(np.asarray(values, float), ".3g", ".1g")
