"""``gramlin gallery``: one page with all runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gramlin_jax.support.files import write_whole

from ..gallery.folders import runs_in
from ..gallery.page import page
from .options import Options
from .place import add_runs


def main(arguments: Sequence[str], prog: str) -> None:
    """Write the page and say where it is."""
    parser = Options(prog, "Write one page with all runs: figures, settings, claims and versions.")
    add_runs(parser)
    parser.add_argument("--out", type=Path, metavar="PATH", help="the page (RUNS/gallery.html)")
    found = parser.read(arguments)
    print(write_gallery(found.runs, found.out))


def write_gallery(root: Path, out: Path | None = None) -> str:
    """Write the page of all runs below ``root``; what it holds, in a line.

    Raises:
        ValueError: If there are none.
    """
    runs = runs_in(root)
    if not runs:
        raise ValueError(f"runs is {root}, where no run is: wanted a folder that `run` wrote to")
    out = out or root / "gallery.html"
    text = page(runs, root)
    write_whole(out, lambda file: file.write(text.encode()))
    return f"gallery of {len(runs)} run{'s' * (len(runs) > 1)}: {out}"
