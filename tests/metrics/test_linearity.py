import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import torch_params
from hypothesis import given, settings
from hypothesis import strategies as st

from gramlin_jax import (
    Moments,
    heldout_target_linearity,
    moments,
    noise_floor,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
)

CASES = ["wellcond", "onehot_gelu", "onehot_uncentred", "onecol", "eps1e-3", "shifted"]
CASES += ["image_targets", "rankdef_N64_d100", "dup_columns", "dead_columns"]


def draw(n=200, d=8, k=3, seed=0, noise=1.0):
    """Features and targets that are partly linear in them, float64."""
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(n, d)) + 1
    return h, h @ rng.normal(size=(d, k)) + noise * rng.normal(size=(n, k)) + 2


def plain(h, y, intercept=True):
    """Rank-aware least squares of all samples, in float64."""
    h, y = np.float64(h), np.float64(y)
    centred = y - y.mean(0)
    design = np.c_[h, np.ones(len(h))] if intercept else h
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return 1 - (residual**2).sum() / (centred**2).sum()


@pytest.mark.parametrize(
    ("dtype", "atol"), [(np.float64, 1e-10), pytest.param(np.float32, 1e-5, marks=pytest.mark.long)]
)
@pytest.mark.parametrize("case", CASES)
def test_golden(golden, case, dtype, atol):
    numbers = golden("target_linearity")
    m = moments(numbers[f"{case}_H"].astype(dtype), numbers[f"{case}_Y"].astype(dtype))
    for intercept, name in ((True, "intercept"), (False, "nointercept")):
        expected = numbers[f"{case}_lstsq_{name}"]
        np.testing.assert_allclose(
            target_linearity(m, intercept=intercept), expected, rtol=0, atol=atol
        )


@pytest.mark.parametrize("case", ["wellcond", "onehot_gelu", "shifted"])
def test_golden_reference_by_its_own_centring(golden, case):
    """The reference's value: centred targets, no intercept, denominator centred by row."""
    numbers = golden("target_linearity")
    h, y = numbers[f"{case}_H"], numbers[f"{case}_Y"]
    unexplained = 1 - float(target_linearity(moments(h, y), intercept=False))
    columns, rows = (((y - y.mean(axis, keepdims=True)) ** 2).sum() for axis in (0, 1))
    np.testing.assert_allclose(
        1 - unexplained * columns / rows, numbers[f"{case}_ref_f64"], atol=1e-10
    )


@pytest.mark.long
def test_golden_layerwise(golden):
    numbers = golden("layerwise_metrics")
    y = np.eye(4)[numbers["dnn_targets"]]
    kernels = torch_params(numbers, "dnn_")["params"]
    for i in range(3):
        h, kernel = numbers[f"dnn_hidden{i}"], kernels[f"Dense_{i + 1}"]["kernel"]
        m, centred = moments(h, y), moments(h, y - y.mean(0))
        close = functools.partial(np.testing.assert_allclose, rtol=1e-10)
        close(target_linearity(m), plain(h, y))
        close(target_linearity(centred, intercept=False), numbers["dnn_f64_centered_tl"][i])
        # These two were made from a float32 solve: the reference in float64 agrees with ours.
        close(target_linearity(m), numbers["dnn_lstsq_intercept"][i], rtol=1e-7)
        value = target_linearity(centred, intercept=False)
        close(value, numbers["dnn_lstsq_nointercept"][i], rtol=1e-7)
        expected = numbers["dnn_f64_centered_surrogate"][i]
        close(surrogate(m, kernel), expected)
        norms = numbers["dnn_f64_centered_norm"][i] * np.sum((y - y.mean(0)) ** 2)
        close(surrogate(m, kernel, normalized=True), expected * 4 / norms)
        target = 2 * numbers["dnn_X"][:, :1] + 1
        close(surrogate(moments(h, target), kernel), numbers["dnn_f64_regression_surrogate"][i])
        # The reference also has a surrogate of targets as they are: the uncentred block gives it.
        uncentred = np.sum((kernel.T @ np.asarray(m.cross_products)) ** 2) / 4
        close(uncentred, numbers["dnn_f64_uncentered_surrogate"][i])


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(np.float64, 1e-12), pytest.param(np.float32, 1e-5, marks=pytest.mark.long)]
)
@pytest.mark.long
def test_golden_surrogate(golden, dtype, rtol):
    numbers = {name: a.astype(dtype) for name, a in golden("surrogate").items()}
    value = surrogate(moments(numbers["X2"], numbers["Y"]), numbers["W2"].T)
    np.testing.assert_allclose(value, numbers["surrogate_2d_f64"], rtol=rtol)
    # A convolution: the kernel at each of L positions, features beside each other, so sums add.
    patches = np.moveaxis(numbers["X3"], 2, 0)
    with jax.enable_x64(dtype == np.float64):
        at_each = jax.vmap(moments, in_axes=(0, None))(patches, numbers["Y"])
        values = jax.vmap(surrogate, in_axes=(0, None))(at_each, numbers["W3"].T)
    np.testing.assert_allclose(np.asarray(values).sum(), numbers["surrogate_3d_f64"], rtol=rtol)
    z = np.float64(patches) @ np.float64(numbers["W3"].T)
    np.testing.assert_allclose(np.sum(z**2), numbers["norm_3d_f64"], rtol=rtol)


