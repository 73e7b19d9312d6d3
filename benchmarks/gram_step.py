"""What a Gram-only step costs beside the optimiser's own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import io_callback

from benchmarks.common import CLASSES, images, print_table
from gramlin_jax.models import CNN, DNN
from gramlin_jax.optim import _with_steps, gram_only, is_kernel
from gramlin_jax.sweeps import grid
from gramlin_jax.training import classification_loss, fit

if TYPE_CHECKING:
    from jaxtyping import Array

BATCH = 64
EPOCHS = 4  # the first one compiles
SETTINGS: Mapping[str, tuple[Any, tuple[int, ...]]] = {
    "DNN 2x256, 784": (DNN(256, 2, CLASSES), (784,)),
    "CNN 3x16, 28x28x1": (CNN(CLASSES), (28, 28, 1)),
    "CNN 3x16, 32x32x3": (CNN(CLASSES), (32, 32, 3)),
}
QUICK: Mapping[str, tuple[Any, tuple[int, ...]]] = {
    "DNN 2x16, 64": (DNN(16, 2, CLASSES), (64,)),
    "CNN 1x4, 8x8x1": (CNN(CLASSES, channels=4, depth=1, pool_after=(0,)), (8, 8, 1)),
}
RUNS: Mapping[str, dict[str, Any]] = {
    "single": {},
    "5 seeds, vmap": {"sweep": grid(seed=range(5)), "execution": "vmap"},
    "5 seeds, map": {"sweep": grid(seed=range(5)), "execution": "map"},
}


def fixed_steps(before: Array, after: Array) -> Array:
    """What the paper's code does: ten Newton–Schulz steps of degree five, converged or not."""
    x = before.T @ after
    x = x / jnp.linalg.norm(x)
    for _ in range(10):
        y = x @ x.T
        x = (15 * x - 10 * y @ x + 3 * y @ (y @ x)) / 8
    return after @ x.T


PLAIN = optax.sgd(0.01, momentum=0.85)
OPTIMIZERS = PLAIN, gram_only(PLAIN), _with_steps(PLAIN, is_kernel, fixed_steps)


def run(quick: bool) -> None:
    """Print milliseconds of a step, of all runs together, and the ratios to the plain one."""
    settings, steps, rounds = (QUICK, 4, 1) if quick else (SETTINGS, 40, 3)
    rows = [
        [name, runs, *_compare(model, shape, options, steps, rounds)]
        for name, (model, shape) in settings.items()
        for runs, options in RUNS.items()
    ]
    print_table(
        f"A step of SGD with momentum, batch {BATCH}, plain and Gram-only (target: a ratio of at "
        f"most 8; medians of {rounds} rounds in which they take turns)",
        ["network", "runs", "plain ms", "Gram-only ms", "ten fixed ms", "ratio", "ten fixed"],
        rows,
    )


def _compare(
    model: Any, shape: tuple[int, ...], options: dict[str, Any], steps: int, rounds: int
) -> list[str]:
    """Milliseconds of each step and the ratios of the last two to the first."""
    turns = [
        [_step_time(model, shape, optimizer, steps, options) for optimizer in OPTIMIZERS]
        for _ in range(rounds)
    ]
    ratios = np.median([[step / plain for step in steps] for plain, *steps in turns], 0)
    return [*(f"{1e3 * s:.2f}" for s in np.median(turns, 0)), *(f"{r:.2f}" for r in ratios)]


def _step_time(
    model: Any, shape: tuple[int, ...], optimizer: Any, steps: int, options: dict[str, Any]
) -> float:
    """Seconds of a step of all runs, in the median epoch but the first, stamped from within."""
    x, labels = images(steps * BATCH, int(np.prod(shape)))
    x = x.reshape(-1, *shape)

    def stamp(params: Any, hyper: Any, data: Any) -> Array:
        del params, hyper, data
        seconds = jax.ShapeDtypeStruct((), jnp.float32)
        return io_callback(lambda: np.float32(time.perf_counter() - start), seconds)

    start = time.perf_counter()
    stamps = fit(
        lambda key: model.init(key, x[:1]),
        classification_loss(model.apply),
        optimizer,
        (x, labels),
        epochs=EPOCHS,
        batch_size=BATCH,
        measure=stamp,
        progress=False,
        **options,
    ).measurements
    return float(np.median(np.diff(stamps.max(0))[1:]) / steps)
