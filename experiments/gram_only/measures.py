"""What figures 2 and 6 measure: scores along the way, layers and Grams at both ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax import (
    Projection,
    heldout_target_linearity,
    noise_floor,
    projected,
    random_projection,
    target_linearity,
    weight_gram,
)

from ..shared.measures import Reading, layer_sums, scores

if TYPE_CHECKING:
    from jaxtyping import Array


def split_scores(model: Any) -> Callable[[Any, Any, Any], dict[str, Array]]:
    """``measure`` of ``train``: losses and accuracies () on its data, a pair of train and test."""

    def measure(params: Any, hyper: Any, data: Any) -> dict[str, Array]:
        del hyper
        network: Any = Reading(model, lambda features: [])
        return scores(*(layer_sums(network, params, split) for split in data))

    return measure


def layer_measures(model: Any, projection: int) -> Callable[[Any, Any, Any], dict[str, Array]]:
    """What hidden layers know of the labels, and how far the Grams are from where they started.

    Args:
        model: Flax module with outputs ``out``; ``apply`` returns logits and hidden features.
        projection: A layer's features, flattened, are projected to as many by a random map where
            they are more, always by the same one.

    Returns:
        A jitted function of parameters, those at the start, and data, a pair of train and test.
        It returns ``target_linearity``, ``heldout`` and ``noise_floor`` (hidden layers,) and
        ``gram_change`` ‖KKᵀ − K₀K₀ᵀ‖/‖K₀K₀ᵀ‖ (kernels,), K₀ being the kernel at the start.
    """

    @jax.jit
    def measure(params: Any, start: Any, data: Any) -> dict[str, Array]:
        matrices = _projections(model, params, data[0][0][:1], projection)
        network: Any = Reading(model, lambda features: _project(features, matrices))
        on_train, on_test = (layer_sums(network, params, split)["moments"] for split in data)
        pairs = list(zip(on_train, on_test, strict=True))
        grams = list(zip(_grams(start), _grams(params), strict=True))
        norm = jnp.linalg.norm
        return {
            "target_linearity": jnp.stack([target_linearity(m) for m in on_train]),
            "heldout": jnp.stack([heldout_target_linearity(a, b) for a, b in pairs]),
            "noise_floor": jnp.stack([noise_floor(m) for m in on_train]),
            "gram_change": jnp.stack([norm(b - a) / norm(a) for a, b in grams]),
        }

    return measure


def _project(features: list[Array], maps: list[Projection | None]) -> list[Array]:
    flat = [h.reshape(len(h), -1) for h in features]
    return [h if p is None else projected(h, p) for h, p in zip(flat, maps, strict=True)]


def _projections(model: Any, params: Any, x: Array, limit: int) -> list[Projection | None]:
    """By layer, a random map of its flattened features to ``limit``; None where it fits."""
    widths = [int(np.prod(h.shape[1:])) for h in jax.eval_shape(model.apply, params, x)[1]]
    keys = jax.random.split(jax.random.key(0), len(widths))
    return [
        random_projection(key, width, limit) if width > limit else None
        for key, width in zip(keys, widths, strict=True)
    ]


def _grams(params: Any) -> list[Array]:
    """The Gram of every kernel, from input to output; a convolution's over its patches."""

    def place(item: tuple[str, Any]) -> tuple[str, int]:
        kind, number = item[0].rsplit("_", 1)
        return kind, int(number)

    kernels = (layer["kernel"] for _, layer in sorted(params["params"].items(), key=place))
    return [weight_gram(k.reshape(-1, k.shape[-1])) for k in kernels]
