"""Figure 8's claim on the published losses, on losses made by hand."""

import numpy as np
import pytest

from experiments import staircase
from experiments.shared.results import Result, label
from experiments.staircase.claims import check
from experiments.staircase.published import PUBLISHED

pytestmark = pytest.mark.runs

QUANTILE = 4.302653  # 97.5 % of Student's t with two degrees of freedom, from a table


def result(losses):
    """A run of the paper's setting with these final losses (widths, 3 seeds)."""
    config = staircase.Config(widths=(32, 128), seeds=3)
    course = np.stack([2 + 0 * losses, losses], -1)  # at the first and the last step
    names = "target_fit", "new_target_fit", "feature_change"
    arrays = dict.fromkeys(names, np.ones(course.shape))
    arrays["target_output"] = np.sqrt(config.points * course)
    return Result(config, label(arrays, staircase.DIMENSIONS, staircase.coordinates(config)), {})


def verdict(*distances):
    """Of the last claim: the published losses are that far from the mean of three seeds.

    In standard deviations of the seeds times the quantile.
    """
    deviation = 0.01  # of (−1, 0, 1) times it, with two degrees of freedom
    losses = [
        PUBLISHED[width] + deviation * (distance * QUANTILE + np.array([-1, 0, 1]))
        for width, distance in zip((32, 128), distances, strict=True)
    ]
    return check(result(np.array(losses)))[-1].holds


@pytest.mark.parametrize("side", [-1, 1])
def test_the_interval_is_that_of_a_further_seed(side):
    """A further seed and the mean of three both vary: the reach is t·s·√(1 + 1/3)."""
    reach = side * (4 / 3) ** 0.5
    assert verdict(0.99 * reach, 0) is True
    assert verdict(1.01 * reach, 0) is False
    assert verdict(0, 1.01 * reach) is False
