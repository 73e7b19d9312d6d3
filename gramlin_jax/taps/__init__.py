"""Taps: what flows through every linear layer of a JAX function."""

from gramlin_jax.taps.interpreter import Tap
from gramlin_jax.taps.layers import Layers, Leaf, Site
from gramlin_jax.taps.traced import Traced, capture, recall, trace
from gramlin_jax.taps.transform import find_layers, tap

__all__ = [
    "Layers",
    "Leaf",
    "Site",
    "Tap",
    "Traced",
    "capture",
    "find_layers",
    "recall",
    "tap",
    "trace",
]
