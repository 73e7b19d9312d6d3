"""A training epoch of figure 4's network, as a share of the machine's matmul rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.common import (
    CLASSES,
    IMAGE,
    flops,
    images,
    matmul_rate,
    print_table,
    seconds,
    timed_fit,
    with_medians,
)
from gramlin_jax.models import DNN

if TYPE_CHECKING:
    from jaxtyping import Array

BATCH, DEPTH = 64, 4
STEPS = 100  # of the products alone


def run(n: int, width: int, matmul: int, rounds: int) -> None:
    """Print the epoch's floating-point rate over that of a matmul timed before and after it.

    Beside it stands the rate of the step's products alone: few rows are multiplied more slowly than
    a large square matrix.
    """
    data = images(n)
    widths = [IMAGE, *[width] * DEPTH, CLASSES]
    operations = flops(widths, n) / 1e9
    rates = [matmul_rate(matmul)]
    rows = []
    for _ in range(rounds):
        timing = timed_fit(DNN(width, DEPTH, CLASSES), data, epochs=4, batch_size=BATCH)[1]
        rates.append(matmul_rate(matmul))
        rate = operations / timing.epoch
        best = max(rates[-2:])
        compiling = timing.total - 4 * timing.epoch
        products = _products_rate(widths)
        rows.append([timing.epoch, compiling, rate, best, rate / best, products, rate / products])
    print_table(
        f"A training epoch, {n} x {IMAGE}, DNN {DEPTH}x{width}, batch {BATCH} "
        f"(target: a share of 0.60; {operations:.1f} GFLOP)",
        [
            "round",
            "epoch s",
            "compile and start s",
            "GFLOP/s",
            f"matmul {matmul}^3 GFLOP/s",
            "share",
            "products alone",
            "share of these",
        ],
        with_medians(rows, ("{:.3f}", "{:.2f}", "{:.0f}", "{:.0f}", "{:.2f}", "{:.0f}", "{:.2f}")),
    )


def _products_rate(widths: list[int]) -> float:
    """GFLOP/s of the products of a step, one after another: forward, and back to all but x."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((BATCH, widths[0]), np.float32))
    kernels = [
        jnp.asarray(rng.standard_normal((a, b), np.float32) / a**0.5)
        for a, b in zip(widths, widths[1:], strict=False)
    ]

    def step(x: Array, _: None) -> tuple[Array, None]:
        rows = [x]
        for kernel in kernels:
            rows.append(rows[-1] @ kernel)
        delta, gradients = rows[-1], []
        for h, kernel in zip(rows[-2::-1], kernels[::-1], strict=True):
            gradients.append(h.T @ delta)
            delta = delta @ kernel.T if h is not x else delta
        gradients = lax.optimization_barrier(gradients)
        return x + 1e-30 * sum(gradient[0, 0] for gradient in gradients), None  # all are needed

    steps: Any = jax.jit(lambda x: lax.scan(step, x, length=STEPS)[0])
    jax.block_until_ready(steps(x))
    return STEPS * flops(widths, BATCH) / min(seconds(lambda: steps(x)) for _ in range(8)) / 1e9
