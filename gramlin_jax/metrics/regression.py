"""Least squares from moments, with or without a ridge, by a symmetric eigendecomposition."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gramlin_jax._moments.features import CONSTANT, Moments, check_moments
from gramlin_jax.support.checks import check_at_least, check_number
from gramlin_jax.support.linalg import diagonal, dot, eigh, inverse_root, rank_tolerance
from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LeastSquares(NamedTuple):
    """Result of ``least_squares``, in float64.

    Attributes:
        coefficients: B (d, k).
        explained: ‖Y‖² − ‖Y − HB‖² − ρ‖B‖², a scalar. Without a ridge, it is the part of the sum of
            squares that the fit explains.
        shrinkage: λ/(λ + ρ) (d,) for the eigenvalues λ of HᵀH, ascending. Without a ridge, it is 1
            for a fitted direction and 0 for an absent one.
        rank: Σ shrinkage, a scalar: the number of fitted directions, or with a ridge the effective
            number of parameters.
    """

    coefficients: Float[Array, "d k"]
    explained: Float[Array, ""]
    shrinkage: Float[Array, "d"]
    rank: Float[Array, ""]


@in_float64
def least_squares(
    m: Moments, *, intercept: bool = True, ridge: float = 0.0, rtol: float | None = None
) -> LeastSquares:
    """Least squares of Y on H, B = (HᵀH + ρI)⁺HᵀY; an intercept centres H and Y.

    Without a ridge, columns are scaled to unit variance before the rank is determined: see
    ``target_linearity``. With one, every direction is kept and columns are used as they are.

    Args:
        m: Moments of features H (n, d) and targets Y (n, k); k = 0 gives the rank alone.
        intercept: Fit Y ≈ HB + 1bᵀ instead of Y ≈ HB.
        ridge: ρ ≥ 0.
        rtol: As in ``target_linearity``, for ρ = 0.

    Returns:
        See ``LeastSquares``; all NaN where a moment is not finite. Derivatives, of any order, are
        those of the fit at a fixed rank.

    Raises:
        ValueError: If the moments are stacked (use ``jax.vmap``), ``ridge`` is negative, or
            ``rtol`` is not in [0, 1).
        TypeError: If ``m`` is not moments in float64.

    Source: Hastie, Tibshirani and Friedman (2009), section 3.4.1.

    Example:
        >>> h = jnp.array([[0.0], [1], [2]])
        >>> round(least_squares(moments(h, 3 * h + 1)).coefficients.item(), 12)
        3.0
        >>> least_squares(moments(h, h), intercept=False, ridge=5.0).coefficients.item()
        0.5
    """
    check_moments(m, targets=False)
    check_number("ridge", ridge)
    check_at_least("ridge", ridge, 0)
    return _least_squares(m, intercept, default_rtol(m, rtol), ridge)


@functools.partial(jax.jit, static_argnames="intercept")
def _least_squares(m: Moments, intercept: bool, rtol: float, ridge: float) -> LeastSquares:
    fit = regress(m, intercept, rtol, ridge)
    return fit._replace(explained=fit.explained.sum())


def regress(m: Moments, intercept: bool, rtol: float, ridge: float = 0.0) -> LeastSquares:
    """``least_squares`` without checks, with ``explained`` by target, (k,).

    To be called inside ``in_float64`` and ``jit``.
    """
    if intercept:
        gram, cross = m.feature_scatter, m.cross_scatter
        squares = without_constants(diagonal(gram), m.feature_mean, m.count)
    else:
        gram, cross = m.feature_products, m.cross_products
        squares = diagonal(gram)
    # A ridge penalises the columns in their own scale, and needs no rank.
    penalised = jnp.asarray(ridge) > 0
    norms = jnp.where(penalised & (squares > 0), 1.0, squares)
    scale = jnp.where(norms > 0, lax.rsqrt(jnp.where(norms > 0, norms, 1.0)), 0.0)
    scale = lax.stop_gradient(scale)[:, None]
    scaled = gram * scale * scale.T
    eigenvalues, vectors = eigh(scaled)
    present = eigenvalues > jnp.where(penalised, 0.0, rtol * eigenvalues[-1])
    eigenvalues = jnp.where(present, eigenvalues, 0.0)
    known = lax.stop_gradient((eigenvalues, vectors))
    root = scale * inverse_root(scaled, *known, jnp.asarray(ridge, gram.dtype))
    parts = dot(root.T, cross)
    b = dot(root, parts)
    # One Newton step of refinement, which removes rounding.
    b = b + dot(root, dot(root.T, cross - dot(gram, b) - ridge * b))
    shares = eigenvalues / jnp.where(present, eigenvalues + ridge, 1.0)
    shrinkage = jnp.where(penalised, shares, present)
    # NaN would compare as an absent direction: it is passed on explicitly.
    finite = jnp.isfinite(gram).all() & jnp.isfinite(cross).all()
    fit = LeastSquares(b, (parts**2).sum(0), shrinkage, shrinkage.sum())
    return jax.tree.map(lambda a: jnp.where(finite, a, jnp.nan), fit)


def without_constants(squares: Array, mean: Array, count: Array) -> Array:
    """Centred sums of squares, set to 0 for columns that are constant up to rounding."""
    # By roots: squares of means may leave float64.
    bound = CONSTANT * jnp.sqrt(count) * abs(mean)
    return jnp.where(jnp.sqrt(lax.stop_gradient(squares)) <= bound, 0.0, squares)


def default_rtol(m: Moments, rtol: float | None) -> float:
    """``rtol``, or the rounding error of a scatter of this size.

    Raises:
        ValueError: If it is concrete and not in [0, 1).
    """
    if rtol is None:
        return rank_tolerance(m.feature_mean.shape[0])
    known = check_number("rtol", rtol)
    if known is not None and not 0 <= known < 1:
        raise ValueError(f"rtol is {rtol}: wanted a share of the largest eigenvalue in [0, 1)")
    return rtol
