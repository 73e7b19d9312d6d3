"""Sums over samples that merge by ``+``, and ``accumulate``, the loop over batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax.support.array_fields import ArrayFields
from gramlin_jax.support.checks import (
    check_at_least,
    check_count,
    check_integer,
    check_leading_axis,
    check_number,
)
from gramlin_jax.support.precision import in_float64
from gramlin_jax.taps import compat

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

# Samples of a batch unless told otherwise: what ``moments`` turns to float64 at a time, too.
ROWS = 4096


class Additive(ArrayFields):
    """Sums over samples: a pytree of float64 arrays that merges with another by ``+``.

    All arrays may share leading *stack* axes, for layers or runs. Zeros are the sums of no samples,
    the neutral element of ``+``; ``==`` compares all numbers. A subclass whose arrays do not simply
    add overrides ``__add__`` and ``_merged``.
    """

    @in_float64
    def __add__(self, other: Self) -> Self:
        if type(self) is not type(other):
            return NotImplemented
        self._check_mergeable(other)
        return jax.tree.map(jnp.add, self, other)

    def __radd__(self, other: object) -> Self:
        """``0 + m`` is m, so that Python's ``sum`` works."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    @in_float64
    def sum(self, axis: int = 0) -> Self:
        """Merge along one of the stack axes, which is removed; −1 is the last of them.

        Raises:
            ValueError: If there is no such stack axis.
        """
        stack = min(map(np.ndim, jax.tree.leaves(self)))  # counts have no other axes
        if not -stack <= check_integer("axis", axis) < stack:
            raise ValueError(f"axis is {axis}: wanted one of the {stack} stack axes")
        axis %= stack
        merged = self._merged(lambda a: a.sum(axis, keepdims=True))
        return jax.tree.map(lambda a: a.squeeze(axis), merged)

    @in_float64
    def psum(self, axis_name: str | tuple[str, ...]) -> Self:
        """The sums over all devices along ``axis_name``, inside ``shard_map`` or ``vmap``.

        Args:
            axis_name: Name, or names, of the mapped axis that holds parts of the samples.
        """
        return self._merged(lambda a: lax.psum(a, axis_name))

    @in_float64
    def scaled(self, factor: float | Array) -> Self:
        """The sums with each sample counted ``factor`` ≥ 0 times: for exponential forgetting.

        Raises:
            ValueError: If the factor is no single number, or (outside transformations) negative.
        """
        check_factor(factor)
        return jax.tree.map(lambda a: factor * a, self)

    def _merged(self, total: Callable[[Array], Array]) -> Self:
        """Merge parts that lie along an axis over which ``total`` adds up one array."""
        return jax.tree.map(total, self)

    def _check_mergeable(self, other: Self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            shapes = [jax.tree.map(np.shape, getattr(sums, field.name)) for sums in (self, other)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"{type(self).__name__} do not add: {field.name} has shape {shapes[0]} in one "
                    f"and {shapes[1]} in the other; wanted sums of the same layer and targets"
                )


def check_factor(factor: Any) -> None:
    """Raise ``ValueError`` if samples cannot be counted so many times."""
    check_number("factor", factor)
    check_at_least("factor", factor, 0)


def accumulate(
    function: Callable[[Any], PyTree],
    data: PyTree | Iterator[Any],
    *,
    batch_size: int | None = ROWS,
) -> PyTree:
    """Σ ``function(batch)`` over the batches of ``data``, in one scan: a streaming pass.

    ``function`` turns a batch into anything that adds: ``Moments`` of a layer's features, a
    count of correct answers, a summed loss. No feature outlives its batch.

    Args:
        function: ``batch -> pytree`` of arrays and ``Additive`` sums, each over the batch's
            samples. Call ``accumulate`` under ``jit``, or each call compiles anew.
        data: Pytree of arrays that share their first axis (n, ...); a batch is a slice of it. Or
            an iterator of batches, which are passed as they come, one by one.
        batch_size: Samples a batch; only speed and memory depend on it, never the result. None:
            the first axis of the arrays counts batches, (batches, n, ...).

    Returns:
        The sums over all samples, in ``function``'s structure. What it returns in less than 32 bits
        is added up in 32, or the sum would stand still, or wrap round.

    Raises:
        ValueError: If the first axes differ or are empty, there is no batch, or ``batch_size`` < 1.

    Example:
        >>> x = jnp.arange(10.0)[:, None]
        >>> m, count = accumulate(lambda x: (moments(x), len(x)), x, batch_size=4)
        >>> float(m.feature_mean[0]), int(count)
        (4.5, 10)
    """
    function = _in_32_bits(function)
    if isinstance(data, Iterator):
        return _sum_iterator(function, data)
    if batch_size is not None:
        check_count("batch_size", batch_size)
    data = _on_device(data)
    n = check_leading_axis("data", data)
    if batch_size is None:
        return _scan(function, data, lambda batch: batch)
    whole, rest = divmod(n, batch_size)
    if whole <= 1 and not (whole and rest):
        return function(data)

    @in_float64  # or there is no int64
    def rows(batch: Array) -> PyTree:
        start = batch.astype(jnp.int32 if n < 2**31 else jnp.int64) * batch_size
        return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, batch_size), data)

    total = _scan(function, jnp.arange(whole, dtype=jnp.int32), rows)
    if rest:
        last = jax.tree.map(lambda a: lax.slice_in_dim(a, whole * batch_size, n), data)
        total = add(total, function(last))
    return total


