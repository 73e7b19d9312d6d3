"""The picture of figure 8: the three norms by step, and what becomes of them with the width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.shared.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    array_band,
    legend_below,
    tidy,
)
from experiments.shared.statistics import spread
from experiments.shared.text import over_seeds
from experiments.staircase.claims import final_losses
from experiments.staircase.published import PUBLISHED, RERUN, published_setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.shared.results import Result

NORMS = {  # what is measured, its colour, line and name
    "target_fit": (BLUE, "-", "‖y − ŷ$_{OLS}$‖"),
    "fit_output": (VERMILION, "--", "‖ŷ$_{OLS}$ − ŷ‖"),
    "target_output": (GREEN, "-.", "‖y − ŷ‖"),
    "noise_norm": ("0.45", ":", "‖y − ŷ$_{OLS}$‖ if y were noise"),
}


def plot(result: Result) -> Figure:
    """Above a panel of norms by step for each width; below losses, fits and features by width."""
    from matplotlib.figure import Figure

    config = result.config
    columns = len(config.widths)
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    above, below = halves
    panels = above.subplots(1, columns, sharex=True, sharey=True)
    for i, axes in enumerate(panels):
        _norms(axes, result, i)
    panels[0].set_ylabel("norm", fontsize=8)
    legend_below(above, panels[:1])
    losses, fits, change = below.subplots(1, 3)
    _losses(losses, result)
    _fits(fits, result)
    _change(change, result)
    figure.suptitle(
        f"staircase, {config.points} points, gradient descent {config.learning_rate:g}, "
        + over_seeds(config.seeds),
        fontsize=9,
    )
    return figure


def _norms(axes: Axes, result: Result, i: int) -> None:
    arrays, width = result.arrays, result.config.widths[i]
    for name, (colour, style, label) in NORMS.items():
        array_band(axes, arrays["steps"], arrays[name][i], colour, style=style, label=label)
    axes.set_xlim(arrays["steps"][0], arrays["steps"][-1])
    axes.set_ylim(0, None)
    axes.set_xlabel("step")
    tidy(axes, title=f"width {width}")
    if width >= result.config.points:
        axes.set_facecolor("0.93")
        _note(axes, "width ≥ n:\nany target is fitted")


def _note(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.25, text, transform=axes.transAxes, fontsize=7, ha="center", color="0.3")


def _losses(axes: Axes, result: Result) -> None:
    config = result.config
    mean, deviation = spread(final_losses(result).T)
    axes.errorbar(config.widths, mean, deviation, fmt="o", color=GREEN, ms=4, label="these seeds")
    if published_setting(config):
        for known, marker, colour, label in (
            (PUBLISHED, "x", "0.1", "published"),
            (RERUN, "+", PURPLE, "paper's code, rerun"),
        ):
            widths = [width for width in config.widths if width in known]
            values = [known[width] for width in widths]
            axes.plot(widths, values, marker, color=colour, ms=6, label=label)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.5 * (high - low))  # room for the legend
        axes.legend(frameon=False, fontsize=7, loc="upper left")
    _by_width(axes, config.widths, "final loss")


def _fits(axes: Axes, result: Result) -> None:
    """Norms relative to the target's, before and after training, against the width."""
    arrays, config = result.arrays, result.config
    for name, size, colour, label in (
        ("target_fit", "target_norm", BLUE, "train points"),
        ("new_target_fit", "new_target_norm", ORANGE, "new points"),
        ("noise_norm", "target_norm", "0.45", "noise"),
    ):
        relative = arrays[name] / arrays[size][:, None]
        for at, style in ((0, ":"), (-1, "-")):
            mean, deviation = spread(relative[..., at].T)
            axes.errorbar(
                config.widths,
                mean,
                deviation,
                fmt=f"o{style}",
                color=colour,
                ms=3,
                lw=1.2,
                label=label if at else None,
                mfc=colour if at else "white",
            )
    axes.set_yscale("log")
    axes.axvspan(config.points, 2 * config.widths[-1], color="0.93", zorder=0)
    axes.plot([], [], "o:", color="0.3", ms=3, mfc="white", lw=1.2, label="before training")
    axes.legend(frameon=False, fontsize=6.5)
    _by_width(axes, config.widths, "‖y − ŷ$_{OLS}$‖ / ‖y‖")


def _change(axes: Axes, result: Result) -> None:
    mean, deviation = spread(result.arrays["feature_change"][..., -1].T)
    axes.errorbar(result.config.widths, mean, deviation, fmt="o-", color=BLUE, ms=4, lw=1.2)
    axes.set_ylim(0, None)
    _by_width(axes, result.config.widths, "‖H − H$_0$‖ / ‖H$_0$‖")


def _by_width(axes: Axes, widths: tuple[int, ...], name: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.set_xlim(widths[0] / 1.5, widths[-1] * 1.5)
    axes.set(xlabel="width", ylabel=name)
    tidy(axes)
    axes.xaxis.minorticks_off()
