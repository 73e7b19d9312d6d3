"""The random projection of features that are too wide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compilations

from gramlin_jax._moments.projection import projected, random_projection, random_signs


@pytest.mark.parametrize(("width", "limit"), [(40, 20), (40, 16), (40, 39)])
def test_squared_lengths_are_kept_in_the_mean(width, limit):
    h = np.random.default_rng(0).normal(size=(4000, width)).astype(np.float32)
    found = np.asarray(
        projected(jnp.asarray(h), random_projection(jax.random.key(0), width, limit))
    )
    assert found.shape == (4000, limit)
    np.testing.assert_allclose((found**2).sum(1).mean(), (h**2).sum(1).mean(), rtol=0.03)


def test_signs_do_not_depend_on_64_bit_types():
    """Those of JAX do: it draws them from uniform numbers of the default type."""
    key = jax.random.key(3)
    made = random_projection(key, 50, 8), random_signs(key, (7, 9), jnp.bfloat16)
    with jax.enable_x64(True):
        again = random_projection(key, 50, 8), random_signs(key, (7, 9), jnp.bfloat16)
    for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.array_equal(made[1], jax.random.rademacher(key, (7, 9), jnp.bfloat16))


def test_bad_input():
    key = jax.random.key(0)
    for limit, message in (
        (0, "at least 1"),
        (5, "fewer columns than width, 5"),
        (2.5, "an integer"),
    ):
        with pytest.raises(ValueError, match=f"limit is {limit}: wanted {message}"):
            random_projection(key, 5, limit)
    projection = random_projection(key, 5, 2)
    for width in (4, 7):  # JAX reads the last column where there is none
        with pytest.raises(
            ValueError, match=rf"features has shape \(3, {width}\): wanted .n, width"
        ):
            projected(jnp.ones((3, width)), projection)
    with pytest.raises(TypeError, match="features has dtype int"):
        projected(jnp.ones((3, 5), int), projection)


def test_a_second_call_outside_of_jit_compiles_nothing():
    for seed in (0, 1):
        projection = random_projection(jax.random.key(seed), 9, 4)
        with compilations() as made:
            projected(jnp.ones((3, 9)) * seed, projection)
    assert not made
