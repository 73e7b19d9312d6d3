"""Where the batches of an epoch come from: arrays on the device, or an iterable."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gramlin_jax.support.checks import check_finite, check_leading_axis
from gramlin_jax.support.conversion import as_jax
from gramlin_jax.support.devices import Placement, placed
from gramlin_jax.support.fingerprints import fingerprint
from gramlin_jax.support.precision import widened
from gramlin_jax.training.identity import lowering
from gramlin_jax.training.program import Hyper, Metrics, Run, State
from gramlin_jax.training.sweeps import compiled_over_runs

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

# (state, hyper, epoch) -> (state, metrics) of all runs, each with a first axis (r, ...)
Epoch: TypeAlias = Callable[[State, Mapping[str, Any], int], tuple[State, Metrics]]


class Arrays:
    """Arrays on the device, from which one compiled epoch selects its batches.

    Attributes:
        data: The arrays (n, ...).
        run: Whose epochs these are.
        first: The shapes of a batch.

    Raises:
        ValueError: If ``data`` is empty, not of equal lengths, not finite, or not held by 32 bits.
    """

    def __init__(self, data: PyTree, run: Run) -> None:
        n = check_leading_axis("data", data)
        self.data, self.run = as_jax("data", data), run
        check_finite("data", self.data)
        self._batch_size = min(run.batch_size or n, n)
        self.first = jax.tree.map(self._batch_shape, self.data)

    def _batch_shape(self, array: Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self._batch_size, *array.shape[1:]), array.dtype)

    def example(self) -> PyTree:
        """A batch."""
        return jax.tree.map(lambda a: a[: self._batch_size], self.data)

    def epoch(self, execution: str, mesh: Mesh | None = None) -> Epoch:
        """An epoch of all runs, compiled once; the state that it is given is donated."""
        train = self._compiled = compiled_over_runs(
            self.run.epoch, execution=execution, shared=(1, 3), mesh=mesh, donate=(0,)
        )
        data = placed(self.data, Placement(mesh))
        return lambda state, hyper, epoch: train.call(state, data, hyper, jnp.int32(epoch))

    def program(self, state: State, hyper: Mapping[str, Any]) -> Callable[[], jax.stages.Lowered]:
        """What lowers the epoch that ``epoch`` made."""
        return lowering(self._compiled.alone, state, self.data, hyper, np.int32(0))

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed."""
        return {
            "batch_size": self._batch_size,
            "shuffle": self.run.shuffle,
            "data": fingerprint(self.data),
        }


class Batches:
    """Batches from an iterable, or from a callable ``epoch -> iterable``.

    Only the first batch is checked to be finite, and compared when a run is resumed.

    Attributes:
        data: None: there are no arrays to measure on.
        run: Whose epochs these are.
        first: The first batch of epoch 0.

    Raises:
        ValueError: If there is no batch, JAX's types change one, or ``run`` has a batch size of its
            own.
    """

    data = None

    def __init__(self, data: Iterable[Any] | Callable[[int], Iterable[Any]], run: Run) -> None:
        if run.batch_size is not None:
            raise ValueError(
                f"batch_size is {run.batch_size} where data yields batches: wanted None"
            )
        self._made, self.run = data, run
        batches = self._iterator(0)
        if batches is self._iterator(0):
            raise ValueError(
                f"data gives the same {type(batches).__name__} again, which can be read once: "
                "wanted an iterable that starts anew each epoch, or a callable epoch -> iterable"
            )
        begun = _checked(batches, 0)
        self.first, size = next(begun)
        check_finite("the first batch of data", self.first)
        # Epoch 0 goes on here: no batch is lost of a source that can be read once.
        self._begun: Iterator[Any] | None = itertools.chain([(self.first, size)], begun)

    def example(self) -> PyTree:
        """A batch."""
        return self.first

    def epoch(self, execution: str, mesh: Mesh | None = None) -> Epoch:
        """An epoch of all runs; its step is compiled once for each shape of a batch."""

        def one(state: State, batch: PyTree, hyper: Hyper, epoch: Array, i: Array) -> Any:
            return self.run.step(state, batch, self.run.batch_key(hyper, epoch, i), hyper)

        step = self._compiled = compiled_over_runs(
            one, execution=execution, shared=(1, 3, 4), mesh=mesh, donate=(0,)
        )

        def train(state: State, hyper: Hyper, epoch: int) -> tuple[State, Metrics]:
            means: Metrics = {}
            seen = 0
            begun, self._begun = self._begun, None
            if begun is None or epoch:
                begun = _checked(self._iterator(epoch), epoch)
            for i, (batch, size) in enumerate(begun):
                seen += size
                state, metrics = step.call(state, batch, hyper, np.int32(epoch), np.int32(i))
                means = _moved(means, metrics, size / seen) if means else metrics
            return state, means

        return train

    def program(self, state: State, hyper: Mapping[str, Any]) -> Callable[[], jax.stages.Lowered]:
        """What lowers the step of the first batch that ``epoch`` made."""
        return lowering(self._compiled.alone, state, self.first, hyper, np.int32(0), np.int32(0))

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed."""
        return {"batch_size": None, "shuffle": None, "data": fingerprint(self.first)}

    def _iterator(self, epoch: int) -> Iterator[Any]:
        return iter(self._made(epoch) if callable(self._made) else self._made)


def _checked(batches: Iterator[Any], epoch: int) -> Iterator[tuple[PyTree, int]]:
    """The batches of an epoch as JAX arrays, and their sizes; ``ValueError`` if there are none."""
    empty = True
    for batch in batches:
        empty = False
        batch = as_jax("a batch of data", batch)
        yield batch, check_leading_axis("a batch of data", batch)
    if empty:
        raise ValueError(f"data has no batch in epoch {epoch}: wanted at least one")


def source_of(data: Any, run: Run) -> Arrays | Batches:
    """``Arrays`` for a pytree of arrays, ``Batches`` for what yields batches.

    Raises:
        ValueError: If it is neither.
    """
    if hasattr(data, "shape") or not jax.tree_util.all_leaves([data]):
        return Arrays(data, run)
    if not callable(data) and not isinstance(data, Iterable):
        raise ValueError(
            f"data has type {type(data).__name__}: wanted arrays (n, ...), an iterable of batches "
            "or a callable epoch -> iterable"
        )
    return Batches(data, run)


@jax.jit
def _moved(means: Metrics, values: Metrics, share: float) -> Metrics:
    """Means over samples, ``share`` of which are new; half precision would round it away."""

    def moved(mean: Array, value: Array) -> Array:
        mean, value = widened(mean), widened(value)
        return mean + share * (value - mean)

    return jax.tree.map(moved, means, values)
