"""Figures 5 and 10: how well a VAE interpolates, and how linear its code is in images, by β.

Both figures show the same runs: ``interpolation`` is figure 5, ``linearity`` figure 10.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from gramlin_jax.models.vae import check_beta

from ..shared.checks import check_least, check_positive

SHOWN = 4  # test images whose reconstructions are kept


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the runs.

    Attributes:
        dataset: An image set, one of ``gramlin_jax.data.DATASETS``.
        width: Units of each hidden layer, ``depth`` in the encoder and as many in the decoder.
        latent: Length of the code.
        betas: Weights of the KL divergence, ascending.
        measurements: Number of epochs at which a run is measured, evenly spread from 0.
        pairs: Random pairs of test images between which to interpolate.
        frames: Images of an interpolation, both ends included; odd, so that one is in the middle.
        classes: The pictured row goes from the first test image of one class to that of the other.
        samples: Training samples to use, 0 for all.
    """

    dataset: str = "digits"
    width: int = 256
    depth: int = 2
    latent: int = 16
    betas: tuple[float, ...] = (0.05, 0.1, 1.0, 10.0)
    learning_rate: float = 1e-3
    batch_size: int = 128
    epochs: int = 100
    measurements: int = 21
    seeds: int = 5
    pairs: int = 1000
    frames: int = 9
    classes: tuple[int, int] = (3, 6)
    samples: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("width", "depth", "latent", "batch_size", "epochs", "pairs"), 1)
        check_least(self, {**least, "measurements": 3, "seeds": 2, "frames": 3, "samples": 0})
        check_positive(self, "learning_rate")
        if self.frames % 2 == 0:
            raise ValueError(f"frames is {self.frames}: wanted an odd number, one in the middle")
        if len(set(self.classes)) != 2 or len(self.classes) != 2:
            raise ValueError(f"classes is {self.classes}: wanted two different ones")
        for beta in self.betas:
            check_beta("betas has a value that", beta)
        if len(self.betas) < 2 or list(self.betas) != sorted(set(self.betas)):
            raise ValueError(f"betas is {self.betas}: wanted two or more, ascending")


PRESETS = {
    "smoke": Config(
        width=16,
        depth=1,
        latent=4,
        betas=(0.05, 10.0),
        epochs=4,
        measurements=3,
        seeds=2,
        pairs=20,
        frames=3,
        samples=256,
    ),
    "default": Config(),
    "paper": Config(
        dataset="mnist",
        width=512,
        latent=32,
        learning_rate=1e-4,
        epochs=10,
        measurements=11,
        seeds=3,
    ),
}

RUNS = ("beta", "seed")
"""The dimensions that tell the networks apart."""

DIMENSIONS = {
    **dict.fromkeys(
        ("target_linearity", "heldout", "noise_floor", "surrogate", "surrogate_share")
        + ("loss", "reconstruction", "kl", "reconstruction_error", "active", "bend"),
        (*RUNS, "epoch"),
    ),
    "frame_error": (*RUNS, "epoch", "frame"),
    "decoded_row": (*RUNS, "epoch", "frame", "pixel"),
    "decoded": (*RUNS, "epoch", "image", "pixel"),
    "row": ("end", "pixel"),
    "shown": ("image", "pixel"),
    "image_shape": ("axis",),
}
"""The arrays of a result and their dimensions."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions."""
    return {
        "beta": config.betas,
        "seed": range(config.seeds),
        "frame": range(config.frames),
    }
