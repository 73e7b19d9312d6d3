"""Functions with linear layers of every kind that taps have to find, and what they have to find.

A case is a function whose name says what it is. It gets ``draw``, which makes an array of random
numbers of a shape, and returns ``f, params, args`` with ``f(params, *args)`` an array. The sizes of
samples, inputs, units and outputs differ, so that no transposition goes unnoticed.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name

LINEAR, BIAS, UNUSED = "linear site", "bias or elementwise", "unused"


class Site(NamedTuple):
    """A site as it has to be found; of a named activation only its name and primitive."""

    name: str
    primitive: str
    stack: tuple = ()
    rows: tuple = ()
    fan_in: int | None = None
    fan_out: int | None = None


class Lost(NamedTuple):
    """A leaf with a use that is not tapped: what the reason says, and the status all the same."""

    reason: str
    status: str = "unsupported"


def dense(name, rows, fan_in, fan_out, stack=()):
    return Site(name, "dot_general", stack, rows, fan_in, fan_out)


def conv(name, rows, fan_in, fan_out, stack=()):
    return Site(name, "conv_general_dilated", stack, rows, fan_in, fan_out)


def named(name):
    return Site(name, "name")


@dataclasses.dataclass(frozen=True)
class Case:
    """A function and what is to be found in it.

    Attributes:
        name: Of the case.
        build: Makes the function, its parameters and its arguments.
        sites: In the order of the computation.
        leaves: Status of the leaves that are not "linear site".
        direct: Whether every kernel is its leaf as it stands, but for its shape.
        partial: Leaves with uses beside their sites, whose gradients are more than these make up.
        differentiable: Whether reverse mode passes through the function.
        rtol: Of gradients, relative to the largest number.
    """

    name: str
    build: Callable[[], tuple]
    sites: tuple[Site, ...]
    leaves: dict[str, str | Lost]
    direct: bool = False
    partial: tuple[str, ...] = ()
    differentiable: bool = True
    rtol: float = 1e-10


CASES: list[Case] = []


def case(*sites: Site, leaves: dict[str, Any] | None = None, **options):
    """Adds a function to the cases."""

    def add(function):
        def build():
            rng = np.random.default_rng(0)
            return function(lambda *shape: jnp.asarray(rng.normal(size=shape) / 2))

        CASES.append(Case(function.__name__, build, sites, leaves or {}, **options))
        return function

    return add


def fill(draw, shapes):
    """A pytree of shapes with random numbers in it."""
    is_array = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
    return jax.tree.map(lambda leaf: draw(*leaf.shape) if is_array(leaf) else leaf, shapes)


def linen(draw, module, *args):
    """The variables of a Linen module, all of them drawn: biases as well, which start at zero."""
    return fill(draw, jax.eval_shape(module.init, jax.random.key(0), *args))


# Plain functions of a dictionary.


@case(
    dense("hidden/kernel", (4,), 3, 5),
    dense("output/kernel", (4,), 5, 2),
    leaves={"hidden/bias": BIAS, "output/bias": BIAS},
    direct=True,
)
def mlp(draw):
    params = {
        "hidden": {"kernel": draw(3, 5), "bias": draw(5)},
        "output": {"kernel": draw(5, 2), "bias": draw(2)},
    }

    def f(params, x):
        h = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
        return h @ params["output"]["kernel"] + params["output"]["bias"][None]

    return f, params, (draw(4, 3),)


@case(
    dense("0", (4,), 3, 5),
    dense("1", (4,), 5, 3),
    dense("2", (4,), 3, 2),
    direct=True,
)
def residual(draw):
    """What flows around the layers must not be in their gradients."""

    def f(params, x):
        up, down, out = params
        return (x + jnp.tanh(x @ up) @ down) @ out

    return f, (draw(3, 5), draw(5, 3), draw(3, 2)), (draw(4, 3),)


@case(
    dense("first", (4,), 3, 5),
    dense("shared", (4,), 5, 5),
    dense("shared#2", (4,), 5, 5),
    dense("last", (4,), 5, 2),
    direct=True,
)
def nested_jit(draw):
    layer = jax.jit(lambda w, h: jnp.tanh(h @ w))
    twice = jax.jit(lambda w, h: layer(w, layer(w, h)))

    def f(params, x):
        return jax.jit(twice)(params["shared"], layer(params["first"], x)) @ params["last"]

    return f, {"first": draw(3, 5), "last": draw(5, 2), "shared": draw(5, 5)}, (draw(4, 3),)


@case(dense("w0", (4,), 3, 5), dense("w1", (4,), 5, 2), leaves={"unused": UNUSED}, direct=True)
def unused_parameter(draw):
    def f(params, x):
        return jnp.tanh(x @ params["w0"]) @ params["w1"]

    return f, {"unused": draw(3), "w0": draw(3, 5), "w1": draw(5, 2)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5), leaves={"gain": BIAS, "position": BIAS, "token": BIAS})
def parameters_beside_data(draw):
    """Parameters that scale, are added, or stand beside data: a class token, say."""

    def f(params, x):
        token = jnp.broadcast_to(params["token"][None], (1, 3))
        h = jnp.concatenate([token, params["gain"] * x]) + params["position"]
        return jnp.tanh(h) @ params["w"]

    params = {"gain": draw(), "position": draw(4, 3), "token": draw(3), "w": draw(3, 5)}
    return f, params, (draw(3, 3),)


@case(dense("w", (4,), 3, 5), leaves={"added": BIAS, "multiplied": BIAS, "put": BIAS}, direct=True)
def parameters_written_into_data(draw):
    def f(params, x):
        h = x @ params["w"]
        h = h.at[0].set(params["put"]).at[1].add(params["added"])
        return jnp.tanh(h.at[2].multiply(params["multiplied"]))

    params = {"added": draw(5), "multiplied": draw(5), "put": draw(5), "w": draw(3, 5)}
    return f, params, (draw(4, 3),)


@case(dense("w", (4,), 3, 5), direct=True)
def callback(draw):
    """An equation without a result."""

    def f(params, x):
        h = x @ params["w"]
        jax.debug.callback(lambda mean: None, h.mean())
        return jnp.tanh(h)

    return f, {"w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5))
def constant_matrices(draw):
    """A constant times data is no site; a constant times a kernel is a kernel."""
    rotation, mixing = draw(3, 3), draw(5, 5)

    def f(params, x):
        return jnp.tanh(x @ rotation) @ (params["w"] @ mixing) @ mixing

    return f, {"w": draw(3, 5)}, (draw(4, 3),)


# Rematerialisation.


@case(dense("w0", (4,), 3, 5), dense("w1", (4,), 5, 2), leaves={"b": BIAS}, direct=True)
def remat(draw):
    @jax.checkpoint
    def f(params, x):
        return jnp.tanh(x @ params["w0"] + params["b"][None]) @ params["w1"]

    return f, {"b": draw(5), "w0": draw(3, 5), "w1": draw(5, 2)}, (draw(4, 3),)


@case(dense("w0", (4,), 3, 5), dense("w1", (4,), 5, 5), dense("w2", (4,), 5, 2), direct=True)
def remat_with_a_policy(draw):
    saveable = jax.checkpoint_policies.dots_with_no_batch_dims_saveable

    @functools.partial(jax.checkpoint, policy=saveable, prevent_cse=False)
    def block(w0, w1, x):
        return jnp.tanh(jnp.tanh(x @ w0) @ w1)

    def f(params, x):
        return block(params["w0"], params["w1"], x) @ params["w2"]

    return f, {"w0": draw(3, 5), "w1": draw(5, 5), "w2": draw(5, 2)}, (draw(4, 3),)


@case(dense("w0", (4,), 3, 5), named("hidden"), dense("w1", (4,), 5, 2), direct=True)
def remat_that_saves_a_name(draw):
    @functools.partial(
        jax.checkpoint, policy=jax.checkpoint_policies.save_only_these_names("hidden")
    )
    def f(params, x):
        h = checkpoint_name(jnp.tanh(x @ params["w0"]), "hidden")
        return jnp.tanh(h) @ params["w1"]

    return f, {"w0": draw(3, 5), "w1": draw(5, 2)}, (draw(4, 3),)


# Loops.


@case(
    dense("up", (4,), 3, 5, stack=(2,)),
    dense("down", (4,), 5, 3, stack=(2,)),
    leaves={"bias": BIAS},
    direct=True,
)
def scan_over_layers(draw):
    def block(h, layer):
        return h + jnp.tanh(h @ layer["up"] + layer["bias"][None]) @ layer["down"], None

    def f(params, x):
        return lax.scan(block, x, params)[0]

    return f, {"bias": draw(2, 5), "down": draw(2, 5, 3), "up": draw(2, 3, 5)}, (draw(4, 3),)


@case(
    dense("up", (4,), 3, 5, stack=(2,)),
    dense("down", (4,), 5, 3, stack=(2,)),
    dense("last", (4,), 3, 2),
    direct=True,
)
def reversed_scan(draw):
    def block(h, layer):
        return h + jnp.tanh(h @ layer["up"]) @ layer["down"], h

    def f(params, x):
        layers = {"down": params["down"], "up": params["up"]}
        h, seen = lax.scan(block, x, layers, reverse=True, unroll=2)
        return (h + seen[1] * seen[0]) @ params["last"]

    return f, {"down": draw(2, 5, 3), "last": draw(3, 2), "up": draw(2, 3, 5)}, (draw(4, 3),)


@case(
    dense("hidden", (6, 4), 5, 5),
    dense("input", (6, 4), 3, 5),
    dense("output", (4,), 5, 2),
    leaves={"bias": BIAS},
    direct=True,
)
def recurrent(draw):
    """The kernels are the same at all times: time is an axis of rows."""

    def f(params, x):
        def step(h, x):
            return jnp.tanh(h @ params["hidden"] + x @ params["input"] + params["bias"][None]), None

        return lax.scan(step, jnp.zeros((4, 5)), x)[0] @ params["output"]

    params = {"bias": draw(5), "hidden": draw(5, 5), "input": draw(3, 5), "output": draw(5, 2)}
    return f, params, (draw(6, 4, 3),)


@case(dense("w", (6, 4), 5, 5), leaves={"start": BIAS}, direct=True)
def learned_initial_state(draw):
    """The carry is a parameter at first and depends on data from the second step on."""

    def f(params, x):
        def step(h, x):
            return jnp.tanh(h @ params["w"] + x), None

        return lax.scan(step, params["start"], x)[0]

    return f, {"start": draw(4, 5), "w": draw(5, 5)}, (draw(6, 4, 5),)


@case(
    dense("input", (6, 4), 3, 5, stack=(2,)),
    dense("hidden", (6, 4), 5, 5, stack=(2,)),
    dense("output", (6, 4), 5, 3, stack=(2,)),
    direct=True,
)
def scan_over_recurrent_layers(draw):
    def layer(sequence, params):
        def step(h, x):
            h = jnp.tanh(x @ params["input"] + h @ params["hidden"])
            return h, h @ params["output"]

        return lax.scan(step, jnp.zeros((4, 5)), sequence)[1], None

    def f(params, x):
        return lax.scan(layer, x, params)[0]

    params = {"hidden": draw(2, 5, 5), "input": draw(2, 3, 5), "output": draw(2, 5, 3)}
    return f, params, (draw(6, 4, 3),)


@case(
    dense("input", (6, 4), 3, 3, stack=(2,)),
    dense("hidden", (6, 4), 3, 3, stack=(2,)),
    direct=True,
)
def recurrence_over_scanned_layers(draw):
    """The other way round: the scan over kernels is inside of the one over rows."""

    def f(params, x):
        def layer(below, parts):
            params, h = parts
            h = jnp.tanh(below @ params["input"] + h @ params["hidden"])
            return h, h

        def step(hidden, x):
            top, hidden = lax.scan(layer, x, (params, hidden))
            return hidden, top

        return lax.scan(step, jnp.zeros((2, 4, 3)), x)[1]

    return f, {"hidden": draw(2, 3, 3), "input": draw(2, 3, 3)}, (draw(6, 4, 3),)


@case(dense("up", (4,), 3, 5, stack=(2,)), dense("down", (4,), 5, 3, stack=(2,)), direct=True)
def scan_over_rematerialised_layers(draw):
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def block(h, layer):
        return h + jnp.tanh(h @ layer["up"]) @ layer["down"], None

    def f(params, x):
        return lax.scan(block, x, params)[0]

    return f, {"down": draw(2, 5, 3), "up": draw(2, 3, 5)}, (draw(4, 3),)


@case(dense("up", (2, 4), 3, 5), dense("down", (2, 4), 5, 3), direct=True)
def one_block_many_times(draw):
    def f(params, x):
        def block(_, h):
            return h + jnp.tanh(h @ params["up"]) @ params["down"]

        return lax.fori_loop(0, 2, block, x)

    return f, {"down": draw(5, 3), "up": draw(3, 5)}, (draw(4, 3),)


@case(dense("up", (4,), 3, 5, stack=(2,)), dense("down", (4,), 5, 3, stack=(2,)), direct=True)
def layers_indexed_in_a_loop(draw):
    """The counter makes the kernel another one at each step, though no array is scanned over."""

    def f(params, x):
        def block(i, h):
            return h + jnp.tanh(h @ params["up"][i]) @ params["down"][i]

        return lax.fori_loop(0, 2, block, x)

    return f, {"down": draw(2, 5, 3), "up": draw(2, 3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 3, stack=(2,)))
def kernel_that_decays_in_the_carry(draw):
    def f(params, x):
        def step(carry, _):
            h, w = carry
            return (jnp.tanh(h @ w), w / 2), None

        return lax.scan(step, (x, params["w"]), length=2)[0][0]

    return f, {"w": draw(3, 3)}, (draw(4, 3),)


@case(dense("w0", (4,), 3, 5), dense("w1", (4,), 5, 2), direct=True)
def mapped_samples(draw):
    def f(params, x):
        return lax.map(lambda x: jnp.tanh(x @ params["w0"]) @ params["w1"], x)

    return f, {"w0": draw(3, 5), "w1": draw(5, 2)}, (draw(4, 3),)


# Batching.


@case(dense("w0", (4,), 3, 5), dense("w1", (4,), 5, 2), leaves={"b": BIAS}, direct=True)
def vmap_over_samples(draw):
    def f(params, x):
        return jax.vmap(lambda x: jnp.tanh(x @ params["w0"] + params["b"]) @ params["w1"])(x)

    return f, {"b": draw(5), "w0": draw(3, 5), "w1": draw(5, 2)}, (draw(4, 3),)


@case(dense("w0", (4,), 3, 5), dense("w1", (4,), 5, 2))
def matrix_times_vector(draw):
    def f(params, x):
        return jax.vmap(lambda x: params["w1"] @ jnp.tanh(params["w0"] @ x))(x)

    return f, {"w0": draw(5, 3), "w1": draw(2, 5)}, (draw(4, 3),)


@case(dense("w0", (4,), 3, 10), dense("w1", (4,), 5, 2, stack=(2,)), leaves={"b": BIAS})
def ensemble(draw):
    """Networks that read the same data: their first layers are one layer that is wider."""

    def network(params, x):
        return jnp.tanh(x @ params["w0"] + params["b"][None]) @ params["w1"]

    def f(params, x):
        return jax.vmap(network, in_axes=(0, None))(params, x)

    return f, {"b": draw(2, 5), "w0": draw(2, 3, 5), "w1": draw(2, 5, 2)}, (draw(4, 3),)


@case(dense("w0", (4,), 3, 5, stack=(2,)), dense("w1", (4,), 5, 2, stack=(2,)), direct=True)
def ensemble_with_data_of_its_own(draw):
    def f(params, x):
        return jax.vmap(lambda w, x: jnp.tanh(x @ w["w0"]) @ w["w1"])(params, x)

    return f, {"w0": draw(2, 3, 5), "w1": draw(2, 5, 2)}, (draw(2, 4, 3),)


@case(conv("w", (4, 7), 9, 10), dense("v", (4, 7), 5, 2, stack=(2,)))
def ensemble_of_convolutions(draw):
    def network(params, x):
        h = lax.conv_general_dilated(
            x, params["w"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        return jnp.tanh(h) @ params["v"]

    def f(params, x):
        return jax.vmap(network, in_axes=(0, None))(params, x)

    return f, {"v": draw(2, 5, 2), "w": draw(2, 3, 3, 5)}, (draw(4, 7, 3),)


@case(conv("w", (4, 7), 9, 5, stack=(2,)))
def ensemble_of_convolutions_with_data_of_its_own(draw):
    def network(w, x):
        return lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))

    def f(params, x):
        return jax.vmap(network)(params["w"], x)

    return f, {"w": draw(2, 3, 3, 5)}, (draw(2, 4, 7, 3),)


# Kernels that are computed from parameters.


@case(dense("w0", (4,), 3, 5), dense("w1", (4,), 5, 2), leaves={"b": BIAS}, rtol=2e-2)
def bfloat16(draw):
    """Parameters of 32 bits, computation in 16."""
    shapes = {"b": (5,), "w0": (3, 5), "w1": (5, 2)}

    def f(params, x):
        params, x = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, x))
        return jnp.tanh(x @ params["w0"] + params["b"][None]) @ params["w1"]

    params = {name: draw(*shape).astype(jnp.float32) for name, shape in shapes.items()}
    return f, params, (draw(4, 3).astype(jnp.float32),)


@case(dense("w", (4,), 3, 5))
def transposed_kernel(draw):
    return lambda params, x: jnp.tanh(x @ params["w"].T), {"w": draw(5, 3)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5))
def scaled_kernel(draw):
    return lambda params, x: jnp.tanh(x @ (params["w"] / 3**0.5)), {"w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5))
def kernel_with_a_learned_scale(draw):
    """Two leaves make the kernel: the larger names it, both get their gradients from it."""

    def f(params, x):
        return jnp.tanh(x @ (params["c"] * params["w"]))

    return f, {"c": draw(), "w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5))
def frozen_kernel(draw):
    def f(params, x):
        return jnp.tanh(x @ lax.stop_gradient(params["w"]))

    return f, {"w": draw(3, 5)}, (draw(4, 3),)


@case(dense("direction", (4,), 3, 5))
def weight_norm(draw):
    def f(params, x):
        direction = params["direction"]
        length = jnp.sqrt(jnp.sum(direction**2, axis=0, keepdims=True))
        return jnp.tanh(x @ (params["length"][None] * direction / length))

    return f, {"direction": draw(3, 5), "length": draw(5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5))
def spectral_norm(draw):
    """A loop over parameters alone: the products in it are no sites."""

    def f(params, x):
        w = params["w"]

        def iterate(_, v):
            u = w.T @ (w @ v)
            return u / jnp.sqrt(jnp.sum(u**2))

        v = lax.fori_loop(0, 2, iterate, jnp.ones(5))
        return jnp.tanh(x @ (w / jnp.sqrt(jnp.sum((w @ v) ** 2))))

    return f, {"w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5))
def permuted_kernel(draw):
    """Parameters at places which constants choose are still a kernel."""
    order = np.array([2, 0, 1])
    return lambda params, x: jnp.tanh(x @ params["w"][order]), {"w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5))
def quantised_kernel(draw):
    """A custom rule between the leaf and the kernel: the gradient passes straight through."""

    @jax.custom_vjp
    def quantise(w):
        return jnp.round(2 * w) / 2

    quantise.defvjp(lambda w: (quantise(w), None), lambda _, gradient: (gradient,))
    return lambda params, x: jnp.tanh(x @ quantise(params["w"])), {"w": draw(3, 5)}, (draw(4, 3),)


@case(dense("scale", (4,), 3, 5), differentiable=False)
def int8_kernel_with_a_scale(draw):
    """The leaf of floating point, which has a gradient, names the kernel."""

    def f(params, x):
        return jnp.tanh(x @ (params["w"] * params["scale"][None]))

    w = jnp.asarray(np.random.default_rng(0).integers(-9, 9, (3, 5)), jnp.int8)
    return f, {"scale": draw(5), "w": w}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5))
def lora_merged(draw):
    def f(params, x):
        return jnp.tanh(x @ (params["w"] + params["a"] @ params["b"]))

    return f, {"a": draw(3, 2), "b": draw(2, 5), "w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5), dense("a", (4,), 3, 2), dense("b", (4,), 2, 5), direct=True)
def lora_unmerged(draw):
    def f(params, x):
        return jnp.tanh(x @ params["w"] + (x @ params["a"]) @ params["b"])

    return f, {"a": draw(3, 2), "b": draw(2, 5), "w": draw(3, 5)}, (draw(4, 3),)


@case(dense("a", (4,), 3, 3))
def factors_of_one_size(draw):
    """The first of the largest leaves names the kernel."""

    def f(params, x):
        return jnp.tanh(x @ (params["b"] @ params["a"]))

    return f, {"a": draw(3, 3), "b": draw(3, 3)}, (draw(4, 3),)


@case(dense("read", (4, 6), 3, 5), dense("query", (4, 6), 5, 2), dense("write", (4, 2), 3, 7))
def learned_queries(draw):
    """Attention whose queries are parameters: scores are a linear layer of the keys."""

    def f(params, x):
        keys = x @ params["read"]
        scores = jax.nn.softmax(jnp.einsum("nti,qi->ntq", keys, params["query"]), axis=1)
        return jnp.einsum("ntq,nti->nqi", scores, x) @ params["write"]

    return f, {"query": draw(2, 5), "read": draw(3, 5), "write": draw(3, 7)}, (draw(4, 6, 3),)


# Products of every form.


@case(
    dense("plain", (4, 2), 3, 5),
    dense("heads", (4, 2), 3, 10),
    dense("own", (4,), 3, 5, stack=(2,)),
    dense("both", (4,), 3, 30, stack=(2,)),
    dense("first", (4, 2), 3, 5),
    dense("merged", (4,), 6, 5),
    dense("vector", (4, 2), 3, 1),
    dense("all", (4,), 6, 1),
    dense("outer", (4, 2, 3), 1, 5),
)
def einsum(draw):
    forms = {
        "plain": ("nti,io->nto", (3, 5)),
        "heads": ("nti,hio->nhto", (2, 3, 5)),
        "own": ("nhi,hio->nho", (2, 3, 5)),
        "both": ("nsi,sjio->njso", (2, 6, 3, 5)),
        "first": ("nti,io->ont", (3, 5)),
        "merged": ("nti,tio->no", (2, 3, 5)),
        "vector": ("nti,i->tn", (3,)),
        "all": ("nti,ti->n", (2, 3)),
        "outer": ("nti,o->ntio", (5,)),
    }

    def f(params, x):
        results = (jnp.einsum(form, x, params[name]) for name, (form, _) in forms.items())
        return jnp.concatenate([result.ravel() for result in results])

    return f, {name: draw(*shape) for name, (_, shape) in forms.items()}, (draw(4, 2, 3),)


@case(dense("w", (4,), 6, 5))
def bilinear(draw):
    def f(params, x, y):
        return jnp.einsum("ni,nj,ijo->no", x, y, params["w"])

    return f, {"w": draw(2, 3, 5)}, (draw(4, 2), draw(4, 3))


@case(dense("w", (4, 2), 3, 5))
def kernel_first(draw):
    """The kernel as the first operand, its axes in another order than the data's."""

    def f(params, x):
        return lax.dot_general(params["w"], jnp.tanh(x), (((1,), (1,)), ((), ())))

    return f, {"w": draw(5, 3)}, (draw(4, 3, 2),)


