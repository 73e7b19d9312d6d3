"""Figure 4's curves from a probe in the training steps, beside those of full passes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from benchmarks.common import print_table
from experiments.shared.drawing import LAYERS
from gramlin_jax import moments, target_linearity, target_linearity_adjusted
from gramlin_jax.data import load
from gramlin_jax.models import DNN
from gramlin_jax.training import Measure, Watch, classification_loss, fit


def run(
    data: str, width: int, samples: int, epochs: int, every: int, rate: float, figure: str | None
) -> None:
    """Print target linearity of each hidden layer by both, at a few epochs and over all.

    A full pass sees all samples, with the parameters at the end of the epoch. The probe sees the
    batches that it watches, while the parameters move, so that its noise floor is higher: the
    adjusted values are what can be compared.

    Args:
        data: Name of the data set.
        width: Of the four hidden layers.
        samples: To train on.
        epochs: Of SGD with momentum 0.8, batch 64.
        every: Steps of which the probe watches one.
        rate: Learning rate.
        figure: Where a picture of the adjusted curves goes; None: nowhere.
    """
    full, live, floors = _measured(data, width, samples, epochs, every, rate)
    curves = full[0], live[0], full[1], live[1], floors
    rows = [
        [f"layer {i + 1}, epoch {e + 1}", *(f"{curve[e, i]:.3f}" for curve in curves)]
        for i in range(4)
        for e in sorted({0, epochs // 2, epochs - 1})
    ]
    gaps = [np.abs(one - other) for one, other in zip(full, live, strict=True)]
    for name, of in (("mean", np.mean), ("largest", np.max)):
        plain, adjusted = (f"{of(gap):.3f}" for gap in gaps)
        rows.append([f"{name} distance", "–", plain, "–", adjusted, "–"])
    print_table(
        f"Target linearity of {samples} samples of {data}, DNN 4×{width}: full passes, and a probe "
        f"in every {every}th step",
        ["", "full", "live", "full, adjusted", "live, adjusted", "live floor"],
        rows,
    )
    if figure:
        _draw(full[1], live[1], gaps[1], figure)


def _measured(
    data: str, width: int, samples: int, epochs: int, every: int, rate: float
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Target linearity and its adjusted value (epochs, layers), full and live; live floors."""
    train = load(data, "train")
    x, y = train.flat[:samples], train.y[:samples]
    model = DNN(width, 4, 10)
    watch = Watch(lambda batch: jax.nn.one_hot(batch[1], 10), every)

    def adjusted_too(params: Any, hyper: Any, data: Any) -> Any:
        del hyper
        _, features = model.apply(params, data[0])
        targets = jax.nn.one_hot(data[1], 10)
        parts = [moments(h, targets) for h in features]
        scores = target_linearity, target_linearity_adjusted
        return {s.__name__: jnp.stack([s(m).astype(jnp.float32) for m in parts]) for s in scores}

    fitted = fit(
        lambda key: model.init(key, x[:1]),
        classification_loss(model.apply),
        optax.sgd(rate, momentum=0.8),
        (x, y),
        epochs=epochs,
        batch_size=64,
        hooks=[watch, Measure(adjusted_too, (x, y))],
    )
    layers = [f"params/Dense_{i + 1}/kernel" for i in range(4)]
    measured = [[watch.measurements[e][0][layer] for layer in layers] for e in range(1, epochs + 1)]
    names = "target_linearity", "adjusted", "noise_floor"
    live, adjusted, floor = (
        np.array([[values[name] for values in row] for row in measured]) for name in names
    )
    full = [
        fitted.measurements[s][0, 1:] for s in ("target_linearity", "target_linearity_adjusted")
    ]
    return (full[0], full[1]), (live, adjusted), floor


def _draw(full: np.ndarray, live: np.ndarray, gap: np.ndarray, path: str) -> None:
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes, epochs = figure.subplots(), np.arange(1, len(full) + 1)
    for i, color in enumerate(LAYERS):
        axes.plot(epochs, full[:, i], color=color, lw=1.3, label=f"layer {i + 1}, full pass")
        axes.plot(epochs, live[:, i], color=color, ls="", marker="o", ms=3.5, label="probe")
    axes.set(xlabel="epoch", ylabel="adjusted target linearity")
    axes.set_title(f"distance: {gap.mean():.3f} on average, {gap.max():.3f} at most", fontsize=9)
    axes.legend(frameon=False, fontsize=8, ncols=2)
    axes.grid(alpha=0.25, lw=0.5)
    figure.savefig(path, dpi=150)
