"""What pictures share: the style sheet, curves and points with their spread, letters, legends.

Every band and every bar is one standard deviation over seeds to either side of the mean.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from .statistics import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure, FigureBase

WIDTH = 5.5  # inches: the width of a paper's text

FORMATS = ("png", "pdf", "svg")

# Okabe and Ito's colours, told apart by the colour-blind, too.
BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
ANY = -math.inf, math.inf
SHARE = 0.0, 1.0
"""What accuracies, errors and target linearity may be."""
LAYERS = (ORANGE, GREEN, BLUE, PURPLE)
"""Colours of the hidden layers, from input to output."""
STYLES = ("-", "--", "-.", ":")
UNDATED: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


def styled() -> AbstractContextManager[None]:
    """The style sheet, while a figure is made and while it is written."""
    import matplotlib.style

    return matplotlib.style.context(Path(__file__).with_name("paper.mplstyle"))


def sheet(height: float) -> Figure:
    """A figure as wide as a paper's text; ``height`` in inches."""
    from matplotlib.figure import Figure

    return Figure((WIDTH, height), layout="constrained")


def write(draw: Callable[[], Figure], file: IO[bytes], kind: str) -> None:
    """Draw a figure in the style and write it as one of ``FORMATS``, without a date."""
    with styled():
        draw().savefig(file, format=kind, metadata=UNDATED.get(kind))


def layer_style(place: int) -> dict[str, Any]:
    """Colour and line style of a hidden layer, the same in every figure; ``place`` is from 0."""
    return {"color": LAYERS[place % len(LAYERS)], "ls": STYLES[place % len(STYLES)]}


def letters(panels: Iterable[Axes]) -> None:
    """Put (a), (b), … before the titles of the panels, at their left."""
    panels = list(panels)
    for axes, title in zip(panels, lettered(a.get_title() for a in panels), strict=True):
        axes.set_title("")
        axes.set_title(title, loc="left")


def lettered(names: Iterable[str]) -> list[str]:
    """Names after the letters of their panels.

    Example:
        >>> lettered(["loss", ""])
        ['(a) loss', '(b)']
    """
    return [f"({chr(97 + place)}) {name}".rstrip() for place, name in enumerate(names)]


def band(
    axes: Axes,
    runs: xr.DataArray,
    color: Any,
    *,
    log: bool = False,
    within: tuple[float, float] = ANY,
    **line: Any,
) -> None:
    """A curve of means over seeds in a band of one standard deviation to either side.

    Args:
        axes: Where to draw.
        runs: Values (seed, x); x is any dimension with a coordinate.
        color: Of both.
        log: Draw the geometric mean and deviation on a logarithmic scale.
        within: What values are possible; edges of the band end there.
        line: Further properties of the curve.
    """
    (x,) = set(runs.dims) - {"seed"}
    mean, deviation = spread(xr.ufuncs.log(runs) if log else runs)
    low, high = mean - deviation, mean + deviation
    if log:
        mean, low, high = (xr.ufuncs.exp(edge) for edge in (mean, low, high))
        axes.set_yscale("log")
    axes.plot(runs[x], mean, color=color, **line)
    low, high = (edge.clip(*within) for edge in (low, high))
    axes.fill_between(runs[x], low, high, color=color, alpha=0.2, lw=0)


def points(
    axes: Axes,
    runs: xr.DataArray,
    color: Any,
    *,
    within: tuple[float, float] = ANY,
    shift: float = 0.0,
    **style: Any,
) -> None:
    """Means over seeds with bars of one standard deviation to either side.

    Args:
        axes: Where to draw.
        runs: Values (seed, x); x is any dimension with a coordinate.
        color: Of all.
        within: What values are possible; bars end there.
        shift: What is added to x, so that points do not hide each other.
        style: Further properties of the points.
    """
    (x,) = set(runs.dims) - {"seed"}
    mean, deviation = spread(runs)
    ends = [(mean + side * deviation).clip(*within) for side in (-1, 1)]
    axes.errorbar(runs[x] + shift, mean, [abs(end - mean) for end in ends], color=color, **style)


def entitle(figure: Figure, text: str) -> None:
    """A title in the place of the one before, on as many lines as the width of the figure needs."""
    wide = int(0.85 * _fitting(figure))
    figure.suptitle("\n".join(_evenly(line, wide) for line in text.splitlines()))


def _evenly(line: str, letters: int) -> str:
    """Text wrapped to as few lines as it needs, of similar lengths."""
    lines = len(textwrap.wrap(line, letters))
    while letters > 1 and len(textwrap.wrap(line, letters - 1)) == lines:
        letters -= 1
    return textwrap.fill(line, letters)


def _fitting(figure: Any) -> float:
    """How many letters of 7 points fit side by side; one is about 0.55 times as wide as high."""
    return figure.bbox.width / figure.dpi * 72 / (0.55 * 7)


def tidy(axes: Axes, *, title: str | None = None) -> None:
    """Plain labels on short logarithmic scales; with a title if one is given."""
    for axis, ticks in ((axes.xaxis, 3), (axes.yaxis, 6)):
        if axis.get_scale() == "log":
            _label_decades(axis, ticks)
    if title is not None:
        axes.set_title(title)


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
    if not low > 0:  # nothing to show, as where all runs diverged: no tick could be set
        axis.axes.set(**{f"{axis.axis_name}lim": (1, 10)})  # type: ignore[attr-defined]
    decades = math.log10(high / low) if 0 < low < high < math.inf else math.inf
    if decades > 2:
        axis.set_major_locator(LogLocator(numticks=ticks + 2))
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
        style: Any = {"transform": axes.transAxes, "fontsize": 7, "ha": "right", "color": "0.3"}
        style["bbox"] = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 0.5}
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
        shown[label] = Line2D([], [], color="0.3", ls=style)
    figure.legend(
        list(shown.values()),
        list(shown),
        loc="outside lower center",
        ncols=_columns(list(shown), columns, _fitting(figure)),
    )


def _columns(labels: list[str], most: int, letters: float) -> int:
    """As many columns as fit, in rows as even as can be; a handle is as wide as eight letters."""
    for columns in range(min(len(labels), most), 1, -1):
        parts = np.array_split(np.array([len(label) + 8 for label in labels]), columns)
        if sum(part.max() for part in parts) <= letters:
            rows = -(-len(labels) // columns)
            return -(-len(labels) // rows)
    return 1
