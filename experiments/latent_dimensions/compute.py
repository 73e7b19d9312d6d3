"""Train pairs of networks and measure their spectra, alignment and resampled versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax

from gramlin_jax.rainbow import Layer, apply, pair_moments
from gramlin_jax.training import Measure, classification_loss

from ..shared.parameters import keep_parameters
from ..shared.parts import parts
from ..shared.results import Computed
from ..shared.training import (
    Trained,
    checkpoints,
    classes_of,
    facts,
    load_splits,
    on_device,
    stack,
    train,
)
from . import KINDS, Config
from .measures import (
    accuracy,
    activation_scatters,
    alignments,
    clipping,
    padded,
    resampled,
    singular_vectors,
    stability,
    weight_spectra,
)
from .networks import blank, grey, initial_kernels, with_kernels

if TYPE_CHECKING:
    from jaxtyping import Array

SAMPLES = 5  # that are drawn


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Train all networks in one program, and measure pair after pair.

    Args:
        config: The settings.
        folder: Where checkpoints and finished pairs go, from which an interrupted run continues;
            None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        The arrays that ``DIMENSIONS`` names, and ``epochs``.

    Raises:
        ValueError: If training diverges.
    """
    splits = load_splits(config.dataset, data_dir, samples=config.samples, folder=folder)
    data = on_device(*((grey(split.x), split.y) for split in splits))
    classes = classes_of(splits[0])
    network = blank(config, data[0][0], classes)
    trained = _train(config, network, data, folder)
    if not all(np.isfinite(kernel).all() for kernel in jax.tree.leaves(trained.fit.params)):
        raise ValueError(
            f"learning_rate is {config.learning_rate}, with which training diverges: "
            "wanted a smaller one"
        )
    keep_parameters(folder, trained.fit.params)

    def pair(name: str, directory: Path | None) -> dict[str, np.ndarray]:
        del directory
        seed = int(name)
        runs = seed, config.seeds + seed
        after = [with_kernels(network, trained.fit.run(i)) for i in runs]
        before = [with_kernels(network, initial_kernels(network, jax.random.key(i))) for i in runs]
        return measure_pair(config, seed, after, before, data)

    arrays = parts(folder, range(config.seeds), pair)
    scores = {
        name: values.reshape(2, config.seeds, -1) for name, values in trained.measurements.items()
    }
    shown = {
        "samples": splits[0].x[:SAMPLES],
        "grey": np.asarray(data[0][0][:SAMPLES, ..., 0]),
        "classes": splits[0].y[:SAMPLES],
    }
    info = {**facts(*splits), "num_classes": classes, "execution": trained.fit.execution}
    return {**arrays, **scores, **shown, "epochs": np.arange(config.epochs + 1)}, info


def _train(
    config: Config, network: list[Layer], data: list[tuple[Array, Array]], folder: Path | None
) -> Trained:
    def loss_apply(kernels: Any, x: Array) -> Any:
        return apply(with_kernels(network, kernels), x)

    def measure(kernels: Any, hyper: Any, data: Any) -> dict[str, Array]:
        del hyper
        trained = with_kernels(network, kernels)
        names = "train_accuracy", "test_accuracy"
        return {name: accuracy(trained, split) for name, split in zip(names, data, strict=True)}

    return train(
        lambda key: initial_kernels(network, key),
        classification_loss(loss_apply),
        optax.sgd(config.learning_rate, momentum=config.momentum),
        data[0],
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep={"seed": range(2 * config.seeds)},
        measure=Measure(measure, data),
        directory=checkpoints(folder),
    )


def measure_pair(
    config: Config,
    seed: int,
    after: list[list[Layer]],
    before: list[list[Layer]],
    data: list[tuple[Array, Array]],
) -> dict[str, np.ndarray]:
    """All sections of the tutorial for two trained networks and their initial versions."""
    (x, _), test = data
    order, test_order = (
        jax.random.permutation(jax.random.key(seed), len(split)) for split in (x, test[0])
    )
    kinds: dict[str, Any] = {
        "trained": (after, x, test[0]),
        "untrained": (before, x, test[0]),
        "permuted": (after, x[order], test[0][test_order]),
    }
    on_train = {kind: pair_moments(a, b, x, z) for kind, ((a, b), z, _) in kinds.items()}
    rows = []
    for kind in KINDS:
        (a, b), _, other = kinds[kind]
        rows.append(alignments(on_train[kind], pair_moments(a, b, test[0], other)))
        rows[-1] |= stability(config, a, b, on_train[kind], null=kind == "permuted")
    scatters = [activation_scatters(m) for m in on_train["trained"]]
    width = max(config.widths)
    spectra = [[_descending(scatter, width) for scatter in pair] for pair in scatters]
    found = {
        **stack(rows),
        "activation_spectrum": np.stack([first for first, _ in spectra]),
        "partner_spectrum": np.stack([second for _, second in spectra]),
        **weight_spectra(config, after[0], before[0]),
        **clipping(config, after[0], [first for first, _ in scatters], test),
        **singular_vectors(config, after[0][0], x.shape[1:]),
        "resampled": resampled(config, seed, after[0], after[1], x[: config.aligned], test),
    }
    return {name: np.asarray(values, float) for name, values in found.items()}


def _descending(scatter: np.ndarray, width: int) -> np.ndarray:
    return padded(np.maximum(np.linalg.eigvalsh(scatter)[::-1], 0), width)
