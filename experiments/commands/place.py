"""Which run of which experiment the arguments of a command name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import tyro

from ..registry import EXPERIMENTS, Experiment, find
from .options import read, read_known, settings_of

if TYPE_CHECKING:
    from jax.sharding import Mesh

HELP = ("-h", "--help")
PATH = tyro.conf.arg(metavar="PATH")
Names: TypeAlias = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="[NAME ...]", help_behavior_hint=""),
]


@dataclasses.dataclass(frozen=True)
class Data:
    """Options of every command that carries out experiments.

    Attributes:
        preset: smoke (seconds), default (minutes, embedded data), paper (its data and sizes), or
            another that the experiment has.
        runs: The folder of all runs.
        data_dir: The folder of data sets; by default $GRAMLIN_DATA_DIR or $TFDS_DATA_DIR.
        devices: How many devices to spread the networks over; 0: all that JAX finds.
    """

    preset: str = "default"
    runs: Path = Path("runs")
    data_dir: Annotated[str | None, PATH] = None
    devices: int = 0


@dataclasses.dataclass(frozen=True)
class Options(Data):
    """Options of every experiment.

    Attributes:
        folder: The folder of this run; by default RUNS/NAME/PRESET-HASH.
        format: A further format of the figures, which are drawn as PNG in any case.
    """

    folder: Annotated[Path | None, PATH] = None
    format: Literal["png", "pdf", "svg"] = "png"


@dataclasses.dataclass(frozen=True)
class Place:
    """A run.

    Attributes:
        experiment: Of the run.
        preset: The name of the preset that its configuration changes.
        config: The configuration.
        folder: Of the run.
        data_dir: Of the data sets; None: where the variables of the environment say.
        devices: At most so many are used; 0 for all.
        format: Of the figures.
    """

    experiment: Experiment
    preset: str
    config: Any
    folder: Path
    data_dir: str | None
    devices: int
    format: str


def read_place(arguments: Sequence[str], prog: str, purpose: str) -> Place:
    """The run that the arguments name; with ``--help`` print all options and exit.

    Raises:
        ValueError: If there is no such experiment, preset or option, or a setting is not valid.
    """
    from ..runs import folder_of

    words = [word for word in arguments if word not in HELP]
    if not words and arguments:
        names = "\n".join(f"  {e.name:28}{e.title}" for e in EXPERIMENTS)
        read(Options, HELP[:1], f"{prog} NAME", f"{purpose}\n\nNAME is one of\n{names}")
    if not words or words[0].startswith("-"):
        raise ValueError(f"name is absent: wanted one of {', '.join(e.name for e in EXPERIMENTS)}")
    experiment = find(words[0])
    preset = experiment.preset(read_known(Options, words[1:]).preset)
    form = dataclasses.make_dataclass("Run", settings_of(preset), bases=(Options,), frozen=True)
    title = f"{purpose}\n\n{experiment.name}: {experiment.title}"
    found: Any = read(form, arguments[1:], f"{prog} {words[0]}", title)
    settings = [field.name for field in dataclasses.fields(preset)]
    config = dataclasses.replace(preset, **{name: getattr(found, name) for name in settings})
    folder = found.folder or folder_of(found.runs, experiment.name, found.preset, config)
    folder = folder.expanduser()
    return Place(
        experiment, found.preset, config, folder, found.data_dir, found.devices, found.format
    )


def mesh_of(devices: int) -> Mesh:
    """The first so many devices that JAX finds; 0 for all.

    Raises:
        ValueError: If there are not so many.
    """
    import jax

    found = jax.devices()
    if not 0 <= devices <= len(found):
        raise ValueError(f"devices is {devices}: wanted 0 to {len(found)}, as many as JAX finds")
    return jax.sharding.Mesh(found[: devices or None], "networks")
