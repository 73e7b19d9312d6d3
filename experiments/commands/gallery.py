"""``gramlin gallery``: one page with all runs, and a picture with their figures side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from gramlin_jax.support.files import write_whole

from ..gallery.folders import Run, runs_in
from ..gallery.page import page
from ..gallery.row import row, with_figures
from ..registry import find
from .options import read
from .place import PATH, Names


@dataclasses.dataclass(frozen=True)
class Page:
    """Options.

    Attributes:
        names: Experiments; by default all.
        runs: The folder of all runs.
        out: The page; by default RUNS/gallery.html.
        row: A picture to make, a PNG with the figures side by side, one for each experiment.
    """

    names: Names = ()
    runs: Path = Path("runs")
    out: Annotated[Path | None, PATH] = None
    row: Annotated[Path | None, PATH] = None


def main(arguments: Sequence[str], prog: str) -> None:
    """Write the page and say where it is."""
    purpose = "Write one page with all runs: figures, settings, claims and versions."
    found = read(Page, arguments, prog, purpose)
    print(write_gallery(found.runs, found.out, found.names))
    if found.row is not None:
        print(write_row(found.runs, found.row, found.names))


def write_gallery(root: Path, out: Path | None = None, names: Sequence[str] = ()) -> str:
    """Write the page of the runs below ``root``; what it holds, in a line.

    Args:
        root: The folder of all runs.
        out: The page; None: ``root/gallery.html``.
        names: Of the experiments; empty: all.

    Raises:
        ValueError: If there is no run.
    """
    runs, out = _runs(root, names), out or root / "gallery.html"
    text = page(runs, root)
    write_whole(out, lambda file: file.write(text.encode()))
    return f"gallery of {len(runs)} run{'s' * (len(runs) > 1)}: {out}"


def write_row(root: Path, out: Path, names: Sequence[str] = ()) -> str:
    """Write the picture of the runs below ``root``; how many it shows, in a line.

    Raises:
        ValueError: If no run has a figure.
    """
    runs = with_figures(_runs(root, names))
    if not runs:
        raise ValueError(f"runs is {root}, where no run has a figure.png: wanted a finished one")
    write_whole(out, lambda file: row(runs).savefig(file, format="png", dpi=150))
    return f"row of {len(runs)} figure{'s' * (len(runs) > 1)}: {out}"


def _runs(root: Path, names: Sequence[str]) -> list[Run]:
    chosen = {find(name).name for name in names}
    runs = [run for run in runs_in(root) if not chosen or run.name in chosen]
    if not runs:
        of = f" of {', '.join(sorted(chosen))}" if chosen else ""
        raise ValueError(
            f"runs is {root}, where no run{of} is: wanted a folder that `run` wrote to"
        )
    return runs
