"""Train on random labels, measured layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gramlin_jax.data import Dataset, label_noise, noisy_labels
from gramlin_jax.models import DNN
from gramlin_jax.training import Hyper, Loss, Measure, classification_loss, hits

from ..shared.measures import linearity_metrics
from ..shared.results import Computed
from ..shared.training import (
    checkpoints,
    classes_of,
    evenly,
    facts,
    load_splits,
    rate_or_schedule,
    train,
)
from . import Config

if TYPE_CHECKING:
    from jaxtyping import Array


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Train all runs in one program and measure each layer along the way.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which an interrupted run continues; None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        What ``noisy_metrics`` measures, and ``epochs``; ``noise_floor``, the expected target
        linearity of noise in ``width`` features.
    """
    train_data, test = load_splits(config.dataset, data_dir, samples=config.samples, folder=folder)
    model = DNN(config.width, config.depth, classes_of(train_data))
    data = [with_noise(split, seed) for seed, split in enumerate((train_data, test))]
    n, at = len(train_data), evenly(config.epochs, config.measurements)
    trained = train(
        lambda key: model.init(key, data[0][0][:1]),
        noisy_loss(model),
        lambda hyper: optax.sgd(
            rate_or_schedule(config, hyper["learning_rate"], n), momentum=config.momentum
        ),
        data[0],
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep={
            "learning_rate": config.learning_rates,
            "noise": config.noises,
            "seed": range(config.seeds),
        },
        measure=Measure(noisy_metrics(model), data, at),
        directory=checkpoints(folder),
    )
    noise_floor = np.array(min(1.0, config.width / (n - 1)))
    info = {**facts(train_data, test), "execution": trained.fit.execution}
    return {**trained.measurements, "noise_floor": noise_floor, "epochs": at}, info


def with_noise(data: Dataset, seed: int) -> tuple[Any, ...]:
    """Inputs (n, d), true labels (n,), and the noise from which any level is made."""
    noise = label_noise(len(data), classes_of(data), seed)
    return jax.tree.map(jnp.asarray, (data.flat, data.y, noise))


def noisy_loss(model: DNN) -> Loss:
    """``classification_loss`` on the labels of a run's noise level, ``hyper["noise"]``."""
    clean = classification_loss(model.apply)

    def loss(params: Any, batch: Any, key: Array, hyper: Hyper) -> Any:
        x, labels, noise = batch
        return clean(params, (x, noisy_labels(labels, noise, hyper["noise"])), key, hyper)

    return loss


def noisy_metrics(model: DNN) -> Callable[[Any, Hyper, Any], dict[str, Array]]:
    """``linearity_metrics`` at a run's noise level, but test accuracy on the true labels."""
    metrics = linearity_metrics(model)

    def measure(params: Any, hyper: Hyper, data: Any) -> dict[str, Array]:
        x, labels, _ = data[1]
        noisy = [(x, noisy_labels(y, noise, hyper["noise"])) for x, y, noise in data]
        accuracy = jnp.mean(hits(cast("Array", model.apply(params, x)[0]), labels))
        return {**metrics(params, hyper, noisy), "test_accuracy": accuracy}

    return measure
