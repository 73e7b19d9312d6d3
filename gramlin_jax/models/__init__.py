"""Models of the experiments: Flax Linen modules, pure ``init`` and ``apply``."""

from gramlin_jax.models.cnn import CNN
from gramlin_jax.models.dnn import DNN
from gramlin_jax.models.initializers import torch_bias, torch_kernel
from gramlin_jax.models.vae import VAE, VAELoss, VAEOutputs, vae_loss

__all__ = ["CNN", "DNN", "VAE", "VAELoss", "VAEOutputs", "torch_bias", "torch_kernel", "vae_loss"]
