"""Data sets as NumPy arrays: embedded, read through TFDS, or synthetic."""

from gramlin_jax.data.dataset import Dataset, one_hot
from gramlin_jax.data.loading import DATASETS, load
from gramlin_jax.data.modular import MODULAR_OPERATIONS, modular_arithmetic, modular_table
from gramlin_jax.data.noise import LabelNoise, label_noise, noisy_labels
from gramlin_jax.data.synthetic import (
    quadratic,
    quadratic_from_draws,
    staircase,
    staircase_target,
    swiss_roll,
)

__all__ = [
    # the container
    "Dataset",
    "one_hot",
    # random labels
    "LabelNoise",
    "label_noise",
    "noisy_labels",
    # real images
    "DATASETS",
    "load",
    # synthetic
    "MODULAR_OPERATIONS",
    "modular_arithmetic",
    "modular_table",
    "quadratic",
    "quadratic_from_draws",
    "staircase",
    "staircase_target",
    "swiss_roll",
]
