"""What the bar of an experiment's training says in front."""

from __future__ import annotations

from contextvars import ContextVar

FRONT: ContextVar[str] = ContextVar("front", default="")
"""As ``3/17 fig04_target_linearity, 40 minutes left``; ``gramlin reproduce`` sets it."""
