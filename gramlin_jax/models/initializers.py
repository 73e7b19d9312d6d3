"""PyTorch's default initialisation of linear layers, which the paper's figures use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from gramlin_jax.support.checks import check_at_least

if TYPE_CHECKING:
    from flax.typing import Initializer
    from jaxtyping import Array

torch_kernel: Initializer = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform in ±1/√fan_in, for kernels of dense and convolution layers."""


def torch_bias(fan_in: int) -> Initializer:
    """Uniform in ±1/√fan_in for a bias, whose own shape does not tell the fan-in.

    Args:
        fan_in: Inputs of each output: i of a dense layer, height·width·in of a convolution.

    Raises:
        ValueError: If ``fan_in`` < 1.

    Source: PyTorch's ``nn.Linear.reset_parameters``.

    Example:
        >>> bias = torch_bias(100)(jax.random.key(0), (1000,))
        >>> bool(abs(bias).max() <= 0.1), bool(abs(bias).max() > 0.099)
        (True, True)
    """
    check_at_least("fan_in", fan_in, 1)
    bound = fan_in**-0.5

    def init(key: Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
