"""Sums of how the attention of queries spreads over the keys."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from gramlin_jax._moments.additive import Additive
from gramlin_jax.support.precision import in_float64
from gramlin_jax.taps.attention import Spread

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AttentionMoments(Additive):
    """Sums over the queries that a layer makes, head by head; a sum over batches by ``+``.

    A query that sees one key has no choice, and does not count.

    Attributes:
        count: Number of queries, or the sum of their weights (*stack, heads).
        entropy_sum: Σ H/ln m (*stack, heads), with H = −Σ p ln p of the query's attention p and m
            the number of keys that it sees.
    """

    count: Float[Array, "*runs_and_stack heads"]
    entropy_sum: Float[Array, "*runs_and_stack heads"]

    @property
    @in_float64
    def entropy(self) -> Float[Array, "*runs_and_stack heads"]:
        """The mean of H/ln m in each head, in [0, 1]; NaN where no query counts."""
        return jnp.asarray(self.entropy_sum) / jnp.asarray(self.count)


@in_float64
def attention_moments(
    spread: Spread, over: tuple[int, ...], weights: Array | None = None
) -> AttentionMoments:
    """The sums of a batch.

    Args:
        spread: Of all queries.
        over: Axes of its queries, which are not stacked layers.
        weights: How often each query counts, of a shape that broadcasts; None: once.
    """
    entropy, keys = (a.astype(jnp.float64) for a in spread)
    counted = jnp.where(keys > 1, jnp.ones(()) if weights is None else weights, 0)
    share = jnp.clip(entropy / jnp.log(jnp.maximum(keys, 2)), 0, 1)  # half precision rounds
    sums = jnp.where(counted > 0, counted * share, 0)
    return AttentionMoments(counted.astype(jnp.float64).sum(over), sums.sum(over))