@case(dense("w", (2, 7), 15, 6, stack=(4,)))
def several_axes_of_each_kind(draw):
    def f(params, x):
        return lax.dot_general(x, params["w"], (((1, 4), (3, 0)), ((2,), (1,))))

    return f, {"w": draw(5, 4, 6, 3)}, (draw(2, 3, 4, 7, 5),)


# Linen.


@case(
    dense("params/Dense_0/kernel", (4,), 3, 5),
    dense("params/Dense_1/kernel", (4,), 5, 2),
    leaves={"params/Dense_0/bias": BIAS},
    direct=True,
)
def linen_mlp(draw):
    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.gelu(nn.Dense(5)(x))
            return nn.Dense(2, use_bias=False)(x)

    x = draw(4, 3)
    return MLP().apply, linen(draw, MLP(), x), (x,)


@case(
    dense("params/layers_0/kernel", (4,), 6, 10),
    dense("params/layers_2/kernel", (4,), 5, 3, stack=(2,)),
    leaves={"params/layers_0/bias": BIAS, "params/layers_2/bias": BIAS},
    direct=True,
)
def linen_dense_general(draw):
    """Several axes in and out, then a kernel for each index of a leading axis."""
    merge, each = nn.DenseGeneral((2, 5), axis=(-2, -1)), nn.DenseGeneral(3, batch_dims=(0,))
    model, x = nn.Sequential([merge, lambda h: jnp.tanh(h.swapaxes(0, 1)), each]), draw(4, 2, 3)
    return model.apply, linen(draw, model, x), (x,)


