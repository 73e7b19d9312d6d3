"""What a function reads from around it, in each of the ways in which Python reads."""

import functools

import jax.numpy as jnp
import pytest

from gramlin_jax.support.outside import read_outside

ACTIVATION = jnp.tanh


class Model:
    def __init__(self, scale):
        self.scale, self.calls = scale, 0

    def body(self, x):
        return self.scale * x

    def __call__(self, x):
        return self.body(x)

    @property
    def twice(self):
        return 2 * self.scale


class Slots:
    __slots__ = ("scale",)

    def __init__(self, scale):
        self.scale = scale


def by_default(model):
    def f(x, m=model):
        return m.scale * x

    return f


def by_keyword(model):
    def f(x, *, m=model):
        return m.scale * x

    return f


def by_helper(model):
    def helper(x):
        return model.scale * x

    return lambda x: helper(x)


WAYS = {
    "method": lambda model: model.body,
    "object": lambda model: model,
    "object that is called": lambda model: lambda x: model(x),
    "property": lambda model: lambda x: model.twice * x,
    "partial": lambda model: functools.partial(lambda m, x: m.scale * x, model),
    "keyword of a partial": lambda model: functools.partial(lambda x, m: m.scale * x, m=model),
    "default": by_default,
    "default of a keyword": by_keyword,
    "function of the function's": by_helper,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_number_that_changes_is_seen_and_what_is_not_read_is_not(way):
    model = Model(1.0)
    f = WAYS[way](model)
    before = read_outside(f)
    model.calls = 7
    assert read_outside(f) == before
    model.scale = 2.0
    assert read_outside(f) != before
    model.scale = 1.0
    assert read_outside(f) == before
    assert hash(before) == hash(read_outside(f))


def test_slots_are_read():
    slots = Slots(1.0)
    f = lambda x: slots.scale * x  # noqa: E731
    before = read_outside(f)
    slots.scale = 2.0
    assert read_outside(f) != before


def test_another_function_of_a_package_is_seen(monkeypatch):
    f = lambda x: ACTIVATION(x)  # noqa: E731
    before = read_outside(f)
    monkeypatch.setitem(globals(), "ACTIVATION", jnp.sin)
    assert read_outside(f) != before


def test_objects_that_read_each_other_come_to_an_end():
    one, two = Model(1.0), Model(2.0)
    one.scale, two.scale = two, one
    assert read_outside(one) == read_outside(one)
