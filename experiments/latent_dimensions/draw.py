"""Draw the tutorial's sections, a picture each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..shared.drawing import BLUE, GREEN, ORANGE, PURPLE, VERMILION, band, tidy
from ..shared.text import over_seeds
from . import Config
from .claims import PUBLISHED, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

NAMES = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
    "digits": list("0123456789"),
}
COLOURS = {"trained": BLUE, "untrained": ORANGE, "permuted": "0.5"}
LAYERS = (BLUE, VERMILION)
MODELS = {"mlp": "MLP", "cnn": "CNN", "wavelets": "wavelets and channel maps"}


def plot(result: Result) -> Figure:
    """Accuracy, spectra, clipping, alignment and resampling."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 7), layout="constrained")
    panels: Any = figure.subplots(3, 3)
    data, config = result.data, result.config
    _accuracy(panels[0, 0], result)
    _activations(panels[0, 1], data)
    for axes, layer in zip((panels[0, 2], panels[1, 0]), data["layer"].values, strict=True):
        _weights(axes, data.sel(layer=layer), int(layer))
    _clipping(panels[1, 1], data, "activation_clipping", "activation components kept")
    _clipping(panels[1, 2], data, "weight_clipping", "weight components kept")
    for axes, centring in zip(panels[2, :2], ("uncentred", "centred"), strict=True):
        _alignment(axes, data["alignment"].sel(centring=centring), centring)
    _resampled(panels[2, 2], data)
    figure.suptitle(_title(config), fontsize=9)
    return figure


def _title(config: Config) -> str:
    sizes = "-".join(map(str, config.widths))
    return f"{config.dataset}, {MODELS[config.network]} {sizes}, {over_seeds(config.seeds)}"


def _accuracy(axes: Axes, result: Result) -> None:
    data = result.data.sel(pair="first")
    for split, colour in (("train", VERMILION), ("test", BLUE)):
        band(axes, data[f"{split}_accuracy"], colour, label=split)
    known = PUBLISHED.get(result.config.network)
    if known and result.config.dataset == "cifar10":
        axes.plot(data["epoch"][-1], known["trained"], "x", color="0.1", label="published")
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False, fontsize=6.5)
    tidy(axes)


def _numbered(spectra: xr.DataArray) -> xr.DataArray:
    """Spectra with components from 1, without those that no seed has."""
    found = spectra.dropna("component", how="all")
    return found.assign_coords(component=np.arange(1, found.sizes["component"] + 1))


def _activations(axes: Axes, data: xr.Dataset) -> None:
    for layer, colour in zip(data["layer"].values, LAYERS, strict=True):
        for name, style in (("activation_spectrum", "-"), ("partner_spectrum", ":")):
            values = _numbered(data[name].sel(layer=layer))
            label = f"layer {layer}" if style == "-" else None
            band(axes, values.clip(1e-12), colour, log=True, ls=style, label=label)
    axes.plot([], [], ":", color="0.3", label="second network")
    axes.set_xscale("log")
    axes.set_ylim(bottom=1e-6)
    axes.set_xlabel("component")
    axes.set_ylabel("activation eigenvalue")
    axes.legend(frameon=False, fontsize=6.5)
    tidy(axes)


def _weights(axes: Axes, data: xr.Dataset, layer: int) -> None:
    """Eigenvalues of KKᵀ/o of the first seed, after and before training."""
    first = data.isel(seed=0)
    for name, colour, label in (
        ("initial_spectrum", "0.5", "initial"),
        ("weight_spectrum", LAYERS[layer - 1], "trained"),
    ):
        values = _numbered(first[name].expand_dims("seed")).isel(seed=0)
        axes.plot(values["component"], values, color=colour, lw=1.2, label=label)
    axes.axhline(
        float(first["noise_edge"]), color="0.5", lw=0.8, ls="--", label="Marchenko–Pastur edge"
    )
    axes.axhline(float(first["threshold"]), color=GREEN, lw=0.8, ls=":", label="stands out, 5 %")
    number = int(first["significant"])
    axes.axvline(number, color=GREEN, lw=0.8, alpha=0.6)
    axes.set_yscale("log")
    axes.set_xlabel("component")
    axes.set_ylabel("weight eigenvalue")
    axes.legend(frameon=False, fontsize=6)
    tidy(axes, title=f"weights of layer {layer}, seed 0: {number} stand out")


def _clipping(axes: Axes, data: xr.Dataset, name: str, label: str) -> None:
    for layer, colour in zip(data["layer"].values, LAYERS, strict=True):
        curves = data[name].sel(layer=layer).dropna("rank")
        band(axes, curves, colour, label=f"layer {layer}")
        if name == "weight_clipping":
            at = data["significant"].sel(layer=layer).mean()
            axes.plot(at, data["learned_alone"].sel(layer=layer).mean(), "o", color=colour, ms=4)
    full = data["test_accuracy"].sel(pair="first").isel(epoch=-1).mean()
    axes.axhline(float(full), color="0.4", lw=0.8, ls=":")
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("test accuracy")
    axes.legend(frameon=False, fontsize=6.5)
    tidy(axes)


