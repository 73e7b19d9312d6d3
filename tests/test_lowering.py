"""Every metric and the measuring pass lower for TPU and CUDA; no such device is needed for that."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gramlin_jax
from gramlin_jax import (
    METRICS,
    LayerSums,
    Probe,
    coordinate_check,
    gradient_moments,
    measure,
    metrics,
)
from gramlin_jax._measure import run
from gramlin_jax._moments.jacobians import jacobian_moments
from gramlin_jax.metrics.gram import _polar_by_halley
from gramlin_jax.optim import gram_only
from gramlin_jax.rainbow import Layer, pair_moments

pytestmark = pytest.mark.devices

PLATFORMS = ("tpu", "cuda")
RNG = np.random.default_rng(0)
D, C, N = 6, 3, 40
X, Z = (jnp.asarray(RNG.normal(size=(N, D)), jnp.float32) for _ in range(2))
LABELS = jnp.arange(N) % C
Y = jax.nn.one_hot(LABELS, C)
PARAMS = {"in": X[:D] * 0.3, "out": X[:D, :C] * 0.3}
WIDE = jnp.asarray(RNG.normal(size=(40, 50)))
KERNEL, SQUARE, KEY = PARAMS["out"], PARAMS["in"], jax.random.key(0)


def network(params, x):
    return jnp.tanh(x @ params["in"]) @ params["out"]


def loss(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def lowered(function, *args):
    """The dtypes that a function returns, traced once and lowered for both platforms."""
    traced = jax.jit(function).trace(*args)
    for platform in PLATFORMS:
        assert traced.lower(lowering_platforms=(platform,)).as_text()
    return {np.dtype(out.dtype) for out in jax.tree.leaves(traced.out_info)}


M = gramlin_jax.moments(X, Y)
PAIR = gramlin_jax.moments(X, Z, pair=True)
OF_LAYERS = gramlin_jax.gradient_moments(network, PARAMS, X, loss=lambda out: loss(out, LABELS))
GRADIENTS, SQUARE_GRADIENTS = OF_LAYERS["out"], OF_LAYERS["in"]
JACOBIANS = jacobian_moments(network, PARAMS, X)["in"]
J = JACOBIANS.mean
VALUES = jnp.linspace(1.0, 2.0, 12)
TAP = gramlin_jax.tap(network)(PARAMS, X)[1]["out"]
ARGUMENTS = {
    "agop": (SQUARE, J),
    "alignment": (PAIR,),
    "alignment_null": (KEY, J, J),
    "alignment_r2": (PAIR,),
    "ansatz_exponent": (SQUARE, J),
    "attention_entropy": (gramlin_jax.AttentionMoments(VALUES, VALUES),),
    "cka": (PAIR,),
    "dead_units": (GRADIENTS,),
    "debiased_isotropy": (JACOBIANS,),
    "effective_rank": (VALUES,),
    "eigenvector_stability": (SQUARE, SQUARE, SQUARE, 2),
    "fact": (KERNEL, GRADIENTS, 0.1),
    "fact_null": (KEY, KERNEL, GRADIENTS),
    "feature_learning_sides": (TAP, Y),
    "feature_rank": (M,),
    "gram_change": (KERNEL, KERNEL),
    "gram_only_step": (KERNEL, KERNEL),
    "heldout_alignment": (PAIR, PAIR),
    "heldout_target_linearity": (M, M),
    "input_gradients": (KERNEL, Y),
    "gradient_noise": (dataclasses.replace(GRADIENTS, square_sum=jnp.float32(10)),),
    "isotropy": (J, SQUARE),
    "ky_fan_ratio": (SQUARE, J, 2),
    "least_squares": (M,),
    "marchenko_pastur_density": (VALUES, 20, 12),
    "marchenko_pastur_edges": (20, 12, VALUES[0]),
    "nc4_mismatch": (M, X, LABELS),
    "neural_collapse": (M, KERNEL),
    "nfa_correlation": (SQUARE, J),
    "noise_floor": (M,),
    "participation_ratio": (VALUES,),
    "polar_factor": (KERNEL,),
    "power_law_exponent": (VALUES,),
    "procrustes": (PAIR,),
    "regression_collapse": (M, KERNEL, jnp.eye(C)),
    "relative_feature_change": (M, KERNEL, GRADIENTS, 0.1),
    "relative_update": (KERNEL, GRADIENTS, 0.1),
    "replaced_kernel": (KEY, KERNEL, "rotated"),
    "representation_alignments": (M, KERNEL, GRADIENTS),
    "rotation_null": (KEY, SQUARE, J),
    "significant_components": (WIDE,),
    "singular_overlaps": (SQUARE, J),
    "spectral_entropy": (VALUES,),
    "spectrum": (KERNEL,),
    "stable_rank": (VALUES,),
    "stationarity_identities": (KERNEL, GRADIENTS, 0.1),
    "surrogate": (M, KERNEL),
    "target_linearity": (M,),
    "target_linearity_adjusted": (M,),
    "virtual_alignment": (J, J),
    "virtual_covariance": (KERNEL, GRADIENTS, 0.1),
    "virtual_covariance_of": (X, Z, 0.1),
    "virtual_update": (X, Z, 0.1),
    "weight_gram": (KERNEL,),
}

ON_HOST = {"separation_law"}  # of a few numbers


def is_array(argument):
    return not isinstance(argument, (int, float, str))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_metrics_lower(name):
    arguments, function = ARGUMENTS[name], getattr(metrics, name)
    arrays = [argument for argument in arguments if is_array(argument)]

    def of_arrays(*given):
        rest = iter(given)
        return function(*(next(rest) if is_array(a) else a for a in arguments))

    lowered(of_arrays, *arrays)


def test_no_metric_is_left_out():
    functions = {n for n in metrics.__all__ if inspect.isfunction(getattr(metrics, n))}
    assert functions - ON_HOST == set(ARGUMENTS)


def test_wide_features_lower():
    """JAX's own eigh on a TPU is another from 257 rows on, and would fail in float64."""
    wide = gramlin_jax.moments(jnp.ones((3, 300)), Y[:3])
    lowered(gramlin_jax.target_linearity, wide)


