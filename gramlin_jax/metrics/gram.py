"""The weight Gram KKᵀ, and steps that change nothing else of a kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gramlin_jax.metrics.rotation import (
    newton_schulz,
    positive,
    rounding,
    shifted_product,
    turned,
    turned_in_basis,
)
from gramlin_jax.support.checks import check_array, check_known, check_positive
from gramlin_jax.support.linalg import dot, eigh_in_rule
from gramlin_jax.support.precision import in_float64, magnitude, widened

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@in_float64
def weight_gram(kernel: Float[Array, "i o"]) -> Float[Array, "i i"]:
    """The weight Gram KKᵀ = WᵀW of z = xK + b (i inputs, o outputs).

    Symmetric, positive semi-definite and of rank ≤ min(i, o). It is invariant under rotations of
    the outputs: K and KQ have the same Gram for every orthogonal Q.

    Args:
        kernel: K (i, o), as in Flax; reshape a convolution's to (height·width·in, out) first.

    Returns:
        (i, i), in the kernel's type.

    Raises:
        ValueError: If ``kernel`` is not a matrix or (outside transformations) not finite.
        TypeError: If it is not floating point.

    Source: arXiv 2605.06258, section 3.

    Example:
        >>> weight_gram(jnp.array([[1.0, 2], [0, 3]])).tolist()
        [[5.0, 6.0], [6.0, 9.0]]
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

    Unique if a has full rank. Otherwise both methods are exact in the directions of the singular
    values above rounding. In the other directions ``"svd"`` returns arbitrary orthonormal vectors;
    with ``"newton_schulz"`` the singular values there lie between 0 (for rows or columns of zeros)
    and 1. Derivatives are those of the exact factor, in float64, at a fixed rank; second ones NaN
    for equal singular values other than 0.

    Args:
        a: Any matrix (m, n).
        method: ``"newton_schulz"`` uses matrix products only, two in each of 5 (condition number 2)
            to 20 (10⁶) steps. ``"svd"`` is LAPACK's, and a loop under ``vmap``.
        tolerance: Newton–Schulz ends when ‖RᵀR − I‖ (RRᵀ if m < n; Frobenius) is below it, up to
            rounding. None, or less than two machine epsilons: two.

    Returns:
        (m, n), in the type of ``a``; NaN gives NaN.

    Raises:
        ValueError: If ``a`` is not a matrix, is empty or (outside transformations) is not finite,
            ``method`` is unknown or ``tolerance`` is not positive.
        TypeError: If ``a`` is not floating point.

    Source: Chen and Chow, A stable scaling of Newton–Schulz (2014), for the scaled cubic.

    Example:
        >>> polar_factor(jnp.array([[0.0, 3], [-2, 0]])).round(6).tolist()
        [[0.0, 1.0], [-1.0, 0.0]]
    """
    a = _filled("a", a, ("m", "n"))
    if method not in ("newton_schulz", "svd"):
        raise ValueError(f"method is {method!r}: wanted 'newton_schulz' or 'svd'")
    if tolerance is not None:
        check_positive("tolerance", tolerance)
        tolerance = check_known("tolerance", tolerance)
    x = _near_one(widened(a))
    if method == "svd":
        return _polar(x, _polar_by_svd).astype(a.dtype)
    enough = max(tolerance or 0, 2 * rounding(x))
    return _polar(x, functools.partial(_polar_by_newton_schulz, tolerance=enough)).astype(a.dtype)


def _polar_by_newton_schulz(a: Array, tolerance: float) -> Array:
    wide = a if a.shape[0] <= a.shape[1] else a.T
    factor = newton_schulz(wide / positive(abs(wide).max()), tolerance)
    return factor if factor.shape == a.shape else factor.T


@in_float64
def gram_only_step(before: Float[Array, "i o"], after: Float[Array, "i o"]) -> Float[Array, "i o"]:
    """A step without its rotation: the kernel nearest to ``before`` that has the Gram of ``after``.

    K' = K₂Qᵀ with Q the polar factor of K₁ᵀK₂ (orthogonal Procrustes): K'K'ᵀ = K₂K₂ᵀ to rounding,
    and ‖K' − K₁‖ ≤ ‖K₂ − K₁‖. A pure rotation K₂ = K₁R is undone.

    K₁ᵀK₂ has the squared condition number of the kernels, but for a small step it is nearly
    symmetric and positive. So Q is computed for K₁ᵀK₂ + sI, with s = 128 machine epsilons times
    ‖K₁ᵀK₂‖: the iteration is short, and Q is orthogonal whatever the ranks. K' then minimises
    ‖K' − K₁‖² + s‖Q − I‖², so directions that are too small in both kernels for their rotation to
    be known are not rotated. For a fresh 256×256 kernel in float32 this increases the distance by a
    relative 10⁻⁴ and leaves 10⁻³ of a pure rotation; rounding moves K' by 10⁻⁶‖K₁‖.

    If no kernel nearer than ``after`` is found (a step of zero, kernels of zeros, NaN),
    the result is ``after`` itself. Derivatives are those of the exact K₂Qᵀ, in float64.

    Args:
        before: K₁ (i, o), the kernel before the step.
        after: K₂ (i, o), the kernel after the step.

    Returns:
        K' (i, o), in the type of ``after``.

    Raises:
        ValueError: If the arguments are not matrices of one shape, are empty or (outside
            transformations) are not finite.
        TypeError: If they are not floating point.

    Source: arXiv 2605.06258, section 3.

    Example:
        >>> turn = jnp.array([[0.8, 0.6], [-0.6, 0.8]])
        >>> bool(jnp.allclose(gram_only_step(jnp.eye(2), 2 * turn), 2 * jnp.eye(2), atol=1e-3))
        True
    """
    before = _filled("before", before, ("i", "o"))
    after = _filled("after", after, ("i", "o"))
    if before.shape != after.shape:
        raise ValueError(f"after has shape {after.shape}: wanted {before.shape}, as before")
    k1, k2 = widened(before), widened(after)
    return _step(k1, k2).astype(after.dtype)


@jax.custom_jvp
def _step(k1: Float[Array, "i o"], k2: Float[Array, "i o"]) -> Float[Array, "i o"]:
    scales = magnitude(k1), magnitude(k2)
    return _nearer(k1, k2, turned(k1 / scales[0], k2 / scales[1]), scales)


@_step.defjvp
@in_float64
def _step_rule(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """The derivative of K₂Qᵀ, by the polar factor's."""
    found, eps = _step(*primals), rounding(primals[0])

    def exact(k1: Array, k2: Array) -> Array:
        product = shifted_product(k1 / magnitude(k1), k2 / magnitude(k2), eps)
        return dot(k2, _polar(product, _polar_by_svd).T)

    primals, tangents = jax.tree.map(lambda a: a.astype(jnp.float64), (primals, tangents))
    return found, jax.jvp(exact, primals, tangents)[1].astype(found.dtype)


