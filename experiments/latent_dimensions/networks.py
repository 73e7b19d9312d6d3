"""The networks of the tutorial, and the images that they see."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax.models.initializers import torch_kernel
from gramlin_jax.rainbow import Layer, hidden_features

from . import Config

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# ImageNet's means and standard deviations by colour, and the weights of grey (ITU-R BT.601).
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY = (0.2989, 0.587, 0.114)


def grey(images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n h w 1"]:
    """Colour images normalised by ImageNet's statistics and then grey; grey ones as they are."""
    if images.shape[-1] != 3:
        return images
    weights = np.divide(GREY, DEVIATION).astype(np.float32)
    return (images @ weights - np.float32(np.dot(weights, MEAN)))[..., None]


def wavelets(size: int) -> Float[np.ndarray, "size size 9"]:
    """A Gaussian, and Morlet wavelets of four orientations, even and odd; each of norm 1."""
    y, x = np.indices((size, size)) - (size - 1) / 2
    envelope = np.exp(-(x**2 + y**2) / (2 * (size / 4) ** 2))
    filters = [envelope]
    for angle in np.arange(4) * np.pi / 4:
        phase = 0.75 * np.pi * (4 / size) * (x * np.cos(angle) + y * np.sin(angle))
        mean = (envelope * np.cos(phase)).sum() / envelope.sum()
        filters += [envelope * (np.cos(phase) - mean), envelope * np.sin(phase)]
    bank = np.stack(filters, -1)
    return (bank / np.linalg.norm(bank, axis=(0, 1))).astype(np.float32)


def blank(config: Config, images: Float[Array, "n h w 1"], classes: int) -> list[Layer]:
    """The layers with kernels of zeros, for images of this shape."""
    layers: list[Layer] = []
    channels = images.shape[-1] if config.network != "mlp" else int(np.prod(images.shape[1:]))
    size, stride = config.size, config.stride
    for width in config.widths:
        if config.network == "mlp":
            layers.append(Layer(jnp.zeros((channels, width))))
        elif config.network == "cnn":
            layers.append(Layer(jnp.zeros((size, size, channels, width)), stride=stride))
        else:
            bank = jnp.asarray(wavelets(size))
            kernel = jnp.zeros((bank.shape[-1] * channels, width))
            layers.append(Layer(kernel, filters=bank, stride=stride))
        channels = width
    last = jax.eval_shape(lambda x: hidden_features(layers, x)[-1], images[:1])
    return [*layers, Layer(jnp.zeros((int(np.prod(last.shape)), classes)))]


def with_kernels(network: Sequence[Layer], kernels: Sequence[Array]) -> list[Layer]:
    """The layers with other kernels."""
    pairs = zip(network, kernels, strict=True)
    return [dataclasses.replace(layer, kernel=kernel) for layer, kernel in pairs]


def initial_kernels(network: Sequence[Layer], key: Array) -> list[Array]:
    """Kernels as PyTorch draws them, uniform in ±1/√fan_in."""
    keys = jax.random.split(key, len(network))
    return [torch_kernel(k, layer.kernel.shape) for k, layer in zip(keys, network, strict=True)]
