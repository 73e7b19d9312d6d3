"""What a kernel satisfies where training with weight decay has come to rest.

For a loss L + (λ/2)‖K‖² a stationary point has ∇_K L = −λK. Multiplied by K from either side, it
says what WᵀW and WWᵀ are (W = Kᵀ). Decoupled weight decay, as in AdamW, rests elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp

from gramlin_jax._moments.gradients import GradientMoments, check_gradients
from gramlin_jax.metrics.cosines import cosine
from gramlin_jax.support.checks import check_array, check_filled, check_positive, check_same_shape
from gramlin_jax.support.linalg import dot, norm
from gramlin_jax.support.precision import concrete, in_float64, magnitude

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Fact(NamedTuple):
    """Result of ``fact``, float64.

    Attributes:
        gram: KKᵀ = WᵀW (i, i).
        predicted: −(1/λ) Σ g xᵀ = −(1/λ) K(∇_K L)ᵀ (i, i).
        cosine: Between both, in [−1, 1].
    """

    gram: Float[Array, "i i"]
    predicted: Float[Array, "i i"]
    cosine: Float[Array, ""]


class Stationarity(NamedTuple):
    """Result of ``stationarity_identities``: float64 scalars.

    Attributes:
        input_residual: ‖KKᵀ + K(∇_K L)ᵀ/λ‖/‖KKᵀ‖, of WᵀW.
        output_residual: ‖KᵀK + Kᵀ∇_K L/λ‖/‖KᵀK‖, of WWᵀ.
        input_cosine: Between KKᵀ and −K(∇_K L)ᵀ, as in ``fact``; it does not depend on λ.
        output_cosine: Between KᵀK and −Kᵀ∇_K L.
    """

    input_residual: Float[Array, ""]
    output_residual: Float[Array, ""]
    input_cosine: Float[Array, ""]
    output_cosine: Float[Array, ""]


@in_float64
def fact(
    kernel: Float[Array, "i o"], gradients: GradientMoments, weight_decay: float | Array
) -> Fact:
    """Both sides of the Features at Convergence Theorem, WᵀW = −(1/λ) Σ g xᵀ, and their cosine.

    With g = ΔKᵀ the gradient of the mean loss at the layer's input, the right side is −K(∇_K L)ᵀ/λ.
    They are equal at a stationary point of the loss with the term (λ/2)‖K‖².

    Args:
        kernel: K (i, o).
        gradients: Gradient moments of the same layer, over all training samples.
        weight_decay: λ > 0.

    Returns:
        Both sides and their cosine; NaN where one is zero.

    Raises:
        ValueError: If shapes do not match or (outside transformations) λ is not positive.
        TypeError: If the kernel is not floating point, or ``gradients`` are no gradient moments.

    Source: arXiv 2507.05644, theorem 1.

    Example:
        >>> m = gradient_moments(lambda p, x: x @ p["w"], {"w": jnp.ones((1, 1))}, jnp.ones((4, 1)),
        ...     loss=lambda z: -0.1 * z.mean())
        >>> round(float(fact(jnp.ones((1, 1)), m["w"], 0.1).predicted[0, 0]), 6)
        1.0
    """
    kernel, gradient, decay = _checked(kernel, gradients, weight_decay)
    gram, predicted = dot(kernel, kernel.T), -dot(kernel, gradient.T) / decay
    kernel, gradient = (a / magnitude(a) for a in (kernel, gradient))
    found = cosine(dot(kernel, kernel.T), -dot(kernel, gradient.T))
    return Fact(gram, predicted, concrete(found))


@in_float64
def stationarity_identities(
    kernel: Float[Array, "i o"], gradients: GradientMoments, weight_decay: float | Array
) -> Stationarity:
    """How far WᵀW and WWᵀ are from what they are at a stationary point with weight decay λ.

    WᵀW = −(1/λ) Σ g xᵀ and WWᵀ = −(1/λ) Σ (Wx) δᵀ: the companion for left singular vectors.

    Args:
        kernel: K (i, o).
        gradients: Gradient moments of the same layer, over all training samples.
        weight_decay: λ > 0 of the term (λ/2)‖K‖² in the loss.

    Returns:
        Relative residuals, 0 at a stationary point, and cosines; NaN where the kernel is zero.

    Raises:
        ValueError: If shapes do not match or (outside transformations) λ is not positive.
        TypeError: If the kernel is not floating point, or ``gradients`` are no gradient moments.

    Source: arXiv 2507.05644, theorem 1, for the first.

    Example:
        >>> m = gradient_moments(lambda p, x: x @ p["w"], {"w": jnp.ones((1, 1))}, jnp.ones((4, 1)),
        ...     loss=lambda z: -0.1 * z.mean())
        >>> found = stationarity_identities(jnp.ones((1, 1)), m["w"], 0.1)
        >>> float(found.input_residual) < 1e-6, float(found.output_residual) < 1e-6
        (True, True)
    """
    kernel, gradient, decay = _checked(kernel, gradients, weight_decay)
    units = [magnitude(a) for a in (kernel, gradient)]
    kernel, gradient, ratio = kernel / units[0], gradient / units[1], units[1] / units[0] / decay
    found = []
    for gram, other in (
        (dot(kernel, kernel.T), -dot(kernel, gradient.T)),
        (dot(kernel.T, kernel), -dot(kernel.T, gradient)),
    ):
        residual = norm(gram - other * ratio) / norm(gram)
        found.append((concrete(residual), concrete(cosine(gram, other))))
    return Stationarity(found[0][0], found[1][0], found[0][1], found[1][1])


def _checked(
    kernel: Array, gradients: GradientMoments, weight_decay: float | Array
) -> tuple[Array, Array, Array]:
    kernel = check_array("kernel", kernel, ("i", "o")).astype(jnp.float64)
    check_filled("kernel", kernel)
    check_gradients(gradients)
    gradient = jnp.asarray(gradients.kernel_gradient, jnp.float64)
    check_same_shape("kernel", kernel, "gradients.kernel_gradient", gradient)
    check_positive("weight_decay", weight_decay)
    return kernel, gradient, jnp.asarray(weight_decay, jnp.float64)
