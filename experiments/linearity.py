"""Target linearity of each hidden layer, on the samples of the fit and on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from experiments.classification import layer_sums
from gramlin_jax import Moments, heldout_target_linearity, target_linearity
from gramlin_jax.models import DNN
from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array


def linearity_metrics(model: DNN) -> Callable[[Any, Any, Any], dict[str, Array]]:
    """``measure`` of ``fit``: target linearity of each hidden layer, losses and accuracies.

    Its data are a pair, train and test, each of inputs (n, ...) and labels (n,). Returned are
    ``target_linearity`` and ``heldout`` (of the test samples by the fit on the train samples), each
    (depth,), and scalars ``train_loss``, ``train_accuracy``, ``test_loss``, ``test_accuracy``.
    Hidden layers are equally wide, so that each metric is compiled once for all of them.
    """

    def measure(params: Any, hyper: Any, data: Any) -> dict[str, Array]:
        del hyper
        sums = {
            split: layer_sums(model, params, pair)
            for split, pair in zip(("train", "test"), data, strict=True)
        }
        train, test = (_stacked(sums[split]["moments"]) for split in ("train", "test"))
        return {
            "target_linearity": jax.vmap(target_linearity)(train),
            "heldout": jax.vmap(heldout_target_linearity)(train, test),
            **{
                f"{split}_{name}": sums[split][name]
                for split in sums
                for name in ("loss", "accuracy")
            },
        }

    return measure


@in_float64
def _stacked(layers: list[Moments]) -> Moments:
    """Moments of layers of one width as one, each block with a first axis of layers."""
    return jax.tree.map(lambda *blocks: jnp.stack(blocks), *layers)
