"""gramlin_jax: what each layer of a neural network is learning."""

from gramlin_jax._measure.comparison import Comparison
from gramlin_jax._measure.measurement import Measurement
from gramlin_jax._measure.probe import Probe, ProbeState
from gramlin_jax._measure.records import Records
from gramlin_jax._measure.run import measure
from gramlin_jax._moments.additive import Additive, accumulate
from gramlin_jax._moments.features import Moments, moments
from gramlin_jax._moments.gradients import Backward, GradientMoments, backward, gradient_moments
from gramlin_jax._moments.jacobians import JacobianMoments, jacobian_moments
from gramlin_jax._moments.projection import Projection, projected, random_projection
from gramlin_jax.metrics import (
    feature_learning_sides,
    gram_change,
    gram_only_step,
    heldout_target_linearity,
    input_gradients,
    nc4_mismatch,
    neural_collapse,
    noise_floor,
    polar_factor,
    regression_collapse,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
    virtual_alignment,
    virtual_covariance,
    virtual_covariance_of,
    virtual_update,
    weight_gram,
)
from gramlin_jax.metrics.registry import METRICS, LayerSums, Metric
from gramlin_jax.taps import Layers, Tap, Traced, find_layers, tap, trace

__version__ = "0.1.0"

__all__ = [
    # one pass over the data: all metrics of all layers
    "METRICS",
    "Comparison",
    "LayerSums",
    "Measurement",
    "Metric",
    "measure",
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
    # taps: what flows through each linear layer
    "Layers",
    "Tap",
    "Traced",
    "find_layers",
    "tap",
    "trace",
    # gradients of every layer
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
    # weights
    "gram_only_step",
    "polar_factor",
    "weight_gram",
]
