"""Products in full precision; decompositions and roots with finite derivatives."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int


def dot(a: Float[Array, "... i"], b: Float[Array, "i ..."]) -> Array:
    """The product ab of vectors or matrices, in full precision and without naming a result type.

    ``a @ b`` requests a float64 result by name. A ``vmap`` or ``grad`` around the traced operation
    repeats that request outside ``in_float64``, where it would be truncated to float32.
    """
    return lax.dot(a, b, precision="highest")


def matmul(a: Float[Array, "*stack i j"], b: Float[Array, "*stack j k"]) -> Array:
    """``dot`` for two stacks of matrices."""
    stack = tuple(range(a.ndim - 2))
    numbers = ((a.ndim - 1,), (b.ndim - 2,)), (stack, stack)
    return lax.dot_general(a, b, numbers, precision="highest")


def gram(a: Float[Array, "*stack n d"], b: Float[Array, "*stack n d"] | None = None) -> Array:
    """``aᵀb`` (*stack, d, d) where that is symmetric: b is a (None), or its rows times weights.

    On a CPU from the blocks on and above the diagonal alone.
    """
    given = (a,) if b is None else (a, b)
    return lax.platform_dependent(*given, cpu=_gram_by_blocks, default=_whole_gram)


def _whole_gram(a: Array, *others: Array) -> Array:
    return matmul(jnp.swapaxes(a, -1, -2), (a, *others)[-1])


def _gram_by_blocks(*given: Array) -> Array:
    """The same, in up to 4 × 4 blocks of 128 columns or more: smaller products are no faster."""
    count = min(4, max(1, round(given[0].shape[-1] / 128)))
    if count == 1:
        return _whole_gram(*given)
    # Columns are laid out once, or each product would do it.
    parts = [lax.optimization_barrier(jnp.array_split(rows, count, axis=-1)) for rows in given]
    left, right = parts[0], parts[-1]
    blocks = [[_whole_gram(a, b) for b in right[i:]] for i, a in enumerate(left)]
    below = [[jnp.swapaxes(blocks[j][i - j], -1, -2) for j in range(i)] for i in range(count)]
    rows = [jnp.concatenate(below[i] + blocks[i], -1) for i in range(count)]
    return jnp.concatenate(rows, -2)


def diagonal(a: Float[Array, "*stack d d"]) -> Float[Array, "*stack d"]:
    """The diagonal. That of ``jnp`` has a derivative, a scatter, which fails in float32."""
    eye = np.eye(a.shape[-1], dtype=bool).reshape(*[1] * (a.ndim - 2), *a.shape[-2:])
    return jnp.where(eye, a, 0).sum(-1)


def entry(a: Float[Array, "d"], index: Int[Array, ""]) -> Float[Array, ""]:
    """``a[index]`` for a traced index, with a derivative as ``diagonal`` has it."""
    return jnp.where(jnp.arange(len(a)) == index, a, 0).sum()


def largest(a: Float[Array, "*stack d"]) -> Float[Array, "*stack"]:
    """The maximum over the last axis, with a derivative as ``diagonal`` has it; NaN for NaN."""
    there = a == lax.stop_gradient(a).max(-1, keepdims=True)
    return jnp.where(there, a, 0).sum(-1) / there.astype(a.dtype).sum(-1)


def at_least(a: Float[Array, "..."], low: float | Array) -> Float[Array, "..."]:
    """The larger of the two, with a derivative as ``diagonal`` has it; NaN for NaN."""
    return jnp.where(a < low, low, a)


def at_most(a: Float[Array, "..."], high: float | Array) -> Float[Array, "..."]:
    """The smaller of the two, see ``at_least``."""
    return jnp.where(a > high, high, a)


def root(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """√a, with the derivative 0 at 0 in the place of infinity, which makes NaN of what it meets."""
    zero = a == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, a)))


def norm(a: Float[Array, "..."]) -> Float[Array, ""]:
    """‖a‖ (Frobenius), with the derivative 0 at 0, see ``root``."""
    return root((a**2).sum())


def rank_tolerance(size: int) -> float:
    """max(64, size)·2⁻⁵², the relative size below which an eigenvalue is rounding error.

    It is relative to the largest eigenvalue of a float64 matrix with ``size`` rows. The floor of 64
    leaves room for the rounding of the sums in a small matrix.
    """
    return max(64, size) * 2.0**-52


@jax.custom_batching.sequential_vmap
@in_float64
def is_positive_definite(a: Float[Array, "d d"]) -> Bool[Array, ""]:
    """Whether a symmetric matrix has a Cholesky factor; a loop under ``vmap``, see ``eigh``."""
    return jnp.isfinite(jnp.linalg.cholesky(a)).all()


def _decomposed(a: Float[Array, "d d"]) -> tuple[Float[Array, "d"], Float[Array, "d d"]]:
    """Eigenvalues, ascending, and eigenvectors (columns) of a symmetric matrix.

    ``vmap`` turns it into a loop. On a CPU, jaxlib (0.10) spreads a batched call over XLA's thread
    pool and waits for it in a thread of the same pool: as many simultaneous calls as there are
    cores wait forever.

    A TPU takes the Jacobi method at any size. What JAX takes there from 257 rows on is expanded
    when the program around it is compiled, outside of ``in_float64``, and fails in float32.

    Derivatives: an eigenvector turns towards the others by vᵢᵀdAvⱼ/(λⱼ − λᵢ), and not at all
    towards those of an equal eigenvalue, among which any basis will do. So the first derivatives of
    symmetric functions of the eigenvalues, and of projections, are right, since they do not depend
    on that basis. Second ones are NaN for eigenvalues that are equal and not 0.
    """
    return _looped_eigh(a)


@jax.custom_batching.sequential_vmap  # cannot be differentiated: only the rule around it can
@in_float64
def _looped_eigh(a: Array) -> tuple[Array, Array]:
    values, vectors = lax.platform_dependent(a, tpu=_eigh_by_jacobi, default=_eigh)
    return values, vectors


def _eigh(a: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(a)
    return values, vectors


def _eigh_by_jacobi(a: Array) -> tuple[Array, Array]:
    vectors, values = lax.linalg.eigh(a, implementation=lax.linalg.EighImplementation.JACOBI)
    return values, vectors


eigh = jax.custom_jvp(_decomposed)
eigh_in_rule = jax.custom_jvp(_decomposed)  # for rules: what derivatives of derivatives see


def _eigh_rule(at_equal: float, primals: Any, tangents: Any) -> tuple[Any, Any]:
    (a,), (change,) = primals, tangents
    values, vectors = eigh_in_rule(a)
    change = dot(vectors.T, dot((change + change.T) / 2, vectors))
    gaps, size = values[None] - values[:, None], abs(lax.stop_gradient(values))
    rounding = rank_tolerance(len(values)) * size.max()
    equal = abs(gaps) <= rounding
    nothing = jnp.where(jnp.maximum(size[:, None], size[None]) <= rounding, 0.0, at_equal)
    nothing = jnp.where(jnp.eye(len(values), dtype=bool), 0.0, nothing)
    turn = jnp.where(equal, nothing, change / jnp.where(equal, 1.0, gaps))
    return (values, vectors), (diagonal(change), dot(vectors, turn))


eigh.defjvp(in_float64(functools.partial(_eigh_rule, 0.0)))
eigh_in_rule.defjvp(in_float64(functools.partial(_eigh_rule, np.nan)))


@jax.custom_jvp
def inverse_root(
    a: Float[Array, "d d"],
    eigenvalues: Float[Array, "d"],
    eigenvectors: Float[Array, "d d"],
    ridge: float | Float[Array, ""] = 0.0,
) -> Float[Array, "d d"]:
    """F with FFᵀ = (A + ρI)⁺, from A's eigenvalues, 0 where a direction is absent, and vectors.

    Its derivative is −½FFᵀ(dA + dρI)F: no eigenvector's. So FFᵀ has −FFᵀ(dA + dρI)FFᵀ, that of the
    inverse at a fixed rank, however close the eigenvalues are, and to any order.
    """
    there = eigenvalues > 0
    roots = jnp.where(there, lax.rsqrt(jnp.where(there, eigenvalues + ridge, 1)), 0)
    return eigenvectors * roots[None]


@inverse_root.defjvp
@in_float64
def _inverse_root_rule(primals: Any, tangents: Any) -> tuple[Array, Array]:
    change, of_ridge = tangents[0], tangents[3]
    factor = inverse_root(*primals)
    change = dot((change + change.T) / 2, factor) + of_ridge * factor
    return factor, -dot(factor, dot(factor.T, change)) / 2
