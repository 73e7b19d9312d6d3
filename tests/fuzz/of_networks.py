"""``measure`` and the moments of Jacobians, end to end, against networks written out in float64.

The oracles have no convolution, scan or tap: patches are cut out by hand, layers are a Python loop,
and a shift of zeros in every pre-activation has Δ as its gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from verdicts import Verdict

from gramlin_jax import jacobian_moments, measure

N, CLASSES, INPUTS = 48, 3, 6
RATE = 0.1


class Conv(NamedTuple):
    """A convolution of maps (n, height, width, channels), padded by 1."""

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __call__(self, x, kernel):
        numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, ("NHWC", "HWIO", "NHWC"))
        return lax.conv_general_dilated(
            x,
            kernel,
            self.stride,
            [(1, 1), (1, 1)],
            rhs_dilation=self.dilation,
            dimension_numbers=numbers,
            feature_group_count=self.groups,
        )

    def by_hand(self, x, kernel):
        """Patches (groups, n, positions, in) and kernels (groups, in, out)."""
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        height, width, own, out = kernel.shape
        size = [
            (x.shape[1 + a] - (kernel.shape[a] - 1) * self.dilation[a] - 1) // self.stride[a] + 1
            for a in (0, 1)
        ]
        cut = []
        for i in range(height):
            for j in range(width):
                at = i * self.dilation[0], j * self.dilation[1]
                rows = slice(at[0], at[0] + (size[0] - 1) * self.stride[0] + 1, self.stride[0])
                columns = slice(at[1], at[1] + (size[1] - 1) * self.stride[1] + 1, self.stride[1])
                cut.append(x[:, rows, columns])
        patches = jnp.stack(cut, 3).reshape(len(x), -1, height * width, self.groups, own)
        patches = patches.transpose(3, 0, 1, 2, 4).reshape(
            self.groups, len(x), -1, height * width * own
        )
        kernels = kernel.reshape(height * width * own, self.groups, out // self.groups)
        return patches, kernels.transpose(1, 0, 2), size


CONVS = {
    "a": (Conv(stride=(2, 1), groups=2), (3, 2, 1, 4)),
    "b": (Conv(dilation=(1, 2)), (2, 2, 4, 3)),
}


def convolutions(params, x):
    h = jnp.tanh(CONVS["a"][0](x, params["a"]))
    h = jnp.tanh(CONVS["b"][0](h, params["b"]))
    return h.reshape(len(x), -1) @ params["out"] + params["bias"]


def convolutions_by_hand(params, x, shifts):
    layers, h = {}, x
    for name, (conv, shape) in CONVS.items():
        patches, kernels, size = conv.by_hand(h, params[name])
        z = jnp.einsum("gnpi,gio->gnpo", patches, kernels) + shifts[name]
        layers[name] = h.reshape(len(x), -1), patches, kernels
        z = z.transpose(1, 2, 0, 3).reshape(len(x), *size, shape[-1])
        h = jnp.tanh(z)
    h = h.reshape(len(x), -1)
    layers["out"] = h, h[None, :, None], params["out"][None]
    return h @ params["out"] + params["bias"] + shifts["out"][0, :, 0], layers


def scanned(params, x):
    def layer(h, kernel):
        return jnp.tanh(h @ kernel), None

    return lax.scan(layer, x @ params["in"], params["scan"])[0] @ params["out"]


def scanned_by_hand(params, x, shifts):
    names = ["in", *(f"scan[{i}]" for i in range(len(params["scan"]))), "out"]
    kernels = [params["in"], *params["scan"], params["out"]]
    layers, h = {}, x
    for name, kernel in zip(names, kernels, strict=True):
        layers[name] = h, h[None, :, None], kernel[None]
        z = h @ kernel + shifts[name][0, :, 0]
        h = z if name in ("in", "out") else jnp.tanh(z)
    return h, layers


def halved(params, x):
    """In bfloat16 with parameters in float32."""
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    h = jnp.maximum(x.astype(jnp.bfloat16) @ half["in"], 0)
    return (h @ half["out"]).astype(jnp.float32)


def halved_by_hand(params, x, shifts):
    params = jax.tree.map(_rounded, params)
    x = _rounded(x)
    h = jnp.maximum(_rounded(x @ params["in"] + shifts["in"][0, :, 0]), 0)
    layers = {"in": (x, x[None, :, None], params["in"][None])}
    layers["out"] = h, h[None, :, None], params["out"][None]
    return _rounded(h @ params["out"] + shifts["out"][0, :, 0]), layers


@jax.custom_jvp
def _rounded(a):
    return a.astype(jnp.bfloat16).astype(a.dtype)


_rounded.defjvp(lambda primals, tangents: (_rounded(*primals), tangents[0]))


class Network(NamedTuple):
    f: object
    by_hand: object
    inputs: tuple[int, ...]
    kernels: dict[str, tuple[int, ...]]
    rounding: float


NETWORKS = {
    "convolutions": Network(
        convolutions,
        convolutions_by_hand,
        (4, 3, 2),
        {"a": (3, 2, 1, 4), "b": (2, 2, 4, 3), "out": (36, CLASSES), "bias": (CLASSES,)},
        3e-5,
    ),
    "scan": Network(
        scanned, scanned_by_hand, (6,), {"in": (6, 5), "scan": (3, 5, 5), "out": (5, CLASSES)}, 3e-5
    ),
    "bfloat16": Network(halved, halved_by_hand, (6,), {"in": (6, 5), "out": (5, CLASSES)}, 0.06),
}


def cross_entropy(out, y):
    return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()


def weighted(out, y, w):
    each = optax.softmax_cross_entropy_with_integer_labels(out, y)
    return (w * each).sum() / w.sum()


def check(rng):
    """Verdicts on a few inputs of each of the networks."""
    verdicts = []
    for name, network in NETWORKS.items():
        for _ in range(INPUTS):
            params, x, y, w = inputs(rng, network)
            size = int(rng.choice([N, N // 4]))
            data, loss = ((x, y), cross_entropy) if w is None else ((x, y, w), weighted)
            m = measure(network.f, params, data, loss=loss, batch_size=size, learning_rate=RATE)
            verdicts += compared(
                name, m, *by_definition(network, params, x, y, w), network.rounding
            )
        if name != "bfloat16":
            verdicts += of_jacobians(rng, name, network)
    return verdicts


def inputs(rng, network):
    scale = 10.0 ** rng.uniform(-0.7, 0.5)
    params = {
        k: (rng.standard_normal(s) * scale / np.prod(s[-2:-1] or 1) ** 0.5).astype(np.float32)
        for k, s in network.kernels.items()
    }
    x = rng.standard_normal((N, *network.inputs)) * 10.0 ** rng.uniform(-1, 0.5)
    x = (x + rng.standard_normal(network.inputs) * rng.choice([0, 1.0])).astype(np.float32)
    y = rng.integers(0, CLASSES, N)
    w = rng.uniform(0.2, 2, N).astype(np.float32) * (rng.random(N) < 0.8)
    w[:: N // 4] = 1  # in each batch there is a sample that counts
    return params, x, y, None if rng.random() < 0.5 else w.astype(np.float32)


def shifted(network, params, x):
    """Zeros (groups, n, positions, out) for each pre-activation."""

    class Any(dict):
        def __missing__(self, key):
            return jnp.zeros((1, 1, 1, 1))

    layers = jax.eval_shape(lambda p, x: network.by_hand(p, x, Any())[1], params, x)
    return {
        name: jnp.zeros((*patches.shape[:3], kernels.shape[-1]))
        for name, (_, patches, kernels) in layers.items()
    }


HAND: dict[str, object] = {}


def by_definition(network, params, x, y, w):
    """The numbers of every layer from the network by hand, in float64."""
    w = np.ones(N) if w is None else w.astype(np.float64)
    with jax.enable_x64(True):
        params, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, x))
        shifts = shifted(network, params, x)
        if network.f.__name__ not in HAND:

            def objective(shifts, params, x, y, w):
                out, layers = network.by_hand(params, x, shifts)
                each = optax.softmax_cross_entropy_with_integer_labels(out, y)
                return (w * each).sum() / w.sum(), (out, layers)

            HAND[network.f.__name__] = jax.jit(jax.value_and_grad(objective, has_aux=True))
        (loss, (out, layers)), deltas = HAND[network.f.__name__](shifts, params, x, y, w)
    return (
        {k: (*map(np.asarray, v), np.asarray(deltas[k])) for k, v in layers.items()},
        float(loss),
        out,
        y,
        w,
    )


def compared(name, m, layers, loss, out, y, w, rounding):
    verdicts = [one(f"measure({name}): loss", m.loss, loss, rounding * (1 + abs(loss)))]
    top = np.sort(np.asarray(out), -1)
    clear = (top[:, -1] - top[:, -2] > rounding * (1 + abs(top).max())).all()
    right = (w * (np.asarray(out).argmax(-1) == y)).sum() / w.sum()
    if clear:
        verdicts.append(one(f"measure({name}): accuracy", m.accuracy, right, 1e-6))
    one_hot = np.eye(CLASSES)[y]
    for layer, (features, patches, kernels, delta) in layers.items():
        linearity, condition = linear_share(features, one_hot, w)
        slack = min(rounding * condition, np.inf) if condition < 0.1 / rounding else np.inf
        gradient = np.einsum("gnpi,gnpo->gio", patches, delta)
        size = np.linalg.norm(gradient)
        most = np.linalg.norm(np.einsum("gnpi,gnpo->gio", abs(patches), abs(delta)))
        squares = np.einsum("gnpo,gnpq->goq", delta, delta)
        t = np.swapaxes
        s = kernels @ t(gradient, 1, 2)
        virtual = -RATE * (s + t(s, 1, 2)) + RATE**2 * kernels @ squares @ t(kernels, 1, 2)
        gram, length = np.linalg.norm(kernels @ t(kernels, 1, 2)), np.linalg.norm(kernels)
        share = np.linalg.norm(virtual) / gram
        # Where all features are 0 only the second term is left.
        of_share = RATE * most * length + (RATE * length) ** 2 * (delta**2).sum()
        of_share = rounding * of_share / gram
        values = {
            "target_linearity": (linearity, slack),
            "kernel_norm": (np.linalg.norm(kernels), rounding * np.linalg.norm(kernels)),
            "gradient_norm": (size, rounding * most),
            "virtual_share": (share, 8 * of_share),
        }
        for metric, (want, loose) in values.items():
            verdicts.append(one(f"measure({name}): {metric}", m[layer][metric], want, loose))
    return verdicts


def one(name, got, want, slack):
    return Verdict(name, np.array([got]), np.array([want]), np.array([slack]))


def linear_share(h, y, w):
    """Target linearity, and what its rounding is multiplied by.

    This is the condition number, and how much longer a column is than its deviations: a saturated
    unit is 1 up to little more than its rounding in float32.
    """
    root = np.sqrt(w)[:, None]
    lengths = np.linalg.norm(h * root, axis=0)
    h, y = ((a - (w[:, None] * a).sum(0) / w.sum()) * root for a in (h, y))
    norms = np.linalg.norm(h, axis=0)
    u, s, _ = np.linalg.svd(
        h / np.where(norms > 1e-6 * norms.max(), norms, np.inf), full_matrices=False
    )
    if len(s) > (w > 0).sum() - 2 or norms.min() < 1e-6 * norms.max():
        return 0.0, np.inf
    condition = s[0] / max(s[-1], 1e-300)
    return ((u.T @ y) ** 2).sum() / (y**2).sum(), condition * (lengths / norms).max()


JACOBIANS: dict[tuple, object] = {}


def of_jacobians(rng, name, network):
    """All outputs at once, in chunks of two, and random probes of them."""
    params, x, _, _ = inputs(rng, network)
    key = jax.random.key(int(rng.integers(2**31)))
    options = {"": {}, "chunk=2": {"chunk": 2}, "probes=2": {"probes": 2, "chunk": 1}}
    verdicts = []
    delta64, delta32 = (of_outputs(name, network, params, x, t) for t in (jnp.float64, jnp.float32))
    u = np.asarray(jax.random.rademacher(key, (2, N, CLASSES), jnp.float32), np.float64)
    for label, option in options.items():
        if (name, label) not in JACOBIANS:
            JACOBIANS[name, label] = jax.jit(
                lambda p, x, key, option=option: jacobian_moments(
                    network.f, p, x, key=key if "probes" in option else None, **option
                )
            )
        found = JACOBIANS[name, label](params, x, key)
        for layer, delta in delta64.items():
            own, rounded = (
                own_products(d, u if "probes" in option else None) for d in (delta, delta32[layer])
            )
            site, _, index = layer.partition("[")
            j = found[site]
            products, squares = np.asarray(j.products), np.asarray(j.squares)
            if index:
                products, squares = products[int(index[:-1])], squares[int(index[:-1])]
            want = own.sum(0).reshape(products.shape)
            loose = 1e-4 * np.linalg.norm(want) + 4 * np.linalg.norm((rounded - own).sum(0))
            verdicts.append(
                Verdict(f"jacobian_moments({label}): {name}", products[None], want[None], loose)
            )
            norms, of_rounded = (
                (a**2).sum((0, 2, 3)).reshape(np.shape(squares)) for a in (own, rounded)
            )
            verdicts.append(
                Verdict(
                    f"jacobian_moments({label}) squares: {name}",
                    np.asarray(squares)[None],
                    norms[None],
                    1e-4 * norms.sum() + 4 * abs(of_rounded - norms).sum(),
                )
            )
    return verdicts


def of_outputs(name, network, params, x, dtype):
    """∂out/∂z (n, classes, groups, positions, out) of each layer of the network by hand.

    In float32 it shows the rounding of the network itself: 1 − tanh² of a saturated unit.
    """
    with jax.enable_x64(dtype == jnp.float64):
        params, x = jax.tree.map(lambda a: jnp.asarray(a, dtype), (params, x))
        shifts = jax.tree.map(lambda a: a.astype(dtype), shifted(network, params, x))
        if (name, dtype) not in JACOBIANS:
            JACOBIANS[name, dtype] = jax.jit(
                jax.vmap(
                    jax.jacrev(
                        lambda s, p, x: network.by_hand(
                            p, x[None], jax.tree.map(lambda a: a[:, None], s)
                        )[0][0]
                    ),
                    in_axes=(1, None, 0),
                )
            )
        found = JACOBIANS[name, dtype](shifts, params, x)
    return {layer: np.asarray(delta, np.float64) for layer, delta in found.items()}


def own_products(delta, probes):
    """Σ ΔΔᵀ over outputs, or over random probes of them, and positions: (n, groups, out, out)."""
    if probes is not None:
        delta = np.einsum("qnc,ncgpo->nqgpo", probes, delta) / 2**0.5
    return np.einsum("ncgpo,ncgpq->ngoq", delta, delta)
