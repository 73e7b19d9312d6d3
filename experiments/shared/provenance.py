"""What a run folder says of its origin: fingerprints of its data, versions of its packages."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gramlin_jax.support.files import read_json, write_json
from gramlin_jax.support.fingerprints import fingerprint
from gramlin_jax.support.versions import versions

DATA = "data.json"
VERSIONS = "versions.json"


def claim_data(folder: Path | None, arrays: Mapping[str, Any]) -> None:
    """Write fingerprints of a run's data into its folder, or compare with those that are there.

    Args:
        folder: Of the run; None: nothing is kept.
        arrays: By name, as ``"train x"``.

    Raises:
        ValueError: If the folder holds a run of other data; it is left as it is.
    """
    if folder is None:
        return
    marks = dict(zip(arrays, fingerprint(list(arrays.values())).values(), strict=True))
    path = folder / DATA
    if not path.exists():
        write_json(path, marks)
    kept = read_json(path)
    for name in marks | kept:
        if kept.get(name) != marks.get(name):
            raise ValueError(
                f"folder {folder} holds a run of other data: its {name} is {kept.get(name)}, now "
                f"{marks.get(name)}; name another folder, or the data_dir of that run"
            )


def commit() -> str:
    """The commit of the code that runs, with a + if files differ from it; empty if not in Git.

    An installed package may lie within a repository of somebody else's, which is not its own.
    """
    here = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        run = subprocess.run(["git", "-C", here, *words], capture_output=True, text=True)
        return run.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != here:
            return ""
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(changed)
    except OSError:  # no Git
        return ""


def record_versions(folder: Path) -> list[str]:
    """Add the versions of this session to those that the run began and went on with.

    Returns:
        What changed from one session to the next, as ``"jax 0.10.1 → 0.10.2"``.
    """
    path, now = folder / VERSIONS, versions()
    sessions = read_json(path)["sessions"] if path.exists() else []
    if not sessions or sessions[-1] != now:
        sessions = [*sessions, now]
        write_json(path, {"sessions": sessions})
    pairs = zip(sessions, sessions[1:], strict=False)
    return [change for before, after in pairs for change in changes(before, after)]


def changes(before: Mapping[str, Any], after: Mapping[str, str]) -> list[str]:
    """Which versions differ, as ``"jax 0.10.1 → 0.10.2"``; those that are not known do not.

    Example:
        >>> changes({"jax": "0.10.1", "numpy": "2.0"}, {"jax": "0.10.2", "numpy": "2.0"})
        ['jax 0.10.1 → 0.10.2']
    """
    return [
        f"{name} {before[name]} → {value}"
        for name, value in after.items()
        if before.get(name, value) != value
    ]
