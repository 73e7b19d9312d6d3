"""``gramlin plot``: draw a finished run again."""

from __future__ import annotations

from collections.abc import Sequence

from .place import read_place
from .run import draw_and_say


def main(arguments: Sequence[str], prog: str) -> None:
    """Write the summary and the pictures of a finished run anew."""
    from ..runs import read_result, report

    place = read_place(arguments, prog, "Draw the figure of a finished run again.")
    result = read_result(place.experiment.name, place.config, place.folder)
    report(place.experiment, result, place.folder)
    draw_and_say(place, result, again=True)
