"""Checks of settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def check_least(config: Any, bounds: Mapping[str, float]) -> None:
    """Raise ``ValueError`` if a setting that ``bounds`` names is below its bound, or NaN."""
    for name, bound in bounds.items():
        if not getattr(config, name) >= bound:
            raise ValueError(f"{name} is {getattr(config, name)}: wanted at least {bound}")


def check_positive(config: Any, *names: str) -> None:
    """Raise ``ValueError`` if one of these settings is not a positive, finite number."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise ValueError(f"{name} is {getattr(config, name)}: wanted a positive number")


def check_momentum(config: Any) -> None:
    """Raise ``ValueError`` if ``momentum`` is not in [0, 1)."""
    if not 0 <= config.momentum < 1:
        raise ValueError(f"momentum is {config.momentum}: wanted 0 or more, below 1")


def check_different(config: Any, name: str) -> None:
    """Raise ``ValueError`` if that setting is not of different positive, finite numbers."""
    values: Sequence[float] = getattr(config, name)
    different = len(set(values)) == len(values) > 0
    if not different or not all(0 < value < math.inf for value in values):
        raise ValueError(f"{name} is {values}: wanted different positive numbers")
