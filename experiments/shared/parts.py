"""Runs in parts: what is finished is kept, so that an interrupted run continues behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from gramlin_jax.support.files import read_arrays, write_arrays

from .progress import in_front


def parts(
    folder: Path | None,
    names: Iterable[object],
    make: Callable[[str, Path | None], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Make the arrays of each part, or read those of a finished one, and stack them.

    Args:
        folder: The folder of the run, which is of one configuration (``runs.perform`` sees to it);
            a finished part is kept in ``parts/NAME.npz``. None: nowhere.
        names: Of the parts; they become names of files.
        make: ``(name, directory) -> arrays``, of the same names and shapes for each part;
            ``directory`` is where the checkpoints of this part go, in ``training/NAME``.

    Returns:
        The arrays; the first axis is the part.
    """
    made, every = [], [str(name) for name in names]
    for number, name in enumerate(every, 1):
        with in_front(f"part {number} of {len(every)}" if len(every) > 1 else ""):
            made.append(_part(folder, name, make))
    return {name: np.stack([arrays[name] for arrays in made]) for name in made[0]}


def _part(
    folder: Path | None, name: str, make: Callable[[str, Path | None], Mapping[str, np.ndarray]]
) -> Mapping[str, np.ndarray]:
    if folder is None:
        return make(name, None)
    path = folder / "parts" / f"{name}.npz"
    if not path.exists():
        write_arrays(path, dict(make(name, folder / "training" / name)))
    return read_arrays(path)