@in_float64
def gram_only_step_in_basis(
    before: Float[Array, "i o"], after: Float[Array, "i o"], basis: Float[Array, "o o"]
) -> tuple[Float[Array, "i o"], Float[Array, "o o"]]:
    """``gram_only_step`` with a warm start, two to four times as fast, and the next step's basis.

    For the successive steps of one kernel that is not wide (``rotation.is_wide``), without checks;
    see ``rotation.turned_in_basis``.

    Args:
        before: K₁ (i, o), the kernel before the step.
        after: K₂ (i, o), the kernel after the step.
        basis: (o, o), returned by the previous step; initially ``rotation.first_basis(before)``.
    """
    k1, k2 = widened(before), widened(after)
    scales = magnitude(k1), magnitude(k2)
    turn, basis = turned_in_basis(k1 / scales[0], k2 / scales[1], basis)
    return _nearer(k1, k2, turn, scales).astype(after.dtype), basis


def _nearer(k1: Array, k2: Array, turn: Array, scales: tuple[Array, Array]) -> Array:
    """K₂ + turn, or K₂ if that is nearer to K₁; the turn is that of K₂ divided by its scale."""
    scale = jnp.maximum(*scales)
    relative = turn * (scales[1] / scale)
    away = k2 / scale - k1 / scale
    return jnp.where(jnp.sum(relative * (2 * away + relative)) < 0, k2 + turn * scales[1], k2)


