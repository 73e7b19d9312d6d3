"""The sums over a batch that the requested metrics need."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from gramlin_jax._measure.stream import Batch, is_labels
from gramlin_jax._moments.additive import accumulate
from gramlin_jax._moments.attention import AttentionMoments, attention_moments
from gramlin_jax._moments.features import Moments, class_moments, moments
from gramlin_jax._moments.gradients import (
    Backward,
    reduce_gradients,
    run_backward,
    run_forward,
    scalar_loss,
)
from gramlin_jax._moments.jacobians import reduce_jacobians
from gramlin_jax._moments.projection import Projection, projected
from gramlin_jax.metrics.layer_sums import OF_FEATURES, OF_GRADIENTS, Need
from gramlin_jax.support.accuracy import hits
from gramlin_jax.support.calls import noting
from gramlin_jax.support.memory import remembered
from gramlin_jax.support.precision import in_float64, with_promotion
from gramlin_jax.taps import Site, Traced
from gramlin_jax.taps.attention import Spread
from gramlin_jax.taps.rows import Rows, feature_rows, samples_first

if TYPE_CHECKING:
    from jaxtyping import Array


class Losses(NamedTuple):
    """What a batch is scored by: functions of the user's, and the label that does not count.

    Attributes:
        loss: ``(output, y) -> L``, or ``(output, y, weights) -> L``.
        outputs: ``output -> logits``; None: the output itself.
        ignore_label: Labels of this value have weight 0; None: none has.
        program: What a trace of the functions holds, see ``tracing.program``.
    """

    loss: Callable[..., Any]
    outputs: Callable[[Any], Any] | None
    ignore_label: int | None
    program: tuple[Hashable, ...] = ()

    def of(self, output: Any, batch: Batch) -> Any:
        """The loss of a batch."""
        given = {"output": output, "y": batch.y}
        if batch.weights is not None and _takes_three(self.loss):
            given["weights"] = batch.weights
        with noting("loss", **given):
            return self.loss(*given.values())


class Summed(NamedTuple):
    """What is summed over a batch.

    Attributes:
        losses: What it is scored by.
        names: Sites that are measured.
        rows: By site whose samples are told apart, how features become rows.
        axes: By site whose Jacobians are summed, the row axis that counts samples.
        needs: Of the metrics.
        probes: Random combinations of the outputs for the Jacobians; None: the outputs.
    """

    losses: Losses
    names: tuple[str, ...]
    rows: Mapping[str, Rows]
    axes: Mapping[str, int]
    needs: frozenset[Need]
    probes: int | None = None


@remembered
def summing(
    traced: Traced,
    losses: Losses,
    names: tuple[str, ...],
    rows: tuple[tuple[str, Rows], ...],
    axes: tuple[tuple[str, int], ...],
    needs: frozenset[Need],
    probes: int | None,
) -> Callable[..., Any]:
    """The compiled sums over a stack of batches, a function of arrays alone.

    Args:
        traced: The user's function at the shapes of one batch.
        losses: The user's loss.
        names: Sites whose gradients are summed.
        rows: By site whose features are summed, how they become rows.
        axes: By site whose Jacobians are summed, the row axis that counts samples.
        needs: Of the metrics.
        probes: Random combinations of the outputs for the Jacobians; None: the outputs.

    Returns:
        ``(held, projections, key, stack) -> sums``: values of the trace before those of x,
        projections by site, a key for the probes, and a ``Batch`` with one more leading axis.
    """
    run = run_backward if OF_GRADIENTS & needs else run_forward
    summed = Summed(losses, names, dict(rows), dict(axes), needs, probes)

    def of_batch(
        held: list[Any], projections: dict[str, Projection], batch: Batch, key: Array
    ) -> Any:
        values = [*held, *jax.tree.leaves(batch.x)]
        attention = "attention" in needs
        passed = run(traced, values, lambda output: losses.of(output, batch), attention=attention)
        return reduced(traced, values, passed, batch, projections, summed, key)

    @jax.jit
    def of_stack(
        held: list[Any], projections: dict[str, Projection], key: Array, stack: Batch
    ) -> Any:
        keys = jax.random.split(key, len(stack.labels))
        return accumulate(
            lambda each: of_batch(held, projections, *each), (stack, keys), batch_size=None
        )

    return of_stack


@with_promotion
def reduced(
    traced: Traced,
    values: list[Any],
    passed: Backward,
    batch: Batch,
    projections: Mapping[str, Projection],
    summed: Summed,
    key: Array | None = None,
) -> dict[str, Any]:
    """The sums of all layers from one pass over a batch.

    Args:
        traced: The function at this batch.
        values: What it was run with.
        passed: The pass; of the taps only attention and the features of ``summed.rows`` are read.
        batch: The samples.
        projections: By site.
        summed: What to sum.
        key: Of the probes, if there are any.
    """
    losses, names, rows, axes, needs, probes = summed
    n, outputs = len(batch.labels), losses.outputs or (lambda output: output)
    sites = traced.layers.sites
    scored = score(losses, passed.output, batch)
    of_features = {
        name: _moments(
            feature_rows(passed.taps[name].features, sites[name], how, n),
            sites[name],
            scored,
            projections.get(name),
        )
        for name, how in rows.items()
        if needs & OF_FEATURES
    }
    loss = _times(scored.weight, passed.loss)
    numbers = {**scored.numbers, "count": n, "weight": scored.weight, "loss": loss}
    products = "output_gradients" in needs
    by_sample: dict[str, Any] = {}
    if "sample_gradients" in needs and scored.weights is None:  # else samples are no equals
        by_sample = {
            name: functools.partial(samples_first, site=sites[name], axis=rows[name].axis, n=n)
            for name in rows
            if name in names and sites[name].primitive == "dot_general"
        }
    of_outputs: dict[str, Any] = {}
    if "jacobians" in needs:
        of_outputs = reduce_jacobians(
            traced, values, axes, n, outputs=outputs, probes=probes, key=key, weights=scored.weights
        )
    return {
        "numbers": {name: _as_float64(value) for name, value in numbers.items()},
        "moments": of_features,
        "gradients": reduce_gradients(
            passed, scored.weight, names, products=products, by_sample=by_sample
        ),
        "jacobians": of_outputs,
        "attention": {
            name: _attention_moments(spread, sites[name], rows.get(name), scored, n)
            for name in names
            if (spread := passed.taps[name].attention) is not None
            if scored.weights is None or name in rows
        },
    }


def _attention_moments(
    spread: Spread, site: Site, how: Rows | None, scored: Scored, n: int
) -> AttentionMoments:
    """Sums over the queries of a layer, with the weights of their samples or tokens."""
    layers = len(site.stack)
    if scored.weights is None or how is None:
        return attention_moments(spread, tuple(range(layers, layers + len(site.rows))))

    def in_order(array: Array) -> Array:  # (*stack, n, positions, heads)
        array = samples_first(array, site, how.axis, n)
        return array if how.order is None else jnp.take(array, jnp.asarray(how.order), axis=-2)

    weights = scored.weights.reshape(n, -1, 1)
    return attention_moments(jax.tree.map(in_order, spread), (layers, layers + 1), weights)


class Scored(NamedTuple):
    """What a batch's labels and weights say.

    Attributes:
        targets: Labels (rows,), or real targets (rows, k).
        classes: Of the labels; None: targets are real.
        weights: Of the rows (rows,); None: 1.
        weight: Σ weights, over labels where these have positions; n without weights.
        numbers: Sums of labels that count, of those that name no class, and of correct ones.
    """

    targets: Array
    classes: int | None
    weights: Array | None
    weight: Any
    numbers: dict[str, Any]


def score(losses: Losses, output: Any, batch: Batch) -> Scored:
    """Targets, weights and correct predictions of a batch."""
    labels, weights = batch.labels, batch.weights
    if not is_labels(labels):
        none = dict.fromkeys(("labels", "unknown", "correct"), 0)
        weight = len(labels) if weights is None else weights.sum()
        return Scored(labels.reshape(len(labels), -1), None, weights, weight, none)
    given, labels = labels, labels.astype(jnp.int32)
    logits = class_logits(losses.outputs, output, labels)
    classes = logits.shape[-1]
    if losses.ignore_label is not None or weights is not None:
        weights = label_weights(losses.ignore_label, batch)
    counted = jnp.ones(labels.shape, bool) if weights is None else weights > 0
    labels = jnp.where(counted, labels, 0)
    right = hits(logits, labels)
    right = right if weights is None else jnp.where(counted, weights * right, 0)
    numbers = {
        "labels": labels.size if weights is None else weights.sum(),
        "unknown": (counted & _names_none(given, classes)).sum(),
        "correct": right.sum(),
    }
    of_rows = None if weights is None else weights.reshape(-1)
    weight = len(labels) if weights is None else weights.sum()
    return Scored(labels.reshape(-1), classes, of_rows, weight, numbers)


@in_float64
def _names_none(labels: Array, classes: int) -> Array:
    """Where labels name no class, by all of their bits."""
    return (labels < 0) | (labels >= classes)


def scoring(losses: Losses, output: Any, batch: Batch) -> Any:
    """All that the user's functions make of an output."""
    made = losses.outputs(output) if losses.outputs else None
    return made, score(losses, output, batch), scalar_loss(losses.of(output, batch))


