"""What a function reads from around it, on which a trace of it depends."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Hashable, Iterator
from typing import Any

PLAIN = bool, int, float, complex, str, bytes, type(None)
CODE = types.FunctionType | types.MethodType | functools.partial
DEPTH = 3  # attributes of attributes
INSTALLED = "site-packages", "dist-packages", "<frozen"


def read_outside(function: Any) -> tuple[tuple[str, Hashable], ...]:
    """What a function reads by name from globals, closures, defaults and attributes, arrays apart.

    What was made of a function may be kept while this is the same: Python numbers and text, and
    which functions of others it calls. It looks into functions, methods and properties that are not
    installed packages', but not into lists and dictionaries.

    Args:
        function: Of the user's.

    Example:
        >>> def scaled(factor):
        ...     return lambda x: factor * x
        >>> read_outside(scaled(3.0))
        (('factor', '3.0'),)
    """
    found: dict[str, Hashable] = {}
    _of_function("", function, found, set())
    return tuple(sorted(found.items(), key=lambda item: item[0]))


def _of_function(name: str, function: Any, found: dict[str, Hashable], seen: set[Any]) -> None:
    """What a function reads, or an object that is called."""
    around: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        around |= {str(i): value for i, value in enumerate(function.args)} | function.keywords
        function = function.func
    if not isinstance(function, types.FunctionType | types.MethodType):
        function = getattr(function, "__call__", None)  # noqa: B004
    owner, function = getattr(function, "__self__", None), getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType) or (function, id(owner)) in seen:
        return
    seen.add((function, id(owner)))
    names = set(_names(function.__code__))
    around |= {name: function.__globals__.get(name) for name in names}
    around |= _defaults(function) | dict(_closure(function)) | {"self": owner}
    for key, value in around.items():
        _of_value(f"{name}{key}", value, names, DEPTH, found, seen)


def _of_value(
    name: str, value: Any, names: set[str], depth: int, found: dict[str, Hashable], seen: set[Any]
) -> None:
    """A number or text; what a function reads; of an object the attributes that are read."""
    if isinstance(value, PLAIN):
        if value is not None:
            found[name] = repr(value)
    elif isinstance(value, CODE) and _is_own(value):
        _of_function(f"{name}.", value, found, seen)
    elif _is_function(value):
        found[name] = value
    elif depth:
        if _has_code(value):
            _of_function(f"{name}.", value, found, seen)
        for attribute, inside in _attributes(value, names):
            path = f"{name}.{attribute}"
            if isinstance(inside, property):
                inside = types.MethodType(inside.fget, value)  # type: ignore[arg-type]
            _of_value(path, inside, names, depth - 1, found, seen)


def _is_function(value: Any) -> bool:
    """Whether it is a function of others, as ``jnp.tanh``, and no method."""
    named = callable(value) and hasattr(value, "__name__") and isinstance(value, Hashable)
    return named and not isinstance(value, type | types.MethodType)


def _has_code(value: Any) -> bool:
    """Whether it is an object whose class says in Python, outside of packages, what a call does."""
    call = getattr(type(value), "__call__", None)  # noqa: B004
    return isinstance(call, types.FunctionType) and _is_own(call)


def _is_own(function: Any) -> bool:
    """Whether a function is the user's: its code lies in no installed package."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    return code is not None and not any(part in code.co_filename for part in INSTALLED)


def _attributes(value: Any, names: set[str]) -> Iterator[tuple[str, Any]]:
    """Those of an object that are read, as they are stored, but what slots hold."""
    for name in names:
        inside = inspect.getattr_static(value, name, None)
        if isinstance(inside, types.MemberDescriptorType):
            inside = getattr(value, name, None)
        elif isinstance(inside, types.FunctionType) and not isinstance(value, types.ModuleType):
            inside = types.MethodType(inside, value)
        if isinstance(value, type | types.ModuleType) and not isinstance(inside, PLAIN):
            continue
        yield name, inside


def _defaults(function: types.FunctionType) -> dict[str, Any]:
    code, given = function.__code__, function.__defaults__ or ()
    last = code.co_varnames[: code.co_argcount][code.co_argcount - len(given) :]
    return dict(zip(last, given, strict=True)) | (function.__kwdefaults__ or {})


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
