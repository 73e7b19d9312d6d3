"""The random projection of features that are too wide."""

import jax
import numpy as np
import pytest

from gramlin_jax import random_projection


@pytest.mark.parametrize("width", [40, 400])
def test_squared_lengths_are_kept_in_expectation(width):
    """‖hP‖²/‖h‖² is χ² with ``limit`` degrees of freedom over their number: 1 ± √(2/limit)."""
    h = np.random.default_rng(0).normal(size=(20, width)).astype(np.float32)
    projected = h @ np.asarray(random_projection(jax.random.key(0), width, 2000))
    np.testing.assert_allclose((projected**2).sum(1) / (h**2).sum(1), 1, atol=6 * 1000**-0.5)
