"""Clipping, sampling and resampling of networks."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax.metrics.similarity import alignment
from gramlin_jax.rainbow import (
    BatchNorm,
    Layer,
    apply,
    as_matrix,
    as_rows,
    clip,
    pair_moments,
    pre_activations,
    resample,
    sample_kernel,
)

pytestmark = pytest.mark.runs  # trained networks, drawn anew
KEY = jax.random.key(0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def dense(widths=(6, 5, 4, 3), seed=0):
    shapes = zip(widths, widths[1:], strict=False)
    return [Layer(jnp.asarray(normal(*shape, seed=seed + i))) for i, shape in enumerate(shapes)]


def permuted(network, order):
    """The same function, its first hidden layer's units in another order."""
    first, second, *rest = network
    inside = as_matrix(second).reshape(-1, len(order), second.kernel.shape[-1])[:, order]
    return [
        dataclasses.replace(first, kernel=first.kernel[..., order]),
        dataclasses.replace(second, kernel=inside.reshape(second.kernel.shape)),
        *rest,
    ]


def test_clipping_loses_the_tail_of_the_eigenvalues():
    kernel, x = normal(6, 4), normal(50, 6, seed=1)
    u, s, _ = np.linalg.svd(kernel, full_matrices=False)
    values, basis = np.linalg.eigh(x.T @ x / 50)
    values, basis = values[::-1], basis[:, ::-1]
    by_weight = jax.vmap(lambda r: clip(kernel, u, r))(jnp.arange(5))
    identity = np.eye(6, dtype=np.float32)
    by_feature = jax.vmap(lambda r: clip(identity, basis, r))(jnp.arange(7))
    for r in range(5):
        lost = np.sum((kernel - by_weight[r]) ** 2)
        np.testing.assert_allclose(lost, np.sum(s[r:] ** 2), rtol=1e-5, atol=1e-10)
    for r in range(7):
        lost = np.mean(np.sum((x - x @ by_feature[r]) ** 2, 1))
        np.testing.assert_allclose(lost, values[r:].sum(), rtol=1e-4, atol=1e-8)


def test_sampled_kernels_have_the_trained_covariance():
    """4000 draws: the mean of K'K'ᵀ/width is KKᵀ/o, to four standard errors."""
    kernel, width, draws = normal(4, 3), 5, 4000
    keys = jax.random.split(KEY, draws)
    found = np.asarray(jax.vmap(lambda key: sample_kernel(key, kernel, width))(keys), float)
    covariance = kernel.astype(float) @ kernel.T / 3
    variances = np.diag(covariance)
    errors = np.sqrt((covariance**2 + np.outer(variances, variances)) / (draws * width))
    mean = np.einsum("rio,rjo->ij", found, found) / (draws * width)
    assert (abs(mean - covariance) < 4 * errors).all()
    between = np.einsum("ri,rj->ij", found[..., 0], found[..., 1]) / draws
    assert (abs(between) < 4 * errors * np.sqrt(width)).all(), "units are independent"
    side_by_side = sample_kernel(KEY, np.c_[kernel, 2 * kernel], 20_000)
    np.testing.assert_allclose(
        side_by_side @ side_by_side.T / 20_000, 2.5 * covariance, atol=0.15 * variances.max()
    )


def test_layers_are_equal_by_value():
    kernel = normal(6, 5)
    layer = Layer(jnp.asarray(kernel), stride=2)
    assert layer == Layer(kernel, stride=2) and layer in [Layer(kernel, stride=2)]
    for other in (Layer(kernel), Layer(2 * kernel, stride=2), Layer(kernel, kernel[0], stride=2)):
        assert layer != other


