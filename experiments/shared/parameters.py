"""Parameters that a run keeps, to be read by what comes after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from gramlin_jax.support.files import read_arrays, write_arrays

FILE = "parameters.npz"


def keep_parameters(folder: Path | None, params: Any) -> None:
    """Write a pytree of parameters into a run folder, atomically; None: keep nothing.

    Args:
        folder: Of the run.
        params: Trained parameters, each leaf (runs, ...).
    """
    if folder is not None:
        leaves = jax.tree_util.tree_leaves_with_path(params)
        named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
        write_arrays(folder / FILE, named)


def kept_parameters(folder: Path, like: Any) -> Any:
    """Read what ``keep_parameters`` wrote.

    Args:
        folder: Of the run.
        like: A pytree of the same structure; its leaves may be shapes, without the axis of runs.

    Raises:
        FileNotFoundError: If the run kept none.
        ValueError: If the file is damaged, or holds parameters of another structure.
    """
    arrays = read_arrays(folder / FILE)
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    shapes = {name: arrays[name].shape[1:] for name in names if name in arrays}
    wanted = {name: np.shape(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}
    if set(arrays) != set(names) or shapes != wanted:
        raise ValueError(f"{folder / FILE} holds parameters of shapes {shapes}: wanted {wanted}")
    return jax.tree.unflatten(structure, [arrays[name] for name in names])
