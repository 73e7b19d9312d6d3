"""Models of the experiments: Flax Linen modules, pure ``init`` and ``apply``."""

from gramlin_jax.models.cnn import CNN
from gramlin_jax.models.dnn import DNN
from gramlin_jax.models.initializers import torch_bias, torch_kernel

__all__ = ["CNN", "DNN", "torch_bias", "torch_kernel"]
