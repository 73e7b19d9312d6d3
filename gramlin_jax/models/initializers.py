"""PyTorch's default initialisation of linear layers, with which the paper's figures were made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from flax.typing import Initializer
    from jaxtyping import Array

torch_kernel: Initializer = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform in ±1/√fan_in, for kernels of dense and convolution layers."""


def torch_bias(fan_in: int) -> Initializer:
    """Uniform in ±1/√fan_in for a bias, whose shape does not tell its layer's fan-in.

    Args:
        fan_in: Inputs of each output: i of a dense layer, height·width·in of a convolution.

    Raises:
        ValueError: If ``fan_in`` < 1.
    """
    if fan_in < 1:
        raise ValueError(f"fan_in is {fan_in}: wanted the number of inputs, at least 1")
    bound = fan_in**-0.5

    def init(key: Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
