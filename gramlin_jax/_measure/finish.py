"""From the sums of all layers to a ``Measurement``."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from gramlin_jax._measure.measurement import Measurement, ordered
from gramlin_jax._measure.plan import Plan
from gramlin_jax._measure.tracing import program
from gramlin_jax.metrics.collapse import no_collapse_because
from gramlin_jax.metrics.layer_sums import LayerSums
from gramlin_jax.metrics.linearity import undefined_because
from gramlin_jax.metrics.registry import METRICS, Metric, no_ansatz_because
from gramlin_jax.support.precision import in_float64, with_nan
from gramlin_jax.taps import Site

if TYPE_CHECKING:
    from jaxtyping import Array


@with_nan
def measured(
    plan: Plan,
    total: Any,
    metrics: tuple[Metric, ...],
    learning_rate: float,
    remarks: Mapping[str, str],
) -> Measurement:
    """Metrics of each layer, those that a scan stacks by themselves, from all sums.

    Args:
        plan: Of the first batch.
        total: All sums, and kernels.
        metrics: To compute.
        learning_rate: Of the virtual covariance.
        remarks: Notes on what is no layer, empty ones among them.
    """
    sums: dict[str, LayerSums] = {}
    notes = [(name, remark) for name, remark in remarks.items() if remark]
    for name, label, part in _in_turn(plan, total):
        sums[label] = LayerSums(
            **part,
            learning_rate=learning_rate,
            reads_rows=_reads_rows(plan, name),
            pooled=_pooled(plan, name),
            classes=plan.classes,
            fixed_jacobian=name in plan.fixed,
        )
        notes += [(label, note)] if (note := _note(plan, name)) else []
    values = {label: jax.device_get(evaluate(layer, metrics)) for label, layer in sums.items()}
    for label, value in values.items():
        if np.isnan(value.get("target_linearity", 0)) and sums[label].moments is not None:
            reason = undefined_because(sums[label].moments)
            notes.append((label, f"target linearity is not defined: {reason}"))
        if np.isnan(value.get("nfa", 0)) and (reason := no_ansatz_because(sums[label])):
            notes.append((label, f"the ansatz says nothing: {reason}"))
        if np.isnan(value.get("nc1", 0)) and sums[label].has("classes"):
            reason = no_collapse_because(sums[label].moments)
            notes.append((label, f"NC1 is not defined: {reason}"))
    notes += _on_attention(plan, metrics)
    if plan.one_hot:
        wanted = "labels of classes, or floating point for real targets"
        notes.append(("accuracy", f"of one-hot rows, each 0 and 1 of which is a label: {wanted}"))
    numbers = {name: float(value) for name, value in total["numbers"].items()}
    return Measurement(
        metrics=ordered(
            {
                label: {metric.name: float(value[metric.name]) for metric in metrics}
                for label, value in values.items()
            }
        ),
        sums=sums,
        loss=numbers["loss"] / numbers["weight"] if numbers["weight"] else math.nan,
        accuracy=numbers["correct"] / numbers["labels"] if numbers["labels"] else math.nan,
        count=numbers["count"],
        notes=tuple(notes),
        coverage=str(plan.traced.layers),
        heads=tuple((metric.name, metric.head) for metric in metrics),
    )


def _on_attention(plan: Plan, metrics: tuple[Metric, ...]) -> list[tuple[str, str]]:
    """Notes on softmaxes that are not measured, if a metric asks for attention by name."""
    if not any("attention" in metric.needs for metric in metrics):
        return []
    others = plan.traced.other_softmaxes
    lost = f"{others} softmaxes mix features, but not over keys of queries that a layer makes"
    none = "no layer makes queries of a softmax over keys"
    reasons = [lost] * bool(others) + [none] * (not plan.traced.softmaxes)
    return [("f", f"attention not measured: {reason}") for reason in reasons]


def _note(plan: Plan, name: str) -> str:
    if name in plan.skipped:
        return f"features not measured: {plan.skipped[name]}"
    how = plan.rows.get(name)
    if how is None or how.width <= plan.width_limit:
        return ""
    return f"{how.width} features, projected to {plan.width_limit}"


def _reads_rows(plan: Plan, name: str) -> bool:
    """Whether the kernel multiplies the features as they were measured."""
    site, how = plan.traced.layers.sites[name], plan.rows.get(name)
    dense = site.primitive == "dot_general" and len(site.stack) == site.layers
    return dense and how is not None and site.fan_in == how.width <= plan.width_limit


def _pooled(plan: Plan, name: str) -> bool:
    """Whether the rows are means over several positions, or those of one out of several."""
    how = plan.rows.get(name)
    several = math.prod(plan.traced.layers.sites[name].rows) > plan.n
    return how is not None and how.rule not in ("tokens", "flatten") and several


# Of all sums, those in which stacked layers have axes as in the network.
PARTS = "kernel", "gradients", "jacobians", "attention"


def _in_turn(plan: Plan, total: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Sites, layers and their sums in the order of the computation: those of a scan take turns."""
    first: dict[int, int] = {}
    found = []
    for position, name in enumerate(plan.names):
        site = plan.traced.layers.sites[name]
        starts = [first.setdefault(scan, position) for scan in site.scans]
        for index, label, part in _unstacked(name, site, total):
            steps = [-i if back else i for i, back in zip(index, site.backward, strict=True)]
            turns = itertools.chain(*zip(starts, steps, strict=True))
            found.append(((*turns, position), (name, label, part)))
    return [layer for _, layer in sorted(found, key=operator.itemgetter(0))]


def _unstacked(
    name: str, site: Site, total: Mapping[str, Any]
) -> Iterator[tuple[tuple[int, ...], str, dict[str, Any]]]:
    """A site's sums and kernel; of each of its layers where a scan stacks them, with its index."""
    moments = total["moments"].get(name)
    blocks = {part: total[part].get(name) for part in PARTS}
    shape = site.stack[: site.layers]
    if not shape:
        yield (), name, {"moments": moments, **blocks}
        return
    for flat, index in enumerate(np.ndindex(shape)):
        label = f"{name}[{', '.join(map(str, index))}]"
        of_layer = jax.tree.map(lambda a: a[flat], moments)  # noqa: B023
        # A count belongs to all layers and has no axis of theirs.
        cut = jax.tree.map(lambda a: a[index] if np.ndim(a) else a, blocks)  # noqa: B023
        yield index, label, {"moments": of_layer, **cut}


@with_nan
@in_float64
def evaluate(layer: LayerSums, metrics: tuple[Metric, ...]) -> dict[str, Array]:
    """All metrics of a layer in one program, which layers of one shape share.

    A metric of the user's is traced in each call, because what it reads may have changed.
    """
    own = tuple(metric for metric in metrics if METRICS.get(metric.name) is not metric)
    read = program(functools.partial(_values, own), layer) if own else ()
    return _compiled(metrics, layer, read)


@functools.partial(jax.jit, static_argnames=("metrics", "read"))
def _compiled(
    metrics: tuple[Metric, ...], layer: LayerSums, read: tuple[Hashable, ...]
) -> dict[str, Array]:
    del read
    return _values(metrics, layer)


def _values(metrics: tuple[Metric, ...], layer: LayerSums) -> dict[str, Array]:
    return {metric.name: _scalar(metric, layer) for metric in metrics}


def _scalar(metric: Metric, layer: LayerSums) -> Array:
    value = metric(layer)
    if value.shape != ():
        raise ValueError(
            f"metrics[{metric.name!r}] has shape {value.shape}: wanted a scalar, a number by name"
        )
    return value
