"""Which of the watched batches the sums of a probe are of: all, the last ones, or fading ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from gramlin_jax._measure.packing import Packed, pack, unpack
from gramlin_jax._moments.additive import Additive, add
from gramlin_jax.support.checks import check_count, check_finite_number
from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


def check_memory(window: int | None, decay: float | None) -> None:
    """Raise ``ValueError`` if a window or a decay is out of range, or there are both."""
    if window is not None:
        check_count("window", window)
    if decay is not None and not 0 < check_finite_number("decay", decay) < 1:
        raise ValueError(f"decay is {decay}: wanted a number between 0 and 1")
    if window is not None and decay is not None:
        raise ValueError(f"window is {window} and decay {decay}: wanted one of them")


@in_float64
def start(shapes: PyTree, window: int | None) -> Packed:
    """The sums of no batch; with a window each array has a first axis (window,)."""
    stack = () if window is None else (window,)
    packed = jax.eval_shape(pack, shapes)
    return jax.tree.map(lambda s: jnp.zeros((*stack, *s.shape), s.dtype), packed)


@in_float64
def remember(
    kept: Packed, sums: PyTree, watched: Array, window: int | None, decay: float | None
) -> Packed:
    """The sums with those of one more batch, of which ``watched`` came before."""
    if window is not None:
        at = watched % window
        return jax.tree.map(
            lambda a, b: lax.dynamic_update_index_in_dim(a, b, at, 0), kept, pack(sums)
        )
    before = unpack(kept, sums)
    return pack(add(before if decay is None else _map(lambda a: _scaled(a, decay), before), sums))


@in_float64
def merged(
    kept: Packed, shapes: PyTree, window: int | None, decay: float | None = None, watched: int = 0
) -> PyTree:
    """The sums over all batches that are kept, of which each has these ``shapes``.

    Fading ones are scaled to as many equal samples as say as much, (Σw)²/Σw² of batches of one
    size: noise reaches p/n of these, and more than that of Σw.
    """
    sums = unpack(kept, shapes)
    if decay is not None:
        return _map(lambda a: _scaled(a, (1 + decay) / (1 + decay**watched)), sums)
    return sums if window is None else _map(lambda a: a.sum(0), sums)


def _scaled(sums: Any, factor: float) -> Any:
    return sums.scaled(factor) if isinstance(sums, Additive) else factor * sums


def _map(function: Any, sums: PyTree) -> PyTree:
    return jax.tree.map(function, sums, is_leaf=lambda leaf: isinstance(leaf, Additive))
