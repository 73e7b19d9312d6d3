"""Run folders: carry out an experiment, find its result again, report it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from gramlin_jax.support.files import (
    check_folder,
    claim_folder,
    is_in_use,
    json_text,
    read_json,
    running,
    write_json,
    write_whole,
)
from gramlin_jax.support.versions import versions

from .registry import Experiment, find
from .shared.provenance import DATA, VERSIONS, changes, commit, record_versions
from .shared.results import (
    Result,
    label,
    read_arrays_and_labels,
    settings,
    write_result,
)
from .shared.threads import one_blas_thread

RESULT = "result.npz"
BEGUN = {"config.json", "versions.json", ".lock"}
"""What a run folder holds before anything is computed."""


def folder_of(root: str | Path, name: str, preset: str, config: Any) -> Path:
    """``root/name/preset-hash``, the hash being of the configuration."""
    text = json.dumps(settings(config), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Path(root) / name / f"{preset}-{digest}"


def perform(
    name: str, config: Any, folder: Path, data_dir: str | None = None, mesh: Mesh | None = None
) -> tuple[Result, bool]:
    """Run an experiment into its folder, continue an interrupted run, or read a finished one.

    Where another experiment shows the same runs and its folder lies beside this one, finished, in
    ``../../NAME/``, its result is copied. ``mesh`` is that of ``Experiment.run``. A run that fails
    before it has made anything, as without its data, leaves no folder.

    Returns:
        The result, and whether it had been finished before.

    Raises:
        ValueError: If the folder holds another configuration, other data or a damaged file, or
            another process is running in it; it is left as is.

    Warns:
        RuntimeWarning: If the data of a finished run are not found, so that none are compared.
    """
    experiment, folder = find(name), folder.expanduser()
    identity = _identity(experiment.name, config)
    if is_in_use(folder):  # refuse before a lock file is made in it
        check_folder(folder, identity)
    with running(folder), one_blas_thread():
        claim_folder(folder, identity)
        try:
            return _performed(experiment, config, folder, data_dir, mesh)
        except BaseException:
            if {path.name for path in folder.iterdir()} <= BEGUN:
                shutil.rmtree(folder)
            raise


def _performed(
    experiment: Experiment, config: Any, folder: Path, data_dir: str | None, mesh: Mesh | None
) -> tuple[Result, bool]:
    name = experiment.name
    done = (folder / RESULT).exists()
    if done:
        result = read_result(name, config, folder)
        _compare_data(experiment, config, folder, data_dir)
    else:
        result = _same_runs(experiment, config, folder, data_dir) or _timed(
            experiment, config, folder, data_dir, mesh
        )
        write_result(folder / RESULT, result.data, result.info)
        result = read_result(name, config, folder)
    report(experiment, result, folder, again=not done)
    return result, done


def _timed(
    experiment: Experiment, config: Any, folder: Path, data_dir: str | None, mesh: Mesh | None
) -> Result:
    begun, start = (folder / VERSIONS).exists(), time.monotonic()
    changed = record_versions(folder)
    result = experiment.run(config, folder=folder, data_dir=data_dir, mesh=mesh)
    info = {**result.info, **versions(), "commit": commit()}
    if not begun:  # what sessions took that were cut off is not known
        info["seconds"] = round(time.monotonic() - start, 1)
    if changed:
        info["changes"] = changed
    return dataclasses.replace(result, info={**info, "of": _identity(experiment.name, config)})


def _compare_data(experiment: Experiment, config: Any, folder: Path, data_dir: str | None) -> None:
    """Compare the data with those of a finished run, where it kept their fingerprints."""
    if not (folder / DATA).exists():
        return
    try:
        experiment.claim_data(config, folder, data_dir)
    except FileNotFoundError as error:
        warnings.warn(
            f"the data of this finished run were not compared: {error}",
            RuntimeWarning,
            stacklevel=3,
        )


def _same_runs(
    experiment: Experiment, config: Any, folder: Path, data_dir: str | None
) -> Result | None:
    for other in experiment.of_same_runs():
        beside = folder.parent.parent / other.name / folder.name
        try:
            result = read_result(other.name, config, beside)
            _compare_data(other, config, beside, data_dir)
        except (FileNotFoundError, ValueError):  # nothing there, or not of this configuration
            continue
        if (beside / DATA).exists():
            write_json(folder / DATA, read_json(beside / DATA))
        of = _identity(experiment.name, config)
        return dataclasses.replace(result, info={**result.info, "of": of})
    return None


def read_result(name: str, config: Any, folder: Path) -> Result:
    """The finished result of a run folder, also of one that was written without labels.

    Raises:
        FileNotFoundError: If the run has not finished.
        ValueError: If the folder holds another configuration, or the file is damaged or the result
            of another run.
    """
    experiment, folder = find(name), folder.expanduser()
    path = folder / RESULT
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no {RESULT}: run the experiment to its end first")
    identity = _identity(experiment.name, config)
    check_folder(folder, identity)
    arrays, info, labels = read_arrays_and_labels(path)
    try:
        _check_identity(info.get("of"), identity)
        result = (
            experiment.result(config, arrays, info)
            if labels is None
            else Result(config, label(arrays, **labels), info)
        )
        experiment.check_labels(result)
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is not the result of this run ({reason}): move it away to make it anew; "
            "nothing was changed"
        ) from error
    return result


def _check_identity(found: dict[str, Any] | None, wanted: dict[str, Any]) -> None:
    if found is None:  # a result of a version that did not keep it
        return
    for key, value in json.loads(json.dumps(wanted)).items():
        if found.get(key) != value:
            raise ValueError(f"its {key} is {found.get(key)!r}, wanted {value!r}")


def report(experiment: Experiment, result: Result, folder: Path, *, again: bool = True) -> None:
    """Write the summary, the table of networks, the pictures and their captions.

    Args:
        experiment: Of the result.
        result: What to report.
        folder: Of the run.
        again: Draw pictures that are there, too. Text that says otherwise is always replaced.
    """
    for name, text in _texts(experiment, result).items():
        path = folder / name
        if not path.exists() or path.read_bytes() != text:
            write_whole(path, lambda file, text=text: file.write(text))  # type: ignore[misc]
    draw_pictures(experiment, result, folder, again=again)


def draw_pictures(
    experiment: Experiment, result: Result, folder: Path, kind: str = "png", *, again: bool = True
) -> None:
    """Draw the pictures of a result, those that are there too if ``again``."""
    for name, write in experiment.pictures(result, kind).items():
        if again or not (folder / name).exists():
            write_whole(folder / name, write)


def _texts(experiment: Experiment, result: Result) -> dict[str, bytes]:
    claims = [dataclasses.asdict(claim) for claim in experiment.check(result)]
    summary = {"claims": claims, "notes": experiment.notes(result), **result.info}
    return {
        "summary.json": json_text(summary).encode(),
        "networks.csv": experiment.networks(result).to_csv().encode(),
        **{f"{n}.txt": f"{text}\n".encode() for n, text in experiment.captions(result).items()},
    }


def notes_of_versions(result: Result) -> list[str]:
    """In which versions a finished run differs from this session, in a line; none if in none."""
    changed = changes(result.info, versions())
    return [f"computed with other versions: {', '.join(changed)} now"] if changed else []


def _identity(name: str, config: Any) -> dict[str, Any]:
    return {"experiment": name, **settings(config)}
