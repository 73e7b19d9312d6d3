"""The picture of figures 2 and 6: accuracy and loss by epoch, target linearity by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.gram_arms import paired

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.framework import Result

BEFORE = "before training"
NAMES = {
    "original": "SGD",
    "gram_only": "Gram-only SGD",
    "gram_preserving": "Gram-preserving SGD",
    BEFORE: BEFORE,
}
COLOURS = {  # told apart by the colour-blind, too
    "original": "#0072B2",
    "gram_only": "#D55E00",
    "gram_preserving": "#009E73",
    BEFORE: "0.45",
}
STYLES = {"original": "-", "gram_only": "--", "gram_preserving": ":"}
MARKERS = {"original": "o", "gram_only": "s", "gram_preserving": "^", BEFORE: "_"}


def plot(result: Result) -> Figure:
    """Test accuracy and train loss by epoch, target linearity by layer; a column is a rate."""
    from matplotlib.figure import Figure

    arrays, config = result.arrays, result.config
    columns = len(config.learning_rates)
    figure = Figure(figsize=(1.75 * max(columns, 2) + 0.6, 5.2), layout="constrained")
    panels = figure.subplots(3, columns, sharex="row", sharey="row", squeeze=False)
    for i, (accuracy, loss, linearity) in enumerate(panels.T):
        original, gram = arrays["test_accuracy"][:2, i, :, -1]
        difference = paired(gram, original).interval
        accuracy.set_title(f"learning rate {config.learning_rates[i]:g}\n{difference}", fontsize=8)
        accuracy.set_ylim(0, 1.02)
        for j, arm in enumerate(config.arms):
            _band(accuracy, arrays["epochs"], arrays["test_accuracy"][j, i], arm)
            _band(loss, arrays["epochs"], arrays["train_loss"][j, i], arm, log=True)
        _ends(linearity, result, i)
        for axes, label in ((accuracy, "epoch"), (loss, "epoch"), (linearity, "hidden layer")):
            axes.set_xlabel(label, fontsize=8)
            axes.grid(alpha=0.25, lw=0.5)
            axes.tick_params(labelsize=7, which="both")
    names = "test accuracy", "train loss", "target linearity"
    for axes, name in zip(panels[:, 0], names, strict=True):
        axes.set_ylabel(name, fontsize=9)
    _legend(figure, panels[:, 0])
    shape = f"{config.network.upper()} {config.depth}×{config.width}"
    lines = (
        f"{config.dataset}, {shape}, momentum {config.momentum:g}",
        f"mean ± 2 deviations of {config.seeds} seeds",
        "numbers: Gram-only less SGD in final test accuracy [95 %]",
    )
    title = f"{lines[0]}, {lines[1]}\n{lines[2]}" if columns > 2 else "\n".join(lines)
    figure.suptitle(title, fontsize=8)
    return figure


def _legend(figure: Figure, panels: np.ndarray) -> None:
    """Below all panels: the arms, as in the first panel, and what only the last one has."""
    handles, labels = (
        a + b
        for a, b in zip(
            panels[0].get_legend_handles_labels(),
            panels[-1].get_legend_handles_labels(),
            strict=True,
        )
    )
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels) if figure.get_figwidth() > 5 else 2,
        frameon=False,
        fontsize=8,
    )


def _ends(axes: Axes, result: Result, i: int) -> None:
    """Target linearity of each hidden layer before and after training at learning rate ``i``."""
    arrays, arms = result.arrays, result.config.arms
    layers = np.arange(1, arrays["start_target_linearity"].shape[1] + 1)
    ends = {BEFORE: arrays["start_target_linearity"]}
    ends |= {arm: arrays["target_linearity"][j, i] for j, arm in enumerate(arms)}
    for k, (name, values) in enumerate(ends.items()):
        axes.errorbar(
            layers + 0.13 * (k - len(arms) / 2),
            values.mean(0),
            2 * values.std(0, ddof=1),
            fmt=MARKERS[name],
            color=COLOURS[name],
            label=None if name in arms else NAMES[name],
            ms=4,
            lw=1,
        )
    axes.set_xticks(layers)
    axes.set_xlim(0.5, len(layers) + 0.5)


def _band(axes: Axes, epochs: np.ndarray, runs: np.ndarray, arm: str, *, log: bool = False) -> None:
    """Mean and two deviations over seeds of runs (seeds, epochs), geometric if ``log``."""
    values = np.log(runs) if log else runs
    mean, deviation = values.mean(0), values.std(0, ddof=1)
    low, high = mean - 2 * deviation, mean + 2 * deviation
    if log:
        mean, low, high = np.exp(mean), np.exp(low), np.exp(high)
        axes.set_yscale("log")
    axes.set_xlim(epochs[0], epochs[-1])
    axes.plot(epochs, mean, STYLES[arm], color=COLOURS[arm], label=NAMES[arm], lw=1.4)
    axes.fill_between(epochs, low, high, color=COLOURS[arm], alpha=0.2, lw=0)
