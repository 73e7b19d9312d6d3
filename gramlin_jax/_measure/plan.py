"""Which layers are measured, and how their features become rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from gramlin_jax._measure.batch import label_weights
from gramlin_jax._measure.stream import Batch, is_labels
from gramlin_jax._measure.tracing import Tracing, same_layers
from gramlin_jax._moments.jacobians import fixed_jacobians
from gramlin_jax._moments.projection import Projection, random_projection
from gramlin_jax.metrics.layer_sums import OF_FEATURES, OF_SAMPLES, Need
from gramlin_jax.support.checks import check_count, check_finite_number, check_integer
from gramlin_jax.support.memory import remembered
from gramlin_jax.support.precision import in_float64
from gramlin_jax.taps import Layers, Traced
from gramlin_jax.taps.compat import type_of
from gramlin_jax.taps.rows import (
    ENOUGH,
    Positions,
    Rows,
    answer_samples,
    find_rows,
    follow_samples,
    position_changes,
    positions_of,
    samples_differ,
)

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class Options(NamedTuple):
    """What the user wants of all layers.

    ``outputs``: of what Jacobians are taken, see ``jacobian_moments``; None: the output itself.
    ``random``: whether f draws numbers for each sample; ``tried``: whether rows are tried out.
    """

    layers: Sequence[str] | None
    needs: frozenset[Need]
    positions: Positions
    width_limit: int
    outputs: Callable[[Any], Any] | None = None
    ignore_label: int | None = None
    random: bool = False
    tried: bool = True


def check_options(
    layers: Any, learning_rate: Any, positions: Any, width_limit: Any, ignore_label: Any
) -> None:
    """Refuse what ``measure`` and ``Probe`` cannot mean.

    Raises:
        ValueError: If a value is out of range or unknown.
        TypeError: If one is of another kind.
    """
    check_finite_number("learning_rate", learning_rate)
    check_count("width_limit", width_limit)
    if ignore_label is not None:
        check_integer("ignore_label", ignore_label)
    whole = isinstance(positions, int | np.integer) and not isinstance(positions, bool)
    if not whole and positions not in ("flatten", "mean"):
        raise ValueError(f"positions is {positions!r}: wanted 'flatten', 'mean' or a position")
    if layers is not None and not isinstance(layers, Collection):
        kind = type(layers).__name__
        raise TypeError(f"layers is a {kind}: wanted a list of names, as find_layers has them")


class Plan(NamedTuple):
    """What becomes of the layers that are measured, in batches of one length.

    Attributes:
        traced: The user's function at a batch of n samples.
        n: Of that batch.
        names: Sites to measure.
        axes: By site, the row axis that counts samples.
        rows: By site, how features become rows.
        skipped: By site, why its features are not measured.
        width_limit: Of features before they are projected.
        classes: Whether targets are labels.
        fixed: Sites where ∂f/∂z is the same whatever the network learns, see ``fixed_jacobians``.
        one_hot: Whether labels look like one-hot rows, which real targets should be.
    """

    traced: Traced
    n: int
    names: tuple[str, ...]
    axes: dict[str, int]
    rows: dict[str, Rows]
    skipped: dict[str, str]
    width_limit: int
    classes: bool
    fixed: frozenset[str] = frozenset()
    one_hot: bool = False


def make_plan(tracing: Tracing, options: Options, stack: Batch) -> Plan:
    """Which layers are measured, and how; samples are told apart only where a metric needs it."""
    batch, (traced, held) = first_of(stack), tracing.at(stack.x)
    names, n = _named(traced.layers, options.layers), len(batch.labels)
    classes = is_labels(batch.labels)
    if options.ignore_label is not None and not classes:
        raise ValueError(
            f"ignore_label is {options.ignore_label} where targets are real numbers: wanted labels "
            "of whole numbers, or weights of 0"
        )
    one_hot = classes and _one_hot(batch.labels)
    plan = Plan(traced, n, names, {}, {}, {}, options.width_limit, classes, one_hot=one_hot)
    wanted = options.needs
    if "attention" in wanted and (batch.weights is not None or options.ignore_label is not None):
        wanted |= {"rows"}  # to know which weights those of the queries are
    if wanted & OF_SAMPLES:
        found, reasons = tracing.sample_axes(traced, batch.x, n)
        axes = {name: found[name] for name in names if name in found}
        skipped = {name: reasons[name] for name in names if name in reasons}
        plan = plan._replace(axes=axes, skipped=skipped)
    if "jacobians" in options.needs:
        types = tuple(map(type_of, [*held, *jax.tree.leaves(batch.x)]))
        plan = plan._replace(fixed=fixed_jacobians(traced, options.outputs, types))
    return _with_rows(plan, held, batch, options) if wanted & OF_FEATURES else plan


def _with_rows(plan: Plan, held: list[Any], batch: Batch, options: Options) -> Plan:
    """How features become rows, by site, and why they do not; tried out on a batch."""
    traced, x = plan.traced, batch.x
    taps = jax.eval_shape(lambda: traced([*held, *jax.tree.leaves(x)])[1])
    shapes = {name: tap.features.shape for name, tap in taps.items()}
    tokens = batch.labels.shape[1:] if plan.classes else ()
    count = math.prod(tokens)
    rows, skipped = find_rows(traced, plan.axes, shapes, plan.n, count, options.positions)
    if not options.tried:
        return plan._replace(rows=rows, skipped=plan.skipped | skipped)
    trial = _following(traced, tuple(rows.items()), options.random)
    follow, differ = jax.device_get(trial(held, x))
    if not differ and (plan.n > 1 or options.random):
        skipped |= dict.fromkeys(rows, ALIKE)
        return plan._replace(skipped=plan.skipped | skipped)
    skipped |= {name: NOT_SAMPLES for name in rows if not follow[name]}
    rows = {name: how for name, how in rows.items() if follow[name]}
    if count > 1:
        counts = label_weights(options.ignore_label, batch).reshape(plan.n, count) > 0
        rows, unclear = _in_order(traced, rows, held, x, tokens, counts)
        skipped |= unclear
    return plan._replace(rows=rows, skipped=plan.skipped | skipped)


def _in_order(
    traced: Traced,
    rows: dict[str, Rows],
    held: list[Any],
    x: PyTree,
    shape: tuple[int, ...],
    counts: Array,
) -> tuple[dict[str, Rows], dict[str, str]]:
    """Rows in the order of the positions that the labels have, and why there are none."""
    there = [a for a in jax.tree.leaves(x) if a.shape[1 : 1 + len(shape)] == shape]
    if not there:
        return {}, dict.fromkeys(rows, f"no array of x has the labels' positions {shape}")
    changes = jax.device_get(_changes(traced, tuple(rows.items()), shape)(held, x, counts))
    orders = {name: positions_of(change) for name, change in changes.items()}
    found = {
        name: rows[name]._replace(order=None if order == tuple(range(len(order))) else order)
        for name, order in orders.items()
        if order is not None
    }
    return found, dict.fromkeys((name for name in rows if name not in found), NOT_POSITIONS)


NOT_SAMPLES = (
    "they do not follow when samples change places (positions are the slow index of a merged "
    "axis, f turns the batch round, or it is random)"
)
ALIKE = (
    "the first batch has no two different samples, so it does not show which rows are whose: start "
    "with real data"
)
NOT_POSITIONS = (
    "which of their rows belongs to which label is not clear (a change of x at one position does "
    "not change one row most)"
)
TRIED = NOT_SAMPLES, ALIKE, NOT_POSITIONS  # which numbers decide, and so NaN among them


@remembered
def _following(
    traced: Traced, rows: tuple[tuple[str, Rows], ...], random: bool
) -> Callable[..., Any]:
    follow = answer_samples if random else follow_samples
    return jax.jit(lambda held, x: (follow(traced, dict(rows), held, x), samples_differ(x)))


@remembered
def _changes(
    traced: Traced, rows: tuple[tuple[str, Rows], ...], shape: tuple[int, ...]
) -> Callable[..., Any]:
    return jax.jit(
        lambda held, x, counts: position_changes(traced, dict(rows), held, x, shape, counts)
    )


def first_of(stack: Batch) -> Batch:
    """The first batch of a stack."""
    return jax.tree.map(lambda a: a[0], stack)


def inner_shapes(stack: Batch) -> tuple[tuple[int, ...], ...]:
    """Shapes of the samples."""
    return tuple(a.shape[2:] for a in jax.tree.leaves(stack))


@in_float64
def _one_hot(labels: Array) -> bool:
    """Whether there are several labels a sample, one of which is 1 and all others 0."""
    if labels.ndim != 2 or labels.shape[1] < 2:
        return False
    ones, zeros = labels == 1, labels == 0
    return bool((ones | zeros).all() & (ones.sum(1) == 1).all())


def is_of(plan: Plan | None, size: int) -> bool:
    """Whether a plan holds for batches of this size: one of very few samples shows too little."""
    return plan is not None and (plan.n >= ENOUGH or plan.n >= size)


def plan_for(plan: Plan, tracing: Tracing, options: Options, stack: Batch) -> Plan:
    """The plan for batches of another length, or of more samples than a first one of very few.

    Their sums have to add to those of the first.

    Raises:
        ValueError: If they do not, or ``f`` cannot be traced with such samples.
    """
    try:
        other = make_plan(tracing, options, stack)
    except Exception as error:  # f is the user's, and may raise anything
        shapes = [a.shape[2:] for a in jax.tree.leaves(stack.x)]
        raise ValueError(
            f"batches hold samples x of other shapes, {shapes}, than the first, with which f fails "
            f"({type(error).__name__}: {error}): wanted one shape, or lengths that f takes"
        ) from error
    widths = [{name: how.width for name, how in p.rows.items()} for p in (plan, other)]
    if widths[0] != widths[1]:
        names = [name for name in plan.names if widths[0].get(name) != widths[1].get(name)]
        if plan.n < ENOUGH and all(name in other.skipped for name in names):
            raise ValueError(
                f"the first batch has a size of {plan.n}, which does not show the rows of "
                f"{', '.join(names)}: wanted {ENOUGH} samples or more; in a larger batch "
                f"{other.skipped[names[0]]}"
            )
        pairs = ", ".join(f"{n}: {widths[0].get(n)} and {widths[1].get(n)}" for n in names)
        raise ValueError(
            f"batches of different lengths give features of different widths ({pairs}): wanted "
            "positions='mean' or a position, or batches of one length"
        )
    return other


def _named(found: Layers, layers: Sequence[str] | None) -> tuple[str, ...]:
    """The sites to measure, in the order of the computation."""
    if layers is None:
        return tuple(found.sites)
    unknown = [name for name in layers if name not in found.sites]
    if unknown or not layers or isinstance(layers, str):
        raise ValueError(f"layers is {layers!r}: wanted names out of {', '.join(found.sites)}")
    return tuple(name for name in found.sites if name in layers)


def for_size(plan: Plan, here: Traced, size: int) -> Plan:
    """The plan for a batch of another number of samples.

    Raises:
        ValueError: If it has other layers, or samples on other axes.
    """
    if not same_layers(plan.traced, here, plan.axes, plan.n, size):
        before, after = (", ".join(traced.layers.sites) for traced in (plan.traced, here))
        raise ValueError(
            f"f has the layers {after} for a batch of {size} samples and {before} for one of "
            f"{plan.n}: wanted the same, with rows in proportion"
        )
    return plan


def projections_of(plan: Plan, seed: int) -> dict[str, Projection]:
    """Random maps (width, limit) of features that are wider than the limit."""
    keys = {name: jax.random.fold_in(jax.random.key(seed), i) for i, name in enumerate(plan.names)}
    return {
        name: random_projection(keys[name], how.width, plan.width_limit)
        for name, how in plan.rows.items()
        if how.width > plan.width_limit
    }
