"""The claims on neural collapse count from the beginning of the terminal phase."""

import dataclasses

import numpy as np
import pytest

from experiments.neural_collapse import DIMENSIONS, PRESETS, coordinates
from experiments.neural_collapse.claims import check
from experiments.shared.results import Result, label

ACCURACY = [0.1, 0.9, 1, 1, 1]  # the terminal phase begins at the third measurement
CLAIMS = {"nc1": 1, "etf_distance": 2, "nc3": 3}


def result(**courses):
    """Two seeds, one loss and two layers that collapse as these courses (5,) say, or at once."""
    config = dataclasses.replace(PRESETS["smoke"], losses=("squared_error",), seeds=2)
    arrays = {"epochs": range(5), "train_accuracy": np.tile(ACCURACY, (1, 2, 1))}
    for name in ("nc1", "etf_distance", "nc3", "train_nc4", "target_linearity", "link_error"):
        course = np.tile(courses.get(name, np.zeros(5)), (1, 2, 1))
        by_layer = name not in ("nc3", "train_nc4")
        arrays[name] = np.stack([2 * course, course], -1) if by_layer else course
    return Result(config, label(arrays, DIMENSIONS, coordinates(config)), {})


@pytest.mark.parametrize("name", CLAIMS)
def test_what_was_before_the_terminal_phase_does_not_count(name):
    early = check(result(**{name: np.array([9.0, 1, 2, 3, 4])}))[CLAIMS[name]]
    assert early.holds is False, "falls from the start to the end, rises in the terminal phase"
    late = check(result(**{name: np.array([1.0, 9, 8, 7, 6])}))[CLAIMS[name]]
    assert late.holds is True, "rises from the start to the end, falls in the terminal phase"
    assert "8 ± 0 → 6 ± 0" in late.evidence


def test_target_linearity_follows_in_the_terminal_phase_only():
    nc1 = np.array([1.0, 2, 5, 4, 3])
    follows = check(result(nc1=nc1, target_linearity=1 - np.array([5.0, 4, 3, 2, 1]) / 10))[5]
    assert follows.holds is True and "1.000 ± 0.000" in follows.evidence
    against = check(result(nc1=nc1, target_linearity=1 - np.array([1.0, 2, 3, 4, 5]) / 10))[5]
    assert against.holds is False and "-1.000 ± 0.000" in against.evidence
