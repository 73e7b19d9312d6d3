"""Figures 2 and 6: a network learns with its Grams alone.

The paper trains a fully connected network (2 hidden layers of 256, GELU) on MNIST, SVHN, CIFAR-10
and CIFAR-100 by SGD (learning rates 0.005 to 0.1, momentum 0.85, 0.8 for CIFAR-100, batch 64, 20
epochs, 5 seeds), and again by steps that keep only the change of each kernel's Gram: K₁ → K₂
becomes K₂Qᵀ, with Q the polar factor of K₁ᵀK₂. This kernel has K₂'s Gram, and of all that have it
is the nearest to K₁. Here a third arm takes the other part of the step: K₁Q, which has
K₁'s Gram, so that kernels only rotate their outputs. Biases take the optimiser's step in all arms.

All arms of a seed have the same initial weights and batches, so differences are paired. Inputs lie
in [0, 1]. The rotation is found to rounding; the paper's code iterates ten times, which leaves
small singular directions of square kernels out, so that their Gram is not that of the step.

Figure 6 is the same with a convolutional network: three layers of 16 channels (3×3, ReLU), max-pool
after the first and third, and momentum 0.95. A convolution's kernel (3, 3, in, out) is the matrix
(9·in, out) that its patches meet, and its Gram is that of the patches. Target linearity is that of
the maps, flattened and projected to 256 features where they are more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from ..shared.checks import check_different, check_least, check_momentum
from ..shared.results import SCORES

ARMS = {
    "original": "SGD",
    "gram_only": "Gram-only SGD",
    "gram_preserving": "Gram-preserving SGD",
}
"""The arms, and their names in words."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        dataset: An image set, one of ``gramlin_jax.data.DATASETS``.
        network: ``"dnn"`` with GELU, or ``"cnn"``, max-pooled after its first and third layer.
        width: Units, or channels, of each hidden layer.
        complement: Whether to train the Gram-preserving arm, too.
        measurements: Number of epochs with losses and accuracies, evenly spread from 0.
        projection: Features to which a layer's are projected for its target linearity, where they
            are more.
        samples: Training samples to use, 0 for all.
    """

    dataset: str = "digits"
    network: Literal["dnn", "cnn"] = "dnn"
    width: int = 256
    depth: int = 2
    learning_rates: tuple[float, ...] = (0.005, 0.01, 0.05, 0.1)
    momentum: float = 0.85
    complement: bool = True
    batch_size: int = 64
    epochs: int = 60
    measurements: int = 61
    seeds: int = 5
    projection: int = 256
    samples: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("width", "depth", "batch_size", "epochs", "projection"), 1)
        check_least(self, {**least, "measurements": 2, "seeds": 2, "samples": 0})
        check_momentum(self)
        check_different(self, "learning_rates")

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that are trained."""
        return tuple(ARMS)[: 3 if self.complement else 2]


PRESETS = {
    "smoke": Config(
        width=16, learning_rates=(0.05, 0.1), epochs=3, measurements=3, seeds=2, samples=256
    ),
    "default": Config(),
    "paper": Config(dataset="mnist", epochs=20, measurements=21),
}

RUNS = ("arm", "learning_rate", "seed")
"""The dimensions that tell the networks apart."""

OF_LAYERS = dict.fromkeys(("target_linearity", "heldout", "noise_floor"), "layer")
OF_LAYERS |= {"gram_change": "kernel"}

DIMENSIONS = {
    **dict.fromkeys(SCORES, (*RUNS, "epoch")),
    **{name: (*RUNS, dim) for name, dim in OF_LAYERS.items()},
    **{f"start_{name}": ("seed", dim) for name, dim in OF_LAYERS.items()},
}
"""The arrays of a result and their dimensions."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions."""
    return {
        "arm": config.arms,
        "learning_rate": config.learning_rates,
        "seed": range(config.seeds),
        "layer": range(1, config.depth + 1),
    }
