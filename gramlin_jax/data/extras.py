"""Importing what only some users need."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(module: str) -> ModuleType:
    """The module, which belongs to the extra ``data``.

    Raises:
        ImportError: If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} cannot be imported ({error}): pip install 'gramlin_jax[data]'"
        ) from error
