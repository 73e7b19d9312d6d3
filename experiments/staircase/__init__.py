"""Figure 8: a staircase function learnt by networks from rich to lazy.

The paper trains 10-w-w-1 networks (ReLU, no bias, weights N(0, 1/fan_in), outputs divided by √w) on
1000 points of y = x₁x₂x₃x₄ + x₁x₂x₃ + x₁x₂ + x₁ by full-batch gradient descent (mean squared error,
learning rate 0.01, 2000 steps) at widths w of 32, 128, 512 and 1024. The division by √w is meant to
make wide networks lazy, so that their features hardly move. The paper follows ‖y − ŷ_OLS‖,
‖ŷ_OLS − ŷ‖ and ‖y − ŷ‖, where ŷ are the outputs and ŷ_OLS is the ridge fit (0.01, no intercept) of
y on the last hidden features. Here each seed has its own points, since the loss depends on them
more than on the weights.

Fits are solved in float64 from the moments of the features. Even with the ridge, HᵀH has condition
numbers of 1e7 and more, for which the float32 inverse of the paper's code is inexact. From the
paper's own initial weights the run reproduces the numbers of that code.

The paper does not show that w ≥ n features fit any target, so that ‖y − ŷ_OLS‖ says nothing there.
Three measures put it into proportion: the norm that the fit would leave of pure noise of y's size
(``noise_norm``), the same fit on as many new points, and how far the features have moved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ..shared.checks import check_least, check_positive


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        widths: Widths of the networks, each that of both hidden layers, ascending.
        points: Number of training points, and of new ones.
        dimension: Coordinates of a point; the target reads four of them.
        steps: Steps of full-batch gradient descent.
        ridge: Ridge of the fit on the features.
        measurements: Number of steps at which norms are measured, evenly spread from 0.
    """

    widths: tuple[int, ...] = (32, 128, 512)
    points: int = 1000
    dimension: int = 10
    learning_rate: float = 0.01
    steps: int = 2000
    ridge: float = 0.01
    measurements: int = 41
    seeds: int = 5

    def __post_init__(self) -> None:
        least = {"points": 2, "dimension": 4, "steps": 1, "measurements": 2, "seeds": 1}
        check_least(self, least)
        check_positive(self, "learning_rate", "ridge")
        widths = self.widths
        if len(widths) < 2 or any(a >= b for a, b in zip(widths, widths[1:], strict=False)):
            raise ValueError(f"widths is {widths}: wanted two or more, ascending")
        if widths[0] < 1:
            raise ValueError(f"widths is {widths}: wanted at least 1")


PRESETS = {
    "smoke": Config(widths=(4, 48), points=40, steps=6, measurements=3, seeds=2),
    "default": Config(),
    "paper": Config(widths=(32, 128, 512, 1024)),
}

RUNS = ("width", "seed")
"""The dimensions that tell the networks apart."""

DIMENSIONS = {
    **dict.fromkeys(
        ("target_fit", "fit_output", "target_output", "new_target_fit", "new_target_output")
        + ("noise_norm", "feature_change"),
        (*RUNS, "step"),
    ),
    **dict.fromkeys(("target_norm", "new_target_norm"), ("seed",)),
}
"""The arrays of a result and their dimensions."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions."""
    return {"width": config.widths, "seed": range(config.seeds)}


def data(config: Config) -> str:
    """The data, as papers name them."""
    return f"staircase, widths {config.widths[0]} to {config.widths[-1]}"
