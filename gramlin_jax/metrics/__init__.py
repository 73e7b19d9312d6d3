"""Metrics: pure functions of moments, kernels and gradients."""

from gramlin_jax.metrics.gram import weight_gram
from gramlin_jax.metrics.linearity import (
    heldout_target_linearity,
    noise_floor,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
)

__all__ = [
    "heldout_target_linearity",
    "noise_floor",
    "surrogate",
    "target_linearity",
    "target_linearity_adjusted",
    "weight_gram",
]
