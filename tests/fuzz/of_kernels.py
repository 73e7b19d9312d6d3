"""Grams, rotations and virtual covariances of kernels, against long double."""

from __future__ import annotations

import draws
import jax
import jax.numpy as jnp
import numpy as np
import optax
from exact import EPS, LONG, norm, over, svd, t
from jax import lax
from of_moments import SIZE, on_device
from verdicts import Verdict

from gramlin_jax import (
    METRICS,
    GradientMoments,
    LayerSums,
    Tap,
    feature_learning_sides,
    gram_change,
    gram_only_step,
    input_gradients,
    polar_factor,
    projected,
    random_projection,
    virtual_alignment,
    virtual_covariance,
    virtual_covariance_of,
    virtual_update,
    weight_gram,
)
from gramlin_jax.optim import gram_only, gram_preserving

SHAPES = (4, 3), (3, 5), (6, 6), (1, 2)
ROWS, RATE, STEPS = 7, 0.3, 3


@jax.jit
@jax.vmap
def of_one(k):
    return weight_gram(k), polar_factor(k), polar_factor(k, method="svd")


@jax.jit
@jax.vmap
def of_two(k1, k2, k3):
    change = gram_change(k1, k2)
    return gram_only_step(k1, k2), change, virtual_alignment(change, gram_change(k2, k3))


@jax.jit
@jax.vmap
def of_rows(k, x, delta, rate, sums):
    g = input_gradients(k, delta)
    tap = Tap(features=x, inputs=x, kernel=k, outputs=None)
    layer = LayerSums(None, k, sums, None, RATE)
    return {
        "input_gradients": g,
        "virtual_update": virtual_update(x, g, RATE),
        "feature_learning_sides": jnp.stack(feature_learning_sides(tap, delta)),
        "virtual_covariance": virtual_covariance(k, sums, rate),
        "virtual_covariance_of": virtual_covariance_of(x, g, rate),
        **{name: METRICS[name](layer) for name in NORMS},
    }


NORMS = "kernel_norm", "gradient_norm", "virtual_share", "virtual_alignment"


def optimised(wrapper):
    @jax.jit
    @jax.vmap
    def run(kernel, gradients):
        optimizer = wrapper(optax.sgd(1.0), select=lambda path, leaf: True)

        def step(carry, gradient):
            kernel, state = carry
            updates, state = optimizer.update({"kernel": gradient}, state, {"kernel": kernel})
            return (kernel + updates["kernel"], state), kernel

        start = kernel, optimizer.init({"kernel": kernel})
        (last, _), before = lax.scan(step, start, gradients)
        return jnp.concatenate([before, last[None]])

    return run


OPTIMISERS = {"gram_only": optimised(gram_only), "gram_preserving": optimised(gram_preserving)}


def check(rng):
    """Verdicts on a stack of inputs."""
    i, o = SHAPES[rng.integers(len(SHAPES))]
    dtype = rng.choice(["float64", "float32"])
    k1 = normal(draws.stack(lambda: draws.matrix(rng, i, o, dtype), SIZE))
    k2 = stepped(rng, k1, dtype)
    verdicts = of_gram(k1, dtype)
    arrays = on_device(k1, k2)
    step, change, cosine = of_two(*arrays, *on_device(2 * k1))
    verdicts += nearest("gram_only_step", k1, k2, step, dtype)
    verdicts += of_change(k1, k2, change, cosine)
    gradients = np.stack([k1 - stepped(rng, k1, dtype) for _ in range(STEPS)], 1).astype(k1.dtype)
    for name, run in OPTIMISERS.items():
        with jax.enable_x64(dtype == "float64"):  # as Optax needs it
            kernels = np.asarray(run(arrays[0], *on_device(gradients)))
        for at in range(STEPS):
            before, after = kernels[:, at], kernels[:, at] - gradients[:, at]
            pair = (before, after) if name == "gram_only" else (after, before)
            verdicts += nearest(name, *pair, kernels[:, at + 1], dtype, rounded=True)
    return verdicts + of_layer(rng, k1, dtype) + of_projection(rng, dtype)


def normal(a):
    return np.where(abs(a) < np.finfo(a.dtype).tiny * 1e6, 0, a).astype(a.dtype)


def stepped(rng, k1, dtype):
    """A kernel after a step of any size, a rotation, or something else altogether."""
    size, o = len(k1), k1.shape[2]
    scale = abs(k1).max((1, 2), keepdims=True)
    noise = rng.standard_normal(k1.shape) * scale * 10.0 ** rng.uniform(-7, 1, (size, 1, 1))
    turn = np.linalg.qr(rng.standard_normal((size, o, o)))[0]
    kind = rng.integers(5, size=(size, 1, 1))
    other = np.where(kind == 0, k1 @ turn, np.where(kind == 1, -k1, k1 + noise))
    return normal(
        np.where(kind == 2, rng.standard_normal(k1.shape) * scale, other).astype(k1.dtype)
    )


