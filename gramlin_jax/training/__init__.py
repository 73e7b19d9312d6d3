"""Train entirely on device: an epoch is one `lax.scan`; sweeps are vmapped or mapped."""

from gramlin_jax.training.loop import (
    Fit,
    Hyper,
    Loss,
    Optimizer,
    SampleLoss,
    classification_loss,
    fit,
)
from gramlin_jax.training.sweeps import Execution, check_sweep, choose_execution, grid, over_runs

__all__ = [
    "Execution",
    "Fit",
    "Hyper",
    "Loss",
    "Optimizer",
    "SampleLoss",
    "check_sweep",
    "choose_execution",
    "classification_loss",
    "fit",
    "grid",
    "over_runs",
]