def beside(count: Array, sums: Array) -> Array:
    """``count`` (*stack) with axes of length 1 to divide sums (*stack, ...) by."""
    return jnp.reshape(count, (*jnp.shape(count), *[1] * (jnp.ndim(sums) - jnp.ndim(count))))


def add(a: PyTree, b: PyTree) -> PyTree:
    """Add two pytrees of arrays and ``Additive`` sums."""
    return jax.tree.map(_add, a, b, is_leaf=lambda leaf: isinstance(leaf, Additive))


@in_float64
def zeros_like(shapes: PyTree) -> PyTree:
    """The sums of no samples, with these shapes and types, varying as they do in ``shard_map``."""
    return jax.tree.map(lambda s: compat.zeros(s.shape, s.dtype, compat.varying(s)), shapes)


def _scan(
    function: Callable[[Any], PyTree], batches: PyTree, batch_of: Callable[[Any], Any]
) -> PyTree:
    """Σ function(batch_of(each)). It starts from zeros, so that ``function`` is compiled once."""

    def step(total: PyTree, each: Any) -> tuple[PyTree, None]:
        return add(total, function(batch_of(each))), None

    first = jax.tree.map(lambda a: a[0], batches)
    shapes = jax.eval_shape(lambda each: function(batch_of(each)), first)
    return lax.scan(step, zeros_like(shapes), batches)[0]


def _in_32_bits(function: Callable[[Any], PyTree]) -> Callable[[Any], PyTree]:
    """``function``, with what it returns in float32 or int32 at least."""

    def widened(leaf: Any) -> Any:
        kind = jnp.result_type(leaf)
        if kind.itemsize >= 4:
            return leaf
        wide = jnp.float32 if jnp.issubdtype(kind, jnp.floating) else jnp.int32
        return jnp.asarray(leaf).astype(wide)

    return lambda batch: jax.tree.map(widened, function(batch))


def _sum_iterator(function: Callable[[Any], PyTree], batches: Iterator[Any]) -> PyTree:
    total = None
    for batch in batches:
        part = function(batch)
        total = part if total is None else _jitted_add(total, part)
    if total is None:
        raise ValueError("data is an empty iterator: wanted at least one batch")
    return total


@in_float64
def _add(a: Any, b: Any) -> Any:
    return a + b


_jitted_add = jax.jit(add)


@in_float64
def _on_device(data: PyTree) -> PyTree:
    """``data`` as JAX arrays of their own types, float64 included."""
    return jax.tree.map(jnp.asarray, data)
