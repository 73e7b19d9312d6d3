"""All settings of all experiments refuse what cannot run, in one clear line."""

import dataclasses
import typing

import pytest

from experiments.registry import EXPERIMENTS
from experiments.shared.checks import MOST

BAD = {
    int: (-3, 10**12, 2.5, True, "many"),
    float: (float("nan"), 1e309, -1.0, "small", None),
    bool: (1, "yes"),
    str: (3, None),
}
FIELDS = {
    (e.module().Config, field.name): typing.get_type_hints(e.module().Config)[field.name]
    for e in EXPERIMENTS
    for field in dataclasses.fields(e.module().Config)
}


def bad(kind):
    """Values that a setting of that kind refuses."""
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return [(value,) for value in BAD[inner] if value != "many"] + [(), 3]
    if typing.get_origin(kind) is typing.Literal:
        return ["nothing", None, 3]
    return BAD[kind]


@pytest.mark.parametrize(
    ("config", "name"), FIELDS, ids=lambda v: v if isinstance(v, str) else v.__module__
)
def test_every_setting_refuses_what_cannot_run(config, name):
    for value in bad(FIELDS[config, name]):
        with pytest.raises(ValueError, match=f"^{name} (is|has a value that is) ") as caught:
            config(**{name: value})
        assert "wanted" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_momentum_and_rates_have_their_range(experiment):
    for name, values in {"momentum": (1.0, 1.5), "learning_rate": (0.0, -0.1)}.items():
        if hasattr(experiment.preset("smoke"), name):
            for value in values:
                with pytest.raises(ValueError, match=f"^{name} is {value}: wanted "):
                    dataclasses.replace(experiment.preset("smoke"), **{name: value})


def test_the_largest_size_is_let_through():
    (config,) = {e.module().Config for e in EXPERIMENTS if e.package == "staircase"}
    assert config(steps=MOST).steps == MOST
    with pytest.raises(ValueError, match=f"^steps is {MOST + 1}: wanted at most {MOST}$"):
        config(steps=MOST + 1)
