"""Metrics of a layer's health, against NumPy's long double and exact cases."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import (
    GradientMoments,
    dead_units,
    feature_rank,
    gradient_noise,
    metrics,
    moments,
    projected,
    relative_feature_change,
    relative_update,
    spectral_entropy,
)

RNG = np.random.default_rng(0)
N, INPUTS, OUTPUTS = 40, 6, 4
X = RNG.normal(size=(N, INPUTS)) + 3
DELTA = RNG.normal(size=(N, OUTPUTS)) / N
KERNEL = RNG.normal(size=(INPUTS, OUTPUTS))


def gradients(x=X, delta=DELTA, n=N):
    """Of the mean loss, whose Δ these are."""
    with jax.enable_x64(True):
        sums = n, n * x.T @ delta, n**2 * delta.T @ delta
        return GradientMoments(*(jnp.asarray(a, jnp.float64) for a in sums))


def long(*arrays):
    return [np.asarray(a, np.longdouble) for a in arrays]


def norm(a):
    return np.sqrt((a**2).sum())


def exact_moments(x):
    with jax.enable_x64(True):
        return moments(jnp.asarray(x, jnp.float64))


@pytest.mark.parametrize("scale", [1.0, 1e-100, 1e120])
def test_a_step_beside_the_kernel(scale):
    x, delta, kernel = long(X, DELTA, KERNEL)
    found = relative_update(scale * KERNEL, gradients(delta=scale * DELTA), 0.3)
    expected = np.longdouble(0.3) * norm(x.T @ delta) / norm(kernel)
    np.testing.assert_allclose(float(found), float(expected), rtol=1e-13)
    assert np.isnan(relative_update(0 * KERNEL, gradients(), 0.3))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_step_beside_the_outputs_that_it_changes(offset):
    """An offset to which the kernel is orthogonal would cancel in products about zero."""
    kernel = KERNEL - KERNEL.mean(0)
    x, delta, k = long(X + offset, DELTA, kernel)
    found = relative_feature_change(exact_moments(X + offset), kernel, gradients(X + offset), 0.3)
    expected = np.longdouble(0.3) * norm(x @ (x.T @ delta)) / norm(x @ k)
    # The kernel's columns sum to 0 up to rounding, which the offset multiplies.
    np.testing.assert_allclose(float(found), float(expected), rtol=1e-10)
    assert np.isnan(relative_feature_change(exact_moments(X), 0 * kernel, gradients(), 0.3))
    with pytest.raises(ValueError, match=rf"kernel has shape .*: wanted .{INPUTS - 1}, o."):
        relative_feature_change(exact_moments(X[:, 1:]), kernel, gradients(), 0.3)


def test_units_without_a_gradient_are_dead():
    delta = DELTA.copy()
    delta[:, 1] = 0
    delta[1:, 2] = 0  # one sample is enough
    assert dead_units(gradients(delta=delta)) == 0.25
    assert dead_units(gradients(delta=0 * delta)) == 1
    third = GradientMoments(np.float32(1), None, np.diag(np.float32([0, 1, 1])))
    assert float(dead_units(third)) == 1 / 3  # in float64, whatever the sums are
    delta[0, 0] = np.nan
    assert np.isnan(dead_units(gradients(delta=delta)))


def test_the_rank_of_features_is_that_of_their_covariance():
    x = long(X)[0]
    values = np.linalg.eigvalsh(np.float64((x - x.mean(0)).T @ (x - x.mean(0))))
    shares = values / values.sum()
    np.testing.assert_allclose(
        feature_rank(exact_moments(X)), np.exp(-(shares * np.log(shares)).sum()), rtol=1e-12
    )
    one = X[:, :1] * np.arange(1.0, INPUTS + 1) + 5
    np.testing.assert_allclose(feature_rank(exact_moments(one)), 1, rtol=1e-10)
    assert feature_rank(exact_moments(np.ones((N, INPUTS)))) == 0
    lost = jax.jit(lambda x: feature_rank(moments(x)))(jnp.full((5, 2), jnp.nan))
    assert np.isnan(lost)


def test_entropy_of_a_spectrum():
    np.testing.assert_allclose(spectral_entropy(np.ones(7)), 1, rtol=1e-15)
    np.testing.assert_allclose(spectral_entropy(np.array([3.0, 3, 0, 0, 0])), np.log(2) / np.log(5))
    assert spectral_entropy(np.array([1.0, 0])) == 0 and np.isnan(spectral_entropy(np.ones(1)))


def test_noise_of_gradients_from_their_squares():
    each = np.random.default_rng(3).normal(size=(9, INPUTS, OUTPUTS)) + 0.5
    with jax.enable_x64(True):
        sums = GradientMoments(
            jnp.asarray(9.0), jnp.asarray(each.sum(0)), None, jnp.asarray((each**2).sum())
        )
    variance = long(each)[0].var(0, ddof=1).sum()
    expected = variance / norm(long(each)[0].mean(0)) ** 2
    np.testing.assert_allclose(float(gradient_noise(sums)), float(expected), rtol=1e-12)
    same = GradientMoments(jnp.float32(4), jnp.ones((2, 1)), None, jnp.float32(0.5))
    assert gradient_noise(same) == 0
    assert np.isnan(gradient_noise(dataclasses.replace(same, count=jnp.float32(1))))
    with pytest.raises(ValueError, match=r"learning_rate has shape \(2,\): wanted a number"):
        relative_update(jnp.ones((2, 1)), same, np.ones(2))
    with pytest.raises(ValueError, match="square_sum is None: wanted it among the needs"):
        gradient_noise(gradients())


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("dead_units", [], []),
        ("fact", ["kernel"], [0.1]),
        ("fact_null", ["key", "kernel"], []),
        ("gradient_noise", [], []),
        ("relative_feature_change", ["moments", "kernel"], [0.1]),
        ("relative_update", ["kernel"], [0.1]),
        ("representation_alignments", ["moments", "kernel"], []),
        ("stationarity_identities", ["kernel"], [0.1]),
        ("virtual_covariance", ["kernel"], [0.1]),
    ],
)
def test_gradients_of_all_layers_are_not_those_of_one(name, before, after):
    given = {"key": jax.random.key(0), "kernel": KERNEL, "moments": exact_moments(X)}
    function, first = getattr(metrics, name), [given[each] for each in before]
    for wrong, kind in (({"w": gradients()}, "dict"), (KERNEL, "ndarray")):
        with pytest.raises(TypeError, match=f"gradients is a {kind}: wanted GradientMoments"):
            function(*first, wrong, *after)


def test_other_sums_and_complex_kernels_are_named():
    with pytest.raises(TypeError, match="m is a dict: wanted JacobianMoments"):
        metrics.debiased_isotropy({"w": None})
    with pytest.raises(TypeError, match="m is a NoneType: wanted AttentionMoments"):
        metrics.attention_entropy(None)
    with pytest.raises(TypeError, match="tap is a dict: wanted Tap"):
        metrics.feature_learning_sides({"w": None}, KERNEL)
    with pytest.raises(TypeError, match="projection is a PRNGKeyArray: wanted Projection"):
        projected(X, jax.random.key(0))
    with pytest.raises(TypeError, match="kernel has dtype complex128: wanted floating point"):
        relative_update(KERNEL + 1j, gradients(), 0.1)  # of which the real part was taken
