"""The picture of neural collapse: NC1 to NC4 and target linearity, by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.curves import BLUE, GREEN, LAYERS, PURPLE, VERMILION, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.framework import Result


def plot(result: Result) -> Figure:
    """NC1, 1 − TL with the link, and both against each other; NC2; NC3 and NC4; accuracies."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    arrays, config = result.arrays, result.config
    figure = Figure(figsize=(7.6, 5.0), layout="constrained")
    (nc1, missing, both), (nc2, nc3, accuracy) = figure.subplots(2, 3)
    for layer in range(config.depth):
        colour, name = LAYERS[layer % len(LAYERS)], f"layer {layer + 1}"
        _curve(nc1, arrays, arrays["nc1"][..., layer], colour, name)
        _curve(missing, arrays, 1 - arrays["target_linearity"][..., layer], colour, name)
        link = np.exp(np.log(1 - arrays["link"][..., layer]).mean(0))
        missing.plot(arrays["epochs"], link, ":", color="k", lw=1)
        both.plot(
            arrays["nc1"][..., layer].ravel(),
            1 - arrays["target_linearity"][..., layer].ravel(),
            ".",
            color=colour,
            ms=2.5,
            label=name,
        )
    missing.plot([], [], ":", color="k", lw=1, label="1 − tr(Σ$_T^{-1}$Σ$_B$)/(C−1)")
    both.set(xscale="log", yscale="log", xlabel="NC1", ylabel="1 − target linearity")
    for name, label, colour in (
        ("etf_distance", "distance to the ETF", BLUE),
        ("equinorm", "spread of norms", VERMILION),
        ("equiangularity", "angles", GREEN),
    ):
        _curve(nc2, arrays, arrays[name][..., -1], colour, label)
    _curve(nc3, arrays, arrays["nc3"], BLUE, "NC3")
    _curve(nc3, arrays, arrays["offset"], VERMILION, "offset of the classifier")
    for split, colour in (("train", GREEN), ("test", PURPLE)):
        # Nothing on a logarithmic scale is 0: a share below one sample is drawn at the edge.
        _curve(nc3, arrays, np.maximum(arrays[f"{split}_nc4"], 1e-5), colour, f"NC4, {split}")
        _curve(accuracy, arrays, arrays[f"{split}_accuracy"], colour, split, log=False)
    for axes, title in (
        (nc1, "NC1: tr(Σ$_W$Σ$_B^+$)/C"),
        (missing, "1 − target linearity"),
        (both, "all epochs and seeds"),
        (nc2, "NC2, last hidden layer"),
        (nc3, "NC3 and NC4, last hidden layer"),
        (accuracy, "accuracy"),
    ):
        tidy(axes, title=title)
        axes.legend(
            frameon=False, fontsize=6, loc="upper right" if axes in (missing, nc2) else "best"
        )
        if axes is not both:
            axes.set_xlabel("epoch", fontsize=8)
    nc3.set_ylim(bottom=1e-5)
    for axis in (both.xaxis, both.yaxis):
        axis.set_minor_formatter(NullFormatter())
    for axes in (missing, nc2):  # room for the legend
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.5)
    figure.suptitle(
        f"{config.dataset}, {config.depth}×{config.width} {config.activation.upper()}, SGD "
        f"{config.learning_rate:g}, weight decay {config.weight_decay:g}, mean ± deviation of "
        f"{config.seeds} seeds; grey: terminal phase",
        fontsize=8,
    )
    return figure


def _curve(
    axes: Axes,
    arrays: dict[str, np.ndarray],
    runs: np.ndarray,
    colour: str,
    label: str,
    *,
    log: bool = True,
) -> None:
    """Mean and deviation over seeds of runs (seeds, epochs), geometric if ``log``."""
    values = np.log(runs) if log else runs
    mean, deviation = values.mean(0), values.std(0, ddof=min(1, len(runs) - 1))
    low, high = mean - deviation, mean + deviation
    if log:
        mean, low, high = np.exp(mean), np.exp(low), np.exp(high)
        axes.set_yscale("log")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, arrays["epochs"][-1])
    axes.plot(arrays["epochs"], mean, color=colour, label=label, lw=1.3)
    axes.fill_between(arrays["epochs"], low, high, color=colour, alpha=0.2, lw=0)
    reached = (arrays["train_accuracy"] >= 0.999).all(0)
    if reached.any() and not axes.patches:
        start = arrays["epochs"][reached.argmax()]
        axes.axvspan(start, arrays["epochs"][-1], color="0.93", lw=0, zorder=-1)
