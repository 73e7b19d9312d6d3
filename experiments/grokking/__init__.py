"""Figure 13: grokking, and what target linearity shows of it.

The paper trains a fully connected network (3 hidden layers of 256, ReLU) on x + y mod 61. Inputs
are pairs of one-hot vectors, and 70 % of the pairs are trained on, in float64 by AdamW (learning
rate 1e-3, β 0.9 and 0.98, batch 32, 500 epochs) with weight decays of 0 to 1. Test accuracy may
rise long after train accuracy.

All weight decays and seeds are one program. The pairs are split once, so that seeds differ in
initial weights and batches only. The paper shows the target linearity of the training pairs; here
the held-out pairs are also scored, with the fit on the training pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from gramlin_jax.data import modular_table

from ..shared.checks import check_least, check_positive
from ..shared.results import SCORES


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        operation: One of ``gramlin_jax.data.MODULAR_OPERATIONS``.
        p: The modulus, a prime where the operation divides.
        train_share: Share of the pairs that are trained on; the others are held out.
        measurements: Number of epochs at which the layers are measured, evenly spread from 0.
    """

    operation: str = "x+y"
    p: int = 43
    train_share: float = 0.7
    width: int = 128
    depth: int = 3
    weight_decays: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    learning_rate: float = 1e-3
    batch_size: int = 32
    epochs: int = 500
    measurements: int = 51
    seeds: int = 3

    def __post_init__(self) -> None:
        least = {"width": 1, "depth": 2, "batch_size": 1, "epochs": 1, "measurements": 2}
        check_least(self, {**least, "seeds": 1})
        check_positive(self, "learning_rate")
        decays = self.weight_decays
        unlike = len(set(decays)) == len(decays) > 0
        if not unlike or not min(decays) >= 0:
            raise ValueError(f"weight_decays is {decays}: wanted different numbers of 0 or more")
        pairs = len(modular_table(self.operation, self.p)[1])
        if not 2 <= self.train_share * pairs <= pairs - 2:
            raise ValueError(
                f"train_share is {self.train_share}: wanted a share in (0, 1) that leaves 2 or "
                f"more of the {pairs} pairs on either side"
            )


PRESETS = {
    "smoke": Config(
        p=7,
        width=8,
        depth=2,
        weight_decays=(0.0, 1.0),
        batch_size=17,
        epochs=4,
        measurements=3,
        seeds=2,
    ),
    "default": Config(),
    "paper": Config(p=61, width=256),
}

RUNS = ("weight_decay", "seed")
"""The dimensions that tell the networks apart."""

DIMENSIONS = {
    **dict.fromkeys(("target_linearity", "heldout"), (*RUNS, "epoch", "layer")),
    **dict.fromkeys(SCORES, (*RUNS, "epoch")),
}
"""The arrays of a result and their dimensions."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions."""
    return {
        "weight_decay": config.weight_decays,
        "seed": range(config.seeds),
        "layer": range(1, config.depth + 1),
    }


def data(config: Config) -> str:
    """The data, as papers name them."""
    return f"mod {config.p}"
