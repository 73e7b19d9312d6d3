"""Draw figures 4 and 9."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..shared.drawing import (
    SHARE,
    VERMILION,
    band,
    layer_style,
    legend_below,
    letters,
    sheet,
    tidy,
)
from ..shared.text import ACTIVATIONS, named, over_seeds

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

OPTIMISERS = {"sgd": "SGD", "adam": "Adam"}
NEAR = 0.5  # of the axis: how far below the curves a floor still shows at its place


def plot(result: Result) -> Figure:
    """Surrogate, target linearity with its noise floor, its gain, and accuracies, by epoch."""
    data = result.data
    linearity, epochs = data["target_linearity"], data["epoch"]
    figure = sheet(3.9)
    panels = figure.subplots(2, 2, sharex=True)
    (surrogate, share), (gain, accuracy) = panels
    _by_layer(surrogate, data["surrogate"], log=True)
    surrogate.set(ylabel="surrogate ‖YᵀHK‖²/k")
    _by_layer(share, linearity, within=SHARE)
    share.set(ylabel="target linearity")
    _floor(share, float(data["noise_floor"].mean()))
    _by_layer(gain, linearity - linearity.isel(epoch=0))
    gain.axhline(0, color="0.4", lw=0.6)
    gain.set(ylabel="gain in target linearity", xlabel="epoch")
    for split, colour, style in (("train", "0.35", "--"), ("test", VERMILION, "-")):
        runs, label = data[f"{split}_accuracy"], f"{split} accuracy"
        band(accuracy, runs, colour, within=SHARE, ls=style, label=label)
    accuracy.set(ylim=(0, 1.02), ylabel="accuracy", xlabel="epoch")
    for axes in panels.flat:
        axes.set_xlim(0, epochs[-1])
        tidy(axes)
    letters(panels.flat)
    legend_below(figure, [share, accuracy], columns=6)
    return figure


def captions(result: Result) -> dict[str, str]:
    """What the figure shows."""
    config = result.config
    text = (
        f"Target linearity as a network trains on {named(config.dataset)}: (a) the surrogate "
        "‖YᵀHK‖²/k of each hidden layer, with features H, the next kernel K and k centred columns "
        "Y of one-hot labels; (b) target linearity of H on training samples; (c) what it has "
        f"gained; (d) accuracy. {config.depth} layers of {config.width}, "
        f"{ACTIVATIONS.get(config.activation, config.activation)}, {OPTIMISERS[config.optimizer]} "
        f"at {config.learning_rate:g}; {over_seeds(config.seeds)}, of logarithms in (a)."
    )
    return {"figure": text}


def _by_layer(axes: Axes, runs: xr.DataArray, **options: Any) -> None:
    for place, of_layer in enumerate(runs.transpose("layer", ...)):
        label = f"layer {of_layer['layer'].item()}"
        band(axes, of_layer, label=label, **layer_style(place), **options)


def _floor(axes: Axes, floor: float) -> None:
    """The target linearity of noise: a line, or a note where it is far below all curves."""
    low, high = axes.get_ylim()
    if floor > low - NEAR * (high - low):
        axes.axhline(floor, color="0.4", ls=":", lw=0.8, label="noise floor")
    else:
        note = f"▼ noise floor {floor:.3f}"
        axes.text(0.98, 0.03, note, transform=axes.transAxes, ha="right", fontsize=7, color="0.3")
