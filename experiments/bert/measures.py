"""Target linearity of every state of a BERT, and how well its head does."""

from __future__ import annotations

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
    target_linearity,
)
from gramlin_jax.data import IGNORED
from gramlin_jax.training import hits

from ..shared.measures import scores

if TYPE_CHECKING:
    from jaxtyping import Array

    from gramlin_jax.models.bert import BertClassifier

BATCH = 64  # samples


def weighted_loss(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Cross-entropy of every row, 0 where the label is ``IGNORED``, and the weights 0 and 1."""
    weights = (labels != IGNORED).astype(jnp.float32)
    known = jnp.where(weights > 0, labels, 0)
    logits = logits.astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, known)
    return losses * weights, weights


def state_sums(model: BertClassifier, params: Any, data: Any) -> dict[str, Any]:
    """One pass: moments of each state with one-hot labels, stacked; mean loss and accuracy.

    Args:
        model: Its states are read at [CLS], or at every token that has a label.
        params: Its parameters.
        data: Parts that may differ in their number of tokens, each a pair of ``(ids, mask, types)``
            and labels (n,) or (n, tokens).
    """

    def sums(batch: Any) -> Any:
        x, labels = batch
        logits, hidden = cast("tuple[Array, tuple[Array, ...]]", model.apply(params, *x))
        rows = hidden if model.per_token else [state[:, 0] for state in hidden]
        losses, weights = weighted_loss(logits, labels)
        targets = jax.nn.one_hot(labels.reshape(-1), model.classes)
        states = [
            moments(
                state.reshape(-1, state.shape[-1]).astype(jnp.float32), targets,
                weights=weights.reshape(-1),
            )
            for state in rows
        ]  # fmt: skip
        stacked = jax.tree.map(lambda *blocks: jnp.stack(blocks), *states)
        right = jnp.where(weights > 0, hits(logits, labels), 0).sum()
        return stacked, losses.sum(), right, weights.sum()

    parts = (accumulate(sums, part, batch_size=BATCH) for part in data)
    states, loss, right, count = accumulate(lambda part: part, parts)
    return {"moments": states, "loss": loss / count, "accuracy": right / count}


def state_metrics(model: BertClassifier) -> Callable[[Any, Any, Any], dict[str, Array]]:
    """``measure`` of ``train``: metrics of each state (layers + 1,), losses and accuracies ().

    Its data are a pair, train and test, each as in ``state_sums``. ``heldout`` is that of the test
    samples by the fit on the training samples.
    """

    def measure(params: Any, hyper: Any, data: Any) -> dict[str, Array]:
        del hyper
        on_train, on_test = (state_sums(model, params, split) for split in data)
        train, test = on_train["moments"], on_test["moments"]
        return {
            "target_linearity": jax.vmap(target_linearity)(train),
            "heldout": jax.vmap(heldout_target_linearity)(train, test),
            "noise_floor": jax.vmap(noise_floor)(train),
            **scores(on_train, on_test),
        }

    return measure
