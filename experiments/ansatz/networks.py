"""Networks of the ansatz, what they learn from, and by which loss and optimiser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gramlin_jax.data import load, staircase

from . import Config, Setting

if TYPE_CHECKING:
    from jaxtyping import Array, Float

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "tanh": jnp.tanh,
    "linear": lambda z: z,
}
LEARNING_RATES = {"sgd": 0.05, "adam": 2e-3, "muon": 0.02}
COMPONENTS = 64
"""Principal components of larger images."""
DIMENSION = 64
"""Of the inputs of ``single_index`` and ``staircase``."""


def init(key: Array, sizes: tuple[int, ...], scale: Any) -> dict[str, Array]:
    """Kernels (in, out) by the number of their layer, N(0, scale²/in)."""
    keys = jax.random.split(key, len(sizes) - 1)
    return {
        str(layer): scale * jax.random.normal(k, (i, o)) / np.sqrt(i)
        for layer, (k, i, o) in enumerate(zip(keys, sizes, sizes[1:], strict=False), 1)
    }


def apply(params: dict[str, Array], x: Array, activation: str) -> Array:
    """Outputs (n, k) of inputs (n, d)."""
    return after(params, 1, x @ params["1"], activation)


def after(params: dict[str, Array], layer: int, z: Array, activation: str) -> Array:
    """Outputs (n, k) of the pre-activations z (n, width) of a layer."""
    for later in range(layer + 1, len(params) + 1):
        z = ACTIVATIONS[activation](z) @ params[str(later)]
    return z


def inputs_of_layers(params: dict[str, Array], x: Array, activation: str) -> list[Array]:
    """What each hidden layer reads, x first."""
    features = [x]
    for layer in range(1, len(params) - 1):
        features.append(ACTIVATIONS[activation](features[-1] @ params[str(layer)]))
    return features


def batch_loss(name: str, outputs: Float[Array, "n k"], targets: Float[Array, "n k"]) -> Array:
    """The mean over samples of a loss named by the setting."""
    if name == "cross_entropy":
        return optax.softmax_cross_entropy(outputs, targets).mean()
    if name == "logistic":  # each class against all others
        return optax.sigmoid_binary_cross_entropy(outputs, targets).sum(-1).mean()
    return ((outputs - targets) ** 2 / 2).sum(-1).mean()


def optimizer(name: str, weight_decay: Any, steps: int) -> optax.GradientTransformation:
    """The optimiser of a setting with a run's weight decay, coupled for SGD.

    The learning rate falls to 0 over the steps, as half a cosine.
    """
    rate = optax.cosine_decay_schedule(LEARNING_RATES[name], steps)
    if name == "adam":
        return optax.adamw(rate, weight_decay=weight_decay)
    if name == "muon":
        return optax.contrib.muon(rate, weight_decay=weight_decay, adam_weight_decay=weight_decay)
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum=0.9))


def training_data(
    config: Config, setting: Setting, data_dir: str | None = None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Inputs (n, d) with mean square 1, targets (n, k), one-hot for classes, and their source."""
    if setting.dataset == "single_index":
        rng = np.random.default_rng(0)
        x = rng.standard_normal((config.samples, DIMENSION))
        y = (x @ np.full(DIMENSION, DIMENSION**-0.5)) ** 2 - 1  # the second Hermite polynomial
        y, source = y[:, None] / np.sqrt(2), "computed"
    elif setting.dataset == "staircase":
        data = staircase(config.samples, DIMENSION)
        x, y, source = data.flat, data.y.reshape(config.samples, -1), data.source
    else:
        data = load(setting.dataset, "train", data_dir=data_dir)
        data = data.take(min(config.samples, len(data)))
        x, y, source = _reduced(data.flat.astype(float)), data.targets, data.source
    if setting.inputs == "rescaled":
        x = x * 10 ** np.random.default_rng(1).uniform(-1, 1, x.shape[1])
    x = x / np.sqrt((x**2).mean())
    return x.astype(np.float32), y.astype(np.float32), source


def _reduced(x: np.ndarray) -> np.ndarray:
    """Rows (n, d), or their coordinates on the first ``COMPONENTS`` principal directions."""
    if x.shape[1] <= COMPONENTS:
        return x
    x = x - x.mean(0)
    directions = np.linalg.eigh(x.T @ x)[1][:, ::-1]
    return x @ directions[:, :COMPONENTS]
