import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_layout import cnn_params

from gramlin_jax import find_layers
from gramlin_jax.models import CNN
from gramlin_jax.models.cnn import _max_pool


def test_golden(golden):
    numbers = golden("model_forward")
    with jax.enable_x64(True):
        out, features = CNN(5, channels=6).apply(
            cnn_params(numbers, "cnn_"), numbers["cnn_X"].transpose(0, 2, 3, 1)
        )
        shallow, (hidden,) = CNN(5, channels=4, depth=1, pool_after=(0,), use_bias=False).apply(
            cnn_params(numbers, "cnn1_"), numbers["cnn1_X"].transpose(0, 2, 3, 1)
        )
    np.testing.assert_allclose(out, numbers["cnn_out"], atol=1e-14)
    np.testing.assert_allclose(shallow, numbers["cnn1_out"], atol=1e-14)
    for h, name in zip(
        [*features, hidden],
        ["cnn_hidden0", "cnn_hidden1", "cnn_hidden2", "cnn1_hidden0"],
        strict=True,
    ):
        np.testing.assert_allclose(h.transpose(0, 3, 1, 2), numbers[name], atol=1e-14)


def test_shapes():
    """An odd row and column are dropped by pooling."""
    model, x = CNN(5, channels=7, pool_after=(1,)), jnp.ones((2, 9, 11, 3))
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    out, features = jax.eval_shape(model.apply, params, x)
    assert out.shape == (2, 5)
    assert [h.shape for h in features] == [(2, 9, 11, 7), (2, 4, 5, 7), (2, 4, 5, 7)]
    shapes = {name: layer["kernel"].shape for name, layer in params["params"].items()}
    convolutions = {f"Conv_{i}": (3, 3, c, 7) for i, c in enumerate((3, 7, 7))}
    assert shapes == {**convolutions, "Dense_0": (4 * 5 * 7, 5)}


def test_the_last_layer_reads_averages():
    rng = np.random.default_rng(0)
    model = CNN(5, channels=7, depth=2, pool_after=(1,), average=True)
    x = rng.normal(size=(3, 8, 6, 2)).astype(np.float32)
    params = model.init(jax.random.key(0), x)
    out, features = model.apply(params, x)
    head = params["params"]["Dense_0"]
    maps = np.asarray(features[-1], float)
    assert maps.shape == (3, 4, 3, 7)
    expected = maps.sum((1, 2)) / 12 @ np.asarray(head["kernel"], float)
    np.testing.assert_allclose(out, expected + np.asarray(head["bias"]), rtol=1e-5, atol=1e-6)


def test_starts_as_pytorch_does():
    """Uniform in ±1/√fan_in."""
    model = CNN(500, channels=64, depth=2, pool_after=(0,))
    params = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 8, 8, 16)))["params"]
    for name, fan_in in (("Conv_0", 9 * 16), ("Conv_1", 9 * 64), ("Dense_0", 16 * 64)):
        bound = fan_in**-0.5
        for values, rtol in ((params[name]["kernel"], 0.01), (params[name]["bias"], 0.1)):
            assert np.abs(values).max() <= bound
            np.testing.assert_allclose(np.abs(values).max(), bound, rtol=rtol)
        np.testing.assert_allclose(np.var(params[name]["kernel"]), bound**2 / 3, rtol=0.03)


def test_convolution_is_linens():
    """Values, gradients and the kernel's axes, and it is one layer to taps."""

    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = jax.nn.relu(nn.Conv(6, (3, 3))(x)).reshape(2, -1)
            return nn.Dense(5)(h)

    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    model = CNN(5, channels=6, depth=1, pool_after=())
    params = model.init(jax.random.key(0), x)

    def loss(apply):
        return jax.jit(jax.value_and_grad(lambda p, x: (apply(p, x) ** 2).sum(), (0, 1)))

    ours = loss(lambda p, x: model.apply(p, x)[0])(params, x)
    chex.assert_trees_all_close(ours, loss(Plain().apply)(params, x), rtol=1e-5, atol=1e-5)
    layers = find_layers(lambda p, x: model.apply(p, x)[0], params, x, strict=True)
    assert list(layers.sites) == ["params/Conv_0/kernel", "params/Dense_0/kernel"]


def test_pooling_is_linens():
    """Values and gradients, of ties too, and NaN is not lost."""
    h = np.random.default_rng(0).integers(0, 3, (2, 9, 10, 5)).astype(np.float32)
    weight = np.random.default_rng(1).normal(size=(2, 4, 5, 5)).astype(np.float32)

    def plain(h):
        return nn.max_pool(h, (2, 2), (2, 2))

    np.testing.assert_array_equal(_max_pool(h), plain(h))
    gradients = [jax.grad(lambda h, f=f: jnp.vdot(f(h), weight))(h) for f in (_max_pool, plain)]
    np.testing.assert_array_equal(*gradients)
    for place in np.ndindex(2, 2):
        window = np.ones((1, 2, 2, 1), np.float32)
        window[0, *place, 0] = np.nan
        assert np.isnan(_max_pool(window)).all()


def test_bad_input():
    def start(shape, **options):
        jax.eval_shape(CNN(2, **options).init, jax.random.key(0), jnp.ones(shape))

    with pytest.raises(ValueError, match=r"x has shape \(2, 784\): wanted images"):
        start((2, 784))
    for size in ({"channels": 0}, {"depth": -1}):
        with pytest.raises(ValueError, match="is (0|-1): wanted at least 1"):
            start((2, 8, 8, 1), **size)
    with pytest.raises(ValueError, match=r"pool_after is \(0, 3\): wanted some of 0 … 2"):
        start((2, 8, 8, 1), pool_after=(0, 3))
    with pytest.raises(ValueError, match="x has 1×3 pixels left"):
        start((2, 3, 6, 1))
