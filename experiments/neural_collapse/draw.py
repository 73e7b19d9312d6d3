"""The picture of neural collapse: NC1 to NC4 and target linearity, by epoch and loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.neural_collapse import TERMINAL
from experiments.neural_collapse.claims import by_loss
from experiments.shared.drawing import BLUE, GREEN, LAYERS, PURPLE, VERMILION, tidy
from experiments.shared.text import over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.shared.results import Result

ACTIVATION = {"relu": "ReLU", "gelu": "GELU"}

LEAST = 1e-5
"""Where shares of samples that are 0 are drawn."""


def plot(result: Result) -> Figure:
    """A row for each loss: NC1 and 1 − TL with the link, by layer; NC2, NC3 and NC4 of the last."""
    from matplotlib.figure import Figure

    config, epochs = result.config, result.arrays["epochs"]
    losses = by_loss(result)
    figure = Figure(figsize=(9, 0.7 + 2.1 * len(losses)), layout="constrained")
    panels = figure.subplots(len(losses), 4, sharex=True, sharey="col", squeeze=False)
    for row, (loss, arrays) in zip(panels, losses.items(), strict=True):
        nc1, missing, nc2, nc3 = row
        for layer in range(config.depth):
            colour, name = LAYERS[layer % len(LAYERS)], f"layer {layer + 1}"
            _curve(nc1, epochs, arrays["nc1"][..., layer], colour, name)
            _curve(missing, epochs, 1 - arrays["target_linearity"][..., layer], colour)
            link = np.exp(np.log(1 - arrays["link"][..., layer]).mean(0))
            missing.plot(epochs, link, ":", color="k", lw=1)
        missing.plot([], [], ":", color="k", lw=1, label="1 − tr(Σ$_T^{-1}$Σ$_B$)/(C−1)")
        for name, label, colour in (
            ("etf_distance", "distance to the ETF", BLUE),
            ("equinorm", "spread of norms", VERMILION),
            ("equiangularity", "angles", GREEN),
        ):
            _curve(nc2, epochs, arrays[name][..., -1], colour, label)
        _curve(nc3, epochs, arrays["nc3"], BLUE, "NC3")
        _curve(nc3, epochs, arrays["offset"], VERMILION, "classifier's offset")
        for split, colour in (("train", GREEN), ("test", PURPLE)):
            share = arrays[f"{split}_nc4"].mean(0, keepdims=True)
            _curve(nc3, epochs, np.maximum(share, LEAST), colour, f"NC4, {split}")
        nc1.set_ylabel(loss, fontsize=9)
        reached = (arrays["train_accuracy"] >= TERMINAL).all(0)
        for axes in row:
            tidy(axes)
            if reached.any():
                axes.axvspan(epochs[reached.argmax()], epochs[-1], color="0.93", lw=0, zorder=-1)
    _frame(panels, epochs)
    rate = f"{config.learning_rate:g}{' → 0' if config.decay else ''}"
    figure.suptitle(
        f"{config.dataset}, {config.depth}×{config.width} {ACTIVATION[config.activation]}, SGD "
        f"{rate}, weight decay {config.weight_decay:g}, {over_seeds(config.seeds)}; grey: terminal "
        "phase",
        fontsize=9,
    )
    return figure


def _frame(panels: np.ndarray, epochs: np.ndarray) -> None:
    """Titles, legends with room for them, and scales."""
    from matplotlib.ticker import LogLocator, NullFormatter

    titles = (
        "NC1: tr(Σ$_W$Σ$_B^+$)/C",
        "1 − target linearity",
        "NC2, last hidden layer",
        "NC3 and NC4, last hidden layer",
    )
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, fontsize=8)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, epochs[-1])
    panels[0, 3].set_ylim(bottom=LEAST)
    panels[0, 2].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0, 2].yaxis.set_major_formatter("{x:g}")
    panels[0, 2].yaxis.set_minor_formatter(NullFormatter())
    for axes in panels[-1]:
        axes.set_xlabel("epoch", fontsize=8)
        axes.legend(frameon=False, fontsize=6, loc="lower left")


def _curve(
    axes: Axes, epochs: np.ndarray, runs: np.ndarray, colour: str, label: str | None = None
) -> None:
    """Geometric mean and deviation over seeds of runs (seeds, epochs), on a logarithmic scale."""
    values = np.log(runs)
    mean, deviation = values.mean(0), values.std(0, ddof=min(1, len(runs) - 1))
    axes.set_yscale("log")
    axes.plot(epochs, np.exp(mean), color=colour, label=label, lw=1.3)
    low, high = np.exp(mean - deviation), np.exp(mean + deviation)
    axes.fill_between(epochs, low, high, color=colour, alpha=0.2, lw=0)
