"""gramlin_jax: what each layer of a neural network is learning."""

from gramlin_jax._measure.measurement import LayerSums, Measurement
from gramlin_jax._measure.run import measure
from gramlin_jax._moments.features import Moments, accumulate, moments
from gramlin_jax._moments.gradients import (
    Backward,
    GradientMoments,
    JacobianMoments,
    backward,
    gradient_moments,
    jacobian_moments,
)
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
from gramlin_jax.taps import Layers, Tap, find_layers, tap

__version__ = "0.1.0"

__all__ = [
    # one pass over the data: all metrics of all layers
    "LayerSums",
    "Measurement",
    "measure",
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
    # neural collapse
    "nc4_mismatch",
    "neural_collapse",
    "regression_collapse",
    # taps: what flows through each linear layer
    "Layers",
    "Tap",
    "find_layers",
    "tap",
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
