"""Neural collapse of regression: features and last layer against the targets' covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax._moments.features import CONSTANT, Moments, check_moments
from gramlin_jax.metrics.collapse import directions
from gramlin_jax.metrics.rotation import positive
from gramlin_jax.support.checks import check_array, check_filled, is_traced
from gramlin_jax.support.linalg import at_least, at_most, diagonal, dot, eigh, largest, norm
from gramlin_jax.support.precision import concrete, in_float64, magnitude

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class RegressionCollapse(NamedTuple):
    """Result of ``regression_collapse``: float64 scalars; all but ``gamma`` are 0 at collapse.

    Attributes:
        nrc1: Share of the features' scatter outside its first k principal directions, in [0, 1].
        nrc2: Share of the scatter outside the column space of the kernel (d, k), in [nrc1, 1]. The
            unit of a column does not matter; with columns scaled to norm 1, directions of KᵀK whose
            eigenvalue is below max(64, d)·2⁻⁵² times the largest are treated as absent.
        nrc3: ‖KᵀK/‖KᵀK‖ − M/‖M‖‖² in [0, 4], minimised over γ, with M = Σ_Y^½ − √γ·I.
        gamma: The minimising γ, in [0, λ_min(Σ_Y)].
    """

    nrc1: Float[Array, ""]
    nrc2: Float[Array, ""]
    nrc3: Float[Array, ""]
    gamma: Float[Array, ""]


@in_float64
def regression_collapse(
    m: Moments, kernel: Float[Array, "d k"], target_covariance: Float[Array, "k k"]
) -> RegressionCollapse:
    """NRC1 to NRC3 of features with k regression targets and the last layer's kernel.

    The paper averages over samples, each scaled to norm 1. Here NRC1 and NRC2 are shares of the
    scatter of the centred features, which weights samples by their squared norm and needs only
    moments. For NRC3, M is positive semi-definite for √γ = s in [0, σ_min], where σ are the
    eigenvalues of Σ_Y^½. With a = ⟨KᵀK, Σ_Y^½⟩, t = tr KᵀK, b = tr Σ_Y and τ = tr Σ_Y^½, the cosine
    cos(KᵀK, Σ_Y^½ − sI) is largest at s = (t·b − a·τ)/(t·τ − a·k) or at an end of the interval.

    Args:
        m: Moments of features (n, d), with or without the targets.
        kernel: K (d, k); NRC1 is 0 for k ≥ d.
        target_covariance: Σ_Y (k, k), such as ``np.asarray(moments(targets).feature_scatter) / n``,
            which JAX would cut to float32. It is treated as constant: do not differentiate with
            respect to it.

    Returns:
        Scalars. NRC1 and NRC2 are NaN for features without scatter or moments that are not finite;
        NRC3 and γ are NaN for a kernel or targets of zeros.

    Raises:
        ValueError: If shapes do not match, or (outside transformations) the covariance is not
            symmetric and positive semi-definite, up to 1e-6 of its largest entry.
        TypeError: If ``m`` is not moments in float64.

    Source: Andriopoulos et al., arXiv 2409.04180, section 3.1 and theorem 4.1.

    Example:
        >>> y = jnp.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]])
        >>> h = jnp.concatenate([y, jnp.zeros((4, 3))], axis=1)  # features span the targets alone
        >>> collapse = regression_collapse(moments(h), jnp.eye(5, 2), jnp.diag(jnp.array([0.5, 2])))
        >>> [round(abs(float(x)), 9) for x in (collapse.nrc1, collapse.nrc2)]
        [0.0, 0.0]
    """
    check_moments(m, targets=False)
    kernel = check_array("kernel", kernel, ("d", "k")).astype(jnp.float64)
    covariance = check_array("target_covariance", target_covariance, ("k", "k"))
    check_filled("kernel", kernel)
    d, k = kernel.shape
    if d != len(m.feature_mean):
        raise ValueError(f"kernel has shape {kernel.shape}: wanted ({len(m.feature_mean)}, k)")
    if covariance.shape != (k, k):
        raise ValueError(f"target_covariance has shape {covariance.shape}: wanted ({k}, {k})")
    if not is_traced(covariance):
        _check_covariance(np.asarray(covariance, np.float64))
    return jax.tree.map(concrete, _regression_collapse(m, kernel, covariance.astype(jnp.float64)))


@jax.jit
def _regression_collapse(m: Moments, kernel: Array, covariance: Array) -> RegressionCollapse:
    d, k = kernel.shape
    total = diagonal(m.feature_scatter).sum()
    rounding = m.count * CONSTANT**2 * (m.feature_mean**2).sum()
    total = jnp.where(total > rounding, total, jnp.nan)
    smallest = eigh(m.feature_scatter)[1][:, : max(d - k, 0)]
    basis, dual, _ = directions(_unit_columns(kernel))
    kernel = kernel / lax.stop_gradient(magnitude(kernel))
    nrc3, gamma = _weight_structure(dot(kernel.T, kernel), covariance)
    return RegressionCollapse(
        nrc1=at_least((smallest * dot(m.feature_scatter, smallest)).sum() / total, 0),
        nrc2=at_least(1 - (basis * dot(m.feature_scatter, dual)).sum() / total, 0),
        nrc3=nrc3,
        gamma=gamma,
    )


def _unit_columns(a: Array) -> Array:
    """Columns of length 1 or 0; by their largest entries first, whose squares are finite."""
    a = a / positive(abs(lax.stop_gradient(a)).max(0))[None]
    return a / jnp.sqrt(positive((a**2).sum(0)))[None]


def _check_covariance(covariance: np.ndarray) -> None:
    slack = 1e-6 * abs(covariance).max()
    if abs(covariance - covariance.T).max() > slack:
        raise ValueError("target_covariance is not symmetric: wanted a covariance matrix, Σ_Y")
    if (least := np.linalg.eigvalsh(covariance)[0]) < -slack:
        raise ValueError(f"target_covariance has the eigenvalue {least:.3g}: wanted none below 0")


def _weight_structure(gram: Array, covariance: Array) -> tuple[Array, Array]:
    """``nrc3`` and ``gamma``."""
    # In the eigenvectors of Σ_Y, only the diagonal of KᵀK meets the diagonal M.
    unit = lax.stop_gradient(magnitude(covariance))
    variances, vectors = eigh(lax.stop_gradient(covariance / unit))
    sigma = jnp.sqrt(at_least(variances, 0))
    diagonal = (vectors * dot(gram, vectors)).sum(0)
    a, t = dot(diagonal, sigma), diagonal.sum()
    b, tau = (sigma**2).sum(), sigma.sum()
    slope = t * tau - a * len(sigma)
    inner = (t * b - a * tau) / jnp.where(slope == 0, 1, slope)
    s = jnp.stack([jnp.zeros_like(inner), at_most(at_least(inner, 0), sigma[0]), sigma[0]])
    lengths = jnp.sqrt(((sigma[None] - s[:, None]) ** 2).sum(1))
    there = lengths > 64 * len(sigma) * 2.0**-52 * jnp.linalg.norm(
        sigma
    )  # else M is rounding error
    cosines = (a - s * t) / (norm(gram) * jnp.where(there, lengths, jnp.inf))
    best = jnp.where(there.any(), largest(cosines), jnp.nan)
    top = lax.stop_gradient(cosines).max()
    gamma = largest(jnp.where(cosines == top, -s, -jnp.inf)) ** 2
    return at_least(2 - 2 * best, 0), jnp.where(jnp.isnan(best), jnp.nan, gamma * unit)
