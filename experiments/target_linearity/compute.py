"""Train the network of figures 4 and 9, measured layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import optax

from gramlin_jax import (
    heldout_target_linearity,
    noise_floor,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
)
from gramlin_jax.models import DNN
from gramlin_jax.training import Measure, classification_loss

from ..shared.measures import layer_sums, scores
from ..shared.parameters import keep_parameters
from ..shared.results import Computed
from ..shared.training import (
    checkpoints,
    classes_of,
    evenly,
    facts,
    load_splits,
    on_device,
    train,
)
from . import Config

if TYPE_CHECKING:
    from jaxtyping import Array


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Train all seeds in one program and measure each layer along the way.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which an interrupted run continues; None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        What ``layer_metrics`` measures, and ``epochs``.
    """
    splits = load_splits(config.dataset, data_dir, samples=config.samples, folder=folder)
    data = on_device(*((split.flat, split.y) for split in splits))
    model = DNN(config.width, config.depth, classes_of(splits[0]), config.activation)
    at = evenly(config.epochs, config.measurements)
    trained = train(
        lambda key: model.init(key, data[0][0][:1]),
        classification_loss(model.apply),
        _optimizer(config),
        data[0],
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep={"seed": range(config.seeds)},
        measure=Measure(layer_metrics(model), data, at),
        directory=checkpoints(folder),
    )
    keep_parameters(folder, trained.fit.params)
    info = {**facts(*splits), "execution": trained.fit.execution}
    return {**trained.measurements, "epochs": at}, info


def _optimizer(config: Config) -> optax.GradientTransformation:
    if config.optimizer == "adam":
        return optax.adam(config.learning_rate)
    return optax.sgd(config.learning_rate, momentum=config.momentum)


def layer_metrics(model: DNN) -> Callable[[Any, Any, Any], dict[str, Array]]:
    """``measure`` of ``train``: metrics of each hidden layer (depth,), losses and accuracies ().

    Its data are a pair, train and test, each of inputs (n, ...) and labels (n,). A layer's
    surrogate goes with the kernel that reads it, the next layer's.
    """

    def measure(params: Any, hyper: Any, data: Any) -> dict[str, Array]:
        del hyper
        on_train, on_test = (layer_sums(model, params, split) for split in data)
        layers = on_train["moments"]
        kernels = [params["params"][f"Dense_{i + 1}"]["kernel"] for i in range(model.depth)]
        pairs = list(zip(layers, on_test["moments"], strict=True))
        return {
            "target_linearity": jnp.stack([target_linearity(m) for m in layers]),
            "adjusted": jnp.stack([target_linearity_adjusted(m) for m in layers]),
            "noise_floor": jnp.stack([noise_floor(m) for m in layers]),
            "heldout": jnp.stack([heldout_target_linearity(a, b) for a, b in pairs]),
            "surrogate": jnp.stack([surrogate(m, k) for m, k in zip(layers, kernels, strict=True)]),
            **scores(on_train, on_test),
        }

    return measure
