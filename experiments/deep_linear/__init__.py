"""Learning in deep linear networks: steps on data, on covariances alone, and the exact curves.

Saxe, McClelland and Ganguli (2014) solve gradient flow in deep linear networks with whitened
inputs: each mode of the input-output covariance grows by itself, by a known curve. A notebook after
their paper trains a 100-32-10 network on the first 50 000 images of MNIST, whose 100 principal
components are scaled to unit variance, towards one-hot labels. The initial weights of each unit are
random of norm 1. It descends the *sum* of squares with learning rate 1e-6, and reports the mean
of squares and the train accuracy. A second part trains from covariances, and the notebook ends
before the curves that it is named after.

Here its first part has a hand-written backward pass beside automatic differentiation. Covariance
steps change all layers at once and equal the steps on the data to rounding, at any depth. The
notebook's own version changes one layer after another, so it is another algorithm; it also divides
by n and drops the factor 2 of the squares, so its learning rate is 2n times as large. Then come the
strengths of the modes beside their curves (two layers, balanced and not, and deeper networks), the
times to half strength, and the time to learn against depth for orthogonal and Gaussian
initialisation. All is in float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ..shared.checks import check_different, check_least, check_positive

CASES = {
    "two layers": 2,
    "two layers, unbalanced": 2,
    "three layers": 3,
    "five layers": 5,
}
"""Networks whose modes are followed, and their numbers of layers."""

INITS = ("orthogonal", "Gaussian")
"""Initialisations of the networks of which the time to learn is measured."""

LEARNT = 0.05
"""Learnt is what has this share of its initial excess loss, or less."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        dataset: An image set, one of ``gramlin_jax.data.DATASETS``.
        samples: Training samples, the first ones; 0 for all.
        columns: Principal components of the images that are the inputs.
        hidden: Width of the hidden layers; of modes at least ten.
        learning_rate: Of the notebook's step, on the sum of squares.
        steps: Steps of that training.
        depths: Numbers of layers at which data and covariance training are compared.
        flow_rate: Learning rate of the networks whose modes are followed, on half the mean of
            squares; half of it is used, too.
        start: Strength of each mode at the beginning.
        starts: Such strengths for the law of the half-times.
        points: Times at which modes are read.
        scaling: Numbers of layers for the time to learn.
        rates: Learning rates of which the best counts there, as many on a logarithmic scale.
        patience: Steps after which a network counts as not learning.
    """

    dataset: str = "digits"
    samples: int = 0
    columns: int = 40
    hidden: int = 32
    learning_rate: float = 3.5e-5
    steps: int = 100
    depths: tuple[int, ...] = (2, 3, 5)
    flow_rate: float = 0.05
    start: float = 1e-3
    starts: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    points: int = 300
    scaling: tuple[int, ...] = (2, 4, 8, 16, 32)
    rates: int = 10
    patience: int = 1000
    seeds: int = 5

    def __post_init__(self) -> None:
        least = dict.fromkeys(("steps", "points", "patience", "seeds", "hidden"), 1)
        check_least(self, {**least, "samples": 0, "columns": 10, "hidden": 10, "rates": 2})
        check_positive(self, "learning_rate", "flow_rate", "start")
        for name in ("depths", "starts", "scaling"):
            check_different(self, name)
        for name in ("depths", "scaling"):
            if min(getattr(self, name)) < 2:
                raise ValueError(f"{name} is {getattr(self, name)}: wanted two layers or more")


PRESETS = {
    "smoke": Config(
        samples=200,
        columns=12,
        hidden=10,
        learning_rate=2.5e-4,
        steps=12,
        depths=(2, 3),
        flow_rate=0.2,
        starts=(1e-2, 1e-3),
        points=40,
        scaling=(2, 4),
        rates=3,
        patience=200,
        seeds=2,
    ),
    "default": Config(),
    "paper": Config(dataset="mnist", samples=50_000, columns=100, learning_rate=1e-6),
}

RUNS = ("seed",)
"""The dimensions that tell the networks apart."""

DIMENSIONS = {
    **dict.fromkeys(
        ("loss", "accuracy", "covariance_loss", "sequential_loss", "sequential_accuracy"),
        ("seed", "step"),
    ),
    "gradient_error": ("seed",),
    "training_error": ("depth", "seed"),
    "singular_values": ("mode",),
    "times": ("case", "point"),
    **dict.fromkeys(("strength", "exact"), ("case", "point", "mode")),
    "mode_error": ("case", "halved"),
    "random_times": ("point",),
    **dict.fromkeys(("random_strength", "random_exact"), ("seed", "point", "mode")),
    **dict.fromkeys(("half_time", "half_time_law"), ("start", "mode")),
    **dict.fromkeys(("learning_steps", "best_rate"), ("init", "layers", "seed")),
}
"""The arrays of a result and their dimensions."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions."""
    return {
        "seed": range(config.seeds),
        "depth": config.depths,
        "case": list(CASES),
        "halved": (0, 1),
        "start": config.starts,
        "init": INITS,
        "layers": config.scaling,
    }


def published_setting(config: Config) -> bool:
    """Whether the first part is the notebook's; the number of seeds is free."""
    paper = PRESETS["paper"]
    names = ("dataset", "samples", "columns", "hidden", "learning_rate", "steps")
    return all(getattr(config, name) == getattr(paper, name) for name in names)
