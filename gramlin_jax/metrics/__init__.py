"""Metrics: pure functions of moments, kernels and gradients."""

from gramlin_jax.metrics.collapse import nc4_mismatch, neural_collapse, regression_collapse
from gramlin_jax.metrics.gram import gram_only_step, polar_factor, weight_gram
from gramlin_jax.metrics.linearity import (
    heldout_target_linearity,
    noise_floor,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
)
from gramlin_jax.metrics.regression import LeastSquares, least_squares
from gramlin_jax.metrics.spectra import (
    effective_rank,
    marchenko_pastur_density,
    marchenko_pastur_edges,
    participation_ratio,
    power_law_exponent,
    significant_components,
    spectrum,
    stable_rank,
)
from gramlin_jax.metrics.virtual import (
    feature_learning_sides,
    gram_change,
    input_gradients,
    virtual_alignment,
    virtual_covariance,
    virtual_covariance_of,
    virtual_update,
)

__all__ = [
    "LeastSquares",
    "effective_rank",
    "feature_learning_sides",
    "gram_change",
    "gram_only_step",
    "heldout_target_linearity",
    "input_gradients",
    "least_squares",
    "marchenko_pastur_density",
    "marchenko_pastur_edges",
    "nc4_mismatch",
    "neural_collapse",
    "noise_floor",
    "participation_ratio",
    "polar_factor",
    "power_law_exponent",
    "regression_collapse",
    "significant_components",
    "spectrum",
    "stable_rank",
    "surrogate",
    "target_linearity",
    "target_linearity_adjusted",
    "virtual_alignment",
    "virtual_covariance",
    "virtual_covariance_of",
    "virtual_update",
    "weight_gram",
]
