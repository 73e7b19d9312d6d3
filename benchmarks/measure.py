"""Measuring all hidden layers, relative to a training epoch on the same samples."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import CLASSES, IMAGE, images, print_table, seconds, timed_fit, with_medians
from experiments.shared.measures import layer_sums
from gramlin_jax import noise_floor, surrogate, target_linearity, target_linearity_adjusted
from gramlin_jax.models import DNN

if TYPE_CHECKING:
    from jaxtyping import Array


def run(n: int, width: int, rounds: int) -> None:
    """Print the time of the pass, of the metrics on its moments, and of an epoch, in turns."""
    model, data = DNN(width, 4, CLASSES), images(n)
    on_device = jax.tree.map(jnp.asarray, data)
    params = model.init(jax.random.key(0), on_device[0][:1])
    sums = jax.jit(functools.partial(layer_sums, model))
    metrics = jax.jit(_metrics(model))
    totals = sums(params, on_device)
    jax.block_until_ready(metrics(params, totals))  # both are compiled now
    rows = []
    for _ in range(rounds):
        epoch = timed_fit(model, data, epochs=3, batch_size=64)[1].epoch
        streaming = _median(lambda: sums(params, on_device))
        solving = _median(lambda: metrics(params, totals))
        rows.append([streaming, solving, epoch, (streaming + solving) / epoch])
    print_table(
        f"A measurement of {n} x {IMAGE}, DNN 4x{width}, over an epoch of batch 64 "
        "(target: a ratio of at most 1.5)",
        ["round", "moments s", "metrics s", "epoch s", "ratio"],
        with_medians(rows, ("{:.3f}", "{:.3f}", "{:.3f}", "{:.2f}")),
    )


def _metrics(model: DNN) -> Callable[[Any, Any], dict[str, Array]]:
    """What ``experiments.target_linearity.compute.layer_metrics`` computes of the training set."""

    def metrics(params: Any, totals: Any) -> dict[str, Array]:
        layers = totals["moments"]
        kernels = [params["params"][f"Dense_{i + 1}"]["kernel"] for i in range(model.depth)]
        return {
            "target_linearity": jnp.stack([target_linearity(m) for m in layers]),
            "adjusted": jnp.stack([target_linearity_adjusted(m) for m in layers]),
            "noise_floor": jnp.stack([noise_floor(m) for m in layers]),
            "surrogate": jnp.stack([surrogate(m, k) for m, k in zip(layers, kernels, strict=True)]),
        }

    return metrics


def _median(function: Callable[[], Any]) -> float:
    return float(np.median([seconds(function) for _ in range(3)]))
