"""How often a kernel of noise has a significant component: the nominal 5 %, and heavy tails."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jax
import numpy as np
from scipy import stats

from benchmarks.common import print_table
from gramlin_jax import significant_components

Shapes = tuple[tuple[int, int], ...]
LEVEL = 0.05
DEGREES = 3  # of freedom of Student's t: the variance is finite, the fourth moment is not


def run(draws: int, normal: Shapes, heavy: Shapes) -> None:
    """Print the table.

    Args:
        draws: Kernels of each kind.
        normal: Shapes (i, o) of kernels with normal entries.
        heavy: Shapes of kernels with entries of Student's t.
    """
    kinds: tuple[tuple[str, Shapes, Callable[..., np.ndarray]], ...] = (
        ("normal", normal, lambda rng, shape: rng.standard_normal(shape)),
        (f"t, {DEGREES} degrees", heavy, lambda rng, shape: rng.standard_t(DEGREES, shape)),
    )
    rows = []
    for name, shapes, entries in kinds:
        for shape in shapes:
            rng = np.random.default_rng(0)
            fired = _fired(entries(rng, shape) for _ in range(draws))
            low, high = stats.binomtest(fired, draws).proportion_ci(0.95, "exact")
            share, interval = f"{fired / draws:.1%}", f"{low:.1%} to {high:.1%}"
            rows.append([name, f"{shape[0]}x{shape[1]}", draws, share, interval])
    print_table(
        f"Noise with a significant component (nominal: {LEVEL:.0%})",
        ["entries", "shape", "draws", "share", "95 % interval"],
        rows,
    )


def _fired(kernels: Iterable[np.ndarray]) -> int:
    """The number of kernels that have a component."""
    of_one = jax.jit(lambda kernel: significant_components(kernel, LEVEL).number > 0)
    with jax.enable_x64(True):
        return sum(bool(of_one(kernel)) for kernel in kernels)
