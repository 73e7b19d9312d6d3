"""How a site's features become rows: which axis counts samples, and what becomes of positions.

A jaxpr does not say which axis counts samples, but two batch sizes do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax.support.checks import check_leading_axis
from gramlin_jax.support.precision import widened
from gramlin_jax.taps.layers import Site
from gramlin_jax.taps.traced import Traced, capture

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, PyTree

Rule: TypeAlias = Literal["tokens", "flatten", "mean"] | int
Positions: TypeAlias = Literal["flatten", "mean"] | int


class Rows(NamedTuple):
    """How a site's features become rows with a target each.

    Attributes:
        axis: The row axis that counts samples.
        width: Columns before any projection.
        rule: ``"tokens"`` are samples; positions stand side by side (``"flatten"``); their
            ``"mean"`` is taken; or the one of this number is.
        order: The row of each position, where rows are not in the order of the positions.
    """

    axis: int
    width: int
    rule: Rule
    order: tuple[int, ...] | None = None


def doubled(
    f: Callable[..., PyTree],
    params: PyTree,
    args: tuple,
    *,
    how: Callable[..., tuple[Traced, Any]] = capture,
) -> Traced | None:
    """``f`` traced with twice the samples of ``args[0]``; None where it cannot be.

    Args:
        f: As for ``trace``.
        params: As for ``trace``.
        args: Data, the first a pytree of arrays (n, ...).
        how: ``capture``, or ``recall`` where the trace may come from memory.
    """
    n = check_leading_axis("args[0]", args[0])
    twice = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((2 * n, *jnp.shape(a)[1:]), jnp.result_type(a)), args[0]
    )
    try:
        return how(f, params, (twice, *args[1:]))[0]
    except Exception:  # f is the user's: tied to its batch size, it may raise anything
        return None


def sample_axes(
    traced: Traced, twice: Traced | None, n: int
) -> tuple[dict[str, int], dict[str, str]]:
    """By site, the row axis that counts the n samples; and by site, why there is none.

    It is the axis that doubles with the samples. An axis that merges samples with positions is
    taken to have samples as its slow index, as ``x.reshape(-1, width)`` makes it. Where ``f``
    cannot be traced with twice the samples, the one axis of the batch's size is taken.
    """
    axes: dict[str, int] = {}
    skipped: dict[str, str] = {}
    more = twice.layers.sites if twice else {}
    for name, site in traced.layers.sites.items():
        candidates, reason = _of_size(site, n)
        if name in more:
            candidates, reason = _doubling(site, more[name], n)
        if len(candidates) == 1:
            axes[name] = candidates[0]
        else:
            skipped[name] = reason
    return axes, skipped


def _doubling(site: Site, twice: Site, n: int) -> tuple[list[int], str]:
    """The row axes that double; none, and the reason, where they do not count samples."""
    if site.stack != twice.stack:
        return [], f"it has separate kernels {site.stack} for the samples of the batch"
    grown = [i for i, (a, b) in enumerate(zip(site.rows, twice.rows, strict=True)) if a != b]
    if not grown:
        return [], "its inputs do not depend on the batch"
    if len(grown) > 1 or site.rows[grown[0]] % n:
        return [], f"its rows {site.rows} split the batch of {n} samples"
    return grown, ""


def _of_size(site: Site, n: int) -> tuple[list[int], str]:
    axes = [axis for axis, size in enumerate(site.rows) if size == n]
    return axes, f"which of its rows {site.rows} counts the {n} samples is not clear"


def find_rows(
    traced: Traced,
    axes: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
    n: int,
    tokens: int,
    positions: Positions,
) -> tuple[dict[str, Rows], dict[str, str]]:
    """By site, how its features become rows; and by site, why they cannot.

    Args:
        traced: The function at n samples.
        axes: By site, the row axis that counts samples, see ``sample_axes``.
        shapes: Of each site's features.
        n: Number of samples.
        tokens: Labels a sample; with several, positions are samples.
        positions: What becomes of positions where a sample has one target.
    """
    rows: dict[str, Rows] = {}
    skipped: dict[str, str] = {}
    for name, axis in axes.items():
        site, shape = traced.layers.sites[name], shapes[name]
        channels = math.prod(site.stack[site.layers :]) * shape[-1]
        each = math.prod(shape) // (math.prod(site.stack[: site.layers]) * n * channels)
        if tokens > 1 and each != tokens:
            hint = "" if each > 1 else " (are they one-hot rows? Make these floating point)"
            skipped[name] = f"{each} positions a sample, {tokens} labels{hint}"
        elif isinstance(positions, int) and not -each <= positions < each:
            skipped[name] = f"{each} positions a sample, none of the number {positions}"
        elif tokens > 1:
            rows[name] = Rows(axis, channels, "tokens")
        else:
            rows[name] = Rows(axis, channels * (each if positions == "flatten" else 1), positions)
    return rows, skipped


def samples_first(array: Array, site: Site, axis: int, n: int) -> Array:
    """(*stack, *rows, width) as (*stack, n, positions, width).

    Args:
        array: Inputs, outputs, features, or gradients of them, at a site.
        site: The site.
        axis: The row axis that counts samples, from ``sample_axes``.
        n: Number of samples.
    """
    stack = len(site.stack)
    rows = jnp.moveaxis(array, stack + axis, stack)
    positions = math.prod(rows.shape[stack:-1]) // n
    return rows.reshape(*rows.shape[:stack], n, positions, rows.shape[-1])


def feature_rows(features: Array, site: Site, rows: Rows, n: int) -> Array:
    """A site's features as rows with a target each, (*layers, rows, width).

    ``rows`` counts tokens sample by sample under that rule, else samples. Groups of a convolution
    stand side by side.

    Raises:
        ValueError: If samples have fewer or more positions than ``rows`` asks for.
    """
    layers = range(site.layers)
    h = samples_first(features, site, rows.axis, n)  # (*layers, *groups, n, positions, channels)
    groups = range(site.layers, len(site.stack))
    h = jnp.moveaxis(h, groups, range(-1 - len(groups), -1))
    h = h.reshape(*(h.shape[i] for i in layers), n, h.shape[site.layers + 1], -1)
    _check_positions(rows, h.shape[-2])
    if rows.order is not None:
        h = jnp.take(h, jnp.asarray(rows.order), axis=-2)
    if isinstance(rows.rule, int):
        return h[..., rows.rule, :]
    if rows.rule == "tokens":
        return h.reshape(*h.shape[: site.layers], -1, h.shape[-1])
    if rows.rule == "mean":
        return h.mean(-2)
    return h.reshape(*h.shape[: site.layers], n, -1)


def _check_positions(rows: Rows, each: int) -> None:
    """Refuse samples of another length than those by which the rows were found."""
    if isinstance(rows.rule, int) and not -each <= rows.rule < each:  # JAX would take the nearest
        raise ValueError(
            f"positions is {rows.rule} for samples of {each} positions: wanted one that all have"
        )
    if rows.order is not None and len(rows.order) != each:
        raise ValueError(
            f"batch holds samples of {each} positions, the first one of {len(rows.order)}, whose "
            "rows are not in the order of the labels: wanted samples of one length"
        )


def follow_samples(
    traced: Traced, rows: Mapping[str, Rows], held: list[Any], x: PyTree
) -> dict[str, Bool[Array, ""]]:
    """By site, whether the rows of all samples change places as the samples do.

    They do not where positions are the slow index of a merged axis, ``f`` turns the batch round or
    is random. Each column is compared by its own spread, so that none hides behind a larger one.
    A single sample shows nothing: all rows are its own.

    Args:
        traced: The function.
        rows: By site, from ``find_rows``.
        held: The values of the trace before those of x.
        x: Samples (n, ...).
    """
    n = check_leading_axis("x", x)
    moved = jnp.asarray(other_places(n))
    both = jax.tree.map(lambda a: jnp.stack([jnp.asarray(a), jnp.asarray(a)[moved]]), x)
    features = jax.lax.map(lambda x: _features(traced, rows, held, x), both)
    follow = {}
    for name, h in features.items():  # (2, *stack, n, positions, channels)
        axis = len(traced.layers.sites[name].stack)
        here, there = widened(jnp.take(h[0], moved, axis=axis)), widened(h[1])
        over = (axis, axis + 1)
        spread = here.max(over, keepdims=True) - here.min(over, keepdims=True)
        rounding = 32 * jnp.finfo(h.dtype).eps * jnp.abs(here).max(over, keepdims=True)
        follow[name] = ~(jnp.abs(here - there) > 1e-2 * spread + rounding).any()  # NaN is none
    return follow


def other_places(n: int) -> np.ndarray:
    """For each of n places, the sample that comes there.

    All move in one cycle, in no order that a network would put samples in: a batch that is rolled
    or reversed does not commute with it. Of few, two swap places; of two, one takes both.
    """
    if n < 5:
        return np.array([1, 0, 2, 3] if n > 2 else [0, 0])[:n]
    order = np.random.default_rng(n).permutation(n)
    moved = np.empty(n, int)
    moved[order] = np.roll(order, 1)
    return moved


# A batch of fewer samples does not show what a layer does to the order of more.
ENOUGH = 3


def samples_differ(x: PyTree) -> Bool[Array, ""]:
    """Whether there are two different samples: rows of equal ones cannot be told apart."""
    differ = [(jnp.asarray(a) != jnp.asarray(a)[:1]).any() for a in jax.tree.leaves(x)]
    return jnp.stack(differ).any()


def answer_samples(
    traced: Traced, rows: Mapping[str, Rows], held: list[Any], x: PyTree
) -> dict[str, Bool[Array, ""]]:
    """By site, whether a change of one sample changes its own row most, for most that are tried.

    Unlike ``follow_samples`` this holds for functions that draw random numbers for each row, as
    dropout does. There a row may be dropped and not change, and the others change a little through
    the batch's statistics.

    Args:
        traced: The function.
        rows: By site, from ``find_rows``.
        held: The values of the trace before those of x.
        x: Samples (n, ...).
    """
    n = check_leading_axis("x", x)
    base = {k: _joined(h) for k, h in _features(traced, rows, held, x).items()}
    at = jnp.arange(ANSWERS) * n // ANSWERS

    def changes(i: Array) -> dict[str, Array]:
        """How much each row changes, (n,), if sample i is another one."""
        changed = jax.tree.map(lambda a: jnp.asarray(a).at[i].set(a[(i + n // 2) % n]), x)
        found = _features(traced, rows, held, changed)
        return {k: jnp.abs(_joined(h) - base[k]).sum((1, 2)) for k, h in found.items()}

    answers = {}
    for name, change in jax.lax.map(changes, at).items():  # (samples, rows)
        heard = change.max(1) > 0
        own = heard & (change.argmax(1) == at)
        answers[name] = 2 * own.sum() > heard.sum()  # NaN is none
    return answers


# Samples that are changed, one after another, to see which row answers.
ANSWERS = 8


def _features(
    traced: Traced, rows: Mapping[str, Rows], held: list[Any], x: PyTree
) -> dict[str, Array]:
    """The features of these sites (*stack, n, positions, channels)."""
    n = check_leading_axis("x", x)
    taps, sites = traced([*held, *jax.tree.leaves(x)])[1], traced.layers.sites
    return {k: samples_first(taps[k].features, sites[k], how.axis, n) for k, how in rows.items()}


def position_changes(
    traced: Traced,
    rows: Mapping[str, Rows],
    held: list[Any],
    x: PyTree,
    shape: tuple[int, ...],
    counts: Bool[Array, "n p"],
) -> dict[str, Float[Array, "p p"]]:
    """By site, how much a change of x at position p changes each row, (position, row), in [0, 1].

    It is relative to the row that changes most in each sample: 1 is the same row in all of them.
    Each sample is changed at another position, so that one pass tries as many as there are
    samples. Changes are summed over columns, each by its own standard deviation. Those at padding
    do not count: it may stay where it is in a function that turns the tokens round.

    Args:
        traced: The function.
        rows: By site, from ``find_rows``.
        held: The values of the trace before those of x.
        x: Samples; of the arrays (n, *shape, ...) the values at a position are changed.
        shape: Of the positions in x.
        counts: Which positions of each sample have a label that counts.
    """
    n, size = check_leading_axis("x", x), math.prod(shape)
    rounds = min(-(-EACH * size // n), PASSES)
    base = {k: _joined(h) for k, h in _features(traced, rows, held, x).items()}

    def step(total: dict[str, tuple[Array, Array]], first: Array) -> tuple[Any, None]:
        at = (jnp.arange(n) + first) % size
        changed = jax.tree.map(lambda a: _changed(a, at, shape), x)
        for name, h in _features(traced, rows, held, changed).items():
            scale = base[name].std((0, 1), keepdims=True)
            difference = jnp.abs(_joined(h) - base[name])
            change = jnp.where(scale > 0, difference / jnp.where(scale > 0, scale, 1), 0).sum(-1)
            counted = jnp.where(counts[jnp.arange(n), at][:, None], change, 0)
            changes, most = total[name]
            total[name] = changes.at[at].add(counted), most.at[at, 0].add(counted.max(1))
        return total, None

    zeros = {
        name: (jnp.zeros((size, h.shape[1])), jnp.zeros((size, 1))) for name, h in base.items()
    }
    total = jax.lax.scan(step, zeros, n * jnp.arange(rounds))[0]
    return {k: changes / jnp.where(most > 0, most, 1) for k, (changes, most) in total.items()}


# To find positions: samples at which each is changed, and passes at most, which leave positions
# untried where there are more than 64·n.
EACH, PASSES = 8, 64


def _joined(h: Array) -> Array:
    """(*stack, n, positions, channels) as (n, positions, all channels), float32 at least."""
    h = jnp.moveaxis(widened(h), (-3, -2), (0, 1))
    return h.reshape(*h.shape[:2], -1)


def _changed(a: Array, at: Array, shape: tuple[int, ...]) -> Array:
    """X with the values of each sample at one position taken from elsewhere, where they differ."""
    a = jnp.asarray(a)
    if a.shape[1 : 1 + len(shape)] != shape:
        return a
    n, size = len(a), math.prod(shape)
    flat, samples = a.reshape(n, size, -1), jnp.arange(n)
    own = flat[samples, at]
    new = own
    for shift in range(1, 5):
        other = flat[(samples + shift) % n, (at + shift) % size]
        same = (new == own).all(-1, keepdims=True)
        new = jnp.where(same, other, new)
    return flat.at[samples, at].set(new).reshape(a.shape)


def positions_of(changes: np.ndarray) -> tuple[int, ...] | None:
    """The row of each position: its own in general, or another order; None where it is not clear.

    A position is in the row that it changes most. Where layers mix positions, as attention does,
    this is seldom clear for all; then half of them have to be in their own rows. Half of the rows
    have to be ahead in most samples, or each sample has an order of its own.

    Args:
        changes: (position, row), see ``position_changes``.
    """
    tried = changes.max(1) > 0
    second, first = np.sort(changes, 1)[:, -2:].T
    best = changes.argmax(1)
    one_each = bool(tried.all()) and len(set(best.tolist())) == len(best)
    own = best == np.arange(len(best))
    order = best
    if not (one_each and (first > 1.5 * second).all()):
        if tried.any() and own[tried].mean() >= 0.5:
            order = np.arange(len(best))
        elif not one_each:
            return None
    ahead = changes[np.arange(len(best)), order][tried] >= 0.5
    return tuple(order.tolist()) if ahead.mean() >= 0.5 else None
