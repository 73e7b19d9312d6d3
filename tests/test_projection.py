"""The random projection of features that are too wide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax._moments.projection import projected, random_projection


@pytest.mark.parametrize(("width", "limit"), [(40, 20), (40, 16), (40, 39)])
def test_squared_lengths_are_kept_in_the_mean(width, limit):
    h = np.random.default_rng(0).normal(size=(4000, width)).astype(np.float32)
    found = np.asarray(
        projected(jnp.asarray(h), random_projection(jax.random.key(0), width, limit))
    )
    assert found.shape == (4000, limit)
    np.testing.assert_allclose((found**2).sum(1).mean(), (h**2).sum(1).mean(), rtol=0.03)
