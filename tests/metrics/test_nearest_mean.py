import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import moments, nc4_mismatch
from gramlin_jax.data import one_hot


@pytest.mark.parametrize("at", [0.0, 100.0])
def test_the_border_is_half_way_between_two_class_means_of_other_sizes(at):
    """Means 0 and 10, of three and two samples: the samples' mean, 4, is not half way."""
    features = at + jnp.array([[-1.0], [0], [1], [9], [11]])
    m = moments(features, jnp.asarray(one_hot(np.array([0, 0, 0, 1, 1]), 2)))
    near = at + jnp.array([[4.9], [5.1]])
    assert float(nc4_mismatch(m, near, jnp.array([0, 1]))) == 0
    assert float(nc4_mismatch(m, near, jnp.array([1, 1]))) == 0.5
    assert float(nc4_mismatch(m, near, jnp.array([1, 0]))) == 1
