"""Figure 4's curves from a probe in the training steps, beside those of full passes."""

from __future__ import annotations

import jax
import numpy as np
import optax

from benchmarks.common import print_table
from experiments.shared.measures import linearity_metrics
from gramlin_jax.data import load
from gramlin_jax.models import DNN
from gramlin_jax.training import Measure, Watch, classification_loss, fit


def run(width: int, samples: int, epochs: int, every: int) -> None:
    """Print target linearity of each hidden layer by both, at a few epochs and over all.

    A full pass sees all samples, with the parameters at the end of the epoch. The probe sees the
    batches that it watches, while the parameters move, so that its noise floor is higher: the
    adjusted values are what can be compared.

    Args:
        width: Of the four hidden layers.
        samples: Of digits to train on.
        epochs: Of SGD with momentum 0.8, batch 64.
        every: Steps of which the probe watches one.
    """
    train, test = (load("digits", split) for split in ("train", "test"))
    data = (train.flat[:samples], train.y[:samples])
    model = DNN(width, 4, 10)
    watch = Watch(lambda batch: jax.nn.one_hot(batch[1], 10), every)
    fitted = fit(
        lambda key: model.init(key, data[0][:1]),
        classification_loss(model.apply),
        optax.sgd(5e-3, momentum=0.8),
        data,
        epochs=epochs,
        batch_size=64,
        hooks=[watch, Measure(linearity_metrics(model), (data, (test.flat, test.y)))],
    )
    full = fitted.measurements["target_linearity"][0, 1:]  # (epochs, layers)
    layers = [f"params/Dense_{i + 1}/kernel" for i in range(4)]
    names = "target_linearity", "adjusted", "noise_floor"
    measured = [[watch.measurements[e][0][layer] for layer in layers] for e in range(1, epochs + 1)]
    live, adjusted, floor = (
        np.array([[values[name] for values in row] for row in measured]) for name in names
    )
    curves = full, live, adjusted, floor
    rows = [
        [f"layer {i + 1}, epoch {e + 1}", *(f"{curve[e, i]:.3f}" for curve in curves)]
        for i in range(4)
        for e in sorted({0, epochs // 2, epochs - 1})
    ]
    gaps = [np.abs(curve - full).mean() for curve in (live, adjusted)]
    rows.append(["mean distance", "–", *(f"{gap:.3f}" for gap in gaps), "–"])
    print_table(
        f"Target linearity of {samples} digits, DNN 4×{width}: full passes, and a probe in every "
        f"{every}th step",
        ["", "full", "live", "adjusted", "floor"],
        rows,
    )
