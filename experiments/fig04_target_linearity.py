"""Figure 4: target linearity and its surrogate, layer by layer, as a network trains.

The paper trains a fully connected network (4 hidden layers of 256, GELU) on CIFAR-10 and
CIFAR-100 by SGD (learning rate 5e-4, momentum 0.8, batch 64, 100 epochs). Inputs lie in [0, 1];
the paper names no further normalisation and none is done here. Target linearity is that of the
train features, fitted with an intercept in float64; the paper's code inverts a float32 Gram that
is singular to rounding at some epochs, fits without intercept, and clips its plot at 0, so its
curves, of the last layer above all, start lower than these do.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import jax.numpy as jnp
import numpy as np
import optax

from experiments.classification import layer_metrics
from experiments.curves import spread
from experiments.framework import Claim, Result, check_least
from experiments.rank_correlation import rank_correlation
from gramlin_jax.data import load
from gramlin_jax.models import DNN
from gramlin_jax.training import classification_loss, fit, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        dataset: A name that ``gramlin_jax.data.load`` knows.
        optimizer: ``"sgd"`` with ``momentum``, or ``"adam"``.
        measurements: Number of epochs at which the layers are measured, evenly spread from 0.
        samples: Train samples to use, 0 for all.
    """

    dataset: str = "digits"
    width: int = 256
    depth: int = 4
    activation: Literal["gelu", "relu"] = "gelu"
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.8
    batch_size: int = 64
    epochs: int = 200
    measurements: int = 41
    seeds: int = 5
    samples: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("width", "batch_size", "epochs", "seeds"), 1)
        check_least(self, {**least, "depth": 2, "measurements": 2})


NAMES = {"sgd": "SGD", "adam": "Adam"}

PRESETS = {
    "smoke": Config(width=16, epochs=4, measurements=3, seeds=2, samples=256),
    "default": Config(),
    "paper": Config(dataset="cifar10", learning_rate=5e-4, epochs=100, measurements=101, seeds=3),
}


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Result:
    """Train all seeds in one program and measure each layer along the way.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which a run that was cut off goes on; None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        Arrays of shape (seeds, measurements, depth) for ``target_linearity``, ``adjusted``,
        ``heldout``, ``noise_floor``, ``surrogate``; (seeds, measurements) for losses and
        accuracies; and ``epochs`` (measurements,).
    """
    train = load(config.dataset, "train", data_dir=data_dir)
    test = load(config.dataset, "test", data_dir=data_dir)
    if config.samples:
        train = train.take(config.samples)
    classes = train.num_classes
    assert classes is not None  # all sets of load are for classification
    model = DNN(config.width, config.depth, classes, config.activation)
    arrays = [(jnp.asarray(data.flat), jnp.asarray(data.y)) for data in (train, test)]
    fitted = fit(
        lambda key: model.init(key, arrays[0][0][:1]),
        classification_loss(model.apply),
        _optimizer(config),
        arrays[0],
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep=grid(seed=range(config.seeds)),
        measure=layer_metrics(model),
        measure_data=arrays,
        measure_at=np.linspace(0, config.epochs, config.measurements).round().astype(int),
        directory=None if folder is None else str(folder / "training"),
    )
    return Result(
        config,
        {**fitted.measurements, "epochs": fitted.measured_at},
        {"train": train.source, "test": test.source, "execution": fitted.execution},
    )


def _optimizer(config: Config) -> optax.GradientTransformation:
    if config.optimizer == "adam":
        return optax.adam(config.learning_rate)
    return optax.sgd(config.learning_rate, momentum=config.momentum)


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure. A claim holds if it does in every seed.

    1. Target linearity of each layer is higher after training than before.
    2. After training it is ordered by depth.
    3. Layers gain it in sequence: all gain, and each makes half of its gain before the next one
       does. (The epoch is interpolated between measurements.)
    4. Over training a layer's surrogate rises with its target linearity: Spearman's correlation
       over the measured epochs is positive.
    """
    linearity, surrogates = result.arrays["target_linearity"], result.arrays["surrogate"]
    gain = linearity[:, -1] - linearity[:, 0]
    steps = np.diff(linearity[:, -1], axis=1)
    half = _half_gain_epoch(linearity, result.arrays["epochs"])
    sequence = (np.diff(half) > 0) & (gain > 0).all(axis=1, keepdims=True)
    ranks = rank_correlation(*(x.swapaxes(1, 2) for x in (linearity, surrogates)))
    return [
        _claim("target linearity of each layer grows with training", gain > 0, "gain", gain),
        _claim("after training it is ordered by depth", steps > 0, "step to the next layer", steps),
        _claim("layers gain it in sequence", sequence, "epoch of half the gain", half),
        _claim("each layer's surrogate rises with it", ranks > 0, "rank correlation", ranks),
    ]


def _claim(statement: str, true: np.ndarray, name: str, values: np.ndarray) -> Claim:
    """The claim is true of each seed (row) whose entries of ``true`` all are."""
    means, deviations = spread(values)
    each = ", ".join(f"{m:.3g} ± {s:.2g}" for m, s in zip(means, deviations, strict=True))
    holds = np.asarray(true.all(axis=1))
    evidence = f"{np.count_nonzero(holds)} of {holds.size} seeds; {name} by layer {each}"
    return Claim(statement, bool(holds.all()), evidence)


def _half_gain_epoch(linearity: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Epoch (seeds, depth) at which a layer first has half of its final gain, NaN without one."""
    gain = linearity[:, -1:] - linearity[:, :1]
    share = (linearity - linearity[:, :1]) / np.where(gain > 0, gain, np.nan)
    after = (share >= 0.5).argmax(1)[:, None]  # not the first: a share begins at 0
    before = after - 1
    low, high = (np.take_along_axis(share, i, 1) for i in (before, after))
    part = (0.5 - low) / (high - low)
    return (epochs[before] + part * (epochs[after] - epochs[before]))[:, 0]


