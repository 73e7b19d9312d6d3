"""What the bar of an experiment's training says in front."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

FRONT: ContextVar[str] = ContextVar("front", default="")
"""As ``3/17 fig02_gram_whitening, about 40 minutes left, part 2 of 3``."""


@contextlib.contextmanager
def in_front(words: str) -> Iterator[None]:
    """Bars made within say these words, too."""
    token = FRONT.set(", ".join(filter(None, (FRONT.get(), words))))
    try:
        yield
    finally:
        FRONT.reset(token)
