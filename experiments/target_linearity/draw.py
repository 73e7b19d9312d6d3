"""Draw figures 4 and 9."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..shared.drawing import SHARE, band, entitle
from ..shared.text import over_seeds

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

NAMES = {"sgd": "SGD", "adam": "Adam"}


def plot(result: Result) -> Figure:
    """Surrogate, target linearity with its noise floor, its gain, and accuracies, by epoch."""
    from matplotlib.figure import Figure

    data, config = result.data, result.config
    linearity, epochs = data["target_linearity"], data["epoch"]
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    _by_layer(panels[0, 0], data["surrogate"], log=True)
    panels[0, 0].set(ylabel="surrogate")
    _by_layer(panels[0, 1], linearity, within=SHARE)
    floor = data["noise_floor"].mean(["seed", "layer"])
    panels[0, 1].plot(epochs, floor, color="0.4", ls=":", label="noise floor")
    panels[0, 1].set(ylim=(0, 1.02), ylabel="target linearity")
    _by_layer(panels[1, 0], linearity - linearity.isel(epoch=0))
    panels[1, 0].axhline(0, color="0.4", lw=0.8)
    panels[1, 0].set(ylabel="gain in target linearity", xlabel="epoch")
    for split, shade in zip(("train", "test"), _shades("plasma", 2), strict=True):
        runs = data[f"{split}_accuracy"]
        band(panels[1, 1], runs, shade, within=SHARE, label=split, lw=1.4)
    panels[1, 1].set(ylim=(0, 1.02), ylabel="accuracy", xlabel="epoch")
    for axes in panels.flat:
        axes.set_xlim(0, epochs[-1])
        axes.grid(alpha=0.25, lw=0.5)
    for axes in panels[:, 1]:  # the left panels show the same layers
        axes.legend(frameon=False, fontsize=8)
    entitle(
        figure,
        f"{config.dataset}, {config.depth}×{config.width} {config.activation.upper()}, "
        f"{NAMES[config.optimizer]} {config.learning_rate:g}, {over_seeds(config.seeds)}",
    )
    return figure


def _by_layer(axes: Axes, runs: xr.DataArray, **options: Any) -> None:
    shades = _shades("viridis", runs.sizes["layer"])
    for of_layer, shade in zip(runs.transpose("layer", ...), shades, strict=True):
        label = f"layer {of_layer['layer'].item()}"
        band(axes, of_layer, shade, label=label, lw=1.4, **options)


def _shades(colours: str, count: int) -> np.ndarray:
    import matplotlib

    return matplotlib.colormaps[colours](np.linspace(0, 0.85, count))
