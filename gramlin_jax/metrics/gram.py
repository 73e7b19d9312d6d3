"""The weight Gram, what a linear map sees of its input, and steps that change nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax.checks import check_array
from gramlin_jax.precision import dot, in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, Float

SHIFT = 128  # rounding errors of K₁ᵀK₂: a rotation is not sought among directions below them
WIDE = 1.5  # outputs per input from which on it is cheaper to work on the side of the inputs


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
    kernel = check_array("kernel", kernel, ("i", "o"))
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
    and 1. NaN gives NaN. Of a's own type.

    Args:
        a: Any matrix (m, n).
        method: ``"newton_schulz"`` needs nothing but matrix products, two for each of 5 (condition
            number 2) to 20 (10⁶) steps. ``"svd"`` is LAPACK's, and a loop under ``vmap``.
        tolerance: Newton–Schulz ends when ‖RᵀR − I‖ (RRᵀ if m < n; Frobenius) is below it, but
            for rounding. Two rounding errors if not given; less is not tried for.

    Raises:
        ValueError: If ``a`` is not a matrix or (outside of transformations) not finite, ``method``
            is unknown or ``tolerance`` is not positive.
        TypeError: If ``a`` is not of floating point.

    Source: Chen and Chow, A stable scaling of Newton–Schulz (2014), for the scaled cubic.
    """
    a = check_array("a", a, ("m", "n"))
    if method not in ("newton_schulz", "svd"):
        raise ValueError(f"method is {method!r}: wanted 'newton_schulz' or 'svd'")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}: wanted a positive number")
    x = _widened(a)
    if method == "svd":
        return _polar_by_svd(x).astype(a.dtype)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    r = _newton_schulz(x / _positive(abs(x).max()), max(tolerance or 0, 2 * _rounding(x)))
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
    overflow), the result is ``after`` itself.

    Args:
        before: K₁ (i, o), the kernel before the step.
        after: K₂ (i, o), after it.

    Raises:
        ValueError: If they are not matrices of one shape or (outside of transformations) not
            finite.
        TypeError: If they are not of floating point.

    Source: arXiv 2605.06258, section 3.

    Example::

        update = gram_only_step(kernel, kernel - learning_rate * gradient) - kernel
    """
    before = check_array("before", before, ("i", "o"))
    after = check_array("after", after, ("i", "o"))
    if before.shape != after.shape:
        raise ValueError(f"after has shape {after.shape}: wanted {before.shape}, that of before")
    k1, k2 = _widened(before), _widened(after)
    inputs, outputs = k1.shape
    step = k2 + (_turn if outputs < WIDE * inputs else _turn_wide)(k1, k2)
    nearer = jnp.linalg.norm(step - k1) < jnp.linalg.norm(k2 - k1)
    return jnp.where(nearer, step, k2).astype(after.dtype)


def _turn(k1: Array, k2: Array) -> Array:
    """K₂Qᵀ − K₂, or zeros where Q is not found."""
    tolerance = (2 * _rounding(k1)) ** 0.5
    product = dot(k1.T, k2)
    eye = jnp.eye(product.shape[0], dtype=product.dtype)
    product = product / _positive(jnp.linalg.norm(product))
    # The last Newton–Schulz step is taken on Q − I. That is small except for few directions, so
    # its rounding is too: in float32 the Gram is 20 times as exact as that of K₂Qᵀ.
    turn = _newton_schulz(product + SHIFT * _rounding(k1) * eye, tolerance) - eye
    error = turn + turn.T + dot(turn, turn.T)  # QQᵀ − I
    turn = turn - (error + dot(error, turn)) / 2
    return jnp.where(jnp.linalg.norm(error) < 3 * tolerance, dot(k2, turn.T), 0)


def _turn_wide(k1: Array, k2: Array) -> Array:
    """The same for many outputs, where Q = UᵀWV: of U, V (i, o), whose rows span K₁'s and K₂'s.

    W (i, i) is the polar factor of UK₁ᵀK₂Vᵀ. No matrix is (o, o).
    """
    rounding = _rounding(k1)
    # The shifts complete the rows where a kernel has not the rank: V's by any, U's by V's.
    v = jnp.eye(k2.shape[0], k2.shape[1], dtype=k2.dtype)
    v = _newton_schulz(k2 / _positive(abs(k2).max()) + 4 * rounding * v, 2 * rounding)
    u = _newton_schulz(k1 / _positive(abs(k1).max()) + 4 * rounding * v, 2 * rounding)
    weight = dot(k2, v.T)
    product = dot(dot(u, k1.T), weight)
    product = product / _positive(jnp.linalg.norm(product))
    w = _newton_schulz(product + SHIFT * rounding * dot(u, v.T), 2 * rounding)
    v, weight = dot(w, v), dot(weight, w.T)  # K₂ = weight·V
    turn = u - v
    error = dot(turn, (v + turn / 2).T)
    error = dot(weight, error + error.T)  # weight·(UUᵀ − VVᵀ)
    found = jnp.linalg.norm(error) < 3 * (2 * rounding) ** 0.5 * jnp.linalg.norm(weight)
    return jnp.where(found, dot(weight, turn) - dot(error, u) / 2, 0)


def _newton_schulz(a: Array, tolerance: float) -> Array:
    """Polar factor R of a wide or square matrix of moderate size, ‖RRᵀ − I‖ < tolerance.

    A step maps every singular value σ in [low, 1] to ½√ρσ(3 − ρσ²) ≤ 1, the cubic that raises the
    lowest most: by up to √27/2 with two matrix products. Higher degrees gain no more by as many.
    """
    eps = _rounding(a)
    eye = jnp.eye(a.shape[0], dtype=a.dtype)

    def unfinished(state: tuple[Array, ...]) -> Array:
        *_, floor, residual = state  # that of the step before: ¾ of its square is left
        return (0.75 * residual**2 > tolerance) & (floor < 1 - 4 * eps)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        return advance(dot(state[0], state[0].T), *state)

    def advance(y: Array, x: Array, probe: Array, floor: Array, _: Array) -> tuple[Array, ...]:
        residual = jnp.linalg.norm(y - eye)
        # The probe turns towards the lowest singular vector, which all steps share; its quotient
        # is above σ², its root mostly too, and too high a guess for `low` costs more than too
        # low a one. `floor`, below every σ that began above eps², ends the iteration where a is
        # singular. With low = 0, the highest σ would fall to 0 and lose their digits.
        image = dot(y, probe)
        quotient = jnp.maximum(dot(probe, image), 0)
        low = jnp.maximum(jnp.maximum(floor, quotient**1.5), 0.05)
        low = jnp.where(residual < 0.5, 1, low)
        rho = 3 / (1 + low + low**2)
        x = dot(jnp.sqrt(rho) / 2 * (3 * eye - rho * y), x)
        floor = jnp.sqrt(rho) / 2 * floor * (3 - rho * floor**2)
        probe = probe - image
        return x, probe / _positive(jnp.linalg.norm(probe)), floor, residual

    y = dot(a, a.T)
    scale = _positive(jnp.linalg.norm(y))  # at least the highest σ²
    probe = np.random.default_rng(0).standard_normal(a.shape[0])
    probe = probe / np.linalg.norm(probe)
    start = (jnp.asarray(value, a.dtype) for value in (probe, eps**2, jnp.inf))
    first = advance(y / scale, a / jnp.sqrt(scale), *start)
    return lax.while_loop(unfinished, step, first)[0]


@jax.custom_batching.sequential_vmap
@in_float64
def _polar_by_svd(a: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """UVᵀ. A loop under ``vmap``, for the reason given at ``precision.eigh``."""
    u, _, vt = jnp.linalg.svd(a, full_matrices=False)
    return dot(u, vt)


def _positive(number: Array) -> Array:
    """``number``, or 1 where it is 0: to divide by."""
    return jnp.where(number == 0, 1, number)


def _rounding(a: Array) -> float:
    """The relative distance of neighbouring numbers of a's type."""
    return float(jnp.finfo(a.dtype).eps)


def _widened(a: Array) -> Array:
    """``a`` in float32 at least."""
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))
