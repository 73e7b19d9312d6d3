"""NumPy arrays as JAX arrays: an error where JAX's types do not hold their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import PyTree

# Rounding may change a column by this share of its standard deviation: float32 does so where the
# mean is 30 000 standard deviations away.
_SHARE = 1e-3

_BLOCK = 2**20


def as_jax(name: str, tree: PyTree) -> PyTree:
    """The arrays of a tree as JAX arrays, which are of 32 bits unless ``jax_enable_x64`` is set.

    Raises:
        ValueError: If that would change an integer, or more than round a number.
        TypeError: If it holds text, dates or objects.
    """

    def convert(path: Any, leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            array = np.asarray(leaf)
            if array.dtype.kind in "OSUMm":
                kind = f"{name}{jax.tree_util.keystr(path)} has dtype {array.dtype}"
                raise TypeError(f"{kind}: wanted numbers")
            dtype = jax.dtypes.canonicalize_dtype(array.dtype)
            check_held(f"{name}{jax.tree_util.keystr(path)}", array, dtype)
        return jnp.asarray(leaf)

    return jax.tree_util.tree_map_with_path(convert, tree)


def check_held(name: str, array: np.ndarray, dtype: Any) -> None:
    """Raise ``ValueError`` if a type does not hold the values of an array (n, ...).

    Integers have to be exact. Numbers may be rounded, but not overflow, and no column may lose its
    differences, as 1e8 + y does in float32.
    """
    if array.dtype == dtype or array.dtype.kind not in "iuf" or not array.size:
        return
    if array.dtype.kind == "f":
        _check_rounded(name, array, dtype)
        return
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        wrong = (array < limits.min) | (array > limits.max)
    else:
        wrong = array != array.astype(dtype).astype(np.longdouble)
    if wrong.any():
        raise ValueError(
            f"{name} has the value {array[wrong][0]}: wanted integers that {dtype} holds; scale "
            "or renumber them, or set jax_enable_x64"
        )


def _check_rounded(name: str, array: np.ndarray, dtype: Any) -> None:
    columns = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    width = max(1, _BLOCK // len(columns))
    for start in range(0, columns.shape[1], width):
        block = columns[:, start : start + width].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = block.astype(dtype).astype(np.float64)
            lost, spread = (block - rounded).std(0), block.std(0)
        over = np.isfinite(block) & ~np.isfinite(rounded)
        if over.any():
            raise ValueError(
                f"{name} has the value {block[over][0]}: wanted numbers that {dtype} holds; scale "
                "them, or set jax_enable_x64"
            )
        # Below a few roundings of float64 a column is constant, and has nothing to lose.
        constant = 64 * np.finfo(np.float64).eps * np.abs(block).max(0)
        cut = np.flatnonzero(lost > _SHARE * spread + constant)
        if cut.size:
            raise ValueError(
                f"{name} has a column of mean {block[:, cut[0]].mean():.4g} and standard deviation "
                f"{spread[cut[0]]:.4g}: wanted differences that {dtype} holds; centre or scale "
                "it, or set jax_enable_x64"
            )
