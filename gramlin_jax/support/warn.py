"""Warnings from what must not stop training."""

from __future__ import annotations

import sys
import warnings


def warn_only(message: str) -> None:
    """Warn the caller's caller; where warnings are errors, print the message and go on."""
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    except RuntimeWarning:
        print(f"RuntimeWarning: {message}", file=sys.stderr)
