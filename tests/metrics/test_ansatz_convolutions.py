"""The ansatz per patch of a convolution and of each of its groups, from patches cut by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gramlin_jax import (
    JacobianMoments,
    agop,
    ansatz_exponent,
    debiased_isotropy,
    gradient_moments,
    isotropy,
    jacobian_moments,
    measure,
    nfa_correlation,
    rotation_null,
    stationarity_identities,
)
from gramlin_jax.support.precision import in_float64

RNG = np.random.default_rng(0)
N = 6
X, Y = RNG.normal(size=(N, 6, 5, 2)), RNG.normal(size=(N, 3))
# Groups, stride and padding of each layer: all channels, two groups, and a multiple of depthwise.
LAYERS = {"whole": (1, 1, 1), "grouped": (2, 2, 1), "depthwise": (6, 1, 0)}
PARAMS = {
    "whole": RNG.normal(size=(3, 2, 2, 4)) / 3,
    "grouped": RNG.normal(size=(3, 3, 2, 6)) / 4,
    "depthwise": RNG.normal(size=(2, 1, 1, 18)),
    "out": RNG.normal(size=(18, 3)),
}


def convolved(name, kernel, h):
    groups, stride, pad = LAYERS[name]
    return lax.conv_general_dilated(
        h, kernel, (stride, stride), [(pad, pad)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip


def network(params, x, after=None, z=None):
    """Logits (n, 3); or from the pre-activations z of one layer on."""
    h = x
    for name in LAYERS:
        if after is None:
            z = convolved(name, params[name], h)
        if after in (None, name):
            h, after = jnp.tanh(z), None
    return (h**2).mean((1, 2)) @ params["out"]


def loss(out, y):
    return ((out - y) ** 2).sum(-1).mean()


def patches(h, name):
    """Patches (n, groups, positions, window·channels) of one group each, cut in NumPy."""
    groups, stride, pad = LAYERS[name]
    window = PARAMS[name].shape[:2]
    padded = np.pad(h, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    cut = np.lib.stride_tricks.sliding_window_view(padded, window, (1, 2))[:, ::stride, ::stride]
    n, height, width, channels = cut.shape[:4]
    cut = cut.reshape(n, height, width, groups, channels // groups, *window)
    return cut.transpose(0, 3, 1, 2, 5, 6, 4).reshape(n, groups, height * width, -1)


@pytest.fixture(scope="module")
def by_hand():
    """By layer: kernels of the groups, their patches, ∂f/∂patch and ∂f/∂z of each sample."""
    with jax.enable_x64(True):
        found, h = {}, X
        for name, (groups, *_) in LAYERS.items():
            kernel = PARAMS[name]
            kernels = kernel.reshape(-1, groups, kernel.shape[-1] // groups).swapaxes(0, 1)
            cut, z = patches(h, name), np.asarray(convolved(name, kernel, h))

            def of_z(z, shape=z.shape[1:], name=name):  # (groups, positions, outputs of a group)
                z = jnp.moveaxis(z, 0, 1).reshape(1, *shape)
                return network(PARAMS, X, after=name, z=z)[0]

            def of_patches(cut, kernels=kernels, of_z=of_z):
                return of_z(jnp.einsum("gsi,gio->gso", cut, kernels))

            pre = np.einsum("ngsi,gio->ngso", cut, kernels)
            np.testing.assert_allclose(
                np.moveaxis(pre, 1, 2).reshape(z.shape), z, atol=1e-12
            )  # the patches are those of the convolution
            of = (jax.jit(jax.vmap(jax.jacrev(g))) for g in (of_patches, of_z))
            g, delta = (np.asarray(f(a)) for f, a in zip(of, (cut, pre), strict=True))
            found[name] = kernels, cut, g, delta
            h = np.tanh(z)
        return found


@pytest.fixture(scope="module")
def moments_of():
    with jax.enable_x64(True):
        both = jax.jit(
            lambda p, x: (
                jacobian_moments(network, p, x),
                gradient_moments(network, p, x, loss=lambda out: loss(out, Y)),
            )
        )
        return jax.device_get(both(PARAMS, X))


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


def groups_of(m):
    """Moments of the groups one by one; a convolution without groups has no axis of them."""
    products, squares = (np.asarray(a) for a in (m.products, m.squares))
    if products.ndim == 2:
        products, squares = products[None], squares[None]
    return [JacobianMoments(m.count, p, s) for p, s in zip(products, squares, strict=True)]


@in_float64
@pytest.mark.parametrize("name", LAYERS)
def test_the_agop_is_the_gradients_of_patches(by_hand, moments_of, name):
    kernels, _, g, delta = by_hand[name]
    assert moments_of[0][name].products.ndim == 2 + (len(kernels) > 1)
    for i, m in enumerate(groups_of(moments_of[0][name])):
        expected = np.einsum("ncsi,ncsj->ij", g[:, :, i], g[:, :, i]) / N
        np.testing.assert_allclose(agop(kernels[i], m.mean), expected, rtol=1e-10, atol=1e-14)
        grams = np.einsum("ncso,ncsp->nop", delta[:, :, i], delta[:, :, i])
        np.testing.assert_allclose(m.mean, grams.mean(0), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(m.squares, (grams**2).sum(), rtol=1e-10)


@in_float64
@pytest.mark.parametrize("name", LAYERS)
def test_what_is_said_of_the_agop_is_said_of_patches(by_hand, moments_of, name):
    """From the gradients of patches in NumPy, where J, and W, have no part of their own."""
    kernels, cut, g, delta = by_hand[name]
    for i, m in enumerate(groups_of(moments_of[0][name])):
        kernel, gram = kernels[i], kernels[i] @ kernels[i].T
        assert np.linalg.matrix_rank(kernel) == min(kernel.shape)
        of_patch = np.einsum("ncsi,ncsj->ij", g[:, :, i], g[:, :, i]) / N
        found = nfa_correlation(kernel, m.mean)
        assert float(found) == pytest.approx(cosine(gram, of_patch), abs=1e-10)
        null = rotation_null(jax.random.key(0), kernel, m.mean, 9)
        assert float(null.value) == pytest.approx(cosine(gram, of_patch), abs=1e-10)
        rows = delta[:, :, i].reshape(-1, kernel.shape[1])
        s = np.linalg.svd(rows, compute_uv=False)
        whole = (s**2).sum() / np.sqrt(len(s) * (s**4).sum())
        assert float(isotropy(m.mean).cosine) == pytest.approx(whole, abs=1e-10)
        u, s, vt = np.linalg.svd(kernel, full_matrices=False)
        # uᵀ AGOP u = s² vᵀJv for the right singular vectors u of W.
        captured = np.diag(u.T @ of_patch @ u) / s**2
        slope = np.polyfit(np.log(s**2), np.log(captured), 1)[0]
        assert float(ansatz_exponent(kernel, m.mean).beta) == pytest.approx(slope, abs=1e-8)
        s = np.linalg.svd(
            rows @ vt.T, compute_uv=False
        )  # on range(W): of depthwise, two directions of three
        inside = (s**2).sum() / np.sqrt(len(vt) * (s**4).sum())
        assert float(isotropy(m.mean, kernel).cosine) == pytest.approx(inside, abs=1e-10)
        grams = [part.T @ part for part in np.split(rows, N)]
        pairs = [(a * b).sum() for a, b in itertools.permutations(grams, 2)]
        debiased = np.trace(sum(grams) / N) ** 2 / (kernel.shape[1] * np.mean(pairs))
        assert float(debiased_isotropy(m).cosine_squared) == pytest.approx(debiased, rel=1e-9)


@in_float64
@pytest.mark.parametrize("name", LAYERS)
def test_stationarity_is_of_sums_over_patches(by_hand, moments_of, name):
    """Σ g xᵀ with x the patches and g the loss's gradients there, over samples and positions."""
    kernels, cut, g, delta = by_hand[name]
    error = 2 * (np.asarray(network(PARAMS, X)) - Y) / N
    for i, kernel in enumerate(kernels):
        gradients = moments_of[1][name]
        sums = np.asarray(gradients.kernel_sum)
        of_group = type(gradients)(gradients.count, sums[i] if sums.ndim == 3 else sums, None)
        found = stationarity_identities(kernel, of_group, 0.3)
        x, z = cut[:, i], cut[:, i] @ kernel
        at_patches = -np.einsum("nc,ncsi,nsj->ij", error, g[:, :, i], x) / 0.3
        at_outputs = -np.einsum("nso,nc,ncsp->op", z, error, delta[:, :, i]) / 0.3
        for residual, value, gram, other in (
            (found.input_residual, found.input_cosine, kernel @ kernel.T, at_patches),
            (found.output_residual, found.output_cosine, kernel.T @ kernel, at_outputs),
        ):
            expected = np.linalg.norm(gram - other) / np.linalg.norm(gram)
            assert float(residual) == pytest.approx(expected, rel=1e-9)
            assert float(value) == pytest.approx(cosine(gram, other), abs=1e-10)


