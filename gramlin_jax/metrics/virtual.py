"""The virtual covariance: how a gradient step would change the features and changes the Gram.

A layer z = XK has rows X, kernel K and the gradient Δ = ∂L/∂z of the loss. The gradient at X
through this layer alone is g = ΔKᵀ, and ∇_K L = XᵀΔ. Hence K(∇_K L)ᵀ = gᵀX, the **Feature Learning
Equation**: to first order, a step of the kernel changes the Gram KKᵀ just as the **virtual update**
X̃ = X − ηg changes the covariance of the features.

Shapes: stack, axes of separate kernels (none for a dense layer); rows, samples and shared
positions; i inputs; o outputs. All sums run over rows in float64, neither centred nor divided by
the number of rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from gramlin_jax._moments.gradients import GradientMoments, check_gradients
from gramlin_jax.metrics.cosines import cosine
from gramlin_jax.support.checks import (
    check_filled,
    check_floating,
    check_kind,
    check_matrices,
    check_number,
    check_same_shape,
)
from gramlin_jax.support.linalg import matmul
from gramlin_jax.support.precision import concrete, in_float64
from gramlin_jax.taps import Tap

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@in_float64
def virtual_update(
    inputs: Float[Array, "*rows i"],
    input_gradients: Float[Array, "*rows i"],
    learning_rate: float | Float[Array, ""],
) -> Float[Array, "*rows i"]:
    """The virtual update X̃ = X − ηg: a gradient step of the features themselves.

    Args:
        inputs: X (*rows, i), the features.
        input_gradients: g (*rows, i), see ``input_gradients``.
        learning_rate: η.

    Returns:
        X̃ (*rows, i), in the wider of the two types.

    Raises:
        ValueError: If the shapes differ, or the learning rate is not a number.
        TypeError: If X or g is not floating point.

    Source: arXiv 2605.06258, section 3 (virtual update).

    Example:
        >>> virtual_update(jnp.ones((1, 2)), jnp.array([[1.0, -2]]), 0.5).tolist()
        [[0.5, 2.0]]
    """
    x, g = _updated(inputs, input_gradients, learning_rate)
    kind = jnp.promote_types(x.dtype, g.dtype)
    # A learning rate below 6e-8 is 0 in float16, and ηg may leave it where X̃ does not.
    return (x - jnp.asarray(learning_rate, jnp.promote_types(kind, jnp.float32)) * g).astype(kind)


@in_float64
def input_gradients(
    kernel: Float[Array, "*stack i o"], output_gradients: Float[Array, "*stack_and_rows o"]
) -> Float[Array, "*stack_and_rows i"]:
    """The gradient at a layer's input through this layer only, g = ΔKᵀ.

    On a residual stream it differs from ∂L/∂X, which sums over all branches that read the stream.
    For a convolution it is the gradient at each patch.

    Args:
        kernel: K (*stack, i, o).
        output_gradients: Δ = ∂L/∂z (*stack, *rows, o).

    Returns:
        (*stack, *rows, i), in the wider of the two types.

    Raises:
        ValueError: If the shapes do not match.
        TypeError: If the kernel or Δ is not floating point.

    Source: arXiv 2605.06258, section 3.

    Example:
        >>> input_gradients(jnp.array([[1.0, 2], [3, 4]]), jnp.array([[1.0, 0]])).tolist()
        [[1.0, 3.0]]
    """
    kernel = check_matrices("kernel", kernel)
    delta = _rows("output_gradients", output_gradients, kernel, -1)
    shape = (*np.shape(output_gradients)[:-1], kernel.shape[-2])
    return matmul(delta, jnp.swapaxes(kernel, -1, -2)).reshape(shape)


@in_float64
def feature_learning_sides(
    tap: Tap, output_gradients: Float[Array, "*stack_and_rows o"]
) -> tuple[Float[Array, "*stack i i"], Float[Array, "*stack i i"]]:
    """Both sides of the Feature Learning Equation K(∇_K L)ᵀ = gᵀX, with ∇_K L = XᵀΔ, g = ΔKᵀ.

    They agree to rounding if Δ is the gradient at the pre-activations. With ∇_K L from autodiff on
    the left, this tests Δ and X at every site of a network. Either side times −η is WᵀΔW for a step
    of gradient descent, W = Kᵀ and ΔW its change.

    Args:
        tap: Inputs and kernel of a site.
        output_gradients: Δ (*stack, *rows, o), the gradient of the loss in the perturbation.

    Returns:
        K(∇_K L)ᵀ and gᵀX, (*stack, i, i) each, float64.

    Raises:
        ValueError: If the shapes do not match, or the tap belongs to a named activation.
        TypeError: If Δ is not floating point, or ``tap`` is no tap.

    Source: arXiv 2605.06258, section 3 (Feature Learning Equation).

    Example:
        >>> params, x = {"w": jnp.ones((2, 1))}, jnp.ones((3, 2))
        >>> _, taps = tap(lambda params, x: x @ params["w"])(params, x)
        >>> [side.tolist() for side in feature_learning_sides(taps["w"], jnp.ones((3, 1)))]
        [[[3.0, 3.0], [3.0, 3.0]], [[3.0, 3.0], [3.0, 3.0]]]
    """
    check_kind("tap", tap, Tap, "tap(f)(params, x)[1][name]")
    if tap.kernel is None or tap.inputs is None:
        raise ValueError(
            "tap has no kernel, as a named activation: wanted the tap of a linear site"
        )
    kernel = check_matrices("kernel", tap.kernel).astype(jnp.float64)
    x = _rows("inputs", tap.inputs, kernel, -2).astype(jnp.float64)
    delta = _rows("output_gradients", output_gradients, kernel, -1).astype(jnp.float64)
    kernel_gradient = matmul(jnp.swapaxes(x, -1, -2), delta)
    g = matmul(delta, jnp.swapaxes(kernel, -1, -2))
    return (
        matmul(kernel, jnp.swapaxes(kernel_gradient, -1, -2)),
        matmul(jnp.swapaxes(g, -1, -2), x),
    )


@in_float64
def virtual_covariance(
    kernel: Float[Array, "*stack i o"],
    gradients: GradientMoments,
    learning_rate: float | Float[Array, ""],
) -> Float[Array, "*stack i i"]:
    """The virtual covariance X̃ᵀX̃ − XᵀX = −η(S + Sᵀ) + η² K(ΔᵀΔ)Kᵀ, S = K(∇_K L)ᵀ.

    Computed from one backward pass, without the samples and without subtracting two covariances.
    Symmetric, of rank ≤ 2o.

    Args:
        kernel: The effective kernel K (*stack, i, o).
        gradients: Gradient moments of the same site, see ``gradient_moments``.
        learning_rate: η.

    Returns:
        (*stack, i, i), float64. From float32 gradients its relative error is about 1e-5 (norm).

    Raises:
        ValueError: If the shapes do not match.
        TypeError: If the kernel is not floating point, or ``gradients`` are no gradient moments.

    Source: arXiv 2605.06258, section 3 (virtual covariance).

    Example:
        >>> params, x = {"w": jnp.ones((2, 1))}, jnp.array([[1.0, 0], [0, 2]])
        >>> g = gradient_moments(lambda p, x: x @ p["w"], params, x, loss=lambda z: z.sum())
        >>> virtual_covariance(params["w"], g["w"], 0.5).tolist()
        [[-0.5, -1.0], [-1.0, -1.5]]
    """
    kernel = check_matrices("kernel", kernel).astype(jnp.float64)
    check_gradients(gradients)
    check_same_shape("kernel", kernel, "gradients.kernel_gradient", gradients.kernel_gradient)
    s = matmul(kernel, jnp.swapaxes(gradients.kernel_gradient, -1, -2))
    kernel_t = jnp.swapaxes(kernel, -1, -2)
    squares = matmul(matmul(kernel, gradients.output_products), kernel_t)
    return expanded(s, squares, learning_rate)


@in_float64
def virtual_covariance_of(
    inputs: Float[Array, "*rows i"],
    input_gradients: Float[Array, "*rows i"],
    learning_rate: float | Float[Array, ""],
) -> Float[Array, "i i"]:
    """The virtual covariance X̃ᵀX̃ − XᵀX from rows: −η(gᵀX + Xᵀg) + η² gᵀg.

    The direct form of ``virtual_covariance``, for one kernel.

    Args:
        inputs: X (*rows, i).
        input_gradients: g (*rows, i).
        learning_rate: η.

    Returns:
        (i, i), float64.

    Raises:
        ValueError: If the shapes differ, or the learning rate is not a number.
        TypeError: If X or g is not floating point.

    Source: arXiv 2605.06258, section 3 (virtual covariance).

    Example:
        >>> virtual_covariance_of(jnp.array([[1.0, 0], [0, 2]]), jnp.ones((2, 2)), 0.5).tolist()
        [[-0.5, -1.0], [-1.0, -1.5]]
    """
    both = _updated(inputs, input_gradients, learning_rate)
    x, g = (a.astype(jnp.float64).reshape(-1, a.shape[-1]) for a in both)
    return expanded(matmul(g.T, x), matmul(g.T, g), learning_rate)


@in_float64
def gram_change(
    before: Float[Array, "*stack i o"], after: Float[Array, "*stack i o"]
) -> Float[Array, "*stack i i"]:
    """The change of the weight Gram, K₂K₂ᵀ − K₁K₁ᵀ = K₁Dᵀ + DK₁ᵀ + DDᵀ with D = K₂ − K₁.

    For a step of gradient descent it differs from the virtual covariance by
    η²(∇_K L(∇_K L)ᵀ − gᵀg) exactly.

    Args:
        before: K₁ (*stack, i, o).
        after: K₂ (*stack, i, o).

    Returns:
        (*stack, i, i), float64.

    Raises:
        ValueError: If the shapes differ.
        TypeError: If an argument is not floating point.

    Source: arXiv 2605.06258, section 3.

    Example:
        >>> gram_change(jnp.eye(2), 2 * jnp.eye(2)).tolist()
        [[3.0, 0.0], [0.0, 3.0]]
    """
    before, after = check_matrices("before", before), check_matrices("after", after)
    check_same_shape("before", before, "after", after)
    before = before.astype(jnp.float64)
    step = after.astype(jnp.float64) - before
    step_t = jnp.swapaxes(step, -1, -2)
    cross = matmul(before, step_t)
    return cross + jnp.swapaxes(cross, -1, -2) + matmul(step, step_t)


@in_float64
def virtual_alignment(
    gram_change: Float[Array, "*stack i i"], virtual_covariance: Float[Array, "*stack i i"]
) -> Float[Array, "*stack"]:
    """The cosine ⟨A, B⟩/(‖A‖‖B‖) between the change of the Gram and the virtual covariance.

    In [−1, 1]; 1 if they agree up to scale. For gradient descent it tends to 1 as η → 0.

    Args:
        gram_change: A (*stack, i, i), see ``gram_change``.
        virtual_covariance: B (*stack, i, i).

    Returns:
        (*stack,), float64; NaN where A or B is zero.

    Raises:
        ValueError: If the shapes differ, or are no matrices.
        TypeError: If A or B is not floating point.

    Source: arXiv 2605.06258, section 3.

    Example:
        >>> round(float(virtual_alignment(jnp.eye(2), jnp.ones((2, 2)))), 6)
        0.707107
    """
    check_same_shape("gram_change", gram_change, "virtual_covariance", virtual_covariance)
    a = check_floating("gram_change", gram_change)
    b = check_floating("virtual_covariance", virtual_covariance)
    if a.ndim < 2:
        raise ValueError(f"gram_change has shape {a.shape}: wanted (i, i), or (*stack, i, i)")
    check_filled("gram_change", a)
    return concrete(cosine(a, b))


def _updated(inputs: Array, gradients: Array, learning_rate: float | Array) -> tuple[Array, Array]:
    """X and g, checked beside the learning rate of their step."""
    x = check_floating("inputs", inputs)
    g = check_floating("input_gradients", gradients)
    check_same_shape("inputs", x, "input_gradients", g)
    if not x.ndim:
        raise ValueError("inputs has shape (): wanted (*rows, i)")
    check_number("learning_rate", learning_rate)
    return x, g


def expanded(s: Array, squares: Array, learning_rate: float | Array) -> Array:
    """−η(S + Sᵀ) + η² squares, the change by a step of any size."""
    check_number("learning_rate", learning_rate)
    rate = jnp.asarray(learning_rate, jnp.float64)  # its square may not fit into float32
    return -rate * (s + jnp.swapaxes(s, -1, -2)) + rate**2 * squares


def _rows(name: str, array: Array, kernel: Array, axis: int) -> Array:
    """``array`` (*stack, *rows, width) as (*stack, rows, width), checked against the kernel."""
    array = check_floating(name, array)
    stack, width = kernel.shape[:-2], kernel.shape[axis]
    if array.ndim <= len(stack) or array.shape[: len(stack)] != stack or array.shape[-1] != width:
        raise ValueError(
            f"{name} has shape {array.shape} and kernel {kernel.shape}: wanted {name} "
            f"({', '.join([*map(str, stack), '*rows', str(width)])})"
        )
    return array.reshape(*stack, math.prod(array.shape[len(stack) : -1]), width)
