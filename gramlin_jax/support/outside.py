"""What a function reads from around it, on which a trace of it depends."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

PLAIN = bool, int, float, complex, str, bytes, type(None)
DEPTH = 3  # attributes of attributes


def read_outside(function: Any) -> tuple[tuple[str, str], ...]:
    """Python numbers and text that a function reads, by name: globals, closures, attributes.

    What was made of a function may be kept while these are the same. It looks into functions of the
    same module that are called, but not into lists and dictionaries.

    Args:
        function: Of the user's.

    Example:
        >>> def scaled(factor):
        ...     return lambda x: factor * x
        >>> read_outside(scaled(3.0))
        (('factor', '3.0'),)
    """
    found: dict[str, str] = {}
    _collect(function, found, set())
    return tuple(sorted(found.items()))


def _collect(function: Any, found: dict[str, str], seen: set[int]) -> None:
    if id(function) in seen:
        return
    seen.add(id(function))
    if isinstance(function, functools.partial):
        function = function.func
    owner = getattr(function, "__self__", None)
    if not isinstance(function, types.FunctionType | types.MethodType):
        owner, function = function, type(function).__call__ if callable(function) else None
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return
    names = set(_names(function.__code__))
    around = {name: function.__globals__.get(name) for name in names} | {"self": owner}
    around |= dict(_closure(function))
    for name, value in around.items():
        if isinstance(value, types.FunctionType) and value.__module__ == function.__module__:
            _collect(value, found, seen)
        else:
            found.update(_plain(name, value, names, DEPTH))


def _closure(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # nothing is in it yet
            continue


def _names(code: types.CodeType) -> Iterator[str]:
    """Names that are read in a function, and in those inside of it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _plain(name: str, value: Any, names: set[str], depth: int) -> Iterator[tuple[str, str]]:
    """A number or text as text; of an object those among its attributes that are read."""
    if isinstance(value, PLAIN):
        if value is not None:
            yield name, repr(value)
        return
    for attribute in names if depth else ():
        inside = getattr(value, "__dict__", {}).get(attribute)
        if inside is None and not isinstance(value, type | types.ModuleType):
            inside = vars(type(value)).get(attribute)
        if inside is not None:
            yield from _plain(f"{name}.{attribute}", inside, names, depth - 1)
