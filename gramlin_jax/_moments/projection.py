"""Random projections of features that are too wide for a (width, width) scatter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from gramlin_jax.support.checks import check_count, check_floating, check_kind
from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class Projection(NamedTuple):
    """A random map from width columns to fewer: each is a signed sum of a group of columns.

    Attributes:
        order: The columns group by group (groups, limit), −1 where a group is shorter.
        signs: ±1, and 0 where a group is shorter, of the same shape.
    """

    order: Int[Array, "groups limit"]
    signs: Float[Array, "groups limit"]


def random_projection(key: Array, width: int, limit: int) -> Projection:
    """Random signs and groups of columns: column j of HP is Σ ±h over the j-th group.

    The groups are disjoint, of equal size but for one, and hold every column, so P has orthogonal
    columns and keeps squared lengths in expectation. It takes O(width) memory, where a dense map
    takes O(width·limit). Target linearity of HP can be lower than that of H, but not higher.

    Args:
        key: A ``jax.random.key``.
        width: Columns of H.
        limit: Columns of HP, fewer than ``width``.

    Raises:
        ValueError: If ``limit`` is not from 1 to ``width`` − 1.

    Source: Charikar, Chen and Farach-Colton (2002), the count sketch, with groups of equal size.

    Example:
        >>> projection = random_projection(jax.random.key(0), 5, 2)
        >>> projected(jnp.ones((3, 5)), projection).shape
        (3, 2)
    """
    check_count("width", width)
    check_count("limit", limit)
    if limit >= width:
        raise ValueError(f"limit is {limit}: wanted fewer columns than width, {width}")
    groups = -(-width // limit)
    of_order, of_signs = jax.random.split(key)
    order = jnp.full(groups * limit, -1).at[:width].set(jax.random.permutation(of_order, width))
    signs = random_signs(of_signs, (groups * limit,), jnp.float32)
    signs = jnp.where(order < 0, 0, signs)
    return Projection(order.reshape(groups, limit), signs.reshape(groups, limit))


def random_signs(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """As ``jax.random.rademacher``, but the same ones whether or not 64-bit types are enabled."""
    return 2 * jax.random.bernoulli(key, jnp.float32(0.5), shape).astype(dtype) - 1


@in_float64
def projected(features: Float[Array, "n width"], projection: Projection) -> Float[Array, "n limit"]:
    """HP, in the features' own type, or float32 where that is wider.

    Args:
        features: H (n, width).
        projection: Of that width, see ``random_projection``.

    Raises:
        ValueError: If no projection of that width has these groups.
        TypeError: If the features are not floating point, or ``projection`` is none.

    Example:
        >>> one = Projection(jnp.array([[1, 0], [2, -1]]), jnp.array([[1.0, 1.0], [-1.0, 0.0]]))
        >>> projected(jnp.array([[1.0, 2.0, 5.0]]), one).tolist()
        [[-3.0, 1.0]]
    """
    features = check_floating("features", features)
    check_kind("projection", projection, Projection, "random_projection(key, width, limit)")
    groups, limit = projection.order.shape
    if features.ndim != 2 or not (groups - 1) * limit < features.shape[1] <= groups * limit:
        raise ValueError(
            f"features has shape {features.shape}: wanted (n, width), of the width of projection, "
            f"which has {groups} groups of up to {limit} columns"
        )
    return _projected(features, projection)


@jax.jit
def _projected(features: Array, projection: Projection) -> Array:
    signs = projection.signs.astype(jnp.promote_types(features.dtype, jnp.float32))

    def add(total: Array, group: Projection) -> tuple[Array, None]:
        return total + features[:, group.order] * group.signs[None], None

    start = jnp.zeros((len(features), signs.shape[1]), signs.dtype)
    return jax.lax.scan(add, start, Projection(projection.order, signs))[0]
