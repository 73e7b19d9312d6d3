"""Which axis of a site counts samples: a jaxpr does not say, but two batch sizes do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from gramlin_jax.support.checks import check_leading_axis
from gramlin_jax.taps.layers import Layers, Site
from gramlin_jax.taps.transform import Program

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


def sample_axes(
    f: Callable[..., PyTree], params: PyTree, args: tuple, layers: Layers
) -> dict[str, int | str]:
    """By site, the row axis that counts the samples of ``args[0]``, or why there is none.

    ``f`` is traced once more, with twice the samples: the axis that doubles is the one. An axis
    that merges samples with positions is taken to have samples as its slow index, as
    ``x.reshape(-1, width)`` makes it. Where ``f`` cannot be traced so, the one axis of the batch's
    size is taken.
    """
    n = check_leading_axis("args[0]", args[0])
    doubled = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((2 * n, *jnp.shape(a)[1:]), jnp.result_type(a)), args[0]
    )
    try:
        twice = Program(f, params, (doubled, *args[1:]), {}).layers.sites
    except Exception:  # f is the user's: tied to its batch size, it may raise anything
        twice = {}
    return {
        name: _doubled_axis(site, twice[name], n) if name in twice else _axis_of_size(site, n)
        for name, site in layers.sites.items()
    }


def _doubled_axis(site: Site, twice: Site, n: int) -> int | str:
    if site.stack != twice.stack:
        return f"it has separate kernels {site.stack} for the samples of the batch"
    grown = [i for i, (a, b) in enumerate(zip(site.rows, twice.rows, strict=True)) if a != b]
    if not grown:
        return "its inputs do not depend on the batch"
    if len(grown) > 1 or site.rows[grown[0]] % n:
        return f"its rows {site.rows} split the batch of {n} samples"
    return grown[0]


def _axis_of_size(site: Site, n: int) -> int | str:
    axes = [axis for axis, size in enumerate(site.rows) if size == n]
    if len(axes) != 1:
        return f"which of its rows {site.rows} counts the {n} samples is not clear"
    return axes[0]


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
