import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from counting import compilations
from scipy import integrate, stats

from gramlin_jax import (
    effective_rank,
    marchenko_pastur_density,
    marchenko_pastur_edges,
    participation_ratio,
    power_law_exponent,
    significant_components,
    spectral_entropy,
    spectrum,
    stable_rank,
)
from gramlin_jax.support.precision import in_float64

DIMENSIONS = stable_rank, participation_ratio, effective_rank


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (1, 4)])
def test_a_spectrum_is_of_squared_singular_values(shape):
    kernel = draw(*shape)
    expected = np.linalg.svd(kernel, compute_uv=False) ** 2 / shape[1]
    np.testing.assert_allclose(spectrum(kernel), expected, rtol=1e-12)


def test_a_spectrum_survives_extreme_scales_and_rank_deficiency():
    kernel = draw(6, 2) @ draw(2, 8, seed=1)
    values = spectrum(kernel)
    assert np.count_nonzero(values) == 2
    for power in (300, -300):
        np.testing.assert_array_equal(spectrum(kernel * 2.0**power), values * 2.0 ** (2 * power))
    assert not spectrum(np.zeros((3, 4))).any()
    rounded = np.asarray(kernel, np.float32)
    np.testing.assert_allclose(spectrum(rounded), spectrum(rounded.astype(float)), rtol=1e-12)


def test_dimensions_count_equal_directions():
    for dimension in DIMENSIONS:
        assert float(dimension(np.array([0.0, 3, 0]))) == pytest.approx(1, abs=1e-12)
        equal = np.repeat([1e-200, 0.0], [4, 3])
        assert float(dimension(equal)) == pytest.approx(4, rel=1e-12)
        assert np.isnan(dimension(np.zeros(3)))
        np.testing.assert_allclose(
            dimension(np.stack([equal, equal[::-1] * 1e300])), [4, 4], rtol=1e-12
        )


def test_dimensions_are_in_order():
    """Rényi entropies fall with their order; here from plain sums in long double."""
    values = np.random.default_rng(0).pareto(1.5, (200, 12)).astype(np.longdouble)
    shares = values / values.sum(1, keepdims=True)
    expected = [
        1 / shares.max(1),
        1 / (shares**2).sum(1),
        np.exp(-(shares * np.log(shares)).sum(1)),
    ]
    found = [np.asarray(dimension(values.astype(float))) for dimension in DIMENSIONS]
    np.testing.assert_allclose(found, np.array(expected, float), rtol=1e-12)
    bounds = [np.ones(200), *found, np.full(200, 12)]
    assert all((a <= b + 1e-12).all() for a, b in zip(bounds, bounds[1:], strict=False))


@pytest.mark.parametrize(("n", "d", "variance"), [(400, 100, 1.0), (100, 400, 0.3), (64, 64, 2.0)])
def test_the_density_integrates_to_one_and_the_variance(n, d, variance):
    low, high = marchenko_pastur_edges(n, d, variance)
    at = lambda angle: low + (high - low) * np.sin(angle) ** 2  # noqa: E731
    angles = (np.arange(4000) + 0.5) / 4000 * np.pi / 2
    x = at(angles)
    steps = (high - low) * np.sin(2 * angles) * (np.pi / 2) / 4000
    density = np.asarray(marchenko_pastur_density(x, n, d, variance))
    assert (density * steps).sum() == pytest.approx(min(1, n / d), rel=1e-5)
    assert (density * x * steps).sum() == pytest.approx(variance, rel=1e-5)
    assert not marchenko_pastur_density(
        np.array([-1.0, low * 0.99 - 1e-9, high * 1.01]), n, d, variance
    ).any()


def test_the_density_is_that_of_noise():
    kernel = draw(500, 1000) * 2
    values = np.asarray(spectrum(kernel))
    low, high = marchenko_pastur_edges(1000, 500, 4.0)
    assert values[0] == pytest.approx(high, rel=0.03)
    assert values[-1] == pytest.approx(low, rel=0.05)
    share, _ = integrate.quad(lambda x: float(marchenko_pastur_density(x, 1000, 500, 4.0)), low, 4)
    assert (values < 4).mean() == pytest.approx(share, abs=0.01)


@pytest.fixture(scope="module")
def counts():
    """Numbers of components of a stack of kernels, one compilation a shape."""

    @in_float64
    @functools.partial(jax.jit, static_argnums=1)
    def count(kernels, level):
        return jax.lax.map(lambda kernel: significant_components(kernel, level).number, kernels)

    def of(kernels, level=0.05):
        return np.asarray(count(np.asarray(kernels), level))

    return of