def attention_leaves(prefix):
    return {f"{prefix}/{name}/bias": BIAS for name in ("key", "out", "query", "value")}


@case(
    *(dense(f"params/attention/{name}/kernel", (4, 3), 6, 8) for name in ("query", "key", "value")),
    dense("params/attention/out/kernel", (4, 3), 8, 6),
    dense("params/Dense_0/kernel", (4, 3), 6, 5),
    leaves={
        **attention_leaves("params/attention"),
        **{f"params/{name}": BIAS for name in ("LayerNorm_0/bias", "LayerNorm_0/scale")},
        "params/Dense_0/bias": BIAS,
    },
    direct=True,
)
def linen_attention(draw):
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            attention = nn.MultiHeadDotProductAttention(2, qkv_features=8, name="attention")
            return nn.Dense(5)(x + attention(nn.LayerNorm()(x)))

    x = draw(4, 3, 6)
    return Block().apply, linen(draw, Block(), x), (x,)


@case(
    dense("params/block/Dense_0/kernel", (4,), 3, 5, stack=(2,)),
    dense("params/block/Dense_1/kernel", (4,), 5, 3, stack=(2,)),
    leaves={f"params/block/Dense_{i}/bias": BIAS for i in (0, 1)},
    direct=True,
)
def linen_scan_of_remat(draw):
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            h = nn.relu(nn.Dense(5)(x))
            return x + nn.Dense(3)(h), None

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            block = nn.remat(Block, prevent_cse=False)
            split = {"params": True}
            stack = nn.scan(block, variable_axes={"params": 0}, split_rngs=split, length=2)
            return stack(name="block")(x, None)[0]

    x = draw(4, 3)
    return Network().apply, linen(draw, Network(), x), (x,)


