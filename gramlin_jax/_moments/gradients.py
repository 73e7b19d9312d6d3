"""Second moments of gradients at every linear layer, reduced in the pass that makes them.

At a site z = XK (see ``gramlin_jax.taps``) one backward pass gives Δ = ∂L/∂z and ∇_K L = XᵀΔ. No
gradient of a single sample leaves the compiled function: sums over rows take its place.

Shapes: n samples, s shared positions, i inputs, o outputs, k outputs of the network; stack, axes
of separate kernels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from gramlin_jax._moments.additive import Additive, beside
from gramlin_jax.support.checks import check_kind, check_leading_axis
from gramlin_jax.support.linalg import gram, matmul
from gramlin_jax.support.precision import in_float64, in_full_precision, magnitude, widened
from gramlin_jax.taps import Tap, Traced, capture

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class GradientMoments(Additive):
    """Sums of a layer's gradients over samples; a sum over batches by ``+``.

    They are of the losses ℓ of single samples, L = Σℓ/n, so that batches add: with
    δ = ∂ℓ/∂z = nΔ, each is a sum over rows.

    Attributes:
        count: Number of samples n.
        kernel_sum: Σ x δᵀ (*stack, i, o).
        output_sum: Σ δ δᵀ (*stack, o, o); None where it was not asked for.
        square_sum: Σ ‖∇_K ℓ‖² (*stack,), over samples; None where it was not asked for.
    """

    count: Float[Array, "*runs"]
    kernel_sum: Float[Array, "*runs_and_stack i o"]
    output_sum: Float[Array, "*runs_and_stack o o"] | None
    square_sum: Float[Array, "*runs_and_stack"] | None = None

    @classmethod
    @in_float64
    def zeros(cls, i: int, o: int, stack: tuple[int, ...] = ()) -> GradientMoments:
        """The sums of no sample: the neutral element of ``+``."""
        shapes = (), (*stack, i, o), (*stack, o, o)
        return cls(*(jnp.zeros(shape, jnp.float64) for shape in shapes))

    @property
    @in_float64
    def kernel_gradient(self) -> Float[Array, "*runs_and_stack i o"]:
        """∇_K L = XᵀΔ (*stack, i, o), of the mean loss over all samples."""
        return self.kernel_sum / beside(self.count, self.kernel_sum)

    @property
    @in_float64
    def output_products(self) -> Float[Array, "*runs_and_stack o o"]:
        """ΔᵀΔ (*stack, o, o), of the mean loss over all samples.

        Raises:
            ValueError: If it was not summed.
        """
        if self.output_sum is None:
            raise ValueError("output_sum is None: wanted it among the needs of a metric")
        return self.output_sum / beside(self.count, self.output_sum) ** 2


def check_gradients(gradients: Any) -> None:
    """Raise ``TypeError`` if something is not the gradient moments of one layer."""
    check_kind("gradients", gradients, GradientMoments, "gradient_moments(...)[name]")


class Backward(NamedTuple):
    """One forward and backward pass.

    Attributes:
        loss: L.
        output: Of the function.
        taps: By site.
        output_gradients: Δ = ∂L/∂z by site, (*stack, *rows, o); ∂L/∂h of a named activation h.
        kernel_gradients: ∇_K L by linear site, (*stack, i, o).
    """

    loss: Float[Array, ""]
    output: Any
    taps: dict[str, Tap]
    output_gradients: dict[str, Array]
    kernel_gradients: dict[str, Array]


def backward(
    f: Callable[..., PyTree], params: PyTree, *args: Any, loss: Callable[[Any], Array]
) -> Backward:
    """What flows through every linear layer of ``f(params, *args)``, forward and backward.

    For single samples; call it under ``jit`` and reduce what you need there.

    Args:
        f: ``f(params, *args) -> output``, see ``tap``.
        params: Its parameters.
        args: Data.
        loss: ``output -> L``, a scalar.

    Raises:
        ValueError: If the loss is not a scalar, or as ``tap``.

    Example:
        >>> params, x = {"w": jnp.ones((3, 2))}, jnp.ones((4, 3))
        >>> passed = backward(lambda p, x: x @ p["w"], params, x, loss=jnp.sum)
        >>> passed.output_gradients["w"].shape, passed.kernel_gradients["w"].tolist()
        ((4, 2), [[4.0, 4.0], [4.0, 4.0], [4.0, 4.0]])
    """
    return run_backward(*capture(f, params, args), loss)


def run_backward(
    traced: Traced,
    values: Sequence[Any],
    loss: Callable[[Any], Array],
    *,
    attention: bool = False,
) -> Backward:
    """``backward`` of a function that has been traced, at these values."""

    def objective(shifts: tuple[dict, dict]) -> tuple[Array, tuple[Any, dict[str, Tap]]]:
        output, taps = traced(values, *shifts, attention=attention)
        return scalar_loss(loss(output)), (output, taps)

    zeros = traced.layers.zeros(), traced.layers.kernel_zeros()
    (value, (output, taps)), gradients = jax.value_and_grad(objective, has_aux=True)(zeros)
    return Backward(value, output, taps, *gradients)


def run_forward(
    traced: Traced,
    values: Sequence[Any],
    loss: Callable[[Any], Array],
    *,
    attention: bool = False,
) -> Backward:
    """The same without gradients."""
    output, taps = traced(values, attention=attention)
    return Backward(scalar_loss(loss(output)), output, taps, {}, {})


def scalar_loss(loss: Any, name: str = "loss") -> Array:
    """What a loss of this name returns, if it is a scalar.

    Raises:
        TypeError: If it is no array.
        ValueError: If it is no scalar of floating point.
    """
    try:
        value = jnp.asarray(loss)
    except (TypeError, ValueError):
        kind = type(loss).__name__
        raise TypeError(f"{name} returns a {kind}: wanted a scalar of floating point") from None
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"{name} returns {value.dtype} of shape {value.shape}: wanted a scalar of floating "
            "point, the mean over the batch that a training step descends"
        )
    return value


@in_full_precision
def gradient_moments(
    f: Callable[..., PyTree], params: PyTree, *args: Any, loss: Callable[[Any], Array]
) -> dict[str, GradientMoments]:
    """∇_K L = XᵀΔ and ΔᵀΔ at every linear layer of ``f``, in one backward pass.

    It costs as much as ``jax.grad``, plus one product of n·s·o² per layer. Call it under ``jit``.
    ∇_K L comes from autodiff, in the network's type. ΔᵀΔ has that type (float32 for bfloat16):
    right to about 1e-6 for a float32 Δ. Both are kept and merged in float64. Products have full
    precision on accelerators too, see ``measure``.

    Args:
        f: ``f(params, batch, ...) -> output``, see ``tap``.
        params: Its parameters.
        args: Data; the arrays of the first have n samples on their first axis.
        loss: ``output -> L``, the mean over these n samples.

    Returns:
        By the name of the site.

    Raises:
        ValueError: If the loss is not a scalar, there are no samples, or as ``tap``.

    Source: arXiv 2605.06258, section 3.

    Example:
        >>> f = lambda params, x: jnp.tanh(x @ params["w"])
        >>> x, params = jnp.ones((7, 3)), {"w": jnp.ones((3, 5))}
        >>> gradient_moments(f, params, x, loss=lambda out: out.mean())["w"].output_products.shape
        (5, 5)
    """
    count = check_leading_axis("args[0]", args[0] if args else ())
    passed = backward(f, params, *args, loss=loss)
    return reduce_gradients(passed, count)


def reduce_gradients(
    passed: Backward,
    count: Any,
    names: Collection[str] | None = None,
    *,
    products: bool = True,
    by_sample: Mapping[str, Callable[[Array], Array]] | None = None,
) -> dict[str, GradientMoments]:
    """The gradient moments of a pass over ``count`` samples, of all sites or those named.

    Args:
        passed: The pass.
        count: Number of samples, or the sum of their weights.
        names: Of sites; None: all with a kernel.
        products: Whether to make Σ δδᵀ, which is (o, o).
        by_sample: By site where Σ ‖∇_K ℓ‖² is wanted, what brings features and Δ into the form
            (*stack, n, positions, columns).
    """
    moments, forms = {}, by_sample or {}
    for name, kernel_gradient in passed.kernel_gradients.items():
        if names is None or name in names:
            delta = _rows(passed.output_gradients[name], kernel_gradient.shape[:-2])
            squares = _products(delta) if products else None
            sums = _gradient_moments(count, kernel_gradient, squares)
            if form := forms.get(name):
                rows = form(passed.taps[name].features), form(passed.output_gradients[name])
                sums = dataclasses.replace(sums, square_sum=_sample_squares(count, *rows))
            moments[name] = sums
    return moments


def _rows(delta: Array, stack: tuple[int, ...]) -> Array:
    """Δ as (*stack, rows, o), in float32 at least."""
    rows = math.prod(delta.shape[len(stack) : -1])
    return widened(delta).reshape(*stack, rows, delta.shape[-1])


@in_float64
def _products(delta: Array) -> Array:
    """ΔᵀΔ in float64 from products in Δ's type, whose squares may not fit into that type."""
    scale = magnitude(delta, -2)  # of each unit, or those of small gradients are dead
    products, scale = gram(delta / scale), scale.astype(jnp.float64)
    return jnp.swapaxes(scale, -1, -2) * products * scale


