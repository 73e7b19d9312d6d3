"""What metrics do with numbers and arrays of unusual kinds: the answer, or an error with a name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import (
    GradientMoments,
    JacobianMoments,
    alignment_null,
    covariance_step,
    debiased_isotropy,
    effective_rank,
    fact,
    fact_null,
    half_time,
    input_gradients,
    marchenko_pastur_density,
    marchenko_pastur_edges,
    mode_strength,
    moments,
    nc4_mismatch,
    nfa_correlation,
    participation_ratio,
    polar_factor,
    power_law_exponent,
    relative_feature_change,
    relative_update,
    representation_alignments,
    separation_law,
    significant_components,
    singular_overlaps,
    spectral_entropy,
    spectrum,
    stationarity_identities,
    target_linearity,
    virtual_alignment,
    virtual_covariance,
)
from gramlin_jax.metrics import least_squares
from gramlin_jax.rainbow import sample_kernel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
KERNEL = RNG.normal(size=(3, 3))
M = moments(X, X[:, :2] ** 2)
GRADIENTS = GradientMoments(np.float64(4), RNG.normal(size=(3, 3)), np.eye(3), np.float64(9))
LABELS = moments(np.array([[0.0], [1], [9], [10]]), np.repeat(np.eye(2), 2, 0))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def share():
    """A number of JAX's, whose comparisons are traced under jit."""
    return jnp.float32(0.25)


