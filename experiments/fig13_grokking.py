"""Figure 13: grokking, and what target linearity tells of it.

The paper trains a fully connected network (3 hidden layers of 256, ReLU) on x + y mod 61, pairs of
one-hot vectors, 70 % of them, in float64 by AdamW (learning rate 1e-3, β 0.9 and 0.98, batch 32,
500 epochs) with weight decays of 0 to 1. Test accuracy may rise long after train accuracy.

All weight decays and seeds are one program. The pairs are split once, so that seeds differ in
initial weights and batches. Beside the target linearity of the train pairs, which is what the paper
shows, stands that of the held-out pairs, fitted on the train pairs.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import optax

from experiments.curves import spelled
from experiments.fig13_drawing import plot
from experiments.framework import Claim, Result, check_least, check_positive
from experiments.linearity import linearity_metrics
from experiments.rank_correlation import rank_correlation
from gramlin_jax.data import modular_arithmetic, modular_table
from gramlin_jax.models import DNN
from gramlin_jax.support.precision import in_float64
from gramlin_jax.training import Hyper, classification_loss, fit, grid

if TYPE_CHECKING:
    from jaxtyping import Array

__all__ = ["PRESETS", "check", "plot", "run", "table"]

LEARNT = 0.5  # the accuracy that counts as having learnt; chance is 1/p
MEMORISED = 0.99  # the train accuracy from which on the second phase is counted


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        operation: One of ``gramlin_jax.data.MODULAR_OPERATIONS``.
        p: The modulus, a prime where the operation divides.
        train_share: Share of the pairs that is trained on; the others are held out.
        measurements: Number of epochs at which the layers are measured, evenly spread from 0.
    """

    operation: str = "x+y"
    p: int = 43
    train_share: float = 0.7
    width: int = 128
    depth: int = 3
    weight_decays: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    learning_rate: float = 1e-3
    batch_size: int = 32
    epochs: int = 500
    measurements: int = 51
    seeds: int = 3

    def __post_init__(self) -> None:
        least = {"width": 1, "depth": 2, "batch_size": 1, "epochs": 1, "measurements": 2}
        check_least(self, {**least, "seeds": 1})
        check_positive(self, "learning_rate")
        decays = self.weight_decays
        unlike = len(set(decays)) == len(decays) > 0
        if not unlike or not all(0 <= decay < math.inf for decay in decays):
            raise ValueError(f"weight_decays is {decays}: wanted different numbers of 0 or more")
        pairs = len(modular_table(self.operation, self.p)[1])
        if not 2 <= self.train_share * pairs <= pairs - 2:
            raise ValueError(
                f"train_share is {self.train_share}: wanted a share in (0, 1) that leaves 2 or "
                f"more of the {pairs} pairs on either side"
            )


PRESETS = {
    "smoke": Config(
        p=7,
        width=8,
        depth=2,
        weight_decays=(0.0, 1.0),
        batch_size=17,
        epochs=4,
        measurements=3,
        seeds=2,
    ),
    "default": Config(),
    "paper": Config(p=61, width=256),
}


def split(config: Config) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train and test pairs, inputs (n, 2p) float64 and labels (n,), always the same ones."""
    data = modular_arithmetic(config.operation, config.p)
    order = np.random.RandomState(0).permutation(len(data))
    parts = np.split(order, [int(config.train_share * len(data))])
    return [(data.x[part].astype(np.float64), data.y[part]) for part in parts]


@in_float64
def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Result:
    """Train all weight decays and seeds in one program and measure each layer along the way.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which a run that was cut off goes on; None: nowhere.
        data_dir: Not used: the data are computed.

    Returns:
        Arrays of shape (weight decays, seeds, measurements, depth) for ``target_linearity``
        and ``heldout``; (weight decays, seeds, measurements) for losses and accuracies; and
        ``epochs`` (measurements,).
    """
    del data_dir
    model = DNN(config.width, config.depth, config.p, "relu", param_dtype=jnp.float64)
    arrays = [(jnp.asarray(x), jnp.asarray(labels)) for x, labels in split(config)]

    def optimizer(hyper: Hyper) -> optax.GradientTransformation:
        decay: Array = hyper["weight_decay"]
        return optax.adamw(config.learning_rate, b1=0.9, b2=0.98, weight_decay=decay)

    fitted = fit(
        lambda key: model.init(key, arrays[0][0][:1]),
        classification_loss(model.apply),
        optimizer,
        arrays[0],
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep=grid(weight_decay=config.weight_decays, seed=range(config.seeds)),
        measure=linearity_metrics(model),
        measure_data=arrays,
        measure_at=np.linspace(0, config.epochs, config.measurements).round().astype(int),
        directory=None if folder is None else str(folder / "training"),
    )
    shape = len(config.weight_decays), config.seeds
    measured = {
        name: values.reshape(*shape, *values.shape[1:])
        for name, values in fitted.measurements.items()
    }
    sizes = {"train": len(arrays[0][1]), "test": len(arrays[1][1])}
    return Result(
        config,
        {**measured, "epochs": fitted.measured_at},
        {**sizes, "execution": fitted.execution},
    )


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure, and whether held-out target linearity does better.

    A run generalises if its final test accuracy is one half or more. The gap is the target
    linearity of the last hidden layer less that of the layer before it.

    1. Runs with weight decay end at a higher test accuracy than the run of their seed without.
    2. Runs that generalise memorise first: train accuracy passes one half before test accuracy.
    3. The last layer's target linearity separates runs: at the end all that generalise have more of
       it than all others.
    4. Its held-out target linearity does.
    5. The gap does, being smaller in all that generalise.
    6. In every run the gap goes with the test error: Spearman's correlation over epochs is above 0.
       The same after the run has memorised, from train accuracy 0.99 on, is given beside it.
    7. In every run it goes with the generalisation gap, train less test accuracy.
    """
    arrays = result.arrays
    train, test = arrays["train_accuracy"], arrays["test_accuracy"]
    gap = linearity_gap(result)
    claims = [_decay_claim(result)] if 0 in result.config.weight_decays else []
    claims.append(_memorised_first(result))
    for name, values, sign in (
        ("the last layer's target linearity", arrays["target_linearity"][..., -1, -1], 1),
        ("its held-out target linearity", arrays["heldout"][..., -1, -1], 1),
        ("a smaller gap", gap[..., -1], -1),
    ):
        claims.append(
            _separates(f"{name} separates runs that generalise", values, test[..., -1], sign)
        )
    for name, error in (("test error", 1 - test), ("generalisation gap", train - test)):
        claims.append(_over_epochs(f"the gap goes with the {name}", gap, error, train))
    return claims


