"""The ansatz and its rivals of each attention head, against a copy of the input for each head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import (
    METRICS,
    LayerSums,
    agop,
    debiased_isotropy,
    gradient_moments,
    jacobian_moments,
    moments,
    representation_alignments,
    rotation_null,
    stationarity_identities,
)
from gramlin_jax.support.precision import in_float64

RNG = np.random.default_rng(0)
N, TOKENS, WIDTH, HEADS, SIZE = 7, 4, 5, 2, 3
X, Y = RNG.normal(size=(N, TOKENS, WIDTH)), RNG.normal(size=(N, 4))
# Two are stored as matrices, one as Flax's DenseGeneral stores it.
PARAMS = {
    "query": RNG.normal(size=(WIDTH, HEADS * SIZE)),
    "key": RNG.normal(size=(WIDTH, HEADS * SIZE)),
    "value": RNG.normal(size=(WIDTH, HEADS, SIZE)),
    "out": RNG.normal(size=(HEADS * SIZE, 4)),
}
LAYERS = "query", "key", "value"


def network(params, x, copied="", copies=None):
    """Logits (n, 4); one layer's heads may read copies (n, heads, tokens, width) of x."""
    read = {}
    for name in LAYERS:
        kernel = params[name]
        if name == copied:
            read[name] = jnp.einsum("nhti,iho->ntho", copies, kernel.reshape(WIDTH, HEADS, SIZE))
        else:
            z = jnp.tensordot(x, kernel, 1)
            read[name] = z.reshape(*z.shape[:2], HEADS, SIZE)
    scores = jnp.einsum("ntho,nsho->nhts", read["query"], read["key"])
    mixed = jnp.einsum("nhts,nsho->ntho", jax.nn.softmax(scores), read["value"])
    return jnp.tanh(mixed.reshape(*mixed.shape[:2], -1)).mean(1) @ params["out"]


def loss(out):
    return ((out - Y) ** 2).sum(-1).mean()


@pytest.fixture(scope="module")
def sums():
    """``LayerSums`` by layer, and J by 300 draws of two probes."""
    with jax.enable_x64(True):

        @jax.jit
        def all_of(keys):
            exact = jacobian_moments(network, PARAMS, X)
            drawn = jax.vmap(
                lambda key: jacobian_moments(network, PARAMS, X, probes=2, key=key)
            )(keys)  # fmt: skip
            return exact, drawn, gradient_moments(network, PARAMS, X, loss=loss)

        found = jax.device_get(all_of(jax.random.split(jax.random.key(0), 300)))
    exact, drawn, gradients = found
    rows = moments(X.reshape(-1, WIDTH))
    kernels = {name: PARAMS[name].reshape(WIDTH, -1) for name in LAYERS}
    return {
        name: (LayerSums(rows, kernels[name], gradients[name], exact[name], 0.1, True), drawn[name])
        for name in LAYERS
    }


@pytest.fixture(scope="module")
def by_hand():
    """By layer, ∂f/∂x (n, c, heads, tokens, width) of each head's own copy of x."""
    with jax.enable_x64(True):
        copies = np.repeat(X[:, None], HEADS, 1)

        def of(name):
            def one(copy, x):
                return network(PARAMS, x[None], name, copy[None])[0]

            return np.asarray(jax.jit(jax.vmap(jax.jacrev(one)))(copies, X))

        return {name: of(name) for name in LAYERS}


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


@in_float64
@pytest.mark.parametrize("name", LAYERS)
def test_a_head_is_a_layer_of_its_own(sums, by_hand, name):
    layer, _ = sums[name]
    for i, head in enumerate(layer.heads(HEADS)):
        kernel = np.asarray(head.kernel)
        np.testing.assert_array_equal(kernel, PARAMS[name].reshape(WIDTH, HEADS, SIZE)[:, i])
        g, gram = by_hand[name][:, :, i], kernel @ kernel.T
        expected = np.einsum("ncti,nctj->ij", g, g) / N
        j = head.jacobians.mean
        np.testing.assert_allclose(agop(kernel, j), expected, rtol=1e-9, atol=1e-12)
        correlation = cosine(gram, expected)
        assert float(METRICS["nfa"](head)) == pytest.approx(correlation, abs=1e-10)
        null = rotation_null(jax.random.key(0), kernel, j, 9)
        assert float(null.value) == pytest.approx(correlation, abs=1e-10)
        # W has all of its three directions: ∂f/∂z is W⁺ᵀ of ∂f/∂x.
        delta = g @ np.linalg.pinv(kernel).T
        s = np.linalg.svd(delta.reshape(-1, SIZE), compute_uv=False)
        tight = (s**2).sum() / np.sqrt(SIZE * (s**4).sum())
        for metric in ("isotropy", "range_isotropy"):
            assert float(METRICS[metric](head)) == pytest.approx(tight, abs=1e-9)
        u, s, _ = np.linalg.svd(kernel, full_matrices=False)
        captured = np.diag(u.T @ expected @ u) / s**2
        beta = np.polyfit(np.log(s**2), np.log(captured), 1)[0]
        assert float(METRICS["ansatz_exponent"](head)) == pytest.approx(1 / (1 + beta), rel=1e-8)
        assert np.isnan(debiased_isotropy(head.jacobians).cosine_squared)  # Σ‖Gᵢ‖² is of all heads


@in_float64
@pytest.mark.parametrize("name", LAYERS)
def test_so_are_the_rivals(sums, by_hand, name):
    error = 2 * (np.asarray(network(PARAMS, X)) - Y) / N
    layer, _ = sums[name]
    for i, head in enumerate(layer.heads(HEADS)):
        kernel = np.asarray(head.kernel)
        g = np.einsum("nc,ncti->nti", error, by_hand[name][:, :, i]).reshape(-1, WIDTH)
        h, gram = X.reshape(-1, WIDTH), kernel @ kernel.T
        other = -g.T @ h / 0.3
        found = stationarity_identities(kernel, head.gradients, 0.3)
        residual = np.linalg.norm(gram - other) / np.linalg.norm(gram)
        assert float(found.input_residual) == pytest.approx(residual, rel=1e-9)
        assert float(METRICS["fact"](head)) == pytest.approx(cosine(gram, other), abs=1e-9)
        z, delta = h @ kernel, g @ np.linalg.pinv(kernel).T
        before, after = (h.T @ h, g.T @ g, gram), (z.T @ z, delta.T @ delta, kernel.T @ kernel)
        expected = [
            cosine(m[a], m[b]) for m in (before, after) for a, b in ((0, 1), (0, 2), (1, 2))
        ]
        aligned = representation_alignments(head.moments, kernel, head.gradients)
        np.testing.assert_allclose(aligned, expected, atol=1e-9)


def test_probes_of_a_head_are_right_in_the_mean(sums):
    for name in LAYERS:
        layer, drawn = sums[name]
        for i, head in enumerate(layer.heads(HEADS)):
            part = slice(i * SIZE, (i + 1) * SIZE)
            estimates = drawn.products[:, part, part]
            error = estimates.std(0) / 300**0.5
            assert (abs(estimates.mean(0) - head.jacobians.products) < 4.5 * error).all()
            assert (error < 0.1 * abs(head.jacobians.products).max()).all()
