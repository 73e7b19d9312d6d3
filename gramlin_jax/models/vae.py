"""The paper's variational autoencoder and its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gramlin_jax.models.dnn import ACTIVATIONS
from gramlin_jax.models.initializers import torch_bias, torch_kernel
from gramlin_jax.support.checks import check_count, check_number, is_traced

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class VAEOutputs(NamedTuple):
    """Outputs of a forward pass.

    Attributes:
        logits: ℓ (n, pixels); the decoded image is sigmoid(ℓ).
        mean: μ (n, latent) of the posterior N(μ, diag σ²) of the code.
        log_variance: ln σ² (n, latent).
        code: The decoded z = μ + σε (n, latent).
    """

    logits: Float[Array, "n pixels"]
    mean: Float[Array, "n latent"]
    log_variance: Float[Array, "n latent"]
    code: Float[Array, "n latent"]


class VAELoss(NamedTuple):
    """Scalar means over samples: ``total`` = ``reconstruction`` + β ``kl``."""

    total: Float[Array, ""]
    reconstruction: Float[Array, ""]
    kl: Float[Array, ""]


class VAE(nn.Module):
    """Fully connected encoder x → μ, ln σ² and decoder z → ℓ, ``depth`` hidden layers each.

    Attributes:
        pixels: Numbers per image.
        width: Units of each hidden layer.
        depth: Hidden layers of the encoder (kernels ``encoder_0`` …, then ``mean`` and
            ``log_variance``) and of the decoder (``decoder_0`` … ``decoder_{depth}``).
        latent: Length of the code.
        activation: ``"gelu"`` (exact) or ``"relu"``.
        param_dtype: Type of the parameters; the computation follows parameters and input.

    Parameters start as in PyTorch, uniform in ±1/√fan_in. Parameters with a different latent size
    raise a ``ValueError``.

    Source: arXiv 2605.06258, figures 5 and 10; Kingma and Welling, arXiv 1312.6114.

    Example:
        >>> model, x = VAE(pixels=64, width=32, latent=4), jnp.ones((2, 8, 8, 1))
        >>> params = model.init(jax.random.key(0), x, jnp.zeros((2, 4)))
        >>> mean, _ = model.apply(params, x, method="encode")
        >>> model.apply(params, mean, method="decode").shape
        (2, 64)
    """

    pixels: int
    width: int = 512
    depth: int = 2
    latent: int = 32
    activation: Literal["gelu", "relu"] = "gelu"
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        """Make the layers and compare their latent size with that of given parameters."""
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is {self.activation!r}: wanted one of {', '.join(ACTIVATIONS)}"
            )
        for name in ("pixels", "width", "depth", "latent"):
            check_count(name, getattr(self, name))
        self._check_latent()
        hidden = [self.width] * self.depth
        self.encoder = self._layers([self.pixels, *hidden])
        self.mean = self._dense(self.width, self.latent)
        self.log_variance = self._dense(self.width, self.latent)
        self.decoder = self._layers([self.latent, *hidden, self.pixels])

    def __call__(self, x: Float[Array, "n ..."], noise: Float[Array, "n latent"]) -> VAEOutputs:
        """Encode, draw z = μ + exp(½ ln σ²) ε, decode.

        Args:
            x: Images (n, ...), flattened to (n, pixels).
            noise: ε (n, latent), standard normal; zeros decode the mean.

        Raises:
            ValueError: If a shape does not match.
        """
        mean, log_variance = self.encode(x)
        if noise.shape != mean.shape:
            raise ValueError(f"noise has shape {noise.shape}: wanted {mean.shape}, as the code")
        code = mean + jnp.exp(log_variance / 2) * noise
        return VAEOutputs(self.decode(code), mean, log_variance, code)

    def encode(self, x: Float[Array, "n ..."]) -> tuple[Array, Array]:
        """μ and ln σ², each (n, latent).

        Raises:
            ValueError: If an image does not have ``pixels`` numbers.
        """
        h = x.reshape(x.shape[0], -1)
        if h.shape[1] != self.pixels:
            raise ValueError(f"x has shape {x.shape}: wanted (n, ...), {self.pixels} numbers each")
        for layer in self.encoder:
            h = ACTIVATIONS[self.activation](layer(h))
        return self.mean(h), self.log_variance(h)

    def decode(self, code: Float[Array, "... latent"]) -> Float[Array, "... pixels"]:
        """The logits of the pixels.

        Raises:
            ValueError: If a code does not have ``latent`` numbers.
        """
        if code.shape[-1] != self.latent:
            raise ValueError(f"code has shape {code.shape}: wanted (..., {self.latent})")
        *hidden, last = self.decoder
        h = code
        for layer in hidden:
            h = ACTIVATIONS[self.activation](layer(h))
        return last(h)

    def _check_latent(self) -> None:
        found = self.variables.get("params", {}).get("mean", {}).get("kernel")
        if found is not None and found.shape[-1] != self.latent:
            raise ValueError(
                f"params has latent size {found.shape[-1]}: wanted {self.latent}, as the model; "
                "make the model with latent= the size of its parameters"
            )

    def _layers(self, widths: list[int]) -> list[nn.Dense]:
        return [self._dense(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)]

    def _dense(self, inputs: int, units: int) -> nn.Dense:
        return nn.Dense(
            units,
            kernel_init=torch_kernel,
            bias_init=torch_bias(inputs),
            param_dtype=self.param_dtype,
        )


def vae_loss(
    outputs: VAEOutputs, x: Float[Array, "n ..."], beta: float | Float[Array, ""]
) -> VAELoss:
    """β-VAE loss: mean over samples of Σ_pixels BCE(sigmoid(ℓ), x) + β KL(N(μ, σ²) ‖ N(0, 1)).

    BCE = ln(1 + e^ℓ) − xℓ, stable for any logit, and KL = ½ Σ (μ² + σ² − 1 − ln σ²). Lower is
    better; the entropy of the images is a lower bound. The reference takes logarithms of
    sigmoid(ℓ), cut off at −100: value and gradient agree where no probability rounds to 0 or 1.

    Args:
        outputs: Outputs of ``VAE``.
        x: Images (n, ...), numbers in [0, 1].
        beta: β ≥ 0.

    Raises:
        ValueError: If shapes differ, a pixel lies outside [0, 1] or β is negative. Under a
            transformation the last two make the loss NaN, which ``fit`` reports.

    Source: Higgins et al. 2017 (β-VAE); arXiv 2605.06258, appendix.

    Example:
        >>> zero = jnp.zeros((1, 2))
        >>> loss = vae_loss(VAEOutputs(zero, zero + 1, zero, zero + 1), x=zero, beta=0.5)
        >>> [round(float(part), 4) for part in loss]  # 2 ln 2 + 0.5·1, 2 ln 2, 1
        [1.8863, 1.3863, 1.0]
    """
    x = x.reshape(x.shape[0], -1)
    if x.shape != outputs.logits.shape:
        raise ValueError(f"x has shape {x.shape}: wanted {outputs.logits.shape}, as the logits")
    check_pixels("x", x)
    check_beta("beta", beta)
    possible = (x >= 0) & (x <= 1)
    entropies = jax.nn.softplus(outputs.logits) - x * outputs.logits
    reconstruction = jnp.where(possible, entropies, jnp.nan).sum(1).mean()
    divergence = outputs.mean**2 + jnp.expm1(outputs.log_variance) - outputs.log_variance
    kl = divergence.sum(1).mean() / 2
    total = reconstruction + jnp.where(beta >= 0, beta, jnp.nan) * kl
    return VAELoss(total, reconstruction, kl)


def check_pixels(name: str, x: Any) -> None:
    """Raise ``ValueError`` if ``x`` is concrete and has a number outside [0, 1]."""
    if is_traced(x):
        return
    with jax.ensure_compile_time_eval():
        low, high = float(jnp.min(x)), float(jnp.max(x))
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{name} has values from {low:g} to {high:g}: wanted pixels in [0, 1]; divide grey "
            "levels by 255, without standardising them"
        )


def check_beta(name: str, beta: Any) -> None:
    """Raise ``ValueError`` if ``beta`` is not a scalar, or is concrete and negative or infinite."""
    check_number(name, beta)
    if not is_traced(beta) and not 0 <= float(beta) < float("inf"):
        raise ValueError(f"{name} is {float(beta):g}: wanted a finite weight of the KL, 0 or more")