@pytest.mark.long
def test_surrogate_is_the_trace_with_the_sample_gram():
    h, y = draw(60)
    kernel = np.random.default_rng(1).normal(size=(8, 5))
    z, centred = h @ kernel, y - y.mean(0)
    gram = z @ z.T  # (n, n), as the definition has it
    expected = np.mean([column @ gram @ column for column in centred.T])
    m = moments(h, y)
    np.testing.assert_allclose(surrogate(m, kernel), expected, rtol=1e-12)
    normalized = 3 * expected / np.sum(z**2) / np.sum(centred**2)
    np.testing.assert_allclose(surrogate(m, kernel, normalized=True), normalized, rtol=1e-12)


SHAPES = {"tall": (500, 8), "wide": (20, 50), "square": (30, 30), "two samples": (2, 3)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("intercept", [True, False])
def test_is_least_squares(shape, intercept):
    h, y = draw(*SHAPES[shape])
    value = target_linearity(moments(h, y), intercept=intercept)
    np.testing.assert_allclose(value, plain(h, y, intercept), atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.long
def test_redundant_columns_change_nothing(dtype, scale):
    """Duplicates, sums, constants (0, and one that rounds) and dead units add no direction."""
    h, y = (a.astype(dtype) for a in draw(3000))
    m = moments(h, y)
    constant = np.full((len(h), 1), 0.1, dtype)
    wide = np.c_[h, h[:, :3], constant, 0 * constant, constant * 1e7]
    wide = np.c_[wide, h[:, :1] + h[:, 1:2]] if dtype == np.float64 else wide
    more = moments(wide * dtype(scale), y)
    np.testing.assert_allclose(target_linearity(more), target_linearity(m), atol=1e-12)
    np.testing.assert_allclose(noise_floor(more), noise_floor(m), atol=1e-15)
    np.testing.assert_allclose(
        target_linearity_adjusted(more), target_linearity_adjusted(m), atol=1e-12
    )
    np.testing.assert_allclose(
        heldout_target_linearity(more, more), heldout_target_linearity(m, m), atol=1e-9
    )


@pytest.mark.parametrize("n", [300, 20_000])
@pytest.mark.parametrize("d", [4, 64, 300])
@pytest.mark.long
def test_rank_is_counted_right(n, d):
    """The default tolerance finds the rank of features that lie in a subspace, and only those."""
    rng = np.random.default_rng(0)
    rank = max(2, d // 3)
    h = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d))
    floor = noise_floor(moments(h, h[:, :1]))
    np.testing.assert_allclose(float(floor) * (n - 1), min(rank, n - 1), rtol=1e-12)


@pytest.mark.long
def test_ill_conditioned_features_of_float32():
    """Condition number 3e4: float32 normal equations return noise, float64 ones all digits."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    h = (rng.normal(size=(2000, 64)) * np.logspace(0, -4.5, 64)) @ basis + 3
    h = h.astype(np.float32)
    y = rng.normal(size=(2000, 2)) + 0.3 * np.float64(h @ basis.T)[:, -2:] * 1e4
    np.testing.assert_allclose(target_linearity(moments(h, y)), plain(h, y), atol=1e-9)


@pytest.mark.parametrize("power", [3, 4, 5])
@pytest.mark.long
def test_error_grows_as_stated_on_the_hardest_target(power):
    """A target on the smallest direction only: the error is within 1e-16·cond² of lstsq."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    latent = rng.normal(size=(1000, 40))
    h = (latent * np.logspace(0, -power, 40)) @ basis
    y = latent[:, -1:] + rng.normal(size=(1000, 1))
    error = abs(float(target_linearity(moments(h, y))) - plain(h, y))
    assert error < 1e-16 * 10 ** (2 * power) * 100


def test_rounding_of_float32_counts_unless_rtol_leaves_it_out():
    rng = np.random.default_rng(0)
    h = rng.normal(size=(2000, 16)) @ rng.normal(size=(16, 64)) / 4 + 30
    m = moments(h.astype(np.float32), h[:, :1])
    assert float(noise_floor(m)) * 1999 > 17
    rtol = 10 * (30 * 2**-24) ** 2
    np.testing.assert_allclose(float(noise_floor(m, rtol=rtol)) * 1999, 16)


def test_exact_cases():
    h, y = draw(100, noise=0)
    np.testing.assert_allclose(target_linearity(moments(h, y)), 1, atol=1e-12)
    basis = np.random.default_rng(0).normal(size=(100, 7))
    orthogonal = np.linalg.qr(np.c_[np.ones(100), basis])[0][:, 1:]
    np.testing.assert_allclose(
        target_linearity(moments(orthogonal[:, :4], orthogonal[:, 4:])), 0, atol=1e-12
    )


def test_balanced_one_hot_is_the_class_separation():
    """TL = tr(Σ_T⁻¹ Σ_B)/(C − 1): the link to neural collapse."""
    classes, each = 4, 50
    labels = np.repeat(np.arange(classes), each)
    rng = np.random.default_rng(0)
    h = rng.normal(size=(200, 7)) + rng.normal(size=(classes, 7))[labels]
    means = np.stack([h[labels == c].mean(0) for c in range(classes)])[labels] - h.mean(0)
    total = (h - h.mean(0)).T @ (h - h.mean(0))
    expected = np.trace(np.linalg.solve(total, means.T @ means)) / (classes - 1)
    np.testing.assert_allclose(
        target_linearity(moments(h, np.eye(classes)[labels])), expected, rtol=1e-12
    )


@pytest.mark.long
def test_noise_floor_is_the_mean_over_noise():
    """Each of 4000 target columns is a draw: the mean TL is p/(n − 1), the mean adjusted one 0."""
    rng = np.random.default_rng(0)
    h, y = rng.normal(size=(100, 12)), rng.normal(size=(100, 4000))
    m = moments(h, y)
    np.testing.assert_allclose(noise_floor(m), 12 / 99, rtol=1e-12)
    np.testing.assert_allclose(target_linearity(m), 12 / 99, atol=0.002)
    np.testing.assert_allclose(target_linearity_adjusted(m), 0, atol=0.002)


def test_heldout_is_the_score_of_the_train_fit():
    (h, y), (g, z) = draw(seed=0), draw(77, seed=1)
    fit = np.linalg.lstsq(np.c_[h, np.ones(len(h))], y, rcond=None)[0]
    residual = z - np.c_[g, np.ones(len(g))] @ fit
    expected = 1 - (residual**2).sum() / ((z - z.mean(0)) ** 2).sum()
    value = heldout_target_linearity(moments(h, y), moments(g, z))
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    assert float(value) < 1
    m = moments(h, y)
    np.testing.assert_allclose(heldout_target_linearity(m, m), target_linearity(m), rtol=1e-12)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.sampled_from([(3, 6, 1), (12, 6, 3)]),  # each is compiled
    shift=st.floats(-100, 100),
    scale=st.floats(0.01, 100),
)
@pytest.mark.long
def test_invariances(seed, shape, shift, scale):
    rng, (n, d, k) = np.random.default_rng(seed), shape
    h, y = rng.normal(size=(n, d)), rng.normal(size=(n, k))
    value = float(target_linearity(moments(h, y)))
    assert -1e-12 <= value <= 1 + 1e-12
    rotation, turn = (np.linalg.qr(rng.normal(size=(m, m)))[0] for m in (d, k))
    order = rng.permutation(n)
    cut = n // 3
    same = {
        "affine map of the features": moments((h * scale) @ rotation + shift, y),
        "shift and scale of the targets": moments(h, scale * y + shift),
        "rotation of the targets": moments(h, y @ turn),
        "order of the samples": moments(h[order], y[order]),
        "split of the samples": moments(h[:cut], y[:cut]) + moments(h[cut:], y[cut:]),
        "repetition of the samples": moments(np.r_[h, h], np.r_[y, y]),
    }
    for name, m in same.items():
        np.testing.assert_allclose(target_linearity(m), value, atol=1e-9, err_msg=name)
    more = moments(np.c_[h, rng.normal(size=(n, 1))], y)
    assert float(target_linearity(more)) >= value - 1e-9, "a column more explains no less"
    kernel = rng.normal(size=(d, 3))
    before, after = moments(h, y), moments(h @ rotation + shift, scale * y + shift)
    np.testing.assert_allclose(
        surrogate(after, rotation.T @ kernel),
        scale**2 * float(surrogate(before, kernel)),
        rtol=1e-7,
        atol=1e-9,
    )
    assert -1e-12 <= float(surrogate(before, kernel, normalized=True)) <= 1 + 1e-12


