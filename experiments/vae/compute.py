"""Train the VAE of figures 5 and 10 for each β, measured along the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gramlin_jax.models import VAE, vae_loss
from gramlin_jax.models.vae import check_pixels
from gramlin_jax.training import Loss, Measure

from ..shared.results import Computed
from ..shared.training import checkpoints, evenly, facts, load_splits, train
from . import SHOWN, Config
from .measures import vae_measures


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Train all β and seeds in one program and measure them along the way.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which an interrupted run continues; None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        What ``vae_measures`` measures, and ``epochs``; ``row`` and ``shown``, test images, and
        their ``image_shape``.

    Raises:
        ValueError: If a pixel lies outside [0, 1], or the test split lacks the images of
            ``config.classes``.
    """
    train_data, test = load_splits(config.dataset, data_dir, samples=config.samples, folder=folder)
    for data in (train_data, test):
        check_pixels(f"{data.name} {data.split}", data.x)
    images, row = test.flat, two_images(test.y, config.classes)
    model = VAE(images.shape[1], config.width, config.depth, config.latent)
    x = jnp.asarray(train_data.flat)
    at = evenly(config.epochs, config.measurements)
    trained = train(
        starting(model),
        training_loss(model),
        optax.adam(config.learning_rate),
        x,
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep={"beta": config.betas, "seed": range(config.seeds)},
        measure=Measure(
            vae_measures(model, config.frames), _measured_on(config, x, images, row), at
        ),
        directory=checkpoints(folder),
    )
    pictures = {"row": images[list(row)], "shown": images[:SHOWN]}
    pictures |= {"image_shape": np.array(test.x.shape[1:])}
    info = {**facts(train_data, test), "execution": trained.fit.execution, "row": row}
    return {**trained.measurements, "epochs": at, **pictures}, info


def _measured_on(
    config: Config, x: Any, images: np.ndarray, row: tuple[int, int]
) -> dict[str, Any]:
    """The data of ``vae_measures``; ``images`` are the test split's."""
    first, second = random_pairs(len(images), config.pairs)
    return {
        "train": x,
        "test": images,
        "noise": jax.random.normal(jax.random.key(0), (len(images), config.latent)),
        "pairs": (images[first], images[second]),
        "row": images[list(row)],
        "shown": images[:SHOWN],
    }


def two_images(labels: np.ndarray, classes: tuple[int, int]) -> tuple[int, int]:
    """Where the first image of each class is, or the first two of one class.

    Raises:
        ValueError: If there are not so many images.
    """
    places: list[int] = []
    for label in classes:
        (found,) = np.nonzero(labels == label)
        wanted = classes[: len(places) + 1].count(label)
        if len(found) < wanted:
            raise ValueError(
                f"classes is {classes}: there are {len(found)} images of class {label}, wanted "
                f"{wanted}; choose among {np.unique(labels).tolist()}"
            )
        places.append(int(found[wanted - 1]))
    return places[0], places[1]


def training_loss(model: VAE) -> Loss:
    """``loss`` of ``train`` on batches (n, ...) of images, β being ``hyper["beta"]``."""

    def loss(params: Any, batch: Any, key: Any, hyper: Any) -> Any:
        noise = jax.random.normal(key, (len(batch), model.latent))
        outputs: Any = model.apply(params, batch, noise)
        losses = vae_loss(outputs, batch, hyper["beta"])
        return losses.total, {"reconstruction": losses.reconstruction, "kl": losses.kl}

    return loss


def starting(model: VAE) -> Callable[[Any], Any]:
    """``init`` of ``train``."""
    x, noise = jnp.zeros((1, model.pixels)), jnp.zeros((1, model.latent))
    return lambda key: model.init(key, x, noise)


def random_pairs(n: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Places (pairs,) of first and second images, different in each pair; the same every time."""
    rng = np.random.default_rng(0)
    first = rng.integers(n, size=pairs)
    return first, (first + rng.integers(1, n, size=pairs)) % n
