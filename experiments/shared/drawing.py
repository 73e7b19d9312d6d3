"""What pictures share: colours, curves and points with their spread over seeds, legends."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import xarray as xr

from experiments.shared.statistics import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

# Okabe and Ito's colours, told apart by the colour-blind, too.
BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
TITLE = 9  # points
LAYERS = (ORANGE, GREEN, BLUE, PURPLE)
"""Colours of the hidden layers, from input to output."""


def band(
    axes: Axes,
    runs: xr.DataArray,
    color: Any,
    *,
    log: bool = False,
    deviations: float = 1.0,
    **line: Any,
) -> None:
    """A curve of means over seeds in a band of standard deviations.

    Args:
        axes: Where to draw.
        runs: Values (seed, x); x is any dimension with a coordinate.
        color: Of both.
        log: Draw the geometric mean and deviation on a logarithmic scale.
        deviations: From the mean to either edge of the band.
        line: Further properties of the curve.
    """
    (x,) = set(runs.dims) - {"seed"}
    mean, deviation = spread(xr.ufuncs.log(runs) if log else runs)
    low, high = mean - deviations * deviation, mean + deviations * deviation
    if log:
        mean, low, high = (xr.ufuncs.exp(edge) for edge in (mean, low, high))
        axes.set_yscale("log")
    axes.plot(runs[x], mean, color=color, **{"lw": 1.3, **line})
    axes.fill_between(runs[x], low, high, color=color, alpha=0.2, lw=0)


def points(
    axes: Axes,
    runs: xr.DataArray,
    color: Any,
    *,
    deviations: float = 1.0,
    shift: float = 0.0,
    **style: Any,
) -> None:
    """Means over seeds with bars of standard deviations.

    Args:
        axes: Where to draw.
        runs: Values (seed, x); x is any dimension with a coordinate.
        color: Of all.
        deviations: From the mean to either end of a bar.
        shift: What is added to x, so that points do not hide each other.
        style: Further properties of the points.
    """
    (x,) = set(runs.dims) - {"seed"}
    mean, deviation = spread(runs)
    axes.errorbar(runs[x] + shift, mean, deviations * deviation, color=color, **style)


def entitle(figure: Figure, text: str) -> None:
    """A title in the place of the one before, on as many lines as the width of the figure needs."""
    # A letter is 0.55 times as wide as high. (Matplotlib wraps only after the layout.)
    letters = int(figure.get_figwidth() * 72 / (0.58 * TITLE))
    lines = [textwrap.fill(line, letters) for line in text.splitlines()]
    figure.suptitle("\n".join(lines), fontsize=TITLE)


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
