"""Batches of samples on their way to the devices: large stacks of equal ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax.support.checks import check_concrete, check_leading_axis
from gramlin_jax.support.conversion import check_held
from gramlin_jax.support.devices import (
    Placement,
    automatic,
    check_equal_samples,
    check_own_samples,
    spread,
)

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

STACK_BYTES = 2**28  # of samples that are sent to the device, and scanned over, at once


class Batch(NamedTuple):
    """Samples, or a stack of batches of them with one more leading axis.

    Attributes:
        x: Inputs, a pytree of arrays (n, ...).
        y: What the loss is given, a pytree of arrays (n, ...).
        targets: Labels (n, *positions) or real targets (n, ...); None: those are y.
        weights: (n,) or (n, *positions) ≥ 0; None: 1.
    """

    x: PyTree
    y: PyTree
    targets: Array | None
    weights: Array | None

    @property
    def labels(self) -> Any:
        """The targets, wherever they are."""
        return self.y if self.targets is None else self.targets


class Reader(NamedTuple):
    """How a batch of the user's is read; functions of a batch, None where it is a tuple.

    Attributes:
        inputs: The inputs x. With it a batch may be anything, and the loss is given the batch.
        targets: Labels or real targets, where these are not y.
        weights: Weights, where a batch is not a triple (x, y, weights).
    """

    inputs: Callable[[Any], PyTree] | None = None
    targets: Callable[[Any], Any] | None = None
    weights: Callable[[Any], Any] | None = None

    def read(self, batch: Any, name: str) -> Batch:
        """The parts of a batch, as arrays.

        Raises:
            TypeError: If the batch is no pair or triple and there is no ``inputs``, or a part
                holds something that is no array.
            ValueError: If first axes differ, a weight is negative, or y is no array and there
                are no ``targets``.
        """
        if self.inputs is None:
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                raise TypeError(
                    f"{name} is a {type(batch).__name__}: wanted pairs (x, y) or triples "
                    "(x, y, weights); or name the parts by inputs=lambda batch: … and targets="
                )
            x, y, *rest = batch
        else:
            x, y, rest = self.inputs(batch), batch, []
        weights = self.weights(batch) if self.weights else rest[0] if rest else None
        targets = self.targets(batch) if self.targets else None
        # With ``inputs`` y is all of the batch.
        names = f"x of {name}", f"y of {name}", f"targets of {name}", f"weights of {name}"
        names = names if self.inputs is None else (names[0], name, *names[2:])
        read = Batch(*map(as_arrays, names, (x, y, targets, weights)))
        return _checked(read, name)


def as_arrays(name: str, tree: PyTree) -> PyTree:
    """A pytree of arrays from one of arrays, tensors, frames and lists of numbers.

    Raises:
        TypeError: If a leaf is no array of numbers.
        ValueError: If a leaf is a scalar.
    """

    def convert(path: Any, leaf: Any) -> Any:
        where, kind = f"{name}{jax.tree_util.keystr(path)}", type(leaf).__name__
        check_concrete(where, leaf, "outside of what is compiled or differentiated")
        try:
            array = automatic(leaf) if isinstance(leaf, jax.Array) else np.asarray(leaf)
        except (TypeError, ValueError, RuntimeError) as error:  # its own, or it was deleted
            raise TypeError(f"{where} is a {kind}: wanted an array of numbers ({error})") from error
        if not (isinstance(array, jax.Array) or _is_known(array.dtype)):
            kind = f"{kind} of {array.dtype.name}"
            raise TypeError(f"{where} is a {kind}: wanted arrays of numbers (n, ...)")
        if np.ma.is_masked(leaf):
            raise ValueError(f"{where} has masked entries: wanted plain arrays, and weights of 0")
        if not array.ndim:
            raise ValueError(
                f"{where} is a scalar: wanted arrays (n, ...); a key or a constant belongs in "
                "params, or in f"
            )
        return array

    return jax.tree_util.tree_map_with_path(convert, tree, is_leaf=_is_data)


def _is_known(dtype: np.dtype) -> bool:
    """Whether JAX has numbers of this type, or of fewer digits."""
    try:
        jnp.asarray(np.empty(0, dtype))
    except TypeError:
        return False
    return True


def _is_data(value: Any) -> bool:
    """Whether this is one array, not a container of some: a list or tuple of numbers is."""
    first = value
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return hasattr(value, "__array__") or (
        first is not value and isinstance(first, int | float | np.generic)
    )


def _checked(batch: Batch, name: str) -> Batch:
    n = check_leading_axis(name, (batch.x, batch.y))
    labels, weights = batch.labels, batch.weights
    if not isinstance(labels, jax.Array | np.ndarray):
        raise ValueError(
            f"y of {name} is a {type(batch.y).__name__}: wanted an array of labels or real "
            "targets; name it by targets=lambda batch: … (several batches are a list, not a tuple)"
        )
    check_leading_axis(name, (batch.x, labels))
    if jnp.issubdtype(labels.dtype, jnp.complexfloating):
        raise ValueError(f"y of {name} is of {labels.dtype}: wanted labels, or real targets")
    if weights is not None:
        shapes: set[tuple[int, ...]] = {(n,)} | ({labels.shape} if is_labels(labels) else set())
        batch = batch._replace(weights=_weights(weights, shapes, f"weights of {name}"))
    return _with_float64(batch, name)


def is_labels(y: Any) -> bool:
    """Whether targets are labels of classes, not real numbers."""
    return not jnp.issubdtype(y.dtype, jnp.floating)


def _weights(weights: Any, shapes: set[tuple[int, ...]], name: str) -> Any:
    """Weights of 32 bits, or of 64 with JAX's flag, which are checked."""
    if np.shape(weights) not in shapes:
        wanted = " or ".join(map(str, sorted(shapes, key=len)))
        raise ValueError(f"{name} has shape {np.shape(weights)}: wanted {wanted}, as the labels")
    if jnp.issubdtype(weights.dtype, jnp.complexfloating):
        raise ValueError(f"{name} is of {weights.dtype}: wanted real numbers >= 0")
    held = weights.astype(jax.dtypes.canonicalize_dtype(np.float64))
    if not bool(((held >= 0) & (held < np.inf)).all()):
        raise ValueError(f"{name} has negative, infinite or NaN entries: wanted numbers >= 0")
    if bool(((held == 0) != (weights == 0)).any()):
        raise ValueError(f"{name} has entries that {held.dtype} takes for 0: wanted larger ones")
    return held