@in_float64
def _sample_squares(count: Any, h: Array, delta: Array) -> Array:
    """Σ ‖∇_K ℓ‖² over samples, from h (*stack, n, s, i) and Δ (*stack, n, s, o).

    The gradient of a sample is Σ_s hδᵀ, and its square Σ_st (h_s·h_t)(δ_s·δ_t): no gradient is
    made.
    """
    scale, products = jnp.asarray(count).astype(jnp.float64), jnp.ones((), jnp.float64)
    for rows in (widened(h), widened(delta)):
        size = magnitude(rows, (-2, -1))  # of each sample: squares may not fit into the rows' type
        rows = rows / size
        scale = scale * size.astype(jnp.float64)
        products = products * matmul(rows, jnp.swapaxes(rows, -1, -2)).astype(jnp.float64)
    return (scale**2 * products).sum((-1, -2, -3))


@in_float64
def _gradient_moments(
    count: Any, kernel_gradient: Array, products: Array | None
) -> GradientMoments:
    n = jnp.asarray(count).astype(jnp.float64)

    def summed(scale: Array, array: Array) -> Array:  # a mean over no weight is NaN
        return jnp.where(n > 0, scale * array.astype(jnp.float64), 0.0)

    output_sum = None if products is None else summed(n**2, products)
    return GradientMoments(n, summed(n, kernel_gradient), output_sum)
