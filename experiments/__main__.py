"""The command line of the experiments: list, run and plot the figures."""

from __future__ import annotations

import dataclasses
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import tyro

from .registry import EXPERIMENTS, PRESETS, Experiment, find
from .runs import folder_of, notes_of_versions, perform, read_result, report
from .shared.results import Result

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
    """Carry out one command; an error or a signal is one line without a traceback."""
    command, *rest = arguments or ["list"]
    commands = {"list": _list, "run": _run, "plot": _plot}
    if command not in commands:
        print(USAGE)
        sys.exit(command not in ("-h", "--help"))
    try:
        commands[command](rest)
    except (KeyboardInterrupt, Terminated) as stop:
        print("stopped: the same command goes on from here", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT))
    except Exception as error:
        if not (line := _line(error)):
            raise
        sys.exit(f"error: {line}")


class Terminated(BaseException):
    """SIGTERM. A KeyboardInterrupt that passes through ``exec`` would make Python end by SIGINT."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _line(error: Exception) -> str:
    """An error of the user's or of the machine, in one line if that says all; else empty."""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory: choose smaller sizes ({_first_line(error) or 'none is left'})"
    if isinstance(error, FileNotFoundError):  # says where it looked, and how to get what is missing
        return str(error)
    if isinstance(error, ValueError | OSError | ImportError | OverflowError):
        return _first_line(error) or type(error).__name__
    return ""


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _list(arguments: list[str]) -> None:
    if arguments:
        raise ValueError(f"list got {' '.join(arguments)}: wanted nothing after it")
    for experiment in EXPERIMENTS:
        print(f"{experiment.name:32}{experiment.title}")
    meanings = ", ".join(f"{name} ({meaning})" for name, meaning in PRESETS.items())
    print(f"presets of each: {meanings}")


def _run(arguments: list[str]) -> None:
    experiment, config, folder, data_dir = _parse(arguments)
    result, done = perform(experiment.name, config, folder, data_dir)
    print(experiment.table(result))
    for claim in experiment.check(result):
        print(claim)
    _print_rest(experiment, result, folder)
    if done:
        print("this run was finished before", *notes_of_versions(result), sep="; ")


def _plot(arguments: list[str]) -> None:
    experiment, config, folder, _ = _parse(arguments)
    result = read_result(experiment.name, config, folder)
    report(experiment, result, folder)
    _print_rest(experiment, result, folder)


def _print_rest(experiment: Experiment, result: Result, folder: Path) -> None:
    """Notes on the run, and where its pictures are."""
    for note in experiment.notes(result):
        print(f"note: {note}")
    for picture in experiment.pictures(result):
        print(f"figure: {folder / picture}")


def _parse(arguments: list[str]) -> tuple[Experiment, object, Path, str | None]:
    wants_help = {"-h", "--help"} & set(arguments) and not arguments[0].startswith("-")
    known = [a for a in arguments if a not in ("-h", "--help")] if wants_help else arguments
    place, rest = tyro.cli(Place, args=known, return_unknown_args=True)
    experiment = find(place.name)
    preset = experiment.preset(place.preset)
    if wants_help:
        print(f"{USAGE}\n\noptions of every run: --preset --runs --folder --data-dir\n")
        rest = ["--help"]
    config = _configured(preset, rest)
    folder = place.folder or folder_of(place.runs, experiment.name, place.preset, config)
    return experiment, config, folder.expanduser(), place.data_dir


def _configured(preset: Any, options: list[str]) -> Any:
    """The preset with other settings, checked once all are read: tyro frames what it catches."""
    kind = type(preset)
    names = {
        "__post_init__": lambda _: None,
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
    }
    unchecked = type(kind.__name__, (kind,), names)
    read = tyro.cli(unchecked, default=unchecked(**vars(preset)), args=options)
    return kind(**vars(read))


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    signal.signal(signal.SIGTERM, _terminate)
    main(sys.argv[1:])