@case(
    dense("params/Dense_0/kernel", (4, 2), 3, 5),
    leaves={f"params/LayerNorm_{i}/{name}": BIAS for i in (0, 1) for name in ("bias", "scale")},
    direct=True,
)
def linen_layer_norms(draw):
    """The second sums over what the first has scaled, which makes that no linear layer."""

    class Norms(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(5, use_bias=False)(x)
            return nn.LayerNorm()(x + nn.LayerNorm()(x))

    x = draw(4, 2, 3)
    return Norms().apply, linen(draw, Norms(), x), (x,)


@case(
    dense("params/Dense_0/kernel", (4,), 3, 5), leaves={"params/RMSNorm_0/scale": BIAS}, direct=True
)
def linen_norm_without_bias_before_a_mean(draw):
    """What is scaled value by value may be averaged over tokens and stay no linear layer."""

    class Norm(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(5, use_bias=False)(nn.RMSNorm()(x).mean(axis=1))

    x = draw(4, 2, 3)
    return Norm().apply, linen(draw, Norm(), x), (x,)


# Convolutions.


def convolution_case(name, layer, shape, *sites, bias=True, **options):
    """A case of one Linen layer."""

    def function(draw):
        x = draw(*shape)
        return (lambda params, x: jnp.tanh(layer.apply(params, x))), linen(draw, layer, x), (x,)

    function.__name__ = name
    case(*sites, leaves={"params/bias": BIAS} if bias else {}, **options)(function)


KERNEL = "params/kernel"

convolution_case("conv_1d", nn.Conv(4, (3,)), (2, 6, 3), conv(KERNEL, (2, 6), 9, 4), direct=True)
convolution_case(
    "conv_2d",
    nn.Conv(4, (3, 2), use_bias=False),
    (2, 5, 6, 3),
    conv(KERNEL, (2, 5, 6), 18, 4),
    bias=False,
    direct=True,
)
convolution_case(
    "conv_strided",
    nn.Conv(4, (3, 2), strides=(2, 1), padding=((1, 0), (0, 2))),
    (2, 5, 6, 3),
    conv(KERNEL, (2, 2, 7), 18, 4),
    direct=True,
)
convolution_case(
    "conv_dilated",
    nn.Conv(4, (2, 3), kernel_dilation=(2, 1), padding="VALID"),
    (2, 5, 6, 3),
    conv(KERNEL, (2, 3, 4), 18, 4),
    direct=True,
)
convolution_case(
    "conv_of_dilated_input",
    nn.Conv(4, (2, 3), input_dilation=(2, 1), strides=(1, 2), padding=((1, 0), (0, 1))),
    (2, 3, 6, 3),
    conv(KERNEL, (2, 5, 3), 18, 4),
    direct=True,
)
convolution_case(
    "conv_grouped",
    nn.Conv(6, (3, 2), feature_group_count=2),
    (2, 5, 6, 4),
    conv(KERNEL, (2, 5, 6), 12, 3, stack=(2,)),
)
convolution_case(
    "conv_depthwise",
    nn.Conv(6, (3, 2), feature_group_count=3, strides=2),
    (2, 5, 6, 3),
    conv(KERNEL, (2, 3, 3), 6, 2, stack=(3,)),
)
convolution_case(
    "conv_transposed",
    nn.ConvTranspose(4, (3, 2), strides=(2, 1)),
    (2, 3, 5, 3),
    conv(KERNEL, (2, 6, 5), 18, 4),
    direct=True,
)
convolution_case(
    "conv_transposed_with_flipped_kernel",
    nn.ConvTranspose(4, (3, 2), strides=(1, 3), padding="VALID", transpose_kernel=True),
    (2, 3, 5, 3),
    conv(KERNEL, (2, 5, 15), 18, 4),
)


@case(conv("w", (2, 5, 4), 18, 6))
def conv_channels_first(draw):
    def f(params, x):
        return jnp.tanh(lax.conv_general_dilated(x, params["w"], (1, 1), "SAME"))

    return f, {"w": draw(6, 3, 3, 2)}, (draw(2, 3, 5, 4),)


@case(conv("w", (2, 5, 4), 12, 3, stack=(2,)))
def conv_grouped_channels_first(draw):
    def f(params, x):
        z = lax.conv_general_dilated(x, params["w"], (1, 1), "SAME", feature_group_count=2)
        return jnp.tanh(z)

    return f, {"w": draw(6, 2, 3, 2)}, (draw(2, 4, 5, 4),)


@case(
    conv("params/Conv_0/kernel", (2, 6), 9, 4),
    dense("params/Dense_0/kernel", (2,), 4, 5),
    leaves={"params/Conv_0/bias": BIAS, "params/Dense_0/bias": BIAS},
    direct=True,
)
def conv_under_vmap(draw):
    class CNN(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(5)(nn.relu(nn.Conv(4, (3,))(x)).mean(axis=0))

    x = draw(2, 6, 3)
    f = jax.vmap(CNN().apply, in_axes=(None, 0))
    return f, linen(draw, CNN(), x[0]), (x,)


@case(
    conv("params/Conv_0/kernel", (2, 4, 6), 18, 4),
    conv("params/Conv_1/kernel", (2, 2, 3), 24, 5),
    dense("params/Dense_0/kernel", (2,), 5, 3),
    leaves={
        **{f"params/Conv_{i}/bias": BIAS for i in (0, 1)},
        **{f"params/BatchNorm_0/{name}": BIAS for name in ("bias", "scale")},
        "params/Dense_0/bias": BIAS,
    },
    direct=True,
)
def linen_cnn_with_batch_norm(draw):
    """In evaluation; the running statistics are no parameters and closed over."""

    class CNN(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 2))(x)))
            x = nn.max_pool(x, (2, 2), (2, 2))
            x = nn.relu(nn.Conv(5, (2, 3))(x))
            return nn.Dense(3)(x.mean(axis=(1, 2)))

    x = draw(2, 4, 6, 3)
    variables = linen(draw, CNN(), x)
    statistics = jax.tree.map(jnp.abs, variables["batch_stats"])

    def f(params, x):
        return CNN().apply({"batch_stats": statistics, **params}, x)

    return f, {"params": variables["params"]}, (x,)


