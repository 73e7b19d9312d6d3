"""Second moments of gradients at every linear layer, reduced in the pass that makes them.

At a site z = XK (see ``gramlin_jax.taps``) one backward pass gives Δ = ∂L/∂z and ∇_K L = XᵀΔ. No
gradient of a single sample leaves the compiled function: sums over rows take its place.

Shapes: n samples, s shared positions, i inputs, o outputs, k outputs of the network; stack, axes
of separate kernels.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import jax
import jax.numpy as jnp
from jax import lax

from gramlin_jax.support.checks import check_leading_axis
from gramlin_jax.support.precision import in_float64, matmul
from gramlin_jax.taps import Program, Tap
from gramlin_jax.taps.rows import sample_axes, samples_first

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree


class _Sums:
    """A pytree of sums: two of them add entry by entry."""

    @in_float64
    def __add__(self, other: Self) -> Self:
        if type(self) is not type(other):
            return NotImplemented
        shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(sums)] for sums in (self, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"moments of shapes {shapes[0]} and {shapes[1]} do not add: wanted the same layer"
            )
        return jax.tree.map(lambda a, b: a + b, self, other)

    def __radd__(self, other: object) -> Self:
        """``0 + m`` is m, so that ``sum`` works."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    @in_float64
    def psum(self, axis_name: str | tuple[str, ...]) -> Self:
        """The sums over all devices along ``axis_name``, inside ``shard_map`` or ``vmap``."""
        return jax.tree.map(lambda a: lax.psum(a, axis_name), self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GradientMoments(_Sums):
    """Sums of a layer's gradients over samples; a sum over batches by ``+``.

    They are kept for losses ℓ of single samples, L = Σℓ/n, so that the merger of two batches is
    that of their union: with δ = ∂ℓ/∂z = nΔ, Σ over rows.

    Attributes:
        count: Number of samples n.
        kernel_sum: Σ x δᵀ (*stack, i, o).
        output_sum: Σ δ δᵀ (*stack, o, o).
    """

    count: Float[Array, ""]
    kernel_sum: Float[Array, "*stack i o"]
    output_sum: Float[Array, "*stack o o"]

    @property
    @in_float64
    def kernel_gradient(self) -> Float[Array, "*stack i o"]:
        """∇_K L = XᵀΔ (*stack, i, o), of the mean loss over all samples."""
        return self.kernel_sum / self.count

    @property
    @in_float64
    def output_products(self) -> Float[Array, "*stack o o"]:
        """ΔᵀΔ (*stack, o, o), of the mean loss over all samples."""
        return self.output_sum / self.count**2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class JacobianMoments(_Sums):
    """Sums of a layer's Jacobians over samples; a sum over batches by ``+``.

    With δ_c = ∂f_c/∂z, the Gram of sample i is Gᵢ = Σ_c δ_c δ_cᵀ (summed over its positions too).

    Attributes:
        count: Number of samples n.
        products: Σᵢ Gᵢ (*stack, o, o).
        squares: Σᵢ ‖Gᵢ‖² (*stack,), what makes estimates of tr J² without bias; with random probes
            of the estimates Ĝᵢ, to the same end.
    """

    count: Float[Array, ""]
    products: Float[Array, "*stack o o"]
    squares: Float[Array, "*stack"]

    @property
    @in_float64
    def mean(self) -> Float[Array, "*stack o o"]:
        """J = Σᵢ Gᵢ / n (*stack, o, o), symmetric, positive semi-definite."""
        return self.products / self.count


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
    """
    return run_backward(Program(f, params, args, {}), loss)


def run_backward(program: Program, loss: Callable[[Any], Array]) -> Backward:
    """``backward`` of a function that has been traced."""

    def objective(shifts: tuple[dict, dict]) -> tuple[Array, tuple[Any, dict[str, Tap]]]:
        output, taps = program(*shifts)
        value = jnp.asarray(loss(output))
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(
                f"loss returns {value.dtype} of shape {value.shape}: wanted a scalar of floating "
                "point, the mean over the batch that a training step descends"
            )
        return value, (output, taps)

    zeros = program.layers.zeros(), program.layers.kernel_zeros()
    (value, (output, taps)), gradients = jax.value_and_grad(objective, has_aux=True)(zeros)
    return Backward(value, output, taps, *gradients)


def gradient_moments(
    f: Callable[..., PyTree], params: PyTree, *args: Any, loss: Callable[[Any], Array]
) -> dict[str, GradientMoments]:
    """∇_K L = XᵀΔ and ΔᵀΔ at every linear layer of ``f``, in one backward pass.

    It costs what ``jax.grad`` costs and one product of n·s·o² a layer; call it under ``jit``. ∇_K L
    is autodiff's own, in the network's type and matmul precision. ΔᵀΔ is of that type (float32 for
    bfloat16) at full precision: right to about 1e-6 for a float32 Δ. Both are kept and merged in
    float64.

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
    passed: Backward, count: int, names: Collection[str] | None = None
) -> dict[str, GradientMoments]:
    """The gradient moments of a pass over ``count`` samples, of all sites or those named."""
    moments = {}
    for name, kernel_gradient in passed.kernel_gradients.items():
        if names is not None and name not in names:
            continue
        stack = kernel_gradient.shape[:-2]
        delta = _wide(passed.output_gradients[name])
        delta = delta.reshape(*stack, math.prod(delta.shape[len(stack) : -1]), delta.shape[-1])
        products = matmul(jnp.swapaxes(delta, -1, -2), delta)
        moments[name] = _gradient_moments(count, kernel_gradient, products)
    return moments


