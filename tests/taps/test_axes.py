"""How a parameter is stored, told from where its axes meet the data's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import lax

from gramlin_jax import find_layers, tap
from gramlin_jax.optim import gram_only

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(9, 4)), jnp.float32)
SQUARE = jnp.asarray(RNG.normal(size=(4, 4)), jnp.float32)


def stored(f, kernel=SQUARE, x=X):
    return find_layers(lambda p, x: f(p["w"], x), {"w": kernel}, x).sites["w"].transposed


def product(x, w):
    return lax.dot_general(x, w, (((1,), (0,)), ((), ())))


@pytest.mark.parametrize(
    ("turned", "transposed"),
    [
        (lambda w: w, False),
        (lambda w: w.T, True),
        (lambda w: w.T.T, False),
        (lambda w: w.astype(jnp.bfloat16).T.astype(jnp.float32), True),
        (lambda w: w.reshape(2, 2, 4).reshape(4, 4), False),
        (lambda w: w.reshape(2, 2, 4).transpose(2, 0, 1).reshape(4, 4), True),
        (lambda w: w.reshape(4, 2, 2).transpose(2, 0, 1).reshape(4, 4), None),
        (lambda w: lax.reshape(w, (2, 2, 4), (1, 0)).reshape(4, 4), True),
        (lambda w: w.T * jnp.arange(4.0)[None], True),
        (lambda w: jnp.flip(w[:, None, ::-1].squeeze(1).T, 0), True),
        (lambda w: w[np.array([2, 0, 1, 3])].T, True),
        (lambda w: w / jnp.linalg.norm(w, axis=1, keepdims=True), False),
        (lambda w: jnp.concatenate([w[:2], jnp.zeros((2, 4))]), False),
        (lambda w: w.reshape(4, 2, 2).reshape(8, 2), None),
        (lambda w: w + w.T, None),
        (lambda w: jnp.linalg.inv(w), None),
    ],
)
def test_square_kernels_on_their_way_to_a_product(turned, transposed):
    """What is known has to be so: only a transposed square is stored (out, in)."""
    x = jnp.ones((9, len(turned(SQUARE))))
    assert stored(lambda w, x: product(x, turned(w)), x=x) is transposed


def test_kernels_of_a_scan_are_stored_as_their_leaves_are():
    def layers(ws, x):
        return lax.scan(lambda h, w: (jnp.tanh(h @ w.T), None), x, ws)[0]

    def steps(w, x):
        return lax.scan(lambda h, _: (jnp.tanh(h @ w.T), None), x, None, length=2)[0]

    assert stored(layers, jnp.stack([SQUARE, SQUARE])) is True
    assert stored(steps) is True


class Conv1D(nn.Module):
    """A dense layer as Hugging Face's GPT-2 stores it: (out, in), here a square kernel."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.normal(0.5), (x.shape[-1], x.shape[-1]))
        return product(x, kernel.transpose()) + self.param("bias", nn.initializers.zeros, (1, 4))


class Network(nn.Module):
    """Kernels of both orientations, and leaves that are none; ``positions`` is named like one."""

    @nn.compact
    def __call__(self, x):
        h = jnp.tanh(Conv1D(name="first")(x))
        h = h * self.param("kernel", nn.initializers.ones, (9, 4))
        h = nn.Dense(4, name="second")(h).reshape(len(x), 2, 2)
        h = nn.ConvTranspose(2, (3,), transpose_kernel=True, name="third")(h)
        return nn.DenseGeneral((2, 2), name="heads")(h)


@pytest.fixture(scope="module")
def network():
    return Network(), Network().init(jax.random.key(1), X)


def test_select(network):
    model, params = network
    layers = find_layers(model.apply, params, X)
    paths = jax.tree_util.tree_leaves_with_path(params)
    selected = {
        jax.tree_util.keystr(path[1:], simple=True, separator="/"): layers.select(path, leaf)
        for path, leaf in paths
    }
    assert {name: how for name, how in selected.items() if how} == {
        "first/kernel": "transposed",
        "second/kernel": True,
        "third/kernel": "transposed",
    }


def convolution(x, w):
    return lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))


PIXELS = jnp.ones((2, 9, 4))
FILTERS = jnp.ones((3, 4, 4))


@pytest.mark.parametrize(
    ("f", "kernel", "x", "selected"),
    [
        (lambda w, x: jnp.tanh(x @ w[0]) @ w[1], jnp.stack([SQUARE] * 2), X, False),
        (lambda w, x: jnp.tanh(x @ w[0].T) @ w[1].T, jnp.stack([SQUARE] * 2), X, False),
        (lambda w, x: convolution(convolution(x, w[0]), w[1]), jnp.stack([FILTERS] * 2), PIXELS,
         False),
        (lambda w, x: lax.scan(lambda h, w: (convolution(h, w), None), x, w)[0],
         jnp.stack([FILTERS] * 2), PIXELS, False),
        (lambda w, x: convolution(convolution(x, w), w), FILTERS, PIXELS, True),
        (lambda w, x: jnp.tanh(x @ w) @ w, SQUARE, X, True),
        (lambda w, x: jnp.tanh(x @ w[0]) @ w[0], SQUARE[None], X, True),
        (lambda w, x: [x @ part for part in jnp.split(w, 2, 1)], SQUARE, X, True),
    ],
)  # fmt: skip
def test_layers_in_one_leaf_are_kernels_of_their_own_and_one_shared_kernel_is_one(
    f, kernel, x, selected
):
    layers = find_layers(lambda p, x: f(p["w"], x), {"w": kernel}, x)
    assert layers.select((jax.tree_util.DictKey("w"),), kernel) is selected


@pytest.mark.long
def test_gram_only_keeps_the_grams_of_the_effective_kernels(network):
    """The Gram KKᵀ is that of the step of the inner optimiser, as the taps see the kernels."""
    model, params = network
    y = jnp.asarray(RNG.normal(size=(9, 2, 2, 2)), jnp.float32)
    inner = optax.sgd(0.3)
    optimizer = gram_only(inner, select=find_layers(model.apply, params, X).select)

    @jax.jit
    def stepped(params):
        gradients = jax.grad(lambda p: ((model.apply(p, X) - y) ** 2).mean())(params)
        steps = [
            optax.apply_updates(params, o.update(gradients, o.init(params), params)[0])
            for o in (inner, optimizer)
        ]
        return [tap(model.apply)(p, X)[1] for p in (params, *steps)]

    before, plain, gram = jax.device_get(stepped(params))
    for name in ("first", "second", "third"):
        k0, k1, k2 = (
            t[f"params/{name}/kernel"].kernel.astype(float) for t in (before, plain, gram)
        )
        wanted = k1 @ k1.T
        assert np.abs(k2 @ k2.T - wanted).max() < 1e-6 * np.abs(wanted).max()
        assert np.linalg.norm(k2 - k0) < (1 - 1e-3) * np.linalg.norm(k1 - k0)
