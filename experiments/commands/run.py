"""``gramlin run``: run an experiment, or resume it."""

from __future__ import annotations

from collections.abc import Sequence

from ..shared.results import Result
from .place import Place, mesh_of, read_place


def main(arguments: Sequence[str], prog: str) -> None:
    """Run an experiment and print its numbers and verdicts."""
    from ..runs import notes_of_versions, perform

    place = read_place(arguments, prog, "Run an experiment, or resume it.")
    experiment, mesh = place.experiment, mesh_of(place.devices)
    print(f"{experiment.name}: {expected_time(place)}", flush=True)
    result, done = perform(experiment.name, place.config, place.folder, place.data_dir, mesh)
    print(experiment.table(result))
    for claim in experiment.check(result):
        print(claim)
    draw_and_say(place, result, again=not done)
    if done:
        print("this run was finished before", *notes_of_versions(result), sep="; ")


def expected_time(place: Place) -> str:
    """How long the run takes, as far as that is known."""
    if (place.folder / "result.npz").exists():
        return "finished before"
    time = place.experiment.duration(place.preset)
    if place.config == place.experiment.preset(place.preset):
        return f"preset {place.preset}; processor time: {time}"
    return f"settings of its own; processor time of preset {place.preset}: {time}"


def draw_and_say(place: Place, result: Result, *, again: bool) -> None:
    """Draw the figures in another format if one is wanted; notes on the run, and where they are."""
    from ..runs import draw_pictures

    if place.format != "png":
        draw_pictures(place.experiment, result, place.folder, place.format, again=again)
    for note in place.experiment.notes(result):
        print(f"note: {note}")
    for picture in place.experiment.pictures(result, place.format):
        print(f"figure: {place.folder / picture}")