def refuse_unknown(numbers: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if labels name no class, see ``Scored.numbers``."""
    if numbers["unknown"]:
        raise ValueError(
            f"y has {numbers['unknown']:.6g} labels of {numbers['labels']:.6g} that name none of "
            "the classes of the outputs: wanted 0 to classes - 1, or ignore_label= for others"
        )


def label_weights(ignored: int | None, batch: Batch) -> Array:
    """A weight for each label, or for each sample with real targets."""
    labels = (
        batch.labels.astype(jnp.int32)
        if is_labels(batch.labels)
        else batch.labels.reshape(len(batch.labels), -1)[:, 0]
    )
    weights = jnp.ones(labels.shape) if batch.weights is None else batch.weights
    weights = weights.astype(jnp.float32).reshape(
        *weights.shape, *[1] * (labels.ndim - weights.ndim)
    )
    weights = jnp.broadcast_to(weights, labels.shape)
    return weights if ignored is None else jnp.where(labels == ignored, 0, weights)


def class_logits(outputs: Callable[[Any], Any] | None, output: Any, labels: Array) -> Array:
    """Logits (*labels, classes); one logit is that of class 1 of two."""
    logits = output if outputs is None else outputs(output)
    shape = logits.shape if isinstance(logits, jax.Array) else None
    if shape == labels.shape:
        logits, shape = logits[..., None], (*shape, 1)
    if shape is None or shape[:-1] != labels.shape:
        given = type(logits).__name__ if shape is None else f"shape {shape}"
        raise ValueError(
            f"outputs gives {given} for labels {labels.shape}: wanted an array "
            f"({', '.join(map(str, labels.shape))}, classes); name it by outputs=lambda out: …, or "
            "labels of other axes by targets=lambda y: … (real targets are of floating point)"
        )
    return jnp.concatenate([0 * logits, logits], -1) if shape[-1] == 1 else logits


def _takes_three(loss: Callable[..., Any]) -> bool:
    try:
        inspect.signature(loss).bind(0, 0, 0)
    except (TypeError, ValueError):  # it takes fewer, or has no signature
        return False
    return True


def _moments(h: Array, site: Site, scored: Scored, projection: Projection | None) -> Moments:
    """Moments of rows (*layers, n, width), stacked (layers,) where a scan stacks layers."""

    def of_layer(h: Array) -> Moments:
        h = h if projection is None else projected(h, projection)
        if scored.classes is None:
            return moments(h, scored.targets, weights=scored.weights)
        return class_moments(h, scored.targets, scored.classes, weights=scored.weights)

    if not site.layers:
        return of_layer(h)
    return jax.vmap(of_layer)(h.reshape(-1, *h.shape[site.layers :]))


@in_float64
def _times(weight: Any, loss: Array) -> Array:
    """weight·loss in float64, 0 where nothing counts."""
    weight = jnp.asarray(weight).astype(jnp.float64)
    return jnp.where(weight > 0, weight * loss.astype(jnp.float64), 0.0)


@in_float64
def _as_float64(value: Any) -> Array:
    return jnp.asarray(value).astype(jnp.float64)
