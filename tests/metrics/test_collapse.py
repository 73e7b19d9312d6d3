import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import moments, neural_collapse, regression_collapse, target_linearity
from gramlin_jax.metrics.collapse import nc4_mismatch

COUNTS = 9, 4, 1, 6  # of the classes of ``samples``: one has a single sample


@pytest.fixture(scope="module")
def samples():
    """Features (20, 7) that are not centred, their classes, a kernel and a bias."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), COUNTS)
    features = rng.normal(size=(20, 7)) + 2 * rng.normal(size=(4, 7))[labels] + 5
    return features, labels, rng.normal(size=(7, 4)), rng.normal(size=4)


def class_moments(features, labels, classes=None):
    classes = classes or labels.max() + 1
    with jax.enable_x64(True):
        return moments(features, np.eye(classes)[labels])


def collapse(m, *layer):
    with jax.enable_x64(True):
        return jax.device_get(neural_collapse(m, *layer))


def etf(d=11, classes=5):
    """A simplex equiangular tight frame, as columns, in a random subspace."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(d, classes)))[0]
    return 3 * basis @ (np.eye(classes) - 1 / classes)


def test_a_simplex_etf_has_collapsed():
    frame, center = etf(), np.random.default_rng(1).normal(size=11)
    labels = np.repeat(np.arange(5), 7)
    m = class_moments(frame.T[labels] + center, labels)
    kernel = 0.2 * frame
    values = collapse(m, kernel, 1.0 - kernel.T @ center)
    np.testing.assert_allclose(values, 0, atol=1e-15)
    features = frame.T[labels] + center
    assert float(nc4_mismatch(m, features, labels)) == 0
    changed = (labels + (labels == 2)) % 5
    assert float(nc4_mismatch(m, features, changed)) == pytest.approx(0.2)
    features = features.astype(np.float32)
    stacked = jax.jit(jax.vmap(nc4_mismatch, (None, 0, 0)))(m, features[None], changed[None])
    np.testing.assert_allclose(stacked, [0.2])


def test_agrees_with_the_definitions(samples):
    """With pseudo-inverses and explicit sums, of classes of different sizes."""
    features, labels, kernel, bias = samples
    means = np.stack([features[labels == c].mean(0) for c in range(4)])
    a = (means - means.mean(0)).T
    within = np.mean([np.outer(h, h) for h in features - means[labels]], 0)
    norms = np.linalg.norm(a, axis=0)
    cosines = [a[:, i] @ a[:, j] / norms[i] / norms[j] for i in range(4) for j in range(i)]
    norm = np.linalg.norm
    logits = kernel.T @ a
    at_center = kernel.T @ means.mean(0) + bias
    ideal = (np.eye(4) - 1 / 4) / 3**0.5
    values = collapse(class_moments(features, labels), kernel, bias)
    expected = {
        "nc1": np.trace(within @ np.linalg.pinv(a @ a.T / 4)) / 4,
        "equinorm": norms.std() / norms.mean(),
        "equiangularity": np.mean(np.abs(np.array(cosines) + 1 / 3)),
        "etf_distance": norm(a.T @ a / norm(a.T @ a) - ideal),
        "nc3": norm(kernel / norm(kernel) - a / norm(a)) ** 2,
        "offset": 2 * norm(at_center - at_center.mean()) / norm(logits - logits.mean(0)),
        "cdnv": np.mean(
            [np.trace(within) / norm(means[i] - means[j]) ** 2 for i in range(4) for j in range(i)]
        ),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(values, name), value, rtol=1e-12, err_msg=name)


def test_does_not_depend_on_scale_rotation_or_batches(samples):
    features, labels, kernel, bias = samples
    expected = collapse(class_moments(features, labels), kernel, bias)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(7, 7)))[0]
    with jax.enable_x64(True):
        turned = class_moments(30 * features @ rotation, labels)
        merged = class_moments(features[:8], labels[:8], 4) + class_moments(
            features[8:], labels[8:]
        )
    values = collapse(turned, rotation.T @ kernel / 30, bias)
    np.testing.assert_allclose(values, expected, rtol=1e-11)
    np.testing.assert_allclose(collapse(merged, kernel, bias), expected, rtol=1e-12)
    without = collapse(merged)
    assert without.nc3 is None and without.offset is None
    assert without.nc1 == pytest.approx(expected.nc1)