@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (7, 7)])
def test_a_tpu_finds_the_same_rotation(shape):
    """Its method in the place of the SVD, run here."""
    a = RNG.normal(size=shape)
    u, _, vt = np.linalg.svd(a, full_matrices=False)
    with jax.enable_x64(True):
        np.testing.assert_allclose(_polar_by_halley(jnp.asarray(a)), u @ vt, atol=1e-14)


def test_the_metrics_of_measure_lower():
    """In float64: what reaches the compiler is not cut to float32."""
    sums = LayerSums(M, SQUARE, SQUARE_GRADIENTS, JACOBIANS, 0.01, True, True)
    found = lowered(lambda sums: [metric(sums) for metric in METRICS.values()], sums)
    assert found == {np.dtype("float64")}


class Reached(Exception):
    """The compiled sums were called; what they give is not wanted."""


def test_the_pass_of_measure_lowers(monkeypatch):
    """The sums as ``measure`` calls them, for all needs together."""
    found, original = [], run.summing

    def summing(*args):
        def sums(*arrays):
            text = original(*args).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
            assert "dot_general" in text and "DEFAULT" not in text
            found.append(lowered(original(*args), *arrays))
            raise Reached

        return sums

    monkeypatch.setattr(run, "summing", summing)
    with pytest.raises(Reached):
        measure(network, PARAMS, (X, LABELS), loss=loss, metrics=tuple(METRICS), probes=2)
    assert np.dtype("float64") in found[0]


def of_gradients(params, x):
    return gradient_moments(network, params, x, loss=lambda out: loss(out, LABELS))


def of_jacobians(params, x):
    return jacobian_moments(network, params, x)


def of_pairs(params, x):
    layers = [Layer(params["in"]), Layer(params["out"])]
    return pair_moments(layers, layers, x)


@pytest.mark.parametrize("sums", [of_gradients, of_jacobians, of_pairs])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_product_is_rounded_further_on_an_accelerator(sums, platform):
    """By default a GPU keeps 10 bits of float32 factors, and a TPU 7: those of the network, too."""
    text = _text(sums, platform)
    assert "dot_general" in text and "DEFAULT" not in text
    with jax.default_matmul_precision("default"):
        assert "DEFAULT" in _text(sums, platform), "as the user says"


def _text(function, platform):
    lowering = jax.jit(lambda *arrays: function(*arrays)).trace(PARAMS, X)
    return lowering.lower(lowering_platforms=(platform,)).as_text()


def whole_pass(f):
    measure(f, PARAMS, (X, LABELS), loss=loss)


def check_of_widths(f):
    triple = (f, PARAMS, optax.sgd(0.1))
    coordinate_check(lambda width, key: triple, (1, 2), (X, LABELS), loss, seeds=2)


@pytest.mark.parametrize("run", [whole_pass, check_of_widths])
def test_what_runs_the_network_by_itself_rounds_no_product_further(run):
    seen = []

    def watched(params, x):
        seen.append(jax.config.jax_default_matmul_precision)
        return network(params, x)

    run(watched)
    assert set(seen) == {"highest"}
    assert jax.config.jax_default_matmul_precision is None
    with jax.default_matmul_precision("tensorfloat32"):
        run(watched)
    assert seen[-1] == "tensorfloat32", "as the user says"


def with_logits(params, batch):
    logits = network(params, batch[0])
    return loss(logits, batch[1]), logits


def test_steps_of_training_lower():
    probe = Probe(with_logits, lambda batch: batch[1], has_aux=True)
    state = probe.init(PARAMS, (X, LABELS))
    lowered(probe.value_and_grad, PARAMS, (X, LABELS), state)
    optimizer, params = gram_only(optax.sgd(0.1)), {"layer": {"kernel": KERNEL}}
    lowered(optimizer.update, params, optimizer.init(params), params)
