"""The weight Gram, what a linear map sees of its input, and steps that change nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gramlin_jax.metrics.rotation import (
    newton_schulz,
    positive,
    rounding,
    turned,
    turned_in_basis,
)
from gramlin_jax.support.checks import check_array
from gramlin_jax.support.precision import dot, in_float64, widened

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@in_float64
def weight_gram(kernel: Float[Array, "i o"]) -> Float[Array, "i i"]:
    """The weight Gram KKᵀ = WᵀW of z = xK + b (i inputs, o outputs).

    Symmetric, positive semi-definite, of rank ≤ min(i, o), and blind to rotations of the outputs:
    K and KQ share it for every orthogonal Q. Of the kernel's own type.

    Args:
        kernel: K (i, o), as in Flax; reshape a convolution's to (height·width·in, out) first.

    Raises:
        ValueError: If ``kernel`` is not a matrix or (outside of transformations) not finite.
        TypeError: If it is not of floating point.

    Source: arXiv 2605.06258, section 3.
    """
    kernel = whole(check_array("kernel", kernel, ("i", "o")))
    return dot(kernel, kernel.T)


@in_float64
def polar_factor(
    a: Float[Array, "m n"],
    *,
    method: Literal["newton_schulz", "svd"] = "newton_schulz",
    tolerance: float | None = None,
) -> Float[Array, "m n"]:
    """The polar factor R = UVᵀ of a = UΣVᵀ: the nearest matrix with orthonormal columns (or rows).

    Unique where a has full rank. Elsewhere both methods are exact in the directions of a's
    singular values above its rounding error; in the others ``"svd"`` takes some orthonormal ones,
    while the singular values of ``"newton_schulz"`` lie between 0 (for rows or columns of zeros)
    and 1. NaN gives NaN. Of a's own type. Derivatives: Newton–Schulz, in forward mode only.

    Args:
        a: Any matrix (m, n).
        method: ``"newton_schulz"`` needs nothing but matrix products, two for each of 5 (condition
            number 2) to 20 (10⁶) steps. ``"svd"`` is LAPACK's, and a loop under ``vmap``.
        tolerance: Newton–Schulz ends when ‖RᵀR − I‖ (RRᵀ if m < n; Frobenius) is below it, but
            for rounding. Two rounding errors if not given; less is not tried for.

    Raises:
        ValueError: If ``a`` is not a matrix, has no element or (outside of transformations) is not
            finite, ``method`` is unknown or ``tolerance`` is not positive.
        TypeError: If ``a`` is not of floating point.

    Source: Chen and Chow, A stable scaling of Newton–Schulz (2014), for the scaled cubic.
    """
    a = _filled("a", a, ("m", "n"))
    if method not in ("newton_schulz", "svd"):
        raise ValueError(f"method is {method!r}: wanted 'newton_schulz' or 'svd'")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}: wanted a positive number")
    x = widened(a)
    if method == "svd":
        return _polar_by_svd(x).astype(a.dtype)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    r = newton_schulz(x / positive(abs(x).max()), max(tolerance or 0, 2 * rounding(x)))
    return (r.T if tall else r).astype(a.dtype)


@in_float64
def gram_only_step(before: Float[Array, "i o"], after: Float[Array, "i o"]) -> Float[Array, "i o"]:
    """The kernel with ``after``'s Gram that is nearest to ``before``: a step, without its rotation.

    K' = K₂Qᵀ with Q the polar factor of K₁ᵀK₂ (orthogonal Procrustes): K'K'ᵀ = K₂K₂ᵀ to rounding,
    and ‖K' − K₁‖ ≤ ‖K₂ − K₁‖. A step K₂ = K₁R by a rotation R is undone. Of ``after``'s type.

    K₁ᵀK₂ has the kernels' condition number squared, but for a step it is nearly symmetric and
    positive. So Q is sought for K₁ᵀK₂ + sI with s = 128 rounding errors of ‖K₁ᵀK₂‖, which ends
    soon and is orthogonal whatever the ranks. K' then minimises ‖K' − K₁‖² + s‖Q − I‖²: what is so
    small in both kernels that rounding hides its rotation keeps still. On a fresh 256×256 kernel in
    float32 this adds 10⁻⁴ to the distance, relatively, and leaves 10⁻³ of a pure rotation; rounding
    moves K' by 10⁻⁶‖K₁‖.

    Where no kernel is found that is nearer than ``after`` (a step of zero, kernels of zeros, NaN,
    overflow), the result is ``after`` itself. Derivatives: in forward mode only.

    Args:
        before: K₁ (i, o), the kernel before the step.
        after: K₂ (i, o), after it.

    Raises:
        ValueError: If they are not matrices of one shape, have no element or (outside of
            transformations) are not finite.
        TypeError: If they are not of floating point.

    Source: arXiv 2605.06258, section 3.

    Example::

        update = gram_only_step(kernel, kernel - learning_rate * gradient) - kernel
    """
    before = _filled("before", before, ("i", "o"))
    after = _filled("after", after, ("i", "o"))
    if before.shape != after.shape:
        raise ValueError(f"after has shape {after.shape}: wanted {before.shape}, that of before")
    k1, k2 = widened(before), widened(after)
    return _nearer(k1, k2, turned(k1, k2)).astype(after.dtype)


@in_float64
def gram_only_step_in_basis(
    before: Float[Array, "i o"], after: Float[Array, "i o"], basis: Float[Array, "o o"]
) -> tuple[Float[Array, "i o"], Float[Array, "o o"]]:
    """The same step, two to four times as fast in a training run, and the basis for its next one.

    For one kernel that is not wide (``rotation.is_wide``), step after step, without checks; see
    ``rotation.turned_in_basis``.

    Args:
        before: K₁ (i, o), the kernel before the step.
        after: K₂ (i, o), after it.
        basis: That of the step before, (o, o); at the start ``rotation.first_basis(before)``.
    """
    k1, k2 = widened(before), widened(after)
    turn, basis = turned_in_basis(k1, k2, basis)
    return _nearer(k1, k2, turn).astype(after.dtype), basis


def _nearer(k1: Array, k2: Array, turn: Array) -> Array:
    """K₂ + turn, or K₂ where that is not nearer to K₁."""
    return jnp.where(jnp.sum(turn * (2 * (k2 - k1) + turn)) < 0, k2 + turn, k2)


@jax.custom_batching.sequential_vmap
@in_float64
def _polar_by_svd(a: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """UVᵀ. A loop under ``vmap``, for the reason given at ``precision.eigh``."""
    u, _, vt = jnp.linalg.svd(a, full_matrices=False)
    return dot(u, vt)


def whole(a: Array) -> Array:
    """``a`` on every device of a mesh with explicit axes, where products would have to name theirs.

    On other meshes, where the compiler chooses, and without one it is left as it is.
    """
    sharding = jax.typeof(a).sharding
    explicit = AxisType.Explicit in sharding.mesh.axis_types
    if not explicit or all(axis is None for axis in sharding.spec):
        return a
    return jax.sharding.reshard(a, NamedSharding(sharding.mesh, PartitionSpec()))


def _filled(name: str, value: Array, axes: tuple[str, ...]) -> Array:
    array = whole(check_array(name, value, axes))
    if not array.size:
        raise ValueError(f"{name} has shape {array.shape}: wanted at least one row and one column")
    return array
