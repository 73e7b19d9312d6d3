"""Small arrays end to end in one: a step in a Python loop pays for each array that it is given."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

SMALL = 4096  # numbers, below which an array is one of the small ones


class Packed(NamedTuple):
    """The arrays of a pytree, which all may share leading *stack* axes.

    Attributes:
        large: Those of ``SMALL`` numbers or more, in the order of the pytree.
        small: All others, (*stack, numbers).
    """

    large: tuple[Array, ...]
    small: Array


@in_float64
def pack(tree: PyTree) -> Packed:
    """The arrays of a pytree of one type, with at least one small one among them."""
    leaves = jax.tree.leaves(tree)
    small = [leaf.reshape(-1) for leaf in leaves if leaf.size < SMALL]
    return Packed(tuple(leaf for leaf in leaves if leaf.size >= SMALL), jnp.concatenate(small))


def unpack(packed: Packed, shapes: PyTree) -> PyTree:
    """The pytree that was packed, of which ``shapes`` has the structure, without stack axes."""
    leaves, structure = jax.tree.flatten(shapes)
    sizes = [math.prod(leaf.shape) for leaf in leaves]
    stack = packed.small.shape[:-1]
    ends = np.cumsum([size for size in sizes if size < SMALL])
    large = iter(packed.large)
    small = iter(jnp.split(packed.small, ends[:-1], axis=-1))
    parts = [
        next(large) if size >= SMALL else next(small).reshape(*stack, *leaf.shape)
        for leaf, size in zip(leaves, sizes, strict=True)
    ]
    return jax.tree.unflatten(structure, parts)
