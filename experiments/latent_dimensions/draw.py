"""Draw the tutorial's sections, a picture each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..shared.drawing import (
    BLUE,
    GREEN,
    LAYERS,
    ORANGE,
    PURPLE,
    VERMILION,
    band,
    layer_style,
    legend_below,
    letters,
    points,
    sheet,
    tidy,
)
from .captions import captions as captions
from .claims import PUBLISHED, drawn, guess

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

NAMES = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
    "digits": list("0123456789"),
}
COLOURS = {"trained": BLUE, "untrained": ORANGE, "permuted": "0.5"}
MARKERS = {"trained": "o", "untrained": "s", "permuted": "^"}


def plot(result: Result) -> Figure:
    """Accuracy, spectra, clipping, alignment and resampling."""
    figure = sheet(5.8)
    panels: Any = figure.subplots(3, 3)
    data = result.data
    _accuracy(panels[0, 0], result)
    _activations(panels[0, 1], data)
    for place, axes in enumerate((panels[0, 2], panels[1, 0])):
        _weights(axes, data.isel(layer=place), place)
    _clipping(panels[1, 1], data, "activation_clipping", "activation components")
    _clipping(panels[1, 2], data, "weight_clipping", "weight components")
    for axes, centring in zip(panels[2, :2], ("uncentred", "centred"), strict=True):
        _alignment(axes, data["alignment"].sel(centring=centring), centring)
    _resampled(panels[2, 2], result)
    letters(panels.flat)
    legend_below(figure, panels.flat, lines={"second network (b)": ":"}, columns=4)
    return figure


def _accuracy(axes: Axes, result: Result) -> None:
    data = result.data.sel(pair="first")
    for split, colour, style in (("train", "0.35", "--"), ("test", VERMILION, "-")):
        band(axes, data[f"{split}_accuracy"], colour, ls=style, label=f"{split} accuracy")
    known = PUBLISHED.get(result.config.network)
    if known and result.config.dataset == "cifar10":
        axes.plot(data["epoch"][-1], known["trained"], "x", color="0.1", label="published")
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy")
    tidy(axes)


def _numbered(spectra: xr.DataArray) -> xr.DataArray:
    """Spectra with components from 1, without those that no seed has."""
    found = spectra.dropna("component", how="all")
    return found.assign_coords(component=np.arange(1, found.sizes["component"] + 1))


def _activations(axes: Axes, data: xr.Dataset) -> None:
    for place, layer in enumerate(data["layer"].values):
        values = _numbered(data["activation_spectrum"].sel(layer=layer)).clip(1e-12)
        band(axes, values, log=True, label=f"layer {layer}", **layer_style(place))
        partner = _numbered(data["partner_spectrum"].sel(layer=layer)).clip(1e-12)
        band(axes, partner, "0.3", log=True, ls=":", lw=0.8)
    axes.set_xscale("log")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], 1e-6))
    axes.set_xlabel("component")
    axes.set_ylabel("activation eigenval.")
    tidy(axes)


def _weights(axes: Axes, data: xr.Dataset, place: int) -> None:
    """Eigenvalues of KKᵀ/o of the first seed, after and before training."""
    first, look = data.isel(seed=0), layer_style(place)
    for name, style in (
        ("initial_spectrum", {"color": "0.6", "ls": "-"}),
        ("weight_spectrum", look),
    ):
        values = _numbered(first[name].expand_dims("seed")).isel(seed=0)
        label = "at initialisation" if style is not look else None
        axes.plot(values["component"], values, label=label, **style)
    edge, threshold = float(first["noise_edge"]), float(first["threshold"])
    axes.axhline(edge, color="0.3", lw=0.8, ls="--", label="Marchenko–Pastur edge")
    axes.axhline(threshold, color=GREEN, lw=0.8, ls=":", label="stands out at 5 %")
    number = int(first["significant"])
    axes.axvline(number, color=GREEN, lw=0.8, alpha=0.6)
    axes.set_yscale("log")
    axes.set_xlabel("component")
    axes.set_ylabel("weight eigenvalue")
    tidy(axes, title=f"layer {place + 1}: {number}")


def _clipping(axes: Axes, data: xr.Dataset, name: str, label: str) -> None:
    for place, layer in enumerate(data["layer"].values):
        curves = data[name].sel(layer=layer).dropna("rank")
        band(axes, curves, **layer_style(place))
        if name == "weight_clipping":
            at = data["significant"].sel(layer=layer).mean()
            alone = data["learned_alone"].sel(layer=layer).mean()
            axes.plot(at, alone, "o", color=LAYERS[place])
    full = data["test_accuracy"].sel(pair="first").isel(epoch=-1).mean()
    axes.axhline(float(full), color="0.4", lw=0.8, ls=":")
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("test accuracy")
    tidy(axes)


def _alignment(axes: Axes, cosines: xr.DataArray, title: str) -> None:
    """By layer and kind, on train samples (open) and on test samples."""
    for i, (kind, colour) in enumerate(COLOURS.items()):
        for split, face in (("train", "white"), ("test", colour)):
            shift = 0.16 * (i - 1) + (0.05 if split == "test" else -0.05)
            style: Any = {"mfc": face, "label": kind if split == "test" else None}
            of = cosines.sel(kind=kind, split=split)
            points(axes, of, colour, fmt=MARKERS[kind], shift=shift, lw=1, **style)
    axes.set_xticks(cosines["layer"].values)
    axes.set_xlim(0.5, cosines.sizes["layer"] + 0.5)
    axes.axhline(0, color="0.3", lw=0.6)
    axes.set_xlabel("layer")
    axes.set_ylabel("alignment")
    axes.set_ylim(top=1.05)
    tidy(axes, title=title)


def _resampled(axes: Axes, result: Result) -> None:
    """Accuracies of all drawn networks, of the trained one and of guessing."""
    data = result.data
    for i, variant in enumerate(data["variant"].values):
        of = data["resampled"].sel(variant=variant)
        for seed in range(of.sizes["seed"]):
            at = np.full(of.sizes["draw"], i + 0.12 * (seed - (of.sizes["seed"] - 1) / 2))
            axes.plot(at, of.isel(seed=seed), ".", color=BLUE, ms=3)
        mean = float(drawn(data, variant).mean())
        axes.plot([i - 0.3, i + 0.3], [mean, mean], color=PURPLE, lw=1.5)
    full = data["test_accuracy"].sel(pair="first").isel(epoch=-1).mean()
    axes.axhline(float(full), color="0.4", lw=0.8, ls=":")
    axes.axhline(guess(result), color="0.7", lw=0.8, ls=":")
    names = [str(name) for name in data["variant"].values]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_ylabel("test accuracy")
    tidy(axes, title="resampled")


def figures(result: Result) -> dict[str, Callable[[], Figure]]:
    """The samples, the first layer read as project, scale, embed, and the stability maps."""
    drawings = {"samples": _samples, "layer": _layer, "stability": _stability}
    return {name: functools.partial(draw, result) for name, draw in drawings.items()}


def _samples(result: Result) -> Figure:
    """Samples as they are, and as the networks see them."""
    data = result.data
    names = NAMES.get(result.config.dataset, NAMES["digits"])
    number = data.sizes["sample"]
    figure = sheet(2.4)
    panels: Any = figure.subplots(2, number)
    for i, (above, below) in enumerate(panels.T):
        above.imshow(data["samples"].isel(sample=i).values.squeeze(), cmap="gray")
        below.imshow(data["grey"].isel(sample=i).values, cmap="gray")
        above.set_title(names[int(data["classes"].isel(sample=i))])
        for axes in (above, below):
            axes.set_axis_off()
    return figure


def _layer(result: Result) -> Figure:
    """Layer 1 of the first seed: project (as images), scale, embed."""
    data = result.data.isel(seed=0)
    number = data.sizes["shown"]
    figure = sheet(2.4)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.2))
    upper, lower = halves
    for i, axes in enumerate(upper.subplots(1, number)):
        image = data["project"].isel(shown=i).values
        reach = abs(image).max()
        axes.imshow(image, cmap="RdBu_r", vmin=-reach, vmax=reach)
        axes.set_title(f"{i + 1}")
        axes.set_axis_off()
    scale, embed = lower.subplots(1, 2, width_ratios=(1, 2.4))
    scale.bar(np.arange(1, number + 1), data["scale"], color=BLUE)
    tidy(scale, title="scale")
    scale.set_xlabel("component")
    units = data["embed"].dropna("unit")
    largest = float(abs(units).max())
    embed.imshow(units, aspect="auto", cmap="RdBu_r", vmin=-largest, vmax=largest)
    embed.set_yticks(range(number), range(1, number + 1))
    embed.set_xlabel("unit")
    embed.set_title("embed")
    embed.grid(False)
    return figure


def _stability(result: Result) -> Figure:
    """Maps of |cosines| of the first seed: of activations and of weights, by kind."""
    data = result.data.isel(seed=0)
    rows = [(of, layer) for of in ("activation", "weight") for layer in data["layer"].values]
    kinds = data["kind"].values
    figure = sheet(1.1 * len(kinds) + 0.4)
    panels: Any = figure.subplots(len(kinds), len(rows))
    for row, kind in zip(panels, kinds, strict=True):
        for axes, (of, layer) in zip(row, rows, strict=True):
            image = data[f"{of}_stability"].sel(kind=kind, layer=layer)
            image = image.dropna("first", how="all").dropna("second", how="all")
            shown = axes.imshow(image, vmin=0, vmax=1, cmap="magma")
            axes.grid(False)
            axes.tick_params(labelleft=axes is row[0], labelbottom=kind == kinds[-1])
            if kind == kinds[0]:
                axes.set_title(f"{of}s, layer {layer}", fontsize=7)
            if axes is row[0]:
                axes.set_ylabel(kind)
    figure.colorbar(shown, ax=panels, shrink=0.5, label="|cosine|")
    return figure
