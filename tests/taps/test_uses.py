"""Uses of a parameter that are near to a linear layer, and what they are taken for."""

import jax.numpy as jnp
import numpy as np

from gramlin_jax import find_layers

X = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32))
SQUARE = jnp.eye(3)


def use_of(f, kernel):
    """Of the leaf ``k`` beside a linear layer."""
    layers = find_layers(lambda p, x: (x @ p["w"], f(p["k"], x)), {"w": SQUARE, "k": kernel}, X)
    return layers.leaves["k"]


def test_a_scaled_sum_over_samples_is_no_layer_and_one_over_inputs_is():
    scale = jnp.ones((1, 3))
    assert use_of(lambda k, x: (x * k).sum(0), scale).status == "bias or elementwise"
    assert "summed" in use_of(lambda k, x: (x * k).sum(1), scale).unsupported[0]


def test_a_kernel_that_data_scale_is_found_though_it_is_transposed():
    for f in (lambda k, x: x @ (k * x.mean()), lambda k, x: x @ (k * x.mean()).T):
        assert "kernel of a matmul that depends on data" in use_of(f, SQUARE).unsupported