def eps_of(dtype):
    return float(np.finfo(dtype).eps)


def of_gram(k, dtype):
    gram, newton, by_svd = of_one(*on_device(k))
    e, long = eps_of(dtype), k.astype(LONG)
    least = float(np.finfo(dtype).tiny) * 8 * k.shape[2]
    size = abs(long) @ t(abs(long))
    with np.errstate(over="ignore"):
        limit = size < np.finfo(dtype).max / 4
    slack = np.where(limit, 8 * k.shape[2] * e * size + least, np.inf)
    verdicts = [Verdict("weight_gram", gram, long @ t(long), slack)]
    # In the directions above rounding R maps v to u.
    tall = k.shape[1] >= k.shape[2]
    us, s2, v = svd(long if tall else t(long))
    s = np.sqrt(s2)
    known = s > 1e4 * e * s[:, :1]
    u = np.where(known[:, None], us / np.where(known, s, 1)[:, None], 0)
    for name, r in (("newton_schulz", newton), ("svd", by_svd)):
        r = np.asarray(r, LONG)
        r = r if tall else t(r)
        got = np.where(known[:, None], r @ v, 0)
        blur = 64 * k.shape[2] * e * over(s[:, :1], np.where(known, s, 1))
        verdicts.append(Verdict(f"polar_factor({name})", got, u, blur[:, None]))
        length = np.linalg.svd(np.asarray(r, float))[1].max(-1)
        verdicts.append(
            Verdict(f"polar_factor({name}): norm", length, np.full(SIZE, 0.5), 0.5 + 64 * e)
        )
    return verdicts


def nearest(name, k1, k2, got, dtype, rounded=False):
    """The Gram of K₂, and as near to K₁ as a kernel with it can be, up to the documented shift."""
    e, o = eps_of(dtype), k1.shape[2]
    k1, k2, got = (np.asarray(a).astype(LONG) for a in (k1, k2, got))
    sizes = norm(k1), norm(k2)
    both = sizes[0] + sizes[1]
    # An update is rounded in the type of the kernel that it is added to.
    relative = over(both, sizes[1]) if rounded else 1
    gram = over(norm(got @ t(got) - k2 @ t(k2)), np.where(sizes[1] > 0, sizes[1], 1) ** 2)
    slack = 64 * o * e * relative * (1 + e * relative)
    cross = np.sqrt(svd(t(k1) @ k2)[1]).sum(-1)
    best = np.maximum(sizes[0] ** 2 + sizes[1] ** 2 - 2 * cross, 0)
    some = np.where(both > 0, both, 1)
    away = (norm(got - k1) ** 2 - best) / some**2
    allowed = (512 * o * e * sizes[0] * sizes[1] + 64 * o * e * both**2) / some**2
    open_ = both == 0
    return [
        Verdict(
            f"{name}: Gram", gram, np.zeros(SIZE), np.where(open_ | (sizes[1] == 0), np.inf, slack)
        ),
        Verdict(f"{name}: distance", away, np.zeros(SIZE), np.where(open_, np.inf, allowed)),
    ]


def of_change(k1, k2, change, cosine):
    a, b = k1.astype(LONG), k2.astype(LONG)
    step = b - a
    size = abs(a) @ t(abs(step))
    slack = 64 * EPS * k1.shape[2] * (size + t(size) + abs(step) @ t(abs(step)))
    # The step itself is rounded to float64.
    small = slack + LONG(1e-300)
    first = a @ t(step) + step @ t(a) + step @ t(step)
    second = 4 * a @ t(a) - b @ t(b)
    product = (first * second).sum((1, 2))
    want = over(product, norm(first) * norm(second))
    blur = over(norm(small), norm(first)) + 64 * EPS * over(
        norm(abs(a)) ** 2 + norm(abs(b)) ** 2, norm(second)
    )
    blur = np.where(np.isnan(want) | (blur > 1e-2), np.inf, 8 * blur + 1e-13)
    return [
        Verdict("gram_change", change, first, small),
        Verdict("virtual_alignment", cosine, want, blur),
    ]