def _with_float64(batch: Batch, name: str) -> Batch:
    """Real targets keep float64, beside what the loss is given; inputs must not need it.

    Without JAX's flag for 64-bit types the network computes in float32, and so does the loss.
    """
    if jax.dtypes.canonicalize_dtype(np.float64) == np.float64:
        return batch
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch.x):
        if isinstance(leaf, np.ndarray):
            where = f"x of {name}{jax.tree_util.keystr(path)}"
            check_held(where, leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))
    labels = batch.labels
    if isinstance(labels, np.ndarray) and is_labels(labels):
        check_held(f"y of {name}", labels, jax.dtypes.canonicalize_dtype(labels.dtype))
    if labels.dtype == np.float64:
        return batch._replace(targets=labels)
    return batch


def stacks(batches: Any, reader: Reader, batch_size: int, where: Placement) -> Iterator[Batch]:
    """The data as stacks of equal batches, (batches, n, ...) each, on their devices.

    Args:
        batches: A tuple of arrays, a pair (x, y) or a triple (x, y, weights), or an iterable of
            batches.
        reader: How a batch is read.
        batch_size: Samples of a batch of a tuple of arrays, or a little less where that is even.
        where: Over which devices samples are spread.

    Raises:
        ValueError: If there are no samples, batches change their structure, or processes hold
            different numbers of samples, where a process that has no more batches has 0.
        TypeError: If ``batches`` are neither arrays nor batches.
    """
    if isinstance(batches, tuple):
        yield from _slices(reader.read(batches, "batches"), batch_size, where)
        return
    if isinstance(batches, Mapping) or not hasattr(batches, "__iter__"):
        raise TypeError(
            f"batches is a {type(batches).__name__}: wanted a pair of arrays (x, y) or an iterable "
            "of batches; one batch is [batch]"
        )
    reference, read = None, 0
    for index, raw in enumerate(batches):
        batch = reader.read(raw, f"batches[{index}]")
        form = jax.tree.map(lambda a: (a.ndim, jnp.result_type(a)), batch)
        if reference not in (None, form):
            raise ValueError(
                f"batches[{index}] has axes and types {form} and the first {reference}: wanted "
                "the same structure in all"
            )
        reference = form
        check_equal_samples(len(batch.labels), where, f"batches[{index}]")
        yield _on_devices(batch, 1, where)
        read = index + 1
    check_equal_samples(0, where, f"batches[{read}]")


def shown(stacks: Iterator[Batch], progress: bool, delay: float = 10) -> Iterator[Batch]:
    """The stacks, with a bar that counts their batches once ``delay`` seconds have passed."""
    from tqdm.auto import tqdm

    with tqdm(desc="measure", unit="batch", delay=delay, disable=not progress) as bar:
        for stack in stacks:
            yield stack
            bar.update(len(stack.labels))


def _slices(data: Batch, batch_size: int, where: Placement) -> Iterator[Batch]:
    n = len(data.labels)
    local = not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(data))
    if local:
        check_equal_samples(n, where)
        check_own_samples(n, where)
    size = _even_size(n, min(batch_size, n), where.own if local else where.devices)
    batch_bytes = sum(a.nbytes for a in jax.tree.leaves(data)) * size // n
    at_once = max(1, STACK_BYTES // max(batch_bytes, 1))
    ends = [*range(0, n // size * size, at_once * size), n // size * size, n]
    for start, end in itertools.pairwise(ends):
        if length := min(size, end - start):
            cut = jax.tree.map(lambda a: a[start:end], data)  # noqa: B023
            yield _on_devices(cut, (end - start) // length, where)


def _even_size(n: int, size: int, devices: int) -> int:
    """A batch size of ``size`` or a little less, so that no batch is of another shape, if possible.

    Each shape compiles anew; and a batch should spread evenly over the devices.
    """
    near = range(size, size // 4, -1)
    even = [s for s in near if s % devices == 0]
    return next((s for s in even if n % s == 0), even[0] if even else size)


def _on_devices(batch: Batch, count: int, where: Placement) -> Batch:
    """Samples (count·n, ...) as (count, n, ...); float64 targets stay float64."""
    stacked = jax.tree.map(lambda a: a.reshape(count, -1, *np.shape(a)[1:]), batch)
    with jax.enable_x64(True):
        targets = spread(stacked.targets, where)
    return spread(stacked._replace(targets=None), where)._replace(targets=targets)
