"""Figure 2: a network learns with its Grams alone.

The paper trains a fully connected network (2 hidden layers of 256, GELU) on MNIST, SVHN, CIFAR-10
and CIFAR-100 by SGD (learning rates 0.005 to 0.1, momentum 0.85, 0.8 for CIFAR-100, batch 64, 20
epochs, 5 seeds), and again by steps of which every kernel keeps only what they do to its Gram:
K₁ → K₂ becomes K₂Qᵀ, Q the polar factor of K₁ᵀK₂, which has K₂'s Gram and is as near to K₁ as a
kernel with that Gram can be. Here a third arm takes the other part of the step: K₁Q, which has
K₁'s Gram, so that kernels only rotate their outputs. Biases take the optimiser's step in all arms.

All arms of a seed have the same initial weights and batches, so differences are paired. Inputs lie
in [0, 1]. The rotation is found to rounding; the paper's code iterates ten times, which leaves
small singular directions of square kernels out, so that their Gram is not that of the step.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.fig02_drawing import NAMES, plot
from experiments.framework import Claim, Result, check_least, check_momentum
from experiments.gram_arms import ARMS, Paired, layer_measures, paired, scores
from gramlin_jax.data import load
from gramlin_jax.models import CNN, DNN
from gramlin_jax.training import Fit, Hyper, classification_loss, fit, grid

if TYPE_CHECKING:
    from jaxtyping import Array

__all__ = ["PRESETS", "check", "plot", "run", "table"]

MARGIN = 0.005  # of accuracy: how sure the seeds have to be that nothing is lost
LITTLE = 0.1  # a share of the original's gain in target linearity that counts as nothing


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        dataset: A name that ``gramlin_jax.data.load`` knows.
        network: ``"dnn"`` with GELU, or ``"cnn"``, max-pooled after its first and third layer.
        width: Units, or channels, of each hidden layer.
        complement: Whether to train the Gram-preserving arm, too.
        measurements: Number of epochs with losses and accuracies, evenly spread from 0.
        projection: Features to which a layer's are projected for its target linearity, where they
            are more.
        samples: Train samples to use, 0 for all.
    """

    dataset: str = "digits"
    network: Literal["dnn", "cnn"] = "dnn"
    width: int = 256
    depth: int = 2
    learning_rates: tuple[float, ...] = (0.005, 0.01, 0.05, 0.1)
    momentum: float = 0.85
    complement: bool = True
    batch_size: int = 64
    epochs: int = 60
    measurements: int = 61
    seeds: int = 5
    projection: int = 256
    samples: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("width", "depth", "batch_size", "epochs", "projection"), 1)
        check_least(self, {**least, "measurements": 2, "seeds": 2, "samples": 0})
        if self.network not in ("dnn", "cnn"):
            raise ValueError(f"network is {self.network!r}: wanted 'dnn' or 'cnn'")
        check_momentum(self)
        rates = self.learning_rates
        if not rates or len(set(rates)) < len(rates) or not all(0 < r < math.inf for r in rates):
            raise ValueError(f"learning_rates is {rates}: wanted different positive numbers")

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that are trained."""
        return tuple(ARMS)[: 3 if self.complement else 2]


PRESETS = {
    "smoke": Config(
        width=16, learning_rates=(0.05, 0.1), epochs=3, measurements=3, seeds=2, samples=256
    ),
    "default": Config(),
    "paper": Config(dataset="mnist", epochs=20, measurements=21),
}


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Result:
    """Train each arm, all learning rates and seeds in one program, and measure it along the way.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which a run that was cut off goes on; None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        Arrays of shape (arms, learning rates, seeds, measurements) for ``train_loss``,
        ``test_loss``, ``train_accuracy``, ``test_accuracy``; after training, (arms, learning
        rates, seeds, hidden layers) for ``target_linearity``, ``heldout``, ``noise_floor`` and
        (arms, learning rates, seeds, kernels) for ``gram_change``, see ``layer_measures``; before
        it the same with ``start_`` to the name, (seeds, ...); and ``epochs`` (measurements,).
    """
    train = load(config.dataset, "train", data_dir=data_dir)
    test = load(config.dataset, "test", data_dir=data_dir)
    if config.samples:
        train = train.take(config.samples)
    assert train.num_classes is not None  # all sets of load are for classification
    model = _model(config, train.num_classes)
    arrays = [(jnp.asarray(data.x), jnp.asarray(data.y)) for data in (train, test)]
    measure = layer_measures(model, config.projection)
    start = jax.jit(lambda seed: model.init(jax.random.key(seed), arrays[0][0][:1]))
    starts = [start(seed) for seed in range(config.seeds)]
    before = _stacked([measure(params, params, arrays) for params in starts])
    trained = []
    for arm in config.arms:
        directory = None if folder is None else str(folder / "training" / arm)
        fitted = _fit(config, arm, model, arrays, directory)
        seeds = fitted.sweep["seed"]
        after = [measure(fitted.run(i), starts[seed], arrays) for i, seed in enumerate(seeds)]
        trained.append({**fitted.measurements, **_stacked(after)})
    shape = len(config.arms), len(config.learning_rates), config.seeds
    stacked = {name: np.stack([arm[name] for arm in trained]) for name in trained[0]}
    return Result(
        config,
        {
            **{name: values.reshape(*shape, *values.shape[2:]) for name, values in stacked.items()},
            **{f"start_{name}": values for name, values in before.items()},
            "epochs": fitted.measured_at,
        },
        {"train": train.source, "test": test.source, "execution": fitted.execution},
    )


def _fit(config: Config, arm: str, model: Any, arrays: Any, directory: str | None) -> Fit:
    """All runs of one arm, from the same initial weights and on the same batches in all arms."""

    def optimizer(hyper: Hyper) -> optax.GradientTransformation:
        return ARMS[arm](optax.sgd(hyper["learning_rate"], momentum=config.momentum))

    return fit(
        lambda key: model.init(key, arrays[0][0][:1]),
        classification_loss(model.apply),
        optimizer,
        arrays[0],
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep=grid(learning_rate=config.learning_rates, seed=range(config.seeds)),
        # A CPU gains nothing by vmap here: the search for Q is as long as its slowest run's.
        execution="map" if jax.default_backend() == "cpu" else "auto",
        measure=scores(model),
        measure_data=arrays,
        measure_at=np.linspace(0, config.epochs, config.measurements).round().astype(int),
        directory=directory,
    )


def _stacked(runs: list[dict[str, Array]]) -> dict[str, np.ndarray]:
    return {name: np.stack([np.asarray(run[name]) for run in runs]) for name in runs[0]}


def _model(config: Config, classes: int) -> Any:
    if config.network == "cnn":
        pools = tuple(layer for layer in (0, 2) if layer < config.depth)
        return CNN(out=classes, channels=config.width, depth=config.depth, pool_after=pools)
    return DNN(out=classes, width=config.width, depth=config.depth)


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure, and what the complement shows.

    Accuracies are those of the test split after the last epoch, compared by a paired t-test over
    seeds. One does not match another where the 95 % confidence interval of the mean difference lies
    below 0, however near; else it matches or beats it where the interval lies above −0.005, half a
    point; else the seeds do not decide it. Intervals are those of a single comparison.

    1. Gram-only matches or beats the original at every learning rate.
    2. With each arm at the learning rate of its highest mean accuracy, it does too.
    3. Beyond the paper: the Gram-preserving complement learns nothing in the features. Wherever
       (learning rate, seed, hidden layer) the original gains target linearity, the complement gains
       less than a tenth of it.
    """
    rates, accuracy = result.config.learning_rates, result.arrays["test_accuracy"][..., -1]
    original, gram = accuracy[:2]
    tests = [paired(a, b) for a, b in zip(gram, original, strict=True)]
    matches = [_matches(test) for test in tests]
    best = [int(arm.mean(1).argmax()) for arm in (gram, original)]
    test = paired(gram[best[0]], original[best[1]])
    claims = [
        Claim(
            "Gram-only matches or beats the original at every learning rate",
            False if False in matches else None if None in matches else True,
            f"{matches.count(True)} of {len(rates)} learning rates, {matches.count(False)} not; "
            f"test accuracy, Gram-only less original [95 %]: {_by_rate(rates, tests)}",
        ),
        Claim(
            "Gram-only matches or beats the original, each at its best learning rate",
            _matches(test),
            f"{gram[best[0]].mean():.4f} at {rates[best[0]]:g}, "
            f"{original[best[1]].mean():.4f} at {rates[best[1]]:g}: {test}",
        ),
    ]
    return [*claims, _complement_claim(result)] if result.config.complement else claims


