"""Label noise: replacing a share of the labels by random ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class LabelNoise(NamedTuple):
    """What ``noisy_labels`` needs to replace any share of n labels.

    Attributes:
        replacements: (n,) int32, uniform over the classes; a sample's own among them.
        ranks: (n,) float32, the numbers 0, 1/n, … (n − 1)/n in random order; a label is replaced
            where its rank is below the share.
    """

    replacements: Int[np.ndarray, "n"]
    ranks: Float[np.ndarray, "n"]


def label_noise(n: int, num_classes: int, seed: int = 0) -> LabelNoise:
    """Draw the noise of n labels once, for all shares that are replaced.

    Raises:
        ValueError: If n < 1 or num_classes < 2.

    Example:
        >>> labels = np.zeros(1000, int)
        >>> noise = label_noise(1000, 10)
        >>> [int(np.count_nonzero(noisy_labels(labels, noise, p))) for p in (0.0, 0.5, 1.0)]
        [0, 449, 895]
    """
    for name, value, least in (("n", n, 1), ("num_classes", num_classes, 2)):
        if value < least:
            raise ValueError(f"{name} is {value}: pass at least {least}")
    random = np.random.RandomState(seed)
    replacements = random.randint(num_classes, size=n).astype(np.int32)
    return LabelNoise(replacements, (random.permutation(n) / n).astype(np.float32))


def noisy_labels(
    labels: Int[Array, "n"], noise: LabelNoise, share: float | Float[Array, ""]
) -> Int[Array, "n"]:
    """Labels of which a share is replaced by those of ``noise``.

    The samples that are replaced at a share are among those of any higher one, and have the same
    new labels. ``share`` may be traced, so that one program trains with all shares; labels, and the
    noise's arrays, may be those of a batch.

    Args:
        labels: (n,) integers.
        noise: Of as many labels.
        share: Between 0 and 1: n·share labels, rounded up, are replaced.

    Raises:
        ValueError: If lengths differ, or (outside of ``jit`` and ``vmap``) the share is not in
            [0, 1].
        TypeError: If labels are not integers.

    Source: Zhang et al., arXiv:1611.03530, partially corrupted labels.
    """
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels has dtype {labels.dtype}: pass integers")
    if labels.shape != noise.ranks.shape:
        raise ValueError(
            f"labels has shape {labels.shape} and noise {noise.ranks.shape}: pass one of each a "
            "sample"
        )
    if not isinstance(share, jax.core.Tracer) and not 0 <= float(share) <= 1:
        raise ValueError(f"share is {float(share)}: pass a share between 0 and 1")
    threshold = jnp.asarray(share, noise.ranks.dtype)
    return jnp.where(noise.ranks < threshold, noise.replacements, labels)
