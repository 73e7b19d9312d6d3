"""The runs in small: their figures side by side, in one picture."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .folders import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3
WIDTH, HEIGHT = 4.0, 3.3  # inches of a figure with its title
TITLE = 36  # characters in a line


def with_figures(runs: Sequence[Run]) -> list[Run]:
    """The first run of each experiment that has drawn its figure."""
    found = {run.name: run for run in reversed(runs) if (run.folder / "figure.png").exists()}
    return [run for run in runs if found.get(run.name) is run]


def row(runs: Sequence[Run]) -> Figure:
    """The figures of the runs under their titles, ``COLUMNS`` in a line."""
    from matplotlib.figure import Figure
    from matplotlib.image import imread
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(len(runs), COLUMNS)
    lines = math.ceil(len(runs) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure((WIDTH * columns, HEIGHT * lines), layout=layout)
    for place in figure.subplots(lines, columns, squeeze=False).flat:
        place.set_axis_off()
        place.set_anchor("N")  # titles in a line stand side by side
    for place, run in zip(figure.axes, runs, strict=False):
        place.imshow(imread(run.folder / "figure.png"), interpolation="antialiased")
        title = run.title.partition(",")[0].rstrip(".")
        place.set_title("\n".join(textwrap.wrap(title, TITLE)), fontsize=11)
    return figure
