"""What pictures of training share: curves over epochs with their spread over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

# Okabe and Ito's colours, told apart by the colour-blind, too.
BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
LAYERS = (ORANGE, GREEN, BLUE, PURPLE)
"""Colours of the hidden layers, from input to output."""


def spread(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation over seeds, the first axis; the deviation of a single seed is 0."""
    return runs.mean(0), runs.std(0, ddof=min(1, len(runs) - 1))


def spelled(values: np.ndarray, digits: int = 3) -> str:
    """Mean ± deviation of the seeds of ``values`` (seeds,), as a person reads them."""
    mean, deviation = spread(np.asarray(values, float))
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def about(values: np.ndarray) -> str:
    """Mean ± deviation of the seeds of ``values`` (seeds,), to the digits that count."""
    mean, deviation = spread(np.asarray(values, float))
    return f"{mean:.3g} ± {deviation:.1g}"


def over_seeds(seeds: int) -> str:
    """What a title says of the curves."""
    return "one seed" if seeds == 1 else f"mean ± deviation of {seeds} seeds"


def band(
    axes: Axes,
    epochs: np.ndarray,
    runs: np.ndarray,
    colour: str,
    *,
    style: str = "-",
    label: str | None = None,
) -> None:
    """Mean and deviation over seeds of ``runs`` (seeds, epochs)."""
    mean, deviation = spread(runs)
    axes.plot(epochs, mean, style, color=colour, label=label, lw=1.3)
    axes.fill_between(epochs, mean - deviation, mean + deviation, color=colour, alpha=0.2, lw=0)


def tidy(axes: Axes, *, title: str | None = None) -> None:
    """Small labels and a light grid."""
    axes.grid(alpha=0.25, lw=0.5)
    axes.tick_params(labelsize=7, which="both")
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)
    if title is not None:
        axes.set_title(title, fontsize=8)


def legend_below(
    figure: FigureBase,
    panels: Iterable[Axes],
    *,
    lines: Mapping[str, str] | None = None,
    columns: int = 8,
) -> None:
    """One legend of what is labelled in ``panels``, and of line styles by name, below all."""
    from matplotlib.lines import Line2D

    shown: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    for label, style in (lines or {}).items():
        shown[label] = Line2D([], [], color="0.3", ls=style, lw=1.3)
    figure.legend(
        list(shown.values()),
        list(shown),
        loc="outside lower center",
        ncols=min(len(shown), columns),
        frameon=False,
        fontsize=7.5,
        handlelength=1.8,
        columnspacing=1.3,
    )