# Rules of their own.


@case(dense("w0", (4,), 3, 5), dense("w1", (4,), 5, 2), direct=True)
def relu_at_zero(draw):
    """Half of the units stand at exactly 0, where the rule says 0 and its parts say 1/2."""

    def f(params, x):
        return jax.nn.relu(x @ params["w0"]) @ params["w1"]

    w0 = draw(3, 5) * (jnp.arange(5) % 2)[None]
    return f, {"w0": w0, "w1": draw(5, 2)}, (draw(4, 3),)


@case(dense("v", (4,), 3, 5), dense("w", (4,), 5, 2), direct=True)
def kernels_beside_data_under_a_custom_vjp(draw):
    """A function that scales the gradients of all that it is given."""

    @jax.custom_vjp
    def scaled(tree):
        return tree

    scaled.defvjp(lambda tree: (tree, None), lambda _, g: (jax.tree.map(lambda a: a / 2, g),))

    def f(params, x):
        params, x = scaled((params, x))
        return jnp.tanh(x @ params["v"]) @ params["w"]

    return f, {"v": draw(3, 5), "w": draw(5, 2)}, (draw(4, 3),)


@case(dense("w0", (4,), 3, 5), dense("w1", (4,), 5, 2), direct=True)
def custom_vjp(draw):
    @jax.custom_vjp
    def rounded(h):
        return jnp.round(3 * h) / 3

    rounded.defvjp(lambda h: (rounded(h), h), lambda h, gradient: (gradient * (h > 0),))

    def f(params, x):
        return rounded(x @ params["w0"]) @ params["w1"]

    return f, {"w0": draw(3, 5), "w1": draw(5, 2)}, (draw(4, 3),)


