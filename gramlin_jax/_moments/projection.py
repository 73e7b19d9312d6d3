"""Random projections of features that are too wide for a (width, width) scatter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def random_projection(key: Array, width: int, limit: int) -> Float[Array, "width limit"]:
    """A Gaussian map of entries N(0, 1/limit), which keeps squared lengths in expectation.

    Projecting the features H to HP can lower target linearity but not raise it.

    Args:
        key: A ``jax.random.key``.
        width: Columns of H.
        limit: Columns of HP.

    Source: Johnson and Lindenstrauss (1984).

    Example:
        >>> random_projection(jax.random.key(0), 5, 2).shape
        (5, 2)
    """
    return jax.random.normal(key, (width, limit), jnp.float32) / limit**0.5
