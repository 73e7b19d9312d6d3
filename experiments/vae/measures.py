"""What figures 5 and 10 measure of a VAE: how well it encodes, decodes and interpolates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from gramlin_jax import (
    Moments,
    accumulate,
    heldout_target_linearity,
    moments,
    noise_floor,
    surrogate,
    target_linearity,
)
from gramlin_jax.models import VAE, vae_loss
from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, Float

ACTIVE = 0.01  # a latent is active if its mean has more variance over images (Burda et al.)
PAIRS = 256  # interpolated at a time


def vae_measures(model: VAE, frames: int) -> Callable[[Any, Any, Any], dict[str, Array]]:
    """``measure`` of ``fit``; all images are rows (·, pixels).

    Its data are ``train``, ``test``, ``noise`` (of the test images' codes), ``pairs`` (the two
    ends), ``row`` (2, pixels) and ``shown`` (s, pixels). It returns

    - with μ of the training images as features and the images as targets: ``target_linearity``,
      ``noise_floor``, and through the decoder's first kernel ``surrogate`` and, normalised,
      ``surrogate_share``; ``heldout``, of the test images by the same fit;
    - on the test images: ``loss``, ``reconstruction`` and ``kl``, see ``vae_loss``;
      ``reconstruction_error``, the mean squared difference per pixel between image and decoded μ;
      ``active``, the number of latents that the encoder uses;
    - ``frame_error`` (frames,) and ``bend`` of the pairs, see ``interpolation``;
    - pictures: ``decoded_row`` (frames, pixels) and ``decoded`` (s, pixels), of μ.
    """

    def measure(params: Any, hyper: Any, data: Any) -> dict[str, Array]:
        with jax.default_matmul_precision("highest"):
            on_train = accumulate(lambda x: moments(_mean(model, params, x), x), data["train"])
            test = accumulate(_test_sums(model, params, hyper), (data["test"], data["noise"]))
            between = interpolation(model, params, data["pairs"], frames)
            pictures = _pictures(model, params, data["row"], data["shown"], frames)
        kernel, n = params["params"]["decoder_0"]["kernel"], len(data["test"])
        of_test = {name: test[name] / n for name in ("loss", "reconstruction", "kl")}
        return {
            "target_linearity": target_linearity(on_train),
            "heldout": heldout_target_linearity(on_train, test["moments"]),
            "noise_floor": noise_floor(on_train),
            "surrogate": surrogate(on_train, kernel),
            "surrogate_share": surrogate(on_train, kernel, normalized=True),
            **of_test,
            "reconstruction_error": test["squares"] / (n * model.pixels),
            "active": _active(test["moments"]),
            **between,
            **pictures,
        }

    return measure


def interpolate(
    model: VAE, params: Any, ends: tuple[Float[Array, "n p"], Float[Array, "n p"]], frames: int
) -> Float[Array, "f n p"]:
    """The decoded λμ₁ + (1 − λ)μ₂ between two images each."""
    first, second = jnp.split(_mean(model, params, jnp.concatenate(ends)), 2)
    return _decoded(model, params, line(first, second, frames))


def line(first: Float[Array, "n p"], second: Float[Array, "n p"], frames: int) -> Array:
    """λa + (1 − λ)b (frames, n, p), λ from 1 to 0."""
    weights = jnp.linspace(1.0, 0.0, frames)[:, None, None]
    return weights * first[None] + (1 - weights) * second[None]


def interpolation(
    model: VAE, params: Any, pairs: tuple[Array, Array], frames: int
) -> dict[str, Array]:
    """How near decoded interpolations are to straight lines, over pairs of images.

    Returns:
        ``frame_error`` (frames,): the squared distance to λx₁ + (1 − λ)x₂, the pixels'
        interpolation, mean over pairs and pixels. ``bend`` (): the squared distance to
        λD(μ₁) + (1 − λ)D(μ₂), the line between the decoded ends D, mean over frames, divided by
        the squared distance between the ends. It is 0 for an affine autoencoder, whatever its
        reconstructions are.
    """

    def sums(batch: tuple[Array, Array]) -> dict[str, Array]:
        decoded = interpolate(model, params, batch, frames)
        chord = line(decoded[0], decoded[-1], frames)
        return {
            "frames": ((decoded - line(*batch, frames)) ** 2).sum((1, 2)),
            "off": ((decoded - chord) ** 2).sum() / frames,
            "ends": ((decoded[0] - decoded[-1]) ** 2).sum(),
        }

    total = accumulate(sums, pairs, batch_size=PAIRS)
    return {"frame_error": total["frames"] / pairs[0].size, "bend": total["off"] / total["ends"]}


def _test_sums(model: VAE, params: Any, hyper: Any) -> Callable[[tuple[Array, Array]], Any]:
    def sums(batch: tuple[Array, Array]) -> dict[str, Any]:
        x, noise = batch
        outputs: Any = model.apply(params, x, noise)
        losses = vae_loss(outputs, x, hyper["beta"])
        return {
            "moments": moments(outputs.mean, x),
            "loss": len(x) * losses.total,
            "reconstruction": len(x) * losses.reconstruction,
            "kl": len(x) * losses.kl,
            "squares": ((_decoded(model, params, outputs.mean) - x) ** 2).sum(),
        }

    return sums


def _pictures(model: VAE, params: Any, row: Array, shown: Array, frames: int) -> dict[str, Array]:
    """The decoded line between the images of ``row``, and those of ``shown``, in one pass."""
    mean = _mean(model, params, jnp.concatenate([row, shown]))
    between = line(mean[:1], mean[1:2], frames)[:, 0]
    decoded = _decoded(model, params, jnp.concatenate([between, mean[2:]]))
    return {"decoded_row": decoded[:frames], "decoded": decoded[frames:]}


def _mean(model: VAE, params: Any, x: Array) -> Array:
    mean, _ = model.apply(params, x, method="encode")
    return mean


def _decoded(model: VAE, params: Any, code: Array) -> Array:
    logits: Any = model.apply(params, code, method="decode")
    return jax.nn.sigmoid(logits)


@in_float64
def _active(m: Moments) -> Array:
    return (jnp.diag(m.feature_scatter) > ACTIVE * m.count).sum().astype(jnp.float32)
