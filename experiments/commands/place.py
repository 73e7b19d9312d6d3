"""Which run of which experiment the arguments of a command name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..registry import EXPERIMENTS, PRESETS, Experiment, find
from .options import HELP, Options, add_settings, configured


@dataclasses.dataclass(frozen=True)
class Place:
    """A run.

    Attributes:
        experiment: Of the run.
        preset: The name of the preset that its configuration changes.
        config: The configuration.
        folder: Of the run.
        data_dir: Of the data sets; None: where the variables of the environment say.
    """

    experiment: Experiment
    preset: str
    config: Any
    folder: Path
    data_dir: str | None


def read_place(arguments: Sequence[str], prog: str, purpose: str) -> Place:
    """The run that the arguments name; with ``--help`` print all options and exit.

    Raises:
        ValueError: If there is no such experiment, preset or option, or a setting is not valid.
    """
    from ..runs import folder_of

    names = "\n  ".join(f"{e.name:28}{e.title}" for e in EXPERIMENTS)
    plain = Options(f"{prog} NAME", f"{purpose}\n\nNAME is one of\n  {names}", add_help=False)
    _add_common(plain, PRESETS)
    words = [word for word in arguments if word not in HELP]
    if not words and len(arguments):
        plain.print_help()
        raise SystemExit
    if not words or words[0].startswith("-"):
        raise ValueError(f"name is absent: wanted one of {', '.join(e.name for e in EXPERIMENTS)}")
    experiment = find(words[0])
    found, _ = plain.read_known(words[1:])
    preset = experiment.preset(found.preset)
    full = Options(f"{prog} {words[0]}", f"{purpose}\n\n{experiment.name}: {experiment.title}")
    _add_common(full, experiment.presets)
    add_settings(full, preset, f"settings of {experiment.name}, preset {found.preset}")
    found = full.read(arguments[1:])
    config = configured(preset, found)
    folder = found.folder or folder_of(found.runs, experiment.name, found.preset, config)
    return Place(experiment, found.preset, config, folder.expanduser(), found.data_dir)


def _add_common(parser: Options, presets: Iterable[str]) -> None:
    told = ", ".join(f"{n}: {PRESETS[n]}" if n in PRESETS else n for n in presets)
    group = parser.add_argument_group("options of every experiment")
    group.add_argument("--preset", default="default", metavar="NAME", help=f"{told} (default)")
    add_runs(group)
    group.add_argument(
        "--folder", type=Path, metavar="PATH", help="folder of this run (RUNS/NAME/PRESET-HASH)"
    )
    add_data_dir(group)


def add_runs(group: Any) -> None:
    """The option ``--runs``."""
    group.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="PATH", help="folder of all runs (runs)"
    )


def add_data_dir(group: Any) -> None:
    """The option ``--data-dir``."""
    group.add_argument(
        "--data-dir",
        metavar="PATH",
        help="folder of data sets ($GRAMLIN_DATA_DIR, or else $TFDS_DATA_DIR)",
    )
