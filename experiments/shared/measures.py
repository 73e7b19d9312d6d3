"""What networks for classification are measured by, layer by layer, as they train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import optax

from gramlin_jax import (
    Moments,
    accumulate,
    heldout_target_linearity,
    moments,
    target_linearity,
)
from gramlin_jax.models import DNN
from gramlin_jax.support.precision import in_float64
from gramlin_jax.training import SampleLoss, hits

if TYPE_CHECKING:
    from jaxtyping import Array


@dataclasses.dataclass(frozen=True)
class Reading:
    """A network that returns what ``read`` makes of its hidden features in their place."""

    model: Any
    read: Callable[[list[Array]], list[Array]]

    @property
    def out(self) -> int:
        """Number of outputs."""
        return cast("int", self.model.out)

    def init(self, key: Array, x: Array) -> Any:
        """Parameters."""
        return self.model.init(key, x)

    def apply(self, params: Any, x: Array) -> tuple[Array, list[Array]]:
        """Outputs (n, out), and what ``read`` returns."""
        outputs, features = self.model.apply(params, x)
        return outputs, self.read(features)


def layer_sums(
    model: Any,
    params: Any,
    data: tuple[Array, Array],
    per_sample: SampleLoss = optax.softmax_cross_entropy_with_integer_labels,
) -> dict[str, Any]:
    """One streaming pass: moments of each hidden layer with one-hot labels, loss and accuracy.

    Args:
        model: The network, with ``out`` classes; ``apply`` returns logits and hidden features.
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
            "accuracy": jnp.sum(hits(logits, labels)),
        }

    total = accumulate(sums, data)
    n = len(data[1])
    return {**total, "loss": total["loss"] / n, "accuracy": total["accuracy"] / n}


def scores(on_train: Mapping[str, Any], on_test: Mapping[str, Any]) -> dict[str, Array]:
    """``train_loss``, ``train_accuracy``, ``test_loss`` and ``test_accuracy`` of ``layer_sums``."""
    sums = {"train": on_train, "test": on_test}
    return {f"{split}_{name}": sums[split][name] for split in sums for name in ("loss", "accuracy")}


def linearity_metrics(model: DNN) -> Callable[[Any, Any, Any], dict[str, Array]]:
    """``measure`` of ``fit``: target linearity of each hidden layer, losses and accuracies.

    Its data are a pair, train and test, each of inputs (n, ...) and labels (n,). Returned are
    ``target_linearity`` and ``heldout`` (of the test samples by the fit on the train samples), each
    (depth,), and scalars ``train_loss``, ``train_accuracy``, ``test_loss``, ``test_accuracy``.
    Hidden layers are equally wide, so that each metric is compiled once for all of them.
    """

    def measure(params: Any, hyper: Any, data: Any) -> dict[str, Array]:
        del hyper
        on_train, on_test = (layer_sums(model, params, pair) for pair in data)
        train, test = (_stacked(sums["moments"]) for sums in (on_train, on_test))
        return {
            "target_linearity": jax.vmap(target_linearity)(train),
            "heldout": jax.vmap(heldout_target_linearity)(train, test),
            **scores(on_train, on_test),
        }

    return measure


@in_float64
def _stacked(layers: list[Moments]) -> Moments:
    """Moments of layers of one width as one, each block with a first axis of layers."""
    return jax.tree.map(lambda *blocks: jnp.stack(blocks), *layers)
