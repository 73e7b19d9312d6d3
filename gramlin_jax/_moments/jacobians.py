"""Second moments of the outputs' Jacobian at every linear layer.

They are reduced in the pass that makes them: no gradient of a single sample leaves it.

Shapes: n samples, s shared positions, o outputs of a layer, k outputs of the network; stack, axes
of separate kernels.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
from jax import lax

from gramlin_jax._moments.additive import Additive, beside
from gramlin_jax._moments.projection import random_signs
from gramlin_jax.support.checks import check_count, check_floating, check_leading_axis
from gramlin_jax.support.linalg import gram, matmul
from gramlin_jax.support.memory import remembered
from gramlin_jax.support.precision import in_float64, in_full_precision, magnitude, widened
from gramlin_jax.taps import Traced, capture, compat
from gramlin_jax.taps.plan import CONSTANT, Provenance
from gramlin_jax.taps.provenance import make_plan
from gramlin_jax.taps.rows import doubled, sample_axes, samples_first

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree

FEW = 10  # rows of a sample: the classes of a common network, 55 pairs


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class JacobianMoments(Additive):
    """Sums of a layer's Jacobians over samples; a sum over batches by ``+``.

    With δ_c = ∂f_c/∂z, the Gram of sample i is Gᵢ = Σ_c δ_c δ_cᵀ (summed over its positions too).

    Attributes:
        count: Number of samples n.
        products: Σᵢ Gᵢ (*stack, o, o).
        squares: Σᵢ ‖Gᵢ‖² (*stack,), with which tr J² is estimated without bias; with random probes,
            Σᵢ ‖Ĝᵢ‖² of their estimates.
    """

    count: Float[Array, "*runs"]
    products: Float[Array, "*runs_and_stack o o"]
    squares: Float[Array, "*runs_and_stack"]

    @classmethod
    @in_float64
    def zeros(cls, o: int, stack: tuple[int, ...] = ()) -> JacobianMoments:
        """The sums of no sample: the neutral element of ``+``."""
        return cls(*(jnp.zeros(shape, jnp.float64) for shape in ((), (*stack, o, o), stack)))

    @property
    @in_float64
    def mean(self) -> Float[Array, "*runs_and_stack o o"]:
        """J = Σᵢ Gᵢ / n (*stack, o, o), symmetric, positive semi-definite."""
        return self.products / beside(self.count, self.products)


@in_full_precision
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

    It takes one pullback for each of the k outputs, all samples at once, so the outputs of a sample
    must depend on that sample alone. With many outputs, take ``probes`` random combinations u of
    them instead, with a random sign for each output and sample: then J is right in expectation, as
    E uuᵀ = I. Call it under ``jit``; it holds k (or ``probes``) gradients of the pre-activations in
    memory. Products have full precision on accelerators too, see ``measure``.

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
            without ``key`` or are more than the outputs, samples cannot be told apart at a site, or
            as ``tap``.

    Source: arXiv 2212.13881 (the average gradient outer product, at the pre-activations).

    Example:
        >>> f = lambda params, x: jnp.tanh(x @ params["w"])
        >>> found = jacobian_moments(f, {"w": jnp.eye(3)}, jnp.zeros((7, 3)))
        >>> np.diagonal(found["w"].mean).tolist()
        [1.0, 1.0, 1.0]
    """
    n = check_leading_axis("args[0]", args[0] if args else ())
    for name, number in (("chunk", chunk), ("probes", probes)):
        if number is not None:
            check_count(name, number)
    traced, values = capture(f, params, args)
    axes, skipped = sample_axes(traced, doubled(f, params, args), n)
    for name, why in skipped.items():
        if traced.layers.sites[name].has_kernel:
            raise ValueError(f"args[0] at {name}: {why}; wanted one row axis of samples")
    return reduce_jacobians(
        traced, values, axes, n, outputs=outputs, chunk=chunk, probes=probes, key=key
    )


def reduce_jacobians(
    traced: Traced,
    values: Sequence[Any],
    axes: Mapping[str, int],
    n: int,
    *,
    outputs: Callable[[Any], Array],
    chunk: int | None = None,
    probes: int | None = None,
    key: Array | None = None,
    weights: Array | None = None,
) -> dict[str, JacobianMoments]:
    """``jacobian_moments`` of a traced function, at the sites whose sample axis is known.

    Args:
        traced: The function.
        values: What it is run with, see ``Traced``.
        axes: By site, the row axis that counts samples; sites without a kernel are left out.
        n: Number of samples.
        outputs: As for ``jacobian_moments``, and so the rest.
        chunk: See there.
        probes: See there.
        key: See there.
        weights: How often each sample counts, (n,), or each row of the outputs; None: once.
    """

    def selected(shifts: dict[str, Array]) -> Any:
        return outputs(traced(values, shifts)[0])

    out, pullback = cast("tuple[Array, Any]", jax.vjp(selected, traced.layers.zeros()))
    out = check_floating("outputs", out)  # of others the pullback is 0, or that of a real part
    if jnp.shape(out)[:1] != (n,):
        raise ValueError(f"outputs has shape {jnp.shape(out)}: wanted ({n}, ...), a row a sample")
    cotangents, scale = _basis(out, n) if probes is None else _probes(out, probes, key)
    like = jnp.zeros_like(out)  # as the output varies over devices
    counts = _by_output(out, weights)
    deltas = lax.map(
        lambda c: pullback(counts * (like + c))[0], cotangents, batch_size=chunk or len(cotangents)
    )
    of_samples = weights if weights is not None and weights.size == n else None
    moments = {}
    for name, axis in axes.items():
        site = traced.layers.sites[name]
        if site.has_kernel:
            split = functools.partial(samples_first, site=site, axis=axis, n=n)
            moments[name] = _jacobian_moments(
                widened(jax.vmap(split)(deltas[name])), scale, of_samples
            )
    return moments


