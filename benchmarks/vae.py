"""A VAE's epoch, a sweep over β in one program, and target linearity with images as targets.

Target linearity runs in a fresh process, ``python -m benchmarks.vae FORM N FEATURES TARGETS``, so
that its peak memory is its own.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common import print_table, seconds, with_medians
from benchmarks.epoch import _flops, _matmul_rate
from benchmarks.metrics import _memory
from experiments.vae_runs import starting, training_loss
from gramlin_jax import moments, target_linearity
from gramlin_jax.models import VAE
from gramlin_jax.training import Run, fit

BATCH = 128
BETAS = 0.05, 0.1, 1.0, 10.0


def run(quick: bool) -> None:
    """Print the three tables."""
    if quick:
        tiny = VAE(64, width=16, depth=1, latent=4)
        _epoch(tiny, n=512, size=256, rounds=2)
        _sweep(tiny, BETAS[:2], n=256, executions=("auto",))
        _linearity(n=500, features=4, targets=64)
        return
    _epoch(VAE(784), n=60_000, size=2048, rounds=3)
    _sweep(VAE(784), BETAS, n=12_800, executions=("auto", "vmap"))
    _linearity(n=50_000, features=32, targets=3072)


def _epoch(model: VAE, n: int, size: int, rounds: int) -> None:
    """One β: the epoch's floating-point rate over that of a matmul timed before and after it."""
    hidden = [model.width] * model.depth
    encoder, decoder = [model.pixels, *hidden, 2 * model.latent], [model.latent, *hidden]
    # The decoder's input needs a gradient too, the encoder's does not.
    first = 2 * n * model.latent * model.width
    flops = _flops(encoder, n) + _flops([*decoder, model.pixels], n) + first
    rates, rows = [_matmul_rate(size)], []
    for epoch in _epochs(model, n, rounds):
        rates.append(_matmul_rate(size))
        rate, best = flops / epoch / 1e9, max(rates[-2:])
        rows.append([epoch, rate, best, rate / best])
    print_table(
        f"A training epoch, {n} x {model.pixels}, VAE {model.depth}x{model.width}, latent "
        f"{model.latent}, batch {BATCH}, Adam, one β ({flops / 1e9:.1f} GFLOP)",
        ["round", "epoch s", "GFLOP/s", f"matmul {size}^3 GFLOP/s", "share"],
        with_medians(rows, ("{:.3f}", "{:.0f}", "{:.0f}", "{:.2f}")),
    )


def _epochs(model: VAE, n: int, rounds: int) -> Iterator[float]:
    """Seconds of one epoch after another; the caller does as it likes in between."""
    x, hyper = _images(n, model.pixels), {"seed": jnp.int32(0), "beta": jnp.float32(1)}
    one = Run(starting(model), training_loss(model), optax.adam(1e-4), BATCH)
    state = jax.jit(one.start)(hyper)
    epoch = jax.jit(one.epoch, donate_argnums=0)
    for count in range(rounds + 1):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(epoch(state, x, hyper, jnp.int32(count)))
        if count:  # the first one compiles
            yield time.perf_counter() - start


def _sweep(model: VAE, betas: Sequence[float], n: int, executions: Sequence[str]) -> None:
    """All β in one call of ``fit`` against a call each, compilation included."""
    x = _images(n, model.pixels)

    def train(*swept: float, execution: Any = "auto") -> Any:
        return fit(
            starting(model),
            training_loss(model),
            optax.adam(1e-4),
            x,
            epochs=2,
            batch_size=BATCH,
            sweep={"beta": swept},
            execution=execution,
            hooks=(),
        ).params

    train(betas[0])  # what is compiled once a process
    single = sum(seconds(lambda beta=beta: train(beta)) for beta in betas)
    rows = []
    for execution in executions:
        together = seconds(lambda execution=execution: train(*betas, execution=execution))
        rows.append([execution, f"{together:.2f}", f"{single:.2f}", f"{together / single:.2f}"])
    print_table(
        f"{len(betas)} β, 2 epochs of {n} x {model.pixels}, VAE {model.depth}x{model.width}",
        ["execution", "one program s", "separate runs s", "ratio"],
        rows,
    )


def _linearity(n: int, features: int, targets: int) -> None:
    """Target linearity of a code to images, moments included."""
    rows = []
    for form in ("called", "under jit"):
        command = [sys.executable, "-m", "benchmarks.vae", form, *map(str, (n, features, targets))]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        taken = json.loads(done.stdout)
        places = {"s": 3, "compile": 2, "mb": 0, "data": 0}
        rows.append([form, *(f"{taken[name]:.{digits}f}" for name, digits in places.items())])
    residual = 8 * n * targets / 1e6
    print_table(
        f"Target linearity of {features} features and {targets} targets, n = {n} (an n x k "
        f"residual in float64 alone: {residual:.0f} MB)",
        ["form", "s", "compile s", "MB beyond the data", "data MB"],
        rows,
    )


def _main(form: str, n: int, features: int, targets: int) -> None:
    """Print, as JSON, the seconds and megabytes of target linearity."""
    # Drawn in parts into one buffer: what drawing needs would hide what is measured.
    y = np.empty((n, targets), np.float32)
    for part in np.array_split(y, 50):
        np.random.default_rng(0).random(out=part, dtype=np.float32)
    h, y = jnp.asarray(np.tanh(y[:, :features])), jnp.asarray(y)
    jax.block_until_ready((h, y))
    gc.collect()
    before = _memory(reset=True)["VmRSS"]

    def linearity(h: Any, y: Any) -> Any:
        return target_linearity(moments(h, y))

    # Called as it is, it looks for values that are not finite too.
    compute = jax.jit(linearity) if form == "under jit" else linearity
    first = seconds(lambda: compute(h, y))
    times = [seconds(lambda: compute(h, y)) for _ in range(3)]
    taken = {
        "s": np.median(times),
        "compile": first - np.median(times),
        "mb": _memory()["VmHWM"] - before,
        "data": (h.nbytes + y.nbytes) / 1e6,
    }
    print(json.dumps(taken))


def _images(n: int, pixels: int) -> Any:
    return jnp.asarray(np.random.default_rng(0).random((n, pixels), np.float32))


if __name__ == "__main__":
    _main(sys.argv[1], *map(int, sys.argv[2:]))
