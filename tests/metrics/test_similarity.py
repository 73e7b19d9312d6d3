"""Alignment of two networks' features, against NumPy on all samples and exact cases."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import Moments, moments
from gramlin_jax.metrics.similarity import (
    alignment,
    alignment_r2,
    cka,
    eigenvector_stability,
    heldout_alignment,
    procrustes,
)

N, D, K = 40, 6, 5
ORDER = np.array([3, 0, 4, 1, 5, 2])


def draw(n=N, d=D, k=K, seed=0, offset=2.0):
    """Features of two networks that share a part, of different widths."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.arange(1, d + 1) + offset
    return x, x[:, :k] @ rng.normal(size=(k, k)) + rng.normal(size=(n, k)) - offset


def pair(x, y, weights=None):
    return moments(x, y, weights=weights, pair=True)


def hsic1(x, y):
    """Song et al. (2012), equation 5, with the Gram matrices of all samples in long double."""
    k, l = (np.asarray(a @ a.T, np.longdouble) for a in map(np.longdouble, (x, y)))  # noqa: E741
    n, one = len(k), np.ones(len(k))
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    sums = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ l) + sums - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))


def debiased(x, y):
    return float(hsic1(x, y) / np.sqrt(hsic1(x, x) * hsic1(y, y)))


@jax.jit
def merged(x, y):
    """Moments of all samples, of two halves, added and merged along an axis, and an update."""
    halves = [pair(*half) for half in zip(jnp.split(x, 2), jnp.split(y, 2), strict=True)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *halves)
    empty = Moments.zeros(D, K, pair=True)
    return pair(x, y), halves[0] + halves[1], stacked.sum(), empty.update(x, y)


def test_sums_of_parts_are_sums_of_all():
    x, y = draw()
    x[N // 2 :] += 3
    with jax.enable_x64(True):
        whole, *others = merged(jnp.asarray(x), jnp.asarray(y))
    for parts in others:
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-9)
    z, w = x - x.mean(0), y - y.mean(0)
    np.testing.assert_allclose(whole.pair.target_scatter, w.T @ w, rtol=1e-12)
    norms = np.stack([(z**2).sum(1), (w**2).sum(1)])
    np.testing.assert_allclose(whole.pair.norm_products, norms @ norms.T, rtol=1e-12)
    np.testing.assert_allclose(whole.pair.norm_features, norms @ z, rtol=1e-9)
    np.testing.assert_allclose(whole.pair.norm_targets, norms @ w, rtol=1e-9)


