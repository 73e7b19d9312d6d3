"""Sweeps of figures 8, 12 and 13: one program against the sum of single runs."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import io_callback

from benchmarks.common import CLASSES, Timing, images, print_table
from experiments import fig08_staircase as fig08
from experiments import fig13_grokking as fig13
from experiments.fig08_norms import Network
from experiments.fig12_random_labels import noisy_loss
from gramlin_jax.data import label_noise
from gramlin_jax.models import DNN
from gramlin_jax.training import Fit, Measure, classification_loss, fit, grid

if TYPE_CHECKING:
    from jaxtyping import Array

Sweep = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Case:
    """A figure's sweep.

    Attributes:
        name: With its sizes.
        fit: From a sweep and further options to what ``gramlin_jax.training.fit`` returns.
        sweep: All runs of the figure.
        figure_epochs: Epochs that the figure trains.
        epochs: Epochs that are timed.
    """

    name: str
    fit: Callable[..., Fit]
    sweep: Sweep
    figure_epochs: int
    epochs: int


def run(quick: bool) -> None:
    """Print what a sweep costs, and what its runs do one after another."""
    cases = (
        [grokking(7, 8, 2), random_labels(100, 12, 8, 2), staircase(40, 8, 2)]
        if quick
        else [grokking(61, 256, 3), random_labels(50_000, 3072, 256, 3), staircase(1000, 1024, 6)]
    )
    print_table(
        "Sweeps of figures 8, 12 and 13, without what they measure (whole call: with compilation, "
        "carried on from the epochs that were timed to the figure's)",
        ["sweep", "how", "epoch s", "singles s", "ratio", "whole call s", "singles s", "ratio"],
        [_row(case) for case in cases],
    )


def _row(case: Case) -> list[str]:
    together, execution = _timed(case, case.sweep)
    # One single run stands for all: shapes, and so costs, are the same.
    single, _ = _timed(case, {name: values[:1] for name, values in case.sweep.items()})
    runs = len(case.sweep["seed"])
    epochs = together.epoch, runs * single.epoch
    wholes = [
        times.total + (case.figure_epochs - case.epochs) * times.epoch
        for times in (together, single)
    ]
    wholes[1] *= runs
    return [
        case.name,
        execution,
        *(f"{seconds:.2f}" for seconds in epochs),
        f"{epochs[0] / epochs[1]:.2f}",
        *(f"{seconds:.0f}" for seconds in wholes),
        f"{wholes[0] / wholes[1]:.2f}",
    ]


def _timed(case: Case, sweep: Sweep) -> tuple[Timing, str]:
    """Seconds of the median epoch but the first and of the whole call; and how it was run."""
    start = time.perf_counter()

    def stamp(params: Any, hyper: Any, data: Any) -> Array:
        del params, hyper, data
        return io_callback(
            lambda: np.float32(time.perf_counter() - start), jax.ShapeDtypeStruct((), jnp.float32)
        )

    fitted = case.fit(sweep=sweep, epochs=case.epochs, hooks=[Measure(stamp)])
    epoch = np.median(np.diff(fitted.measurements.max(0))[1:])
    return Timing(float(epoch), time.perf_counter() - start), fitted.execution


def grokking(p: int, width: int, epochs: int) -> Case:
    """Figure 13: five weight decays in float64."""
    config = fig13.Config(p=p, width=width)
    model = DNN(width, config.depth, p, "relu", param_dtype=jnp.float64)
    data = fig13.split(config)[0]

    def fit_in_float64(**options: Any) -> Fit:
        with jax.enable_x64(True):
            return fit(
                lambda key: model.init(key, jnp.zeros((1, 2 * p))),
                classification_loss(model.apply),
                lambda hyper: optax.adamw(
                    config.learning_rate, b1=0.9, b2=0.98, weight_decay=hyper["weight_decay"]
                ),
                data,
                batch_size=config.batch_size,
                **options,
            )

    sweep = grid(weight_decay=config.weight_decays, seed=range(1))
    return Case(f"grokking mod {p}, 5 x 3x{width}", fit_in_float64, sweep, config.epochs, epochs)


def random_labels(n: int, inputs: int, width: int, epochs: int) -> Case:
    """Figure 12: six noise levels."""
    model = DNN(width, 3, CLASSES)
    x, labels = images(n, inputs)
    train = functools.partial(
        fit,
        lambda key: model.init(key, jnp.zeros((1, inputs))),
        noisy_loss(model),
        optax.sgd(0.005, momentum=0.95),
        (x, labels.astype(np.int32), label_noise(n, CLASSES)),
        batch_size=64,
    )
    sweep = grid(noise=(0.0, 0.25, 0.5, 0.75, 0.9, 1.0), seed=range(1))
    return Case(f"random labels {n} x {inputs}, 6 x 3x{width}", train, sweep, 200, epochs)


def staircase(points: int, width: int, epochs: int) -> Case:
    """Figure 8: five seeds of one width."""
    config = fig08.Config(points=points)
    network = Network(width)
    train = functools.partial(
        fit,
        lambda key: network.init(key, jnp.zeros((1, config.dimension))),
        fig08.squared_loss(network),
        optax.sgd(config.learning_rate),
        fig08.points(config, range(config.seeds)),
    )
    sweep = grid(seed=range(config.seeds))
    return Case(f"staircase, 5 x 2x{width}", train, sweep, config.steps, epochs)
