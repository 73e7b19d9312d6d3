"""A training epoch of figure 4's network, as a share of the machine's matmul rate."""

from __future__ import annotations

from benchmarks.common import (
    CLASSES,
    IMAGE,
    flops,
    images,
    matmul_rate,
    print_table,
    timed_fit,
    with_medians,
)
from gramlin_jax.models import DNN

BATCH, DEPTH = 64, 4


def run(n: int, width: int, matmul: int, rounds: int) -> None:
    """Print the epoch's floating-point rate over that of a matmul timed before and after it."""
    data = images(n)
    operations = flops([IMAGE, *[width] * DEPTH, CLASSES], n) / 1e9
    rates = [matmul_rate(matmul)]
    rows = []
    for _ in range(rounds):
        timing = timed_fit(DNN(width, DEPTH, CLASSES), data, epochs=4, batch_size=BATCH)[1]
        rates.append(matmul_rate(matmul))
        rate = operations / timing.epoch
        best = max(rates[-2:])
        compiling = timing.total - 4 * timing.epoch
        rows.append([timing.epoch, compiling, rate, best, rate / best])
    print_table(
        f"A training epoch, {n} x {IMAGE}, DNN {DEPTH}x{width}, batch {BATCH} "
        f"(target: a share of 0.40; {operations:.1f} GFLOP)",
        [
            "round",
            "epoch s",
            "compile and start s",
            "GFLOP/s",
            f"matmul {matmul}^3 GFLOP/s",
            "share",
        ],
        with_medians(rows, ("{:.3f}", "{:.2f}", "{:.0f}", "{:.0f}", "{:.2f}")),
    )
