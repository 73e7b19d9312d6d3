"""Sweeps of small networks: vmapped, mapped, one run after another, and as "auto" chooses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.common import CLASSES, images, print_table, timed_fit
from gramlin_jax.models import DNN
from gramlin_jax.training import grid

EPOCHS = 8
SAMPLE = 2  # single runs that stand for all of a sweep: shapes, and so costs, are the same
EXECUTIONS = "vmap", "map"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Runs over seeds of a network of three hidden layers; 1437 x 64 are the digits' sizes."""

    width: int
    runs: int = 20
    n: int = 1437
    inputs: int = 64
    batch: int | None = 64

    def __str__(self) -> str:
        batch = f"batch {self.batch}" if self.batch else "full batch"
        return f"{self.runs} x 3x{self.width}, {self.n} x {self.inputs}, {batch}"


def run(sweeps: Sequence[Mapping[str, Any]], rounds: int) -> None:
    """Print the cost of an epoch of all runs, and of the whole call, of each execution."""
    rows = [_compare(Sweep(**sweep), rounds) for sweep in sweeps]
    print_table(
        "Sweeps, an epoch of all runs without compilation (target: auto / best at most 1.1)",
        [
            "sweep",
            "vmap ms",
            "map ms",
            "singles ms",
            "vmap/singles",
            "map/singles",
            "auto",
            "/best",
        ],
        [row for row, _ in rows],
    )
    print_table(
        f"The same, the whole call with compilation and {EPOCHS} epochs",
        ["sweep", "vmap s", "map s", "singles s", "vmap/singles", "map/singles"],
        [row for _, row in rows],
    )


def _compare(sweep: Sweep, rounds: int) -> tuple[list[str], list[str]]:
    """The two tables' rows: medians of rounds in which vmap, map and singles take turns."""
    times = np.array([_round(sweep) for _ in range(rounds)])  # (rounds, execution, kind)
    epoch, total = np.moveaxis(np.median(times, 0), -1, 0)
    to_singles = np.median(times[:, :2] / times[:, 2:], 0)
    data = images(sweep.n, sweep.inputs)
    auto = timed_fit(_model(sweep), data, **{**_options(sweep), "epochs": 2})[0].execution
    return (
        [
            str(sweep),
            *(f"{1e3 * s:.1f}" for s in epoch),
            *(f"{r:.2f}" for r in to_singles[:, 0]),
            auto,
            f"{epoch[EXECUTIONS.index(auto)] / epoch[:2].min():.2f}",
        ],
        [str(sweep), *(f"{s:.2f}" for s in total), *(f"{r:.2f}" for r in to_singles[:, 1])],
    )


def _round(sweep: Sweep) -> list[tuple[float, float]]:
    """Seconds of an epoch and of the whole call: vmapped, mapped, and summed over single runs.

    A single run is a call of ``fit`` of its own, which compiles its own program: the sum of
    whole calls is what a loop over seeds costs, the sum of their later epochs what it would
    cost if compilation were free.
    """
    model, data, options = _model(sweep), images(sweep.n, sweep.inputs), _options(sweep)
    together = [timed_fit(model, data, **options, execution=e)[1] for e in EXECUTIONS]
    single = [
        timed_fit(model, data, **{**options, "sweep": {"seed": [seed]}})[1]
        for seed in range(min(SAMPLE, sweep.runs))
    ]
    return [*together, tuple(sweep.runs * np.mean(single, 0))]


def _model(sweep: Sweep) -> DNN:
    return DNN(sweep.width, 3, CLASSES)


def _options(sweep: Sweep) -> dict[str, Any]:
    seeds = grid(seed=range(sweep.runs))
    return {"epochs": EPOCHS, "batch_size": sweep.batch, "sweep": seeds}
