"""The metrics of ``measure`` that no other test holds against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gramlin_jax import METRICS, LayerSums, measure, moments
from gramlin_jax.metrics.registry import chosen_metrics

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5)).astype(np.float32)
Y = RNG.normal(size=(90, 3)).astype(np.float32)
PARAMS = {
    name: RNG.normal(size=s).astype(np.float32) for name, s in (("in", (5, 4)), ("out", (4, 3)))
}


def network(params, x):
    return jnp.tanh(x @ params["in"]) @ params["out"]


def squares(out, y):
    return ((out - y) ** 2).sum(-1).mean()


def by_definition(layer, learning_rate):
    """Share and alignment from the rows of all samples, in float64."""
    params = {name: np.float64(kernel) for name, kernel in PARAMS.items()}
    x, y = np.float64(X), np.float64(Y)
    hidden = np.tanh(x @ params["in"])
    of_out = 2 * (hidden @ params["out"] - y) / len(x)  # Δ = ∂L/∂z
    of_in = of_out @ params["out"].T * (1 - hidden**2)
    rows, delta = {"in": (x, of_in), "out": (hidden, of_out)}[layer]
    kernel = params[layer]
    moved = rows - learning_rate * delta @ kernel.T
    virtual = moved.T @ moved - rows.T @ rows
    after = kernel - learning_rate * rows.T @ delta
    change = after @ after.T - kernel @ kernel.T
    norm = np.linalg.norm
    return {
        "virtual_share": norm(virtual) / norm(kernel @ kernel.T),
        "virtual_alignment": (change * virtual).sum() / (norm(change) * norm(virtual)),
    }


@pytest.mark.parametrize("learning_rate", [0.01, 0.3])
@pytest.mark.parametrize("layer", ["in", "out"])
def test_virtual_metrics_are_their_definition(layer, learning_rate):
    """At a large step the change of the Gram and the virtual covariance part: η² terms differ."""
    m = measure(network, PARAMS, (X, Y), loss=squares, learning_rate=learning_rate, batch_size=40)
    for name, expected in by_definition(layer, learning_rate).items():
        np.testing.assert_allclose(m[layer][name], expected, rtol=2e-5, err_msg=name)


def test_targets_with_nan_have_no_rank():
    """As under jit they may have; a column of NaN did not count, as one that is constant."""
    targets = np.where(np.arange(90)[:, None] == [7, -1, -1], np.nan, Y)
    layers = [LayerSums(jax.jit(moments)(X, y), None, None, None, 0.1) for y in (targets, Y)]
    assert np.array_equal([METRICS["target_rank"](one) for one in layers], [np.nan, 3], True)


@pytest.mark.parametrize("scale", [1, 1e-18])
def test_a_step_that_the_kernel_would_round_away_is_aligned(scale):
    """To first order the two are one, however small the step."""

    def loss(out, y):
        return scale * squares(out, y)

    m = measure(network, PARAMS, (X, Y), loss=loss, learning_rate=1e-20 / scale, batch_size=40)
    np.testing.assert_allclose([m[layer]["virtual_alignment"] for layer in m], 1, rtol=1e-12)


def test_the_definition_depends_on_the_learning_rate():
    """Else the test above would hold for a measure that ignores it."""
    small, large = (by_definition("out", rate) for rate in (0.01, 0.3))
    assert large["virtual_share"] > 10 * small["virtual_share"]
    assert large["virtual_alignment"] < small["virtual_alignment"] - 1e-3


def cross_entropy(out, y):
    return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()


@pytest.mark.parametrize(
    "wrong", [(-1,), (-100,), (3,), (-1, 3), (-1, 1), (-100, 100), (-1, 3, -2)]
)
@pytest.mark.parametrize("together", [True, False])
def test_labels_outside_of_the_classes_are_refused(wrong, together):
    """In one batch or in several, and if their sum or their number of hits is that of good ones."""
    y = np.random.default_rng(1).integers(0, 3, 90)
    y[: len(wrong)] = wrong
    y = y if together else y[np.arange(90) * 37 % 90]
    bad = np.isin(y, (0, 1, 2), invert=True)
    # Batches have 30 samples; those of the first are refused before the pass.
    counted = bad[:30] if bad[:30].any() else bad
    message = rf"^y has {counted.sum()} labels of {len(counted)} that name none"
    with pytest.raises(ValueError, match=message):
        measure(network, PARAMS, (X, y), loss=cross_entropy, batch_size=40)


def test_a_class_without_samples_is_allowed():
    """In batches of other sizes, which count by their samples."""
    y = np.random.default_rng(1).integers(0, 2, 90)
    batches = [(X[:7], y[:7]), (X[7:], y[7:])]
    m = measure(network, PARAMS, batches, loss=cross_entropy, metrics=["kernel_norm"])
    logits = np.tanh(np.float64(X) @ PARAMS["in"]) @ PARAMS["out"]
    np.testing.assert_allclose(m.accuracy, np.mean(logits.argmax(1) == y))
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(90), y]
    np.testing.assert_allclose(m.loss, losses.mean(), rtol=1e-6)


NO_NC1 = {
    "no sample of classes [2]: wanted two of each or more": (X, np.arange(90) % 2),
    "one sample of classes [2]: wanted two of each or more, since": (
        X,
        np.r_[np.arange(89) % 2, 2],
    ),
    "the class means coincide": (np.tile(X[:3], (30, 1)), np.repeat(np.arange(3), 30)),
    "the features hold NaN": (np.r_[X[:1] * np.nan, X[1:]], np.arange(90) % 3),
}


@pytest.mark.parametrize("reason", NO_NC1)
def test_nc1_that_is_not_defined_has_a_reason(reason):
    options = {"loss": cross_entropy, "metrics": ["nc1"], "layers": ["in"]}
    found = measure(network, PARAMS, NO_NC1[reason], **options)
    assert np.isnan(found["in"]["nc1"])
    assert dict(found.notes)["in"].startswith(f"NC1 is not defined: {reason}")
    defined = measure(network, PARAMS, (X, np.arange(90) % 3), **options)
    assert defined["in"]["nc1"] > 0 and not defined.notes
    assert not measure(network, PARAMS, (X, Y), **options | {"loss": squares}).notes


def of_samples(x, y, rows):
    """tr Cov/‖mean‖² of the gradients of single samples, by autodiff for each, layer by layer."""
    gradient = jax.grad(lambda params, x, y: squares(rows(params, x[None]), y[None]))
    each = jax.vmap(gradient, (None, 0, 0))(PARAMS, x, y)
    found = {}
    for name, g in each.items():
        g = np.float64(g).reshape(len(x), -1)
        found[name] = g.var(0, ddof=1).sum() / (g.mean(0) ** 2).sum()
    return found


# Of 36 decades, in no order.
MIXED = 10.0 ** np.random.default_rng(4).permutation(np.linspace(-18, 18, 90))[:, None]


def pooled(params, x):
    """Several tokens a sample, so that its gradient is a sum."""
    return network(params, x).mean(1)


@pytest.mark.parametrize("f", [network, pooled])
def test_gradient_noise_is_the_variance_between_samples(f):
    x = X if f is network else np.stack([X, 2 * X[::-1], X - 1], 1)
    options = {"loss": squares, "metrics": ["gradient_noise"], "batch_size": 40}
    found = measure(f, PARAMS, (x, Y), **options)
    for name, expected in of_samples(x, Y, f).items():
        np.testing.assert_allclose(found[name]["gradient_noise"], expected, rtol=1e-4)


@pytest.mark.parametrize("sizes", [1e-22, 1e19, MIXED])
def test_gradient_noise_of_features_of_any_scale(sizes):
    """At a kernel of zeros gradients are −2xyᵀ: the sizes of x and y cancel in each of them."""
    x, y = np.float32(X * sizes), np.float32(Y / sizes if np.ndim(sizes) else Y)
    options = {"loss": squares, "metrics": ["gradient_noise"], "batch_size": 40}
    found = measure(lambda params, x: x @ params["k"], {"k": np.zeros((5, 3))}, (x, y), **options)
    each = (X[:, :, None] * Y[:, None]).astype(float)
    expected = each.var(0, ddof=1).sum() / (each.mean(0) ** 2).sum()
    np.testing.assert_allclose(found["k"]["gradient_noise"], expected, rtol=1e-4)


def test_names_of_metrics_may_be_read_once_only():
    assert chosen_metrics(iter(["nfa", "fact"])) == chosen_metrics(["nfa", "fact"]) != ()
