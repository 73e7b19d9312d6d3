"""Which of the watched batches the sums of a probe are of: all, the last ones, or fading ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from gramlin_jax._moments.additive import Additive, add, zeros_like
from gramlin_jax.support.checks import check_at_least
from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


def check_memory(window: int | None, decay: float | None) -> None:
    """Raise ``ValueError`` if a window or a decay is out of range, or there are both."""
    if window is not None:
        check_at_least("window", window, 1)
    if decay is not None and not 0 < decay < 1:
        raise ValueError(f"decay is {decay}: wanted a number between 0 and 1")
    if window is not None and decay is not None:
        raise ValueError(f"window is {window} and decay {decay}: wanted one of them")


@in_float64
def start(shapes: PyTree, window: int | None) -> PyTree:
    """The sums of no batch; with a window each has a first axis (window,)."""
    if window is None:
        return zeros_like(shapes)
    return jax.tree.map(lambda s: jnp.zeros((window, *s.shape), s.dtype), shapes)


@in_float64
def remember(
    kept: PyTree, sums: PyTree, watched: Array, window: int | None, decay: float | None
) -> PyTree:
    """The sums with those of one more batch, of which ``watched`` came before."""
    if window is not None:
        at = watched % window
        return jax.tree.map(lambda a, b: lax.dynamic_update_index_in_dim(a, b, at, 0), kept, sums)
    return add(kept if decay is None else _map(lambda a: _scaled(a, decay), kept), sums)


@in_float64
def merged(kept: PyTree, window: int | None) -> PyTree:
    """The sums over all batches that are kept."""
    return kept if window is None else _map(lambda a: a.sum(0), kept)


def _scaled(sums: Any, factor: float) -> Any:
    return sums.scaled(factor) if isinstance(sums, Additive) else factor * sums


def _map(function: Any, sums: PyTree) -> PyTree:
    return jax.tree.map(function, sums, is_leaf=lambda leaf: isinstance(leaf, Additive))
