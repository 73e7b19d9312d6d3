"""Train on modular arithmetic, measured layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import optax

from gramlin_jax.data import modular_arithmetic
from gramlin_jax.models import DNN
from gramlin_jax.support.precision import in_float64
from gramlin_jax.training import Hyper, Measure, classification_loss

from ..shared.lost import guessing
from ..shared.measures import linearity_metrics
from ..shared.provenance import claim_data
from ..shared.results import Computed
from ..shared.training import checkpoints, evenly, on_device, train
from . import Config

if TYPE_CHECKING:
    from jaxtyping import Array


def split(config: Config) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train and test pairs, inputs (n, 2p) float64 and labels (n,), the same in every run."""
    data = modular_arithmetic(config.operation, config.p)
    order = np.random.RandomState(0).permutation(len(data))
    parts = np.split(order, [int(config.train_share * len(data))])
    return [(data.x[part].astype(np.float64), data.y[part]) for part in parts]


@in_float64
def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Train all weight decays and seeds in one program and measure each layer along the way.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which an interrupted run continues; None: nowhere.
        data_dir: Not used: the data are computed.

    Returns:
        What ``linearity_metrics`` measures, and ``epochs``.
    """
    del data_dir
    model = DNN(config.width, config.depth, config.p, "relu", param_dtype=jnp.float64)
    pairs = split(config)
    names = "train x", "train y", "test x", "test y"
    claim_data(folder, dict(zip(names, (*pairs[0], *pairs[1]), strict=True)))
    data = on_device(*pairs)

    def optimizer(hyper: Hyper) -> optax.GradientTransformation:
        decay: Array = hyper["weight_decay"]
        return optax.adamw(config.learning_rate, b1=0.9, b2=0.98, weight_decay=decay)

    at = evenly(config.epochs, config.measurements)
    trained = train(
        lambda key: model.init(key, data[0][0][:1]),
        classification_loss(model.apply),
        optimizer,
        data[0],
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep={"weight_decay": config.weight_decays, "seed": range(config.seeds)},
        measure=Measure(linearity_metrics(model), data, at),
        directory=checkpoints(folder),
    )
    labels = {"train": np.asarray(data[0][1]), "test": np.asarray(data[1][1])}
    sizes = {name: len(y) for name, y in labels.items()}
    chance = {name: guessing(y) for name, y in labels.items()}
    info = {**sizes, "chance": chance, "execution": trained.fit.execution}
    return {**trained.measurements, "epochs": at}, info
