"""What moments of two networks' features hold beyond those of features and targets."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from gramlin_jax._moments.additive import Additive
from gramlin_jax.support.linalg import diagonal, dot, gram

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Pair(Additive):
    """Sums over samples with features h and y of two networks, about their means.

    With n₀ = ‖h − h̄‖² and n₁ = ‖y − ȳ‖² of a sample, the products and the two vectors are what an
    unbiased estimate needs: they take out the pairs of a sample with itself.

    Attributes:
        target_scatter: Σ (y − ȳ)(y − ȳ)ᵀ (k, k), whole.
        norm_products: Σ n_p n_q (2, 2).
        norm_features: Σ n_p (h − h̄) (2, d).
        norm_targets: Σ n_p (y − ȳ) (2, k).
    """

    target_scatter: Float[Array, "*stack k k"]
    norm_products: Float[Array, "*stack 2 2"]
    norm_features: Float[Array, "*stack 2 d"]
    norm_targets: Float[Array, "*stack 2 k"]

    @classmethod
    def zeros(cls, d: int, k: int, stack: tuple[int, ...]) -> Pair:
        """The sums of no sample."""
        shapes = (k, k), (2, 2), (2, d), (2, k)
        return cls(*(jnp.zeros((*stack, *shape), jnp.float64) for shape in shapes))

    @classmethod
    def of(cls, weights: Array, features: Array, targets: Array) -> Pair:
        """The sums of a batch, centred already."""
        norms = jnp.stack([(rows**2).sum(1) for rows in (features, targets)], 1)
        weighted = norms * weights[:, None]
        return cls(
            gram(targets * weights[:, None], targets),
            dot(weighted.T, norms),
            dot(weighted.T, features),
            dot(weighted.T, targets),
        )

    def moved(
        self, count: Array, feature_scatter: Array, cross_scatter: Array, shifts: list[Array]
    ) -> Pair:
        """The same sums about means that lie elsewhere: each sample has moved by ``shifts``.

        n'_p = n_p + 2z_p·δ_p + ‖δ_p‖², multiplied out; Σ z_p = 0.
        """
        scatters = [
            [feature_scatter, cross_scatter],
            [cross_scatter.swapaxes(-1, -2), self.target_scatter],
        ]
        vectors = [self.norm_features, self.norm_targets]
        totals = [diagonal(scatters[p][p]).sum(-1) for p in (0, 1)]
        squares = [(shift**2).sum(-1) for shift in shifts]

        def times(p: int, q: int) -> Array:
            return (scatters[q][p] * shifts[p][..., None, :]).sum(-1)  # Σ z_q (z_p·δ_p)

        def product(p: int, q: int) -> Array:
            along = (vectors[q][..., p, :] * shifts[q]).sum(-1)
            across = (vectors[p][..., q, :] * shifts[p]).sum(-1)
            return (
                self.norm_products[..., p, q]
                + 2 * (along + across)
                + 4 * (times(p, q) * shifts[q]).sum(-1)
                + squares[q] * totals[p]
                + squares[p] * totals[q]
                + count * squares[p] * squares[q]
            )

        def vector(q: int) -> Array:
            rows = [
                2 * times(p, q) + (totals[p] + count * squares[p])[..., None] * shifts[q]
                for p in (0, 1)
            ]
            return vectors[q] + jnp.stack(rows, -2)

        shift = shifts[1]
        outer = count[..., None, None] * shift[..., :, None] * shift[..., None, :]
        products = jnp.stack([jnp.stack([product(p, q) for q in (0, 1)], -1) for p in (0, 1)], -2)
        return Pair(self.target_scatter + outer, products, vector(0), vector(1))
