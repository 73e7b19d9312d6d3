"""Time of a Gram-only step, relative to the optimiser's own step."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common import CLASSES, images, print_table
from gramlin_jax.models import CNN, DNN
from gramlin_jax.optim import _with_steps, gram_only, is_kernel
from gramlin_jax.training import Run, classification_loss, over_runs

if TYPE_CHECKING:
    from jaxtyping import Array

BATCH = 64
RUNS: Mapping[str, tuple[int, str]] = {
    "single": (1, "map"),
    "5 seeds, vmap": (5, "vmap"),
    "5 seeds, map": (5, "map"),
}


def fixed_steps(before: Array, after: Array, basis: Array | None) -> tuple[Array, Array | None]:
    """What the paper's code does: ten Newton–Schulz steps of degree five, converged or not."""
    x = before.T @ after
    x = x / jnp.linalg.norm(x)
    for _ in range(10):
        y = x @ x.T
        x = (15 * x - 10 * y @ x + 3 * y @ (y @ x)) / 8
    return after @ x.T, basis


PLAIN = optax.sgd(0.01, momentum=0.85)
OPTIMIZERS = PLAIN, gram_only(PLAIN), _with_steps(PLAIN, is_kernel, fixed_steps)


def run(
    dnns: Sequence[Mapping[str, Any]], cnns: Sequence[Mapping[str, Any]], steps: int, rounds: int
) -> None:
    """Print milliseconds of a step, of all runs together, and the ratios to the plain one."""
    rows = [
        [name, kind, *_compare(model, shape, *runs, steps, rounds)]
        for name, model, shape in (*(_dnn(**sizes) for sizes in dnns), *(_cnn(**s) for s in cnns))
        for kind, runs in RUNS.items()
    ]
    print_table(
        f"A step of SGD with momentum, batch {BATCH}, plain and Gram-only (target: a ratio of at "
        f"most 5; medians of {rounds} rounds in which they take turns)",
        ["network", "runs", "plain ms", "Gram-only ms", "ten fixed ms", "ratio", "ten fixed"],
        rows,
    )


def _dnn(width: int, depth: int, inputs: int) -> tuple[str, Any, tuple[int, ...]]:
    return f"DNN {depth}x{width}, {inputs}", DNN(width, depth, CLASSES), (inputs,)


def _cnn(channels: int, depth: int, shape: tuple[int, ...]) -> tuple[str, Any, tuple[int, ...]]:
    pools = tuple(layer for layer in (0, 2) if layer < depth)
    name = f"CNN {depth}x{channels}, {'x'.join(map(str, shape))}"
    return name, CNN(CLASSES, channels, depth, pools), shape


def _compare(
    model: Any, shape: tuple[int, ...], runs: int, execution: Any, steps: int, rounds: int
) -> list[str]:
    """Milliseconds of each step and the ratios of the last two to the first."""
    epochs = [_epochs(model, shape, optimizer, runs, execution, steps) for optimizer in OPTIMIZERS]
    turns = [[next(epoch) / steps for epoch in epochs] for _ in range(rounds)]
    ratios = np.median([[step / plain for step in steps] for plain, *steps in turns], 0)
    return [*(f"{1e3 * s:.2f}" for s in np.median(turns, 0)), *(f"{r:.2f}" for r in ratios)]


def _epochs(
    model: Any, shape: tuple[int, ...], optimizer: Any, runs: int, execution: Any, steps: int
) -> Iterator[float]:
    """Seconds of one epoch after another, training on; the first two are not counted."""
    x, labels = images(steps * BATCH, int(np.prod(shape)))
    data = jnp.asarray(x.reshape(-1, *shape)), jnp.asarray(labels)
    loss = classification_loss(model.apply)
    one = Run(lambda key: model.init(key, data[0][:1]), loss, optimizer, BATCH)
    hyper = {"seed": jnp.arange(runs)}
    state = jax.jit(over_runs(one.start, execution=execution))(hyper)
    lifted = over_runs(one.epoch, execution=execution, shared=(1, 3))
    epoch = jax.jit(lifted, donate_argnums=0)
    for count in itertools.count():
        start = time.perf_counter()
        state, _ = jax.block_until_ready(epoch(state, data, hyper, jnp.int32(count)))
        if count > 1:
            yield time.perf_counter() - start
