"""Figure 12: target linearity of random labels.

The paper trains a fully connected network (3 hidden layers of 256, GELU) on CIFAR-10 by SGD
(learning rate 0.005, momentum 0.95, batch 64, 200 epochs) after a share p of the training labels, 0
to 1, was replaced by random ones, and follows the target linearity of each layer.

Noise levels, learning rates and seeds are one program. Each sample has one random label and one
rank, and a run replaces the labels whose rank is below its noise level: what is replaced at
p = 0.25 is also replaced at 0.5. Seeds share the random labels; they differ in weights and batches.
The paper's learning rate may not memorise all labels in its epochs, so a second one is run.

Beyond the paper stands held-out target linearity: the fit on the training samples, scored on test
samples of which the same share of labels is replaced. Memorised labels can be linear in the
features of training samples only. Test accuracy is measured on the true labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ..shared.checks import check_different, check_least, check_momentum
from ..shared.results import SCORES


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        dataset: An image set, one of ``gramlin_jax.data.DATASETS``.
        noises: Shares of the labels that are replaced, ascending.
        learning_rates: Learning rates, the paper's first.
        decay: Whether learning rates fall to 0 over the epochs, as half a cosine; the paper's do
            not.
        measurements: Number of epochs at which the layers are measured, evenly spread from 0.
        samples: Training samples to use, 0 for all.
    """

    dataset: str = "digits"
    noises: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    learning_rates: tuple[float, ...] = (0.005, 0.02)
    decay: bool = False
    momentum: float = 0.95
    width: int = 256
    depth: int = 3
    batch_size: int = 64
    epochs: int = 200
    measurements: int = 21
    seeds: int = 3
    samples: int = 0

    def __post_init__(self) -> None:
        least = {"width": 1, "depth": 2, "batch_size": 1, "epochs": 1, "measurements": 2}
        check_least(self, {**least, "seeds": 1, "samples": 0})
        noises = self.noises
        ascending = all(a < b for a, b in zip(noises, noises[1:], strict=False))
        if len(noises) < 2 or not ascending or not all(0 <= noise <= 1 for noise in noises):
            raise ValueError(f"noises is {noises}: wanted two or more in [0, 1], ascending")
        check_different(self, "learning_rates")
        check_momentum(self)


PRESETS = {
    "smoke": Config(
        noises=(0.0, 1.0),
        learning_rates=(0.05,),
        width=16,
        depth=2,
        epochs=4,
        measurements=3,
        seeds=2,
        samples=256,
    ),
    "default": Config(),
    "paper": Config(dataset="cifar10", measurements=41),
}

RUNS = ("learning_rate", "noise", "seed")
"""The dimensions that tell the networks apart."""

DIMENSIONS = {
    **dict.fromkeys(("target_linearity", "heldout"), (*RUNS, "epoch", "layer")),
    **dict.fromkeys(SCORES, (*RUNS, "epoch")),
    "noise_floor": (),
}
"""The arrays of a result and their dimensions."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions."""
    return {
        "learning_rate": config.learning_rates,
        "noise": config.noises,
        "seed": range(config.seeds),
        "layer": range(1, config.depth + 1),
    }