def test_the_option_changes_nothing_else_and_does_not_mix():
    x, y = draw()
    plain, with_pair = moments(x, y), pair(x, y)
    for a, b in zip(
        jax.tree.leaves(plain),
        jax.tree.leaves(dataclasses.replace(with_pair, pair=None)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="Moments do not add: pair has shape"):
        _ = plain + with_pair


def test_debiased_cka_is_that_of_the_gram_matrices():
    x, y = draw(offset=1000.0)
    value = cka(pair(x, y), debiased=True)
    x, y = x - x.mean(0), y - y.mean(0)  # where the Gram matrices have digits
    np.testing.assert_allclose(value, debiased(x, y), rtol=1e-9)
    doubled = np.r_[x, x[:4]], np.r_[y, y[:4]]
    weighted = pair(x, y, np.r_[np.full(4, 2.0), np.ones(N - 4)])
    np.testing.assert_allclose(cka(weighted, debiased=True), debiased(*doubled), rtol=1e-9)


def test_debiased_cka_of_independent_features_is_about_0():
    """800 draws of n = 40 in 6 and 5 dimensions: the mean is 0, where the biased one is 0.13."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(800, N, width)) for width in (D, K))
    m = jax.vmap(lambda x, y: moments(x, y, pair=True))(x, y)
    unbiased = jax.vmap(lambda m: cka(m, debiased=True))(m)
    biased = jax.vmap(cka)(m)
    assert abs(np.asarray(unbiased).mean()) < 0.01 and np.asarray(biased).mean() > 0.1


@pytest.mark.parametrize("centred", [True, False])
def test_against_all_samples(centred):
    x, y = draw()
    m = pair(x, y)
    if centred:
        x, y = x - x.mean(0), y - y.mean(0)
    u, s, vt = np.linalg.svd(x.T @ y, full_matrices=False)
    a, norms = u @ vt, np.linalg.norm(x) * np.linalg.norm(y)
    np.testing.assert_allclose(procrustes(m, centred=centred), a, atol=1e-10)
    np.testing.assert_allclose(alignment(m, centred=centred), s.sum() / norms, rtol=1e-12)
    r2 = 1 - np.linalg.norm(x @ a - y) ** 2 / np.linalg.norm(y) ** 2
    np.testing.assert_allclose(alignment_r2(m, centred=centred), r2, rtol=1e-11)
    linear = np.sum((x.T @ y) ** 2) / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    np.testing.assert_allclose(cka(m, centred=centred), linear, rtol=1e-12)
    other, target = draw(seed=1)
    held = pair(other, target)
    if centred:
        other, target = other - other.mean(0), target - target.mean(0)
    expected = np.sum((other @ a) * target) / np.linalg.norm(other) / np.linalg.norm(target)
    np.testing.assert_allclose(heldout_alignment(m, held, centred=centred), expected, rtol=1e-9)
    np.testing.assert_allclose(heldout_alignment(m, m, centred=centred), s.sum() / norms, rtol=1e-9)


def test_a_permuted_copy_is_the_same_network():
    x, _ = draw()
    m = pair(x, x[:, ORDER])
    permutation = np.eye(D)[:, ORDER]
    np.testing.assert_allclose(procrustes(m), permutation, atol=1e-12)
    for value in (alignment(m), alignment_r2(m), cka(m), cka(m, debiased=True)):
        np.testing.assert_allclose(value, 1, rtol=1e-12)
    stability = eigenvector_stability(
        m.feature_scatter, m.pair.target_scatter, procrustes(m), components=D
    )
    np.testing.assert_allclose(stability, np.eye(D), atol=1e-6)


def test_stability_orders_by_eigenvalue():
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    first = rotation @ np.diag([1.0, 5, 3]) @ rotation.T
    found = eigenvector_stability(first, np.diag([1.0, 3, 5]), rotation, 2)
    # By eigenvalue, the first's are rotated e₂ and e₃, and the second's e₃ and e₂.
    np.testing.assert_allclose(found, [[0, 1], [1, 0]], atol=1e-7)


def test_without_variance_nothing_is_known():
    x, y = draw()
    m = pair(x, np.full_like(y, 3.0))
    for value in (alignment(m), alignment_r2(m), cka(m), cka(m, debiased=True)):
        assert np.isnan(value)
    few = pair(x[:3], y[:3])
    assert np.isnan(cka(few, debiased=True)) and np.isfinite(cka(few))


def test_nan_in_the_moments_is_carried_on():
    """As from a pass under jit, which cannot refuse a sample."""
    x, y = draw()
    m = jax.jit(pair)(np.where(np.arange(x.size).reshape(x.shape) == 3, np.nan, x), y)
    whole = pair(x, y)
    for value in (
        alignment(m),
        alignment_r2(m),
        cka(m),
        heldout_alignment(m, whole),
        heldout_alignment(whole, m),
        *np.ravel(procrustes(m)),
    ):
        assert np.isnan(value)


def test_bad_input():
    x, y = draw()
    m = pair(x, y)
    with pytest.raises(ValueError, match="second is not symmetric"):
        eigenvector_stability(np.eye(2), np.triu(np.ones((2, 2))), np.eye(2), 1)
    with pytest.raises(ValueError, match="components is 1.5: wanted an integer"):
        eigenvector_stability(np.eye(2), np.eye(2), np.eye(2), 1.5)
    with pytest.raises(ValueError, match="rotation has columns whose products are up to 3 off"):
        eigenvector_stability(np.eye(2), np.eye(2), 2 * np.eye(2), 1)
    with pytest.raises(ValueError, match="rotation.T has columns whose products are up to 3 off"):
        eigenvector_stability(np.eye(2), np.eye(3), 2 * np.eye(2, 3), 1)
    with pytest.raises(ValueError, match="m is without the whole scatter of its targets"):
        cka(moments(x, y))
    with pytest.raises(ValueError, match="m holds no targets"):
        alignment(moments(x))
    with pytest.raises(ValueError, match="targets has 39 rows and features has 40"):
        pair(x, y[1:])
    with pytest.raises(ValueError, match=r"test has features of widths \(6, 4\): wanted \(6, 5\)"):
        heldout_alignment(m, pair(x, y[:, 1:]))
    with pytest.raises(ValueError, match="components is 7: wanted 1 to 6"):
        eigenvector_stability(np.eye(6), np.eye(6), np.eye(6), 7)
    with pytest.raises(ValueError, match="rotation has shape"):
        eigenvector_stability(np.eye(6), np.eye(5), np.eye(6), 2)
