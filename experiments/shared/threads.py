"""How many threads BLAS uses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Solve each small eigenproblem by one thread, unless the user has set a number.

    Threads wait longer for each other than such a problem takes: with two of them figure 4 takes
    nine times the processor time.
    """
    names = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
    if any(name in os.environ for name in names):
        yield
        return
    import scipy.linalg  # noqa: F401  (whose BLAS is JAX's: only what is loaded can be limited)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
