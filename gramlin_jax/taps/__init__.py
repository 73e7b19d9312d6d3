"""Taps: what flows through every linear layer of a JAX function."""

from gramlin_jax.taps.interpreter import Tap
from gramlin_jax.taps.layers import Layers, Leaf, Site
from gramlin_jax.taps.transform import Program, find_layers, tap

__all__ = ["Layers", "Leaf", "Program", "Site", "Tap", "find_layers", "tap"]
