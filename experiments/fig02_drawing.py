"""The picture of figures 2 and 6: test error and loss by epoch, target linearity by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.gram_arms import paired

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.framework import Result

BEFORE = "before training"
LEAST = 1e-3  # test error that is drawn for less, which a logarithmic scale does not have
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
    """Test error and train loss by epoch, target linearity by layer, for each learning rate."""
    from matplotlib.figure import Figure

    arrays, config = result.arrays, result.config
    rates = len(config.learning_rates)
    across = rates > 2  # a column a rate; few rates make rows
    size = (1.75 * rates + 0.6, 5.2) if across else (7.4, 2.1 * rates + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    if across:
        panels = figure.subplots(3, rates, sharex="row", sharey="row", squeeze=False).T
    else:
        panels = figure.subplots(rates, 3, sharex="col", sharey="col", squeeze=False)
    for i, (error, loss, linearity) in enumerate(panels):
        original, gram = arrays["test_accuracy"][:2, i, :, -1]
        difference = paired(gram, original).interval
        error.set_title(f"learning rate {config.learning_rates[i]:g}\n{difference}", fontsize=8)
        for j, arm in enumerate(config.arms):
            errors = np.maximum(1 - arrays["test_accuracy"][j, i], LEAST)
            _band(error, arrays["epochs"], errors, arm)
            _band(loss, arrays["epochs"], arrays["train_loss"][j, i], arm)
        _ends(linearity, result, i)
        for axes, label in ((error, "epoch"), (loss, "epoch"), (linearity, "hidden layer")):
            axes.set_xlabel(label, fontsize=8)
            axes.grid(alpha=0.25, lw=0.5)
            axes.tick_params(labelsize=7, which="both")
    names = "test error", "train loss", "target linearity"
    for row in panels[:1] if across else panels:
        for axes, name in zip(row, names, strict=True):
            axes.set_ylabel(name, fontsize=9)
    _legend(figure, panels[0])
    figure.suptitle(
        f"{config.dataset}, {config.network.upper()} {config.depth}×{config.width}, momentum "
        f"{config.momentum:g}, mean ± 2 deviations of {config.seeds} seeds\n"
        "numbers: Gram-only less SGD in final test accuracy [95 %]",
        fontsize=8,
    )
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


def _band(axes: Axes, epochs: np.ndarray, runs: np.ndarray, arm: str) -> None:
    """Geometric mean and two deviations over seeds of runs (seeds, epochs)."""
    values = np.log(runs)
    mean, deviation = values.mean(0), values.std(0, ddof=1)
    low, high = np.exp(mean - 2 * deviation), np.exp(mean + 2 * deviation)
    axes.set_yscale("log")
    axes.set_xlim(epochs[0], epochs[-1])
    axes.plot(epochs, np.exp(mean), STYLES[arm], color=COLOURS[arm], label=NAMES[arm], lw=1.4)
    axes.fill_between(epochs, low, high, color=COLOURS[arm], alpha=0.2, lw=0)
