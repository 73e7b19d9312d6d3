"""Float64 and full-precision matmuls for one function, whatever the global flags say."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from jaxtyping import Array, Float

P = ParamSpec("P")
R = TypeVar("R")


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` with 64-bit types enabled and matmul precision ``"highest"``.

    Works inside ``jit``, ``vmap`` and ``scan``, and leaves the rest of the program as it was.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = jax.tree.map(_settled, (args, kwargs))
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return wrapped


def _settled(value: Any) -> Any:
    """``value`` as the caller's type rules see it.

    Where ``vmap`` is handed a NumPy array of float64, the tracer says float32 and holds float64,
    and the two would meet in compiled code. A copy makes them agree; under ``jit`` it is nothing.
    """
    return jnp.array(value, copy=True) if isinstance(value, jax.core.Tracer) else value


def dot(a: Float[Array, "... i"], b: Float[Array, "i ..."]) -> Array:
    """Product ab of vectors or matrices, in full precision, that does not name its type.

    ``a @ b`` asks for a float64 result by name, and a ``vmap`` or ``grad`` around the traced
    operation repeats that request outside of ``in_float64``, where it would be cut to float32.
    """
    return lax.dot(a, b, precision="highest")


def matmul(a: Float[Array, "*stack i j"], b: Float[Array, "*stack j k"]) -> Array:
    """Products of two stacks of matrices, in full precision, that do not name their type."""
    stack = tuple(range(a.ndim - 2))
    numbers = ((a.ndim - 1,), (b.ndim - 2,)), (stack, stack)
    return lax.dot_general(a, b, numbers, precision="highest")


def widened(array: Array) -> Array:
    """``array`` in float32 at least."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def rank_tolerance(size: int) -> float:
    """max(64, size)·2⁻⁵²: the share of the largest eigenvalue below which there is rounding.

    Of a matrix of ``size`` rows in float64.
    """
    return max(64, size) * 2.0**-52


@jax.custom_batching.sequential_vmap
@in_float64
def eigh(a: Float[Array, "d d"]) -> tuple[Float[Array, "d"], Float[Array, "d d"]]:
    """Eigenvalues, ascending, and eigenvectors (columns) of a symmetric matrix.

    A ``vmap`` over it becomes a loop. On a CPU, jaxlib (0.10) spreads the matrices of a batched
    call over XLA's thread pool and waits for them in a thread of that pool: as many such calls at
    once as there are cores wait for ever.
    """
    values, vectors = jnp.linalg.eigh(a)
    return values, vectors
