"""The paper's convolutional network; it also returns its hidden features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gramlin_jax.models.initializers import torch_bias, torch_kernel
from gramlin_jax.support.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class CNN(nn.Module):
    """``depth`` 3×3 convolutions h ← relu(h ∗ K + b), some max-pooled, and a linear layer on top.

    Attributes:
        out: Number of outputs: classes, or regression targets.
        channels: Channels of each convolution.
        depth: Number of convolutions: kernels ``Conv_0`` … (3, 3, in, channels), zero-padded to
            keep height and width. The last layer is ``Dense_0``.
        pool_after: Indices, from 0, of the convolutions that are followed by 2×2 max-pooling. An
            odd last row or column is dropped.
        use_bias: Whether layers have a bias.
        param_dtype: Type of the parameters; the computation follows parameters and input.
        average: Whether the last layer reads the mean of each channel over all positions.

    Parameters start as in PyTorch, uniform in ±1/√fan_in. The last layer reads its inputs in the
    order (height, width, channels), not PyTorch's (channels, height, width).

    Source: arXiv 2605.06258, figure 6: the defaults are its network.

    Example:
        >>> model, x = CNN(out=10), jnp.ones((2, 28, 28, 1))
        >>> outputs, features = model.apply(model.init(jax.random.key(0), x), x)
        >>> outputs.shape, [h.shape for h in features]
        ((2, 10), [(2, 14, 14, 16), (2, 14, 14, 16), (2, 7, 7, 16)])
    """

    out: int
    channels: int = 16
    depth: int = 3
    pool_after: Sequence[int] = (0, 2)
    use_bias: bool = True
    param_dtype: Any = jnp.float32
    average: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> tuple[Float[Array, "n out"], list[Array]]:
        """Outputs (n, out), and each convolution's features after ReLU and pooling (n, h, w, c).

        Args:
            x: Images (n, h, w, c).

        Raises:
            ValueError: If a size is below 1, ``x`` has other axes, ``pool_after`` names an absent
                convolution, or there is nothing left to pool.
        """
        if x.ndim != 4:
            raise ValueError(f"x has shape {x.shape}: wanted images (n, height, width, channels)")
        for name in ("out", "channels", "depth"):
            check_count(name, getattr(self, name))
        if not set(self.pool_after) <= set(range(self.depth)):
            raise ValueError(
                f"pool_after is {self.pool_after}: wanted some of 0 … {self.depth - 1}"
            )
        h, features = x, []
        for i in range(self.depth):
            options = self._options(9 * h.shape[-1])
            h = nn.Conv(self.channels, (3, 3), conv_general_dilated=_convolve, **options)(h)
            h = jax.nn.relu(h)
            if i in self.pool_after:
                h = _max_pool(h)
            features.append(h)
        h = h.mean((1, 2)) if self.average else h.reshape(h.shape[0], -1)
        return nn.Dense(self.out, **self._options(h.shape[-1]))(h), features

    def _options(self, fan_in: int) -> dict[str, Any]:
        return {
            "use_bias": self.use_bias,
            "kernel_init": torch_kernel,
            "bias_init": torch_bias(fan_in),
            "param_dtype": self.param_dtype,
        }


def _convolve(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """The zero-padded convolution, as one product of patches (n, h, w, 9·in) and K (9·in, out).

    Inside a ``lax.scan``, as in ``fit``, XLA on a CPU (jaxlib 0.10) computes the gradients of
    ``lax.conv_general_dilated`` with plain loops: a training step takes 5 to 15 times as long.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, -1) @ kernel.reshape(-1, kernel.shape[-1])


def _max_pool(h: Array) -> Array:
    """Max-pool 2×2. Among equal values the first receives the gradient, as in PyTorch.

    With ``nn.max_pool`` a training step takes 1.6 to 1.9 times as long on a CPU.
    """
    n, height, width, channels = h.shape
    if min(height, width) < 2:
        raise ValueError(f"x has {height}×{width} pixels left to max-pool: wanted at least 2×2")
    h = h[:, : height // 2 * 2, : width // 2 * 2]
    h = h.reshape(n, height // 2, 2, width // 2, 2, channels)
    h = _maximum(h[..., 0, :], h[..., 1, :])
    return _maximum(h[:, :, 0], h[:, :, 1])


def _maximum(a: Array, b: Array) -> Array:
    return jnp.where((a >= b) | jnp.isnan(a), a, b)
