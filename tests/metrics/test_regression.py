import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compilations

from gramlin_jax import moments, target_linearity
from gramlin_jax.metrics import least_squares
from gramlin_jax.support.precision import in_float64


def draw(n=60, d=5, k=2, seed=0):
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(n, d)) + 1
    return h, h @ rng.normal(size=(d, k)) + rng.normal(size=(n, k))


def solved(m, **options):
    return jax.tree.map(np.asarray, least_squares(m, **options))


def centred(*arrays):
    return (a - a.mean(0) for a in arrays)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "d"), [(60, 5), (20, 50)])
def test_is_ordinary_least_squares(n, d, intercept):
    h, y = draw(n, d)
    fit = solved(moments(h, y), intercept=intercept)
    h, y = centred(h, y) if intercept else (h, y)
    expected, _, rank, _ = np.linalg.lstsq(h, y, rcond=1e-9)
    np.testing.assert_allclose(h @ fit.coefficients, h @ expected, atol=1e-9)
    explained = (y**2).sum() - ((y - h @ expected) ** 2).sum()
    np.testing.assert_allclose(fit.explained, explained, rtol=1e-10)
    assert float(fit.rank) == rank == np.count_nonzero(fit.shrinkage)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "d"), [(60, 5), (5, 60), (10, 10)])
def test_a_ridge_is_the_plain_solution(n, d, intercept):
    """Columns of other scales, a duplicate and a dead one: none is scaled or left out."""
    h, y = draw(n, d)
    h = h * np.logspace(-1, 1, d)
    h[:, -1], h[:, -2] = h[:, 0], 0
    ridge = 0.3
    fit = solved(moments(h, y), intercept=intercept, ridge=ridge)
    h, y = centred(h, y) if intercept else (h, y)
    expected = np.linalg.solve(h.T @ h + ridge * np.eye(d), h.T @ y)
    np.testing.assert_allclose(fit.coefficients, expected, rtol=1e-9, atol=1e-12)
    hat = h @ np.linalg.solve(h.T @ h + ridge * np.eye(d), h.T)
    np.testing.assert_allclose(fit.rank, np.trace(hat), rtol=1e-10)
    np.testing.assert_allclose((fit.shrinkage**2).sum(), np.trace(hat @ hat), rtol=1e-10)
    residual = ((y - h @ expected) ** 2).sum() + ridge * (expected**2).sum()
    np.testing.assert_allclose(fit.explained, (y**2).sum() - residual, rtol=1e-10)


def test_the_rank_of_a_small_matrix_survives_its_rounding():
    """A column that is the sum of two adds no direction, however the three round."""
    ranks = []
    for seed in range(200):
        h = np.random.default_rng(seed).normal(size=(500, 2))
        ranks.append(float(least_squares(moments(np.c_[h, h.sum(1)])).rank))
    assert set(ranks) == {2.0}


ORTHOGONAL = np.tile([[1.0, 1], [-1, 1], [1, -1], [-1, -1]], (100, 1))


@pytest.mark.parametrize(("share", "rank"), [(1e-12, 2), (1e-16, 1)])
def test_a_direction_is_absent_below_the_tolerance_alone(share, rank):
    """Columns (a, a + √share·b), scaled, have eigenvalues near 1 and share/4 of it."""
    h = ORTHOGONAL @ [[1, 1], [0, 2 * share**0.5]]
    m = moments(h, ORTHOGONAL[:, 1:])
    assert float(least_squares(m).rank) == rank
    assert float(least_squares(m, rtol=1e-11).rank) == 1


def test_the_tolerance_is_of_scaled_columns_and_of_the_largest_eigenvalue():
    """Units do not matter. Of eight nearly equal columns the eigenvalues are 8 and share·7/8."""
    assert float(least_squares(moments(ORTHOGONAL * [1, 1e-9], ORTHOGONAL[:, 1:])).rank) == 2
    a, b = ORTHOGONAL.T
    for share, rank in ((4e-14, 1), (4e-13, 2)):  # the tolerance is 8 · 64 · 2⁻⁵² = 1.1e-13
        h = np.stack([a] * 7 + [a + share**0.5 * b], 1)
        assert float(least_squares(moments(h, b[:, None])).rank) == rank


def test_nan_in_a_target_leaves_no_number():
    y = np.where(np.arange(400)[:, None] == 3, np.nan, ORTHOGONAL)
    fit = least_squares(jax.jit(moments)(np.float32(ORTHOGONAL), np.float32(y)))
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(fit))


def test_a_ridge_keeps_directions_of_any_size():
    h = ORTHOGONAL * [1, 1e-8]
    fit = solved(moments(h, ORTHOGONAL[:, 1:]), intercept=False, ridge=400e-16)
    np.testing.assert_allclose(fit.shrinkage, [0.5, 1], rtol=1e-7)
    np.testing.assert_allclose(fit.coefficients[1], 0.5e8, rtol=1e-7)


