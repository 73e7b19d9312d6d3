"""What all experiments share: results, claims, and the folders that keep them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

import gramlin_jax
from gramlin_jax.support.files import (
    check_folder,
    claim_folder,
    read_arrays,
    write_arrays,
    write_json,
    write_whole,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENTS = (
    "fig01_swissroll",
    "fig02_gram_whitening",
    "fig04_target_linearity",
    "fig05_vae_interpolation",
    "fig06_gram_whitening_cnn",
    "fig08_staircase",
    "fig09_target_linearity_adam",
    "fig10_vae_target_linearity",
    "fig12_random_labels",
    "fig13_grokking",
    "neural_collapse",
)


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim of the paper, and what the numbers say of it.

    Attributes:
        statement: The claim, so that it can be false.
        holds: Whether it does, in every seed or beyond their spread, as ``check`` says; None where
            the runs do not decide it, or none came to what it speaks of.
        evidence: The numbers, as a person reads them.
    """

    statement: str
    holds: bool | None
    evidence: str

    def __str__(self) -> str:
        verdict = {True: "holds", False: "FAILS", None: "undecided"}[self.holds]
        return f"[{verdict}] {self.statement}: {self.evidence}"


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run of an experiment gives: its configuration, named arrays, and notes on the run."""

    config: Any
    arrays: dict[str, np.ndarray]
    info: dict[str, Any]


def check_least(config: Any, bounds: Mapping[str, float]) -> None:
    """Raise ``ValueError`` if a setting that ``bounds`` names is below its bound, or NaN."""
    for name, bound in bounds.items():
        if not getattr(config, name) >= bound:
            raise ValueError(f"{name} is {getattr(config, name)}: wanted at least {bound}")


def check_positive(config: Any, *names: str) -> None:
    """Raise ``ValueError`` if one of these settings is not a positive, finite number."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise ValueError(f"{name} is {getattr(config, name)}: wanted a positive number")


def check_momentum(config: Any) -> None:
    """Raise ``ValueError`` if ``momentum`` is not in [0, 1)."""
    if not 0 <= config.momentum < 1:
        raise ValueError(f"momentum is {config.momentum}: wanted 0 or more, below 1")


class Experiment(Protocol):
    """What each module of ``experiments`` provides.

    One with more to show has ``extras(result) -> dict`` too: names of further files of the run
    folder, and functions that write them into an open binary file.
    """

    __doc__: str
    PRESETS: dict[str, Any]

    def run(self, config: Any, *, folder: Path | None, data_dir: str | None) -> Result:
        """Carry out the experiment; go on from what is in ``folder``."""
        ...

    def plot(self, result: Result) -> Figure:
        """The paper's figure."""
        ...

    def check(self, result: Result) -> list[Claim]:
        """The paper's claims, held against the numbers."""
        ...

    def table(self, result: Result) -> str:
        """The numbers, for the terminal."""
        ...


def find(name: str) -> tuple[str, Experiment]:
    """The experiment of that name, or of a name that begins so.

    Raises:
        ValueError: If there is none, or more than one.
    """
    found = [full for full in EXPERIMENTS if full == name or full.startswith(name)]
    if len(found) != 1:
        raise ValueError(f"name is {name!r}: wanted one of {', '.join(EXPERIMENTS)}")
    return found[0], importlib.import_module(f"experiments.{found[0]}")


def preset_of(experiment: Experiment, preset: str) -> Any:
    """The configuration of that preset.

    Raises:
        ValueError: If there is none.
    """
    if preset not in experiment.PRESETS:
        raise ValueError(f"preset is {preset!r}: wanted one of {', '.join(experiment.PRESETS)}")
    return experiment.PRESETS[preset]


def folder_of(root: str | Path, name: str, preset: str, config: Any) -> Path:
    """``root/name/preset-hash``, the hash being of the configuration."""
    text = json.dumps(dataclasses.asdict(config), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Path(root) / name / f"{preset}-{digest}"


def perform(
    name: str, config: Any, folder: Path, data_dir: str | None = None
) -> tuple[Result, bool]:
    """Run an experiment into its folder, go on with one that was cut off, or read a finished one.

    Returns:
        The result, and whether it had been finished before.

    Raises:
        ValueError: If the folder holds another configuration or a damaged file; it is left as is.
    """
    _, experiment = find(name)
    claim_folder(folder, _identity(name, config))
    done = (folder / "result.npz").exists()
    if not done:
        start = time.monotonic()
        result = experiment.run(config, folder=folder, data_dir=data_dir)
        info = {**result.info, **_versions(), "seconds": round(time.monotonic() - start, 1)}
        text = np.array(json.dumps(info))
        write_arrays(folder / "result.npz", {**result.arrays, "info": text})
    result = read_result(name, config, folder)
    if not done or not all((folder / name).exists() for name in pictures(experiment, result)):
        report(experiment, result, folder)
    return result, done


def read_result(name: str, config: Any, folder: Path) -> Result:
    """The finished result of a run folder.

    Raises:
        FileNotFoundError: If the run has not finished.
        ValueError: If the folder holds another configuration or the file is damaged.
    """
    if not (folder / "result.npz").exists():
        raise FileNotFoundError(
            f"{folder} holds no result.npz: run the experiment to its end first"
        )
    check_folder(folder, _identity(name, config))
    arrays = read_arrays(folder / "result.npz")
    return Result(config, arrays, json.loads(str(arrays.pop("info"))))


def pictures(experiment: Experiment, result: Result) -> dict[str, Callable[[IO[bytes]], None]]:
    """Names of the pictures of a result, the figure first, and what draws each into a file."""

    def figure(file: IO[bytes]) -> None:
        experiment.plot(result).savefig(file, format="png", dpi=200)

    further = experiment.extras(result) if hasattr(experiment, "extras") else {}
    return {"figure.png": figure, **further}


def report(experiment: Experiment, result: Result, folder: Path) -> None:
    """Write the summary and the pictures of a result."""
    claims = [dataclasses.asdict(claim) for claim in experiment.check(result)]
    write_json(folder / "summary.json", {"claims": claims, **result.info})
    for name, draw in pictures(experiment, result).items():
        write_whole(folder / name, draw)


def _identity(name: str, config: Any) -> dict[str, Any]:
    return {"experiment": name, **dataclasses.asdict(config)}


def _versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "python": platform.python_version(),
        "gramlin_jax": gramlin_jax.__version__,
        **{package: version(package) for package in packages},
        "device": jax.devices()[0].device_kind,
    }
