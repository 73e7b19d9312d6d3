"""The coordinate check against the exponents of the theory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gramlin_jax.widths import coordinate_check

pytestmark = pytest.mark.runs

X = jax.random.normal(jax.random.key(0), (16, 8))
Y = jnp.sin(X[:, :1])
WIDTHS = (32, 128, 512)


def squares(out, y):
    return ((out - y) ** 2).mean()


def f(params, x):
    h = jnp.tanh(x @ params["in"])
    h = jnp.tanh(h @ params["hidden"])
    return h @ params["out"]


def constructor(maximal):
    """Adam, with the standard parametrisation or the maximal update one (table 8 of the paper)."""

    def construct(width, key):
        keys = jax.random.split(key, 3)
        shapes = {"in": (8, width), "hidden": (width, width), "out": (width, 1)}
        params = {
            name: jax.random.normal(k, shape) / shape[0] ** 0.5
            for k, (name, shape) in zip(keys, shapes.items(), strict=True)
        }
        if not maximal:
            return f, params, optax.adam(1e-3)
        params["out"] = params["out"] / width**0.5
        narrow, wide = optax.adam(0.01), optax.adam(0.01 / width * 8)
        labels = {"in": "narrow", "hidden": "wide", "out": "wide"}
        optimizer = optax.multi_transform({"narrow": narrow, "wide": wide}, labels)
        return f, params, optimizer

    return construct


def test_adam_in_the_standard_parametrisation_grows_with_the_width():
    """Δz = hΔK, whose entries are ±η and agree with h: ∝ width behind the first layer."""
    check = coordinate_check(constructor(False), WIDTHS, (X, Y), squares, steps=1)
    assert check.verdicts == {"in": "stable", "hidden": "grows", "out": "grows"}
    assert abs(check.exponents["in"][0]) < 0.03
    assert 0.7 < check.exponents["hidden"][0] < 1.1
    assert "hidden" in repr(check) and "grows" in repr(check)


def test_the_maximal_update_parametrisation_is_stable():
    check = coordinate_check(constructor(True), WIDTHS, (X, Y), squares, steps=2)
    assert set(check.verdicts.values()) == {"stable"}, check


def test_the_change_is_that_of_the_outputs():
    """One step of gradient descent from a kernel of ones, by hand."""

    def construct(width, key):
        return lambda p, x: x @ p["w"], {"w": jnp.ones((8, width))}, optax.sgd(0.5)

    check = coordinate_check(construct, (3, 5), (X, Y), squares, steps=1, seeds=2)
    x = np.float64(X)
    for width, found in zip((3, 5), check.changes["w"], strict=True):
        residual = x @ np.ones((8, width)) - np.float64(Y)
        gradient = 2 * x.T @ residual / residual.size
        np.testing.assert_allclose(found, np.sqrt(((0.5 * x @ gradient) ** 2).mean()), rtol=1e-5)
    np.testing.assert_allclose(check.exponents["w"][0], -1, atol=1e-5)
    assert check.verdicts == {"w": "shrinks"}
    again = coordinate_check(construct, (3, 5), (X, Y), squares, steps=1, seeds=2)
    assert again == check != dataclasses.replace(check, widths=(3, 6))


def test_what_is_refused():
    for options, message in (
        ({"widths": (8,)}, r"widths is \(8,\), with 5 seeds: wanted two widths"),
        ({"steps": 0}, "steps is 0: wanted at least 1"),
        ({"seeds": 0}, "seeds is 0: wanted at least 1"),
        ({"steps": 1.5}, "steps is 1.5: wanted an integer"),
        ({"widths": (0, 8)}, "widths is 0: wanted at least 1"),
        ({"widths": 8}, r"widths is \(8,\), with 5 seeds: wanted two widths"),
        ({"batch": (X, Y, Y)}, r"batch is a tuple of 3: wanted a pair \(x, y\)"),
        ({"batch": X}, r"batch is a .* of 16: wanted a pair \(x, y\)"),
        ({"constructor": lambda *_: (X, Y)}, "constructor gives a tuple: wanted .f, params, opt"),
        ({"loss": lambda out, y: out - y}, "loss returns float32 of shape .*: wanted"),
    ):
        arguments = {"constructor": constructor(True), "batch": (X, Y), "loss": squares}
        with pytest.raises(ValueError, match=message):
            coordinate_check(**{**arguments, "widths": (4, 8), **options})

    def renamed(width, key):
        return lambda p, x: x @ p[f"w{width}"], {f"w{width}": jnp.ones((8, 1))}, optax.sgd(1.0)

    with pytest.raises(ValueError, match="constructor gives the layers .*: wanted the same"):
        coordinate_check(renamed, (4, 8), (X, Y), squares)