def test_links_to_target_linearity():
    """Of balanced classes: TL = tr(Σ_T⁻¹Σ_B)/(C − 1)."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 25)
    features = rng.normal(size=(100, 6)) + rng.normal(size=(4, 6))[labels]
    means = np.stack([features[labels == c].mean(0) for c in range(4)]) - features.mean(0)
    total = np.cov(features.T, bias=True)
    with jax.enable_x64(True):
        linearity = float(target_linearity(class_moments(features, labels)))
    assert linearity == pytest.approx(np.trace(np.linalg.solve(total, means.T @ means / 4)) / 3)


def test_class_means_that_are_linearly_dependent_and_equal(samples):
    """NC1 with the pseudo-inverse: collinear means are no trouble, equal ones NaN."""
    line = np.array([[0.0, 0], [1, 0], [2, 0]])
    labels = np.repeat(np.arange(3), 2)
    noise = np.tile([[0.1, 0.3], [-0.1, -0.3]], (3, 1))
    values = collapse(class_moments(line[labels] + noise, labels))
    assert values.nc1 == pytest.approx(0.1**2 / (2 / 3) / 3)  # only along the line
    values = collapse(class_moments(noise, labels))
    assert np.isnan(values.nc1)


def test_missing_classes(samples):
    """An error by name; NaN under transformations."""
    features, labels, kernel, bias = samples
    kernel, bias = np.float32(kernel), np.float32(bias)
    m = class_moments(features, labels, 6)
    with pytest.raises(ValueError, match=r"m has no sample of classes \[4, 5\]"):
        neural_collapse(m)
    with jax.enable_x64(True):
        stacked = jax.tree.map(lambda a: jnp.stack([a, a]), class_moments(features, labels))
    values = jax.jit(neural_collapse)(m)
    both = jax.jit(jax.vmap(neural_collapse, (0, None, None)))(stacked, kernel, bias)
    assert all(np.isnan(value) for value in values if value is not None)
    np.testing.assert_allclose(both.nc1, collapse(class_moments(features, labels)).nc1)


def regression(*args):
    with jax.enable_x64(True):
        return jax.device_get(regression_collapse(*args))


@pytest.mark.parametrize(("weight", "feature"), [(0.1, 0.1), (0.02, 0.5), (0.5, 0.02)])
def test_regression_has_collapsed_at_the_optimum_of_unconstrained_features(weight, feature):
    """K = (λ_H/λ_W)^¼ R M^½, H = (λ_W/λ_H)^½ K Σ^-½ (Y − Ȳ), M = Σ^½ − √(λ_H λ_W) I."""
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)) + 4
    covariance = np.cov(targets.T, bias=True)
    variances, vectors = np.linalg.eigh(covariance)
    root = vectors * variances**0.5 @ vectors.T
    gamma = weight * feature
    assert gamma < variances.min()
    turn = np.linalg.qr(rng.normal(size=(8, 3)))[0]
    half = vectors * (variances**0.5 - gamma**0.5) ** 0.5 @ vectors.T
    kernel = (feature / weight) ** 0.25 * turn @ half
    features = (weight / feature) ** 0.5 * (targets - targets.mean(0)) @ np.linalg.inv(root)
    features = features @ kernel.T
    with jax.enable_x64(True):
        m = moments(features)
    values = regression(m, kernel, covariance)
    np.testing.assert_allclose(values[:3], 0, atol=1e-14)
    assert values.gamma == pytest.approx(gamma)


def test_regression_agrees_with_the_definitions():
    rng = np.random.default_rng(0)
    features, kernel = rng.normal(size=(50, 6)) * np.arange(1, 7), rng.normal(size=(6, 2))
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    with jax.enable_x64(True):
        values = regression(moments(features), kernel, covariance)
    centred = features - features.mean(0)
    singular = np.linalg.svd(centred)[1] ** 2
    assert values.nrc1 == pytest.approx(singular[2:].sum() / singular.sum())
    outside = centred - centred @ kernel @ np.linalg.pinv(kernel)
    assert values.nrc2 == pytest.approx((outside**2).sum() / (centred**2).sum())
    variances, vectors = np.linalg.eigh(covariance)
    gram = kernel.T @ kernel

    def mismatch(gamma):
        structure = vectors * (variances**0.5 - gamma**0.5) @ vectors.T
        norm = np.linalg.norm
        return norm(gram / norm(gram) - structure / norm(structure)) ** 2

    assert values.nrc3 == pytest.approx(mismatch(values.gamma))
    assert values.nrc3 <= min(map(mismatch, np.linspace(0, variances[0], 1001))) + 1e-12


def test_regression_without_full_rank():
    """A kernel of rank one; targets in a line, where γ can only be 0."""
    kernel = np.outer(np.arange(1.0, 5), [1.0, 2])
    features = np.random.default_rng(0).normal(size=(30, 1)) * np.arange(1.0, 5)
    with jax.enable_x64(True):
        m = moments(features)
    values = regression(m, kernel, np.array([[1.0, 2], [2, 4]]))
    np.testing.assert_allclose(values, 0, atol=1e-14)


def test_bad_input(samples):
    features, labels, kernel, bias = samples
    m = class_moments(features, labels)
    with jax.enable_x64(True):
        one = moments(features, np.ones((20, 1)))
        soft = moments(features, np.full((20, 4), 0.25))
    with pytest.raises(ValueError, match="m has 1 targets: wanted one-hot targets of two classes"):
        neural_collapse(one)
    with pytest.raises(ValueError, match="m has targets that are not one-hot"):
        neural_collapse(soft)
    with pytest.raises(ValueError, match=r"kernel has shape \(4, 7\): wanted \(7, 4\), \(d, C\)"):
        neural_collapse(m, kernel.T)
    with pytest.raises(ValueError, match=r"bias has shape \(3,\): wanted \(4,\)"):
        neural_collapse(m, kernel, bias[:3])
    with pytest.raises(ValueError, match=r"features has shape \(20, 3\): wanted \(n, 7\)"):
        nc4_mismatch(m, features[:, :3], labels)
    with pytest.raises(ValueError, match=r"predictions has shape \(3,\): wanted \(20,\)"):
        nc4_mismatch(m, features, labels[:3])
    with pytest.raises(TypeError, match="predictions has dtype float32: wanted integers"):
        nc4_mismatch(m, features, labels.astype(np.float32))
    with pytest.raises(ValueError, match=r"kernel has shape \(3, 4\): wanted \(7, k\)"):
        regression_collapse(m, np.ones((3, 4)), np.eye(4))
    with pytest.raises(ValueError, match=r"target_covariance has shape \(3, 3\): wanted \(4, 4\)"):
        regression_collapse(m, kernel, np.eye(3))
