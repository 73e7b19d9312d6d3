"""Figures 4 and 9: target linearity and its surrogate, layer by layer, as a network trains.

The paper trains a fully connected network (4 hidden layers of 256, GELU) on CIFAR-10 and
CIFAR-100 by SGD (learning rate 5e-4, momentum 0.8, batch 64, 100 epochs). Inputs lie in [0, 1];
the paper names no further normalisation and none is done here. Target linearity is measured on the
training samples and fitted with an intercept in float64. The paper's code inverts a float32 Gram
that is singular to rounding at some epochs, fits without intercept, and clips its plot at 0, so its
curves, of the last layer above all, start lower than these do.

Figure 9 is the same with Adam. The paper does not give Adam's learning rate; 1e-4 is used here at
its sizes, Optax's defaults otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from ..shared.checks import check_least, check_momentum, check_positive
from ..shared.results import SCORES


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        dataset: An image set, one of ``gramlin_jax.data.DATASETS``.
        optimizer: ``"sgd"`` with ``momentum``, or ``"adam"``.
        measurements: Number of epochs at which the layers are measured, evenly spread from 0.
        samples: Training samples to use, 0 for all.
    """

    dataset: str = "digits"
    width: int = 256
    depth: int = 4
    activation: Literal["gelu", "relu"] = "gelu"
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.8
    batch_size: int = 64
    epochs: int = 200
    measurements: int = 41
    seeds: int = 5
    samples: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("width", "batch_size", "epochs", "seeds"), 1)
        check_least(self, {**least, "depth": 2, "measurements": 2, "samples": 0})
        check_positive(self, "learning_rate")
        check_momentum(self)


PRESETS = {
    "smoke": Config(width=16, epochs=4, measurements=3, seeds=2, samples=256),
    "default": Config(),
    "paper": Config(dataset="cifar10", learning_rate=5e-4, epochs=100, measurements=101, seeds=3),
}

RUNS = ("seed",)
"""The dimensions that tell the networks apart."""

DIMENSIONS = {
    **dict.fromkeys(
        ("target_linearity", "adjusted", "heldout", "noise_floor", "surrogate"),
        (*RUNS, "epoch", "layer"),
    ),
    **dict.fromkeys(SCORES, (*RUNS, "epoch")),
}
"""The arrays of a result and their dimensions."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions."""
    return {"seed": range(config.seeds), "layer": range(1, config.depth + 1)}
