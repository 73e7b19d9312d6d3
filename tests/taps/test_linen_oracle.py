"""Taps of Linen models against what Linen itself sees: ``sow`` and ``perturb`` at every layer.

Linen adds its perturbation after the bias, ours comes before it: the gradient is the same.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import linen
from flax import linen as nn

from gramlin_jax import tap

LAYERS = nn.Dense, nn.DenseGeneral, nn.Conv


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 2))(x))
        x = nn.Conv(6, (2, 3), strides=2, feature_group_count=2, padding="VALID")(x)
        x = nn.gelu(nn.Dense(5)(x.reshape(len(x), -1)))
        return nn.Dense(3)(x)


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x += nn.MultiHeadDotProductAttention(2, qkv_features=4)(nn.LayerNorm()(x))
        h = nn.gelu(nn.Dense(7)(nn.LayerNorm()(x)))
        x += nn.Dense(6)(h)
        return nn.Dense(3)(x.mean(axis=1))


def record(layer, args, kwargs, context):
    """Keeps what a layer reads, and lets its output be shifted."""
    if context.method_name != "__call__" or not isinstance(context.module, LAYERS):
        return layer(*args, **kwargs)
    context.module.sow("read", "x", args[0])
    return context.module.perturb("shift", layer(*args, **kwargs))


def by_site(collection, key):
    """A Linen collection with one entry for each layer, by the name of the layer's kernel."""
    leaves = jax.tree.leaves_with_path(collection)
    names = (jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves)
    entries = zip(names, (leaf for _, leaf in leaves), strict=True)
    return {f"params/{name.split(f'/{key}')[0]}/kernel": leaf for name, leaf in entries}


def loss(out):
    weights = np.random.default_rng(1).normal(size=out.shape)
    return jnp.sum(weights * out + out**2 / 2)


def of_linen(model, params, x):
    """Inputs and δ of every layer."""
    with nn.intercept_methods(record):
        shifts = jax.eval_shape(model.init, jax.random.key(0), x)["perturbations"]

        def shifted(shifts):
            variables = {**params, "perturbations": shifts}
            out, state = model.apply(variables, x, mutable="read")
            return loss(out), state["read"]

        zeros = jax.tree.map(lambda shift: jnp.zeros(shift.shape, shift.dtype), shifts)
        deltas, read = jax.grad(shifted, has_aux=True)(zeros)
    return by_site(read, "x"), by_site(deltas, "shift")


def of_taps(model, params, x):
    tapped = tap(model.apply)
    taps = tapped(params, x)[1]
    zeros = {name: jnp.zeros_like(t.outputs) for name, t in taps.items()}
    deltas = jax.grad(lambda shifts: loss(tapped(params, x, perturbations=shifts)[0]))(zeros)
    return taps, deltas


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "shape"),
    [(CNN(), (2, 5, 7, 3)), (Transformer(), (4, 3, 6))],
    ids=["cnn", "attention"],
)
def test_inputs_and_gradients_are_those_that_linen_sees(model, shape):
    with jax.enable_x64(True):
        draw = lambda *shape: jnp.asarray(rng.normal(size=shape) / 2)  # noqa: E731
        rng = np.random.default_rng(0)
        x = draw(*shape)
        params = linen(draw, model, x)
        read, shifts = jax.jit(of_linen, static_argnums=0)(model, params, x)
        taps, deltas = jax.jit(of_taps, static_argnums=0)(model, params, x)
    assert set(taps) == set(read) == set(shifts)
    for name, t in taps.items():
        groups = t.kernel.shape[:-2]
        features, delta = np.asarray(t.features), np.asarray(deltas[name])
        if groups:  # Linen's channels have the groups as their slow index.
            features, delta = (
                np.moveaxis(a, 0, -2).reshape(*a.shape[1:-1], -1) for a in (features, delta)
            )
        np.testing.assert_allclose(features.reshape(read[name].shape), read[name], rtol=1e-12)
        np.testing.assert_allclose(
            delta.reshape(shifts[name].shape), shifts[name], rtol=0, atol=1e-12
        )
