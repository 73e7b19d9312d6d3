"""Figure 12: what target linearity makes of random labels.

The paper trains a fully connected network (3 hidden layers of 256, GELU) on CIFAR-10 by SGD
(learning rate 0.005, momentum 0.95, batch 64, 200 epochs) after a share p of the train labels, 0 to
1, was replaced by random ones, and follows the target linearity of each layer.

Noise levels, learning rates and seeds are one program: each sample has a random label and a rank
once for all, and a run replaces those of rank below its level, so that what is replaced at p = 0.25
is at 0.5, too; all seeds share them, and differ in weights and batches. Since the paper's learning
rate may not memorise all labels in its epochs, a second one is run. What the paper does not show is
the held-out target linearity: that of test samples, their labels replaced in the same share, by the
fit on the train samples. Memorised labels can be linear in the features of train samples only. Test
accuracy is that of the true labels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.classification import rate_or_schedule
from experiments.curves import spelled
from experiments.fig12_drawing import extras, plot
from experiments.framework import Claim, Result, check_least, check_momentum
from experiments.linearity import linearity_metrics
from gramlin_jax.data import Dataset, label_noise, load, noisy_labels
from gramlin_jax.models import DNN
from gramlin_jax.training import Hyper, Loss, classification_loss, fit, grid

if TYPE_CHECKING:
    from jaxtyping import Array

__all__ = ["PRESETS", "check", "extras", "plot", "run", "table"]

MEMORISED = 0.99  # the train accuracy that counts as having memorised


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        dataset: A name that ``gramlin_jax.data.load`` knows.
        noises: Shares of the labels that are replaced, ascending.
        learning_rates: The paper's first.
        decay: Whether they fall to 0 over the epochs, as half a cosine; the paper's do not.
        measurements: Number of epochs at which the layers are measured, evenly spread from 0.
        samples: Train samples to use, 0 for all.
    """

    dataset: str = "digits"
    noises: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    learning_rates: tuple[float, ...] = (0.005, 0.02)
    decay: bool = False
    momentum: float = 0.95
    width: int = 256
    depth: int = 3
    batch_size: int = 64
    epochs: int = 200
    measurements: int = 21
    seeds: int = 3
    samples: int = 0

    def __post_init__(self) -> None:
        least = {"width": 1, "depth": 2, "batch_size": 1, "epochs": 1, "measurements": 2}
        check_least(self, {**least, "seeds": 1, "samples": 0})
        noises, rates = self.noises, self.learning_rates
        ascending = all(a < b for a, b in zip(noises, noises[1:], strict=False))
        if len(noises) < 2 or not ascending or not all(0 <= noise <= 1 for noise in noises):
            raise ValueError(f"noises is {noises}: wanted two or more in [0, 1], ascending")
        if not rates or len(set(rates)) < len(rates) or not all(0 < r < math.inf for r in rates):
            raise ValueError(f"learning_rates is {rates}: wanted different positive numbers")
        check_momentum(self)


