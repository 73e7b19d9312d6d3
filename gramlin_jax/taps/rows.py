"""How a site's features become rows: which axis counts samples, and what becomes of positions.

A jaxpr does not say which axis counts samples, but two batch sizes do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gramlin_jax.support.checks import check_leading_axis
from gramlin_jax.taps.layers import Site
from gramlin_jax.taps.traced import Traced, capture

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, PyTree

Rule: TypeAlias = Literal["tokens", "flatten", "mean"]


class Rows(NamedTuple):
    """How a site's features become rows with a target each.

    Attributes:
        axis: The row axis that counts samples.
        width: Columns before any projection.
        rule: ``"tokens"`` are samples; positions stand side by side (``"flatten"``); or their
            ``"mean"`` does.
    """

    axis: int
    width: int
    rule: Rule


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
    positions: Literal["flatten", "mean"],
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
            skipped[name] = f"{each} positions a sample, {tokens} labels"
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
    """
    layers = range(site.layers)
    h = samples_first(features, site, rows.axis, n)  # (*layers, *groups, n, positions, channels)
    groups = range(site.layers, len(site.stack))
    h = jnp.moveaxis(h, groups, range(-1 - len(groups), -1))
    h = h.reshape(*(h.shape[i] for i in layers), n, h.shape[site.layers + 1], -1)
    if rows.rule == "tokens":
        return h.reshape(*h.shape[: site.layers], -1, h.shape[-1])
    if rows.rule == "mean":
        return h.mean(-2)
    return h.reshape(*h.shape[: site.layers], n, -1)


def follow_samples(
    traced: Traced, rows: Mapping[str, Rows], held: list[Any], x: PyTree
) -> dict[str, Bool[Array, ""]]:
    """By site, whether the rows of all samples move by one as the samples do.

    They do not where positions are the slow index of a merged axis, or ``f`` is random.

    Args:
        traced: The function.
        rows: By site, from ``find_rows``.
        held: The values of the trace before those of x.
        x: Samples (n, ...).
    """
    n = check_leading_axis("x", x)
    moved = (jnp.arange(n) - 1) % n
    here = traced([*held, *jax.tree.leaves(x)])[1]
    shifted = [jnp.asarray(a)[moved] for a in jax.tree.leaves(x)]
    there = traced([*held, *shifted])[1]
    follow = {}
    for name, how in rows.items():
        site = traced.layers.sites[name]
        a, b = (samples_first(t[name].features, site, how.axis, n) for t in (here, there))
        a = jnp.take(a, moved, axis=len(site.stack))
        follow[name] = ~(jnp.abs(a - b).max() > 1e-2 * jnp.abs(a).max())  # NaN is none
    return follow
