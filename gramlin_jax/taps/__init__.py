"""Taps: what flows through every linear layer of a JAX function."""

from gramlin_jax.taps.interpreter import Tap
from gramlin_jax.taps.layers import Layers, Leaf, Site
from gramlin_jax.taps.transform import Program, Static, find_layers, partition, tap

__all__ = ["Layers", "Leaf", "Program", "Site", "Static", "Tap", "find_layers", "partition", "tap"]
