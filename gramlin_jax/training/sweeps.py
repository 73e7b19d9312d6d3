"""Sweeps: the same program over seeds and hyper-parameters, vmapped or mapped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
from jax import lax

Execution: TypeAlias = Literal["auto", "vmap", "map"]

# What a CPU's last-level cache holds, about: measured where vmap stops to pay, see benchmarks.
CACHE_BYTES = 24 * 2**20


def grid(**values: Iterable[float]) -> dict[str, np.ndarray]:
    """All combinations of hyper-parameters, as a sweep of ``fit``; the last name varies fastest.

    Raises:
        ValueError: If a name has no value.

    Example:
        >>> grid(learning_rate=(0.1, 0.01), seed=range(2))["learning_rate"].tolist()
        [0.1, 0.1, 0.01, 0.01]
    """
    columns = {name: list(column) for name, column in values.items()}
    for name, column in columns.items():
        if not column:
            raise ValueError(f"{name} has no values: wanted at least one")
    rows = np.array(list(itertools.product(*columns.values())), dtype=object).T
    return {name: np.array(row.tolist()) for name, row in zip(columns, rows, strict=True)}


def choose_execution(working_set: int, runs: int) -> Literal["vmap", "map"]:
    """How to train a sweep: ``"vmap"`` where all runs' working sets fit the cache, else ``"map"``.

    An accelerator is taken to gain by ``"vmap"`` always. On a CPU it amortises the overhead of
    small operations, until parameters, optimiser states and activations of all runs no longer fit
    into the last-level cache and each step goes through memory: see ``benchmarks/sweeps.py``.

    Args:
        working_set: Bytes that one run's step reads and writes.
        runs: Number of runs.
    """
    if runs == 1:
        return "map"
    fits = runs * working_set <= CACHE_BYTES
    return "vmap" if fits or jax.default_backend() != "cpu" else "map"


def over_runs(
    function: Callable[..., Any], *, execution: str, shared: int = 0
) -> Callable[..., Any]:
    """``function`` over the first axis of its arguments, but the last ``shared`` ones."""

    def lifted(*args: Any) -> Any:
        mapped, same = args[: len(args) - shared], args[len(args) - shared :]
        if execution == "vmap":
            return jax.vmap(lambda a: function(*a, *same))(mapped)
        return lax.map(lambda a: function(*a, *same), mapped)

    return lifted


def check_sweep(sweep: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """The values of a sweep as arrays (r,), ``seed`` among them.

    Raises:
        ValueError: If lengths differ, one is 0, or a seed is not an integer of 32 bits.
    """
    hyper = {name: np.asarray(values) for name, values in (sweep or {}).items()}
    shapes = {name: values.shape for name, values in hyper.items()}
    if any(len(shape) != 1 or not shape[0] for shape in shapes.values()) or (
        len(set(shapes.values())) > 1
    ):
        raise ValueError(f"sweep has shapes {shapes}: wanted values of one length, see grid(...)")
    runs = next(iter(shapes.values()), (1,))
    seed = hyper.pop("seed", np.zeros(runs, int))
    if not np.issubdtype(seed.dtype, np.integer):
        raise ValueError(f"sweep has a seed of dtype {seed.dtype}: wanted integers")
    if (np.abs(seed) >= 2**31).any():
        raise ValueError(f"sweep has the seed {seed[np.abs(seed).argmax()]}: wanted below 2**31")
    dtype = jax.dtypes.canonicalize_dtype(float)
    return {"seed": seed.astype(np.int32), **{k: v.astype(dtype) for k, v in hyper.items()}}
