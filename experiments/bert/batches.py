"""Batches of sentences, padded no further than the longest of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

POOL = 50  # batches whose sentences are sorted together by length
GRID = 8  # tokens: a step is compiled for each multiple of it


def trimmed_batches(
    data: Any, mask: np.ndarray, batch_size: int, seed: int, *, by_length: bool = False
) -> Callable[[int], Iterator[Any]]:
    """``epoch -> batches`` for ``fit``, drawn at random by the seed and the epoch.

    By length, fifty batches are drawn, sorted and cut; then all batches of the epoch are shuffled.
    So a sentence meets others of its length, and little is computed on padding. Batches of short
    sentences say less and move the weights as far, so the network may learn less.

    Args:
        data: Pytree of arrays (n, tokens), or (n,) of what belongs to a whole sentence.
        mask: True (n, tokens) where there is a token; padding comes last.
        batch_size: Sentences in a batch; the last one of an epoch may be smaller.
        seed: Of the order.
        by_length: Whether a batch holds sentences of similar length.

    Example:
        >>> mask = np.arange(16) < np.array([[3], [16], [4], [2]])
        >>> epoch = trimmed_batches(mask.astype(int), mask, 2, seed=0, by_length=True)
        >>> sorted((batch.shape, int(batch.sum())) for batch in epoch(0))
        [((2, 8), 5), ((2, 16), 20)]
    """
    n, pool = len(mask), POOL * batch_size

    def batches(epoch: int) -> Iterator[Any]:
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(n)
        if by_length:
            pools = [order[i : i + pool] for i in range(0, n, pool)]
            order = np.concatenate([_sorted(rows, mask) for rows in pools])
        for start in rng.permutation(np.arange(0, n, batch_size)):
            yield _trimmed(data, mask, order[start : start + batch_size])

    return batches


def halves_by_length(data: Any, mask: np.ndarray) -> list[Any]:
    """The shorter and the longer half of the sentences, as ``trimmed_batches`` trims them."""
    order = _sorted(np.arange(len(mask)), mask)
    return [_trimmed(data, mask, rows) for rows in np.array_split(order, min(2, len(order)))]


def _sorted(rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return rows[np.argsort(mask[rows].sum(1), kind="stable")]


def _trimmed(data: Any, mask: np.ndarray, rows: np.ndarray) -> Any:
    """These rows, without the tokens that all of them leave empty."""
    tokens = -(-mask[rows].sum(1).max() // GRID) * GRID
    return jax.tree.map(lambda a: a[rows, :tokens] if a.ndim > 1 else a[rows], data)
