"""Train the networks of figure 8 and follow their norms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import optax

from gramlin_jax.data import staircase
from gramlin_jax.training import Hyper, Measure

from ..shared.parts import parts
from ..shared.provenance import claim_data
from ..shared.results import Computed
from ..shared.training import Trained, evenly, train
from . import Config
from .norms import Network, norms_measure, own_points

if TYPE_CHECKING:
    from jaxtyping import Array

NEW = 10_000  # is added to a seed for its new points


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Train each width, all seeds in one program, and follow the norms along the way.

    Args:
        config: The settings.
        folder: Where checkpoints and finished widths go, from which an interrupted run continues;
            None: nowhere.
        data_dir: Not used: the data are computed.

    Returns:
        What ``norms_measure`` measures, and ``steps``; the norms of the targets, ``target_norm``
        and ``new_target_norm``.
    """
    del data_dir
    seeds = range(config.seeds)
    data = [points(config, seeds), points(config, [NEW + seed for seed in seeds])]
    claim_data(folder, dict(zip(("x", "y", "new x", "new y"), (*data[0], *data[1]), strict=True)))

    def width(name: str, directory: Path | None) -> dict[str, np.ndarray]:
        trained = train_width(config, Network(int(name)), data, directory)
        return {**trained.measurements, "execution": np.array(trained.fit.execution)}

    norms = parts(folder, config.widths, width)
    execution = norms.pop("execution").tolist()
    sizes = {
        name: np.linalg.norm(y[..., 0].astype(float), axis=0)
        for name, (_, y) in zip(("target_norm", "new_target_norm"), data, strict=True)
    }
    at = evenly(config.steps, config.measurements)
    return {**norms, **sizes, "steps": at}, {"execution": execution}


def points(config: Config, seeds: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, seeds, d) and targets (n, seeds, 1), different ones for each seed."""
    sets = [staircase(config.points, config.dimension, seed) for seed in seeds]
    return np.stack([data.x for data in sets], 1), np.stack([data.y for data in sets], 1)


def train_width(
    config: Config,
    network: Network,
    data: Sequence[tuple[np.ndarray, np.ndarray]],
    directory: Path | None = None,
    init: Callable[[Array], Any] | None = None,
) -> Trained:
    """Full-batch gradient descent of one width, all seeds in one program.

    Args:
        config: The settings, except for the width.
        network: The network, of any width.
        data: Training points and new ones, as ``points`` gives them.
        directory: Where checkpoints go.
        init: ``key -> params``; None: the network's own.
    """
    init = init or (lambda key: network.init(key, jnp.zeros((1, config.dimension))))
    return train(
        init,
        squared_loss(network),
        optax.sgd(config.learning_rate),
        data[0],
        epochs=config.steps,
        sweep={"seed": range(config.seeds)},
        measure=Measure(
            norms_measure(network, config.ridge, init),
            data,
            evenly(config.steps, config.measurements),
        ),
        directory=directory,
    )


def squared_loss(network: Network) -> Callable[..., Any]:
    """``loss`` of ``train``: the mean squared error."""

    def loss(params: Any, batch: Any, key: Array, hyper: Hyper) -> Any:
        del key
        x, y = own_points(batch, hyper)
        return ((network.apply(params, x)[0] - y) ** 2).mean(), {}

    return loss
