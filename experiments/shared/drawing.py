"""What pictures share: colours, curves and points with their spread over seeds, legends."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from .statistics import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure, FigureBase

# Okabe and Ito's colours, told apart by the colour-blind, too.
BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
TITLE = 9  # points
ANY = -math.inf, math.inf
SHARE = 0.0, 1.0
"""What accuracies, errors and target linearity may be."""
LAYERS = (ORANGE, GREEN, BLUE, PURPLE)
"""Colours of the hidden layers, from input to output."""


def band(
    axes: Axes,
    runs: xr.DataArray,
    color: Any,
    *,
    log: bool = False,
    deviations: float = 1.0,
    within: tuple[float, float] = ANY,
    **line: Any,
) -> None:
    """A curve of means over seeds in a band of standard deviations.

    Args:
        axes: Where to draw.
        runs: Values (seed, x); x is any dimension with a coordinate.
        color: Of both.
        log: Draw the geometric mean and deviation on a logarithmic scale.
        deviations: From the mean to either edge of the band.
        within: What values are possible; edges of the band end there.
        line: Further properties of the curve.
    """
    (x,) = set(runs.dims) - {"seed"}
    mean, deviation = spread(xr.ufuncs.log(runs) if log else runs)
    low, high = mean - deviations * deviation, mean + deviations * deviation
    if log:
        mean, low, high = (xr.ufuncs.exp(edge) for edge in (mean, low, high))
        axes.set_yscale("log")
    axes.plot(runs[x], mean, color=color, **{"lw": 1.3, **line})
    low, high = (edge.clip(*within) for edge in (low, high))
    axes.fill_between(runs[x], low, high, color=color, alpha=0.2, lw=0)


def points(
    axes: Axes,
    runs: xr.DataArray,
    color: Any,
    *,
    deviations: float = 1.0,
    within: tuple[float, float] = ANY,
    shift: float = 0.0,
    **style: Any,
) -> None:
    """Means over seeds with bars of standard deviations.

    Args:
        axes: Where to draw.
        runs: Values (seed, x); x is any dimension with a coordinate.
        color: Of all.
        deviations: From the mean to either end of a bar.
        within: What values are possible; bars end there.
        shift: What is added to x, so that points do not hide each other.
        style: Further properties of the points.
    """
    (x,) = set(runs.dims) - {"seed"}
    mean, deviation = spread(runs)
    ends = [(mean + side * deviations * deviation).clip(*within) for side in (-1, 1)]
    axes.errorbar(runs[x] + shift, mean, [abs(end - mean) for end in ends], color=color, **style)


def entitle(figure: Figure, text: str) -> None:
    """A title in the place of the one before, on as many lines as the width of the figure needs."""
    letters = int(_letters(figure) * 7.5 / TITLE)
    figure.suptitle("\n".join(_evenly(line, letters) for line in text.splitlines()), fontsize=TITLE)


def _evenly(line: str, letters: int) -> str:
    """Text wrapped to as few lines as it needs, of similar lengths."""
    lines = len(textwrap.wrap(line, letters))
    while letters > 1 and len(textwrap.wrap(line, letters - 1)) == lines:
        letters -= 1
    return textwrap.fill(line, letters)


def _letters(figure: Any) -> float:
    """How many letters of 7.5 points fit side by side; one is about 0.57 times as wide as high."""
    return figure.bbox.width / figure.dpi * 72 / (0.57 * 7.5)


def tidy(axes: Axes, *, title: str | None = None) -> None:
    """Small labels, plain ones on short logarithmic scales, and a light grid."""
    axes.grid(alpha=0.25, lw=0.5)
    axes.tick_params(labelsize=7, which="both")
    for axis, ticks in ((axes.xaxis, 3), (axes.yaxis, 6)):
        axis.label.set_fontsize(8)
        if axis.get_scale() == "log":
            _label_decades(axis, ticks)
    if title is not None:
        axes.set_title(title, fontsize=8)


def _label_decades(axis: Axis, ticks: int) -> None:
    """Up to ``ticks`` plain numbers on less than a decade, 1, 2 and 5 on two, powers on more."""
    from matplotlib.ticker import (
        LogFormatterSciNotation,
        LogLocator,
        MaxNLocator,
        NullFormatter,
        NullLocator,
    )

    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if 0 < low < high < math.inf else math.inf
    if decades > 2:
        axis.set_major_locator(LogLocator())
        axis.set_major_formatter(LogFormatterSciNotation())
        axis.set_minor_locator(LogLocator(subs="auto"))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if decades > 1 else MaxNLocator(ticks))
        axis.set_major_formatter("{x:.4g}")
        axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def say_cut(axes: Axes, *curves: xr.DataArray) -> None:
    """Say where the lower end of the axis cuts off something of the curves."""
    low = axes.get_ylim()[0]
    if any(bool((curve < low).any()) for curve in curves):
        style: Any = {"transform": axes.transAxes, "fontsize": 6, "ha": "right", "color": "0.3"}
        axes.text(0.98, 0.02, f"▼ cut at {low:g}".replace("-", "−"), **style)


def legend_below(
    figure: FigureBase,
    panels: Iterable[Axes],
    *,
    lines: Mapping[str, str] | None = None,
    columns: int = 8,
) -> None:
    """One legend of what is labelled in ``panels``, and of line styles by name, below all.

    Args:
        figure: The figure.
        panels: Axes with labelled curves.
        lines: By their names, further line styles.
        columns: The most columns; there are fewer where the figure is too narrow.
    """
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
        ncols=_columns(list(shown), columns, _letters(figure)),
        frameon=False,
        fontsize=7.5,
        handlelength=1.8,
        columnspacing=1.3,
    )


def _columns(labels: list[str], most: int, letters: float) -> int:
    """As many columns as fit; a handle is as wide as seven letters."""
    for columns in range(min(len(labels), most), 1, -1):
        parts = np.array_split(np.array([len(label) + 7 for label in labels]), columns)
        if sum(part.max() for part in parts) <= letters:
            return columns
    return 1
