"""Uses of a parameter that are near to a linear layer, and what they are taken for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

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


def products(x, k):
    return x[:, :, None] * k[None]


@pytest.mark.parametrize(
    "f",
    [
        lambda k, x: (products(x, k) * 0.5).sum(1),
        lambda k, x: (-products(x, k) / 3**0.5).sum(1),
        lambda k, x: (products(x, k) / jnp.linalg.norm(k, axis=0)[None, None]).sum(1),
        lambda k, x: products(x, k).transpose(2, 1, 0).sum(1),
        lambda k, x: (products(x, k) * (x > 0)[:, :, None]).sum(1),
        lambda k, x: products(x, k).sum(1, where=x[:, :, None] > 0),
        lambda k, x: products(x, k).sum(1, where=np.tri(3, dtype=bool)[None]),
        lambda k, x: jnp.einsum("i,nio->no", np.ones(3, np.float32), products(x, k)),
        lambda k, x: products(x, k).cumsum(1)[:, -1],
    ],
)
def test_what_scales_masks_or_turns_products_before_their_sum_hides_no_layer(f):
    assert use_of(f, SQUARE).unsupported == ("multiplied with data and summed: use a matmul",)


@pytest.mark.parametrize(
    "f",
    [
        lambda k, h: jnp.square(h * k * 2).mean(-1),
        lambda k, h: (h * k * 2 * (h * k)).mean(-1),
        lambda k, h: (h * k * jax.nn.sigmoid(h)).sum(-1),
        lambda k, h: jnp.where(h * k > 0, h * k, 0).mean(-1),
        lambda k, h: jnp.where(h > 0, h, h * k).mean(-1),
        lambda k, h: (1 / (h * k)).mean(-1),
        lambda k, h: (2 * h * k).mean(0),
        lambda k, h: (h * k * 2) @ np.eye(3, dtype=np.float32),
    ],
)
def test_scales_before_other_norms_gates_and_transforms_are_no_layers(f):
    """Of the features of a layer: their squares, gates and rectifiers are no masks."""
    params = {"w": SQUARE, "k": jnp.ones((1, 3))}
    layers = find_layers(lambda p, x: f(p["k"], jnp.tanh(x @ p["w"])), params, X)
    assert not layers.leaves["k"].unsupported


def test_a_scale_before_dropout_and_the_mean_of_a_norm_is_no_layer():
    def dropped(k, x):
        keep = jax.random.bernoulli(jax.random.key(x[0, 0].astype(int)), 0.9, x.shape)
        return (jnp.where(keep, x * k, 0) / 0.9).mean(-1)

    assert not use_of(dropped, jnp.ones((1, 3))).unsupported


def test_scales_of_queries_and_keys_of_each_head_are_no_layers():
    def attention(scales, x):
        queries, keys = (jnp.tanh(x @ p["k"]).reshape(7, 2, 3) * p["s"] for p in scales)
        return (queries[:, None] * keys[None]).sum(-1)

    params = [{"k": jnp.ones((3, 6)), "s": jnp.ones((1, 2, 3))} for _ in range(2)]
    assert not any(leaf.unsupported for leaf in find_layers(attention, params, X).leaves.values())


def padded(x):
    return jnp.pad(x, ((2, 0), (0, 0)))


@pytest.mark.parametrize(
    "f",
    [
        lambda k, x: sum(padded(x)[i : i + 7] * k[i][None] for i in range(3)),
        lambda k, x: sum(-(k[i][None] * jnp.roll(x, i, 0)) for i in range(3)),
        lambda k, x: x * k[0][None] + padded(x)[1:8] * k[1][None] + padded(x)[:7] * k[2][None],
    ],
)
def test_a_sum_of_shifted_products_is_a_convolution(f):
    """The causal one of Mamba and RecurrentGemma."""
    (reason,) = use_of(f, SQUARE).unsupported
    assert reason == "products of slices that are summed: use a convolution or a matmul"


@pytest.mark.parametrize(
    "f",
    [
        lambda k, x: sum(h * k[i][None] for i, h in enumerate((x, jnp.sin(x), jnp.cos(x)))),
        lambda k, x: sum(padded(x)[i : i + 7] * k[0][None] for i in range(3)),
        lambda k, x: sum(x * k[i][None] for i in range(3)),
        lambda k, x: x * k[0][None] + jnp.roll(x, 1, 0) * k[1][None],
        lambda k, x: x * k[0][None] + jnp.arange(3.0)[None] * x * jnp.zeros((7, 3)),
    ],
)
def test_a_mixture_of_scaled_features_is_no_convolution(f):
    assert not use_of(f, SQUARE).unsupported


def test_a_kernel_that_data_scale_is_found_though_it_is_transposed():
    for f in (lambda k, x: x @ (k * x.mean()), lambda k, x: x @ (k * x.mean()).T):
        assert "kernel of a matmul that depends on data" in use_of(f, SQUARE).unsupported


def test_a_parameter_scaled_by_constants_and_summed_is_no_layer():
    found = use_of(lambda k, x: x + (np.float32(2) * k * np.eye(3)).sum(0, keepdims=True), SQUARE)
    assert found.status == "bias or elementwise" and not found.unsupported


def test_the_order_of_the_inputs_does_not_name_their_layer():
    params = {"kernel": SQUARE[:2], "order": jnp.asarray([0, 1, 0, 1, 1, 0, 1, 0])}
    layers = find_layers(lambda p, x: x @ p["kernel"][p["order"]], params, jnp.ones((7, 8)))
    assert list(layers.sites) == ["kernel"]


def test_steps_of_a_scan_are_layers_of_a_named_activation_as_of_the_kernels_beside_it():
    """A kernel of each step makes the steps layers; one for all steps makes them rows."""

    def each(kernels, x):
        def step(h, kernel):
            return checkpoint_name(jnp.tanh(h @ kernel), "h"), None

        return jax.lax.scan(step, x, kernels)[0]

    def same(kernel, x):
        def step(h, _):
            return checkpoint_name(jnp.tanh(h @ kernel), "h"), None

        return jax.lax.scan(step, x, None, length=2)[0]

    stacked = find_layers(each, jnp.stack([SQUARE, SQUARE]), X).sites["h"]
    assert (stacked.stack, stacked.layers, stacked.rows, stacked.fan_in) == ((2,), 1, (7,), 3)
    shared = find_layers(same, SQUARE, X).sites["h"]
    assert (shared.stack, shared.layers, shared.rows, shared.fan_in) == ((), 0, (2, 7), 3)


def test_a_parameter_that_is_returned_for_the_loss_is_said_to_be():
    """As the temperature of a contrastive loss: no data meet it before the loss."""
    params = {"w": SQUARE, "k": jnp.float32(1), "unread": jnp.float32(1)}
    leaves = find_layers(lambda p, x: (x @ p["w"], jnp.exp(p["k"])), params, X).leaves
    assert str(leaves["k"]) == "unused (no data meet it in f, which returns it)"
    assert str(leaves["unread"]) == "unused (no data meet it)"


def modulated(k, x):
    """A convolution whose kernel each sample scales, as StyleGAN 2 has it."""

    def convolve(x, kernel):
        return jax.lax.conv(x[None, None], kernel, (1,), "SAME")[0]

    return jax.vmap(convolve)(x, k[None] * x[:, :1, None, None])


def test_a_convolution_with_a_kernel_that_data_scale_is_found():
    (reason,) = use_of(modulated, jnp.ones((2, 1, 3))).unsupported
    assert reason == "kernel of a convolution that depends on data"
    biased = lambda k, x: jax.lax.conv(x[None], (x + k)[None], (1,), "SAME")  # noqa: E731
    assert not use_of(biased, jnp.ones((1, 3))).unsupported


def branch(k, x):
    return jax.lax.cond(x.sum() > 0, lambda: k, lambda: jnp.eye(3))


def loop(k, x):
    more = lambda c: c[1] < x.sum()  # noqa: E731
    return jax.lax.while_loop(more, lambda c: (2 * c[0], c[1] + 1), (k, 0.0))[0]


def learnt(k, x):
    """Each step reads a kernel that has learnt from the steps before; the first a parameter."""
    learn = lambda k, x: (k - jax.grad(lambda k: ((x @ k) ** 2).sum())(k), x @ k)  # noqa: E731
    return jax.lax.scan(learn, k, x)[1]


@pytest.mark.parametrize(
    "f",
    [
        lambda k, x: jax.lax.scan(lambda h, _: (h @ (k * x.sum()), None), x, None, length=2)[0],
        lambda k, x: jax.lax.map(lambda xk: xk[0] @ xk[1], (x, k[None] * x[:, :, None])),
        lambda k, x: jnp.einsum("ni,nij->nj", x, jax.lax.map(lambda x: k * x[0], x)),
        lambda k, x: x @ jax.lax.scan(lambda c, x: (c * x[0], None), k, x)[0],
        lambda k, x: x @ branch(k, x),
        lambda k, x: x @ loop(k, x),
        learnt,
    ],
)
def test_a_kernel_that_data_change_before_in_or_after_a_loop_or_branch_is_found(f):
    (reason,) = use_of(f, SQUARE).unsupported
    assert "depends on data" in reason or "kernels that data choose" in reason


def gram(h, x):
    return h + x[None], h @ h.T


@pytest.mark.parametrize(
    "f",
    [
        lambda k, x: jax.lax.scan(lambda s, x: (s * k.T + x[None], x @ s), 0 * SQUARE, x),
        lambda k, x: jax.lax.scan(gram, jnp.broadcast_to(k, (7, 3)), x),
        lambda k, x: jax.lax.scan(gram, jnp.tile(k, (7, 1)), x),
        lambda k, x: x * jax.lax.cond(x.sum() > 0, lambda: k, lambda: jnp.ones((1, 3))),
    ],
    ids=["a decay", "a first state", "a repeated one", "a scale"],
)
def test_what_loops_and_branches_do_to_scales_and_states_makes_no_kernel(f):
    found = use_of(f, jnp.ones((1, 3)))
    assert found.status == "bias or elementwise" and not found.unsupported


def test_data_choose_none_of_the_kernels_that_a_constant_chooses():
    f = lambda k, x: x @ jax.lax.cond(k[0, 0] > 0, lambda x: k, lambda x: -k, x)  # noqa: E731
    assert use_of(f, SQUARE).status == "linear site"


def added_up(product):
    """The sum over inputs as the carry of a loop."""

    def f(k, x):
        add = lambda total, kx: (total + product(*kx), None)  # noqa: E731
        return jax.lax.scan(add, 0 * x, (k, x.T))[0]

    return f


@pytest.mark.parametrize(
    "f",
    [
        added_up(lambda k, x: k[None] * x[:, None]),
        added_up(lambda k, x: -(x[:, None] * k[None])),
        lambda k, x: jax.ops.segment_sum(products(x, k).swapaxes(0, 1), np.arange(3) // 2, 2),
        lambda k, x: jax.lax.reduce_window(
            products(x, k), 0.0, jax.lax.add, (1, 2, 1), (1, 1, 1), "VALID"
        ),
    ],
)
def test_products_that_a_loop_a_window_or_segments_add_up_are_a_layer(f):
    assert use_of(f, SQUARE).unsupported == ("multiplied with data and summed: use a matmul",)


def stream(ks, h):
    """Layers with a scale of their own, which add to what they read."""
    return jax.lax.scan(lambda h, k: (h + k[None] * jnp.tanh(h), None), h, ks)[0]


def moving(ks, x):
    """Sums over time of what is scaled in the same way at each step, one for each scale."""
    add = lambda k: lambda s, x: (s + k * x, None)  # noqa: E731
    return jax.lax.map(lambda k: jax.lax.scan(add(k), 0 * x[0], x)[0], ks)


@pytest.mark.parametrize(
    "f",
    [
        stream,
        moving,
        lambda k, x: jax.ops.segment_sum(x * k[:1], np.arange(7) // 2, 4),
        lambda k, x: jax.lax.reduce_window(x * k[:1], 0.0, jax.lax.add, (2, 1), (1, 1), "VALID"),
    ],
)
def test_scales_before_such_sums_are_no_layers(f):
    found = use_of(f, SQUARE)
    assert found.status == "bias or elementwise" and not found.unsupported


@jax.custom_vjp
def scaled_gradient(tree):
    return tree


scaled_gradient.defvjp(lambda tree: (tree, None), lambda _, g: (jax.tree.map(jnp.square, g),))


@pytest.mark.parametrize("together", [scaled_gradient, jax.lax.optimization_barrier])
def test_a_kernel_that_passes_beside_data_through_an_equation_is_one(together):
    def f(k, x):
        k, x = together((k.T, x))
        return x @ k

    layers = find_layers(
        lambda p, x: f(p["k"], jnp.tanh(x @ p["w"])), {"w": SQUARE, "k": SQUARE}, X
    )
    assert list(layers.sites) == ["w", "k"] and layers.sites["k"].transposed
    assert not any(leaf.unsupported for leaf in layers.leaves.values())


def test_a_kernel_that_a_custom_rule_mixes_with_data_is_found():
    mix = jax.custom_vjp(lambda k, x: k * x.mean())
    mix.defvjp(lambda k, x: (k * x.mean(), (k, x)), lambda kx, g: (g * kx[1].mean(), 0 * kx[1]))
    (reason,) = use_of(lambda k, x: x @ mix(k, x), SQUARE).unsupported
    assert reason == "kernel of a matmul that depends on data"
