"""The pictures of figure 12: accuracy and target linearity by epoch, and by noise at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING

import numpy as np

from experiments.shared.drawing import LAYERS, VERMILION, array_band, legend_below, tidy
from experiments.shared.statistics import spread
from experiments.shared.text import over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.shared.results import Result

LOWEST = -0.65  # held-out values below are cut: far worse than the mean of the labels


def plot(result: Result) -> Figure:
    """By epoch, at the paper's learning rate: accuracies above, target linearity below."""
    return _by_epoch(result, 0)


def extras(result: Result) -> dict[str, Callable[[IO[bytes]], None]]:
    """The same at each further learning rate, and the ends of all runs by noise level."""

    def drawn(figure: Callable[..., Figure], *arguments: int) -> Callable[[IO[bytes]], None]:
        return lambda file: figure(result, *arguments).savefig(file, format="png", dpi=200)

    further = list(enumerate(result.config.learning_rates))[1:]
    return {
        "ends.png": drawn(_ends),
        **{f"rate_{rate:g}.png": drawn(_by_epoch, i) for i, rate in further},
    }


def _title(result: Result) -> str:
    config = result.config
    return (
        f"{config.dataset}, {config.depth}×{config.width} GELU, momentum {config.momentum:g}, "
        + ("rates decaying to 0, " if config.decay else "")
        + over_seeds(config.seeds)
    )


def _by_epoch(result: Result, rate: int) -> Figure:
    from matplotlib.figure import Figure

    arrays, config = result.arrays, result.config
    columns = len(config.noises)
    figure = Figure(figsize=(1.4 * max(columns, 3) + 0.6, 3.9), layout="constrained")
    panels = figure.subplots(2, columns, sharex=True, sharey="row", squeeze=False)
    for j, (accuracy, linearity) in enumerate(panels.T):
        for name, colour, style in (("train", "0.35", "--"), ("test", VERMILION, "-")):
            values = arrays[f"{name}_accuracy"][rate, j]
            array_band(
                accuracy, arrays["epochs"], values, colour, style=style, label=f"{name} accuracy"
            )
        for layer in range(config.depth):
            colour = LAYERS[layer % len(LAYERS)]
            for name, style in (("target_linearity", "-"), ("heldout", ":")):
                values = arrays[name][rate, j, ..., layer]
                label = f"layer {layer + 1}" if style == "-" else None
                array_band(linearity, arrays["epochs"], values, colour, style=style, label=label)
        _floors(linearity, result)
        accuracy.set_xlim(arrays["epochs"][0], arrays["epochs"][-1])
        tidy(accuracy, title=f"noise {config.noises[j]:g}")
        linearity.set_xlabel("epoch")
        tidy(linearity)
    panels[0, 0].set_ylim(-0.02, 1.05)
    panels[1, 0].set_ylim(LOWEST, 1.05)
    for axes, name in zip(panels[:, 0], ("accuracy", "target linearity"), strict=True):
        axes.set_ylabel(name, fontsize=8)
    legend_below(figure, panels[:, 0], lines={"held out": ":"}, columns=4 if columns < 5 else 8)
    figure.suptitle(f"{_title(result)}\nlearning rate {config.learning_rates[rate]:g}", fontsize=9)
    return figure


def _ends(result: Result) -> Figure:
    """After training, by noise level; a column a learning rate."""
    from matplotlib.figure import Figure

    config = result.config
    columns = len(config.learning_rates)
    figure = Figure(figsize=(2.6 * max(columns, 2) + 0.6, 4.4), layout="constrained")
    panels = figure.subplots(2, columns, sharex=True, sharey="row", squeeze=False)
    for i, column in enumerate(panels.T):
        _ends_of_rate(column, result, i)
    for axes, name in zip(panels[:, 0], ("accuracy", "target linearity"), strict=True):
        axes.set_ylabel(name, fontsize=8)
    legend_below(figure, panels[:, 0], lines={"held out": ":"}, columns=4)
    figure.suptitle(f"{_title(result)}\nafter {config.epochs} epochs", fontsize=9)
    return figure


def _ends_of_rate(panels: tuple[Axes, Axes], result: Result, i: int) -> None:
    arrays, config = result.arrays, result.config
    accuracy, linearity = panels
    for name, colour, style in (("train", "0.35", "o--"), ("test", VERMILION, "o-")):
        values = arrays[f"{name}_accuracy"][i, ..., -1]
        _points(accuracy, config.noises, values, colour, style, f"{name} accuracy")
    for layer in range(config.depth):
        colour = LAYERS[layer % len(LAYERS)]
        for name, style in (("target_linearity", "o-"), ("heldout", "s:")):
            label = f"layer {layer + 1}" if name == "target_linearity" else None
            _points(linearity, config.noises, arrays[name][i, ..., -1, layer], colour, style, label)
    _floors(linearity, result)
    linearity.axhline(0, color="0.8", lw=0.8, zorder=0)
    accuracy.set_ylim(-0.02, 1.05)
    linearity.set_xlabel("share of random labels")
    tidy(accuracy, title=f"learning rate {config.learning_rates[i]:g}")
    tidy(linearity)


def _floors(axes: Axes, result: Result) -> None:
    """What a fit of noise has on train samples, p/(n − 1), and held out, −p/(n − p − 1)."""
    floor = float(result.arrays["noise_floor"])
    axes.axhline(floor, color="0.5", lw=0.8, label="of noise")
    if floor < 1:
        axes.axhline(-floor / (1 - floor), color="0.5", lw=0.8, ls=":")


def _points(
    axes: Axes, at: tuple[float, ...], runs: np.ndarray, colour: str, style: str, label: str | None
) -> None:
    """Mean and deviation over seeds of runs (noise levels, seeds)."""
    mean, deviation = spread(runs.T)
    axes.errorbar(at, mean, deviation, fmt=style, color=colour, ms=3, lw=1.2, label=label)
