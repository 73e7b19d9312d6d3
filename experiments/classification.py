"""Training the paper's fully connected network on a data set, measured layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import optax

from gramlin_jax import (
    accumulate,
    heldout_target_linearity,
    moments,
    noise_floor,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
)
from gramlin_jax.models import DNN
from gramlin_jax.training import SampleLoss

if TYPE_CHECKING:
    from jaxtyping import Array


def rate_or_schedule(config: Any, rate: Any, n: int) -> Any:
    """``rate``, or where ``config.decay`` half a cosine from it to 0 in all steps on n samples."""
    steps = config.epochs * math.ceil(n / config.batch_size)
    return optax.cosine_decay_schedule(rate, steps) if config.decay else rate


def layer_sums(
    model: DNN,
    params: Any,
    data: tuple[Array, Array],
    per_sample: SampleLoss = optax.softmax_cross_entropy_with_integer_labels,
) -> dict[str, Any]:
    """One streaming pass: moments of each hidden layer with one-hot labels, loss and accuracy.

    Args:
        model: The network.
        params: Its parameters.
        data: Inputs (n, ...) and integer labels (n,).
        per_sample: ``(logits, labels) -> losses``, from (n, C) and (n,) to (n,).

    Returns:
        ``moments``, a list over hidden layers; ``loss`` and ``accuracy``, means over samples.
    """

    def sums(batch: tuple[Array, Array]) -> dict[str, Any]:
        x, labels = batch
        with jax.default_matmul_precision("highest"):
            logits, features = cast("tuple[Array, list[Array]]", model.apply(params, x))
        targets = jax.nn.one_hot(labels, model.out)
        losses = per_sample(logits, labels)
        return {
            "moments": [moments(h, targets) for h in features],
            "loss": losses.sum(),
            "accuracy": jnp.sum(logits.argmax(-1) == labels),
        }

    total = accumulate(sums, data)
    n = len(data[1])
    return {**total, "loss": total["loss"] / n, "accuracy": total["accuracy"] / n}


def layer_metrics(model: DNN) -> Callable[[Any, Any, Any], dict[str, Array]]:
    """``measure`` of ``fit``: metrics of each hidden layer (depth,), losses and accuracies ().

    Its data are a pair, train and test, each of inputs (n, ...) and labels (n,). A layer's
    surrogate goes with the kernel that reads it, the next layer's.
    """

    def measure(params: Any, hyper: Any, data: Any) -> dict[str, Array]:
        del hyper
        on_train, on_test = (layer_sums(model, params, split) for split in data)
        layers = on_train["moments"]
        kernels = [params["params"][f"Dense_{i + 1}"]["kernel"] for i in range(model.depth)]
        pairs = list(zip(layers, on_test["moments"], strict=True))
        return {
            "target_linearity": jnp.stack([target_linearity(m) for m in layers]),
            "adjusted": jnp.stack([target_linearity_adjusted(m) for m in layers]),
            "noise_floor": jnp.stack([noise_floor(m) for m in layers]),
            "heldout": jnp.stack([heldout_target_linearity(a, b) for a, b in pairs]),
            "surrogate": jnp.stack([surrogate(m, k) for m, k in zip(layers, kernels, strict=True)]),
            **{f"train_{name}": on_train[name] for name in ("loss", "accuracy")},
            **{f"test_{name}": on_test[name] for name in ("loss", "accuracy")},
        }

    return measure
