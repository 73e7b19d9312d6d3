"""The sums over a batch that the requested metrics need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from gramlin_jax._moments.additive import accumulate
from gramlin_jax._moments.features import Moments, moments
from gramlin_jax._moments.gradients import reduce_gradients, run_backward, run_forward
from gramlin_jax._moments.jacobians import reduce_jacobians
from gramlin_jax.metrics.registry import Need
from gramlin_jax.support.checks import check_leading_axis
from gramlin_jax.support.memory import remembered
from gramlin_jax.support.precision import in_float64
from gramlin_jax.taps import Site, Traced
from gramlin_jax.taps.rows import Rows, feature_rows

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


@remembered
def summing(
    traced: Traced,
    loss: Callable[[Any, Any], Any],
    outputs: Callable[[Any], Any] | None,
    names: tuple[str, ...],
    rows: tuple[tuple[str, Rows], ...],
    axes: tuple[tuple[str, int], ...],
    needs: frozenset[Need],
) -> Callable[..., Any]:
    """The compiled sums over a stack of batches, a function of arrays alone.

    Args:
        traced: The user's function at the shapes of one batch.
        loss: ``(output, y) -> L``.
        outputs: ``output -> logits``; None: the output itself.
        names: Sites whose gradients are summed.
        rows: By site whose features are summed, how they become rows.
        axes: By site whose Jacobians are summed, the row axis that counts samples.
        needs: Of the metrics.

    Returns:
        ``(held, projections, xs, ys) -> sums``: values of the trace before those of x,
        projections by site, and batches (batches, n, ...).
    """
    run = run_backward if {"kernel_gradient", "output_gradients"} & needs else run_forward

    def of_batch(held: list[Any], projections: dict[str, Array], x: PyTree, y: Array) -> Any:
        n = check_leading_axis("x", x)
        values = [*held, *jax.tree.leaves(x)]
        passed = run(traced, values, lambda output: loss(output, y))
        targets, numbers = _targets(outputs, passed.output, y)
        of_features = {
            name: _moments(
                feature_rows(passed.taps[name].features, traced.layers.sites[name], how, n),
                traced.layers.sites[name],
                targets,
                projections.get(name),
            )
            for name, how in rows
        }
        numbers |= {"count": n, "loss": _times(n, passed.loss)}
        products = "output_gradients" in needs
        of_outputs = (
            reduce_jacobians(traced, values, dict(axes), n, outputs=outputs or _whole)
            if "jacobians" in needs
            else {}
        )
        return {
            "numbers": {name: _as_float64(value) for name, value in numbers.items()},
            "moments": of_features,
            "gradients": reduce_gradients(passed, n, names, products=products),
            "jacobians": of_outputs,
        }

    @jax.jit
    def of_stack(held: list[Any], projections: dict[str, Array], xs: PyTree, ys: Array) -> Any:
        def of_one(batch: tuple[PyTree, Array]) -> Any:
            return of_batch(held, projections, *batch)

        return accumulate(of_one, (xs, ys), batch_size=None)

    return of_stack


def _whole(output: Any) -> Any:
    return output


def is_labels(y: Any) -> bool:
    """Whether targets are labels of classes, not real numbers."""
    return not jnp.issubdtype(y.dtype, jnp.floating)


def _targets(
    outputs: Callable[[Any], Any] | None, output: Any, y: Array
) -> tuple[Array, dict[str, Any]]:
    """Targets (rows, k), and counts: labels, labels that name a class, correct predictions."""
    if not is_labels(y):
        return y.reshape(len(y), -1), dict.fromkeys(("labels", "inside", "correct"), 0)
    logits = output if outputs is None else outputs(output)
    if not isinstance(logits, jax.Array) or logits.shape[:-1] != y.shape:
        raise ValueError(
            f"outputs gives {jax.tree.map(jnp.shape, logits)} for labels y {y.shape}: wanted an "
            f"array ({', '.join(map(str, y.shape))}, classes); name it by outputs=lambda out: …"
        )
    classes = logits.shape[-1]
    one_hot = jax.nn.one_hot(y.reshape(-1), classes, dtype=jnp.float32)
    correct = (logits.argmax(-1) == y).sum()
    inside = ((y >= 0) & (y < classes)).sum()
    return one_hot, {"labels": y.size, "inside": inside, "correct": correct}


def _moments(h: Array, site: Site, targets: Array, projection: Array | None) -> Moments:
    """Moments of rows (*layers, n, width), stacked (layers,) where a scan stacks layers."""

    def of_layer(h: Array) -> Moments:
        if projection is not None:
            h = lax.dot(h, projection.astype(h.dtype), precision="highest")
        return moments(h, targets)

    if not site.layers:
        return of_layer(h)
    return jax.vmap(of_layer)(h.reshape(-1, *h.shape[site.layers :]))


@in_float64
def _times(n: int, loss: Array) -> Array:
    return n * loss.astype(jnp.float64)


@in_float64
def _as_float64(value: Any) -> Array:
    return jnp.asarray(value).astype(jnp.float64)
