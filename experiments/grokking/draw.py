"""The picture of figure 13: accuracies, target linearity and its gap; a column a weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.shared.drawing import BLUE, LAYERS, VERMILION, array_band, legend_below, tidy
from experiments.shared.text import over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.shared.results import Result


def plot(result: Result) -> Figure:
    """Rows: accuracies; target linearity of each layer; its gap with the test error."""
    from matplotlib.figure import Figure

    config = result.config
    columns = len(config.weight_decays)
    figure = Figure(figsize=(1.6 * max(columns, 2) + 0.9, 5.4), layout="constrained")
    panels = figure.subplots(3, columns, sharex=True, sharey="row", squeeze=False)
    errors = [_column(column, result, i) for i, column in enumerate(panels.T)]
    for axes in errors[:-1]:
        axes.set_yticklabels([])
    errors[-1].set_ylabel("test error", fontsize=8, color=VERMILION)
    names = "accuracy", "target linearity", f"gap, layer {config.depth} − {config.depth - 1}"
    for axes, name in zip(panels[:, 0], names, strict=True):
        axes.set_ylabel(name, fontsize=8)
    panels[2, 0].yaxis.label.set_color(BLUE)
    lines = {"train target linearity": "-", "its held-out median": ":"}
    legend_below(figure, panels[:2, 0], lines=lines, columns=4 if columns < 4 else 8)
    figure.suptitle(
        f"{config.operation} mod {config.p}, {config.depth}×{config.width} ReLU, AdamW, "
        + over_seeds(config.seeds),
        fontsize=9,
    )
    return figure


def _column(panels: tuple[Axes, Axes, Axes], result: Result, i: int) -> Axes:
    """One weight decay; returns the axis of the test error."""
    arrays, config = result.arrays, result.config
    accuracy, linearity, gap = panels
    epochs, curves = arrays["epochs"], arrays["target_linearity"][i]
    for name, colour, style in (("train", "0.35", "--"), ("test", VERMILION, "-")):
        array_band(
            accuracy,
            epochs,
            arrays[f"{name}_accuracy"][i],
            colour,
            style=style,
            label=f"{name} accuracy",
        )
    for layer in range(config.depth):
        colour = LAYERS[layer % len(LAYERS)]
        array_band(linearity, epochs, curves[..., layer], colour, label=f"layer {layer + 1}")
        held_out = np.median(arrays["heldout"][i, ..., layer], axis=0)  # single runs run away
        linearity.plot(epochs, held_out, ":", color=colour, lw=1.3)
    array_band(gap, epochs, curves[..., -1] - curves[..., -2], BLUE)
    error = gap.twinx()
    array_band(error, epochs, 1 - arrays["test_accuracy"][i], VERMILION, style="--")
    error.set_ylim(-0.02, 1.05)
    error.tick_params(labelsize=7)
    for axes in panels:
        tidy(axes)
        axes.set_xlim(epochs[0], epochs[-1])
    accuracy.set_ylim(-0.02, 1.05)
    highest = arrays["target_linearity"].mean(1).max()
    linearity.set_ylim(-0.3, min(1.05, highest + 0.15))  # below, fits are worse than the mean
    tidy(accuracy, title=f"weight decay {config.weight_decays[i]:g}")
    gap.set_xlabel("epoch", fontsize=8)
    return error