def test_float64_stays():
    """Where it is not enabled for the rest of the program, too."""
    kernel = np.random.default_rng(0).normal(size=(6, 4)) * 1e-100
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    for rank in (2, jnp.asarray(2)):
        found = clip(kernel, basis, rank)
        expected = basis[:, :2] @ (basis[:, :2].T @ kernel)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-113)
    drawn = np.asarray(sample_kernel(KEY, kernel))
    single = sample_kernel(KEY, np.float32(kernel * 1e100))
    np.testing.assert_allclose(drawn * 1e100, single, rtol=1e-5, atol=1e-6)


def test_a_convolution_is_flax_s():
    x = normal(2, 9, 8, 3)
    layer = Layer(jnp.asarray(normal(3, 2, 3, 5)), jnp.asarray(normal(5)), stride=2)
    flax = nn.Conv(5, (3, 2), strides=2, padding="VALID")
    expected = flax.apply({"params": {"kernel": layer.kernel, "bias": layer.bias}}, x)
    np.testing.assert_allclose(pre_activations(layer, x), expected, rtol=1e-4, atol=1e-5)


def test_filters_are_a_convolution_with_a_factored_kernel():
    x, filters, mixing = normal(2, 6, 6, 2), normal(3, 3, 4), normal(8, 5)
    layer = Layer(jnp.asarray(mixing), filters=jnp.asarray(filters))
    kernel = np.einsum("hwf,fco->hwco", filters, mixing.reshape(4, 2, 5))
    expected = pre_activations(Layer(jnp.asarray(kernel)), x)
    np.testing.assert_allclose(pre_activations(layer, x), expected, rtol=1e-4, atol=1e-4)
    slope = jax.grad(lambda layer: pre_activations(layer, x).sum())(layer)
    assert not slope.filters.any() and slope.kernel.any()


def test_batch_norm_is_flax_s():
    x, mean, variance, scale, offset = normal(4, 6), *normal(4, 5)
    layer = Layer(jnp.asarray(normal(6, 5)), norm=BatchNorm(mean, variance**2, scale, offset))
    expected = nn.BatchNorm(use_running_average=True).apply(
        {
            "params": {"scale": scale, "bias": offset},
            "batch_stats": {"mean": mean, "var": variance**2},
        },
        x @ layer.kernel,
    )
    np.testing.assert_allclose(pre_activations(layer, x), expected, rtol=1e-4, atol=1e-5)


def convolutions():
    kernels = normal(2, 2, 1, 6), normal(2, 2, 6, 4, seed=1), normal(4 * 9, 3, seed=2)
    first, second, last = map(jnp.asarray, kernels)
    return [Layer(first), Layer(second), Layer(last)]


@pytest.mark.parametrize("make", [dense, convolutions])
def test_nothing_drawn_is_the_same_network(make):
    """With no layer drawn, only the rotations act, and there are none to make."""
    network, x = make(), normal(300, 6) if make is dense else normal(300, 5, 5, 1)
    drawn = resample(KEY, network, x, layers=())
    for a, b in zip(drawn, network, strict=True):
        np.testing.assert_allclose(a.kernel, b.kernel, atol=1e-4)
    order = np.random.default_rng(0).permutation(network[0].kernel.shape[-1])
    other = permuted(network, order)
    np.testing.assert_allclose(apply(other, x)[0], apply(network, x)[0], rtol=1e-3, atol=1e-3)
    first, second = pair_moments(network, other, x)
    np.testing.assert_allclose([alignment(first), alignment(second)], 1, rtol=1e-6)
    assert float(first.count) == as_rows(apply(network, x)[1][0]).shape[0]


def test_many_networks_are_drawn_at_once():
    """Batch norms were computed by NumPy, outside of what is compiled."""
    x, norm = normal(60, 6), BatchNorm(*(jnp.ones(5) for _ in range(4)))
    network = dense()
    network[0] = dataclasses.replace(network[0], norm=norm)
    keys = jax.random.split(KEY, 2)
    together = jax.jit(jax.vmap(lambda key: resample(key, network, x)))(keys)
    for i, key in enumerate(keys):
        alone = resample(key, network, x)
        np.testing.assert_allclose(together[0].norm.mean[i], alone[0].norm.mean, atol=1e-5)
        np.testing.assert_allclose(together[0].norm.variance[i], alone[0].norm.variance, rtol=1e-4)
        one = jax.tree.map(lambda a: a[i], together)  # noqa: B023
        np.testing.assert_allclose(apply(one, x)[0], apply(alone, x)[0], rtol=1e-3, atol=1e-3)


