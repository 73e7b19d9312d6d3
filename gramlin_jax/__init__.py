"""gramlin_jax: what each layer of a neural network is learning."""

from gramlin_jax._measure.comparison import Comparison
from gramlin_jax._measure.diagnosis import Diagnosis, Finding, diagnose
from gramlin_jax._measure.forecast import Forecast, LayerCost
from gramlin_jax._measure.measurement import Measurement
from gramlin_jax._measure.probe import Probe, ProbeState
from gramlin_jax._measure.records import Records
from gramlin_jax._measure.run import measure
from gramlin_jax._moments.additive import Additive, accumulate
from gramlin_jax._moments.attention import AttentionMoments
from gramlin_jax._moments.features import Moments, moments
from gramlin_jax._moments.gradients import Backward, GradientMoments, backward, gradient_moments
from gramlin_jax._moments.jacobians import JacobianMoments, jacobian_moments
from gramlin_jax._moments.projection import Projection, projected, random_projection
from gramlin_jax.deep_linear import (
    covariance_step,
    deep_mode,
    half_time,
    mode_strength,
    unbalanced_mode,
)
from gramlin_jax.metrics import (
    agop,
    alignment,
    alignment_null,
    alignment_r2,
    ansatz_exponent,
    attention_entropy,
    cka,
    dead_units,
    debiased_isotropy,
    effective_rank,
    eigenvector_stability,
    fact,
    fact_null,
    feature_learning_sides,
    feature_rank,
    gradient_noise,
    gram_change,
    gram_only_step,
    heldout_alignment,
    heldout_target_linearity,
    input_gradients,
    isotropy,
    ky_fan_ratio,
    marchenko_pastur_density,
    marchenko_pastur_edges,
    nc4_mismatch,
    neural_collapse,
    nfa_correlation,
    noise_floor,
    participation_ratio,
    polar_factor,
    power_law_exponent,
    procrustes,
    regression_collapse,
    relative_feature_change,
    relative_update,
    replaced_kernel,
    representation_alignments,
    rotation_null,
    separation_law,
    significant_components,
    singular_overlaps,
    spectral_entropy,
    spectrum,
    stable_rank,
    stationarity_identities,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
    virtual_alignment,
    virtual_covariance,
    virtual_covariance_of,
    virtual_update,
    weight_gram,
)
from gramlin_jax.metrics.layer_sums import LayerSums
from gramlin_jax.metrics.registry import DIAGNOSTIC, METRICS, Metric
from gramlin_jax.taps import Layers, Tap, Traced, find_layers, tap, trace
from gramlin_jax.widths import CoordinateCheck, coordinate_check

__version__ = "0.1.0"

__all__ = [
    # one pass over the data: all metrics of all layers
    "METRICS",
    "Comparison",
    "Forecast",
    "LayerCost",
    "LayerSums",
    "Measurement",
    "Metric",
    "measure",
    # what is wrong
    "DIAGNOSTIC",
    "Diagnosis",
    "Finding",
    "diagnose",
    # inside the training step, and over the steps of training
    "Probe",
    "ProbeState",
    "Records",
    # moments: what a metric sees of the samples
    "Additive",
    "Moments",
    "accumulate",
    "moments",
    # features that are too wide for a scatter
    "Projection",
    "projected",
    "random_projection",
    # target linearity
    "heldout_target_linearity",
    "noise_floor",
    "surrogate",
    "target_linearity",
    "target_linearity_adjusted",
    # neural collapse
    "nc4_mismatch",
    "neural_collapse",
    "regression_collapse",
    "separation_law",
    # taps: what flows through each linear layer
    "Layers",
    "Tap",
    "Traced",
    "find_layers",
    "tap",
    "trace",
    # gradients of every layer, and attention
    "AttentionMoments",
    "Backward",
    "GradientMoments",
    "JacobianMoments",
    "backward",
    "gradient_moments",
    "jacobian_moments",
    # the virtual covariance
    "feature_learning_sides",
    "gram_change",
    "input_gradients",
    "virtual_alignment",
    "virtual_covariance",
    "virtual_covariance_of",
    "virtual_update",
    # the features of two networks (gramlin_jax.rainbow clips and resamples networks)
    "alignment",
    "alignment_r2",
    "cka",
    "eigenvector_stability",
    "heldout_alignment",
    "procrustes",
    # exact dynamics of deep linear networks
    "covariance_step",
    "deep_mode",
    "half_time",
    "mode_strength",
    "unbalanced_mode",
    # the coordinate check over widths
    "CoordinateCheck",
    "coordinate_check",
    # whether a layer can learn
    "attention_entropy",
    "dead_units",
    "feature_rank",
    "gradient_noise",
    "relative_feature_change",
    "relative_update",
    # weights
    "gram_only_step",
    "polar_factor",
    "weight_gram",
    # spectra of weights and updates
    "effective_rank",
    "marchenko_pastur_density",
    "marchenko_pastur_edges",
    "participation_ratio",
    "power_law_exponent",
    "significant_components",
    "spectral_entropy",
    "spectrum",
    "stable_rank",
    # the neural feature ansatz, its rivals, and what they are by chance
    "agop",
    "alignment_null",
    "ansatz_exponent",
    "debiased_isotropy",
    "fact",
    "fact_null",
    "isotropy",
    "ky_fan_ratio",
    "nfa_correlation",
    "replaced_kernel",
    "representation_alignments",
    "rotation_null",
    "singular_overlaps",
    "stationarity_identities",
]
