"""What a function of the user's was called with, in the errors that it raises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from gramlin_jax.support.array_fields import outline


@contextlib.contextmanager
def noting(name: str, /, **given: Any) -> Iterator[None]:
    """Errors raised inside say by a note that the function ``name`` was called with this."""
    try:
        yield
    except Exception as error:
        shown = "; ".join(f"{argument}: {outline(value)}" for argument, value in given.items())
        error.add_note(f"{name} was called with {shown}")
        raise
