"""Training for the experiments: data sets, sweeps and the epochs of measurements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from gramlin_jax.data import DATASETS, Dataset, load
from gramlin_jax.training import (
    Checkpoint,
    Execution,
    Fit,
    Hook,
    Loss,
    Measure,
    Optimizer,
    ProgressBar,
    WarnOfDivergence,
    fit,
    grid,
)

from .devices import mesh_for
from .lost import guessing
from .progress import FRONT
from .provenance import claim_data


class Trained(NamedTuple):
    """Networks of a sweep.

    Attributes:
        fit: As ``fit`` returns it, with one axis of runs.
        measurements: What was measured: the first axes are those of the sweep, in its order, and
            then the epochs.
    """

    fit: Fit
    measurements: dict[str, np.ndarray]


def train(
    init: Callable[[Any], Any],
    loss: Loss,
    optimizer: Optimizer,
    data: Any,
    *,
    epochs: int,
    sweep: Mapping[str, Sequence[float]],
    batch_size: int | None = None,
    execution: Execution = "auto",
    measure: Measure | None = None,
    directory: Path | None = None,
) -> Trained:
    """Train a network for each combination of the values of ``sweep``, all in one program.

    They are spread over the devices that ``spread_over`` allows.

    Args:
        init: ``key -> params``.
        loss: As for ``fit``.
        optimizer: As for ``fit``.
        data: As for ``fit``.
        epochs: As for ``fit``.
        sweep: By name, the values of each axis.
        batch_size: As for ``fit``.
        execution: As for ``fit``.
        measure: What to measure, see ``gramlin_jax.training.Measure``; None: nothing.
        directory: Where checkpoints go, from which training that was cut off goes on.
    """
    hooks: list[Hook] = [ProgressBar(FRONT.get()), WarnOfDivergence()]
    hooks += [] if measure is None else [measure]
    hooks += [] if directory is None else [Checkpoint(directory)]
    fitted = fit(
        init,
        loss,
        optimizer,
        data,
        epochs=epochs,
        batch_size=batch_size,
        sweep=grid(**sweep),
        execution=execution,
        mesh=mesh_for(math.prod(map(len, sweep.values()))),
        hooks=hooks,
    )
    return Trained(fitted, unstack(fitted.measurements or {}, sweep))


def unstack(arrays: Mapping[str, Any], sweep: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Give arrays (r, ...) of all runs of a sweep its axes in the place of the first."""
    shape = [len(values) for values in sweep.values()]
    return {name: np.reshape(v, (*shape, *np.shape(v)[1:])) for name, v in arrays.items()}


def stack(runs: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Arrays of the same names on a new first axis."""
    return {name: np.stack([np.asarray(run[name]) for run in runs]) for name in runs[0]}


def evenly(epochs: int, measurements: int) -> np.ndarray:
    """Epochs of so many measurements, evenly spread from 0 to the last; each once.

    Example:
        >>> evenly(100, 5).tolist()
        [0, 25, 50, 75, 100]
    """
    return np.unique(np.linspace(0, epochs, measurements).round().astype(int))


def checkpoints(folder: Path | None) -> Path | None:
    """Where in the folder of a run the checkpoints of ``train`` go."""
    return None if folder is None else folder / "training"


def rate_or_schedule(config: Any, rate: Any, n: int) -> Any:
    """``rate``, or where ``config.decay`` half a cosine from it to 0 in all steps on n samples."""
    steps = config.epochs * math.ceil(n / config.batch_size)
    return optax.cosine_decay_schedule(rate, steps) if config.decay else rate


def load_splits(
    dataset: str, data_dir: str | None = None, *, samples: int = 0, folder: Path | None = None
) -> tuple[Dataset, Dataset]:
    """The train and the test split of a data set.

    Args:
        dataset: An image set, one of ``gramlin_jax.data.DATASETS``.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.
        samples: Training samples to use, the first ones; 0 for all.
        folder: Of the run; it keeps fingerprints of all samples, see ``claim_data``.

    Raises:
        ValueError: If the data set is unknown, the folder holds a run of other data, or there are
            fewer samples.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset is {dataset!r}: wanted one of {', '.join(DATASETS)}")
    train, test = (load(dataset, split, data_dir=data_dir) for split in ("train", "test"))
    if samples > len(train):
        raise ValueError(
            f"samples is {samples}: wanted at most {len(train)}, the training samples of {dataset}"
        )
    claim_data(folder, {"train x": train.x, "train y": train.y, "test x": test.x, "test y": test.y})
    return (train.take(samples) if samples else train), test


def facts(train: Dataset, test: Dataset) -> dict[str, Any]:
    """Where the splits came from and what guessing reaches on each, for the notes on a run."""
    splits = {"train": train, "test": test}
    chance = {name: guessing(split.y) for name, split in splits.items()}
    return {**{name: split.source for name, split in splits.items()}, "chance": chance}


def classes_of(data: Dataset) -> int:
    """The number of classes.

    Raises:
        ValueError: If the data set is not for classification.
    """
    if data.num_classes is None:
        raise ValueError(f"dataset is {data.name}, for regression: wanted one with classes")
    return data.num_classes


def on_device(*splits: tuple[np.ndarray, np.ndarray]) -> list[tuple[jax.Array, jax.Array]]:
    """Pairs of inputs and labels as JAX arrays."""
    return [(jax.numpy.asarray(x), jax.numpy.asarray(labels)) for x, labels in splits]
