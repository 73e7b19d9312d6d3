"""When a prediction is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from gramlin_jax.support.checks import check_same_shape
from gramlin_jax.support.precision import with_promotion

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


@with_promotion
def hits(logits: Float[Array, "*n C"], labels: Int[Array, "*n"]) -> Float[Array, "*n"]:
    """Whether the largest logit is the label's, 1 or 0; NaN where a logit is NaN.

    Args:
        logits: (*n, C).
        labels: Integers (*n,).

    Raises:
        ValueError: If the shapes do not match, as of one-hot labels.

    Example:
        >>> hits(jnp.array([[0.0, 1.0], [jnp.nan, 0.0]]), jnp.array([1, 0])).tolist()
        [1.0, nan]
    """
    check_same_shape("labels", labels, "logits without classes", logits[..., 0])
    return jnp.where(jnp.isnan(logits).any(-1), jnp.nan, logits.argmax(-1) == labels)