def test_a_layer_is_read_through_the_rotation_of_the_one_before():
    """If the drawn features are a rotation of the trained, the next layer computes the same."""
    network, x = dense(), normal(500, 6)
    widths = {0: 400}
    drawn = resample(KEY, network, x, layers=(0,), widths=widths)
    assert [layer.kernel.shape for layer in drawn] == [(6, 400), (400, 4), (4, 3)]
    found, wanted = apply(drawn, x)[1][1], apply(network, x)[1][1]
    alike = np.sum(found * wanted) / np.linalg.norm(found) / np.linalg.norm(wanted)
    assert alike > 0.9
    hidden, trained = apply(drawn, x)[1][0], apply(network, x)[1][0]
    u, _, vt = np.linalg.svd(np.asarray(hidden, float).T @ trained, full_matrices=False)
    np.testing.assert_allclose(drawn[1].kernel, u @ vt @ network[1].kernel, rtol=1e-3, atol=1e-4)


def test_bias_and_batch_norm_are_made_anew():
    network, x = dense((6, 5, 3)), normal(400, 6)
    norm = BatchNorm(*(jnp.asarray(v) for v in (normal(5), np.ones(5), normal(5), normal(5))))
    first = dataclasses.replace(network[0], bias=jnp.asarray(normal(5, seed=3)), norm=norm)
    drawn = resample(KEY, [first, network[1]], x, widths={0: 64})[0]
    assert drawn.kernel.shape == (6, 64) and drawn.bias.shape == (64,)
    z = x @ np.asarray(drawn.kernel) + np.asarray(drawn.bias)
    np.testing.assert_allclose(drawn.norm.mean, z.mean(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(drawn.norm.variance, z.var(0), rtol=1e-3)
    pairs = set(zip(np.asarray(norm.scale).tolist(), np.asarray(norm.offset).tolist(), strict=True))
    found = zip(drawn.norm.scale.tolist(), drawn.norm.offset.tolist(), strict=True)
    assert set(found) <= pairs, "scale and offset of one trained unit"
    size = float((drawn.bias**2).mean() / (first.bias**2).mean())
    assert 0.5 < size < 2, "drawn with the variance of the trained biases"
    with jax.enable_x64(True):  # draws do not depend on it
        again = resample(KEY, [first, network[1]], x, widths={0: 64})[0]
    np.testing.assert_array_equal(again.norm.scale, drawn.norm.scale)
    np.testing.assert_allclose(again.kernel, drawn.kernel, rtol=1e-5)


def test_covariances_of_a_permuted_copy_average_to_the_same():
    """Many units: K'K'ᵀ/width of layer 2 in the first's coordinates is KKᵀ/o again."""
    network, x = dense(), normal(300, 6)
    other = permuted(network, np.array([4, 2, 0, 1, 3]))
    drawn = resample(KEY, network, x, layers=(1,), widths={1: 5000}, others=[other])
    kernel = np.asarray(network[1].kernel)
    found = drawn[1].kernel @ drawn[1].kernel.T / 5000
    np.testing.assert_allclose(found, kernel @ kernel.T / 4, atol=0.3)


@pytest.mark.parametrize(
    ("part", "value"), [("bias", np.ones(5)), ("norm", BatchNorm(*np.ones((4, 5)))), ("stride", 2)]
)
def test_other_networks_have_the_parts_of_the_first(part, value):
    network, x = dense(), normal(20, 6)
    other = [dataclasses.replace(network[0], **{part: value}), *network[1:]]
    for first, second in ((network, other), (other, network)):
        with pytest.raises(
            ValueError, match=rf"others has the layers .* with {part}|wanted .* with {part}"
        ):
            resample(KEY, first, x, others=[second])


def test_a_basis_of_half_precision():
    kernel, basis = normal(64, 4), jnp.asarray(np.linalg.qr(normal(64, 32))[0])
    rounded = clip(kernel, basis.astype(jnp.bfloat16), 16)
    np.testing.assert_allclose(rounded, clip(kernel, basis, 16), atol=0.02)


def test_bad_input():
    network, x = dense(), normal(20, 6)
    with pytest.raises(ValueError, match="rank is 7: wanted 0 to 6, the width"):
        clip(normal(6, 4), np.eye(6, dtype=np.float32), 7)
    with pytest.raises(ValueError, match="basis has 5 rows: wanted 6, as kernel"):
        clip(normal(6, 4), np.eye(5, dtype=np.float32), 2)
    for basis in (1.01 * np.eye(6), np.eye(6) + 0.01 * np.eye(6, k=1), normal(4, 6).T):
        with pytest.raises(ValueError, match="basis has columns whose products are up to .* off"):
            clip(normal(6, 4), basis.astype(np.float32), 1)
    with pytest.raises(ValueError, match="width is 0"):
        sample_kernel(KEY, normal(6, 4), 0)
    with pytest.raises(ValueError, match="second has 2 layers: wanted 3, as first"):
        pair_moments(network, network[1:], x)
    with pytest.raises(ValueError, match="second_inputs has 19 samples: wanted 20, as inputs"):
        pair_moments(network, network, x, x[1:])
    with pytest.raises(ValueError, match=r"layers is \[2\]: wanted some of \[0, 1\]"):
        resample(KEY, network, x, layers=(2,))
    with pytest.raises(ValueError, match=r"widths is of layers \[1\]: wanted some of \[0\]"):
        resample(KEY, network, x, layers=(0,), widths={1: 3})
    with pytest.raises(ValueError, match="rank is 1.5: wanted an integer"):
        clip(normal(6, 4), np.eye(6, dtype=np.float32), 1.5)
    with pytest.raises(ValueError, match="network has no layer"):
        resample(KEY, [], x)
    with pytest.raises(ValueError, match=r"others has the layers .6, 5., .5, 5., .5, 3.: wanted"):
        resample(KEY, network, x, others=[dense((6, 5, 5, 3))])
    for call, message in (
        (lambda: resample(KEY, network, x, others=network), r"others\[0\] is a Layer: wanted"),
        (lambda: resample(KEY, network, x, layers=0), "layers is 0: wanted a list of hidden"),
        (lambda: resample(KEY, network, x, widths=[4]), r"widths is \[4\]: wanted units by layer"),
        (lambda: pair_moments(network, [KEY] * 3, x), r"second\[0\] is a .*: wanted Layer"),
        (lambda: apply(network, "x"), "x is of str: wanted an array of real numbers"),
    ):
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(ValueError, match=r"x has shape \(20, 5\), of which .* 5 .* wanted 6"):
        apply(network, x[:, :5])
    with pytest.raises(ValueError, match=r"x has shape \(1, 2, 2, 1\): wanted images of at least"):
        pre_activations(Layer(jnp.ones((3, 3, 1, 2))), jnp.ones((1, 2, 2, 1)))


def test_a_kernel_in_half_precision_has_the_trained_covariance_too():
    kernel = jnp.asarray(abs(normal(2, 4096)), jnp.bfloat16)
    drawn = sample_kernel(KEY, kernel, 4000)
    assert drawn.dtype == jnp.bfloat16
    exact, drawn = (np.asarray(k, float) for k in (kernel, drawn))
    np.testing.assert_allclose(drawn @ drawn.T / 4000, exact @ exact.T / 4096, rtol=0.1)