def _by_output(out: Array, weights: Array | None) -> Array:
    """√weights along the first axes of the outputs: each δδᵀ counts by its weight."""
    if weights is None:
        return jnp.ones((), out.dtype)
    axes = next(i for i in range(1, out.ndim + 1) if math.prod(out.shape[:i]) == weights.size)
    rows = jnp.sqrt(weights).reshape(*out.shape[:axes], *[1] * (out.ndim - axes))
    return rows.astype(out.dtype)


@remembered
def fixed_jacobians(
    traced: Traced, outputs: Callable[[Any], Array] | None, types: tuple[Any, ...]
) -> frozenset[str]:
    """Sites where ∂f/∂z depends on neither parameters nor data, as at the last linear layer.

    Args:
        traced: The function.
        outputs: As for ``jacobian_moments``; None: the output itself.
        types: Of the values that it is run with, see ``compat.type_of``.
    """

    def deltas(*values: Any) -> dict[str, Array]:
        def selected(shifts: dict[str, Array]) -> Any:
            output = traced(values, shifts)[0]
            return outputs(output) if outputs else output

        out, pullback = cast("tuple[Array, Any]", jax.vjp(selected, traced.layers.zeros()))
        return pullback(jnp.ones_like(out))[0]

    # In the equations of the backward pass all but the cotangent counts as data.
    jaxpr, constants, shapes = compat.trace(deltas, *types)
    sources = [CONSTANT] * len(constants) + [Provenance(data=True)] * len(types)
    found = make_plan(compat.Inner(jaxpr, []), sources, itertools.count()).outputs
    return frozenset(name for name, of in zip(sorted(shapes), found, strict=True) if not of.data)


def _basis(out: Array, n: int) -> tuple[Array, float]:
    """Cotangents (k, n, ...) that pick one output each, of all samples."""
    k = out.size // n
    return jnp.eye(k, dtype=out.dtype).reshape(k, 1, *out.shape[1:]), 1.0


def _probes(out: Array, probes: int, key: Array | None) -> tuple[Array, float]:
    """Random signs (probes, n, ...), and the factor that turns the sum over them to a mean."""
    if key is None:
        raise ValueError("key is None: wanted a jax.random.key for the random probes")
    if probes > (k := out[0].size):
        raise ValueError(f"probes is {probes}: wanted at most {k}, the number of outputs")
    return random_signs(key, (probes, *out.shape), out.dtype), 1 / probes


@in_float64
def _jacobian_moments(deltas: Array, scale: float, weights: Array | None) -> JacobianMoments:
    """From δ (c, *stack, n, s, o), in which the roots of weights are already."""
    c, *stack, n, s, o = deltas.shape
    # The squares of δ may not fit into its type.
    unit = magnitude(deltas, (0, -3, -2, -1))
    rows = jnp.moveaxis(deltas / unit, 0, -4)
    squares = _square_norms(jnp.moveaxis(rows, -2, -3).reshape(*stack, c * s, n, o))
    count = jnp.float64(n)
    if weights is not None:  # Σ wᵢ‖Gᵢ‖², as of samples that are there so often
        weights = weights.astype(jnp.float64)
        squares, count = squares / jnp.where(weights > 0, weights, 1), weights.sum()
    factor = scale * unit.reshape(stack).astype(jnp.float64) ** 2
    products = gram(rows.reshape(*stack, c * n * s, o)).astype(jnp.float64)
    return JacobianMoments(count, products * factor[..., None, None], squares.sum(-1) * factor**2)


def _square_norms(rows: Array) -> Array:
    """‖Gᵢ‖² (*stack, n), where Gᵢ sums δδᵀ over the r rows of a sample, (*stack, r, n, o).

    ‖Gᵢ‖² is also Σ_pq (δ_p·δ_q)². On a CPU a batch of products of few rows takes four times as long
    as these scalar products, pair by pair.
    """
    r, _, o = rows.shape[-3:]
    if r <= FEW:
        pairs = itertools.combinations_with_replacement(range(r), 2)
        times = [(p, q, (rows[..., p, :, :] * rows[..., q, :, :]).sum(-1)) for p, q in pairs]
        squares = [(2 - (p == q)) * dot.astype(jnp.float64) ** 2 for p, q, dot in times]
        return functools.reduce(jnp.add, squares)
    of_sample = jnp.swapaxes(rows, -3, -2)
    transposed = jnp.swapaxes(of_sample, -1, -2)
    smaller = matmul(of_sample, transposed) if r <= o else matmul(transposed, of_sample)
    return (smaller.astype(jnp.float64) ** 2).sum((-2, -1))
