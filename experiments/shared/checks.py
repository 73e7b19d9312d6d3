"""Checks of settings."""

from __future__ import annotations

import math
import numbers
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

MOST = 10**7
"""What no setting that is a whole number exceeds: memory would not do."""

KINDS: dict[type, tuple[type, str]] = {
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a finite number"),
    bool: (bool, "True or False"),
    str: (str, "a word"),
}
"""Of what an annotation stands for: what is let through, and its name."""


def check_least(config: Any, bounds: Mapping[str, float]) -> None:
    """Raise ``ValueError`` if a setting is not what its annotation says, or below its bound.

    Numbers have to be finite, whole ones at most ``MOST``, and strings among the choices of a
    ``Literal``; in tuples, each entry.

    Args:
        config: A dataclass of numbers, strings, truth values and tuples of them.
        bounds: By the name of a setting, the least that it may be.
    """
    for name, kind in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if problem := _problem(value, kind):
            raise ValueError(f"{name} is {value!r}: wanted {problem}")
    for name, bound in bounds.items():
        if getattr(config, name) < bound:
            raise ValueError(f"{name} is {getattr(config, name)}: wanted at least {bound}")


def _problem(value: Any, kind: Any) -> str:
    """What is wanted in the place of a value that is not of its kind; empty if it is."""
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return "several values"
        return next(filter(None, (_problem(v, typing.get_args(kind)[0]) for v in value)), "")
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        return "" if value in choices else f"one of {', '.join(choices)}"
    of_kind, wanted = KINDS[kind]
    right = isinstance(value, of_kind) and isinstance(value, bool) == (kind is bool)
    if not right or (kind is float and not math.isfinite(value)):
        return wanted
    return f"at most {MOST}" if kind is int and value > MOST else ""


def check_positive(config: Any, *names: str) -> None:
    """Raise ``ValueError`` if one of these settings is not above 0."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} is {getattr(config, name)}: wanted a positive number")


def check_momentum(config: Any) -> None:
    """Raise ``ValueError`` if ``momentum`` is not in [0, 1)."""
    if not 0 <= config.momentum < 1:
        raise ValueError(f"momentum is {config.momentum}: wanted 0 or more, below 1")


def check_different(config: Any, name: str) -> None:
    """Raise ``ValueError`` if that setting is not of different positive numbers."""
    values: Sequence[float] = getattr(config, name)
    if not len(set(values)) == len(values) > 0 or min(values) <= 0:
        raise ValueError(f"{name} is {values}: wanted different positive numbers")
