"""The influence of finite steps along singular directions on the outputs of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from gramlin_jax.metrics.singular import in_singular_basis
from gramlin_jax.support.precision import in_float64

from .networks import after, inputs_of_layers

if TYPE_CHECKING:
    from jaxtyping import Array


@in_float64
def influences(
    params: dict[str, Array], layer: int, x: Array, jacobian: Array, activation: str
) -> dict[str, Array]:
    """How evenly equal steps along the singular directions of W move the outputs.

    The influence of a direction is the mean of ‖f(z + tv) − f(z)‖² over the samples. Steps of one
    length at the layer's input move z by t = s|step| along the left singular vector v of W; after W
    has reweighted the directions, all move z by the same t, the root mean square of z. Directions
    are those of range(W), k of them; others are an arbitrary basis.

    Returns:
        ``influence_inputs`` and ``influence_outputs``, cosines of the influences in all directions
        with a constant, in [1/√k, 1]: 1 where all directions move the outputs alike.
    """
    kernel = params[str(layer)]
    of = in_singular_basis(kernel, jacobian)
    h = inputs_of_layers(params, x, activation)[layer - 1]
    z = (h @ kernel).astype(jnp.float32)
    length = jnp.sqrt((z**2).mean())
    singular_values = jnp.sqrt(of.squares)
    before = after(params, layer, z, activation)

    def influence(step: tuple[Array, Array]) -> Array:
        direction, size = (a.astype(jnp.float32) for a in step)
        moved = after(params, layer, z + size * direction[None], activation)
        return ((moved - before) ** 2).sum(-1).mean()

    def evenness(sizes: Array) -> Array:
        moved = jax.lax.map(influence, (of.vectors.T, sizes)).astype(jnp.float64) * of.inside
        return moved.sum() / jnp.sqrt(of.inside.sum() * (moved**2).sum())

    inputs = length * singular_values / jnp.sqrt(of.squares.mean())
    return {
        "influence_inputs": evenness(inputs),
        "influence_outputs": evenness(jnp.full_like(inputs, length)),
    }