def _alignment(axes: Axes, cosines: xr.DataArray, title: str) -> None:
    """Bars by layer and kind: on train samples, and behind them on test samples."""
    for i, (kind, colour) in enumerate(COLOURS.items()):
        of = cosines.sel(kind=kind)
        for j, (split, alpha) in enumerate((("train", 0.45), ("test", 1.0))):
            values = of.sel(split=split)
            at = np.arange(values.sizes["layer"]) + 0.28 * i + 0.13 * j
            spread = values.std("seed", ddof=min(1, values.sizes["seed"] - 1))
            label = f"{kind}, {split}"
            style: Any = {"color": colour, "alpha": alpha, "label": label, "error_kw": {"lw": 0.8}}
            axes.bar(at, values.mean("seed"), 0.13, yerr=spread, **style)
    axes.set_xticks(np.arange(cosines.sizes["layer"]) + 0.34, ["layer 1", "layer 2"])
    axes.axhline(0, color="0.3", lw=0.6)
    axes.set_ylabel("alignment of two networks")
    axes.set_ylim(top=1.6)  # room for the legend
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.legend(frameon=False, fontsize=5.5, ncols=3, loc="upper center", handlelength=1)
    tidy(axes, title=title)


def _resampled(axes: Axes, data: xr.Dataset) -> None:
    """Accuracies of all drawn networks, and of the trained one."""
    for i, variant in enumerate(data["variant"].values):
        of = data["resampled"].sel(variant=variant)
        for seed in range(of.sizes["seed"]):
            at = np.full(of.sizes["draw"], i + 0.12 * (seed - (of.sizes["seed"] - 1) / 2))
            axes.plot(at, of.isel(seed=seed), ".", color=BLUE, ms=3)
        mean = float(drawn(data, variant).mean())
        axes.plot([i - 0.3, i + 0.3], [mean, mean], color=PURPLE, lw=1.5)
    full = data["test_accuracy"].sel(pair="first").isel(epoch=-1).mean()
    axes.axhline(float(full), color="0.4", lw=0.8, ls=":")
    axes.axhline(0.1, color="0.7", lw=0.8, ls=":")
    names = [str(name).replace(" ", "\n") for name in data["variant"].values]
    axes.set_xticks(range(len(names)), names, fontsize=6)
    axes.set_ylabel("test accuracy")
    tidy(axes, title="resampled; dotted: trained, chance")
    axes.tick_params(axis="x", labelsize=6)


def extras(result: Result) -> dict[str, Callable[[Any], None]]:
    """The samples, the first layer read as project, scale, embed, and the stability maps."""

    def drawing(draw: Callable[[Result], Figure]) -> Callable[[Any], None]:
        return lambda file: draw(result).savefig(file, format="png", dpi=200)

    return {
        "samples.png": drawing(_samples),
        "layer.png": drawing(_layer),
        "stability.png": drawing(_stability),
    }


def _samples(result: Result) -> Figure:
    """Samples as they are, and as the networks see them."""
    from matplotlib.figure import Figure

    data = result.data
    names = NAMES.get(result.config.dataset, NAMES["digits"])
    number = data.sizes["sample"]
    figure = Figure(figsize=(1.3 * number, 2.9), layout="constrained")
    panels: Any = figure.subplots(2, number)
    for i, (above, below) in enumerate(panels.T):
        above.imshow(data["samples"].isel(sample=i).values.squeeze(), cmap="gray")
        below.imshow(data["grey"].isel(sample=i).values, cmap="gray")
        above.set_title(names[int(data["classes"].isel(sample=i))], fontsize=8)
        for axes in (above, below):
            axes.set_axis_off()
    return figure


def _layer(result: Result) -> Figure:
    """Layer 1 of the first seed: project (as images), scale, embed."""
    from matplotlib.figure import Figure

    data = result.data.isel(seed=0)
    number = data.sizes["shown"]
    figure = Figure(figsize=(8.4, 3), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.2))
    upper, lower = halves
    for i, axes in enumerate(upper.subplots(1, number)):
        image = data["project"].isel(shown=i).values
        reach = abs(image).max()
        axes.imshow(image, cmap="RdBu_r", vmin=-reach, vmax=reach)
        axes.set_title(f"project {i + 1}", fontsize=7)
        axes.set_axis_off()
    scale, embed = lower.subplots(1, 2, width_ratios=(1, 2.4))
    scale.bar(np.arange(1, number + 1), data["scale"], color=BLUE)
    tidy(scale, title="scale")
    scale.set_xlabel("component", fontsize=8)
    units = data["embed"].dropna("unit")
    largest = float(abs(units).max())
    embed.imshow(units, aspect="auto", cmap="RdBu_r", vmin=-largest, vmax=largest)
    embed.set_yticks(range(number), range(1, number + 1))
    embed.set_xlabel("unit", fontsize=8)
    embed.set_title("embed", fontsize=8)
    return figure


def _stability(result: Result) -> Figure:
    """Maps of |cosines| of the first seed: of activations and of weights, by kind."""
    from matplotlib.figure import Figure

    data = result.data.isel(seed=0)
    rows = [(of, layer) for of in ("activation", "weight") for layer in data["layer"].values]
    kinds = data["kind"].values
    figure = Figure(figsize=(2.1 * len(rows) + 0.6, 2.1 * len(kinds)), layout="constrained")
    panels: Any = figure.subplots(len(kinds), len(rows))
    for row, kind in zip(panels, kinds, strict=True):
        for axes, (of, layer) in zip(row, rows, strict=True):
            image = data[f"{of}_stability"].sel(kind=kind, layer=layer)
            image = image.dropna("first", how="all").dropna("second", how="all")
            shown = axes.imshow(image, vmin=0, vmax=1, cmap="magma")
            axes.tick_params(labelsize=6)
            axes.set_title(f"{of}s of layer {layer}, {kind}", fontsize=7)
    figure.colorbar(shown, ax=panels, shrink=0.5, label="|cosine|")
    return figure
