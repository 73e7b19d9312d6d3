"""Files and run folders that are written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def write_whole(path: Path, write: Callable[[Any], None]) -> None:
    """Write a file under a temporary name beside ``path``, then rename it.

    Args:
        path: Where the file goes; its folder is made, an older file there is replaced at once.
        write: What writes the content into the open binary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, whole or not at all; NaN and infinity become null."""
    text = json.dumps(_plain(value), indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """What ``write_json`` wrote.

    Raises:
        ValueError: If the file is not whole.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): move its folder away to start again; nothing was changed"
        ) from error


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as ``.npz``, whole or not at all."""
    named: dict[str, Any] = dict(arrays)
    write_whole(path, lambda file: np.savez_compressed(file, **named))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What ``write_arrays`` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated or damaged; it is left as it is.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise ValueError(
            f"{path} is truncated or damaged ({error}): move it away to make it anew; nothing was "
            "changed"
        ) from error


def claim_folder(folder: Path, configuration: dict[str, Any], name: str = "config.json") -> None:
    """Write the configuration into a new folder, or compare it with the one that is there.

    Raises:
        ValueError: If the folder holds a run of another configuration, or files without one; it
            is left as it is.
    """
    if not (folder / name).exists() and not any(folder.glob("[!.]*")):
        write_json(folder / name, _plain(configuration))
    check_folder(folder, configuration, name)


def check_folder(folder: Path, configuration: dict[str, Any], name: str = "config.json") -> None:
    """Compare the configuration of a folder that is there; change nothing.

    Raises:
        ValueError: As ``claim_folder``.
    """
    path, wanted = folder / name, _plain(configuration)
    if not path.exists():
        raise ValueError(
            f"folder {folder} holds files but no {name} that says of which run: name another "
            "folder, or move that one away to start again"
        )
    found, wanted = _flat(read_json(path)), _flat(wanted)
    for key in wanted | found:
        if found.get(key) != wanted.get(key):
            raise ValueError(
                f"folder {folder} holds a run of another configuration: its {key} is "
                f"{found.get(key)}, wanted {wanted.get(key)}; name another folder, or move "
                "that one away to start again"
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
