"""Losses that ``fit`` trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from gramlin_jax.support.accuracy import hits
from gramlin_jax.training.program import Hyper, Loss

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

SampleLoss: TypeAlias = "Callable[[Array, Array], Array]"


def classification_loss(
    apply: Callable[..., Any],
    per_sample: SampleLoss = optax.softmax_cross_entropy_with_integer_labels,
) -> Loss:
    """The mean loss over batches (x, labels), and ``accuracy``.

    A label outside of [0, C) makes the loss NaN, of which ``WarnOfDivergence`` warns.

    Args:
        apply: ``(params, x) -> (logits, features)``, as a model of this package has it.
        per_sample: ``(logits, labels) -> losses``, from (n, C) and integers (n,) to (n,); the
            softmax cross-entropy unless given.

    Returns:
        ``(params, batch, key, hyper) -> (loss, {"accuracy": ...})``, scalars.

    Raises:
        TypeError: From the loss, if a batch is no pair of arrays, x is not of floating point,
            labels are not integers (n,), or ``apply`` does not return (logits, features).

    Example:
        >>> loss = classification_loss(lambda params, x: (x @ params, None))
        >>> value, metrics = loss(jnp.eye(3), (jnp.eye(3), jnp.arange(3)), None, {})
        >>> print(f"{value:.4f} {metrics['accuracy']:.0f}")
        0.5514 1
    """

    def loss(params: PyTree, batch: Any, key: Array, hyper: Hyper) -> Any:
        del key, hyper
        if not _is_pair(batch):
            shapes = jax.tree.map(jnp.shape, batch)
            raise TypeError(f"batch has shapes {shapes}: wanted a pair of arrays (x, labels)")
        x, labels = batch
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"x has dtype {x.dtype}: wanted floating point; divide pixels by 255")
        if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.ndim != 1:
            raise TypeError(f"labels are {labels.dtype}{list(labels.shape)}: wanted integers (n,)")
        logits = _logits(apply(params, x))
        losses = per_sample(logits, labels)
        known = (labels >= 0) & (labels < logits.shape[-1])
        loss = jnp.where(known, losses, jnp.nan).mean()
        return loss, {"accuracy": jnp.mean(hits(logits, labels))}

    return loss


def _is_pair(batch: Any) -> bool:
    arrays = isinstance(batch, tuple | list) and all(hasattr(part, "dtype") for part in batch)
    return arrays and len(batch) == 2


def _logits(output: Any) -> Array:
    """The first of a pair; two rows of logits alone are not taken for one."""
    pair = isinstance(output, tuple | list) and len(output) == 2
    if not (pair and getattr(output[0], "ndim", 0) == 2):
        shapes = jax.tree.map(jnp.shape, output)
        raise TypeError(
            f"apply returned shapes {shapes}: wanted (logits (n, C), features); for logits alone, "
            "lambda params, x: (apply(params, x), None)"
        )
    return output[0]
