"""Units change nothing: metrics of features in units of 2⁴⁶⁰ or 2⁻⁴⁶⁰ are those in units of 1."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import (
    GradientMoments,
    Projection,
    cka,
    fact,
    heldout_target_linearity,
    moments,
    neural_collapse,
    projected,
    regression_collapse,
    representation_alignments,
    stationarity_identities,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
    virtual_update,
)

RNG = np.random.default_rng(0)
LABELS = np.arange(24) % 3
H = RNG.normal(size=(24, 5)) + RNG.normal(size=(3, 5))[LABELS]
Y = np.eye(3)[LABELS]
KERNEL, ROOT = RNG.normal(size=(5, 3)), RNG.normal(size=(3, 3))
BIAS = RNG.normal(size=3)
each_unit = pytest.mark.parametrize("power", [460, -460])


def in_float64(*arrays):
    with jax.enable_x64(True):
        return [jnp.asarray(a, jnp.float64) for a in arrays]


@each_unit
def test_neural_collapse(power):
    """Squares of squared distances would leave float64."""
    unit = 2.0**power
    expected = neural_collapse(moments(H, Y), *in_float64(KERNEL, BIAS))
    for of_kernel in (1.0, 2.0**-power):
        arrays = in_float64(KERNEL * of_kernel, BIAS * of_kernel * unit)
        found = neural_collapse(moments(H * unit, Y), *arrays)
        chex.assert_trees_all_close(found, expected, rtol=1e-13)


@each_unit
def test_regression_collapse(power):
    unit = 2.0**power
    covariance = ROOT @ ROOT.T
    expected = regression_collapse(moments(H), *in_float64(KERNEL, covariance))
    found = regression_collapse(moments(H * unit), *in_float64(KERNEL * unit, covariance * unit))
    chex.assert_trees_all_close(found._replace(gamma=found.gamma / unit), expected, rtol=1e-13)


@each_unit
def test_surrogate(power):
    """For each unit of the features alone, and for one of its own for every column."""
    expected = surrogate(moments(H, Y), in_float64(KERNEL)[0], normalized=True)
    plain = surrogate(moments(H, Y), in_float64(KERNEL)[0])
    units = 2.0 ** (power * np.array([1, -1, 0.5, 0, 1]))
    (kernel,) = in_float64(KERNEL / units[:, None])
    m = moments(H * units, Y * 2.0**power)
    np.testing.assert_allclose(surrogate(m, kernel, normalized=True), expected, rtol=1e-13)
    np.testing.assert_allclose(surrogate(moments(H * units, Y), kernel), plain, rtol=1e-13)
    (small,) = in_float64(KERNEL * 2.0**power)
    same = surrogate(moments(H, Y), small, normalized=True)
    np.testing.assert_allclose(same, expected, rtol=1e-13)


@each_unit
def test_similarity(power):
    """Debiased, fourth powers of the features leave float64: NaN, not another number."""
    expected = cka(moments(H, Y, pair=True))
    m = moments(H * 2.0**power, Y * 2.0**-power, pair=True)
    np.testing.assert_allclose(cka(m), expected, rtol=1e-13)
    assert np.isnan(cka(m, debiased=True))
    m = moments(H * 2.0 ** (power // 2), Y, pair=True)
    np.testing.assert_allclose(
        cka(m, debiased=True), cka(moments(H, Y, pair=True), debiased=True), rtol=1e-11
    )


@each_unit
def test_what_holds_at_convergence(power):
    """λ takes up the unit of the gradient over that of the kernel."""

    def found(of_kernel, of_gradient):
        delta = (H @ KERNEL) * of_gradient
        gradients = GradientMoments(*in_float64(24, 24 * H.T @ delta, 24**2 * delta.T @ delta))
        (kernel,) = in_float64(KERNEL * of_kernel)
        decay = of_gradient / of_kernel
        return (
            fact(kernel, gradients, decay).cosine,
            stationarity_identities(kernel, gradients, decay),
            representation_alignments(moments(H), kernel, gradients),
        )

    expected = found(1.0, 1.0)
    assert abs(expected[0] + 1) > 1e-3 and expected[1].input_residual > 1e-3
    for units in ((2.0**power, 1.0), (1.0, 2.0**power), (2.0**power, 2.0 ** (power // 2))):
        chex.assert_trees_all_close(found(*units), expected, rtol=1e-12)


@pytest.mark.parametrize("weight", [1.0, 0.0002921534, 1.47291929e26])
@pytest.mark.parametrize("value", [0.1, -3.44799147e57, 6.87889471e-131])
def test_nothing_is_left_of_a_constant_column(weight, value):
    """Nor does it add to the scatter of classes, beside columns of another unit."""
    columns = np.concatenate([np.full((24, 1), value), H], axis=1)
    weights = np.full(24, weight)
    weights[::5] = 0
    columns[::5, 0] = 7.0  # of no weight
    m = moments(columns, Y, weights=weights)
    rest = moments(H, Y, weights=weights)
    assert float(m.feature_mean[0]) == value
    assert not np.asarray(m.feature_scatter[0]).any()
    assert not np.asarray(m.cross_scatter[0]).any()
    np.testing.assert_allclose(m.class_scatter, rest.class_scatter, rtol=1e-13)


def test_nan_beside_a_constant_column_is_passed_on():
    columns = np.stack([np.full(24, 0.1), H[:, 0]], axis=1)
    columns[3, 1] = np.nan
    m = jax.jit(moments)(columns.astype(np.float32), np.ones((24, 1), np.float32))
    assert np.isnan(np.asarray(m.feature_scatter)).tolist() == [[False, True], [True, True]]
    assert np.isnan(np.asarray(m.cross_scatter)).tolist() == [[False], [True]]
    assert np.isnan(m.class_scatter).all()


def test_float64_arrays_are_not_cut_without_the_flag():
    x, g = in_float64([[1.0 + 1e-12, 2.0]], [[3e-12, 1.0]])
    found = virtual_update(x, g, 0.5)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.asarray(x) - 0.5 * np.asarray(g))
    assert virtual_update(x.astype(jnp.float32), g.astype(jnp.float32), 0.5).dtype == np.float32
    both = projected(x, Projection(jnp.array([[0], [1]]), jnp.array([[1.0], [-1.0]])))
    np.testing.assert_array_equal(both, [[np.asarray(x)[0, 0] - 2.0]])


def test_weights_that_leave_nothing_of_a_square_are_an_error():
    """1e-28·(1e-144)² is no number of float64; 1e-28·(1e-120)² is."""
    weights = np.full(24, 1e-28)
    with pytest.raises(ValueError, match=r"features varies by less than .* in columns \[0, 1"):
        moments(H * 1e-144, Y, weights=weights)
    assert float(moments(H * 1e-120, Y, weights=weights).feature_scatter[0, 0]) > 0


@pytest.mark.parametrize(("unit", "weight"), [(2.0**515, 2.0**-80), (2.0**-515, 2.0**100)])
def test_squares_count_with_their_weights(unit, weight):
    """Squares of the columns leave float64 or lose digits; times their weights they do not."""
    weights, parts = np.full(24, weight), (slice(7), slice(7, 24))
    (scale,) = in_float64((unit * weight**0.5) ** 2)
    expected = moments(H, H[:, :2])
    pieces = [moments(H[part] * unit, H[part, :2] * unit, weights=weights[part]) for part in parts]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *pieces)
    whole = moments(H * unit, H[:, :2] * unit, weights=weights)
    with jax.enable_x64(True):
        for m in (whole, pieces[0] + pieces[1], stacked.sum()):
            for block in ("feature_scatter", "cross_scatter", "target_scatter"):
                np.testing.assert_allclose(
                    getattr(m, block) / scale, getattr(expected, block), rtol=1e-12, atol=1e-13
                )
            assert abs(target_linearity(m) - 1) < 1e-12


def test_a_scatter_out_of_range_is_nan_on_both_sides():
    with jax.enable_x64(True):
        m = jax.jit(moments)(jnp.asarray(H * [1, 1e-160, 1, 1, 1]), jnp.asarray(Y))
    expected = (np.arange(5) == 1)[:, None] | (np.arange(5) == 1)
    np.testing.assert_array_equal(np.isnan(m.feature_scatter), expected)


def test_a_light_part_far_away_leaves_no_rounding_in_the_mean():
    """The mean is 1e-5, that of the light part 1: half a step of 1 would be 1e-16."""
    weights = np.array([1.6e-2, 8e-3, 53.0, 242.0])
    rows = np.array([0.6, -1.0, 2e-5, 1e-5])[:, None]
    whole = np.longdouble(weights) @ rows.astype(np.longdouble) / weights.sum(dtype=np.longdouble)
    parts = [moments(row[None], weights=w[None]) for row, w in zip(rows, weights, strict=True)]
    for order in (1, -1):
        first, *others = parts[::order]
        mean = np.longdouble(sum(others, start=first).feature_mean)
        assert abs(mean - whole)[0] < 1e-18


def test_rounding_of_a_constant_target_has_no_part():
    """The scatter of a column that is constant but for a few steps of float64 is the larger."""
    far = 7e17 + 128.0 * RNG.integers(-1, 2, 24)
    y = np.stack([H @ RNG.normal(size=5) + RNG.normal(size=24), far], axis=1)
    h = np.column_stack([H, far - 7e17])
    both, alone = moments(h, y), moments(h, y[:, :1])
    test = moments(H[::-1] @ RNG.normal(size=(5, 6)), y)
    (kernel,) = in_float64(RNG.normal(size=(6, 2)))
    for metric in (
        target_linearity,
        target_linearity_adjusted,
        functools.partial(surrogate, kernel=kernel, normalized=True),
    ):
        np.testing.assert_allclose(metric(both), metric(alone), rtol=1e-13)
    found = heldout_target_linearity(both, test)
    expected = heldout_target_linearity(alone, dataclasses.replace(test, **_first_target(test)))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def _first_target(m):
    names = "target_mean", "cross_scatter", "target_scatter", "class_scatter"
    return {name: getattr(m, name)[..., :1] for name in names}


@pytest.mark.parametrize("name", ["features", "targets"])
def test_nan_meets_constant_targets(name):
    """The surrogate of constant targets is 0, but not that of NaN."""
    arrays = {"features": H.copy(), "targets": np.ones((24, 1))}
    with jax.enable_x64(True):
        assert float(surrogate(moments(**arrays), KERNEL)) == 0
        arrays[name][3] = np.nan
        assert np.isnan(surrogate(jax.jit(moments)(**jax.tree.map(jnp.asarray, arrays)), KERNEL))
