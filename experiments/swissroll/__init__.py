"""Figure 1: the virtual update unrolls the swiss roll, with the Gram's contours.

The paper trains a 2-32-32-1 network (exact GELU, no bias in the first layer, PyTorch's
initialisation) on 1000 points of a swiss roll seen along its axis, inputs and angle in [0, 1], by
100 steps of full-batch gradient descent on the mean squared error at learning rate η = 0.05. Frame
t shows X̃ = X − 700 Σ_{s ≤ t} ∇_X L, with the input gradients of steps 0 to t: the virtual update of
these steps, 700/η = 14 000 times magnified, on level lines of the first layer's Gram after t steps.

Where this differs. The paper scales each column of a frame to [0, 1], which turns directions; here
a frame is centred and divided by one number, its root mean square radius, so that the points and
the level lines have true angles. The Gram itself moves by about 1 % and looks the same in all
frames, so a second row shows its change. All is in float64 and over several seeds, of which the
first is drawn. From the paper's own initial weights the run gives the paper's numbers
(``tests/test_fig01.py``).

The second picture shows what the paper states but does not show. At every step and in every layer
it compares the Gram's change with the virtual covariance, ``X̃ᵀX̃ − XᵀX`` at the learning rate
itself: their cosine, and their difference, which for gradient descent is exactly
η²(∇_K L(∇_K L)ᵀ − gᵀg).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ..shared.checks import check_least, check_positive

LAYERS = 3


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        points: Points of the roll.
        width: Units of each of the two hidden layers.
        steps: Steps of full-batch gradient descent.
        scale: The factor of the summed input gradients in X̃.
        last_frame: The last step that is drawn.
        frames: Pictures in the row, evenly spread from step 0 to ``last_frame``.
        seeds: Initialisations; the first is drawn.
    """

    points: int = 1000
    width: int = 32
    learning_rate: float = 0.05
    steps: int = 100
    scale: float = 700.0
    last_frame: int = 50
    frames: int = 6
    seeds: int = 5

    def __post_init__(self) -> None:
        least = {"points": 2, "width": 1, "steps": 2, "last_frame": 1, "frames": 2, "seeds": 1}
        check_least(self, least)
        check_positive(self, "learning_rate", "scale")
        if self.last_frame >= self.steps:
            raise ValueError(
                f"last_frame is {self.last_frame} with {self.steps} steps: wanted less than steps"
            )


PRESETS = {
    "smoke": Config(points=200, width=8, steps=12, last_frame=6, frames=3, seeds=2),
    "default": Config(),
    "paper": Config(),
}

RUNS = ("seed",)
"""The dimensions that tell the networks apart."""

DIMENSIONS = {
    **dict.fromkeys(("loss", "target_linearity"), ("seed", "step")),
    **dict.fromkeys(("cosine", "difference", "residual"), ("seed", "step", "layer")),
    "direction": ("seed", "step", "input"),
    "gram": ("seed", "state", "input", "input_2"),
    "covariance_change": ("seed", "step", "input", "input_2"),
    "input_target_linearity": (),
    "angle": ("point",),
    "virtual_inputs": ("frame", "point", "input"),
}
"""The arrays of a result and their dimensions."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions."""
    return {
        "seed": range(config.seeds),
        "state": range(config.steps + 1),
        "layer": range(1, LAYERS + 1),
    }


def data(config: Config) -> str:
    """The data, as papers name them."""
    return "swiss roll"
