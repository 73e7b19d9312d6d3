"""Train the networks of each setting in one program, and measure them before and after."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax.data import load
from gramlin_jax.training import Run, grid, over_runs

from ..shared.devices import mesh_for
from ..shared.parts import parts
from ..shared.provenance import claim_data
from ..shared.results import Computed
from . import SYNTHETIC, Config, Setting
from .measures import layer_measures, network_sums
from .networks import apply, batch_loss, init, optimizer, training_data

if TYPE_CHECKING:
    from jaxtyping import Array


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Train and measure each setting; finished ones are kept, so an interrupted run goes on.

    Args:
        config: The settings.
        folder: Where finished settings go; None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        What ``layer_measures`` measures, NaN in layers that a network does not have; ``epochs``.
    """
    read(config, folder, data_dir)
    sources = {}

    def one(name: str, directory: Path | None) -> dict[str, np.ndarray]:
        del directory
        mesh = mesh_for(networks)
        where = "" if mesh is None else f" on {mesh.size} devices"
        print(f"{name}: {networks} networks{where}", flush=True)
        setting = config.settings()[name]
        x, y, _ = training_data(config, setting, data_dir)
        found = measured(config, setting, jnp.asarray(x), jnp.asarray(y))
        return {name: _padded(values, config.depth) for name, values in found.items()}

    networks = len(config.init_scales) * len(config.weight_decays) * config.seeds
    arrays = parts(folder, config.variations, one)
    for name, setting in config.settings().items():
        sources[name] = training_data(config, setting, data_dir)[2]
    return {**arrays, "epochs": np.array([0, config.epochs])}, {"sources": sources}


def read(config: Config, folder: Path | None, data_dir: str | None) -> None:
    """Keep fingerprints of the data sets that are read, or compare them; others are computed.

    Raises:
        ValueError: If the folder holds a run of other data.
    """
    names = {setting.dataset for setting in config.settings().values()} - set(SYNTHETIC)
    sets = {name: load(name, "train", data_dir=data_dir) for name in sorted(names)}
    claim_data(
        folder,
        {f"{name} {part}": getattr(sets[name], part) for name in sets for part in ("x", "y")},
    )


def measured(config: Config, setting: Setting, x: Array, y: Array) -> dict[str, np.ndarray]:
    """All networks of a setting: arrays (init_scale, weight_decay, seed, epoch, ...)."""
    sizes = (x.shape[1], *[setting.width] * setting.depth, y.shape[1])
    hyper = grid(
        init_scale=config.init_scales,
        weight_decay=config.weight_decays,
        seed=range(config.seeds),
    )
    shape = len(config.init_scales), len(config.weight_decays), config.seeds
    mesh = mesh_for(math.prod(shape))
    train = jax.jit(over_runs(trained(config, setting, sizes, x, y), execution="vmap", mesh=mesh))
    start, end = train(hyper)
    sums = network_sums(setting.activation, setting.loss, config.probed, mesh)
    measure = layer_measures(config.rotations, mesh)
    found = []
    for params in (start, end):
        others = jax.tree.map(functools.partial(_next_seed, shape=shape), params)
        layers, scores = sums(start, params, others, hyper["seed"], x, y)
        of_layers = [
            jax.device_get(measure(layer, jnp.asarray(hyper["weight_decay"]))) for layer in layers
        ]
        stacked = {name: np.stack([a[name] for a in of_layers], 1) for name in of_layers[0]}
        found.append({**stacked, **jax.device_get(scores)})
    both = {name: np.stack([a[name] for a in found], 1) for name in found[0]}
    return {name: np.reshape(a, (*shape, *a.shape[1:])) for name, a in both.items()}


def trained(config: Config, setting: Setting, sizes: tuple[int, ...], x: Array, y: Array) -> Any:
    """``hyper -> (params at the start, params at the end)`` of one network."""

    def loss(params: Any, batch: Any, key: Array, hyper: Any) -> Any:
        del key, hyper
        outputs = apply(params, batch[0], setting.activation)
        return batch_loss(setting.loss, outputs, batch[1]), {}

    steps = config.epochs * math.ceil(len(x) / config.batch_size)

    def train(hyper: Any) -> Any:
        run = Run(
            lambda key: init(key, sizes, hyper["init_scale"]),
            loss,
            lambda hyper: optimizer(setting.optimizer, hyper["weight_decay"], steps),
            min(config.batch_size, len(x)),
        )
        start = run.start(hyper)

        def epoch(state: Any, number: Array) -> Any:
            return run.epoch(state, (x, y), hyper, number)[0], None

        end, _ = lax.scan(epoch, start, jnp.arange(config.epochs))
        return start.params, end.params

    return train


def _next_seed(leaf: Array, shape: tuple[int, ...]) -> Array:
    """Each network's leaf from the one with the next seed and the same other conditions."""
    return jnp.roll(leaf.reshape(*shape, *leaf.shape[1:]), -1, axis=2).reshape(leaf.shape)


def _padded(values: np.ndarray, depth: int) -> np.ndarray:
    """Arrays (scale, decay, seed, epoch, layer, ...) with NaN in layers up to ``depth``."""
    if values.ndim < 5:
        return values
    missing = [(0, 0)] * values.ndim
    missing[4] = (0, depth - values.shape[4])
    return np.pad(values.astype(float), missing, constant_values=np.nan)
