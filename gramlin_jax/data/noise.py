"""Label noise: a share of the labels is replaced by random ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

from gramlin_jax.support.checks import check_count, check_number, is_traced
from gramlin_jax.support.precision import with_promotion

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class LabelNoise(NamedTuple):
    """Random draws from which ``noisy_labels`` replaces any share of n labels.

    Attributes:
        replacements: (n,) int32, uniform over all classes, so a label may be replaced by itself.
        ranks: (n,) float32, the numbers 0, 1/n, … (n − 1)/n in random order. A label is replaced
            if its rank is below the share.
    """

    replacements: Int[np.ndarray, "n"]
    ranks: Float[np.ndarray, "n"]


def label_noise(n: int, num_classes: int, seed: int = 0) -> LabelNoise:
    """Draw the noise of n labels once, for every share of them.

    Raises:
        ValueError: If n < 1 or num_classes < 2.

    Source: Zhang et al., arXiv:1611.03530, partially corrupted labels.

    Example:
        >>> labels = np.zeros(1000, int)
        >>> noise = label_noise(1000, 10)
        >>> [int(np.count_nonzero(noisy_labels(labels, noise, p))) for p in (0.0, 0.5, 1.0)]
        [0, 452, 901]
    """
    check_count("n", n)
    check_count("num_classes", num_classes, 2)
    random = np.random.RandomState(seed)
    replacements = random.randint(num_classes, size=n).astype(np.int32)
    return LabelNoise(replacements, (random.permutation(n) / n).astype(np.float32))


@with_promotion
def noisy_labels(
    labels: Int[Array, "n"], noise: LabelNoise, share: float | Float[Array, ""]
) -> Int[Array, "n"]:
    """Replace a share of the labels by random ones: ŷᵢ = replacementᵢ if rankᵢ < share, else yᵢ.

    Shares are nested: a label replaced at one share has the same new value at every higher share.
    ``share`` may be traced, so one compiled program trains with all shares. Labels and noise may
    both be slices of a batch.

    Args:
        labels: (n,) integers.
        noise: Draws for the same n samples.
        share: In [0, 1]; n·share labels, rounded up, are replaced.

    Raises:
        ValueError: If lengths differ, or (outside ``jit`` and ``vmap``) the share is not in [0, 1].
        TypeError: If labels are not integers.

    Source: Zhang et al., arXiv:1611.03530, partially corrupted labels.

    Example:
        >>> noise = LabelNoise(np.array([2, 2, 2]), np.float32([0, 1 / 3, 2 / 3]))
        >>> noisy_labels(np.array([0, 1, 0]), noise, 0.5).tolist()
        [2, 2, 0]
    """
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels has dtype {labels.dtype}: wanted integers")
    if labels.shape != noise.ranks.shape:
        raise ValueError(
            f"labels has shape {labels.shape} and noise {noise.ranks.shape}: wanted the same shape"
        )
    check_number("share", share)
    if not is_traced(share) and not 0 <= float(share) <= 1:
        raise ValueError(f"share is {float(share)}: wanted a share between 0 and 1")
    threshold = jnp.asarray(share, noise.ranks.dtype)
    return jnp.where(noise.ranks < threshold, noise.replacements, labels)
