"""``measure``: one streaming pass over the data, every metric of every linear layer."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gramlin_jax._measure.batch import is_labels, summing
from gramlin_jax._measure.measurement import Measurement
from gramlin_jax._measure.stream import stacks
from gramlin_jax._moments.additive import accumulate
from gramlin_jax._moments.projection import random_projection
from gramlin_jax.metrics.linearity import undefined_because
from gramlin_jax.metrics.registry import (
    DEFAULT,
    OF_FEATURES,
    OF_SAMPLES,
    LayerSums,
    Metric,
    Need,
    chosen_metrics,
    needs_of,
)
from gramlin_jax.support.checks import check_at_least, check_leading_axis
from gramlin_jax.support.devices import automatic, replicated
from gramlin_jax.support.memory import remembered
from gramlin_jax.support.precision import in_float64, widened
from gramlin_jax.taps import Layers, Site, Traced, recall
from gramlin_jax.taps.rows import Rows, doubled, find_rows, follow_samples, sample_axes

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


def measure(
    f: Callable[..., PyTree],
    params: PyTree,
    batches: tuple[PyTree, Array] | Iterable[tuple[PyTree, Array]],
    *,
    loss: Callable[[Any, Array], Array],
    outputs: Callable[[Any], Array] | None = None,
    metrics: Sequence[str] | Mapping[str, Metric | Callable[[LayerSums], Any]] = DEFAULT,
    layers: Sequence[str] | None = None,
    learning_rate: float = 0.01,
    batch_size: int = 1024,
    positions: Literal["flatten", "mean"] = "flatten",
    width_limit: int = 1024,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> Measurement:
    """All metrics of all linear layers of ``f(params, x)``, in one pass over the samples.

    Each batch goes forward and backward once and is reduced to sums (``Moments``,
    ``GradientMoments``) in the same compiled function: memory is O(width²) per layer, whatever the
    number of samples. A layer's features are its inputs; the features of an activation named by
    ``jax.ad_checkpoint.checkpoint_name`` are the activation itself.

    ``f`` is traced twice in the first call, once for a batch of another size, and never again for
    the same ``f`` and shapes; nor is anything compiled then. If ``f`` closes over arrays, it is
    traced in each call, to see their present values.

    Args:
        f: ``f(params, x) -> output``, any JAX function, in evaluation mode.
        params: Its parameters, a pytree.
        batches: A pair of arrays (x, y), read in slices of ``batch_size``, or an iterable of such
            pairs. x may be a pytree of arrays (n, ...). y holds integer labels (n,), or
            (n, *positions) with one label per token; or real targets (n, ...).
        loss: ``(output, y) -> L``, a scalar, the mean over samples that a training step descends.
        outputs: ``output -> logits`` (n, *positions, classes), needed for integer labels where f
            does not return a single array.
        metrics: Names from ``METRICS``; or a mapping from names to ``Metric`` entries, which say
            what they need, or to scalar JAX functions of ``LayerSums``, which get all sums. Only
            the sums that are needed are made.
        layers: Names of the layers to measure, as ``find_layers`` lists them; None: all. For the
            others no sums are made: a language model's head would need (classes, classes).
        learning_rate: η of the virtual covariance, and of the step that it is compared with.
        batch_size: Samples per slice; only speed and memory depend on it.
        positions: What becomes of shared positions (pixels, tokens) where a sample has one target:
            ``"flatten"`` puts them side by side, ``"mean"`` averages them. With a label per token,
            tokens are the samples, in the order in which the layer reads them.
        width_limit: Wider features are reduced to this width by a random projection, which can
            lower target linearity but not raise it; ``notes`` say where.
        seed: Seed of that projection.
        mesh: Devices, along whose first axis samples are spread; None: where the arrays are.

    Raises:
        ValueError: If there are no samples, batches differ in structure, a label names no class,
            an argument is out of range, or as ``tap``.
        TypeError: If ``batches`` does not hold pairs.

    Source: arXiv 2605.06258, sections 3 and 4.

    Example:
        >>> f = lambda params, x: jnp.tanh(x @ params["in"]) @ params["out"]
        >>> params = {"in": jnp.ones((3, 5)), "out": jnp.ones((5, 2))}
        >>> x, y = jax.random.normal(jax.random.key(0), (50, 3)), jnp.arange(50) % 2
        >>> m = measure(f, params, (x, y), loss=lambda out, y: optax.losses.
        ...     softmax_cross_entropy_with_integer_labels(out, y).mean())
        >>> m.layers, sorted(m["out"])[:2]
        (('in', 'out'), ['adjusted', 'gradient_norm'])
    """
    _check_options(batch_size, width_limit, positions)
    chosen = chosen_metrics(metrics)
    needs, mesh = needs_of(chosen), automatic(mesh)
    pieces = stacks(batches, batch_size, mesh)
    first = next(pieces, None)
    if first is None:
        raise ValueError("batches is empty: wanted one pair (x, y) or more")
    at, (x, y) = _tracing(f, params, mesh), jax.tree.map(lambda a: a[0], first)
    traced, held = at(first[0])
    twice = functools.partial(doubled, f, params, (x,), how=recall)
    plan = _plan(traced, twice, held, (x, y), layers, needs, positions, width_limit)
    projections = replicated(_projections(plan, seed), mesh)

    def of_stack(stack: tuple[PyTree, Array]) -> Any:
        xs, ys = stack
        here, held = at(xs)
        _check_same_layers(traced, here, plan.axes, len(y), ys.shape[1])
        rows, axes = tuple(plan.rows.items()), tuple(plan.axes.items())
        sums = summing(here, loss, outputs, plan.names, rows, axes, needs)
        return sums(held, projections, xs, ys)

    total = accumulate(of_stack, itertools.chain([first], pieces))
    total["kernel"] = _kernels(traced)(held, x)
    total = jax.device_get(total)  # float64, and on no device
    _check_labels(total["numbers"])
    return _measured(plan, total, chosen, learning_rate)


class _Plan(NamedTuple):
    """What becomes of the layers that are measured.

    Attributes:
        layers: All that were found.
        names: Sites to measure.
        axes: By site, the row axis that counts samples.
        rows: By site, how features become rows.
        skipped: By site, why something is not measured.
        width_limit: Of features before they are projected.
        classes: Whether targets are labels.
    """

    layers: Layers
    names: tuple[str, ...]
    axes: dict[str, int]
    rows: dict[str, Rows]
    skipped: dict[str, str]
    width_limit: int
    classes: bool


def _plan(
    traced: Traced,
    twice: Callable[[], Traced | None],
    held: list[Any],
    batch: tuple[PyTree, Array],
    layers: Sequence[str] | None,
    needs: frozenset[Need],
    positions: Literal["flatten", "mean"],
    width_limit: int,
) -> _Plan:
    """Which layers are measured, and how; samples are told apart only where a metric needs it."""
    (x, y), names = batch, _named(traced.layers, layers)
    axes: dict[str, int] = {}
    rows: dict[str, Rows] = {}
    skipped: dict[str, str] = {}
    if needs & OF_SAMPLES:
        found, reasons = sample_axes(traced, twice(), len(y))
        axes = {name: found[name] for name in names if name in found}
        skipped = {name: reasons[name] for name in names if name in reasons}
    if needs & OF_FEATURES:
        tokens = math.prod(y.shape[1:]) if is_labels(y) else 1
        rows, more = _find_rows(traced, axes, held, x, tokens, positions)
        skipped |= more
    return _Plan(traced.layers, names, axes, rows, skipped, width_limit, is_labels(y))


def _check_options(batch_size: int, width_limit: int, positions: str) -> None:
    check_at_least("batch_size", batch_size, 1)
    check_at_least("width_limit", width_limit, 1)
    if positions not in ("flatten", "mean"):
        raise ValueError(f"positions is {positions!r}: wanted 'flatten' or 'mean'")


def _tracing(
    f: Callable[..., PyTree], params: PyTree, mesh: Mesh | None
) -> Callable[[PyTree], tuple[Traced, list[Any]]]:
    """By a stack of batches, the trace for one of them, and what it holds but the batch.

    ``f`` is traced once for each shape, in this call and in later ones.
    """
    known: dict[Any, tuple[Traced, list[Any]]] = {}

    def at(xs: PyTree) -> tuple[Traced, list[Any]]:
        x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
        leaves, structure = jax.tree.flatten(x)
        key = structure, tuple(leaves)
        if key not in known:
            traced, values = recall(f, params, (x,))
            if not traced.layers.sites:
                raise ValueError(f"f has no linear layer that is tapped:\n{traced.layers}")
            known[key] = traced, replicated(values[: -len(leaves)], mesh)
        return known[key]

    return at


def _named(found: Layers, layers: Sequence[str] | None) -> tuple[str, ...]:
    """The sites to measure, in the order of the computation."""
    if layers is None:
        return tuple(found.sites)
    unknown = [name for name in layers if name not in found.sites]
    if unknown or not layers or isinstance(layers, str):
        raise ValueError(f"layers is {layers!r}: wanted names out of {', '.join(found.sites)}")
    return tuple(name for name in found.sites if name in layers)


def _find_rows(
    traced: Traced,
    axes: Mapping[str, int],
    held: list[Any],
    x: PyTree,
    tokens: int,
    positions: Literal["flatten", "mean"],
) -> tuple[dict[str, Rows], dict[str, str]]:
    """How features become rows, by site, and why they do not; checked on a batch."""
    taps = jax.eval_shape(lambda: traced([*held, *jax.tree.leaves(x)])[1])
    shapes = {name: tap.features.shape for name, tap in taps.items()}
    n = check_leading_axis("x", x)
    rows, skipped = find_rows(traced, axes, shapes, n, tokens, positions)
    follow = jax.device_get(_following(traced, tuple(rows.items()))(held, x))
    reason = (
        "they do not follow when samples change places (positions are the slow index of a merged "
        "axis, or f is random)"
    )
    skipped |= {name: reason for name in rows if not follow[name]}
    return {name: how for name, how in rows.items() if follow[name]}, skipped


@remembered
def _following(traced: Traced, rows: tuple[tuple[str, Rows], ...]) -> Callable[..., Any]:
    return jax.jit(lambda held, x: follow_samples(traced, dict(rows), held, x))


@remembered
def _kernels(traced: Traced) -> Callable[..., dict[str, Array]]:
    """The effective kernels, float32 at least; nothing that depends on x is computed."""

    def kernels(held: list[Any], x: PyTree) -> dict[str, Array]:
        taps = traced([*held, *jax.tree.leaves(x)])[1]
        return {name: widened(tap.kernel) for name, tap in taps.items() if tap.kernel is not None}

    return jax.jit(kernels)


def _projections(plan: _Plan, seed: int) -> dict[str, Array]:
    """Random maps (width, limit) of features that are wider than the limit."""
    keys = {name: jax.random.fold_in(jax.random.key(seed), i) for i, name in enumerate(plan.names)}
    return {
        name: random_projection(keys[name], how.width, plan.width_limit)
        for name, how in plan.rows.items()
        if how.width > plan.width_limit
    }


def _check_same_layers(
    traced: Traced, here: Traced, axes: Mapping[str, int], n: int, size: int
) -> None:
    """A batch of another size has to have the same layers, and samples on the same axes."""
    if here is traced:
        return
    before, after = traced.layers.sites, here.layers.sites
    same = before.keys() == after.keys() and all(
        before[name].rows[axis] * size == after[name].rows[axis] * n for name, axis in axes.items()
    )
    if not same:
        raise ValueError(
            f"f has the layers {', '.join(after)} for a batch of {size} samples and "
            f"{', '.join(before)} for one of {n}: wanted the same, with rows in proportion"
        )


def _check_labels(numbers: Mapping[str, Any]) -> None:
    if numbers["inside"] != numbers["labels"]:
        raise ValueError(
            f"y has {numbers['labels'] - numbers['inside']:.0f} labels of {numbers['labels']:.0f} "
            "that name none of the classes of the outputs: wanted 0 to classes - 1"
        )


def _measured(
    plan: _Plan, total: Any, metrics: tuple[Metric, ...], learning_rate: float
) -> Measurement:
    """Metrics of each layer, those that a scan stacks by themselves, from all sums."""
    sums: dict[str, LayerSums] = {}
    notes: list[tuple[str, str]] = []
    for name in plan.names:
        note, reads_rows = _note(plan, name), _reads_rows(plan, name)
        for label, part in _unstacked(name, plan.layers.sites[name], total):
            sums[label] = LayerSums(
                **part, learning_rate=learning_rate, reads_rows=reads_rows, classes=plan.classes
            )
            notes += [(label, note)] if note else []
    values = {label: jax.device_get(_evaluate(layer, metrics)) for label, layer in sums.items()}
    for label, value in values.items():
        if np.isnan(value.get("target_linearity", 0)) and sums[label].moments is not None:
            reason = undefined_because(sums[label].moments)
            notes.append((label, f"target linearity is not defined: {reason}"))
    numbers = {name: float(value) for name, value in total["numbers"].items()}
    return Measurement(
        metrics={
            label: {metric.name: float(value[metric.name]) for metric in metrics}
            for label, value in values.items()
        },
        sums=sums,
        loss=numbers["loss"] / numbers["count"],
        accuracy=numbers["correct"] / numbers["labels"] if numbers["labels"] else math.nan,
        count=numbers["count"],
        notes=tuple(notes),
        coverage=str(plan.layers),
        heads=tuple((metric.name, metric.head) for metric in metrics),
    )


def _note(plan: _Plan, name: str) -> str:
    if name in plan.skipped:
        return f"features not measured: {plan.skipped[name]}"
    how = plan.rows.get(name)
    if how is None or how.width <= plan.width_limit:
        return ""
    return f"{how.width} features, projected to {plan.width_limit}"


def _reads_rows(plan: _Plan, name: str) -> bool:
    """Whether the kernel multiplies the features as they were measured."""
    site, how = plan.layers.sites[name], plan.rows.get(name)
    dense = site.primitive == "dot_general" and len(site.stack) == site.layers
    return dense and how is not None and site.fan_in == how.width <= plan.width_limit


def _unstacked(
    name: str, site: Site, total: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A site's sums and kernel; of one layer after the other where a scan stacks layers."""
    moments = total["moments"].get(name)
    blocks = {part: total[part].get(name) for part in ("kernel", "gradients", "jacobians")}
    shape = site.stack[: site.layers]
    if not shape:
        yield name, {"moments": moments, **blocks}
        return
    for flat, index in enumerate(np.ndindex(shape)):
        label = f"{name}[{', '.join(map(str, index))}]"
        of_layer = jax.tree.map(lambda a: a[flat], moments)  # noqa: B023
        # A count belongs to all layers and has no axis of theirs.
        cut = jax.tree.map(lambda a: a[index] if np.ndim(a) else a, blocks)  # noqa: B023
        yield label, {"moments": of_layer, **cut}


@in_float64
@functools.partial(jax.jit, static_argnames="metrics")
def _evaluate(layer: LayerSums, metrics: tuple[Metric, ...]) -> dict[str, Array]:
    """All metrics of a layer in one program, which layers of one shape share."""
    return {metric.name: metric(layer) for metric in metrics}
