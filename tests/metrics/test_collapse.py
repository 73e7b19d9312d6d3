import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import moments, neural_collapse, regression_collapse, target_linearity
from gramlin_jax._moments.features import class_moments as summed_by_class
from gramlin_jax.metrics.collapse import directions, nc4_mismatch

COUNTS = 9, 4, 2, 5  # of the classes of ``samples``


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
    own = [((features[labels == c] - means[c]) ** 2).sum(1).mean() for c in range(4)]
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
            [
                (own[i] + own[j]) / 2 / norm(means[i] - means[j]) ** 2
                for i in range(4)
                for j in range(i)
            ]
        ),
        "pooled_cdnv": np.mean(
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
    scaled = collapse(turned, 7 * rotation.T @ kernel / 30, 7 * bias)
    np.testing.assert_allclose(scaled, expected, rtol=1e-11)
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


def test_class_means_that_are_linearly_dependent():
    """NC1 with the pseudo-inverse: only along the line."""
    line = np.array([[0.0, 0], [1, 0], [2, 0]])
    labels = np.repeat(np.arange(3), 2)
    noise = np.tile([[0.1, 0.3], [-0.1, -0.3]], (3, 1))
    values = collapse(class_moments(line[labels] + noise, labels))
    assert values.nc1 == pytest.approx(0.1**2 / (2 / 3) / 3)


@pytest.mark.parametrize(
    ("ratio", "rtol"), [(1e-2, 1e-11), (1e-4, 1e-7), (1e-5, 1e-5), (1e-6, 1e-3)]
)
def test_class_means_that_are_nearly_dependent(ratio, rtol):
    """Against explicit sums along the singular vectors of the means."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 30)
    left, right = (np.linalg.qr(rng.normal(size=(size, size)))[0] for size in (6, 4))
    spread = np.array([1, 0.5, ratio])
    centred = np.linalg.qr(right - right.mean(0))[0][:, :3]
    noise = 0.1 * rng.normal(size=(120, 6)) * np.array([*spread, ratio, ratio, ratio])
    noise -= np.stack([noise[labels == c].mean(0) for c in range(4)])[labels]
    features = ((centred * spread) @ np.eye(3, 6))[labels] + noise
    expected = np.mean((noise[:, :3] / spread) ** 2, 0).sum()
    values = collapse(class_moments(features @ left.T, labels))
    assert values.nc1 == pytest.approx(expected, rel=rtol)


def test_no_distance_between_class_means():
    """NaN for all that divides by it, whatever rounding makes of the means."""
    labels = np.repeat(np.arange(3), (4, 5, 6))
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 4))
    kernel = np.ones((4, 3))
    equal = rows[np.concatenate([rng.permutation(6) for _ in range(3)])]
    for features, classes in (
        (np.tile([0.1, 0.2, 0.3, 0.7], (15, 1)), labels),
        (np.tile(rng.normal(size=4), (15, 1)), labels),
        (np.zeros((15, 4)), labels),
        (equal, np.repeat(np.arange(3), 6)),
    ):
        values = collapse(class_moments(features, classes), kernel, np.zeros(3))
        assert np.isnan(values).all(), values
    one_at_center = np.array([[-1.0, 0], [1, 0], [0, 0]])[labels] + 0.7
    values = collapse(class_moments(one_at_center, labels))
    assert np.isnan(values.equiangularity) and values.etf_distance > 0.1 and values.nc1 < 1e-15


@pytest.mark.long
def test_derivatives_are_those_of_differences(samples):
    features, labels, kernel, bias = samples
    with jax.enable_x64(True):
        y = jnp.eye(4)[labels]
        covariance = jnp.cov(features[:, :4].T)

        def both(h, kernel):
            m = moments(h, y)
            regressed = regression_collapse(m, kernel, covariance)
            return jnp.stack([*neural_collapse(m, kernel, bias), *regressed[:3]])

        at = jnp.asarray(features), jnp.asarray(kernel)
        rng = np.random.default_rng(1)
        along = tuple(jnp.asarray(rng.normal(size=a.shape)) for a in at)
        derivative = jax.jvp(both, at, along)[1]
        step = 1e-5
        up = both(at[0] + step * along[0], at[1] + step * along[1])
        down = both(at[0] - step * along[0], at[1] - step * along[1])
        differences = jax.device_get((up - down) / (2 * step))
    np.testing.assert_allclose(jax.device_get(derivative), differences, rtol=1e-6, atol=1e-9)


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
    assert np.isnan(jax.jit(nc4_mismatch)(m, np.float32(features), labels))


def test_a_class_of_one_sample_has_no_variability(samples):
    features, labels, _, _ = samples
    values = jax.jit(neural_collapse)(class_moments(features[:10], labels[:10]))
    assert all(np.isnan(value) for value in values if value is not None)


def test_rare_classes_are_there():
    weights = np.full(8, 4e6)
    weights[-2:] = 0.7
    labels = np.repeat(np.arange(4), 2)
    features = np.random.default_rng(0).normal(size=(8, 3))
    with jax.enable_x64(True):
        m = moments(features, np.eye(4)[labels], weights=weights)
    assert np.isfinite(collapse(m)[:4]).all()


def test_nc4_reports_nan(samples):
    features, labels, _, _ = samples
    m = class_moments(features, labels)
    broken = np.float32(features)
    broken[3, 2] = np.nan
    assert np.isnan(jax.jit(nc4_mismatch)(m, broken, labels))
    assert np.isnan(jax.jit(nc4_mismatch)(m, np.float32(features), labels + 1))


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


def test_nrc3_is_at_its_true_minimiser():
    """Against a grid: the minimum lies inside, at 0 and at the end."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        m = moments(rng.normal(size=(50, 6)))
    found = []
    for case in range(20):
        kernel, root = rng.normal(size=(6, 2)), rng.normal(size=(2, 2)) + 2 * np.eye(2)
        covariance = root @ root.T
        variances, vectors = np.linalg.eigh(covariance)
        if not case:
            kernel = np.outer(kernel[:, 0], vectors[:, 1])  # along the first target direction only
        gram = kernel.T @ kernel
        values = regression(m, kernel, covariance)
        structure = [
            (vectors * (variances**0.5 - s)) @ vectors.T
            for s in np.linspace(0, variances[0] ** 0.5, 1001)
        ]
        norm = np.linalg.norm
        grid = [norm(gram / norm(gram) - a / norm(a)) ** 2 for a in structure]
        assert min(grid) - 1e-5 < values.nrc3 <= min(grid) + 1e-12
        found.append(values.gamma / variances[0])
    assert min(found) == 0 and max(found) == pytest.approx(1)
    assert any(0.01 < share < 0.99 for share in found)


def test_nrc3_is_not_negative_at_collapse():
    rng = np.random.default_rng(0)
    for _ in range(20):
        basis = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        roots = rng.exponential(size=3) + 0.1
        kernel = np.sqrt(roots - 0.05)[:, None] * basis.T  # KᵀK = Σ_Y^½ − 0.05·I
        covariance = basis * roots[None] ** 2 @ basis.T
        found = regression_collapse(
            moments(rng.normal(size=(9, 3))), kernel, (covariance + covariance.T) / 2
        )
        assert 0 <= found.nrc3 < 1e-14


def test_nrc3_of_whitened_targets():
    """Σ_Y = I to rounding: what is left of it less I has no direction, so γ = 0."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    kernel = np.eye(5, 3) * np.array([1, 0.2, 0.1])
    with jax.enable_x64(True):
        m = moments(np.random.default_rng(1).normal(size=(50, 5)))
    values = regression(m, kernel, turn @ turn.T)
    gram = kernel.T @ kernel
    cosine = np.trace(gram) / np.linalg.norm(gram) / 3**0.5
    assert values.nrc3 == pytest.approx(2 - 2 * cosine) and values.gamma == 0


@pytest.mark.long
def test_regression_under_transformations():
    rng = np.random.default_rng(0)
    kernels = rng.normal(size=(2, 6, 2)).astype(np.float32)
    covariance = np.diag([2.0, 1]).astype(np.float32)
    m = moments(rng.normal(size=(50, 6)).astype(np.float32))
    expected = [regression_collapse(m, kernel, covariance) for kernel in kernels]
    mapped = jax.lax.map(lambda kernel: regression_collapse(m, kernel, covariance), kernels)
    stacked = jax.jit(jax.vmap(regression_collapse, (None, 0, None)))(m, kernels, covariance)
    for i in range(2):
        for many in (mapped, stacked):
            np.testing.assert_allclose([a[i] for a in many], expected[i], rtol=1e-6)


@pytest.mark.long
def test_regression_without_scatter_or_with_many_targets():
    with jax.enable_x64(True):
        constant = moments(np.full((30, 4), 0.1))
        m = moments(np.random.default_rng(0).normal(size=(30, 2)))
    values = regression(constant, np.eye(4, 2), np.eye(2))
    assert np.isnan(values[:2]).all() and np.isfinite(values[2:]).all()
    values = regression(m, np.ones((2, 3)) + np.eye(2, 3), np.eye(3))
    assert values.nrc1 == 0 and values.nrc2 == pytest.approx(0, abs=1e-14)
    assert np.isnan(regression(m, np.zeros((2, 3)), np.eye(3))[2:]).all()
    assert np.isnan(regression(m, np.ones((2, 3)), np.zeros((3, 3)))[2:]).all()


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
    with pytest.raises(ValueError, match=r"m has one sample of classes \[1\]: wanted two"):
        neural_collapse(class_moments(features[:10], labels[:10]))
    with pytest.raises(TypeError, match="m is of float32: wanted float64"):
        neural_collapse(jax.tree.map(np.float32, m))
    with pytest.raises(TypeError, match="m is a ndarray: wanted Moments"):
        regression_collapse(features, kernel, np.eye(4))
    with pytest.raises(ValueError, match="kernel is None: wanted the kernel of the layer"):
        neural_collapse(m, bias=bias)
    with pytest.raises(ValueError, match="predictions has values from 1 to 4: wanted 0 to 3"):
        nc4_mismatch(m, features, labels + 1)
    with pytest.raises(ValueError, match="target_covariance is not symmetric"):
        regression_collapse(m, kernel, np.triu(np.ones((4, 4))))
    with pytest.raises(ValueError, match="target_covariance has the eigenvalue -1: wanted none"):
        regression_collapse(m, kernel, -np.eye(4))
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


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_an_offset_costs_no_digits(offset):
    """Against extended precision, near collapse; never below 0."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), (9, 40, 20, 50))
    features = etf(6, 4).T[labels] + 1e-5 * rng.normal(size=(119, 6)) + offset
    h = np.longdouble(features) - offset
    means = np.stack([h[labels == c].mean(0) for c in range(4)])
    own = [((h[labels == c] - means[c]) ** 2).sum(1).mean() for c in range(4)]
    pairs = [(i, j, ((means[i] - means[j]) ** 2).sum()) for i in range(4) for j in range(i)]
    values = collapse(class_moments(features, labels))
    expected = np.mean([(own[i] + own[j]) / 2 / square for i, j, square in pairs])
    np.testing.assert_allclose(values.cdnv, np.float64(expected), rtol=1e-4)
    pooled = ((h - means[labels]) ** 2).sum(1).mean()
    expected = np.mean([pooled / square for *_, square in pairs])
    np.testing.assert_allclose(values.pooled_cdnv, np.float64(expected), rtol=1e-4)
    within = np.float64((h - means[labels]).T @ (h - means[labels]) / 119)
    a = np.float64((means - means.mean(0)).T)
    np.testing.assert_allclose(
        values.nc1, np.trace(within @ np.linalg.pinv(a @ a.T / 4)) / 4, rtol=1e-4
    )


def test_nothing_is_negative_at_collapse():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat(np.arange(4), (9, 40, 20, 50)))
        features = rng.normal(size=(4, 6))[labels] + 1e8 * (seed % 2)
        values = collapse(class_moments(features, labels))
        for value in values.nc1, values.cdnv, values.pooled_cdnv:
            assert 0 <= value < 1e-13
        with jax.enable_x64(True):
            m = moments(np.eye(4)[labels] @ rng.normal(size=(4, 6)))
        assert (np.array(regression(m, rng.normal(size=(6, 6)), np.eye(6))[:2]) >= 0).all()


