"""The command line of the experiments: list, run and plot the figures."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import tyro

from experiments.framework import (
    EXPERIMENTS,
    Experiment,
    Result,
    find,
    folder_of,
    perform,
    pictures,
    preset_of,
    read_result,
    report,
)

USAGE = """python -m experiments list
python -m experiments run fig04 --preset paper --dataset cifar100
python -m experiments plot fig04 --preset paper --dataset cifar100
python -m experiments run fig04 --help"""


@dataclasses.dataclass(frozen=True)
class Place:
    """Which run of which experiment; further options are fields of its configuration.

    Attributes:
        name: An experiment, or how its name begins: fig04.
        preset: smoke (seconds), default (minutes, embedded data) or paper (its data and sizes).
        runs: The folder of all runs.
        folder: The folder of this run; by default runs/NAME/PRESET-HASH.
        data_dir: The folder of TFDS data sets; by default $GRAMLIN_DATA_DIR or $TFDS_DATA_DIR.
    """

    name: tyro.conf.Positional[str]
    preset: str = "default"
    runs: Path = Path("runs")
    folder: Path | None = None
    data_dir: str | None = None


def main(arguments: list[str]) -> None:
    """Carry out one command; errors of the user's are one line without a traceback."""
    command, *rest = arguments or ["list"]
    commands = {"list": _list, "run": _run, "plot": _plot}
    if command not in commands:
        print(USAGE)
        sys.exit(command not in ("-h", "--help"))
    try:
        commands[command](rest)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


def _list(arguments: list[str]) -> None:
    del arguments
    for name in EXPERIMENTS:
        _, experiment = find(name)
        print(f"{name:32}{experiment.__doc__.splitlines()[0]}")
        print(f"{'':32}presets: {', '.join(experiment.PRESETS)}")


def _run(arguments: list[str]) -> None:
    name, config, folder, data_dir = _parse(arguments)
    _, experiment = find(name)
    result, done = perform(name, config, folder, data_dir)
    print(experiment.table(result))
    for claim in experiment.check(result):
        print(claim)
    _print_pictures(experiment, result, folder)
    if done:
        print("this run was finished before")


def _plot(arguments: list[str]) -> None:
    name, config, folder, _ = _parse(arguments)
    _, experiment = find(name)
    result = read_result(name, config, folder)
    report(experiment, result, folder)
    _print_pictures(experiment, result, folder)


def _print_pictures(experiment: Experiment, result: Result, folder: Path) -> None:
    for picture in pictures(experiment, result):
        print(f"figure: {folder / picture}")


def _parse(arguments: list[str]) -> tuple[str, object, Path, str | None]:
    wants_help = {"-h", "--help"} & set(arguments) and not arguments[0].startswith("-")
    known = [a for a in arguments if a not in ("-h", "--help")] if wants_help else arguments
    place, rest = tyro.cli(Place, args=known, return_unknown_args=True)
    name, experiment = find(place.name)
    preset = preset_of(experiment, place.preset)
    if wants_help:
        print(f"{USAGE}\n\noptions of every run: --preset --runs --folder --data-dir\n")
        rest = ["--help"]
    config = tyro.cli(type(preset), default=preset, args=rest)
    folder = place.folder or folder_of(place.runs, name, place.preset, config)
    return name, config, folder, place.data_dir


if __name__ == "__main__":
    main(sys.argv[1:])
