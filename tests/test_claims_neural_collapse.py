"""The claims on neural collapse count from the beginning of the terminal phase."""

import dataclasses

import numpy as np
import pytest

from experiments.neural_collapse import DIMENSIONS, PRESETS, coordinates
from experiments.neural_collapse.claims import check, table
from experiments.shared.results import Result, label

pytestmark = pytest.mark.runs

ACCURACY = [0.1, 0.9, 1, 1, 1]  # the terminal phase begins at the third measurement
CLAIMS = {"nc1": 1, "etf_distance": 2, "nc3": 3}


def result(**courses):
    """Two seeds, one loss and two layers that collapse as these courses (5,) say, or at once."""
    config = dataclasses.replace(PRESETS["smoke"], losses=("squared_error",), seeds=2)
    courses = {"train_accuracy": ACCURACY, **courses}
    arrays = {"epochs": range(5)}
    for name, dims in DIMENSIONS.items():
        course = np.broadcast_to(courses.get(name, np.zeros(5)), (1, 2, 5))
        arrays[name] = np.stack([2 * course, course], -1) if "layer" in dims else course
    return Result(config, label(arrays, DIMENSIONS, coordinates(config)), {})


@pytest.mark.parametrize("name", CLAIMS)
def test_what_was_before_the_terminal_phase_does_not_count(name):
    early = check(result(**{name: np.array([9.0, 1, 2, 3, 4])}))[CLAIMS[name]]
    assert early.holds is False, "falls from the start to the end, rises in the terminal phase"
    late = check(result(**{name: np.array([1.0, 9, 8, 7, 6])}))[CLAIMS[name]]
    assert late.holds is True, "rises from the start to the end, falls in the terminal phase"
    assert "8 ± 0 → 6 ± 0" in late.evidence


def test_a_terminal_phase_of_one_measurement_has_no_course():
    """Its beginning is its end: that nothing fell there said that the claims fail."""
    last = np.array([[0.1, 0.9, 1, 1, 1], [0, 0, 0.9, 0.9, 1]])  # the second seed, at the end
    falling = dict.fromkeys(CLAIMS, np.array([9.0, 8, 7, 6, 5]))
    claims = check(result(train_accuracy=last, **falling))
    for place in CLAIMS.values():
        assert claims[place].holds is None and "1 of 2 seeds, 1 und" in claims[place].evidence
    assert claims[4].holds is True, "NC4 is measured at the end alone"


def test_target_linearity_follows_in_the_terminal_phase_only():
    nc1 = np.array([1.0, 2, 5, 4, 3])
    follows = check(result(nc1=nc1, target_linearity=1 - np.array([5.0, 4, 3, 2, 1]) / 10))[5]
    assert follows.holds is True and "1.000 ± 0.000" in follows.evidence
    against = check(result(nc1=nc1, target_linearity=1 - np.array([1.0, 2, 3, 4, 5]) / 10))[5]
    assert against.holds is False and "-1.000 ± 0.000" in against.evidence


def test_the_table_shows_where_the_terminal_phase_begins():
    """At its first measurement; where a seed does not come to it, the last one stood for it."""

    def shown(accuracy):
        found = table(result(train_accuracy=accuracy, nc3=np.array([9.0, 8, 7, 6, 5])))
        (row,) = (row for row in found.rows if row[0] == "nc3")
        return [cell.split()[0] for cell in row[1:]]

    assert shown(ACCURACY) == ["9", "7", "5"]
    never = [0.1, 0.5, 0.9, 0.95, 0.99]
    assert shown(never) == shown([ACCURACY, never]) == ["9", "–", "5"]
