"""Powers of two that make arrays small, and symmetric products."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax.support.linalg import gram
from gramlin_jax.support.precision import in_float64, magnitude

SIZES = (1.0, 0.75, 3.0, 2.0**20, 1e30, 1e-30, 65504.0, 2**-14 * 1.5)


def power(value):
    """The power of two at or below it."""
    return 2.0 ** (math.frexp(value)[1] - 1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_it_is_the_power_of_two_below(dtype):
    with jax.enable_x64(True):
        values = jnp.array([[size, -size / 3, 0] for size in SIZES], dtype)
        found = magnitude(values, 1)
        assert found.dtype == values.dtype and found.shape == (len(SIZES), 1)
        for row, one in zip(values, found, strict=True):
            assert float(one[0]) == power(float(row[0])) == float(magnitude(row))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [((1e300, 1.0), power(1e300)), ((1e-300,), power(1e-300)), ((0.0,), 1.0), ((np.nan, 2.0), 1.0)],
)
def test_at_the_ends_of_float64(values, wanted):
    with jax.enable_x64(True):
        assert float(magnitude(jnp.array(values))) == wanted


@pytest.mark.parametrize("value", [np.inf, 5e-324, 1.7e308])
def test_its_inverse_is_a_normal_number(value):
    with jax.enable_x64(True):
        found = float(magnitude(jnp.array([value])))
    tiny = np.finfo(float).tiny
    assert found >= tiny and tiny <= 1 / found < np.inf


def test_float64_inside_of_a_program_of_float32():
    """Mapped over runs and compiled, where the flag is not set outside of the function."""

    @in_float64
    def squared(row):
        return magnitude(row.astype(jnp.float64) ** 8)  # beyond float32

    rows = jnp.array([[1e10, 2.0], [3e-8, 1e-9]], jnp.float32)
    found = jax.jit(jax.vmap(squared))(rows)
    assert found.dtype == jnp.float64
    assert np.asarray(found).tolist() == [power(float(row[0]) ** 8) for row in rows]


@pytest.mark.parametrize("d", [3, 200, 389, 1100], ids="{} columns".format)
@pytest.mark.parametrize("stack", [(), (2,)], ids=["one", "stacked"])
def test_a_gram_is_the_product(d, stack):
    """In one block, two of equal size, three that are not, and the four that there are at most."""
    rng = np.random.default_rng(d)
    rows, weights = rng.normal(size=(*stack, 7, d)), rng.uniform(size=(*stack, 7, 1))
    with jax.enable_x64(True):
        found = jax.jit(lambda a: (gram(a), gram(weights * a, a)))(rows)
    wanted = (np.einsum("...ni,...nj->...ij", scale * rows, rows) for scale in (1, weights))
    for product, by_hand in zip(found, wanted, strict=True):
        np.testing.assert_allclose(product, by_hand, rtol=0, atol=1e-14 * 7 * 9)


def test_nan_in_a_column_stays_in_its_row_and_column_of_a_gram():
    rows = np.ones((3, 300), np.float32)
    rows[1, 150] = np.nan
    found = np.isnan(gram(jnp.array(rows)))
    assert found[150].all() and found[:, 150].all() and found.sum() == 599
