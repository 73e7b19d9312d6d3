"""The user's function at the shapes of the batches: traced as seldom as can be."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import jax

from gramlin_jax.support.devices import Placement, automatic, placed
from gramlin_jax.support.fingerprints import checksum
from gramlin_jax.support.memory import remembered
from gramlin_jax.support.outside import read_outside
from gramlin_jax.taps import Traced, compat, recall
from gramlin_jax.taps.compat import settings, type_of
from gramlin_jax.taps.rows import doubled, sample_axes
from gramlin_jax.taps.traced import is_array

if TYPE_CHECKING:
    from jaxtyping import PyTree


class Tracing:
    """``f(params, x)`` at the shapes of batches.

    ``f`` is traced once for each shape, and once more at twice the first number of samples, which
    says which axes count samples. Later calls with the same function and shapes trace nothing.
    """

    def __init__(self, f: Callable[..., PyTree], params: PyTree, where: Placement) -> None:
        self._f, self._where = f, where
        self._params = jax.tree.map(automatic, params)
        self._known: dict[Any, tuple[Traced, list[Any]]] = {}

    def at(self, xs: PyTree) -> tuple[Traced, list[Any]]:
        """The trace for one batch of a stack, and the values that it holds but the batch's."""
        x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
        leaves, structure = jax.tree.flatten(x)
        key = structure, tuple(leaves)
        if key not in self._known:
            traced, values = recall(self._f, self._params, (x,))
            if not traced.layers.sites:
                raise ValueError(f"f has no linear layer that is tapped:\n{traced.layers}")
            self._known[key] = traced, placed(values[: -len(leaves)], self._where)
        return self._known[key]

    def sample_axes(
        self, traced: Traced, x: PyTree, n: int
    ) -> tuple[dict[str, int], dict[str, str]]:
        """``rows.sample_axes`` of a trace at n samples x, from memory where they are known."""
        found = self._found(x)
        if not (found and same_layers(found[0], traced, found[2], found[1], n)):
            found[:] = [traced, n, *sample_axes(traced, self.twice(x), n)]
        return found[2], found[3]

    def other(self, x: PyTree) -> tuple[Traced, int] | None:
        """A trace at another number of samples, and this; None where there is none."""
        found, n = self._found(x), len(jax.tree.leaves(x)[0])
        if found and found[1] != n:
            return found[0], found[1]
        twice = self.twice(x)
        return None if twice is None else (twice, 2 * n)

    def twice(self, x: PyTree) -> Traced | None:
        """A trace at twice as many samples; None where there is none."""
        return doubled(self._f, self._params, (x,), how=recall)

    def _found(self, x: PyTree) -> list[Any]:
        """A place for a trace, its number of samples and what ``sample_axes`` says of it."""
        leaves, structure = jax.tree.flatten((self._params, x))
        of_params = len(jax.tree.leaves(self._params))
        types = [type_of(leaf) if is_array(leaf) else leaf for leaf in leaves[:of_params]]
        samples = [(a.shape[1:], a.dtype) for a in leaves[of_params:]]
        return _memory(
            self._f, read_outside(self._f), structure, tuple(types), tuple(samples), settings()
        )


def program(function: Callable[..., Any], *args: Any) -> tuple[Hashable, ...]:
    """All that a trace of ``function`` holds: its equations, and checksums of its constants.

    What was compiled for a function may be kept while this is the same, whatever it reads and how.
    """
    # By a new function: JAX remembers the traces of one that it knows.
    jaxpr, constants, _ = compat.trace(lambda *args: function(*args), *args)
    arrays = [*constants, *compat.inner_constants(jaxpr)]
    # The text names Python functions by their places in memory.
    return re.sub(r" at 0x[0-9a-f]+", "", str(jaxpr)), tuple(map(checksum, arrays))


@remembered
def _memory(*key: Any) -> list[Any]:
    """A place for what is known of a function, empty at first."""
    del key
    return []


def same_layers(before: Traced, here: Traced, axes: dict[str, int], n: int, size: int) -> bool:
    """Whether a trace at another number of samples has the same layers, and these axes grow."""
    first, second = before.layers.sites, here.layers.sites
    return first.keys() == second.keys() and all(
        first[name].rows[axis] * size == second[name].rows[axis] * n for name, axis in axes.items()
    )