@pytest.mark.parametrize("shape", [(64, 64), (64, 256)])
def test_noise_has_a_component_at_the_nominal_rate(counts, shape):
    """1 000 draws: the exact binomial interval of 99 %."""
    fired = (counts(draw(1000, *shape)) > 0).sum()
    assert stats.binom.ppf(0.005, 1000, 0.05) <= fired <= stats.binom.ppf(0.995, 1000, 0.05)


@pytest.mark.runs
@pytest.mark.parametrize(("shape", "draws"), [((256, 256), 200), ((512, 1024), 60)])
def test_large_noise_has_a_component_at_the_nominal_rate(counts, shape, draws):
    """Few draws, for time: `python -m benchmarks significance` has 1 000 of either shape."""
    parts = (counts(draw(20, *shape, seed=seed)) > 0 for seed in range(draws // 20))
    fired = sum(part.sum() for part in parts)
    assert stats.binom.ppf(0.005, draws, 0.05) <= fired <= stats.binom.ppf(0.995, draws, 0.05)


def test_heavy_tails_are_not_noise(counts):
    entries = np.random.default_rng(0).standard_t(3, (100, 64, 64))
    assert (counts(entries) > 0).mean() > 0.8


def test_components_are_counted_one_and_many(counts):
    """Many equal ones would hide each other if the variance were that of all entries."""
    noise, basis = draw(20, 64, 64, seed=3), np.linalg.qr(draw(64, 64))[0]
    for rank in (1, 5, 30):
        low = 24 * basis[:, :rank] @ basis[:, -rank:].T
        found = counts(noise + low)
        assert (found >= rank).all() and (found == rank).mean() > 0.7
    np.testing.assert_array_equal(counts(1e-20 * noise), counts(noise))


def test_the_variance_is_of_the_bulk():
    noise = 0.3 * draw(80, 120)
    spiked = noise + 50 * np.eye(80, 120) * (np.arange(80) < 10)[:, None]
    found = significant_components(spiked)
    assert int(found.number) == 10
    assert float(found.variance) == pytest.approx(0.09, rel=0.05)
    values = spectrum(spiked)
    assert values[10] < found.threshold < values[9]
    edge = marchenko_pastur_edges(120, 80, found.variance)[1]
    assert float(found.threshold) == pytest.approx(float(edge), rel=0.15)
    turned = significant_components(spiked.T)
    assert int(turned.number) == 10 and float(turned.variance) == pytest.approx(
        float(found.variance)
    )


def test_nothing_has_no_components():
    assert int(significant_components(np.zeros((8, 9))).number) == 0


def slow_power_law(values, fewest):
    """Clauset, Shalizi and Newman, a loop over the cutoffs."""
    best = np.inf, np.nan, np.nan, 0
    for cutoff in values:
        tail = np.sort(values[values >= cutoff])
        if len(tail) < fewest or tail[-1] == cutoff:
            continue
        alpha = 1 + len(tail) / np.log(tail / cutoff).sum()
        distance = stats.kstest(tail, lambda x: 1 - (x / cutoff) ** (1 - alpha)).statistic  # noqa: B023
        best = min(best, (distance, alpha, cutoff, len(tail)))
    return best


def test_a_power_law_is_that_of_a_plain_loop():
    values = np.concatenate(
        [np.random.default_rng(1).pareto(1.5, 60) + 1, np.random.default_rng(2).uniform(0, 1, 40)]
    )
    distance, alpha, cutoff, count = slow_power_law(values, 10)
    for scale in (1, 1e-200):
        found = power_law_exponent(values * scale)
        np.testing.assert_allclose(
            [found.distance, found.exponent, found.cutoff / scale, found.size],
            [distance, alpha, cutoff, count],
            rtol=1e-9,
        )
    padded = power_law_exponent(np.concatenate([np.zeros(7), values]))
    assert float(padded.exponent) == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize("alpha", [2.0, 3.5])
def test_a_power_law_is_recovered(alpha):
    values = (1 - np.random.default_rng(0).uniform(size=800)) ** (-1 / (alpha - 1))
    found = power_law_exponent(values)
    assert float(found.exponent) == pytest.approx(alpha, rel=0.1)
    assert int(found.size) > 200


def test_no_power_law_where_there_is_none():
    few = power_law_exponent(np.arange(1.0, 9))
    assert np.isnan(few.exponent) and np.isnan(few.cutoff) and int(few.size) == 0
    assert np.isnan(power_law_exponent(np.ones(50)).exponent)
    assert np.isnan(power_law_exponent(np.zeros(50)).exponent)
    two_values = power_law_exponent(np.repeat([1.0, 2.0], 100), fewest=150)
    assert np.isnan(two_values.exponent) and float(two_values.distance) > 0.2


def test_no_power_law_has_nan():
    """Only under transformations can there be one; it counted as an eigenvalue of 1."""
    values = np.r_[np.nan, (np.arange(40) + 0.5) ** -0.5]
    found = jax.jit(power_law_exponent)(values)
    assert np.isnan([found.exponent, found.cutoff, found.distance]).all() and int(found.size) == 0


def test_equal_eigenvalues_lie_on_one_side_of_the_cutoff():
    """12 different ones, 5 times each: the plain loop's tails are those of all λ ≥ cutoff."""
    values = np.repeat((1 - (np.arange(12) + 0.5) / 12) ** (-1 / 1.5), 5)
    distance, alpha, cutoff, count = slow_power_law(values, 10)
    found = power_law_exponent(values)
    np.testing.assert_allclose(
        [found.distance, found.exponent, found.cutoff, found.size],
        [distance, alpha, cutoff, count],
        rtol=1e-9,
    )
    few = power_law_exponent(np.repeat(np.unique(values)[3:], 5))  # 9 different ones
    assert np.isnan(few.exponent) and few.distance < 0.2


def test_the_lower_edge_of_a_nearly_square_matrix_keeps_its_digits():
    with mpmath.workdps(40):
        expected = (1 - mpmath.sqrt(mpmath.mpf(10**8 + 1) / 10**8)) ** 2
    low, _ = marchenko_pastur_edges(10**8, 10**8 + 1)
    assert float(low) == pytest.approx(float(expected), rel=1e-12, abs=0)


def test_nan_has_no_density():
    found = marchenko_pastur_density(np.array([np.nan, 1.0, 9.0]), 10, 5)
    assert np.isnan(found).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectral_entropy(1.0), r"eigenvalues has shape \(\)"),
        (lambda: spectrum(np.zeros(3)), r"kernel has shape \(3,\): wanted \(i, o\)"),
        (lambda: spectrum(np.zeros((0, 3))), "kernel has shape .*: wanted no empty axis"),
        (lambda: spectrum(np.full((2, 2), np.nan)), "kernel has 4 values"),
        (lambda: stable_rank(np.array([1.0, -0.1])), "eigenvalues has the negative entry -0.1"),
        (lambda: stable_rank(np.zeros(0)), "eigenvalues has shape"),
        (lambda: marchenko_pastur_edges(0, 1), "n is 0: wanted at least 1"),
        (lambda: marchenko_pastur_edges(2, 1, -1.0), "variance is -1.0: wanted a positive"),
        (lambda: significant_components(np.zeros((7, 9))), r"kernel has shape \(7, 9\)"),
        (lambda: significant_components(np.zeros((9, 9)), 0.7), "level is 0.7"),
        (lambda: significant_components(np.zeros((9, 9)), None), "level is None: wanted a number"),
        (lambda: power_law_exponent(np.ones(9), fewest=2), "fewest is 2: wanted at least 3"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_all_work_under_jit_and_vmap():
    kernels = jnp.asarray(draw(3, 9, 12))
    single = [spectrum(kernel) for kernel in kernels]

    def all_of(kernel):
        values = spectrum(kernel)
        return values, significant_components(kernel), power_law_exponent(values, fewest=3)

    values, components, tails = jax.jit(jax.vmap(all_of))(kernels)
    np.testing.assert_allclose(values, single, rtol=1e-12)
    assert components.number.shape == tails.exponent.shape == (3,)
    assert values.dtype == tails.exponent.dtype == jnp.float64


def test_another_level_compiles_nothing():
    significant_components(draw(9, 8), 0.05)
    with compilations() as made:
        significant_components(draw(9, 8), 0.1)
    assert not made


@pytest.mark.parametrize(("n", "d"), [(100, 30), (20, 90)])
def test_the_density_has_any_scale_and_derivatives(n, d):
    x = np.array([0.1, 0.9, 2.0, 5.0, 9.0])
    density = marchenko_pastur_density(x, n, d)
    for unit in (1e-200, 1e-20, 1e200):
        found = marchenko_pastur_density(x * unit, n, d, unit) * unit
        np.testing.assert_allclose(found, density, rtol=1e-12)
    with jax.enable_x64(True):
        slopes = jax.jacfwd(lambda v: marchenko_pastur_density(x, n, d, v))(1.0)
    step = 1e-6
    ends = [marchenko_pastur_density(x, n, d, 1 + sign * step) for sign in (1, -1)]
    np.testing.assert_allclose(slopes, (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-9)
