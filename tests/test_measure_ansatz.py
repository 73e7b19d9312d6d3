"""The ansatz and its rivals as metrics of ``measure``, against rows in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import (
    METRICS,
    JacobianMoments,
    LayerSums,
    Measurement,
    agop,
    isotropy,
    measure,
    nfa_correlation,
)
from gramlin_jax._moments.jacobians import fixed_jacobians
from gramlin_jax.metrics.registry import no_ansatz_because
from gramlin_jax.metrics.representation import RepresentationAlignments
from gramlin_jax.taps import capture
from gramlin_jax.taps.compat import type_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 6)).astype(np.float32)
Y = RNG.normal(size=(90, 3)).astype(np.float32)
PARAMS = {
    "in": RNG.normal(size=(6, 4)).astype(np.float32),
    "heads": RNG.normal(size=(2, 2, 5)).astype(np.float32),
    "out": RNG.normal(size=(10, 3)).astype(np.float32),
}
RIVALS = ("fact", *RepresentationAlignments._fields)


def network(params, x):
    """Two heads read two hidden units each."""
    hidden = jnp.tanh(x @ params["in"]).reshape(-1, 2, 2)
    heads = jnp.tanh(jnp.einsum("nhi,hio->nho", hidden, params["heads"]))
    return heads.reshape(-1, 10) @ params["out"]


def squares(out, y):
    return ((out - y) ** 2).sum(-1).mean()


@pytest.fixture(scope="module")
def found():
    metrics = (*RIVALS, "nfa", "isotropy", "range_isotropy", "ansatz_exponent")
    return measure(network, PARAMS, (X, Y), loss=squares, metrics=metrics, batch_size=40)


@pytest.fixture(scope="module")
def rows():
    """By layer the inputs, kernel, ∂L/∂z and ∂f/∂z (n, c, o) of one stack entry, in float64."""
    p = {name: np.float64(kernel) for name, kernel in PARAMS.items()}
    x, y = np.float64(X), np.float64(Y)
    h = np.tanh(x @ p["in"])
    g = np.tanh(np.einsum("nhi,hio->nho", h.reshape(-1, 2, 2), p["heads"]))
    of_g = p["out"].T.reshape(1, 3, 2, 5) * (1 - g**2)[:, None]  # ∂f_c/∂z of the heads
    of_h = np.einsum("ncho,hio->nchi", of_g, p["heads"]).reshape(-1, 3, 4) * (1 - h**2)[:, None]
    error = 2 * (g.reshape(-1, 10) @ p["out"] - y)
    inputs = {"in": x, "heads": h.reshape(-1, 2, 2), "out": g.reshape(-1, 10)}
    jacobians = {"in": of_h, "heads": of_g}
    delta = {name: np.einsum("nc,nc...->n...", error, j) for name, j in jacobians.items()}
    return p, inputs, {**delta, "out": error}, jacobians


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


def test_the_rivals_are_their_definition(found, rows):
    kernels, inputs, delta, _ = rows
    for layer in ("in", "out"):
        kernel, h, d = kernels[layer], inputs[layer], delta[layer]
        g, z = d @ kernel.T, h @ kernel
        before = h.T @ h, g.T @ g, kernel @ kernel.T
        after = z.T @ z, d.T @ d, kernel.T @ kernel
        pairs = [cosine(a, b) for m in (before, after) for a, b in zip(m, m[1:], strict=False)]
        names = "rga_before", "gwa_before", "rga_after", "gwa_after"
        for name, expected in zip(names, pairs, strict=True):
            assert found[layer][name] == pytest.approx(expected, rel=1e-5), name
        for name, m in (("rwa_before", before), ("rwa_after", after)):
            assert found[layer][name] == pytest.approx(cosine(m[0], m[2]), rel=1e-5)
        expected = cosine(kernel @ kernel.T, -kernel @ (h.T @ d).T)
        assert found[layer]["fact"] == pytest.approx(expected, rel=1e-5)


def test_the_ansatz_is_that_of_each_head(found, rows):
    kernels, inputs, delta, jacobians = rows
    of_in = np.einsum("nci,ncj->ij", jacobians["in"], jacobians["in"]) / 90
    assert found["in"]["nfa"] == pytest.approx(float(nfa_correlation(kernels["in"], of_in)))
    assert found["in"]["isotropy"] == pytest.approx(float(isotropy(of_in).cosine))
    of_heads = np.einsum("nchi,nchj->hij", jacobians["heads"], jacobians["heads"]) / 90
    both = [
        cosine(kernel @ kernel.T, np.asarray(agop(kernel, j)))
        for kernel, j in zip(kernels["heads"], of_heads, strict=True)
    ]
    assert found["heads"]["nfa"] == pytest.approx(np.mean(both), rel=1e-5)
    facts = [
        cosine(k @ k.T, -k @ np.einsum("ni,no->oi", inputs["heads"][:, i], delta["heads"][:, i]))
        for i, k in enumerate(kernels["heads"])
    ]
    assert found["heads"]["fact"] == pytest.approx(np.mean(facts), rel=1e-5)


def test_where_the_ansatz_says_nothing_there_is_a_reason(found, tmp_path):
    """The last linear layer has the same J whatever it learns."""
    assert np.isnan(found["out"]["nfa"]) and np.isnan(found["out"]["isotropy"])
    assert dict(found.notes)["out"].endswith("J is the same whatever it learns")
    found.save(tmp_path / "m.npz")
    assert Measurement.load(tmp_path / "m.npz").sums["out"].fixed_jacobian
    assert np.isfinite([found["in"]["nfa"], found["heads"]["range_isotropy"]]).all()


POOLED = lambda p, x: convolved(jnp.tanh(convolved(x, p["a"])), p["b"]).mean((1, 2))  # noqa: E731
TWO = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]  # noqa: E731
KERNELS = {"a": np.ones((6, 4), np.float32), "b": np.ones((4, 3), np.float32)}
IMAGES = {"a": np.ones((3, 3, 2, 4), np.float32), "b": np.ones((3, 3, 4, 3), np.float32)}


def convolved(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(
    ("f", "params", "shape", "outputs", "fixed"),
    [
        (TWO, KERNELS, (5, 6), None, {"b"}),
        (TWO, KERNELS, (5, 6), jax.nn.softmax, set()),
        (TWO, KERNELS, (5, 6), lambda out: out[:, 1:] / 3, {"b"}),
        (TWO, KERNELS, (5, 7, 6), None, {"b"}),
        (lambda p, x: TWO(p, x).mean(1), KERNELS, (5, 7, 6), None, {"b"}),
        (lambda p, x: TWO(p, x) * x.mean(1)[:, None], KERNELS, (5, 6), None, set()),
        (lambda p, x: x @ p["a"] @ p["b"], KERNELS, (5, 6), None, {"b"}),
        (lambda p, x: jax.nn.relu(TWO(p, x)), KERNELS, (5, 6), None, set()),
        (lambda p, x: TWO(p, x) + x @ p["c"], KERNELS | {"c": np.ones((6, 3), np.float32)},
         (5, 6), None, {"b", "c"}),
        (jax.jit(TWO), KERNELS, (5, 6), None, {"b"}),
        (jax.checkpoint(TWO), KERNELS, (5, 6), None, {"b"}),
        (POOLED, IMAGES, (5, 4, 4, 2), None, {"b"}),
    ],
)  # fmt: skip
def test_the_last_linear_layers_are_told_from_others(f, params, shape, outputs, fixed):
    """By what ∂f/∂z is computed from: nothing of this runs, whatever the probes."""
    traced, values = capture(f, params, (jax.ShapeDtypeStruct(shape, jnp.float32),))
    assert fixed_jacobians(traced, outputs, tuple(map(type_of, values))) == fixed


def test_groups_that_nothing_depends_on_are_a_reason(found):
    def of(kernels, products):
        j = JacobianMoments(np.float64(2), np.stack(products), np.ones(2))
        return no_ansatz_because(LayerSums(None, np.stack(kernels), None, j, 0.1))

    one, zero = np.ones((2, 2)), np.zeros((2, 2))
    assert of((one, one), (one, one)) == ""
    assert "one of its groups or heads" in of((one, one), (one, zero))
    assert of((one, zero), (one, one)).startswith("the kernel of the layer, or one of its groups")
    with_identity = JacobianMoments(np.float64(2), 2 * np.eye(2), np.float64(4))
    last = LayerSums(None, one, None, with_identity, 0.1)  # as of the last layer of a scan
    assert no_ansatz_because(last).startswith("the layer is the last linear one")
    assert np.isnan(METRICS["nfa"](last))
    whole = dataclasses.replace(found.sums["in"], kernel=np.zeros((6, 4)))
    assert no_ansatz_because(whole) == "the kernel of the layer is zero"


def test_probes_estimate_the_same_jacobian(found):
    """Different ones for each sample of each batch: many samples average them."""
    exact = measure(network, PARAMS, (np.tile(X, (40, 1)), np.tile(Y, (40, 1))), loss=squares,
                    metrics=["nfa"], probes=2, batch_size=90)  # fmt: skip
    assert exact["in"]["nfa"] == pytest.approx(found["in"]["nfa"], abs=0.01)
    assert np.isnan(exact["out"]["nfa"]) and [name for name, _ in exact.notes] == ["out"]
    one, other = (s.sums["in"].jacobians.products for s in (exact, found))
    spread = np.linalg.norm(one / 40 - other) / np.linalg.norm(other)
    assert 1e-4 < spread < 0.05
    with pytest.raises(ValueError, match="probes is 4: wanted at most 3, the number of outputs"):
        measure(network, PARAMS, (X, Y), loss=squares, metrics=["nfa"], probes=4)
    with pytest.raises(ValueError, match="probes is 0: wanted at least 1"):
        measure(network, PARAMS, (X, Y), loss=squares, metrics=["nfa"], probes=0)


def test_heads_of_a_kernel_are_layers_by_themselves(found):
    """As of the network in which each has a kernel of its own."""

    def apart(params, x):
        hidden = jnp.concatenate([x @ p for p in params["in"]], 1)
        return network({**params, "in": np.eye(4, dtype=np.float32)}, hidden)

    params = {**PARAMS, "in": [PARAMS["in"][:, :2], PARAMS["in"][:, 2:]]}
    names = tuple(found["in"])
    expected = measure(apart, params, (X, Y), loss=squares, metrics=names, batch_size=40)
    for index, head in enumerate(found.sums["in"].heads(2)):
        for name in names:
            value = float(METRICS[name](head))
            assert value == pytest.approx(expected[f"in/{index}"][name], rel=1e-5), name
    with pytest.raises(ValueError, match=r"number is 3, kernel \(6, 4\): wanted a divisor"):
        found.sums["in"].heads(3)


def test_weights_count_in_jacobians():
    """A sample of weight 2 is there twice, and padding, of samples or of tokens, is not."""
    hidden = {"in": PARAMS["in"], "out": PARAMS["out"][:4]}
    counts = RNG.integers(0, 3, 90)
    again = np.repeat(np.arange(90), counts)
    pairs, labels = X.reshape(45, 2, 6), RNG.integers(0, 3, (45, 2))
    mask = RNG.integers(0, 2, (45, 2))

    def f(params, x):
        return jnp.tanh(x @ params["in"]) @ params["out"]

    def moments_of(*data, **options):
        loss = lambda out, y, *weights: 0 * out.mean()  # noqa: E731
        return measure(f, hidden, data, loss=loss, metrics=["nfa"], **options).sums["in"].jacobians

    found, expected = moments_of(X, Y, counts), moments_of(X[again], Y[again])
    for name in ("count", "products", "squares"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5)
    kept = moments_of(pairs[mask > 0], labels[mask > 0]).products
    ignored = np.where(mask, labels, -100)
    for tokens in (moments_of(pairs, labels, mask), moments_of(pairs, ignored, ignore_label=-100)):
        np.testing.assert_allclose(tokens.products, kept, rtol=1e-5)
