"""Batches of samples on their way to the devices: large stacks of equal ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gramlin_jax.support.checks import check_leading_axis
from gramlin_jax.support.devices import devices_of, spread

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

STACK_BYTES = 2**28  # of samples that are sent to the device, and scanned over, at once


def stacks(batches: Any, batch_size: int, mesh: Mesh | None) -> Iterator[tuple[PyTree, Array]]:
    """The data as stacks of equal batches, (batches, n, ...) each, on their devices.

    Args:
        batches: A pair of arrays (x, y) (n, ...), x a pytree, or an iterable of such pairs.
        batch_size: Samples of a batch of a pair of arrays, or a little less where that is even.
        mesh: Devices along whose first axis samples are spread; None: where the arrays are.

    Raises:
        ValueError: If there are no samples, or batches change their structure.
        TypeError: If ``batches`` are not pairs.
    """
    if isinstance(batches, tuple):
        x, y = _pair(batches)
        n = check_leading_axis("batches", (x, y))
        size = _even_size(n, min(batch_size, n), devices_of(mesh))
        batch_bytes = sum(a.nbytes for a in jax.tree.leaves((x, y))) * size // n
        at_once = max(1, STACK_BYTES // max(batch_bytes, 1))
        ends = [*range(0, n // size * size, at_once * size), n // size * size, n]
        for start, end in itertools.pairwise(ends):
            if length := min(size, end - start):
                cut = jax.tree.map(lambda a: a[start:end], (x, y))  # noqa: B023
                yield spread(_stacked(cut, (end - start) // length), mesh)
        return
    reference = None
    for index, batch in enumerate(batches):
        batch = _pair(batch)
        check_leading_axis(f"batches[{index}]", batch)
        form = jax.tree.map(lambda a: (np.shape(a)[1:], jnp.result_type(a)), batch)
        if reference not in (None, form):
            raise ValueError(
                f"batches[{index}] has shapes and types {form} and the first {reference}: wanted "
                "the same structure in all, but for the number of samples"
            )
        reference = form
        yield spread(_stacked(batch, 1), mesh)


def _even_size(n: int, size: int, devices: int) -> int:
    """A batch size of ``size`` or a little less, so that no batch is of another shape, if possible.

    Each shape compiles anew; and a batch should spread evenly over the devices.
    """
    near = range(size, size // 4, -1)
    even = [s for s in near if s % devices == 0]
    return next((s for s in even if n % s == 0), even[0] if even else size)


def _pair(batch: Any) -> tuple[PyTree, Any]:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise TypeError(f"batches has a {type(batch).__name__}: wanted pairs (x, y)")
    x, y = batch
    return x, (y if isinstance(y, jax.Array) else np.asarray(y))


def _stacked(batch: PyTree, count: int) -> PyTree:
    """Samples (count·n, ...) as (count, n, ...)."""
    return jax.tree.map(lambda a: a.reshape(count, -1, *np.shape(a)[1:]), batch)
