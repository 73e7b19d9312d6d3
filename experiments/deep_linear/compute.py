"""Train deep linear networks on data and covariances, and follow their modes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..shared.parts import parts
from ..shared.results import Computed
from ..shared.training import facts, load_splits
from . import Config
from .modes import modes_of, run_half_times, run_modes, run_scaling
from .notebook import data_of, run_notebook, whitened


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Run the notebook's two parts, and what it leaves out.

    Args:
        config: The settings.
        folder: Where finished parts go, from which an interrupted run continues; None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        The arrays that ``DIMENSIONS`` names.
    """
    train, test = load_splits(config.dataset, data_dir, samples=config.samples, folder=folder)
    data = data_of(whitened(train.flat, config.columns), train.targets.astype(float))
    modes = modes_of(data.cxx, data.cxy)
    arrays: dict[str, np.ndarray] = {"steps": np.arange(config.steps + 1)}
    for name, make in {
        "notebook": lambda: run_notebook(config, data),
        "modes": lambda: run_modes(config, modes),
        "half_times": lambda: run_half_times(config, modes),
        "scaling": lambda: run_scaling(config, modes),
    }.items():
        made = parts(folder, [name], lambda *_, make=make: make())
        arrays |= {key: value[0] for key, value in made.items()}
    arrays["training_error"] = arrays["training_error"].T
    return arrays, {**facts(train, test), "samples": len(train)}
