"""Sweeps over seeds and hyper-parameters, under ``vmap`` or ``lax.map``, on one device or many."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from gramlin_jax.support.conversion import check_held
from gramlin_jax.support.devices import REPLICATED, spans_processes

Execution: TypeAlias = Literal["auto", "vmap", "map"]

# What a CPU's last-level cache holds, about: measured where vmap stops to pay, see benchmarks.
CACHE_BYTES = 24 * 2**20


def grid(**values: Iterable[float]) -> dict[str, np.ndarray]:
    """All combinations of hyper-parameters, as a sweep of ``fit``; the last name varies fastest.

    Raises:
        ValueError: If a name has no value, or a single number in the place of values.

    Example:
        >>> grid(learning_rate=(0.1, 0.01), seed=range(2))["learning_rate"].tolist()
        [0.1, 0.1, 0.01, 0.01]
    """
    for name, column in values.items():
        if not np.iterable(column):
            raise ValueError(f"{name} is {column}: wanted values, as ({column},)")
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
    function: Callable[..., Any],
    *,
    execution: str,
    shared: Sequence[int] = (),
    mesh: Mesh | None = None,
) -> Callable[..., Any]:
    """``function`` of one run as a function of all runs.

    Args:
        function: Of positional arguments, without an axis of runs.
        execution: ``"vmap"`` or ``"map"``.
        shared: Positions of the arguments that are the same for all runs; the others, and what
            is returned, have the runs as their first axis.
        mesh: Devices, each of which takes an equal share of the runs. They exchange nothing, so
            that under ``"map"`` every bit is that of one device; None: JAX's default device.

    Raises:
        ValueError: If ``execution`` is another word.

    Example:
        >>> add = over_runs(lambda a, b: a + b, execution="vmap", shared=(1,))
        >>> add(np.arange(3), 10).tolist()
        [10, 11, 12]
    """
    if execution not in ("vmap", "map"):
        raise ValueError(f"execution is {execution!r}: wanted 'vmap' or 'map'")

    def lifted(*args: Any) -> Any:
        same = {i: args[i] for i in shared}
        own = {i: arg for i, arg in enumerate(args) if i not in same}

        def one(own: dict[int, Any]) -> Any:
            return function(*(value for _, value in sorted({**own, **same}.items())))

        return jax.vmap(one)(own) if execution == "vmap" else lax.map(one, own)

    if mesh is None:
        return lifted
    runs, free = PartitionSpec(mesh.axis_names), Mesh(mesh.devices, mesh.axis_names)

    def spread(*args: Any) -> Any:
        specs = tuple(REPLICATED if i in shared else runs for i in range(len(args)))
        share = jax.shard_map(lifted, mesh=free, in_specs=specs, out_specs=runs, check_vma=False)
        return share(*args)

    return spread


class Compiled(NamedTuple):
    """A compiled function of all runs.

    Attributes:
        call: As it is carried out, on all devices.
        alone: The same on one device. A checkpoint compares its program, so that training may go
            on on another number of devices.
    """

    call: Any
    alone: Any


def compiled_over_runs(
    function: Callable[..., Any], *, mesh: Mesh | None, donate: Sequence[int] = (), **options: Any
) -> Compiled:
    """``over_runs(function, mesh=mesh, **options)``, jitted; buffers of ``donate`` are reused."""
    alone = jax.jit(over_runs(function, **options), donate_argnums=donate)
    if mesh is None:
        return Compiled(alone, alone)
    spread = over_runs(function, mesh=mesh, **options)
    return Compiled(jax.jit(spread, donate_argnums=donate), alone)


def check_spread(mesh: Mesh | None, runs: int) -> None:
    """Raise ``ValueError`` if the devices of a mesh cannot take an equal share of the runs each."""
    if mesh is not None and (runs % mesh.size or spans_processes(mesh)):
        raise ValueError(
            f"mesh has {mesh.size} devices for a sweep of {runs} runs: wanted devices of this "
            "process, in a number that divides the runs"
        )


def run_labels(sweep: Mapping[str, np.ndarray]) -> list[str]:
    """A name for each run from its hyper-parameters; empty where there is one run.

    Example:
        >>> run_labels(grid(learning_rate=(0.1, 0.01), seed=(0,)))
        ['learning_rate=0.1 seed=0', 'learning_rate=0.01 seed=0']
    """
    rows = list(zip(*sweep.values(), strict=True))
    if len(rows) == 1:
        return [""]
    return [" ".join(f"{k}={_short(v)}" for k, v in zip(sweep, row, strict=True)) for row in rows]


def _short(value: np.generic) -> str:
    """Six digits where these are all: runs of close seeds or rates need names of their own."""
    short = f"{value:g}"
    return short if value.dtype.type(float(short)) == value else str(value)


def check_sweep(sweep: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """The values of a sweep as arrays (r,), as they were given, ``seed`` among them.

    Compiled functions round them to the type of the calculation, float32 in general.

    Raises:
        ValueError: If lengths differ, one is 0, a seed is not an integer of 32 bits, or a value is
            not a number or not held by the type of the calculation.
        TypeError: If it has no names.
    """
    if not hasattr({} if sweep is None else sweep, "items"):
        kind = type(sweep).__name__
        raise TypeError(f"sweep is a {kind}: wanted values by name, as grid(seed=range(3))")
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
    check_held("sweep['seed']", seed, np.dtype(np.int32))
    dtype = jax.dtypes.canonicalize_dtype(float)
    for name, values in hyper.items():
        if values.dtype.kind not in "biuf" or np.isnan(values).any():
            raise ValueError(f"sweep[{name!r}] is {values.tolist()}: wanted numbers")
        check_held(f"sweep[{name!r}]", values, dtype)
    return {"seed": seed.astype(np.int32), **{k: v.astype(float) for k, v in hyper.items()}}
