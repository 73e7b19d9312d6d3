import math

import mpmath
import numpy as np
import pytest

from gramlin_jax import separation_law


def test_the_slope_and_its_interval_against_the_formulas():
    """Student's law with n − 2 degrees of freedom, integrated by mpmath."""
    values = np.exp(np.random.default_rng(0).normal(size=6) - 0.5 * np.arange(6))
    law = separation_law(values, level=0.9)
    depth, logs = np.arange(6) - 2.5, np.log(values)
    slope = (depth * logs).sum() / (depth**2).sum()
    residuals = logs - logs.mean() - slope * depth
    error = math.sqrt((residuals**2).sum() / 4 / (depth**2).sum())
    np.testing.assert_allclose(law.slope, slope, rtol=1e-12)
    np.testing.assert_allclose(law.correlation, np.corrcoef(depth, logs)[0, 1], rtol=1e-12)

    def density(t):
        return (1 + t**2 / 4) ** mpmath.mpf(-2.5) * 3 / 8

    with mpmath.workdps(30):
        inside = mpmath.quad(density, [(law.low - slope) / error, 0, (law.high - slope) / error])
    assert abs(inside - 0.9) < 1e-9 and law.low < slope < law.high


def test_an_exact_law():
    law = separation_law([8.0, 4.0, 2.0, 1.0])
    np.testing.assert_allclose([law.slope, law.low, law.high], math.log(0.5), rtol=1e-7)
    assert separation_law([3.0, 3.0, 3.0]) == (0, 0, 0, 0)


def test_what_is_refused():
    for arguments, message in (
        (([1.0, 2.0],), r"nc1 has shape \(2,\): wanted three layers"),
        (([1.0, 0.0, 2.0],), "nc1 is .*: wanted positive numbers"),
        (([1.0, math.nan, 2.0],), "nc1 is .*: wanted positive numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            separation_law(*arguments)
    with pytest.raises(ValueError, match="level is 1.0: wanted a number between 0 and 1"):
        separation_law([1.0, 2.0, 3.0], level=1.0)
    with pytest.raises(ValueError, match="level is '0.9': wanted a number"):
        separation_law([1.0, 2.0, 3.0], level="0.9")
