"""Whether a layer can learn: relative updates, dead units, rank, attention.

Shapes: n samples, i inputs, o outputs; stack, groups of a convolution or heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from gramlin_jax._moments.attention import AttentionMoments
from gramlin_jax._moments.features import Moments, check_moments
from gramlin_jax._moments.gradients import GradientMoments, check_gradients
from gramlin_jax.metrics.spectra import effective_rank
from gramlin_jax.support.checks import (
    check_array,
    check_filled,
    check_floating,
    check_kind,
    check_number,
    check_same_shape,
)
from gramlin_jax.support.linalg import at_least, diagonal, dot, eigh, norm, root
from gramlin_jax.support.precision import concrete, in_float64, magnitude

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@in_float64
def relative_update(
    kernel: Float[Array, "*stack i o"],
    gradients: GradientMoments,
    learning_rate: float | Float[Array, ""],
) -> Float[Array, ""]:
    """Relative size |η|‖∇_K L‖/‖K‖ of a step of gradient descent.

    Args:
        kernel: K (*stack, i, o).
        gradients: Of its layer.
        learning_rate: η.

    Returns:
        A float64 scalar ≥ 0. About 1e-3 is usual; above 1 a step replaces the kernel. NaN for a
        kernel of zeros.

    Raises:
        ValueError: If the gradient has another shape than the kernel.
        TypeError: If the kernel is not floating point, or ``gradients`` are no gradient moments.

    Example:
        >>> f = lambda params, x: x @ params["w"]
        >>> params, x = {"w": jnp.ones((3, 2))}, jnp.ones((4, 3))
        >>> g = gradient_moments(f, params, x, loss=lambda out: out.mean())["w"]
        >>> round(float(relative_update(params["w"], g, 0.1)), 12)
        0.05
    """
    check_number("learning_rate", learning_rate)
    kernel, gradient = _pair(kernel, gradients)
    size = frobenius(kernel)
    ratio = jnp.abs(learning_rate) * frobenius(gradient) / jnp.where(size > 0, size, jnp.nan)
    return concrete(ratio)


@in_float64
def relative_feature_change(
    m: Moments,
    kernel: Float[Array, "i o"],
    gradients: GradientMoments,
    learning_rate: float | Float[Array, ""],
) -> Float[Array, ""]:
    """Relative change ‖ηX∇_K L‖/‖XK‖ of a layer's outputs by a step in its own kernel.

    Under the maximal update parametrisation it does not depend on the width, see
    ``coordinate_check``, which trains and takes the step of any optimiser.

    Args:
        m: Moments of the rows X (n, i) that the kernel multiplies.
        kernel: K (i, o).
        gradients: Of its layer.
        learning_rate: η.

    Returns:
        A float64 scalar ≥ 0; NaN where XK = 0.

    Raises:
        ValueError: If the shapes differ, or the moments are stacked.
        TypeError: As ``relative_update``, or if ``m`` is not moments in float64.

    Source: Yang et al., Tensor Programs V (arXiv 2203.03466), the coordinate check.

    Example:
        >>> f = lambda params, x: x @ params["w"]
        >>> params, x = {"w": jnp.ones((3, 2))}, jnp.ones((4, 3))
        >>> g = gradient_moments(f, params, x, loss=lambda out: out.mean())["w"]
        >>> round(float(relative_feature_change(moments(x), params["w"], g, 0.1)), 12)
        0.05
    """
    check_moments(m, targets=False)
    check_number("learning_rate", learning_rate)
    kernel, gradient = _pair(check_array("kernel", kernel, ("i", "o")), gradients)
    if len(kernel) != len(m.feature_mean):
        raise ValueError(f"kernel has shape {kernel.shape}: wanted ({len(m.feature_mean)}, o)")
    size = _image(m, kernel)
    ratio = jnp.abs(learning_rate) * _image(m, gradient) / jnp.where(size > 0, size, jnp.nan)
    return concrete(ratio)


@in_float64
def dead_units(gradients: GradientMoments) -> Float[Array, ""]:
    """Share of the units z_j of a layer that no sample's gradient reaches: Σ δ_j² = 0.

    For ReLU these are the units that are negative for every sample: none of them can learn. It is
    1 where the loss does not depend on the layer at all.

    Args:
        gradients: Of the layer, with ``output_sum``.

    Returns:
        A float64 scalar in [0, 1]; NaN if gradients are not finite.

    Raises:
        ValueError: If ``output_sum`` was not summed.
        TypeError: If ``gradients`` are no gradient moments.

    Example:
        >>> f = lambda params, x: jax.nn.relu(x @ params["w"])
        >>> params = {"w": jnp.array([[1.0, -1.0]])}
        >>> g = gradient_moments(f, params, jnp.ones((4, 1)), loss=lambda out: out.mean())["w"]
        >>> float(dead_units(g))
        0.5
    """
    check_gradients(gradients)
    squares = diagonal(gradients.output_products)
    dead = jnp.where(squares == 0, jnp.float64(1), 0)
    return concrete(jnp.where(jnp.isfinite(squares).all(), dead.mean(), jnp.nan))


@in_float64
def gradient_noise(gradients: GradientMoments) -> Float[Array, ""]:
    """Variance of the gradient between samples over its squared mean, tr Cov(∇_K ℓ)/‖∇_K L‖².

    In a batch of so many samples the gradient is as large as its noise: the simple noise scale.
    From n samples it is at most about n; then the mean itself is noise.

    Args:
        gradients: Of the layer, with ``square_sum``.

    Returns:
        A float64 scalar ≥ 0; NaN for one sample, and where the mean is 0.

    Raises:
        ValueError: If ``square_sum`` was not summed.
        TypeError: If ``gradients`` are no gradient moments.

    Source: McCandlish et al., An empirical model of large-batch training (arXiv 1812.06162).

    Example:
        >>> sums = GradientMoments(jnp.float32(2), jnp.full((1, 1), 4.0), None, jnp.float32(10))
        >>> float(gradient_noise(sums))
        0.5
    """
    check_gradients(gradients)
    if gradients.square_sum is None:
        raise ValueError("square_sum is None: wanted it among the needs of a metric")
    n, mean = jnp.asarray(gradients.count, jnp.float64), frobenius(gradients.kernel_gradient)
    ratio = jnp.asarray(gradients.square_sum, jnp.float64).sum() / n / mean / mean
    spread = at_least(ratio - 1, 0) * n / (n - 1)
    return concrete(jnp.where((n > 1) & (mean > 0), spread, jnp.nan))


@in_float64
def feature_rank(m: Moments) -> Float[Array, ""]:
    """Effective rank of centred features: exp of the entropy of their covariance's spectrum.

    Args:
        m: Moments of features (n, d).

    Returns:
        A float64 scalar in [1, d]; 0 where no feature varies, NaN for moments that are not finite.

    Raises:
        ValueError: If the moments are stacked (use ``jax.vmap``).

    Source: ``effective_rank`` of the features' scatter.

    Example:
        >>> round(float(feature_rank(moments(jnp.eye(4)))), 12)
        3.0
    """
    check_moments(m, targets=False)
    scatter = jnp.asarray(m.feature_scatter, jnp.float64)
    finite = jnp.isfinite(scatter).all()
    values, _ = eigh(jnp.where(finite, scatter, 0) / magnitude(jnp.where(finite, scatter, 0)))
    varies = (values > 0).any()
    rank = effective_rank(jnp.where(values > 0, values, 0) + jnp.where(varies, 0, 1))
    return concrete(jnp.where(finite, jnp.where(varies, rank, 0), jnp.nan))


@in_float64
def attention_entropy(m: AttentionMoments) -> Float[Array, ""]:
    """Mean of −Σ p ln p / ln m over queries and heads, for attention p over the m keys in sight.

    Args:
        m: Of the layer that makes the queries, all heads of it; ``m.entropy`` is that of each.

    Returns:
        A float64 scalar in [0, 1]. 0: each query reads one key; 1: all that it sees, alike. NaN
        where no query sees two keys.

    Raises:
        TypeError: If ``m`` is no attention moments.

    Source: Zhai et al., Stabilizing transformer training by preventing attention entropy collapse
    (arXiv 2303.06296), who do not divide by ln m.

    Example:
        >>> sums = AttentionMoments(jnp.array([8.0, 8.0]), jnp.array([0.0, 4.0]))
        >>> float(attention_entropy(sums))
        0.25
    """
    check_kind("m", m, AttentionMoments, "measure(...).sums[name].attention")
    total, count = (jnp.asarray(a, jnp.float64).sum() for a in (m.entropy_sum, m.count))
    return concrete(total / jnp.where(count > 0, count, jnp.nan))


def frobenius(array: Array) -> Array:
    """‖A‖ in float64, of any scale."""
    array = jnp.asarray(array, jnp.float64)
    unit = magnitude(array)  # or squares leave float64
    return unit * norm(array / unit)


def _pair(kernel: Array, gradients: GradientMoments) -> tuple[Array, Array]:
    check_gradients(gradients)
    kernel, gradient = check_floating("kernel", kernel), gradients.kernel_gradient
    check_filled("kernel", kernel)
    check_same_shape("gradients", gradient, "kernel", kernel)
    return jnp.asarray(kernel, jnp.float64), jnp.asarray(gradient, jnp.float64)


def _image(m: Moments, matrix: Array) -> Array:
    """‖XA‖/√n: of the centred rows and of their mean, which would cancel in one product."""
    unit = magnitude(matrix)
    matrix = matrix / unit
    spread = (matrix * dot(jnp.asarray(m.feature_scatter), matrix)).sum() / m.count
    mean = dot(jnp.asarray(m.feature_mean), matrix)
    return unit * root(at_least(spread, 0) + (mean**2).sum())