PRESETS = {
    "smoke": Config(
        noises=(0.0, 1.0),
        learning_rates=(0.05,),
        width=16,
        depth=2,
        epochs=4,
        measurements=3,
        seeds=2,
        samples=256,
    ),
    "default": Config(),
    "paper": Config(dataset="cifar10", measurements=41),
}


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Result:
    """Train all runs in one program and measure each layer along the way.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which a run that was cut off goes on; None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        Arrays of shape (learning rates, noise levels, seeds, measurements, depth) for
        ``target_linearity`` and ``heldout``; (learning rates, noise levels, seeds, measurements)
        for ``train_loss`` and ``train_accuracy`` on the labels that are trained on, ``test_loss``
        on test labels with the same noise, and ``test_accuracy`` on the true ones; ``noise_floor``
        (), the target linearity of noise in ``width`` features; and ``epochs`` (measurements,).
    """
    train = load(config.dataset, "train", data_dir=data_dir)
    test = load(config.dataset, "test", data_dir=data_dir)
    if config.samples:
        train = train.take(config.samples)
    assert train.num_classes is not None  # all sets of load are for classification
    model = DNN(config.width, config.depth, train.num_classes)
    arrays = [with_noise(data, seed) for seed, data in enumerate((train, test))]
    fitted = fit(
        lambda key: model.init(key, arrays[0][0][:1]),
        noisy_loss(model),
        lambda hyper: optax.sgd(
            rate_or_schedule(config, hyper["learning_rate"], len(train)), momentum=config.momentum
        ),
        arrays[0],
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep=grid(
            learning_rate=config.learning_rates, noise=config.noises, seed=range(config.seeds)
        ),
        measure=noisy_metrics(model),
        measure_data=arrays,
        measure_at=np.linspace(0, config.epochs, config.measurements).round().astype(int),
        directory=None if folder is None else str(folder / "training"),
    )
    shape = len(config.learning_rates), len(config.noises), config.seeds
    measured = {
        name: values.reshape(*shape, *values.shape[1:])
        for name, values in fitted.measurements.items()
    }
    noise_floor = np.array(min(1.0, config.width / (len(train) - 1)))
    return Result(
        config,
        {**measured, "noise_floor": noise_floor, "epochs": fitted.measured_at},
        {"train": train.source, "test": test.source, "execution": fitted.execution},
    )


def with_noise(data: Dataset, seed: int) -> tuple[Any, ...]:
    """Inputs (n, d), true labels (n,), and the noise for any level."""
    assert data.num_classes is not None
    noise = label_noise(len(data), data.num_classes, seed)
    return jax.tree.map(jnp.asarray, (data.flat, data.y, noise))


def noisy_loss(model: DNN) -> Loss:
    """``classification_loss`` on the labels of a run's noise level, ``hyper["noise"]``."""
    clean = classification_loss(model.apply)

    def loss(params: Any, batch: Any, key: Array, hyper: Hyper) -> Any:
        x, labels, noise = batch
        return clean(params, (x, noisy_labels(labels, noise, hyper["noise"])), key, hyper)

    return loss