KERNEL = np.random.default_rng(7).normal(size=(8, 3)).astype(np.float32)
METRICS = {
    "target_linearity": lambda h, y: target_linearity(moments(h, y)),
    "without intercept": lambda h, y: target_linearity(moments(h, y), intercept=False),
    "adjusted": lambda h, y: target_linearity_adjusted(moments(h, y)),
    "floor": lambda h, y: noise_floor(moments(h, y)),
    "heldout": lambda h, y: heldout_target_linearity(moments(h[:30], y[:30]), moments(h, y)),
    "surrogate": lambda h, y: surrogate(moments(h, y), KERNEL),
    "normalized": lambda h, y: surrogate(moments(h, y), KERNEL, normalized=True),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.long
def test_transformations(metric):
    """jit, vmap, map and scan give the eager float64 values outside of ``enable_x64``."""
    draws = [draw(100, seed=seed) for seed in range(4)]
    h, y = (np.stack(a).astype(np.float32) for a in zip(*draws, strict=True))
    f = METRICS[metric]
    expected = np.stack([f(*pair) for pair in zip(h, y, strict=True)])
    results = {
        "jit": np.stack([jax.jit(f)(*pair) for pair in zip(h, y, strict=True)]),
        "vmap": jax.vmap(f)(h, y),
        "jit of vmap": jax.jit(jax.vmap(f))(h, y),
        "vmap of jit": jax.vmap(jax.jit(f))(h, y),
        "map": jax.lax.map(lambda pair: f(*pair), (h, y)),
        "scan": jax.jit(lambda h, y: jax.lax.scan(lambda c, p: (c, f(*p)), 0, (h, y))[1])(h, y),
    }
    for name, values in results.items():
        chex.assert_type(values, np.float64)
        np.testing.assert_allclose(values, expected, rtol=1e-10, err_msg=name)


@pytest.mark.long
def test_moments_as_an_argument_keep_their_precision():
    """Passing float64 moments through a jit or vmap boundary cuts nothing off."""
    h, y = draw()
    m = moments(h, y)
    with jax.enable_x64(True):
        stacked = jax.tree.map(lambda a: jnp.stack([a, a]), m)
    value = target_linearity(m)
    np.testing.assert_allclose(jax.jit(target_linearity)(m), value, rtol=1e-13)
    np.testing.assert_allclose(jax.vmap(target_linearity)(stacked), [value] * 2, rtol=1e-13)


@pytest.mark.long
def test_vmap_over_numpy_arrays_of_float64():
    """Features and targets stay float64; moments that JAX would cut are refused."""
    h, y = (np.stack([a, a]) for a in draw(50))
    m = jax.vmap(moments)(h, y)
    expected = target_linearity(moments(h[0], y[0]))
    np.testing.assert_allclose(jax.vmap(target_linearity)(m), [expected] * 2, rtol=1e-12)
    held = jax.tree.map(np.asarray, m)
    with pytest.raises(TypeError, match="m is of float32: wanted float64"):
        jax.vmap(target_linearity)(held)
    with jax.enable_x64(True):
        held = jax.tree.map(jnp.asarray, held)
    np.testing.assert_allclose(jax.vmap(target_linearity)(held), [expected] * 2, rtol=1e-12)


@pytest.mark.long
def test_many_fits_at_once_do_not_wait_for_each_other():
    """Batched eigendecompositions side by side hang jaxlib's CPU thread pool."""
    h = jax.random.normal(jax.random.key(0), (6, 5, 300, 128))

    @jax.jit
    @jax.vmap
    def fits(h):
        return [target_linearity(moments(layer, layer[:, :2] ** 2)) for layer in h]

    for _ in range(5):
        chex.assert_tree_all_finite(fits(jnp.swapaxes(h, 0, 1)))


@pytest.mark.parametrize("metric", [name for name in METRICS if name != "floor"])
@pytest.mark.long
def test_derivatives(metric):
    """Against finite differences; the rank, and with it the noise floor, has none."""
    h, y = draw(60)
    f = METRICS[metric]
    for transformation in (lambda g: g, jax.jit):
        gradient = transformation(jax.grad(lambda h, f=f: f(h, y)))(h.astype(np.float32))
        for row, column in ((3, 2), (40, 7)):
            step = np.zeros_like(h)
            step[row, column] = 1e-5
            slope = (float(f(h + step, y)) - float(f(h - step, y))) / 2e-5
            np.testing.assert_allclose(gradient[row, column], slope, rtol=2e-4, atol=1e-7)
    pair = np.stack([h, h]).astype(np.float32), np.stack([y, y]).astype(np.float32)
    both = jax.vmap(jax.grad(f))(*pair)
    np.testing.assert_allclose(both[1], jax.grad(f)(pair[0][0], pair[1][0]), rtol=1e-5, atol=1e-7)


def warned(function, *arguments, match):
    with pytest.warns(RuntimeWarning, match=match):
        value = function(*arguments)
    assert np.isnan(value)


@pytest.mark.long
def test_undefined_values_are_nan_with_a_reason():
    h, y = (a.astype(np.float32) for a in draw(20))
    constant = moments(h, np.full((20, 2), 0.1, np.float32))
    one = moments(h[:1], y[:1])
    broken = jax.jit(moments)(h, y * np.nan)
    infinite = jax.jit(moments)(np.where(h > 2, np.inf, h), y)
    for metric in (target_linearity, target_linearity_adjusted):
        warned(metric, constant, match="is NaN: none of the 2 target columns varies")
        warned(metric, one, match="is NaN: samples in the moments: 1, wanted 2")
        warned(metric, Moments.zeros(3, 1), match="is NaN: samples in the moments: 0")
        warned(metric, broken, match="is NaN: the features or targets hold NaN or infinity")
        warned(metric, infinite, match="is NaN: the features or targets hold NaN or infinity")
        assert np.isnan(jax.jit(metric)(constant)), "and no warning under jit"
        assert np.isnan(jax.jit(metric)(broken)), "and no warning under jit"
    warned(target_linearity_adjusted, moments(h[:8], y[:8]), match="8 samples saturate the fit")
    warned(heldout_target_linearity, broken, moments(h, y), match="hold NaN")
    warned(heldout_target_linearity, moments(h, y), broken, match="hold NaN")
    warned(heldout_target_linearity, moments(h, y), one, match="samples in the moments: 1")
    warned(noise_floor, one, match="wanted 2 or more")
    assert np.isnan(surrogate(infinite, h[:8]))


def test_a_constant_column_of_the_targets_has_no_weight():
    h, y = draw()
    more = np.c_[y, np.full((len(y), 1), 0.3)]
    np.testing.assert_allclose(
        target_linearity(moments(h, more)), target_linearity(moments(h, y)), rtol=1e-12
    )


def test_bad_input():
    h, y = draw(20)
    m = moments(h, y)
    with pytest.raises(ValueError, match="m holds no targets"):
        target_linearity(moments(h))
    with pytest.raises(TypeError, match="m is a ndarray"):
        target_linearity(h)
    with pytest.raises(ValueError, match="m is stacked.*jax.vmap"):
        target_linearity(jax.tree.map(lambda a: np.stack([a, a]), m))
    with pytest.raises(ValueError, match=r"train.*\(8, 3\).*test.*\(8, 2\)"):
        heldout_target_linearity(m, moments(h, y[:, :2]))
    with pytest.raises(ValueError, match="test holds no targets"):
        heldout_target_linearity(m, moments(h))
    with pytest.raises(ValueError, match=r"kernel has shape \(3, 8\).*transpose"):
        surrogate(m, np.ones((3, 8)))
    with pytest.raises(TypeError, match="kernel has dtype int"):
        surrogate(m, np.ones((8, 3), int))


def without_intercept(h, y):
    """The definition in extended precision, by an orthogonal basis of the columns."""
    residual, basis = np.longdouble(y), []
    for column in np.longdouble(h.T):
        for _ in range(3):
            column = column - sum((q * (q @ column) for q in basis), np.longdouble(0))
        basis.append(column / np.sqrt(column @ column))
    for _ in range(3):
        residual = residual - sum(np.outer(q, q @ residual) for q in basis)
    centred = np.longdouble(y) - np.longdouble(y).mean(0)
    return np.float64(1 - (residual**2).sum() / (centred**2).sum())


def offset_cases():
    rng = np.random.default_rng(0)
    h = rng.normal(size=(300, 4))
    y = h @ rng.normal(size=(4, 2)) + rng.normal(size=(300, 2))
    shares = np.exp(h) / np.exp(h).sum(1, keepdims=True)
    return {
        "none": (h, y),
        "targets": (h, y + 1e8),
        "features": (h + 1e6, y),
        "both": (h + 1e8, y + 1e8),
        "one feature": (h + [1e8, 0, 0, 0], y + 1e8),
        "a constant feature": (np.c_[h, np.full(300, 0.1)], y + 1e8),
        "rows that sum to 1": (shares, y + 1e8),
        "other units": (h * [1e-9, 1, 1e9, 1] + [1, 0, 0, 0], y + 1e8),
    }


@pytest.mark.parametrize("name", offset_cases())
@pytest.mark.long
def test_without_intercept_far_from_zero(name):
    h, y = offset_cases()[name]
    if name in ("a constant feature", "rows that sum to 1"):  # what the rounded rows still span
        expected = float(target_linearity(moments(h, y)))
    else:
        expected = without_intercept(h, y)
    value = float(target_linearity(moments(h, y), intercept=False))
    np.testing.assert_allclose(value, expected, rtol=1e-11)


@pytest.mark.parametrize("rtol", [np.nan, -1e-12, 1.0])
def test_rank_tolerances_that_are_none(rtol):
    h = np.random.default_rng(0).normal(size=(30, 3))
    m = moments(h, h)
    for call in (
        lambda: target_linearity(m, rtol=rtol),
        lambda: target_linearity_adjusted(m, rtol=rtol),
        lambda: noise_floor(m, rtol=rtol),
        lambda: heldout_target_linearity(m, m, rtol=rtol),
    ):
        with pytest.raises(ValueError, match=f"rtol is {rtol}: wanted"):
            call()


@pytest.mark.long
def test_weights_that_are_no_counts_have_no_noise_floor():
    h = np.random.default_rng(0).normal(size=(125, 5))
    with pytest.warns(RuntimeWarning, match=r"noise_floor is NaN: 1\.25 samples"):
        assert np.isnan(noise_floor(moments(h, weights=np.full(125, 0.01))))
    assert float(noise_floor(moments(h, weights=np.full(125, 0.044)))) == 1  # 5.5 samples
    assert float(noise_floor(moments(h[:5]))) == 1


def test_held_out_without_training_samples():
    h = np.random.default_rng(0).normal(size=(30, 3))
    m = moments(h, h)
    with pytest.warns(RuntimeWarning, match="samples in the moments: 0"):
        assert np.isnan(heldout_target_linearity(Moments.zeros(3, 3), m))


def test_arithmetic_with_a_scalar_stays_in_float64():
    h = np.random.default_rng(0).normal(size=(30, 3))
    m = moments(h, h**2)
    value = target_linearity(m)
    assert (value - 0.5).dtype == np.float64 and value - 0.5 == float(value) - 0.5
    assert jax.eval_shape(target_linearity, m).dtype == np.float64
