"""The six alignments of the Canonical Representation Hypothesis.

Before a layer z = XK they are between the features' E[hhᵀ], the gradients' E[ggᵀ] and the weights'
WᵀW = KKᵀ; after it between E[zzᵀ], E[δδᵀ] and WWᵀ = KᵀK. Here g = δKᵀ, z has no bias, and no mean
is subtracted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp

from gramlin_jax._moments.features import Moments, check_moments
from gramlin_jax._moments.gradients import GradientMoments, check_gradients
from gramlin_jax.metrics.cosines import cosine
from gramlin_jax.support.checks import check_array, check_filled
from gramlin_jax.support.linalg import dot
from gramlin_jax.support.precision import concrete, in_float64, magnitude

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class RepresentationAlignments(NamedTuple):
    """Result of ``representation_alignments``: cosines in [0, 1], of semi-definite matrices.

    Attributes:
        rga_before: Of E[hhᵀ] and E[ggᵀ], features and gradients.
        rwa_before: Of E[hhᵀ] and WᵀW, features and weights.
        gwa_before: Of E[ggᵀ] and WᵀW, gradients and weights.
        rga_after: Of E[zzᵀ] and E[δδᵀ].
        rwa_after: Of E[zzᵀ] and WWᵀ.
        gwa_after: Of E[δδᵀ] and WWᵀ.
    """

    rga_before: Float[Array, ""]
    rwa_before: Float[Array, ""]
    gwa_before: Float[Array, ""]
    rga_after: Float[Array, ""]
    rwa_after: Float[Array, ""]
    gwa_after: Float[Array, ""]


@in_float64
def representation_alignments(
    m: Moments, kernel: Float[Array, "i o"], gradients: GradientMoments
) -> RepresentationAlignments:
    """The six cosines between features, gradients and weights, before and after a layer.

    Each is 1 where the Canonical Representation Hypothesis holds. Two unrelated positive
    semi-definite matrices have a positive cosine too: compare ``alignment_null``.

    Args:
        m: Moments of the layer's features (n, i), the rows that the kernel multiplies.
        kernel: K (i, o).
        gradients: Gradient moments of the same layer, with ``output_sum``.

    Returns:
        Six float64 scalars; NaN where a matrix is zero.

    Raises:
        ValueError: If shapes do not match, or the gradient moments have no ``output_sum``.
        TypeError: If ``m`` is not moments in float64, the kernel not floating point, or
            ``gradients`` are no gradient moments.

    Source: arXiv 2410.03006, section 3.

    Example:
        >>> x, params = jnp.eye(2), {"w": jnp.eye(2)}
        >>> g = gradient_moments(lambda p, x: x @ p["w"], params, x, loss=lambda z: (z**2).mean())
        >>> [round(float(c), 6) for c in representation_alignments(moments(x), params["w"], g["w"])]
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    found = []
    for h, g, w in representation_matrices(m, kernel, gradients):
        found += [cosine(h, g), cosine(h, w), cosine(g, w)]
    return RepresentationAlignments(*map(concrete, found))


@in_float64
def representation_matrices(
    m: Moments, kernel: Float[Array, "i o"], gradients: GradientMoments
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """(HᵀH, gᵀg, KKᵀ) before the layer and (ZᵀZ, ΔᵀΔ, KᵀK) after it, each in some unit.

    Raises:
        ValueError: As ``representation_alignments``.
        TypeError: As ``representation_alignments``.
    """
    check_moments(m, targets=False)
    check_gradients(gradients)
    kernel = check_array("kernel", kernel, ("i", "o")).astype(jnp.float64)
    check_filled("kernel", kernel)
    h, delta = (jnp.asarray(a) for a in (m.feature_products, gradients.output_products))
    if h.shape[0] != kernel.shape[0] or delta.shape[0] != kernel.shape[1]:
        raise ValueError(
            f"kernel has shape {kernel.shape}, the features {h.shape[0]} columns and the gradients "
            f"{delta.shape[0]}: wanted those of one layer"
        )
    h, delta, kernel = (a / magnitude(a) for a in (h, delta, kernel))
    before = h, dot(dot(kernel, delta), kernel.T), dot(kernel, kernel.T)
    after = dot(dot(kernel.T, h), kernel), delta, dot(kernel.T, kernel)
    return before, after