@case(dense("w0", (4,), 3, 5), dense("w1", (4,), 5, 2), direct=True)
def cond_without_layers(draw):
    def f(params, x):
        h = x @ params["w0"]
        return lax.cond(h.sum() > 0, jnp.tanh, jnp.sin, h) @ params["w1"]

    return f, {"w0": draw(3, 5), "w1": draw(5, 2)}, (draw(4, 3),)


# Named activations.


@case(
    named("input"), dense("w0", (4,), 3, 5), named("hidden"), dense("w1", (4,), 5, 2), direct=True
)
def names(draw):
    def f(params, x):
        h = checkpoint_name(jnp.tanh(checkpoint_name(x, "input") @ params["w0"]), "hidden")
        return h @ params["w1"]

    return f, {"w0": draw(3, 5), "w1": draw(5, 2)}, (draw(4, 3),)


@case(
    dense("up", (4,), 3, 5, stack=(2,)),
    dense("down", (4,), 5, 3, stack=(2,)),
    named("residual"),
    direct=True,
)
def name_in_a_scan(draw):
    def block(h, layer):
        return checkpoint_name(h + jnp.tanh(h @ layer["up"]) @ layer["down"], "residual"), None

    def f(params, x):
        return lax.scan(block, x, params)[0]

    return f, {"down": draw(2, 5, 3), "up": draw(2, 3, 5)}, (draw(4, 3),)


# Derivatives inside of the function.


@case(
    dense("w0", (4,), 3, 5),
    dense("w1", (4,), 5, 2),
    dense("w1#2", (4,), 2, 5),
    dense("w0#2", (4,), 5, 3),
)
def gradient_of_an_energy(draw):
    """Every kernel is met twice, forwards and backwards."""

    def f(params, x):
        def energy(x):
            return jnp.sum((jnp.tanh(x @ params["w0"]) @ params["w1"]) ** 2)

        return jax.grad(energy)(x)

    return f, {"w0": draw(3, 5), "w1": draw(5, 2)}, (draw(4, 3),)


@case(conv("w", (2, 6), 9, 4), conv("w#2", (2, 6), 12, 3))
def gradient_of_an_energy_of_a_convolution(draw):
    def f(params, x):
        def energy(x):
            z = lax.conv_general_dilated(
                x, params["w"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
            )
            return jnp.sum(jnp.tanh(z) ** 2)

        return jax.grad(energy)(x)

    return f, {"w": draw(3, 3, 4)}, (draw(2, 6, 3),)


@case(conv("w", (2, 3), 6, 3, stack=(2,)), conv("w#2", (2, 6), 9, 2, stack=(2,)))
def gradient_of_an_energy_of_a_grouped_convolution(draw):
    def f(params, x):
        def energy(x):
            z = lax.conv_general_dilated(
                x,
                params["w"],
                (2,),
                "SAME",
                feature_group_count=2,
                dimension_numbers=("NWC", "WIO", "NWC"),
            )
            return jnp.sum(jnp.tanh(z) ** 2)

        return jax.grad(energy)(x)

    return f, {"w": draw(3, 2, 6)}, (draw(2, 6, 4),)


@case(
    dense("w0", (4,), 3, 5),
    dense("w0#2", (4,), 3, 5),
    dense("w1", (4,), 5, 2),
    dense("w1#2", (4,), 5, 2),
)
def derivative_along_a_direction(draw):
    def f(params, x, v):
        def network(x):
            return jnp.tanh(x @ params["w0"]) @ params["w1"]

        return jnp.stack(jax.jvp(network, (x,), (v,)))

    return f, {"w0": draw(3, 5), "w1": draw(5, 2)}, (draw(4, 3), draw(4, 3))


@case(
    dense("w0", (4,), 2, 5),
    dense("w1", (4,), 5, 6),
    dense("w1#2", (4, 2), 5, 6),
    dense("w2", (4,), 6, 1),
    dense("w2#2", (4, 2), 6, 1),
    dense("w1#3", (4, 1), 6, 5),
    dense("w1#4", (4, 2, 1), 6, 5),
    dense("w0#2", (4, 1), 5, 2),
    dense("w0#3", (4, 2, 1), 5, 2),
    leaves={
        "b": BIAS,
        **{name: Lost("multiplied with data that are summed", LINEAR) for name in ("w0", "w2")},
    },
)
def second_derivatives(draw):
    """A physics-informed residual: the first and last kernels also scale what is summed."""

    def f(params, x):
        def network(x):
            h = jnp.tanh(jnp.tanh(x @ params["w0"] + params["b"]) @ params["w1"])
            return (h @ params["w2"]).sum()

        return jax.vmap(jax.hessian(network))(x)

    params = {"b": draw(5), "w0": draw(2, 5), "w1": draw(5, 6), "w2": draw(6, 1)}
    return f, params, (draw(4, 2),)


# Other libraries.


class NNXBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 4, qkv_features=6, decode=False, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 5, rngs=rngs), nnx.Linear(5, 4, rngs=rngs)])

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.layers[1](nnx.gelu(self.layers[0](x)))