@in_float64
def _gradient_moments(count: int, kernel_gradient: Array, products: Array) -> GradientMoments:
    n = jnp.float64(count)
    gradient, products = (a.astype(jnp.float64) for a in (kernel_gradient, products))
    return GradientMoments(n, n * gradient, n**2 * products)


def jacobian_moments(
    f: Callable[..., PyTree],
    params: PyTree,
    *args: Any,
    outputs: Callable[[Any], Array] = lambda output: output,
    chunk: int | None = None,
    probes: int | None = None,
    key: Array | None = None,
) -> dict[str, JacobianMoments]:
    """J = (1/n) Σᵢ Σ_c δᵢ_c δᵢ_cᵀ at every linear layer of ``f``, δᵢ_c = ∂f_c/∂z at sample i.

    By one pullback for each of the k outputs, all samples at once, so the outputs of a sample may
    depend on that sample only; or, where outputs are many, by ``probes`` random combinations u ~
    N(0, I) of them, drawn for each sample by itself: then J is right in expectation. Call it under
    ``jit``; memory is that of k (or ``probes``) gradients of the pre-activations.

    Args:
        f: ``f(params, batch, ...) -> output``, see ``tap``.
        params: Its parameters.
        args: Data; the arrays of the first have n samples on their first axis.
        outputs: ``output -> (n, ...)``, the outputs to differentiate.
        chunk: Pullbacks to do at once; None: all.
        probes: Number of random combinations in place of all outputs.
        key: Of the random combinations.

    Returns:
        By the name of the site.

    Raises:
        ValueError: If the outputs are not (n, ...), ``chunk`` or ``probes`` < 1, ``probes`` come
            without ``key``, samples cannot be told apart at a site, or as ``tap``.
    """
    n = check_leading_axis("args[0]", args[0] if args else ())
    for name, number in (("chunk", chunk), ("probes", probes)):
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}: wanted at least 1")
    program = Program(f, params, args, {})
    axes = sample_axes(f, params, args, program.layers)

    def selected(shifts: dict[str, Array]) -> Any:
        return outputs(program(shifts, {})[0])

    out, pullback = cast("tuple[Array, Any]", jax.vjp(selected, program.layers.zeros()))
    if not out.ndim or out.shape[0] != n:
        raise ValueError(f"outputs has shape {out.shape}: wanted ({n}, ...), a row a sample")
    cotangents, scale = _basis(out, n) if probes is None else _probes(out, probes, key)
    like = jnp.zeros_like(out)  # as the output varies over devices
    deltas = lax.map(
        lambda c: pullback(like + c)[0], cotangents, batch_size=chunk or len(cotangents)
    )
    moments = {}
    for name, site in program.layers.sites.items():
        if site.has_kernel:
            axis = axes[name]
            if isinstance(axis, str):
                raise ValueError(f"args[0] at {name}: {axis}; wanted one row axis of samples")
            split = functools.partial(samples_first, site=site, axis=axis, n=n)
            moments[name] = _jacobian_moments(_wide(jax.vmap(split)(deltas[name])), scale)
    return moments


def _basis(out: Array, n: int) -> tuple[Array, float]:
    """Cotangents (k, n, ...) that pick one output each, of all samples."""
    k = out.size // n
    return jnp.eye(k, dtype=out.dtype).reshape(k, 1, *out.shape[1:]), 1.0


def _probes(out: Array, probes: int, key: Array | None) -> tuple[Array, float]:
    """Random cotangents (probes, n, ...), and what makes the sum over them a mean."""
    if key is None:
        raise ValueError("key is None: wanted a jax.random.key for the random probes")
    return jax.random.normal(key, (probes, *out.shape), out.dtype), 1 / probes


@in_float64
def _jacobian_moments(deltas: Array, scale: float) -> JacobianMoments:
    """From δ (c, *stack, n, s, o)."""
    c, *stack, n, s, o = deltas.shape
    rows = jnp.moveaxis(deltas, 0, -3).reshape(*stack, n, c * s, o)
    rows_t = jnp.swapaxes(rows, -1, -2)
    # ‖Gᵢ‖ is that of either Gram of the sample's rows: take the smaller one.
    own = matmul(rows, rows_t) if c * s <= o else matmul(rows_t, rows)
    squares = (own.astype(jnp.float64) ** 2).sum((-3, -2, -1)) * scale**2
    flat = rows.reshape(*stack, n * c * s, o)
    products = matmul(jnp.swapaxes(flat, -1, -2), flat).astype(jnp.float64) * scale
    return JacobianMoments(jnp.float64(n), products, squares)


def _wide(array: Array) -> Array:
    """``array`` in float32 at least."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))