def _matches(test: Paired) -> bool | None:
    return False if test.high < 0 else True if test.low > -MARGIN else None


def _by_rate(rates: tuple[float, ...], tests: list[Paired]) -> str:
    return "; ".join(f"{rate:g}: {test}" for rate, test in zip(rates, tests, strict=True))


def _complement_claim(result: Result) -> Claim:
    # (arms, learning rates, seeds, layers)
    gain = result.arrays["target_linearity"] - result.arrays["start_target_linearity"]
    gains = gain[0] > 0
    learns = gains & (gain[2] >= LITTLE * gain[0])
    compared = gains.any(-1)
    accuracy = result.arrays["test_accuracy"][2, ..., -1].mean(1)
    by_rate = "; ".join(
        f"{rate:g}: {_listed(gain[2, i])} of {_listed(gain[0, i])}, test accuracy {accuracy[i]:.3f}"
        for i, rate in enumerate(result.config.learning_rates)
    )
    nothing = compared & ~learns.any(-1)
    return Claim(
        "the Gram-preserving complement learns nothing in the features",
        bool((nothing == compared).all()) if compared.any() else None,
        f"{nothing.sum()} of the {compared.sum()} runs in which a layer of the original gains; "
        f"gain by layer, of the original's, by learning rate {by_rate}",
    )