def test_measure_takes_the_mean_over_groups(by_hand, moments_of):
    """Alignments with E[hhᵀ] need rows that the kernel multiplies, which patches are not."""
    names = ("nfa", "isotropy", "range_isotropy", "ansatz_exponent", "fact", "rwa_before")
    found = measure(
        network, PARAMS, (X, Y), loss=loss, metrics=names, batch_size=4, layers=["grouped"]
    )["grouped"]
    kernels = by_hand["grouped"][0]
    of_groups = [m.mean for m in groups_of(moments_of[0]["grouped"])]
    for name, function in {
        "nfa": nfa_correlation,
        "isotropy": lambda kernel, j: isotropy(j).cosine,
        "range_isotropy": lambda kernel, j: isotropy(j, kernel).cosine,
        "ansatz_exponent": lambda kernel, j: ansatz_exponent(kernel, j).alpha,
    }.items():
        each = [float(function(*pair)) for pair in zip(kernels, of_groups, strict=True)]
        assert found[name] == pytest.approx(np.mean(each), rel=1e-3), name
    gradients = np.asarray(moments_of[1]["grouped"].kernel_gradient)
    facts = [cosine(k @ k.T, -k @ g.T) for k, g in zip(kernels, gradients, strict=True)]
    assert found["fact"] == pytest.approx(np.mean(facts), rel=1e-3)
    assert np.isnan(found["rwa_before"])


@in_float64
def test_probes_are_right_in_the_mean_for_patches_too(moments_of):
    """J, and tr E[G]² without the pairs of a sample with itself, over 400 draws of two probes."""
    draw = jax.jit(jax.vmap(lambda key: jacobian_moments(network, PARAMS, X, probes=2, key=key)))
    drawn = draw(jax.random.split(jax.random.key(0), 400))
    for name in LAYERS:
        several, exact = jax.device_get((drawn[name], moments_of[0][name]))
        norms = [(m.products**2).sum((-2, -1)) for m in (several, exact)]
        for each, expected in (
            (several.products, exact.products),
            (norms[0] - several.squares, norms[1] - exact.squares),
        ):
            error = each.std(0) / 20
            assert (abs(each.mean(0) - expected) < 4.5 * error).all()
            assert (error < 0.1 * abs(expected).max()).all()
        # The squares themselves are those of the estimates, which are larger.
        assert (several.squares.mean(0) > 1.1 * exact.squares).all()
