"""Time to import the package, and to import JAX alone, each in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from benchmarks.common import print_table, seconds

MODULES = "jax", "gramlin_jax"


def run(rounds: int) -> None:
    """Print the median wall time of an interpreter that imports each, in turns."""
    for module in MODULES:  # files into the cache
        _start_and_import(module)
    times = np.array([[_start_and_import(m) for m in MODULES] for _ in range(rounds)])
    medians, ratios = np.median(times, 0), np.median(times / times[:, :1], 0)
    print_table(
        "Import, the start of the interpreter included (target: under 2 s)",
        ["module", "seconds", "/ jax"],
        [[m, f"{s:.2f}", f"{r:.2f}"] for m, s, r in zip(MODULES, medians, ratios, strict=True)],
    )


def _start_and_import(module: str) -> float:
    command = [sys.executable, "-c", f"import {module}"]
    return seconds(lambda: subprocess.run(command, check=True).returncode)
