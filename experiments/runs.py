"""Run folders: carry out an experiment, find its result again, report it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import gramlin_jax
from experiments.registry import Experiment, find
from experiments.shared.results import (
    Result,
    label,
    read_arrays_and_labels,
    write_result,
)
from gramlin_jax.support.files import (
    check_folder,
    claim_folder,
    running,
    write_json,
    write_whole,
)

RESULT = "result.npz"


def folder_of(root: str | Path, name: str, preset: str, config: Any) -> Path:
    """``root/name/preset-hash``, the hash being of the configuration."""
    text = json.dumps(dataclasses.asdict(config), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Path(root) / name / f"{preset}-{digest}"


def perform(
    name: str, config: Any, folder: Path, data_dir: str | None = None
) -> tuple[Result, bool]:
    """Run an experiment into its folder, continue an interrupted run, or read a finished one.

    Where another experiment shows the same runs and its folder lies beside this one, finished, in
    ``../../NAME/``, its result is copied.

    Returns:
        The result, and whether it had been finished before.

    Raises:
        ValueError: If the folder holds another configuration or a damaged file, or another
            process is running in it; it is left as is.
    """
    experiment = find(name)
    claim_folder(folder, _identity(experiment.name, config))
    with running(folder):
        done = (folder / RESULT).exists()
        if not done:
            result = _same_runs(experiment, config, folder) or _timed(
                experiment, config, folder, data_dir
            )
            write_result(folder / RESULT, result.data, result.info)
        result = read_result(name, config, folder)
        if not done or not all((folder / name).exists() for name in experiment.pictures(result)):
            report(experiment, result, folder)
    return result, done


def _timed(experiment: Experiment, config: Any, folder: Path, data_dir: str | None) -> Result:
    start = time.monotonic()
    result = experiment.run(config, folder=folder, data_dir=data_dir)
    seconds = round(time.monotonic() - start, 1)
    return dataclasses.replace(result, info={**result.info, **_versions(), "seconds": seconds})


def _same_runs(experiment: Experiment, config: Any, folder: Path) -> Result | None:
    for other in experiment.of_same_runs():
        beside = folder.parent.parent / other.name / folder.name
        try:
            return read_result(other.name, config, beside)
        except (FileNotFoundError, ValueError):  # nothing there, or not of this configuration
            continue
    return None


def read_result(name: str, config: Any, folder: Path) -> Result:
    """The finished result of a run folder, also of one that was written without labels.

    Raises:
        FileNotFoundError: If the run has not finished.
        ValueError: If the folder holds another configuration or the file is damaged.
    """
    if not (folder / RESULT).exists():
        raise FileNotFoundError(f"{folder} holds no {RESULT}: run the experiment to its end first")
    experiment = find(name)
    check_folder(folder, _identity(experiment.name, config))
    arrays, info, labels = read_arrays_and_labels(folder / RESULT)
    if labels is None:
        return experiment.result(config, arrays, info)
    return Result(config, label(arrays, **labels), info)


def report(experiment: Experiment, result: Result, folder: Path) -> None:
    """Write the summary, the table of networks and the pictures of a result."""
    claims = [dataclasses.asdict(claim) for claim in experiment.check(result)]
    write_json(folder / "summary.json", {"claims": claims, **result.info})
    table = experiment.networks(result).to_csv().encode()
    write_whole(folder / "networks.csv", lambda file: file.write(table))
    for name, draw in experiment.pictures(result).items():
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
