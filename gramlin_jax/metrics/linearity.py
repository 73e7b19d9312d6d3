"""Target linearity: the share of the target that is linear in the features.

All of it is read off ``Moments``. Ordinary least squares is solved in float64 by a symmetric
eigendecomposition of the features' scatter, columns scaled to unit variance first; directions
with an eigenvalue below ``rtol`` times the largest are not there (rank), which is √rtol ≈ 1e-7 of
the largest singular value.

The rounding of float32 features is part of the data: with means r times their deviations it is
noise of about r·6e-8 in each column, so features in a subspace have full rank once r is above 10
or so. Pass ``rtol`` of a few times (r·6e-8)² to leave that noise out.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gramlin_jax._moments.features import CONSTANT, Moments, check_moments
from gramlin_jax.support.checks import check_array
from gramlin_jax.support.precision import dot, eigh, in_float64, rank_tolerance

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def target_linearity(
    m: Moments, *, intercept: bool = True, rtol: float | None = None
) -> Float[Array, ""]:
    """Target linearity TL = 1 − ‖Y − Ŷ‖² / ‖Y − Ȳ‖², Ŷ the least-squares fit of Y on H.

    In [0, 1] to rounding, higher is more linear. Invariant under invertible affine maps of the
    features; 1 when Y is affine in H (or n ≤ rank + 1: compare ``noise_floor``). For balanced
    one-hot targets TL = tr(Σ_T⁻¹Σ_B)/(C − 1), the link to neural collapse. Columns of targets are
    weighed by their variance. Collinear, duplicate and constant columns of H change nothing.

    Args:
        m: Moments of features (n, d) and targets (n, k).
        intercept: Fit Y ≈ HB + 1bᵀ; without it Y ≈ HB, whose TL can be negative and which for
            centred targets is the definition of the paper's code.
        rtol: Rank tolerance on eigenvalues of the column-scaled scatter; None: max(64, d)·2⁻⁵².

    Returns:
        A float64 scalar, wrong by at most about 1e-16·cond² for features of condition number cond
        (columns scaled), and by far less unless the targets lie in the smallest directions. NaN
        where it is undefined: targets without variance, one sample, NaN or infinity in the
        moments; outside of transformations a RuntimeWarning then gives the reason.

    Raises:
        ValueError: If the moments hold no targets, or are stacked (use ``jax.vmap``).

    Source: arXiv 2605.06258, section 4 (target linearity).

    Example:
        >>> h = jax.random.normal(jax.random.key(0), (100, 5))
        >>> m = moments(h, h @ jnp.ones((5, 2)) + 3)
        >>> round(float(target_linearity(m)), 12)
        1.0
    """
    check_moments(m)
    value = _target_linearity(m, intercept, _default_rtol(m, rtol))
    return _with_reason("target_linearity", value, m)


def target_linearity_adjusted(m: Moments, *, rtol: float | None = None) -> Float[Array, ""]:
    """Adjusted target linearity 1 − (1 − TL)(n − 1)/(n − p − 1), p the fitted directions.

    Its expectation is 0, not p/(n − 1), for targets that are noise, so layers of different rank
    compare. At most 1; negative where the features explain less than noise would.

    Args:
        m: Moments of features (n, d) and targets (n, k).
        rtol: As in ``target_linearity``.

    Returns:
        A float64 scalar; NaN where TL is, and where n ≤ p + 1 (the fit is saturated).

    Raises:
        ValueError: As ``target_linearity``.

    Source: the adjusted R² of Wherry (1931), without its last approximation.
    """
    check_moments(m)
    value = _adjusted(m, _default_rtol(m, rtol))
    return _with_reason("target_linearity_adjusted", value, m)


def noise_floor(m: Moments, *, rtol: float | None = None) -> Float[Array, ""]:
    """The target linearity expected of pure noise, p/(n − 1), p the fitted directions.

    Exact in expectation for targets that are independent of the features. In [0, 1].

    Args:
        m: Moments of features (n, d), with or without targets.
        rtol: As in ``target_linearity``.

    Returns:
        A float64 scalar; NaN for one sample and for moments that are not finite.

    Raises:
        ValueError: If the moments are stacked (use ``jax.vmap``).
    """
    check_moments(m, targets=False)
    return _with_reason("noise_floor", _noise_floor(m, _default_rtol(m, rtol)), m)


def heldout_target_linearity(
    train: Moments, test: Moments, *, rtol: float | None = None
) -> Float[Array, ""]:
    """Target linearity on samples that the fit has not seen: 1 − ‖Y − Ŷ‖² / ‖Y − Ȳ‖² on ``test``.

    The regression (with intercept) is fitted on ``train`` alone; Ȳ is the test mean, as in the
    usual R² score. At most 1, and negative where the fit is worse than that mean. From moments:
    with B of ``train``, δh and δy the differences of the means (test − train),
    ‖Y − Ŷ‖² = tr S_yy − 2 tr BᵀS_hy + tr BᵀS_hhB + n‖δy − Bᵀδh‖² over the blocks of ``test``.

    Args:
        train: Moments of the features and targets that are fitted.
        test: Moments of those that are scored, of the same widths.
        rtol: As in ``target_linearity``.

    Returns:
        A float64 scalar; NaN where the test targets have no variance or a moment is not finite.

    Raises:
        ValueError: If widths differ, or as ``target_linearity``.
    """
    check_moments(train, name="train")
    check_moments(test, name="test")
    if train.cross_scatter.shape != test.cross_scatter.shape:
        raise ValueError(
            f"train has (features, targets) widths {train.cross_scatter.shape} and test "
            f"{test.cross_scatter.shape}: wanted moments of the same layer and targets in both"
        )
    value = _heldout(train, test, _default_rtol(train, rtol))
    return _with_reason("heldout_target_linearity", value, train, test)


@in_float64
def surrogate(
    m: Moments, kernel: Float[Array, "d o"], *, normalized: bool = False
) -> Float[Array, ""]:
    """The surrogate of target linearity: the mean over target columns of yᵀZZᵀy, Z = HK.

    Equals ‖Kᵀ HᵀY_c‖² / k, Y_c the centred targets; never an (n, n) matrix. Not negative and not
    bounded: it grows with the scale of features, kernel and n. Normalised it is divided by
    ‖Z‖²‖Y_c‖²/k, which puts it in [0, 1].

    Args:
        m: Moments of features H (n, d) and targets Y (n, k).
        kernel: K (d, o) of the layer that reads these features.
        normalized: Divide by ‖Z‖²‖Y_c‖²/k, with Z not centred.

    Returns:
        A float64 scalar; NaN for NaN in the moments, and normalised also where Z or Y_c is 0.

    Raises:
        ValueError: If the moments hold no targets or ``kernel`` has not d rows.
        TypeError: If ``kernel`` is not of floating point.

    Source: arXiv 2605.06258, section 4 (the trace that a step of the Gram increases).
    """
    check_moments(m)
    kernel = check_array("kernel", kernel, ("d", "o"))
    if kernel.shape[0] != m.feature_mean.shape[0]:
        raise ValueError(
            f"kernel has shape {kernel.shape} and the moments {m.feature_mean.shape[0]} features: "
            "wanted one row a feature, (in, out) as in Flax; transpose a PyTorch weight"
        )
    return _surrogate(m, kernel, normalized)


@in_float64
@functools.partial(jax.jit, static_argnames="intercept")
def _target_linearity(m: Moments, intercept: bool, rtol: float) -> Array:
    total = _variation(m)
    fit = _regress(m, intercept, rtol)
    if intercept:
        return fit.explained / total
    return 1 - (m.target_products.sum() - fit.explained) / total


@in_float64
@jax.jit
def _adjusted(m: Moments, rtol: float) -> Array:
    fit = _regress(m, True, rtol)
    left = m.count - fit.rank - 1
    unexplained = 1 - fit.explained / _variation(m)
    return jnp.where(left > 0, 1 - unexplained * (m.count - 1) / left, jnp.nan)


@in_float64
@jax.jit
def _noise_floor(m: Moments, rtol: float) -> Array:
    return jnp.where(m.count > 1, _regress(m, True, rtol).rank / (m.count - 1), jnp.nan)


@in_float64
@jax.jit
def _heldout(train: Moments, test: Moments, rtol: float) -> Array:
    b = _regress(train, True, rtol).coefficients
    h, y = test.feature_mean - train.feature_mean, test.target_mean - train.target_mean
    residual = (
        test.target_scatter.sum()
        - 2 * jnp.sum(b * test.cross_scatter)
        + jnp.sum(b * dot(test.feature_scatter, b))
        + test.count * jnp.sum((y - dot(h, b)) ** 2)
    )
    return 1 - residual / _variation(test)


@functools.partial(jax.jit, static_argnames="normalized")
def _surrogate(m: Moments, kernel: Array, normalized: bool) -> Array:
    kernel = kernel.astype(jnp.float64)
    squares = jnp.sum(dot(kernel.T, m.cross_scatter) ** 2)
    if not normalized:
        return squares / m.target_mean.shape[0]
    scale = jnp.sum(kernel * dot(m.feature_products, kernel)) * _variation(m)
    return jnp.where(scale > 0, squares / jnp.where(scale > 0, scale, 1.0), jnp.nan)


class _Regression(NamedTuple):
    coefficients: Array  # B (d, k)
    explained: Array  # tr Bᵀ(HᵀY), what the fit takes off the targets' sum of squares
    rank: Array


def _regress(m: Moments, intercept: bool, rtol: float) -> _Regression:
    """Least squares of Y on H: B = (HᵀH)⁺HᵀY, with both centred where there is an intercept."""
    if intercept:
        gram, cross = m.feature_scatter, m.cross_scatter
        squares = _without_constants(jnp.diag(gram), m.feature_mean, m.count)
    else:
        gram, cross = m.feature_products, m.cross_products
        squares = jnp.diag(gram)
    scale = jnp.where(squares > 0, lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    # No derivative is taken of an eigenvector: see the refinement below.
    scale, scaled = lax.stop_gradient((scale[:, None], gram * jnp.outer(scale, scale)))
    eigenvalues, vectors = eigh(scaled)
    present = eigenvalues > rtol * eigenvalues[-1]
    inverse = jnp.where(present, 1 / jnp.where(present, eigenvalues, 1.0), 0.0)[:, None]

    def project(c: Array) -> Array:
        return dot(vectors.T, scale * c)

    # One step of refinement takes rounding off b, and gives it the derivative of the fit.
    b = lax.stop_gradient(scale * dot(vectors, inverse * project(cross)))
    b = b + scale * dot(vectors, inverse * project(cross - dot(gram, b)))
    varying = 2 * jnp.sum(b * cross) - jnp.sum(b * dot(gram, b))
    explained = lax.stop_gradient(jnp.sum(inverse * project(cross) ** 2) - varying) + varying
    # A NaN compares as an absent direction: it has to be carried on by hand.
    finite = jnp.isfinite(gram).all() & jnp.isfinite(cross).all()
    fit = _Regression(b, explained, present.sum().astype(jnp.float64))
    return jax.tree.map(lambda a: jnp.where(finite, a, jnp.nan), fit)


def _variation(m: Moments) -> Array:
    """‖Y − Ȳ‖², NaN where no column of the targets varies."""
    total = _without_constants(m.target_scatter, m.target_mean, m.count).sum()
    return jnp.where(total > 0, total, jnp.nan)


def _without_constants(squares: Array, mean: Array, count: Array) -> Array:
    """Centred squares, with the rounding of constant columns set to the 0 that it stands for."""
    return jnp.where(squares <= count * (CONSTANT * mean) ** 2, 0.0, squares)


def _default_rtol(m: Moments, rtol: float | None) -> float:
    return rank_tolerance(m.feature_mean.shape[0]) if rtol is None else rtol


def _with_reason(metric: str, value: Array, *ms: Moments) -> Array:
    """``value``, and outside of transformations a warning that says why it is NaN."""
    if not isinstance(value, jax.core.Tracer) and bool(jnp.isnan(value)):
        warnings.warn(f"{metric} is NaN: {undefined_because(*ms)}", RuntimeWarning, stacklevel=3)
    return value


@in_float64
def undefined_because(*ms: Moments) -> str:
    """Why a metric of these moments is NaN, in words."""
    scored = ms[-1]
    if not all(bool(jnp.isfinite(block).all()) for block in jax.tree.leaves(ms)):
        return "the features or targets hold NaN or infinity"
    if scored.count <= 1:
        return f"samples in the moments: {float(scored.count):g}, wanted 2 or more"
    if bool(jnp.isnan(_variation(scored))):
        return f"none of the {scored.target_mean.shape[0]} target columns varies"
    return f"{float(scored.count):g} samples saturate the fit, wanted more than rank + 1"