@case(
    *(dense(f"attention/{name}/kernel", (2, 3), 4, 6) for name in ("query", "key", "value")),
    dense("attention/out/kernel", (2, 3), 6, 4),
    dense("layers/0/kernel", (2, 3), 4, 5),
    dense("layers/1/kernel", (2, 3), 5, 4),
    leaves={
        **{f"attention/{name}/bias": BIAS for name in ("key", "out", "query", "value")},
        **{f"layers/{i}/bias": BIAS for i in (0, 1)},
        **{f"norm/{name}": BIAS for name in ("bias", "scale")},
    },
    direct=True,
)
def nnx_transformer(draw):
    graph, state, rest = nnx.split(nnx.eval_shape(lambda: NNXBlock(nnx.Rngs(0))), nnx.Param, ...)

    def f(params, x):
        return nnx.merge(graph, params, rest)(x)

    return f, fill(draw, state), (draw(2, 3, 4),)


@case(
    dense("layers/0/weight", (4,), 3, 5),
    dense("layers/1/weight", (4,), 5, 5),
    dense("layers/2/weight", (4,), 5, 2),
    leaves={f"layers/{i}/bias": BIAS for i in range(3)},
)
def equinox_mlp(draw):
    """The parameters are the module, activation functions included."""
    shapes = eqx.filter_eval_shape(eqx.nn.MLP, 3, 2, 5, 2, key=jax.random.key(0))
    return (lambda model, x: jax.vmap(model)(x)), fill(draw, shapes), (draw(4, 3),)


@case(
    dense("mlp/~/linear_0/w", (4,), 3, 5),
    dense("mlp/~/linear_1/w", (4,), 5, 2),
    leaves={f"mlp/~/linear_{i}/b": BIAS for i in (0, 1)},
    direct=True,
)
def haiku_mlp(draw):
    network, x = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([5, 2])(x))), draw(4, 3)
    return network.apply, fill(draw, jax.eval_shape(network.init, jax.random.key(0), x)), (x,)


# Uses that are no linear sites: reported with a reason, and the output is as it would be.


@case(dense("w", (4, 6), 3, 5), leaves={"embedding": Lost("embedding lookup")})
def embedding_lookup(draw):
    def f(params, tokens):
        table = {"params": {"embedding": params["embedding"]}}
        return nn.Embed(7, 3).apply(table, tokens) @ params["w"]

    tokens = np.random.default_rng(0).integers(7, size=(4, 6))
    return f, {"embedding": draw(7, 3), "w": draw(3, 5)}, (jnp.asarray(tokens),)


@case(
    dense("w", (4, 6), 3, 3),
    dense("embedding", (4, 6), 3, 7),
    leaves={"embedding": Lost("embedding lookup", LINEAR)},
)
def tied_embedding(draw):
    def f(params, tokens):
        h = jnp.take(params["embedding"], tokens, axis=0)
        return jnp.tanh(h @ params["w"]) @ params["embedding"].T

    tokens = np.random.default_rng(0).integers(7, size=(4, 6))
    return f, {"embedding": draw(7, 3), "w": draw(3, 3)}, (jnp.asarray(tokens),)


@case(dense("embedding", (4, 6), 7, 3), dense("embedding#2", (4, 6), 3, 7))
def embedding_of_one_hot_tokens(draw):
    def f(params, tokens):
        h = jnp.tanh(jax.nn.one_hot(tokens, 7) @ params["embedding"])
        return h @ params["embedding"].T

    tokens = np.random.default_rng(0).integers(7, size=(4, 6))
    return f, {"embedding": draw(7, 3)}, (jnp.asarray(tokens),)


