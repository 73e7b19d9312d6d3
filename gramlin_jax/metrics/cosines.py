"""The cosine between two matrices, which most alignments are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import lax

from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@in_float64
def cosine(a: Float[Array, "*stack i j"], b: Float[Array, "*stack i j"]) -> Float[Array, "*stack"]:
    """⟨A, B⟩/(‖A‖‖B‖) in float64, in [−1, 1]; NaN where A or B is zero."""
    a, b = (jnp.asarray(m, jnp.float64) for m in (a, b))
    # Or squares underflow. The cosine does not depend on the unit, and so has no derivative by it.
    units = (lax.stop_gradient(jnp.abs(m)).max((-2, -1), keepdims=True) for m in (a, b))
    a, b = (m / unit for m, unit in zip((a, b), units, strict=True))
    squares = (a**2).sum((-2, -1)) * (b**2).sum((-2, -1))
    return (a * b).sum((-2, -1)) / jnp.sqrt(squares)
