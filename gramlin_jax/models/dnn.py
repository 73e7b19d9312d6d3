"""The paper's fully connected network; it also returns its hidden features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from gramlin_jax.models.initializers import torch_bias, torch_kernel
from gramlin_jax.support.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Array, Float

ACTIVATIONS = {
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),  # with the exact erf, as in PyTorch
    "relu": jax.nn.relu,
}


class DNN(nn.Module):
    """``depth`` hidden layers h ← φ(hK + b) of equal ``width``, and a linear layer on top.

    Attributes:
        width: Units of each hidden layer.
        depth: Number of hidden layers; ``depth`` + 1 kernels ``Dense_0`` … ``Dense_{depth}``.
        out: Number of outputs: classes, or regression targets.
        activation: φ, ``"gelu"`` (exact) or ``"relu"``.
        use_bias: Whether layers have a bias.
        param_dtype: Type of the parameters; the computation follows parameters and input.

    Parameters start as in PyTorch, uniform in ±1/√fan_in.

    Source: arXiv 2605.06258, appendix (experimental details), the fully connected network.

    Example:
        >>> model, x = DNN(width=32, depth=2, out=10), jnp.ones((4, 8, 8, 1))
        >>> outputs, features = model.apply(model.init(jax.random.key(0), x), x)
        >>> outputs.shape, [h.shape for h in features]
        ((4, 10), [(4, 32), (4, 32)])
    """

    width: int
    depth: int
    out: int
    activation: Literal["gelu", "relu"] = "gelu"
    use_bias: bool = True
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n ..."]) -> tuple[Float[Array, "n out"], list[Array]]:
        """Outputs (n, out), and the features after each hidden layer, ``depth`` times (n, width).

        Args:
            x: (n, ...), flattened to (n, in).

        Raises:
            ValueError: If a size is too small, ``activation`` is unknown or ``x`` has no two axes.
        """
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is {self.activation!r}: wanted one of {', '.join(ACTIVATIONS)}"
            )
        for name, least in (("width", 1), ("depth", 0), ("out", 1)):
            check_count(name, getattr(self, name), least)
        if x.ndim < 2:
            raise ValueError(f"x has shape {x.shape}: wanted (n, ...), one row a sample")
        h, features = x.reshape(x.shape[0], -1), []
        for _ in range(self.depth):
            h = ACTIVATIONS[self.activation](self._dense(self.width, h))
            features.append(h)
        return self._dense(self.out, h), features

    def _dense(self, units: int, h: Array) -> Array:
        return nn.Dense(
            units,
            use_bias=self.use_bias,
            kernel_init=torch_kernel,
            bias_init=torch_bias(h.shape[-1]),
            param_dtype=self.param_dtype,
        )(h)