def _listed(gains: np.ndarray) -> str:
    """Means over seeds of gains (seeds, layers)."""
    return ", ".join(f"{gain:.3f}" for gain in gains.mean(0))


def table(result: Result) -> str:
    """Each learning rate and arm after training, means and deviations over seeds."""
    arrays = result.arrays
    start = arrays["start_target_linearity"]
    depth = start.shape[1]
    lines = [
        f"{'rate':>6}  {'arm':<20}{'test accuracy':>18}{'train loss':>18}{'Grams change by':>18}"
        + "".join(f"{f'target linearity {layer + 1}':>20}" for layer in range(depth)),
        f"{'':>6}  {'before training':<20}{'':>54}"
        + "".join(f"{_spread(start[:, layer]):>20}" for layer in range(depth)),
    ]
    for i, rate in enumerate(result.config.learning_rates):
        for j, arm in enumerate(result.config.arms):
            linearity, change = (arrays[name][j, i] for name in ("target_linearity", "gram_change"))
            change = change.mean(0)
            lines.append(
                f"{rate:>6g}  {NAMES[arm]:<20}{_spread(arrays['test_accuracy'][j, i, :, -1]):>18}"
                f"{_spread(arrays['train_loss'][j, i, :, -1]):>18}"
                f"{f'{change.min():.2g} … {change.max():.2g}':>18}"
                + "".join(f"{_spread(linearity[:, layer]):>20}" for layer in range(depth))
            )
    return "\n".join(lines)


def _spread(values: np.ndarray) -> str:
    """Mean and deviation over seeds, the only axis."""
    return f"{values.mean():.4f} ± {values.std(ddof=1):.2g}"
