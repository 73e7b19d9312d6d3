"""Metrics: pure functions of moments, kernels and gradients."""

from gramlin_jax.metrics.ansatz import (
    agop,
    ansatz_exponent,
    ky_fan_ratio,
    nfa_correlation,
    singular_overlaps,
)
from gramlin_jax.metrics.collapse import nc4_mismatch, neural_collapse
from gramlin_jax.metrics.collapse_regression import regression_collapse
from gramlin_jax.metrics.frames import debiased_isotropy, isotropy
from gramlin_jax.metrics.gram import gram_only_step, polar_factor, weight_gram
from gramlin_jax.metrics.health import (
    attention_entropy,
    dead_units,
    feature_rank,
    gradient_noise,
    relative_feature_change,
    relative_update,
)
from gramlin_jax.metrics.linearity import (
    heldout_target_linearity,
    noise_floor,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
)
from gramlin_jax.metrics.nulls import alignment_null, fact_null, replaced_kernel, rotation_null
from gramlin_jax.metrics.regression import LeastSquares, least_squares
from gramlin_jax.metrics.representation import representation_alignments
from gramlin_jax.metrics.separation import SeparationLaw, separation_law
from gramlin_jax.metrics.similarity import (
    alignment,
    alignment_r2,
    cka,
    eigenvector_stability,
    heldout_alignment,
    procrustes,
)
from gramlin_jax.metrics.spectra import (
    effective_rank,
    marchenko_pastur_density,
    marchenko_pastur_edges,
    participation_ratio,
    power_law_exponent,
    significant_components,
    spectral_entropy,
    spectrum,
    stable_rank,
)
from gramlin_jax.metrics.stationarity import fact, stationarity_identities
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
    "SeparationLaw",
    "separation_law",
    "attention_entropy",
    "dead_units",
    "feature_rank",
    "gradient_noise",
    "relative_feature_change",
    "relative_update",
    "spectral_entropy",
    "LeastSquares",
    "alignment",
    "alignment_r2",
    "cka",
    "effective_rank",
    "eigenvector_stability",
    "agop",
    "alignment_null",
    "ansatz_exponent",
    "debiased_isotropy",
    "fact",
    "fact_null",
    "feature_learning_sides",
    "gram_change",
    "gram_only_step",
    "heldout_alignment",
    "heldout_target_linearity",
    "input_gradients",
    "isotropy",
    "ky_fan_ratio",
    "least_squares",
    "marchenko_pastur_density",
    "marchenko_pastur_edges",
    "nc4_mismatch",
    "neural_collapse",
    "nfa_correlation",
    "noise_floor",
    "participation_ratio",
    "polar_factor",
    "power_law_exponent",
    "procrustes",
    "regression_collapse",
    "significant_components",
    "spectrum",
    "stable_rank",
    "replaced_kernel",
    "representation_alignments",
    "rotation_null",
    "singular_overlaps",
    "stationarity_identities",
    "surrogate",
    "target_linearity",
    "target_linearity_adjusted",
    "virtual_alignment",
    "virtual_covariance",
    "virtual_covariance_of",
    "virtual_update",
    "weight_gram",
]
