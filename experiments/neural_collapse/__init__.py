"""Neural collapse beside target linearity, to the terminal phase of training.

Papyan, Han and Donoho (2020): once all training samples are classified correctly, the last hidden
features collapse to their class means (NC1), the means to a simplex equiangular tight frame (NC2),
the classifier to the means (NC3) and its decision to the nearest mean (NC4). The paper sees target
linearity as what they share. For balanced one-hot targets the link is exact in every layer at every
time: TL = tr(Σ_T⁻¹Σ_B)/(C − 1), where Σ_T and Σ_B are the scatter of features and of class means.

A fully connected network (3 hidden layers of 256, ReLU) is trained by SGD with momentum and with
weight decay, without which nothing drives the collapse. The loss is the squared error to one-hot
labels, as in Han, Papyan and Donoho (2022), or cross-entropy. Every class has the same number of
training samples.

The convolutional network (``network="cnn"``) has 3×3 kernels, max-pools after every other
convolution, and its classifier reads the mean of each channel over positions; so all layers are
measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from ..shared.checks import check_least, check_momentum, check_positive
from ..shared.results import SCORES, later

LINK_RTOL = 1e-10
"""Rank tolerance of both sides of the link: smaller directions have no digits to compare."""

TERMINAL = 0.999
"""The terminal phase begins at the first measured epoch with this train accuracy."""

LOSSES = ("squared_error", "cross_entropy")


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        dataset: An image set, one of ``gramlin_jax.data.DATASETS``.
        network: ``"dnn"``, or ``"cnn"`` with ReLU.
        losses: The losses, each trained on by itself; some of ``LOSSES``.
        width: Units, or channels, of each hidden layer.
        activation: Of ``"dnn"``.
        decay: Whether the learning rate falls to 0 over the epochs, as half a cosine.
        weight_decay: λ of the term ‖params‖² λ/2 in the loss.
        measurements: Number of epochs at which the layers are measured, evenly spread on the scale
            of log(1 + epoch).
        samples: Training samples of each class, 0 for as many as the smallest class has.
    """

    dataset: str = "digits"
    network: Literal["dnn", "cnn"] = later("dnn")
    losses: tuple[str, ...] = ("squared_error", "cross_entropy")
    width: int = 256
    depth: int = 3
    activation: Literal["gelu", "relu"] = "relu"
    learning_rate: float = 0.05
    decay: bool = False
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 64
    epochs: int = 1000
    measurements: int = 41
    seeds: int = 5
    samples: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("width", "batch_size", "epochs", "seeds"), 1)
        check_least(self, {**least, "depth": 2, "measurements": 2, "weight_decay": 0})
        if self.samples != 0 and not self.samples >= 2:
            raise ValueError(
                f"samples is {self.samples}: wanted 2 or more of each class, 0 for all"
            )
        if (self.network, self.activation) == ("cnn", "gelu"):
            raise ValueError('activation is "gelu": wanted "relu", which network "cnn" has')
        check_positive(self, "learning_rate")
        if not self.losses or len({*self.losses} & {*LOSSES}) < len(self.losses):
            raise ValueError(f"losses is {self.losses}: wanted some of {', '.join(LOSSES)}, once")
        check_momentum(self)


PRESETS = {
    "smoke": Config(width=16, depth=2, epochs=3, measurements=3, seeds=2, samples=20),
    "default": Config(),
    "paper": Config(
        dataset="mnist", decay=True, samples=5000, epochs=350, measurements=31, seeds=1
    ),
}

RUNS = ("loss", "seed")
"""The dimensions that tell the networks apart."""

DIMENSIONS = {
    **dict.fromkeys(
        ("nc1", "equinorm", "equiangularity", "etf_distance", "cdnv")
        + ("target_linearity", "link", "link_error"),
        (*RUNS, "epoch", "layer"),
    ),
    **dict.fromkeys(("nc3", "offset", "train_nc4", "test_nc4"), (*RUNS, "epoch")),
    **dict.fromkeys(SCORES, (*RUNS, "epoch")),
}
"""The arrays of a result and their dimensions."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions."""
    return {
        "loss": config.losses,
        "seed": range(config.seeds),
        "layer": range(1, config.depth + 1),
    }