def noisy_metrics(model: DNN) -> Callable[[Any, Hyper, Any], dict[str, Array]]:
    """``linearity_metrics`` on noisy labels, but test accuracy on the true ones."""
    metrics = linearity_metrics(model)

    def measure(params: Any, hyper: Hyper, data: Any) -> dict[str, Array]:
        x, labels, _ = data[1]
        noisy = [(x, noisy_labels(y, noise, hyper["noise"])) for x, y, noise in data]
        accuracy = jnp.mean(model.apply(params, x)[0].argmax(-1) == labels)
        return {**metrics(params, hyper, noisy), "test_accuracy": accuracy}

    return measure


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure, and what held-out target linearity shows.

    1. All labels are memorised at the paper's learning rate: train accuracy 0.99 in every run.
    2. They are at some learning rate.
    3. In runs that memorised, target linearity after training is ordered by depth.
    4. Labels become linear whatever they are: in runs that memorised, that of the last layer ends
       above 0.9.
    5. The more noise, the more of what training adds to the last layer's target linearity is in
       train features only: train less held-out, less the same before training, rises with p in
       every seed at the last learning rate.
    6. Labels that are all random become linear in train features only: in runs that memorised at
       p = 1, training raises the last layer's target linearity and lowers the held-out one, which
       begins where a fit of noise is, at −p/(n − p − 1) for p features.
    """
    arrays, config = result.arrays, result.config
    accuracy = arrays["train_accuracy"][..., -1]
    linearity = arrays["target_linearity"][..., -1, :]
    memorised = accuracy >= MEMORISED
    gap = arrays["target_linearity"][-1, ..., -1] - arrays["heldout"][-1, ..., -1]
    gap = gap[..., -1] - gap[..., 0]
    widens = (np.diff(gap, axis=0) > 0).all(0)
    rates = [f"{rate:g}" for rate in config.learning_rates]
    by_rate = "train accuracy by noise " + "; ".join(
        f"at {rate}: {_means(values)}" for rate, values in zip(rates, accuracy, strict=True)
    )
    claims = [
        Claim(
            f"all labels are memorised at learning rate {rates[0]}",
            bool(memorised[0].all()),
            f"{memorised[0].sum()} of {memorised[0].size} runs; {by_rate}",
        ),
        Claim(
            "all labels are memorised at some learning rate",
            bool(memorised.any(0).all()),
            f"{memorised.any(0).sum()} of {memorised[0].size} noise levels and seeds",
        ),
        _of_memorised(
            "where labels are memorised, target linearity is ordered by depth",
            memorised,
            np.asarray((np.diff(linearity, axis=-1) > 0).all(-1)),
            linearity,
        ),
        _of_memorised(
            "where labels are memorised, they are linear in the last features",
            memorised,
            linearity[..., -1] > 0.9,
            linearity[..., -1:],
        ),
        Claim(
            "the more noise, the more of the last layer's gain is in train features only",
            bool(widens.all()),
            f"{widens.sum()} of {widens.size} seeds at {rates[-1]}; train less held-out, less that "
            f"before training, by noise {_means(gap)}",
        ),
    ]
    return claims + ([_random_claim(result)] if config.noises[-1] == 1 else [])


def _means(values: np.ndarray) -> str:
    """Means over seeds of values (noise levels, seeds)."""
    return ", ".join(f"{value:.3f}" for value in values.mean(-1))


def _of_memorised(
    statement: str, memorised: np.ndarray, true: np.ndarray, shown: np.ndarray
) -> Claim:
    """Is it true of every run that memorised?"""
    both = memorised & true
    evidence = f"{both.sum()} of {memorised.sum()} runs"
    if memorised.any():
        lowest, highest = shown[memorised].min(0), shown[memorised].max(0)
        layers = zip(lowest, highest, strict=True)
        evidence += "; by layer " + ", ".join(f"{a:.3f} … {b:.3f}" for a, b in layers)
    holds = bool((both == memorised).all()) if memorised.any() else None
    return Claim(statement, holds, evidence)


def _random_claim(result: Result) -> Claim:
    arrays, rates = result.arrays, result.config.learning_rates
    memorised = arrays["train_accuracy"][:, -1, :, -1] >= MEMORISED
    train, heldout = (arrays[name][:, -1, ..., -1] for name in ("target_linearity", "heldout"))
    true = memorised & (train[..., -1] > train[..., 0]) & (heldout[..., -1] < heldout[..., 0])
    values = "; ".join(
        f"at {rates[i]:g} train {_from_to(train[i])}, held-out {_from_to(heldout[i])}"
        for i in np.flatnonzero(memorised.any(1))
    )
    return Claim(
        "random labels that are memorised become linear in train features only",
        bool((true == memorised).all()) if memorised.any() else None,
        f"{true.sum()} of {memorised.sum()} runs; {values}".removesuffix("; "),
    )


def _from_to(curves: np.ndarray) -> str:
    """Before and after training, of curves (seeds, measurements)."""
    return f"{spelled(curves[:, 0])} → {spelled(curves[:, -1])}"


def table(result: Result) -> str:
    """Each learning rate and noise level after training, means and deviations over seeds."""
    arrays, config = result.arrays, result.config
    layers = range(config.depth)
    lines = [
        f"noise floor of target linearity {arrays['noise_floor']:.3f}",
        f"{'rate':>6}{'noise':>7}{'train accuracy':>18}{'test accuracy':>18}"
        + "".join(f"{f'TL {layer + 1}, held out':>32}" for layer in layers),
    ]
    for i, rate in enumerate(config.learning_rates):
        for j, noise in enumerate(config.noises):
            ends = {name: v[i, j, :, -1] for name, v in arrays.items() if v.ndim > 3}
            lines.append(
                f"{rate:>6g}{noise:>7g}"
                f"{spelled(ends['train_accuracy']):>18}{spelled(ends['test_accuracy']):>18}"
                + "".join(
                    f"{spelled(ends['target_linearity'][:, layer]):>17}"
                    f"{spelled(ends['heldout'][:, layer]):>15}"
                    for layer in layers
                )
            )
    return "\n".join(lines)
