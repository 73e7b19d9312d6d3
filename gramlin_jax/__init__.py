"""gramlin_jax: what each layer of a neural network is learning."""

from gramlin_jax.metrics import (
    heldout_target_linearity,
    noise_floor,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
    weight_gram,
)
from gramlin_jax.moments import Moments, accumulate, moments

__version__ = "0.1.0"

__all__ = [
    # moments: what a metric sees of the samples
    "Moments",
    "accumulate",
    "moments",
    # target linearity
    "heldout_target_linearity",
    "noise_floor",
    "surrogate",
    "target_linearity",
    "target_linearity_adjusted",
    # weights
    "weight_gram",
]
