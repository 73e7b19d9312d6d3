"""Derivatives of every metric against central differences, also where it is degenerate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gramlin_jax
from gramlin_jax import GradientMoments, JacobianMoments, metrics, moments
from gramlin_jax.metrics import (
    ansatz_exponent,
    effective_rank,
    feature_rank,
    isotropy,
    ky_fan_ratio,
    least_squares,
    neural_collapse,
    nfa_correlation,
    polar_factor,
    power_law_exponent,
    spectrum,
    stable_rank,
    target_linearity,
)
from gramlin_jax.metrics.layer_sums import LayerSums
from gramlin_jax.support.precision import in_float64

pytestmark = pytest.mark.derivatives

N, D, OUT, K = 30, 5, 4, 3
RNG = np.random.default_rng(0)
H = RNG.normal(size=(N, D)) + 0.3
Y = RNG.normal(size=(N, K)) + H[:, :K] ** 2
LABELS = np.eye(K)[np.repeat(np.arange(K), N // K)]
CLASSES = H + 3 * LABELS @ np.eye(K, D)
KERNEL, CLASSIFIER, DELTA = (RNG.normal(size=shape) for shape in ((D, OUT), (D, K), (N, OUT)))
NEAR = KERNEL + 0.1 * RNG.normal(size=KERNEL.shape)
EIGENVALUES = RNG.exponential(size=9)
BULK = RNG.normal(size=(9, 12))
TAIL = (np.arange(60) + 0.5) ** -0.5 * np.exp(0.01 * RNG.normal(size=60))
KEY = jax.random.key(0)


def second_moment(a):
    return a.T @ a / len(a)


J = second_moment(RNG.normal(size=(9, OUT)))
TURN = np.linalg.qr(RNG.normal(size=(D, D)))[0]


def flat(tree):
    return jnp.concatenate([jnp.ravel(jnp.asarray(a)) for a in jax.tree.leaves(tree)])


def of_gradients(x, delta):
    """Gradient moments of a loss Σ⟨δ, xK⟩/n."""
    squares = ((x**2).sum(1) * (delta**2).sum(1)).sum()
    return GradientMoments(jnp.asarray(float(N)), x.T @ delta, delta.T @ delta, squares)


def of_jacobians(delta):
    squares = ((delta**2).sum(1) ** 2).sum()
    return JacobianMoments(jnp.asarray(float(N)), delta.T @ delta, squares)


def halves(f):
    return lambda h, y: f(moments(h[:20], y[:20]), moments(h[20:], y[20:]))


def of_moments(f, **options):
    return lambda h, y: f(moments(h, y, pair=f is metrics.cka), **options)


CASES = {
    "target_linearity": (of_moments(target_linearity), H, Y),
    "without_intercept": (of_moments(target_linearity, intercept=False), H, Y),
    "target_linearity_adjusted": (of_moments(metrics.target_linearity_adjusted), H, Y),
    "noise_floor": (of_moments(metrics.noise_floor), H, Y),
    "heldout_target_linearity": (halves(metrics.heldout_target_linearity), H, Y),
    "least_squares": (lambda h, y: flat(least_squares(moments(h, y))[:2]), H, Y),
    "ridge": (lambda h, y, r: flat(least_squares(moments(h, y), ridge=r)), H, Y, np.float64(0.5)),
    "surrogate": (
        lambda h, y, k: metrics.surrogate(moments(h, y), k, normalized=True),
        H,
        Y,
        KERNEL,
    ),
    "neural_collapse": (
        lambda h, k: flat(neural_collapse(moments(h, LABELS.astype(h.dtype)), k)),
        CLASSES,
        CLASSIFIER,
    ),
    "regression_collapse": (
        lambda h, k: flat(metrics.regression_collapse(moments(h), k, np.diag([1.0, 2, 3]))),
        H,
        CLASSIFIER,
    ),
    "weight_gram": (metrics.weight_gram, KERNEL),
    "polar_factor": (polar_factor, KERNEL),
    "polar_factor_svd": (lambda a: polar_factor(a, method="svd"), KERNEL.T),
    "gram_only_step": (metrics.gram_only_step, KERNEL, NEAR),
    "gram_only_step_wide": (metrics.gram_only_step, KERNEL[:2], NEAR[:2]),
    "virtual_covariance": (
        lambda k, x, delta: metrics.virtual_covariance(k, of_gradients(x, delta), 0.1),
        KERNEL,
        H,
        DELTA,
    ),
    "virtual_covariance_of": (lambda x, g: metrics.virtual_covariance_of(x, g, 0.1), H, H[::-1]),
    "virtual_update": (lambda x, g: metrics.virtual_update(x, g, 0.1), H, H[::-1]),
    "input_gradients": (metrics.input_gradients, KERNEL, DELTA),
    "gram_change": (metrics.gram_change, KERNEL, NEAR),
    "virtual_alignment": (metrics.virtual_alignment, J, second_moment(NEAR)),
    "agop": (metrics.agop, KERNEL, J),
    "nfa_correlation": (nfa_correlation, KERNEL, J),
    "nfa_of_a_power": (lambda k, j: nfa_correlation(k, j, power=0.5), KERNEL, J),
    "nfa_wide": (nfa_correlation, KERNEL[:2], J),
    "nfa_pearson": (lambda k, j: nfa_correlation(k, j, power=0.5, kind="pearson"), KERNEL, J),
    "ansatz_exponent": (lambda k, j: flat(ansatz_exponent(k, j)), KERNEL, J),
    "ky_fan_ratio": (lambda k, j: ky_fan_ratio(k, j, 2), KERNEL, J),
    "singular_overlaps": (metrics.singular_overlaps, KERNEL, J),
    "isotropy": (lambda j: flat(isotropy(j)), J),
    "isotropy_of_the_range": (lambda j, k: flat(isotropy(j, k)), J, KERNEL[:2]),
    "debiased_isotropy": (
        lambda d: metrics.debiased_isotropy(of_jacobians(d)).cosine_squared,
        DELTA,
    ),
    "fact": (lambda k, x, d: flat(metrics.fact(k, of_gradients(x, d), 0.1)), KERNEL, H, DELTA),
    "stationarity_identities": (
        lambda k, x, d: flat(metrics.stationarity_identities(k, of_gradients(x, d), 0.1)),
        KERNEL,
        H,
        DELTA,
    ),
    "representation_alignments": (
        lambda h, k, d: flat(metrics.representation_alignments(moments(h), k, of_gradients(h, d))),
        H,
        KERNEL,
        DELTA,
    ),
    "relative_update": (
        lambda k, x, d: metrics.relative_update(k, of_gradients(x, d), 0.1),
        KERNEL,
        H,
        DELTA,
    ),
    "relative_feature_change": (
        lambda h, k, d: metrics.relative_feature_change(moments(h), k, of_gradients(h, d), 0.1),
        H,
        KERNEL,
        DELTA,
    ),
    "gradient_noise": (lambda x, d: metrics.gradient_noise(of_gradients(x, d)), H, DELTA),
    "feature_rank": (lambda h: feature_rank(moments(h)), H),
    "procrustes": (of_moments(metrics.procrustes), H, Y),
    "alignment": (of_moments(metrics.alignment), H, Y),
    "alignment_r2": (of_moments(metrics.alignment_r2), H, Y),
    "heldout_alignment": (halves(metrics.heldout_alignment), H, Y),
    "cka": (of_moments(metrics.cka), H, Y),
    "cka_debiased": (of_moments(metrics.cka, debiased=True), H, Y),
    "eigenvector_stability": (
        lambda a, b: metrics.eigenvector_stability(a, b, np.eye(OUT).astype(a.dtype), 2),
        J,
        second_moment(NEAR),
    ),
    "spectrum": (spectrum, KERNEL),
    "stable_rank": (lambda k: stable_rank(spectrum(k)), KERNEL),
    "participation_ratio": (metrics.participation_ratio, EIGENVALUES),
    "effective_rank": (effective_rank, EIGENVALUES),
    "spectral_entropy": (metrics.spectral_entropy, EIGENVALUES),
    "marchenko_pastur_density": (
        lambda x: metrics.marchenko_pastur_density(x, 40, 10),
        np.array([0.1, 0.5, 1, 5]),
    ),
    "significant_components": (
        lambda k: flat(metrics.significant_components(k)[1:]),
        BULK,
    ),
    "power_law_exponent": (lambda v: power_law_exponent(v).exponent, TAIL),
    "rotation_null": (lambda k, j: flat(metrics.rotation_null(KEY, k, j, 3)[:3]), KERNEL, J),
    "alignment_null": (lambda a: flat(metrics.alignment_null(KEY, a, a + a.T @ a, 3)[:3]), J),
    "fact_null": (
        lambda k, x, d: flat(metrics.fact_null(KEY, k, of_gradients(x, d), 3)[:3]),
        KERNEL,
        H,
        DELTA,
    ),
    "replaced_kernel": (lambda k: metrics.replaced_kernel(KEY, k, "spectrum"), KERNEL),
}
# Those of matrix factors, with a step and transformations of their own.
SECOND = ("without_intercept", "ridge", "nfa_correlation", "feature_rank", "alignment")
WITHOUT = {  # by name, why it is not here
    "nc4_mismatch": "constant almost everywhere",
    "dead_units": "constant almost everywhere",
    "marchenko_pastur_edges": "a polynomial of the variance",
    "feature_learning_sides": "of taps, two products of matrices",
    "attention_entropy": "a quotient",
    "separation_law": "of numbers, by SciPy",
    "SeparationLaw": "a class",
    "LeastSquares": "a class",
}


def test_every_metric_is_here():
    names = {name.removesuffix("_svd") for name in CASES}
    assert set(metrics.__all__) <= names | set(WITHOUT)


def drawn_along(arguments, seed=1):
    """A direction for each argument, symmetric where that is."""
    rng = np.random.default_rng(seed)
    directions = [rng.normal(size=a.shape) * np.abs(a).mean() for a in arguments]
    return [
        (v + v.T) / 2 if a.ndim == 2 and a.shape == a.T.shape and np.allclose(a, a.T) else v
        for a, v in zip(arguments, directions, strict=True)
    ]


def weighted(f, arguments):
    weights = np.random.default_rng(2).normal(size=np.shape(f(*arguments)))
    return in_float64(lambda *args: (weights * f(*args)).sum())


def slope_of(f, arguments, along, step):
    """The derivative along a direction by central differences of fourth order."""

    def at(t):
        return float(f(*(jnp.asarray(a + t * v) for a, v in zip(arguments, along, strict=True))))

    return (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)


def inner(gradients, along):
    return sum(float((np.asarray(g) * v).sum()) for g, v in zip(gradients, along, strict=True))


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_derivatives(name):
    """Forward and reverse mode; in float32, where 64-bit types are off, through ``jit``, too."""
    f, *arguments = CASES[name]
    step = 1e-6 if name == "power_law_exponent" else 2e-4
    along, every = drawn_along(arguments), tuple(range(len(arguments)))
    with jax.enable_x64(True):
        values = [jnp.asarray(a) for a in arguments]
        g = weighted(f, values)
        expected = slope_of(g, arguments, along, step)
        tolerance = {"rtol": 1e-5, "atol": 1e-7}
        forward = jax.jvp(g, values, [jnp.asarray(v) for v in along])[1]
        np.testing.assert_allclose(forward, expected, **tolerance)
        gradients = jax.device_get(jax.grad(g, every)(*values))
        np.testing.assert_allclose(inner(gradients, along), expected, **tolerance)
    narrow = jax.grad(jax.jit(g), every)(*(np.asarray(a, np.float32) for a in arguments))
    size = max(float(abs(a).max()) for a in gradients)
    for a, b in zip(narrow, gradients, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=1e-3 * size + 1e-9)


@pytest.mark.long
@pytest.mark.parametrize("name", SECOND)
def test_transformed_and_second_derivatives(name):
    f, *arguments = CASES[name]
    along, every = drawn_along(arguments), tuple(range(len(arguments)))
    with jax.enable_x64(True):
        values, v = ([jnp.asarray(a) for a in given] for given in (arguments, along))
        g = weighted(f, values)
        gradient = jax.grad(g, every)
        plain = gradient(*values)
        pairs = [jnp.stack([1.01 * a, a]) for a in values]
        for found in (
            jax.jit(gradient)(*values),
            [both[1] for both in jax.vmap(gradient)(*pairs)],
            jax.grad(jax.checkpoint(g), every)(*values),
            jax.vjp(g, *values)[1](jnp.ones(())),
        ):
            for a, b in zip(found, plain, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        product = inner(jax.jvp(gradient, values, v)[1], along)
        expected = slope_of(lambda *a: jax.jvp(g, a, tuple(v))[1], arguments, along, 2e-4)
    np.testing.assert_allclose(product, expected, rtol=1e-5, atol=1e-7)


ORTHOGONAL = TURN[:, :OUT]  # all singular values are equal


@pytest.mark.parametrize(
    ("f", "arguments"),
    [
        (nfa_correlation, (ORTHOGONAL, J)),
        (lambda k, j: nfa_correlation(k, j, kind="pearson"), (ORTHOGONAL, J)),
        (lambda k, j: isotropy(j, k).cosine, (ORTHOGONAL, J)),
        (lambda k, j: ky_fan_ratio(k, j, OUT), (ORTHOGONAL, J)),
        (lambda k: effective_rank(spectrum(k)), (ORTHOGONAL,)),
        (lambda a: polar_factor(a)[0].sum(), (ORTHOGONAL,)),
        (lambda a: polar_factor(a, method="svd")[0].sum(), (ORTHOGONAL,)),
        (lambda a, b: metrics.gram_only_step(a, b)[0].sum(), (ORTHOGONAL, 2 * ORTHOGONAL)),
        (lambda a, b: metrics.gram_only_step(a, b)[0].sum(), (KERNEL, KERNEL)),
        (lambda x: metrics.alignment(moments(x, H @ TURN)), (H,)),
    ],
    ids=[
        "nfa",
        "pearson",
        "isotropy",
        "ky_fan",
        "spectrum",
        "polar",
        "polar_svd",
        "scaled",
        "no_step",
        "alignment",
    ],
)
def test_equal_singular_values(f, arguments):
    """Where these metrics are smooth, though singular vectors are not."""
    along = drawn_along(arguments)
    with jax.enable_x64(True):
        expected = slope_of(f, arguments, along, 2e-4)
        values = [jnp.asarray(a) for a in arguments]
        found = inner(jax.grad(f, tuple(range(len(values))))(*values), along)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_second_derivatives_at_equal_eigenvalues_are_right_or_nan():
    with jax.enable_x64(True):
        f = lambda k: effective_rank(spectrum(k))  # noqa: E731
        along = jnp.asarray(KERNEL)
        product = jax.jvp(jax.grad(f), (jnp.asarray(ORTHOGONAL),), (along,))[1]
        assert np.isnan(product).all()
        # Least squares has no need of eigenvectors: equal ones change nothing.
        q = np.linalg.qr(np.column_stack([np.ones(N), H]))[0][:, 1:]
        g = lambda h: (least_squares(moments(h, Y)).coefficients ** 2).sum()  # noqa: E731
        v = drawn_along([q])
        product = jax.jvp(jax.grad(g), (jnp.asarray(q),), (jnp.asarray(v[0]),))[1]
        expected = slope_of(lambda h: jax.jvp(g, (h,), (jnp.asarray(v[0]),))[1], [q], v, 2e-4)
    np.testing.assert_allclose(inner([product], v), expected, rtol=1e-5)


TWICE = np.column_stack([H, H[:, 0], np.full(N, 0.7), np.zeros(N)])


@pytest.mark.parametrize("intercept", [True, False])
def test_duplicate_and_constant_columns(intercept):
    """Along what keeps the rank: a change of samples that the duplicate shares."""
    along = drawn_along([H])[0]
    kept = np.column_stack([along, along[:, 0], np.zeros((N, 2))])

    def f(h):
        return target_linearity(moments(h, Y), intercept=intercept)

    with jax.enable_x64(True):
        expected = slope_of(f, [TWICE], [kept], 1e-4)
        gradient = jax.grad(f)(jnp.asarray(TWICE))
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(inner([gradient], [kept]), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "f",
    [
        lambda h: feature_rank(moments(h)),
        lambda h: metrics.noise_floor(moments(h)),
        lambda h: target_linearity(moments(h, Y.astype(h.dtype))),
        lambda h: metrics.alignment(moments(Y.astype(h.dtype), h + Y[:, :1].astype(h.dtype))),
        lambda h: effective_rank(spectrum(h + jnp.eye(*h.shape, dtype=h.dtype))),
        lambda k: gramlin_jax.METRICS["kernel_norm"](LayerSums(None, k, None, None, 0.1)),
        lambda k: (
            ansatz_exponent(k[:OUT] + jnp.diag(jnp.arange(1.0, D + 1))[:OUT, :], jnp.eye(D)).alpha
        ),
        lambda k: metrics.relative_update(jnp.ones((D, OUT)), of_gradients(k, DELTA), 0.1),
        lambda k: nfa_correlation(k[:2] + np.eye(2, D), np.eye(D)),
        lambda k: metrics.gram_only_step(k, k).sum(),
        lambda k: metrics.gram_only_step(k, k + jnp.ones((N, D))).sum(),
        lambda k: metrics.gram_only_step(jnp.ones((N, D)), k).sum(),
    ],
)
def test_zeros_and_absent_directions_have_finite_gradients(f):
    """At features or kernels of zeros, or of low rank."""
    with jax.enable_x64(True):
        assert np.isfinite(jax.grad(f)(jnp.zeros((N, D)))).all()


def test_perfect_collapse_has_finite_gradients():
    features = np.repeat(np.eye(K) - 1 / K, N // K, axis=0) @ np.eye(K, D)
    kernel = (np.eye(K) - 1 / K) @ np.eye(K, D)

    def f(h, k):
        return flat(neural_collapse(moments(h, jnp.asarray(LABELS)), k)).sum()

    with jax.enable_x64(True):
        gradients = jax.grad(f, (0, 1))(jnp.asarray(features), jnp.asarray(kernel.T))
    assert all(np.isfinite(g).all() for g in gradients)
