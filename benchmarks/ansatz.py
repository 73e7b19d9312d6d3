"""Networks of the ansatz trained and measured, its Jacobians by probes, and measure with rivals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common import CLASSES, images, print_table, seconds, with_medians
from experiments.ansatz import Config
from experiments.ansatz.compute import measured
from experiments.ansatz.networks import training_data
from gramlin_jax import jacobian_moments, measure
from gramlin_jax.metrics.registry import DEFAULT
from gramlin_jax.metrics.representation import RepresentationAlignments
from gramlin_jax.models import DNN

if TYPE_CHECKING:
    from jaxtyping import Array

RIVALS = ("fact", *RepresentationAlignments._fields)
PROBED = ("nfa", "isotropy", "range_isotropy", "ansatz_exponent")
PROBES = 4
FEW = 2  # networks that stand for one by one


def run(
    config: Mapping[str, Any],
    outputs: tuple[int, ...],
    jacobian: tuple[int, int],
    passes: tuple[int, int],
    rounds: int,
) -> None:
    """Print the tables.

    Args:
        config: Of the experiment's base setting, all of whose networks are one program.
        outputs: Numbers of outputs of the networks whose J is timed.
        jacobian: Samples and width of these.
        passes: Samples and width of the network that ``measure`` measures.
        rounds: Of each timing.
    """
    _networks(Config(**config, variations=("base",)))
    _jacobians(outputs, *jacobian, rounds)
    _passes(*passes, rounds)


def _networks(config: Config) -> None:
    """All networks of a setting in one program, and two of them one after another."""
    networks = len(config.init_scales) * len(config.weight_decays) * config.seeds
    alone = dataclasses.replace(config, init_scales=(1.0,), weight_decays=(0.0,), seeds=FEW)
    rows = []
    for name, each, count in (("vmapped", config, networks), ("two", alone, FEW)):
        x, y = (jnp.asarray(a) for a in training_data(each, each.settings()["base"])[:2])
        first, again = (
            seconds(lambda: measured(each, each.settings()["base"], x, y))  # noqa: B023
            for _ in range(2)
        )
        # A thousand are groups of this size, of which the first is compiled.
        thousand = first + (1000 / count - 1) * again
        rates = f"{count / again:.2f}", f"{thousand:.0f}"
        rows.append([name, count, f"{first:.1f}", f"{again:.1f}", *rates])
    print_table(
        "Networks trained and measured (target: 1 000 in 600 s)",
        ["networks", "number", "first s", "again s", "a second", "1 000 s"],
        rows,
    )


def _jacobians(outputs: tuple[int, ...], n: int, width: int, rounds: int) -> None:
    """J exact, and by probes: seconds, and the distance of J from the exact one."""
    rows = []
    for k in outputs:
        model = DNN(width, 2, k)
        x = jnp.asarray(images(n, 64)[0])
        params = model.init(jax.random.key(0), x[:1])

        def f(params: Any, x: Array, model: DNN = model) -> Array:
            return model.apply(params, x)[0]

        exact = jax.jit(lambda p, x: jacobian_moments(f, p, x, chunk=16))  # noqa: B023
        probed = jax.jit(
            lambda p, x, key: jacobian_moments(f, p, x, probes=min(PROBES, k), key=key)  # noqa: B023
        )
        key = jax.random.key(1)
        found = exact(params, x), probed(params, x, key)
        times = [
            np.median([seconds(call) for _ in range(rounds)])
            for call in (lambda: exact(params, x), lambda: probed(params, x, key))  # noqa: B023
        ]
        name = next(iter(found[0]))
        a, b = (np.asarray(moments[name].mean) for moments in found)
        error = np.linalg.norm(a - b) / np.linalg.norm(a)
        ratio = times[0] / times[1]
        rows.append([k, f"{times[0]:.3f}", f"{times[1]:.3f}", f"{ratio:.1f}", f"{error:.3f}"])
    print_table(
        f"J of {n} samples, DNN 2x{width}: all outputs and {PROBES} probes",
        ["outputs", "exact s", "probes s", "ratio", "error of J"],
        rows,
    )


def _passes(n: int, width: int, rounds: int) -> None:
    """``measure`` as it is by default, with the rivals, and with the ansatz by probes."""
    model, (x, y) = DNN(width, 2, CLASSES), images(n, 64)
    params = model.init(jax.random.key(0), jnp.asarray(x[:1]))

    def f(params: Any, x: Array) -> Array:
        return model.apply(params, x)[0]

    def loss(out: Array, y: Array) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()

    def passed(extra: tuple[str, ...]) -> float:
        metrics = (*DEFAULT, *extra)
        return seconds(
            lambda: measure(f, params, (x, y), loss=loss, metrics=metrics, probes=PROBES).metrics
        )

    kinds = (), RIVALS, PROBED
    for extra in kinds:
        passed(extra)  # compiled now
    rows = []
    for _ in range(rounds):
        plain, rivals, probed = map(passed, kinds)
        rows.append([plain, rivals, probed, rivals / plain, probed / plain])
    print_table(
        f"measure of {n} x 64, DNN 2x{width} (targets: rivals 1.1, {PROBES} probes 2)",
        ["round", "default s", "rivals s", "probes s", "rivals /", "probes /"],
        with_medians(rows, ("{:.3f}", "{:.3f}", "{:.3f}", "{:.2f}", "{:.2f}")),
    )