def _near_one(a: Array) -> Array:
    """``a`` divided by a power of two near its largest entry.

    Entries below the smallest normal number are taken from their bits: XLA counts them as 0.
    """
    info = jnp.finfo(a.dtype)
    bits = jax.lax.bitcast_convert_type(a, jnp.int32 if info.bits == 32 else jnp.int64)
    fraction = (bits & (2**info.nmant - 1)).astype(a.dtype) * 2.0 ** (info.minexp - info.nmant + 60)
    subnormal = (bits & (2 ** (info.bits - 1) - 1)) < 2**info.nmant
    lifted = jnp.where(subnormal, jnp.where(bits < 0, -fraction, fraction), a * 2.0**60)
    a = jnp.where(abs(jax.lax.stop_gradient(a)).max() < 2.0**-60, lifted, a)
    return a / magnitude(a)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _polar(a: Float[Array, "m n"], method: Callable[[Array], Array]) -> Float[Array, "m n"]:
    """UVᵀ by a method that need not be differentiable."""
    return method(a)


@_polar.defjvp
@in_float64
def _polar_rule(method: Callable[[Array], Array], primals: Any, tangents: Any) -> tuple[Any, Any]:
    """For A = RH, dR = RΩ + (I − RRᵀ)dA H⁺, with ΩH + HΩ = RᵀdA − dAᵀR solved in H's eigenvectors.

    It stays finite for equal singular values. Those that are rounding are left out.
    """
    factor = _polar(primals[0], method)
    tall = factor.shape[0] >= factor.shape[1]
    a, change, r = (x if tall else x.T for x in (primals[0], tangents[0], factor))
    least = max(a.shape) * rounding(a)
    a, change, r = (x.astype(jnp.float64) for x in (a, change, r))
    h = dot(r.T, a)
    values, vectors = eigh_in_rule((h + h.T) / 2)
    least = least * values[-1]
    both, turned = values[:, None] + values[None], dot(r.T, change)
    omega = dot(vectors.T, dot(turned - turned.T, vectors))
    omega = jnp.where(both > least, omega / jnp.where(both > least, both, 1), 0)
    inverse = jnp.where(values > least, 1 / jnp.where(values > least, values, 1), 0)
    inverse = dot(vectors * inverse[None], vectors.T)
    outside = change - dot(r, turned)
    moved = dot(r, dot(vectors, dot(omega, vectors.T))) + dot(outside, inverse)
    return factor, (moved if tall else moved.T).astype(factor.dtype)


@jax.custom_batching.sequential_vmap
@in_float64
def _polar_by_svd(a: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """UVᵀ. A loop under ``vmap``, and another method on a TPU, for the reasons of ``eigh``."""
    return jax.lax.platform_dependent(a, tpu=_polar_by_halley, default=_product_of_svd)


def _product_of_svd(a: Array) -> Array:
    u, _, vt = jnp.linalg.svd(a, full_matrices=False)
    return dot(u, vt)


def _polar_by_halley(a: Array) -> Array:
    """UVᵀ by Halley's iteration, which the program itself holds."""
    tall = a if a.shape[0] >= a.shape[1] else a.T
    factor = jax.lax.linalg.qdwh(tall)[0]
    return factor if factor.shape == a.shape else factor.T


def whole(a: Array) -> Array:
    """``a`` replicated over a mesh with explicit axes, where products must state their sharding.

    Other meshes, where the compiler chooses the sharding, leave it unchanged.
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
