"""Exact learning dynamics of deep linear networks, and training from covariances alone.

With whitened inputs and the singular value decomposition Σ_xy = Σ_α s_α u_α v_αᵀ of the
input-output covariance, gradient flow on ½E‖y − xK₁…K_L‖² decouples into modes. The *strength* u of
a mode is u_αᵀK₁…K_Lv_α, which grows from u₀ to s_α. Time is t = steps · learning rate, in units
of τ.

Source: Saxe, McClelland and Ganguli (2014), arXiv 1312.6120.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax.support.checks import (
    check_array,
    check_count,
    check_numbers,
    check_positive,
    is_traced,
)
from gramlin_jax.support.linalg import dot
from gramlin_jax.support.precision import concrete, in_float64

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float

TERMS = 60  # of series in powers of at most ½
HALVINGS = 70  # of an interval, to the last digit of float64


@in_float64
def mode_strength(
    t: Float[ArrayLike, "*t"],
    s: Float[ArrayLike, "*t"],
    u0: Float[ArrayLike, "*t"],
    tau: float = 1.0,
) -> Float[Array, "*t"]:
    """Strength of a mode of two balanced layers: u(t) = s/(1 + (s/u₀ − 1)e^(−2st/τ)).

    It solves τu̇ = 2u(s − u): a sigmoid from u₀ to s.

    Args:
        t: Times ≥ 0. These arguments broadcast.
        s: Singular value of the mode, > 0.
        u0: Strength at time 0, in (0, s).
        tau: Time constant τ > 0: the inverse learning rate, if t counts steps.

    Returns:
        u(t), in float64, in [u₀, s].

    Raises:
        ValueError: If an argument is outside these ranges (outside of transformations).

    Source: arXiv 1312.6120, section 1.3.

    Example:
        >>> print(mode_strength(np.array([0.0, 1, 2, 3]), 2.0, 0.01).round(3))
        [0.01  0.431 1.875 1.998]
    """
    t, s, u0 = _checked_start(t, s, u0, tau)
    return concrete(s / (1 + (s / u0 - 1) * jnp.exp(-2 * s * t / tau)))


@in_float64
def half_time(
    s: Float[ArrayLike, "*s"], u0: Float[ArrayLike, "*s"], tau: float = 1.0, *, layers: int = 2
) -> Float[Array, "*s"]:
    """Time at which a mode reaches half its final strength, u = s/2.

    Two layers: τ ln(s/u₀ − 1)/(2s), so strong modes are learnt first, and a small start costs
    only its logarithm. More layers: τ/L ∫ du/(u^(2−2/L)(s − u)) from u₀ to s/2, which grows as a
    power of 1/u₀. Negative if u₀ > s/2.

    Args:
        s: Singular value, > 0.
        u0: Strength at time 0, in (0, s).
        tau: Time constant τ > 0.
        layers: L ≥ 2, balanced.

    Raises:
        ValueError: If an argument is outside these ranges (outside of transformations).

    Source: arXiv 1312.6120, sections 1.3 and 2.

    Example:
        >>> print(half_time(np.array([1.0, 2.0]), 1e-3).round(3))
        [3.453 1.9  ]
    """
    check_count("layers", layers, 2)
    _, s, u0 = _checked_start(jnp.zeros(()), s, u0, tau)
    if layers == 2:
        return concrete(tau * jnp.log(s / u0 - 1) / (2 * s))
    power = 2 - 2 / layers
    return concrete(-_elapsed(jnp.log(u0) - jnp.log(s - u0), power) * tau / (layers * s**power))


@in_float64
def unbalanced_mode(
    t: Float[ArrayLike, "*t"],
    s: Float[ArrayLike, "*t"],
    a0: Float[ArrayLike, "*t"],
    b0: Float[ArrayLike, "*t"],
    tau: float = 1.0,
) -> Float[Array, "*t"]:
    """Strength u = ab of a mode whose two layers start from different strengths a₀ and b₀.

    τȧ = b(s − ab) and τḃ = a(s − ab) conserve λ = a² − b², so τu̇ = (s − u)√(λ² + 4u²). The ratio
    b/a solves the Riccati equation τẏ = s − λy − sy². With r = √(λ² + 4s²) and T = tanh(rt/2τ):

    u = (b₀(r − λT) + 2sa₀T)(a₀(r + λT) + 2sb₀T) / (r² + 2rT(a₀² + b₀²) + T²(λ² − 4s² + 8sa₀b₀)).

    ``mode_strength`` is the case a₀ = b₀ = √u₀.

    Args:
        t: Times ≥ 0. These arguments broadcast.
        s: Singular value of the mode, > 0.
        a0: Strength of the first layer at time 0.
        b0: Strength of the second; a₀ + b₀ ≠ 0, or u ends at 0, a saddle, and not at s.
        tau: Time constant τ > 0.

    Returns:
        u(t), in float64. It tends to s.

    Raises:
        ValueError: If an argument is outside these ranges (outside of transformations).

    Source: arXiv 1312.6120, appendix A (the hyperbolic dynamics), in another form.

    Example:
        >>> print(unbalanced_mode(np.array([0.0, 1, 2, 3]), 2.0, 0.5, 0.0).round(3))
        [0.   1.29 1.98 2.  ]
    """
    t, s, a0, b0 = _broadcast(t=t, s=s, a0=a0, b0=b0)
    _check_time(t, s, tau)
    _require(a0 + b0 != 0, "a0 + b0", a0 + b0, "a sum other than 0, a start off the saddle")
    both = a0 + b0
    difference = (a0 - b0) * both
    root = jnp.hypot(difference, 2 * s)
    decay = jnp.exp(-root * t / tau)
    tanh, left = -jnp.expm1(-root * t / tau) / (1 + decay), 2 * decay / (1 + decay)  # T and 1 − T
    # From small starts, all that grows is small beside s² in the formula, where it would cancel.
    # Here all terms of the divisor are positive: r − 2sT = λ²/(r + 2s) + 2s(1 − T).
    beyond = difference**2 / (root + 2 * s) + 2 * s * left

    def numerator(own: Array, other: Array, difference: Array) -> Array:
        small = own * (beyond + difference * tanh) + 2 * s * both * tanh
        size = abs(difference)
        opposed = 4 * s**2 / (root + size) + size * left  # r − |λ|T
        factor = jnp.where(difference < 0, opposed, root + size * tanh)
        return jnp.where(size < s, small, own * factor + 2 * s * other * tanh)

    growth = beyond * (a0**2 + b0**2) + 2 * s * tanh * both**2
    divisor = difference**2 * (1 + tanh**2) + 4 * s**2 * left * (1 + tanh) + 2 * tanh * growth
    product = numerator(a0, b0, difference) * numerator(b0, a0, -difference)
    return concrete(product / divisor)


@in_float64
def deep_mode(
    t: Float[ArrayLike, "*t"],
    s: Float[ArrayLike, "*t"],
    u0: Float[ArrayLike, "*t"],
    layers: int,
    tau: float = 1.0,
) -> Float[Array, "*t"]:
    """Strength of a mode of L balanced layers, the solution of τu̇ = L u^(2−2/L)(s − u).

    The time at which a strength is reached is an integral with a convergent series, which is
    inverted by bisection in ln(u/(s − u)). Derivatives are those of the exact solution.

    Args:
        t: Times ≥ 0. These arguments broadcast.
        s: Singular value of the mode, > 0.
        u0: Strength at time 0, in (0, s).
        layers: L ≥ 1. One and two layers have a closed form.
        tau: Time constant τ > 0.

    Returns:
        u(t), in float64, in [u₀, s].

    Raises:
        ValueError: If an argument is outside these ranges (outside of transformations).

    Source: arXiv 1312.6120, section 2.

    Example:
        >>> print(deep_mode(np.array([0.0, 1, 2, 3]), 2.0, 0.1, 4).round(3))
        [0.1   1.939 2.    2.   ]
    """
    check_count("layers", layers)
    t, s, u0 = _checked_start(t, s, u0, tau)
    if layers == 1:
        return concrete(s + (u0 - s) * jnp.exp(-t / tau))
    if layers == 2:
        return mode_strength(t, s, u0, tau)
    return concrete(_deep_mode(t, s, u0, layers, tau))


@functools.partial(jax.jit, static_argnames=("layers",))
def _deep_mode(t: Array, s: Array, u0: Array, layers: int, tau: float) -> Array:
    power = 2 - 2 / layers
    start = jnp.log(u0) - jnp.log(s - u0)
    passed = layers * s**power * t / tau
    wanted = _elapsed(start, power) + passed

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        early = _elapsed(middle, power) < wanted
        return jnp.where(early, middle, low), jnp.where(early, high, middle)

    # From s/2 on, a logit of 0, the logit grows more slowly than `_elapsed`. Times are no bound
    # below: a plateau of 1e40 ends at a logit that is not 1e40.
    ends = start, jnp.maximum(wanted, 0)
    low, high = lax.fori_loop(0, HALVINGS, halve, lax.stop_gradient(ends))
    logit = lax.stop_gradient((low + high) / 2)
    # One Newton step polishes the root and gives it its derivatives.
    logit = logit + (wanted - _elapsed(logit, power)) * jax.nn.sigmoid(logit) ** (power - 1)
    return s * jax.nn.sigmoid(logit)


def _elapsed(logit: Array, power: float) -> Array:
    """∫ dv/(v^c(1 − v)) from ½ to v = σ(logit), for 1 < c < 2, by the series of either half."""
    k = np.arange(TERMS)
    below = jnp.asarray(1 / (k + 1 - power))  # v^−c/(1 − v) = Σ v^(k−c)
    ratios = (power + k) / (k + 1)
    above = jnp.asarray(np.cumprod(ratios) / (k + 1))  # (1 − m)^−c = Σ (c)_k m^k/k!

    def lower(logit: Array) -> Array:
        v = jax.nn.sigmoid(logit)
        return v ** (1 - power) * jnp.polyval(below[::-1], v)

    def upper(logit: Array) -> Array:
        m = jax.nn.sigmoid(-logit)
        return jax.nn.softplus(logit) - m * jnp.polyval(above[::-1], m)

    # Each is read on its own side only, so that the other may not overflow there.
    zero = jnp.zeros(())
    left = lower(jnp.minimum(logit, 0)) - lower(zero)
    right = upper(jnp.maximum(logit, 0)) - upper(zero)
    return jnp.where(logit < 0, left, right)


@in_float64
def covariance_step(
    kernels: Sequence[Float[ArrayLike, "i o"]],
    cxx: Float[ArrayLike, "d d"],
    cxy: Float[ArrayLike, "d k"],
    learning_rate: float | Array,
) -> list[Float[Array, "i o"]]:
    """One gradient step of a deep linear network from second moments alone.

    K_l ← K_l − η AᵀE Bᵀ for all layers at once, with A = K₁…K_{l−1}, B = K_{l+1}…K_L and
    E = C_xx K₁…K_L − C_xy: the gradient of ½E‖y − xK₁…K_L‖². It equals the step on the data to
    rounding, and costs the same for any number of samples.

    Args:
        kernels: K₁, …, K_L, each (in, out), as in Flax.
        cxx: C_xx = XᵀX/n (d, d), ``np.asarray(moments(x, y).feature_products) / n``, which JAX
            would cut to float32; or centred.
        cxy: C_xy = XᵀY/n (d, k).
        learning_rate: η > 0. For a loss 2n times as large, it is 1/(2n) of that here.

    Returns:
        The new kernels, in the types of the old ones.

    Raises:
        ValueError: If shapes do not chain, ``learning_rate`` is not positive, or (outside of
            transformations) the step raises the loss that it descends: it diverges.

    Source: arXiv 1312.6120, section 1, for any depth and in discrete steps.

    Example:
        >>> kernels = [jnp.full((2, 1), 0.5), jnp.ones((1, 1))]
        >>> first, second = covariance_step(kernels, jnp.eye(2), jnp.ones((2, 1)), 0.5)
        >>> print(first.ravel(), second.ravel())
        [0.75 0.75] [1.25]
    """
    old = [check_array(f"kernels[{i}]", kernel, ("i", "o")) for i, kernel in enumerate(kernels)]
    xx, xy = check_array("cxx", cxx, ("d", "d")), check_array("cxy", cxy, ("d", "k"))
    _check_chain([kernel.shape for kernel in old], xx.shape, xy.shape)
    check_positive("learning_rate", learning_rate)
    new, losses = _step(old, xx, xy, learning_rate)
    if not is_traced(losses):
        before, after = (float(loss) for loss in losses)
        if not after - before <= 1e-12 * abs(before):  # NaN included
            raise ValueError(
                f"learning_rate is {learning_rate}: wanted a smaller one; the step diverges, it "
                f"changes ½E‖y − xK‖² − ½E‖y‖² from {before:.4g} to {after:.4g}"
            )
    return [a.astype(b.dtype) for a, b in zip(new, old, strict=True)]


@jax.jit
def _step(
    kernels: list[Array], cxx: Array, cxy: Array, learning_rate: Any
) -> tuple[list[Array], Array]:
    """The new kernels in float64, and the losses before and after."""
    wide = [kernel.astype(jnp.float64) for kernel in kernels]
    cxx, cxy = cxx.astype(jnp.float64), cxy.astype(jnp.float64)
    after = [jnp.eye(cxy.shape[1])]
    for kernel in wide[::-1]:
        after.append(dot(kernel, after[-1]))
    *after, whole = after
    error, left, new = dot(cxx, whole) - cxy, jnp.eye(len(cxx)), []
    for kernel, right in zip(wide, after[::-1], strict=True):
        new.append(kernel - learning_rate * dot(dot(left.T, error), right.T))
        left = dot(left, kernel)

    def loss(k: Array) -> Array:
        return (k * (0.5 * dot(cxx, k) - cxy)).sum()

    return new, jnp.stack([loss(whole), loss(functools.reduce(dot, new))])


def _check_chain(shapes: list[Any], cxx: Any, cxy: Any) -> None:
    widths = [cxx[0], *(shape[1] for shape in shapes)]
    chained = all(shape[0] == width for shape, width in zip(shapes, widths, strict=False))
    if not shapes or not chained or cxx[0] != cxx[1] or cxy != (cxx[0], widths[-1]):
        raise ValueError(
            f"kernels has shapes {shapes}, cxx {cxx} and cxy {cxy}: wanted (d, …), …, (…, k), "
            "each with as many rows as the one before has columns, (d, d) and (d, k)"
        )


def _checked_start(t: Any, s: Any, u0: Any, tau: float) -> tuple[Array, Array, Array]:
    """``t``, ``s`` and ``u0`` of one shape, checked."""
    t, s, u0 = _broadcast(t=t, s=s, u0=u0)
    _check_time(t, s, tau)
    _require((u0 > 0) & (u0 < s), "u0", u0, "strengths inside (0, s)")
    return t, s, u0


def _broadcast(**arrays: Any) -> list[Array]:
    values = [check_numbers(name, array).astype(jnp.float64) for name, array in arrays.items()]
    try:
        shape = jnp.broadcast_shapes(*(value.shape for value in values))
    except ValueError:
        shapes = ", ".join(f"{name} {np.shape(value)}" for name, value in arrays.items())
        raise ValueError(
            f"the arguments have shapes {shapes}: wanted ones that broadcast"
        ) from None
    return [jnp.broadcast_to(value, shape) for value in values]


def _check_time(t: Array, s: Array, tau: float) -> None:
    _require((t >= 0) & (t < math.inf), "t", t, "finite times of 0 or more")
    _require((s > 0) & (s < math.inf), "s", s, "positive singular values")
    _require(check_numbers("tau", tau) > 0, "tau", tau, "a positive number")


def _require(true: Array, name: str, value: Any, wanted: str) -> None:
    """Raise ``ValueError`` if a concrete condition does not hold everywhere."""
    if is_traced(true) or bool(true.all()):
        return
    wrong = np.asarray(value, float)[~np.asarray(true)].flat[0]
    raise ValueError(f"{name} is {wrong:.6g}: wanted {wanted}")
