"""Functions that remember what they made."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def remembered(make: Callable[P, R]) -> Callable[P, R]:
    """``functools.lru_cache``, but without memory for arguments that are not hashable.

    So a compiled function can be kept for the user's functions that it was built from.
    """
    cached = functools.lru_cache(maxsize=64)(make)

    @functools.wraps(make)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            hash(args)
        except TypeError:
            return make(*args, **kwargs)
        return cached(*args, **kwargs)  # type: ignore[arg-type]

    return wrapped