def _decay_claim(result: Result) -> Claim:
    decays, ends = result.config.weight_decays, result.arrays["test_accuracy"][..., -1]
    without = decays.index(0)
    better = np.delete(ends > ends[without], without, axis=0)
    by_decay = ", ".join(
        f"{decay:g}: {spelled(of_seeds)}" for decay, of_seeds in zip(decays, ends, strict=True)
    )
    return Claim(
        "runs with weight decay generalise better than without",
        bool(better.all()),
        f"{better.sum()} of {better.size} runs; test accuracy by weight decay {by_decay}",
    )


def _separates(statement: str, values: np.ndarray, accuracy: np.ndarray, sign: int) -> Claim:
    """Are the values of all runs that generalise above those of all others, or (−1) below?"""
    correlation = float(rank_correlation(values.ravel(), accuracy.ravel()))
    more, others = values[accuracy >= LEARNT], values[accuracy < LEARNT]
    if not (more.size and others.size):
        return Claim(statement, None, f"{more.size} of {values.size} runs do: none to compare")
    nearest, other = sign * (sign * more).min(), sign * (sign * others).max()
    evidence = (
        f"nearest {nearest:.3f} among the {more.size} that do, {other:.3f} among the others; rank "
        f"correlation with test accuracy {correlation:.2f} over all runs"
    )
    return Claim(statement, bool(sign * nearest > sign * other), evidence)


def linearity_gap(result: Result) -> np.ndarray:
    """Target linearity of the last hidden layer less the layer's before it, without that axis."""
    linearity: np.ndarray = result.arrays["target_linearity"]
    return linearity[..., -1] - linearity[..., -2]


def _over_epochs(statement: str, a: np.ndarray, b: np.ndarray, train: np.ndarray) -> Claim:
    """Does b go with a (weight decays, seeds, measurements) in every run?"""
    found = rank_correlation(a, b)
    values = ", ".join(f"{r:.2f}" for r in found.mean(1))
    evidence = f"{np.count_nonzero(found > 0)} of {found.size} runs; by weight decay {values}"
    memorised = [accuracy >= MEMORISED for accuracy in train.reshape(-1, train.shape[-1])]
    runs = zip(a.reshape(len(memorised), -1), b.reshape(len(memorised), -1), memorised, strict=True)
    later = [
        float(rank_correlation(x[at.argmax() :], y[at.argmax() :])) for x, y, at in runs if at.any()
    ]
    if later and np.isfinite(later).any():
        low, middle, high = np.nanquantile(later, (0, 0.5, 1))
        evidence += f"; once memorised {low:.2f} to {high:.2f}, median {middle:.2f}"
    holds = bool((found > 0).all()) if np.isfinite(found).all() else None
    return Claim(statement, holds, evidence)


def _memorised_first(result: Result) -> Claim:
    epochs = result.arrays["epochs"]
    train, test = (
        first_passed(result.arrays[f"{name}_accuracy"], epochs, LEARNT)
        for name in ("train", "test")
    )
    generalised = np.isfinite(test)
    first = generalised & (train < test)
    delays = (test - train)[generalised]
    evidence = f"{first.sum()} of the {generalised.sum()} runs, out of {test.size}, that generalise"
    if delays.size:
        evidence += f"; test accuracy follows {delays.min():g} to {delays.max():g} epochs later"
    holds = bool((first == generalised).all()) if generalised.any() else None
    return Claim("runs that generalise memorise first", holds, evidence)


def first_passed(curves: np.ndarray, epochs: np.ndarray, level: float) -> np.ndarray:
    """The measured epoch at which curves (..., measurements) first reach a level, NaN if never."""
    reached = curves >= level
    return np.where(reached.any(-1), epochs[reached.argmax(-1)], np.nan)


def table(result: Result) -> str:
    """Each weight decay after training, means and deviations over seeds."""
    arrays, config = result.arrays, result.config
    layers = range(1, config.depth + 1)
    lines = [
        f"{'decay':>6}{'train accuracy':>18}{'test accuracy':>18}"
        + "".join(f"{f'TL {layer}, held out':>32}" for layer in layers)
    ]
    for i, decay in enumerate(config.weight_decays):
        ends = {name: values[i, :, -1] for name, values in arrays.items() if name != "epochs"}
        lines.append(
            f"{decay:>6g}{spelled(ends['train_accuracy']):>18}{spelled(ends['test_accuracy']):>18}"
            + "".join(
                f"{spelled(ends['target_linearity'][:, layer - 1]):>17}"
                f"{spelled(ends['heldout'][:, layer - 1]):>15}"
                for layer in layers
            )
        )
    return "\n".join(lines)