def test_the_unit_of_a_kernels_column_does_not_matter():
    rng = np.random.default_rng(0)
    features, kernel = rng.normal(size=(50, 6)), rng.normal(size=(6, 3))
    with jax.enable_x64(True):
        m = moments(features)
    expected = regression(m, kernel, np.eye(3)).nrc2
    for units in ([1, 1e-9, 1], [1e-300, 1e9, 1e200]):
        np.testing.assert_allclose(
            regression(m, kernel * units, np.eye(3)).nrc2, expected, rtol=1e-12
        )


@pytest.mark.parametrize("condition", [1, 1e2, 1e4])
def test_directions_and_their_duals(condition):
    """To rounding, although UᵀU is I to 1e-8 only at a condition number of 1e4."""
    left, right = (np.linalg.qr(np.random.default_rng(n).normal(size=(n, 5)))[0] for n in (8, 5))
    a = left * np.geomspace(1, 1 / condition, 5) @ right.T
    with jax.enable_x64(True):
        basis, dual, _ = map(np.asarray, directions(jnp.asarray(a)))
    np.testing.assert_allclose(basis.T @ dual, np.eye(5), atol=2e-15)
    np.testing.assert_allclose(dual @ basis.T @ a, a, atol=2e-15)


TWO_ONES = np.array([[1.0, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("weight", [1.0, 1e-9])
@pytest.mark.parametrize(
    "rows", [TWO_ONES, 0.7 * np.eye(3) + 0.1, 2 * np.eye(3), 1 - np.eye(3), np.eye(3)[:, :2]]
)
def test_targets_that_are_not_one_hot(rows, weight):
    targets = np.tile(rows, (10, 1))
    features = np.random.default_rng(0).normal(size=(len(targets), 4))
    with jax.enable_x64(True):
        m = moments(features, targets, weights=np.full(len(targets), weight))
        with pytest.raises(ValueError, match="m has targets that are not one-hot"):
            neural_collapse(m)
        for value in jax.jit(neural_collapse)(m)[:4]:
            assert np.isnan(value)
        predictions = np.zeros(len(targets), int)
        assert np.isnan(jax.jit(nc4_mismatch)(m, features, predictions))


@pytest.mark.parametrize("by_class", [False, True])
def test_constant_features_and_offsets_leave_targets_one_hot(by_class):
    labels = np.arange(60) % 3
    features = np.random.default_rng(0).normal(size=(60, 5)) + 4 * np.eye(5)[labels]
    features[:, 4] = 0.3
    features[:, 3] += 1e7
    features[:, 2] *= 1e-130
    targets = np.eye(3)[labels]
    with jax.enable_x64(True):
        m = summed_by_class(features, labels, 3) if by_class else moments(features, targets)
        found, compiled = neural_collapse(m), jax.jit(neural_collapse)(m)
    for value, other in zip(found[:4], compiled[:4], strict=True):
        np.testing.assert_allclose(other, value, rtol=1e-9)
        assert np.isfinite(value)


def test_regression_of_a_covariance_in_half_precision():
    rng = np.random.default_rng(0)
    m, kernel = moments(rng.normal(size=(9, 4))), rng.normal(size=(4, 3))
    covariance = np.float16(np.cov(rng.normal(size=(3, 9))))
    expected = regression_collapse(m, kernel, covariance.astype(float))
    assert regression_collapse(m, kernel, covariance) == expected