def test_a_column_is_constant_only_where_rounding_hides_its_variance():
    """A deviation of 32 steps of float64 is data; one of 8 is rounding."""
    wave = np.tile([1.0, -1.0], 500)[:, None]
    for steps, rank in ((32, 1), (8, 0)):
        m = moments(1 + steps * 2.0**-52 * wave, wave)
        assert float(least_squares(m).rank) == rank
        explained = float(least_squares(m).explained)
        np.testing.assert_allclose(explained, 1000 * rank, rtol=1e-12)


def test_a_clock_is_not_constant():
    """Seconds since 1970 with a millisecond's change: 4000 steps of float64."""
    clock = 1.7e9 + 1e-3 * np.random.default_rng(0).random((5000, 1))
    exact = np.longdouble(clock)
    exact = exact - exact.mean(0)
    noise = np.random.default_rng(1).normal(size=(5000, 1))
    y = np.float64(exact / exact.std() + noise)
    share = (exact * y).sum() ** 2 / (exact**2).sum() / ((y - y.mean()) ** 2).sum()
    for h, target in ((clock, y), (y, clock)):
        np.testing.assert_allclose(
            target_linearity(moments(h, target)), np.float64(share), rtol=1e-5
        )
    assert float(target_linearity(moments(clock, clock))) == pytest.approx(1)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e8 / 3, 1.7e9 + 0.1])
@pytest.mark.parametrize("n", [3, 4096, 10_001])
def test_a_constant_column_has_no_scatter(value, n):
    """Whatever the number of samples, the weights, and the way in which batches merge."""
    h = np.full((n, 1), value)
    weights = np.random.default_rng(0).random(n)
    with jax.enable_x64(True):
        parts = [moments(h, weights=weights), moments(h[: n // 2]), moments(h)]
        stacked = jax.tree.map(lambda *a: jnp.stack(a), *parts)
        for m in (
            *parts,
            sum(parts),
            stacked.sum(),
            jax.vmap(lambda m: m.psum("i"), axis_name="i")(stacked),
        ):
            assert (np.asarray(m.feature_mean) == value).all()
            assert float(jnp.max(m.feature_scatter)) <= 1e-40 * value**2


@pytest.mark.long
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_derivatives(ridge):
    h, y = draw(30)

    @in_float64
    def f(h):
        fit = least_squares(moments(h, y), ridge=ridge)
        return fit.explained + (fit.coefficients**2).sum()

    with jax.enable_x64(True):
        gradient = np.asarray(jax.grad(f)(jnp.asarray(h)))
    step = np.zeros_like(h)
    step[3, 2] = 1e-5
    slope = (float(f(h + step)) - float(f(h - step))) / 2e-5
    np.testing.assert_allclose(gradient[3, 2], slope, rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_transformations(ridge):
    h, y = (np.stack(a).astype(np.float32) for a in zip(draw(seed=0), draw(seed=1), strict=True))

    def f(h, y):
        return least_squares(moments(h, y), ridge=ridge)

    one = f(h[1], y[1])
    for g in (jax.vmap(f), jax.jit(jax.vmap(f)), jax.vmap(jax.jit(f))):
        for found, expected in zip(g(h, y), one, strict=True):
            assert found.dtype == np.float64
            np.testing.assert_allclose(found[1], expected, rtol=1e-11)


def test_bad_input():
    m = moments(*draw())
    with pytest.raises(ValueError, match="ridge is -1: wanted at least 0"):
        least_squares(m, ridge=-1)
    with pytest.raises(ValueError, match=r"rtol has shape \(2,\): wanted a number"):
        least_squares(m, rtol=np.array([0.1, 0.2]))
    plain, scalar = least_squares(m, ridge=2.0), least_squares(m, ridge=jnp.float32(2))
    np.testing.assert_array_equal(plain.coefficients, scalar.coefficients)
    with pytest.raises(TypeError, match="m is a tuple: wanted Moments"):
        least_squares(draw())
    broken = dataclasses.replace(m, cross_scatter=jnp.full_like(m.cross_scatter, np.nan))
    assert all(np.isnan(part).all() for part in least_squares(broken))


def test_another_ridge_compiles_nothing_and_may_be_mapped():
    h, y = draw()
    m, ridges = moments(h, y), np.array([0.0, 0.3, 20.0])
    least_squares(m, ridge=1.0)
    with compilations() as made:
        each = [solved(m, ridge=ridge).coefficients for ridge in ridges.tolist()]
    assert not made
    h, y = centred(h, y)
    wanted = [np.linalg.solve(h.T @ h + ridge * np.eye(5), h.T @ y) for ridge in ridges]
    np.testing.assert_allclose(each, wanted, rtol=1e-10)
    mapped = jax.vmap(lambda ridge: least_squares(m, ridge=ridge).coefficients)(ridges)
    np.testing.assert_allclose(mapped, wanted, rtol=1e-10)
