"""Sentences of similar length side by side, padded no further than the longest of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

POOL = 50  # batches whose sentences are sorted together
GRID = 8  # tokens: a step is compiled for each multiple of it


def batches_by_length(
    data: Any, mask: np.ndarray, batch_size: int, seed: int
) -> Callable[[int], Iterator[Any]]:
    """``epoch -> batches`` for ``fit``, in an order that follows from the seed and the epoch.

    Fifty batches are drawn at random, sorted by length and cut; then all batches of the epoch are
    shuffled. So a sentence meets others of its length, and little is computed on padding.

    Args:
        data: Pytree of arrays (n, tokens), or (n,) of what belongs to a whole sentence.
        mask: True (n, tokens) where there is a token; padding comes last.
        batch_size: Sentences in a batch; the last one of an epoch may be smaller.
        seed: Of the order.

    Example:
        >>> mask = np.arange(16) < np.array([[3], [16], [4], [2]])
        >>> epoch = batches_by_length(mask.astype(int), mask, 2, seed=0)
        >>> sorted((batch.shape, int(batch.sum())) for batch in epoch(0))
        [((2, 8), 5), ((2, 16), 20)]
    """
    n, pool = len(mask), POOL * batch_size

    def batches(epoch: int) -> Iterator[Any]:
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(n)
        order = np.concatenate([_sorted(order[i : i + pool], mask) for i in range(0, n, pool)])
        for start in rng.permutation(np.arange(0, n, batch_size)):
            yield _trimmed(data, mask, order[start : start + batch_size])

    return batches


def halves_by_length(data: Any, mask: np.ndarray) -> list[Any]:
    """The shorter and the longer half of the sentences, as ``batches_by_length`` trims them."""
    order = _sorted(np.arange(len(mask)), mask)
    return [_trimmed(data, mask, rows) for rows in np.array_split(order, min(2, len(order)))]


def _sorted(rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return rows[np.argsort(mask[rows].sum(1), kind="stable")]


def _trimmed(data: Any, mask: np.ndarray, rows: np.ndarray) -> Any:
    """These rows, without the tokens that all of them leave empty."""
    tokens = -(-mask[rows].sum(1).max() // GRID) * GRID
    return jax.tree.map(lambda a: a[rows, :tokens] if a.ndim > 1 else a[rows], data)