def of_layer(rng, k, dtype):
    """What needs rows and gradients too."""
    i, o = k.shape[1:]
    power = 4 if dtype == "float32" else 60
    scale = 10.0 ** rng.uniform(-power, power, (SIZE, 2, 1, 1))
    size = abs(k.astype(float)).max((1, 2), keepdims=True)
    k = (k / np.where(size > 0, size, 1) * 10.0 ** rng.uniform(-power, power, (SIZE, 1, 1))).astype(
        k.dtype
    )
    x = (draws.stack(lambda: draws.entries(rng, (ROWS, i)), SIZE) * scale[:, 0]).astype(k.dtype)
    delta = (draws.stack(lambda: draws.entries(rng, (ROWS, o)), SIZE) * scale[:, 1]).astype(k.dtype)
    rate = 10.0 ** rng.uniform(-6, 3, SIZE)
    wide = x.astype(np.float64), delta.astype(np.float64)
    sums = (np.full(SIZE, float(ROWS)), ROWS * t(wide[0]) @ wide[1], ROWS**2 * t(wide[1]) @ wide[1])
    got = of_rows(*on_device(k, x, delta, rate), GradientMoments(*on_device(*sums)))
    return layer_verdicts(got, k, x, delta, rate, dtype)


def layer_verdicts(got, k, x, delta, rate, dtype):
    e = eps_of(dtype)
    tiny = LONG(np.finfo(dtype).tiny) * 64
    k, x, delta = (a.astype(LONG) for a in (k, x, delta))
    g, most = delta @ t(k), abs(delta) @ t(abs(k))
    eta = LONG(RATE)
    s, sides = t(g) @ x, t(most) @ abs(x)
    eta_s, r = rate.astype(LONG)[:, None, None], np.asarray(got["input_gradients"], LONG)
    virtual = -eta_s * (t(s) + s) + eta_s**2 * t(g) @ g
    of_virtual = eta_s * (sides + t(sides)) + eta_s**2 * t(most) @ most
    s2 = t(r) @ x
    from_g = -eta_s * (t(s2) + s2) + eta_s**2 * t(r) @ r
    least = LONG(1e-290)
    verdicts = [
        Verdict("input_gradients", got["input_gradients"], g, 32 * e * most + tiny),
        Verdict(
            "virtual_update", got["virtual_update"], x - eta * r, 8 * e * (abs(x) + abs(r)) + tiny
        ),
        Verdict(
            "feature_learning_sides",
            got["feature_learning_sides"],
            np.stack([k @ t(t(x) @ delta), s], 1),
            64 * EPS * np.stack([sides, sides], 1) + least,
        ),
        Verdict(
            "virtual_covariance", got["virtual_covariance"], virtual, 256 * EPS * of_virtual + least
        ),
        Verdict(
            "virtual_covariance_of",
            got["virtual_covariance_of"],
            from_g,
            256 * EPS * of_virtual * 2 + least,
        ),
    ]
    gradient = t(x) @ delta
    of_gradient = norm(abs(t(x)) @ abs(delta))
    gram = norm(k @ t(k))
    own = -eta * (t(s) + s) + eta**2 * t(g) @ g
    blur = 256 * EPS * norm(eta * (sides + t(sides)) + eta**2 * t(most) @ most)
    share = over(norm(own), gram)
    moved = -eta * gradient
    change = k @ t(moved) + moved @ t(k) + moved @ t(moved)
    of_change = (
        256 * EPS * norm(eta * (sides + t(sides)) + eta**2 * (abs(gradient) @ t(abs(gradient))))
    )
    of_change = of_change + 64 * EPS * eta * norm(abs(gradient) @ t(abs(k)))
    cosine = over((own * change).sum((1, 2)), norm(own) * norm(change))
    unsure = over(blur, norm(own)) + over(of_change, norm(change))
    slack = np.where(np.isnan(cosine) | (unsure > 1e-2), np.inf, 8 * unsure)
    return [
        *verdicts,
        Verdict("METRICS: kernel_norm", got["kernel_norm"], norm(k), 64 * EPS * norm(k)),
        Verdict(
            "METRICS: gradient_norm", got["gradient_norm"], norm(gradient), 64 * EPS * of_gradient
        ),
        Verdict(
            "METRICS: virtual_share",
            got["virtual_share"],
            share,
            8 * over(blur, gram) + 64 * EPS * share,
        ),
        Verdict("METRICS: virtual_alignment", got["virtual_alignment"], cosine, slack),
    ]


@jax.jit
def by_projection(key, h):
    projection = random_projection(key, h.shape[-1], 3)
    return projection, jax.vmap(lambda h: projected(h, projection))(h)


def of_projection(rng, dtype):
    h = draws.stack(lambda: draws.columns(rng, 6, 8, dtype), SIZE)
    projection, got = by_projection(jax.random.key(int(rng.integers(2**31))), *on_device(h))
    order, signs = (np.asarray(a) for a in projection)
    plain = np.zeros((8, 3), LONG)
    for group, sign in zip(order, signs, strict=True):
        for column, (at, by) in enumerate(zip(group, sign, strict=True)):
            if at >= 0:
                plain[at, column] += by
    assert (abs(plain).sum(1) == 1).all()
    h = h.astype(LONG)
    return [Verdict("projected", got, h @ plain, 16 * eps_of(dtype) * (abs(h) @ abs(plain)))]
