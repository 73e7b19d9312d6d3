"""Training the paper's VAE over all β, measured along the way: what figures 5 and 10 share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.framework import Result, check_least, check_positive, read_result
from experiments.vae_measures import vae_measures
from gramlin_jax.data import load
from gramlin_jax.models import VAE, vae_loss
from gramlin_jax.models.vae import check_beta, check_pixels
from gramlin_jax.training import Loss, fit, grid

FIGURES = "fig05_vae_interpolation", "fig10_vae_target_linearity"
SHOWN = 4  # test images whose reconstructions are kept


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the runs.

    Attributes:
        dataset: A name that ``gramlin_jax.data.load`` knows.
        width: Units of each hidden layer, ``depth`` in the encoder and as many in the decoder.
        latent: Length of the code.
        betas: Weights of the KL, ascending.
        measurements: Number of epochs at which a run is measured, evenly spread from 0.
        pairs: Random pairs of test images between which to interpolate.
        frames: Steps of an interpolation, both ends and a middle among them.
        classes: Of the two test images of the pictured row, the first ones of these classes.
        samples: Train samples to use, 0 for all.
    """

    dataset: str = "digits"
    width: int = 256
    depth: int = 2
    latent: int = 16
    betas: tuple[float, ...] = (0.05, 0.1, 1.0, 10.0)
    learning_rate: float = 1e-3
    batch_size: int = 128
    epochs: int = 100
    measurements: int = 21
    seeds: int = 5
    pairs: int = 1000
    frames: int = 9
    classes: tuple[int, int] = (3, 6)
    samples: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("width", "depth", "latent", "batch_size", "epochs", "pairs"), 1)
        check_least(self, {**least, "measurements": 3, "seeds": 2, "frames": 3, "samples": 0})
        check_positive(self, "learning_rate")
        if self.frames % 2 == 0:
            raise ValueError(f"frames is {self.frames}: wanted an odd number, one in the middle")
        if len(set(self.classes)) != 2 or len(self.classes) != 2:
            raise ValueError(f"classes is {self.classes}: wanted two different ones")
        for beta in self.betas:
            check_beta("betas has a value that", beta)
        if len(self.betas) < 2 or list(self.betas) != sorted(set(self.betas)):
            raise ValueError(f"betas is {self.betas}: wanted two or more, ascending")


PRESETS = {
    "smoke": Config(
        width=16,
        depth=1,
        latent=4,
        betas=(0.05, 10.0),
        epochs=4,
        measurements=3,
        seeds=2,
        pairs=20,
        frames=3,
        samples=256,
    ),
    "default": Config(),
    "paper": Config(
        dataset="mnist",
        width=512,
        latent=32,
        learning_rate=1e-4,
        epochs=10,
        measurements=11,
        seeds=3,
    ),
}


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Result:
    """Train all β and seeds in one program and measure them along the way.

    Where the other figure of this configuration lies finished beside ``folder``, in
    ``../../NAME/``, its numbers are taken.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which a run that was cut off goes on; None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        Arrays of shape (β, seeds, measurements, ...), named and shaped by ``vae_measures``;
        ``epochs`` (measurements,); ``row`` (2, pixels) and ``shown`` (SHOWN, pixels), test images.

    Raises:
        ValueError: If a pixel lies outside of [0, 1], or the test split lacks the images of
            ``config.classes``.
    """
    finished = None if folder is None else _finished(config, folder)
    return finished or _train(config, folder, data_dir)


def best(result: Result, values: np.ndarray) -> np.ndarray:
    """``values`` (β, seeds, measurements, ...) at each run's epoch of the lowest test loss."""
    rows, columns = np.indices(values.shape[:2])
    return values[rows, columns, result.arrays["loss"].argmin(2)]


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
    """``loss`` of ``fit`` on batches (n, ...) of images, β being ``hyper["beta"]``."""

    def loss(params: Any, batch: Any, key: Any, hyper: Any) -> Any:
        noise = jax.random.normal(key, (len(batch), model.latent))
        outputs: Any = model.apply(params, batch, noise)
        losses = vae_loss(outputs, batch, hyper["beta"])
        return losses.total, {"reconstruction": losses.reconstruction, "kl": losses.kl}

    return loss


def starting(model: VAE) -> Callable[[Any], Any]:
    """``init`` of ``fit``."""
    x, noise = jnp.zeros((1, model.pixels)), jnp.zeros((1, model.latent))
    return lambda key: model.init(key, x, noise)


def _finished(config: Config, folder: Path) -> Result | None:
    for name in FIGURES:
        beside = folder.parent.parent / name / folder.name
        try:
            return read_result(name, config, beside)
        except (FileNotFoundError, ValueError):  # nothing there, or not of this configuration
            continue
    return None


def _train(config: Config, folder: Path | None, data_dir: str | None) -> Result:
    train, test = (load(config.dataset, split, data_dir=data_dir) for split in ("train", "test"))
    if config.samples:
        train = train.take(config.samples)
    for data in (train, test):
        check_pixels(f"{data.name} {data.split}", data.x)
    images, row = test.flat, two_images(test.y, config.classes)
    model = VAE(images.shape[1], config.width, config.depth, config.latent)
    x = jnp.asarray(train.flat)
    first, second = random_pairs(len(test), config.pairs)
    fitted = fit(
        starting(model),
        training_loss(model),
        optax.adam(config.learning_rate),
        x,
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep=grid(beta=config.betas, seed=range(config.seeds)),
        measure=vae_measures(model, config.frames),
        measure_data={
            "train": x,
            "test": images,
            "noise": jax.random.normal(jax.random.key(0), (len(test), config.latent)),
            "pairs": (images[first], images[second]),
            "row": images[list(row)],
            "shown": images[:SHOWN],
        },
        measure_at=np.linspace(0, config.epochs, config.measurements).round().astype(int),
        directory=None if folder is None else str(folder / "training"),
    )
    shape = len(config.betas), config.seeds
    return Result(
        config,
        {
            **{name: v.reshape(*shape, *v.shape[1:]) for name, v in fitted.measurements.items()},
            "epochs": fitted.measured_at,
            "row": images[list(row)],
            "shown": images[:SHOWN],
            "image_shape": np.array(test.x.shape[1:]),
        },
        {"train": train.source, "test": test.source, "execution": fitted.execution, "row": row},
    )


def random_pairs(n: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Places (pairs,) of two different ones of n images, always the same."""
    rng = np.random.default_rng(0)
    first = rng.integers(n, size=pairs)
    return first, (first + rng.integers(1, n, size=pairs)) % n
