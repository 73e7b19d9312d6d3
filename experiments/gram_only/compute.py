"""Train each arm of figures 2 and 6, measured along the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from gramlin_jax.models import CNN, DNN
from gramlin_jax.optim import gram_only, gram_preserving
from gramlin_jax.training import Hyper, Measure, classification_loss

from ..shared.parts import parts
from ..shared.results import Computed
from ..shared.training import (
    Trained,
    classes_of,
    evenly,
    facts,
    load_splits,
    on_device,
    stack,
    train,
    unstack,
)
from . import Config
from .measures import layer_measures, split_scores

OPTIMIZERS: Mapping[str, Callable[[Any], optax.GradientTransformation]] = {
    "original": lambda inner: inner,
    "gram_only": gram_only,
    "gram_preserving": gram_preserving,
}
"""What each arm makes of the optimiser."""


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Train each arm, all learning rates and seeds in one program, and measure it along the way.

    Args:
        config: The settings.
        folder: Where checkpoints and finished arms go, from which an interrupted run continues;
            None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        What ``split_scores`` measures along the way, and ``epochs``; what ``layer_measures`` does
        after training, and before it with ``start_`` to the name.
    """
    splits = load_splits(config.dataset, data_dir, samples=config.samples, folder=folder)
    data = on_device(*((split.x, split.y) for split in splits))
    model = _model(config, classes_of(splits[0]))
    measure = layer_measures(model, config.projection)
    start = jax.jit(lambda seed: model.init(jax.random.key(seed), data[0][0][:1]))
    starts = [start(seed) for seed in range(config.seeds)]
    before = stack([measure(params, params, data) for params in starts])
    sweep = _sweep(config)

    def arm(name: str, directory: Path | None) -> dict[str, np.ndarray]:
        trained = _train(config, name, model, data, directory)
        seeds = trained.fit.sweep["seed"]
        after = [measure(trained.fit.run(i), starts[seed], data) for i, seed in enumerate(seeds)]
        execution = np.array(trained.fit.execution)
        return {**trained.measurements, **unstack(stack(after), sweep), "execution": execution}

    arms = parts(folder, config.arms, arm)
    info = {**facts(*splits), "execution": arms.pop("execution").tolist()}
    at_start = {f"start_{name}": values for name, values in before.items()}
    return {**arms, **at_start, "epochs": evenly(config.epochs, config.measurements)}, info


def _sweep(config: Config) -> dict[str, Any]:
    return {"learning_rate": config.learning_rates, "seed": range(config.seeds)}


def _train(config: Config, arm: str, model: Any, data: Any, directory: Path | None) -> Trained:
    """All runs of one arm, from the same initial weights and on the same batches in all arms."""

    def optimizer(hyper: Hyper) -> optax.GradientTransformation:
        return OPTIMIZERS[arm](optax.sgd(hyper["learning_rate"], momentum=config.momentum))

    return train(
        lambda key: model.init(key, data[0][0][:1]),
        classification_loss(model.apply),
        optimizer,
        data[0],
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep=_sweep(config),
        # A CPU gains nothing by vmap here: the search for Q is as long as its slowest run's.
        execution="map" if jax.default_backend() == "cpu" else "auto",
        measure=Measure(split_scores(model), data, evenly(config.epochs, config.measurements)),
        directory=directory,
    )


def _model(config: Config, classes: int) -> Any:
    if config.network == "cnn":
        pools = tuple(layer for layer in (0, 2) if layer < config.depth)
        return CNN(out=classes, channels=config.width, depth=config.depth, pool_after=pools)
    return DNN(out=classes, width=config.width, depth=config.depth)
