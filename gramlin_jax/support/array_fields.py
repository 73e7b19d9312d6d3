"""``ArrayFields``: how dataclasses that hold arrays are compared and shown."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np

from gramlin_jax.support.checks import is_traced


class ArrayFields:
    """``==`` as one truth value, where dataclasses' own raises an error, and a ``repr`` of a line.

    Two are equal if all their fields have the same structure and the same numbers, NaN beside NaN.
    Whether arrays are NumPy's or JAX's does not matter. The ``repr`` has types and shapes in the
    place of arrays. Write ``dataclass(eq=False, repr=False)``, so that these are not overwritten.
    """

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        (mine, form), (theirs, form_of_other) = map(_flat, (self, other))
        return form == form_of_other and all(map(_same, mine, theirs))

    def __repr__(self) -> str:
        shown = (f"{name}={outline(value)}" for name, value in _fields(self).items())
        return f"{type(self).__name__}({', '.join(shown)})"


def outline(value: Any) -> str:
    """Of an array its type and shape, of a single number this, of a pytree how many arrays."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return repr(value.item()) if _is_number(value) else f"{value.dtype} {value.shape}"
    leaves = jax.tree.leaves(value)
    arrays = sum(hasattr(leaf, "shape") for leaf in leaves)
    if isinstance(value, ArrayFields) or value is None or (leaves and leaves[0] is value):
        return repr(value)
    return f"{type(value).__name__} of {arrays} array{'s' * (arrays != 1)}"


def _is_number(value: Any) -> bool:
    """Whether it is an array of one number that can be read."""
    if (
        not isinstance(value, (jax.Array, np.ndarray, np.generic))
        or value.shape
        or is_traced(value)
    ):
        return False
    return not (isinstance(value, jax.Array) and value.is_deleted())


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _flat(value: Any) -> tuple[list[Any], Any]:
    return jax.tree.flatten(_fields(value))


def _same(a: Any, b: Any) -> bool:
    a, b = map(_read, (a, b))
    numbers = all(np.issubdtype(x.dtype, np.inexact) for x in (a, b))
    return np.array_equal(a, b, equal_nan=numbers)


def _read(value: Any) -> np.ndarray:
    """The numbers of an array, also of one of random keys."""
    is_key = jax.dtypes.issubdtype(getattr(value, "dtype", None), jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(value) if is_key else value)
