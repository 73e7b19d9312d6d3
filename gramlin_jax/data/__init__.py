"""Data sets: images and text, embedded, read from files or through TFDS, or synthetic."""

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
from gramlin_jax.data.text import IGNORED, Text, Tokens, tokenize, wordpiece
from gramlin_jax.data.text_sets import TEXTS, UPOS, read_conllu, read_tsv

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
    # text
    "IGNORED",
    "TEXTS",
    "UPOS",
    "Text",
    "Tokens",
    "read_conllu",
    "read_tsv",
    "tokenize",
    "wordpiece",
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
