"""The functions of a run, compared through their lowered programs, and the versions they ran on."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax.support.files import read_json, write_json
from gramlin_jax.support.versions import versions

Programs: TypeAlias = "Mapping[str, Callable[[], jax.stages.Lowered]]"
"""By the names of the user's functions in a program, what lowers it."""


def lowering(function: Any, *args: Any) -> Callable[[], jax.stages.Lowered]:
    """What lowers a jitted function for arguments of these shapes; it keeps no array alive."""
    shapes = jax.tree.map(_shape, args)
    return lambda: function.lower(*jax.tree.map(_argument, shapes))


def _shape(array: Any) -> jax.ShapeDtypeStruct:
    """The shape; ``jit`` cuts NumPy's float64, but not JAX's own."""
    own = isinstance(array, jax.Array)
    dtype = array.dtype if own else jax.dtypes.canonicalize_dtype(array.dtype)
    return jax.ShapeDtypeStruct(array.shape, dtype)


def _argument(shape: jax.ShapeDtypeStruct) -> Any:
    """The shape; zeros for float64, whose shape alone JAX would take for float32."""
    if shape.dtype != np.float64:
        return shape
    with jax.enable_x64(True):
        return jnp.zeros(shape.shape, shape.dtype)


def claim_programs(folder: Path, programs: Programs, name: str = "program.json") -> None:
    """Write digests of the programs into a folder, or compare with those that are there.

    A lowered program holds all operations and constants, so it tells a changed loss, and a learning
    rate or an array that a function closes over. Other versions of JAX lower the same function
    differently: there is nothing to compare then.

    Raises:
        ValueError: If a program has changed; the folder is left as it is.

    Warns:
        RuntimeWarning: If the versions, or the kind of device, have changed.
    """
    digests = {key: _digest(lower().as_text()) for key, lower in programs.items()}
    path, now = folder / name, versions()
    if not path.exists():
        write_json(path, {"versions": now, "programs": digests})
    found = read_json(path)
    before, kept = found.get("versions") or {}, found.get("programs") or {}
    changed = [f"{k} {before.get(k)}, now {v}" for k, v in now.items() if before.get(k) != v]
    if changed:
        warnings.warn(
            f"the run in {folder} began with {'; '.join(changed)}: its last bits may change, and "
            "whether its functions are the same is not known",
            RuntimeWarning,
            stacklevel=5,
        )
        return
    for key, digest in digests.items():
        if kept.get(key) != digest:
            raise ValueError(
                f"folder {folder} holds a run of another program: its {key}, or a value that they "
                "close over, has changed; name another folder, move that one away to start again, "
                f"or delete {path} if the numbers do not depend on the change"
            )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
