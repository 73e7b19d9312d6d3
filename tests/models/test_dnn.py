import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import torch_params

from gramlin_jax.models import DNN, torch_bias, torch_kernel


def test_golden(golden):
    numbers = golden("model_forward")
    with jax.enable_x64(True):
        out, features = DNN(16, 3, 4).apply(torch_params(numbers, "dnn_"), numbers["dnn_X"])
        plain, _ = DNN(16, 2, 4, activation="relu", use_bias=False).apply(
            torch_params(numbers, "dnnrelu_"), numbers["dnn_X"]
        )
    np.testing.assert_allclose(out, numbers["dnn_out"], atol=1e-14)
    np.testing.assert_allclose(plain, numbers["dnnrelu_out"], atol=1e-14)
    for i, h in enumerate(features):
        np.testing.assert_allclose(h, numbers[f"dnn_hidden{i}"], atol=1e-14)


def test_golden_float32(golden):
    numbers = {name: a.astype(np.float32) for name, a in golden("model_forward").items()}
    out, _ = DNN(16, 3, 4).apply(torch_params(numbers, "dnn_"), numbers["dnn_X"])
    np.testing.assert_allclose(out, numbers["dnn_out_f32"], atol=1e-6)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_shapes(depth, use_bias):
    model = DNN(7, depth, 5, use_bias=use_bias)
    x = jnp.ones((3, 4, 2))
    params = model.init(jax.random.key(0), x)
    out, features = jax.jit(model.apply)(params, x)
    chex.assert_shape(out, (3, 5))
    chex.assert_shape(features, (3, 7))
    assert len(features) == depth
    assert set(params["params"]) == {f"Dense_{i}" for i in range(depth + 1)}
    for layer in params["params"].values():
        assert set(layer) == ({"kernel", "bias"} if use_bias else {"kernel"})


def test_starts_as_pytorch_does():
    """Uniform in ±1/√fan_in: extremes, mean and variance of kernels and biases."""
    params = DNN(1000, 2, 1000).init(jax.random.key(0), jnp.ones((1, 400)))["params"]
    for name, fan_in in (("Dense_0", 400), ("Dense_1", 1000)):
        bound = fan_in**-0.5
        for values, rtol in ((params[name]["kernel"], 0.01), (params[name]["bias"], 0.15)):
            assert np.abs(values).max() <= bound
            np.testing.assert_allclose(np.abs(values).max(), bound, rtol=0.01)
            np.testing.assert_allclose(np.var(values), bound**2 / 3, rtol=rtol)
            np.testing.assert_allclose(np.mean(values), 0, atol=0.1 * bound)


def test_kernel_of_a_convolution_has_its_fan_in():
    kernel = torch_kernel(jax.random.key(0), (3, 3, 16, 64))
    np.testing.assert_allclose(np.abs(kernel).max(), (9 * 16) ** -0.5, rtol=0.01)


def test_parameters_of_float64():
    with jax.enable_x64(True):
        params = DNN(4, 1, 2, param_dtype=jnp.float64).init(jax.random.key(0), jnp.ones((1, 3)))
    chex.assert_type(jax.tree.leaves(params), jnp.float64)


def test_bad_input():
    with pytest.raises(ValueError, match="activation is 'tanh': wanted one of gelu, relu"):
        DNN(4, 1, 2, activation="tanh").init(jax.random.key(0), jnp.ones((1, 3)))
    with pytest.raises(ValueError, match=r"x has shape \(3,\): wanted \(n, ...\)"):
        DNN(4, 1, 2).init(jax.random.key(0), jnp.ones(3))
    for sizes, message in (
        ((0, 1, 2), "width is 0: wanted at least 1"),
        ((4, -1, 2), "depth is -1: wanted at least 0"),
        ((4, 1, 0), "out is 0: wanted at least 1"),
        ((4, 1.5, 2), "depth is 1.5: wanted an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            DNN(*sizes).init(jax.random.key(0), jnp.ones((1, 3)))
    with pytest.raises(ValueError, match="fan_in is 0"):
        torch_bias(0)
