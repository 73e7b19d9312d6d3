"""Train entirely on device: an epoch is one ``lax.scan``; sweeps run under vmap or ``lax.map``."""

from gramlin_jax.support.accuracy import hits
from gramlin_jax.training.hooks import (
    Checkpoint,
    Hook,
    Log,
    Measure,
    ProgressBar,
    Training,
    WarnOfDivergence,
)
from gramlin_jax.training.loop import Fit, fit
from gramlin_jax.training.losses import SampleLoss, classification_loss
from gramlin_jax.training.program import Hyper, Loss, Optimizer, Run, State
from gramlin_jax.training.sweeps import Execution, check_sweep, choose_execution, grid, over_runs
from gramlin_jax.training.watch import Watch

__all__ = [
    "Checkpoint",
    "Execution",
    "Fit",
    "Hook",
    "Hyper",
    "Log",
    "Loss",
    "Measure",
    "Optimizer",
    "ProgressBar",
    "Run",
    "SampleLoss",
    "State",
    "Training",
    "WarnOfDivergence",
    "Watch",
    "check_sweep",
    "choose_execution",
    "classification_loss",
    "fit",
    "grid",
    "hits",
    "over_runs",
]