KNOWN = {
    "weight_decay": lambda a, s: fact(KERNEL, GRADIENTS, s).predicted,
    "weight_decay of identities": lambda a, s: stationarity_identities(KERNEL, GRADIENTS, s),
    "tolerance": lambda a, s: polar_factor(KERNEL, tolerance=s),
    "power": lambda a, s: nfa_correlation(KERNEL, np.eye(3), power=s),
    "rtol": lambda a, s: target_linearity(M, rtol=s),
    "ridge": lambda a, s: least_squares(M, ridge=s),
    "level": lambda a, s: significant_components(np.eye(9), s)[1:],
    "learning_rate": lambda a, s: covariance_step([KERNEL], np.eye(3), np.eye(3), s),
    "variance": lambda a, s: marchenko_pastur_edges(4, 2, s),
    "eigenvalues": lambda a, s: effective_rank(a),
    "predictions": lambda a, s: nc4_mismatch(LABELS, X[:2, :1], jnp.arange(2)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_numbers_of_jax_are_known_under_jit(name, share):
    """As Python's numbers are; their comparison was an error of JAX's."""
    with jax.enable_x64(True):
        values = jnp.array([1.0, 2, 3])
    compiled = jax.jit(lambda one: jax.tree.map(lambda a: one * a, KNOWN[name](values, share)))
    with jax.enable_x64(True):
        found, wanted = compiled(jnp.float64(1)), KNOWN[name](np.array([1.0, 2, 3]), 0.25)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, wanted)


def test_known_jacobian_moments_under_jit():
    with jax.enable_x64(True):
        m = jax.tree.map(jnp.asarray, JacobianMoments(4.0, np.diag([4.0, 8]), np.float64(30)))
        compiled = jax.jit(lambda one: one * debiased_isotropy(m).cosine_squared)
        np.testing.assert_allclose(compiled(1.0), debiased_isotropy(m).cosine_squared, rtol=1e-12)


@pytest.mark.parametrize("name", ["power", "tolerance", "level"])
def test_numbers_that_decide_on_the_program_cannot_be_traced(name):
    with pytest.raises(ValueError, match=f"{name} is traced, as under jit: wanted a Python number"):
        jax.jit(lambda s: KNOWN[name](None, s))(0.25)


def test_complex_numbers_are_refused():
    """Some lost their imaginary part, and others made a ratio complex."""
    z = 0.1 + 1j
    for call, error, message in (
        (
            lambda: relative_update(KERNEL, GRADIENTS, z),
            ValueError,
            "learning_rate is .*: wanted a r",
        ),
        (
            lambda: covariance_step([KERNEL], KERNEL, KERNEL, z),
            ValueError,
            "learning_rate is .*real",
        ),
        (
            lambda: fact(KERNEL, GRADIENTS, z),
            ValueError,
            "weight_decay is .*: wanted a real number",
        ),
        (lambda: target_linearity(M, rtol=z), ValueError, "rtol is .*: wanted a real number"),
        (
            lambda: mode_strength(np.array([z]), 2.0, 0.1),
            TypeError,
            "t has dtype complex128: wanted",
        ),
        (
            lambda: half_time(1.0, 0.1, z),
            TypeError,
            "tau has dtype complex128: wanted real numbers",
        ),
        (
            lambda: marchenko_pastur_density(np.array([z]), 4, 2),
            TypeError,
            "x has dtype complex128",
        ),
        (lambda: marchenko_pastur_edges(4, 2, z), TypeError, "variance has dtype complex128"),
        (
            lambda: separation_law(np.array([8, 4, z])),
            TypeError,
            "nc1 has dtype complex128: wanted",
        ),
        (
            lambda: moments(X + 1j),
            TypeError,
            "features has dtype complex128: wanted floating point",
        ),
        (
            lambda: nfa_correlation(KERNEL + 1j, np.eye(3), kernel_init=KERNEL),
            TypeError,
            "kernel has dtype complex128: wanted floating point",
        ),
    ):
        with pytest.raises(error, match=message):
            call()


def test_masked_entries_are_refused_and_plain_masked_arrays_read():
    """Numbers under a mask were read as if they were there."""
    mask = np.eye(3, dtype=bool)[2]
    for name, call in {
        "features": lambda: moments(np.ma.masked_array(X, X > 1)),
        "kernel": lambda: spectrum(np.ma.masked_array(KERNEL, KERNEL > 0)),
        "nc1": lambda: separation_law(np.ma.masked_array([8.0, 4, 100], mask)),
        "t": lambda: mode_strength(np.ma.masked_array([1.0, 2, 3], mask), 2.0, 0.1),
        "x": lambda: marchenko_pastur_density(np.ma.masked_array([1.0, 2, 3], mask), 4, 2),
        "predictions": lambda: nc4_mismatch(LABELS, X[:3, :1], np.ma.masked_array([0, 1, 1], mask)),
    }.items():
        with pytest.raises(ValueError, match=f"{name} has masked entries: wanted plain arrays"):
            call()
    assert moments(np.ma.masked_array(X)) == moments(X)


def test_what_is_no_number_is_named():
    for call, message in (
        (lambda: mode_strength("ten", 2.0, 0.1), "t is of str: wanted an array of real numbers"),
        (lambda: mode_strength(1.0, 2.0, 0.1, None), "tau is of NoneType: wanted an array of real"),
        (
            lambda: marchenko_pastur_edges(4, 2, "ten"),
            "variance is of str: wanted an array of real",
        ),
        (lambda: marchenko_pastur_density(None, 4, 2), "x is of NoneType: wanted an array of real"),
        (
            lambda: nfa_correlation(np.array([[5, 1], [0, 2]]), np.eye(2), kernel_init=np.eye(2)),
            "kernel has dtype int64: wanted floating point",
        ),
    ):
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(ValueError, match="nc1 is traced, as under jit: wanted real arrays"):
        jax.jit(lambda a: separation_law(a)[0])(jnp.arange(1.0, 4))


def test_nan_is_an_answer_where_jax_looks_for_nan():
    """With its reason, where there is one; JAX's error came in its place."""
    with jax.debug_nans(True), jax.debug_infs(True):
        with pytest.warns(RuntimeWarning, match="none of the 1 target columns varies"):
            assert np.isnan(target_linearity(moments(X, np.ones((20, 1)))))
        overlaps = singular_overlaps(np.diag([3.0, 1, 0]), np.diag([3.0, 2, 1]))
        np.testing.assert_allclose(overlaps, [1, 1, np.nan], atol=1e-12)
        assert np.isnan(power_law_exponent(np.ones(20)).exponent)
        assert np.isnan(spectral_entropy(np.ones(1)))
        with pytest.raises(FloatingPointError):
            jnp.zeros(1) / 0


def test_lists_are_arrays():
    """Without a warning, which here is an error; JAX is about to refuse the shape of a list."""
    kernel = KERNEL.tolist()
    for function, arguments in (
        (participation_ratio, ([2.0, 2.0, 0.0],)),
        (spectral_entropy, ([2.0, 1.0],)),
        (virtual_alignment, (kernel, np.eye(3).tolist())),
        (input_gradients, (kernel, kernel)),
        (lambda k, j: nfa_correlation(k, j, kernel_init=j), (kernel, np.eye(3).tolist())),
        (lambda a, b: alignment_null(KEY, a, b, 2), (np.eye(3).tolist(), np.eye(3).tolist())),
    ):
        arrays = function(*map(np.asarray, arguments))
        np.testing.assert_array_equal(function(*arguments), arrays)


def test_empty_kernels_are_named():
    kernel, wide = np.zeros((0, 3)), np.zeros((3, 0))
    gradients = GradientMoments(np.float64(4), kernel, np.eye(3))
    of_wide = GradientMoments(np.float64(4), wide, np.zeros((0, 0)))
    for call in (
        lambda: fact(kernel, gradients, 0.1),
        lambda: stationarity_identities(kernel, gradients, 0.1),
        lambda: fact_null(KEY, kernel, gradients),
        lambda: relative_update(kernel, gradients, 0.1),
        lambda: relative_feature_change(M, wide, of_wide, 0.1),
        lambda: representation_alignments(M, wide, of_wide),
        lambda: sample_kernel(KEY, wide, 3),  # NaN, without a word
    ):
        with pytest.raises(ValueError, match=r"kernel has shape \(.*\): wanted no empty axis"):
            call()
    with pytest.raises(ValueError, match=r"gram_change has shape \(0, 0\): wanted no empty axis"):
        virtual_alignment(np.zeros((0, 0)), np.zeros((0, 0)))


def test_a_step_uphill_is_as_large_as_one_downhill():
    """Sizes are 0 or more, whatever the sign of the learning rate."""
    up, down = (relative_update(KERNEL, GRADIENTS, rate) for rate in (-0.1, 0.1))
    assert up == down > 0
    up, down = (relative_feature_change(M, KERNEL, GRADIENTS, rate) for rate in (-0.1, 0.1))
    assert up == down > 0
    covariance = virtual_covariance(KERNEL, GRADIENTS, -0.1)
    assert not np.allclose(covariance, virtual_covariance(KERNEL, GRADIENTS, 0.1))