@case(dense("v", (4,), 5, 2), leaves={"w": Lost("multiplied with data and summed")})
def multiply_and_sum(draw):
    def f(params, x):
        return jnp.tanh((x[:, :, None] * params["w"][None]).sum(axis=1)) @ params["v"]

    return f, {"v": draw(5, 2), "w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5), leaves={"v": Lost("multiplied with data and summed")})
def scale_and_mean(draw):
    """A layer with one unit, written as a mean over what is scaled value by value."""

    def f(params, x):
        return (jnp.tanh(x @ params["w"]) * params["v"][None]).mean(axis=-1)

    return f, {"v": draw(5), "w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5), leaves={"v": Lost("cond")})
def cond(draw):
    def f(params, x):
        h = x @ params["w"]
        return lax.cond(h.sum() < 99, lambda h: jnp.tanh(h @ params["v"]), jnp.sin, h)

    return f, {"v": draw(5, 5), "w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5), leaves={"v": Lost("while")}, differentiable=False)
def while_loop(draw):
    def f(params, x):
        def step(carry):
            count, h = carry
            return count + 1, jnp.tanh(h @ params["v"])

        return lax.while_loop(lambda carry: carry[0] < 2, step, (0, x @ params["w"]))[1]

    return f, {"v": draw(5, 5), "w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5), leaves={"b": BIAS, "v": Lost("shard_map")})
def shard_map(draw):
    spec = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(spec(), spec(), spec("data")), out_specs=spec("data")
    )
    def layer(v, b, h):
        return jnp.tanh(h @ v + b[None])

    def f(params, x):
        return layer(params["v"], params["b"], x @ params["w"])

    return f, {"b": draw(2), "v": draw(5, 2), "w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5), leaves={"v": Lost("custom_vjp")})
def custom_vjp_with_a_layer(draw):
    @jax.custom_vjp
    def layer(v, h):
        return jnp.tanh(h @ v)

    def backward(residuals, gradient):
        v, h = residuals
        slope = gradient * (1 - jnp.tanh(h @ v) ** 2)
        return h.T @ slope, slope @ v.T

    layer.defvjp(lambda v, h: (layer(v, h), (v, h)), backward)

    def f(params, x):
        return layer(params["v"], x @ params["w"])

    return f, {"v": draw(5, 2), "w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5), leaves={"v": Lost("custom_jvp")})
def custom_jvp_with_a_layer(draw):
    @jax.custom_jvp
    def layer(v, h):
        return jnp.tanh(h @ v)

    @layer.defjvp
    def forward(primals, tangents):
        (v, h), (dv, dh) = primals, tangents
        z = jnp.tanh(h @ v)
        return z, (1 - z**2) * (dh @ v + h @ dv)

    def f(params, x):
        return layer(params["v"], x @ params["w"])

    return f, {"v": draw(5, 2), "w": draw(3, 5)}, (draw(4, 3),)


@case(
    dense("w", (4,), 3, 5),
    leaves={"v": Lost("kernels that data choose"), "b": Lost("embedding lookup")},
)
def gathered_experts(draw):
    def f(params, x, expert):
        h = jnp.tanh(x @ params["w"])
        return jnp.einsum("ni,nio->no", h, params["v"][expert]) + params["b"][expert]

    params = {"b": draw(6, 2), "v": draw(6, 5, 2), "w": draw(3, 5)}
    return f, params, (draw(4, 3), jnp.array([1, 3, 3, 0]))


@case(dense("w", (4,), 3, 5), leaves={"v": Lost("ragged_dot")})
def ragged_dot(draw):
    """A mixture of experts."""

    def f(params, x, sizes):
        return lax.ragged_dot(jnp.tanh(x @ params["w"]), params["v"], sizes)

    return f, {"v": draw(2, 5, 6), "w": draw(3, 5)}, (draw(4, 3), jnp.array([1, 3]))


@case(dense("w", (4,), 3, 5), leaves={"v": Lost("solve")})
def triangular_solve(draw):
    def f(params, x):
        h = jnp.tanh(x @ params["w"])
        return jax.scipy.linalg.solve_triangular(params["v"] + 3 * jnp.eye(5), h.T, lower=True)

    return f, {"v": draw(5, 5), "w": draw(3, 5)}, (draw(4, 3),)


@case(
    dense("w", (4, 8), 3, 2),
    leaves={"gain": BIAS, "out": Lost("convolution by FFT"), "hidden": Lost("convolution by FFT")},
)
def convolution_by_fft(draw):
    """Hyena and S4: a kernel as long as the sequence, made by a network of the positions."""

    def f(params, x):
        length = x.shape[1]
        positions = jnp.linspace(0, 1, length)[:, None]
        kernel = jnp.tanh(positions @ params["hidden"]) @ params["out"]
        spectrum = jnp.fft.rfft(kernel, 2 * length, axis=0)[None]
        filtered = spectrum * jnp.fft.rfft(x, 2 * length, axis=1)
        h = jnp.fft.irfft(filtered, 2 * length, axis=1)[:, :length]
        return (h + params["gain"][None, None] * x) @ params["w"]

    params = {"gain": draw(3), "hidden": draw(1, 5), "out": draw(5, 3), "w": draw(3, 2)}
    return f, params, (draw(4, 8, 3),)


@case(dense("w", (4, 8), 3, 2), leaves={"first": BIAS, "second": BIAS}, direct=True)
def fourier_transforms_of_scaled_data(draw):
    """FNet: what the scales of norms multiply is mixed by a fixed matrix."""

    def f(params, x):
        h = x + jnp.fft.fft2(params["first"][None, None] * x).real
        h = params["second"][None, None] * h / (1 + jnp.mean(h**2, axis=-1, keepdims=True))
        return jnp.fft.fft2(h).real @ params["w"]

    return f, {"first": draw(3), "second": draw(3), "w": draw(3, 2)}, (draw(4, 8, 3),)


@case(dense("w", (4, 8), 3, 5), leaves={"v": Lost("matmul of complex")}, differentiable=False)
def complex_kernel(draw):
    """A Fourier neural operator."""

    def f(params, x):
        spectrum = jnp.fft.rfft(jnp.tanh(x @ params["w"]), axis=1)
        mixed = jnp.einsum("nti,tio->nto", spectrum, params["v"])
        return jnp.fft.irfft(mixed, axis=1)

    params = {"v": draw(5, 5, 2) + 1j * draw(5, 5, 2), "w": draw(3, 5)}
    return f, params, (draw(4, 8, 3),)


@case(
    dense("w", (4,), 3, 5),
    leaves={"scale": BIAS, "v": Lost("matmul of int8")},
    differentiable=False,
)
def int8_matmul(draw):
    def f(params, x):
        h = jnp.round(jnp.tanh(x @ params["w"]) * 127).astype(jnp.int8)
        z = lax.dot_general(h, params["v"], (((1,), (0,)), ((), ())), None, jnp.int32)
        return z * params["scale"][None]

    v = jnp.asarray(np.random.default_rng(0).integers(-9, 9, (5, 2)), jnp.int8)
    return f, {"scale": draw(2), "v": v, "w": draw(3, 5)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5), leaves={"v": Lost("depends on data")})
def kernel_under_a_mask_of_the_data(draw):
    """DropConnect: both operands of the second product depend on arguments."""

    def f(params, x, mask):
        return jnp.tanh(x @ params["w"]) @ (params["v"] * mask)

    mask = jnp.asarray(np.random.default_rng(0).integers(2, size=(5, 2)) * 1.0)
    return f, {"v": draw(5, 2), "w": draw(3, 5)}, (draw(4, 3), mask)


@case(dense("w", (4,), 3, 15))
def hypernetwork(draw):
    """The layer that makes kernels is one; what these multiply is none."""

    def f(params, x):
        kernels = jnp.tanh(x @ params["w"]).reshape(4, 3, 5)
        return jnp.einsum("ni,nio->no", x, kernels)

    return f, {"w": draw(3, 15)}, (draw(4, 3),)


@case(dense("w", (4,), 3, 5), direct=True, partial=("w",))
def kernel_that_is_a_bias_as_well(draw):
    def f(params, x):
        return jnp.tanh(x @ params["w"]) + params["w"].sum(axis=0, keepdims=True)

    return f, {"w": draw(3, 5)}, (draw(4, 3),)


@case(
    dense("w", (4,), 3, 5),
    leaves={"w": Lost("depends on data", LINEAR)},
    partial=("w",),
)
def inner_gradient_step(draw):
    """A kernel that has learnt from the data depends on them: its second use is no site."""

    def f(params, x):
        def loss(w):
            return jnp.sum(jnp.tanh(x @ w) ** 2)

        w = params["w"]
        return x @ (w - 0.1 * jax.grad(loss)(w))

    return f, {"w": draw(3, 5)}, (draw(4, 3),)


@case(leaves={name: Lost("depends on data") for name in ("mean", "scale")})
def sampled_kernel(draw):
    """Bayes by backprop: a kernel drawn anew from a key that is data."""

    def f(params, x, key):
        noise = jax.random.normal(key, (3, 5))
        return x @ (params["mean"] + jnp.exp(params["scale"]) * noise)

    return f, {"mean": draw(3, 5), "scale": draw(3, 5)}, (draw(4, 3), jax.random.key(0))
