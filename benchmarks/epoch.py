"""A training epoch of figure 4's network, as a share of the machine's matmul rate."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks.common import CLASSES, IMAGE, images, print_table, seconds, timed_fit, with_medians
from gramlin_jax.models import DNN

BATCH = 64


def run(quick: bool) -> None:
    """Print the epoch's floating-point rate over that of a matmul timed before and after it."""
    n, width, depth, size, rounds = (640, 32, 4, 256, 2) if quick else (50_000, 256, 4, 2048, 3)
    data = images(n)
    widths = [IMAGE, *[width] * depth, CLASSES]
    rates = [_matmul_rate(size)]
    rows = []
    for _ in range(rounds):
        timing = timed_fit(DNN(width, depth, CLASSES), data, epochs=4, batch_size=BATCH)[1]
        rates.append(_matmul_rate(size))
        rate = _flops(widths, n) / timing.epoch / 1e9
        best = max(rates[-2:])
        compiling = timing.total - 4 * timing.epoch
        rows.append([timing.epoch, compiling, rate, best, rate / best])
    print_table(
        f"A training epoch, {n} x {IMAGE}, DNN {depth}x{width}, batch {BATCH} "
        f"(target: a share of 0.40; {_flops(widths, n) / 1e9:.1f} GFLOP)",
        ["round", "epoch s", "compile and start s", "GFLOP/s", f"matmul {size}^3 GFLOP/s", "share"],
        with_medians(rows, ("{:.3f}", "{:.2f}", "{:.0f}", "{:.0f}", "{:.2f}")),
    )


def _flops(widths: list[int], n: int) -> int:
    """Of the matmuls alone: forward, to the weights, and to all inputs but the network's."""
    layers = [2 * n * a * b for a, b in zip(widths[:-1], widths[1:], strict=True)]
    return 3 * sum(layers) - layers[0]


def _matmul_rate(size: int) -> float:
    """GFLOP/s of the best of several float32 matmuls."""
    a, b = jax.random.normal(jax.random.key(0), (2, size, size))
    matmul = jax.jit(jnp.matmul)
    jax.block_until_ready(matmul(a, b))
    return 2 * size**3 / min(seconds(lambda: matmul(a, b)) for _ in range(8)) / 1e9