def table(result: Result) -> str:
    """Each layer before and after training, means over seeds."""
    arrays = result.arrays
    names = ("target_linearity", "adjusted", "heldout", "surrogate")
    head = "layer   floor" + "".join(f"{name:>30}" for name in names)
    lines = [head]
    for layer in range(result.config.depth):
        floor = arrays["noise_floor"][:, -1, layer].mean()
        cells = []
        for name in names:
            (start, end), (_, deviation) = spread(arrays[name][:, [0, -1], layer])
            cells.append(f"{f'{start:.4g} → {end:.4g} ± {deviation:.1g}':>30}")
        lines.append(f"{layer + 1:>5}{floor:>8.3f}" + "".join(cells))
    for name in ("train", "test"):
        (start, end), (_, deviation) = spread(arrays[f"{name}_accuracy"][:, [0, -1]])
        lines.append(f"{name} accuracy {start:.4f} → {end:.4f} ± {deviation:.1g}")
    return "\n".join(lines)


def plot(result: Result) -> Figure:
    """Surrogate, target linearity with its noise floor, its gain, and accuracies, by epoch."""
    from matplotlib.figure import Figure

    arrays, config = result.arrays, result.config
    epochs, linearity = arrays["epochs"], arrays["target_linearity"]
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    layers = [f"layer {i + 1}" for i in range(config.depth)]
    _curves(panels[0, 0], epochs, arrays["surrogate"], layers, log=True)
    panels[0, 0].set(ylabel="surrogate")
    _curves(panels[0, 1], epochs, linearity, layers)
    floor = arrays["noise_floor"].mean(axis=(0, 2))
    panels[0, 1].plot(epochs, floor, color="0.4", ls=":", label="noise floor")
    panels[0, 1].set(ylim=(0, 1.02), ylabel="target linearity")
    _curves(panels[1, 0], epochs, linearity - linearity[:, :1], layers)
    panels[1, 0].axhline(0, color="0.4", lw=0.8)
    panels[1, 0].set(ylabel="gain in target linearity", xlabel="epoch")
    accuracies = np.stack([arrays["train_accuracy"], arrays["test_accuracy"]], axis=2)
    _curves(panels[1, 1], epochs, accuracies, ["train", "test"], colours="plasma")
    panels[1, 1].set(ylim=(0, 1.02), ylabel="accuracy", xlabel="epoch")
    for axes in panels.flat:
        axes.set_xlim(0, epochs[-1])
        axes.grid(alpha=0.25, lw=0.5)
    for axes in panels[:, 1]:  # the left panels show the same layers
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"{config.dataset}, {config.depth}×{config.width} {config.activation.upper()}, "
        f"{NAMES[config.optimizer]} {config.learning_rate:g}, mean ± deviation of "
        f"{config.seeds} seeds",
        fontsize=10,
    )
    return figure


def _curves(
    axes: Axes,
    epochs: np.ndarray,
    values: np.ndarray,
    labels: list[str],
    *,
    colours: str = "viridis",
    log: bool = False,
) -> None:
    """Mean and deviation over seeds of values (seeds, epochs, series), geometric if ``log``."""
    import matplotlib

    mean, deviation = spread(np.log(values) if log else values)
    low, high = mean - deviation, mean + deviation
    if log:
        mean, low, high = np.exp(mean), np.exp(low), np.exp(high)
        axes.set_yscale("log")
    shades = matplotlib.colormaps[colours](np.linspace(0, 0.85, len(labels)))
    for i, (shade, label) in enumerate(zip(shades, labels, strict=True)):
        axes.plot(epochs, mean[:, i], color=shade, label=label, lw=1.4)
        axes.fill_between(epochs, low[:, i], high[:, i], color=shade, alpha=0.2, lw=0)
