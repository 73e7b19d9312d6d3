"""Imports of optional dependencies."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(module: str, extra: str = "data") -> ModuleType:
    """Import a module of an optional set of dependencies.

    Raises:
        ImportError: If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} is missing ({error}): wanted the extra; pip install 'gramlin-jax[{extra}]'"
        ) from error
