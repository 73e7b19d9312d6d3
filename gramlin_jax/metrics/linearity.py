"""Target linearity: the share of the targets' variance that is linear in the features.

Everything is computed from ``Moments``. Ordinary least squares is solved in float64 by a symmetric
eigendecomposition of the features' scatter, after scaling columns to unit variance. Directions
whose eigenvalue is below ``rtol`` times the largest are treated as absent; in singular values this
is √rtol ≈ 1e-7 of the largest.

The rounding of float32 features is part of the data. If the means are r standard deviations, it is
noise of about r·6e-8 in each column, so features in a subspace have full rank once r exceeds about
10. Set ``rtol`` to a few times (r·6e-8)² to ignore that noise.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

from gramlin_jax._moments.features import Moments, check_moments
from gramlin_jax.metrics.regression import LeastSquares, default_rtol, regress, without_constants
from gramlin_jax.metrics.rotation import positive
from gramlin_jax.support.checks import check_array, check_filled, is_traced
from gramlin_jax.support.linalg import at_most, diagonal, dot
from gramlin_jax.support.precision import concrete, in_float64, magnitude

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def target_linearity(
    m: Moments, *, intercept: bool = True, rtol: float | None = None
) -> Float[Array, ""]:
    """Target linearity TL = 1 − ‖Y − Ŷ‖² / ‖Y − Ȳ‖², Ŷ the least-squares fit of Y on H.

    In [0, 1] to rounding; higher is more linear. It is invariant under invertible affine maps of
    the features, and 1 when Y is affine in H (or n ≤ rank + 1: compare ``noise_floor``). For
    balanced one-hot targets TL = tr(Σ_T⁻¹Σ_B)/(C − 1), the link to neural collapse. Target columns
    are weighted by their variance. Collinear, duplicate and constant columns of H change nothing. A
    column is constant if its standard deviation is below 2⁻⁴⁸ ≈ 3.6e-15 of its mean, 16 steps of
    float64.

    Args:
        m: Moments of features (n, d) and targets (n, k).
        intercept: Fit Y ≈ HB + 1bᵀ. Without it the fit is Y ≈ HB, and TL can be negative; for
            centred targets this is the definition in the paper's code.
        rtol: Rank tolerance, relative to the largest eigenvalue of the column-scaled scatter; None:
            max(64, d)·2⁻⁵². In [0, 1).

    Returns:
        A float64 scalar, of NumPy outside transformations, so arithmetic with it stays in float64.
        Its error is at most about 1e-16·cond², cond being the condition number of
        the features with columns scaled, and far less unless the targets lie in the smallest
        directions. NaN where undefined: targets without variance, one sample, NaN or infinity in
        the moments. Outside transformations a RuntimeWarning then gives the reason.

    Raises:
        ValueError: If the moments hold no targets or are stacked (use ``jax.vmap``), or ``rtol``
            is not in [0, 1).

    Source: arXiv 2605.06258, section 4 (target linearity).

    Example:
        >>> h = jax.random.normal(jax.random.key(0), (100, 5))
        >>> m = moments(h, h @ jnp.ones((5, 2)) + 3)
        >>> round(float(target_linearity(m)), 12)
        1.0
    """
    check_moments(m)
    value = _target_linearity(m, intercept, default_rtol(m, rtol))
    return _with_reason("target_linearity", value, m)


def target_linearity_adjusted(m: Moments, *, rtol: float | None = None) -> Float[Array, ""]:
    """Adjusted target linearity 1 − (1 − TL)(n − 1)/(n − p − 1), p the number of fitted directions.

    For targets that are pure noise its expectation is 0 instead of p/(n − 1), so layers of
    different rank can be compared. At most 1; negative where the features explain less of the
    targets than of noise.

    Args:
        m: Moments of features (n, d) and targets (n, k).
        rtol: As in ``target_linearity``.

    Returns:
        A float64 scalar; NaN where TL is NaN or n ≤ p + 1 (the fit is saturated).

    Raises:
        ValueError: As ``target_linearity``.

    Source: the adjusted R² of Wherry (1931), without its last approximation.

    Example:
        >>> h, y = jax.random.normal(jax.random.key(0), (2, 100, 5))
        >>> m = moments(h, y)
        >>> bool(target_linearity_adjusted(m) < target_linearity(m))
        True
    """
    check_moments(m)
    value = _adjusted(m, default_rtol(m, rtol))
    return _with_reason("target_linearity_adjusted", value, m)


def noise_floor(m: Moments, *, rtol: float | None = None) -> Float[Array, ""]:
    """The expected target linearity of pure noise, p/(n − 1), p the number of fitted directions.

    Exact for targets that are independent of the features. In [0, 1]. n is the sum of the weights:
    scale them to counts of samples.

    Args:
        m: Moments of features (n, d), with or without targets.
        rtol: As in ``target_linearity``.

    Returns:
        A float64 scalar; NaN for one sample, for weights whose sum is below p, and for moments that
        are not finite.

    Raises:
        ValueError: If the moments are stacked (use ``jax.vmap``) or ``rtol`` is not in [0, 1).

    Source: the expectation of R² under independence, as in Wherry (1931).

    Example:
        >>> float(noise_floor(moments(jax.random.normal(jax.random.key(0), (101, 5)))))
        0.05
    """
    check_moments(m, targets=False)
    return _with_reason("noise_floor", _noise_floor(m, default_rtol(m, rtol)), m)


def heldout_target_linearity(
    train: Moments, test: Moments, *, rtol: float | None = None
) -> Float[Array, ""]:
    """Target linearity on held-out samples: 1 − ‖Y − Ŷ‖² / ‖Y − Ȳ‖² on ``test``.

    The regression (with intercept) is fitted on ``train`` alone; with n ≤ d training samples it is
    the fit of smallest norm after scaling columns to unit variance. Ȳ is the test mean, as in the
    usual R² score. At most 1; negative where the fit is worse than the test mean. Let B be the
    coefficients of ``train``, and δh, δy the differences of the means (test − train). In the blocks
    of ``test``, ‖Y − Ŷ‖² = tr S_yy − 2 tr BᵀS_hy + tr BᵀS_hhB + n‖δy − Bᵀδh‖².

    Args:
        train: Moments of the training samples.
        test: Moments of the held-out samples, with the same widths.
        rtol: As in ``target_linearity``.

    Returns:
        A float64 scalar; NaN where there is no training sample, the test targets have no variance
        or a moment is not finite.

    Raises:
        ValueError: If widths differ, or as ``target_linearity``.

    Source: the usual R² score, on held-out samples.

    Example:
        >>> h = jax.random.normal(jax.random.key(0), (100, 5))
        >>> train, test = (moments(part, part[:, :1] ** 2) for part in (h[:50], h[50:]))
        >>> bool(heldout_target_linearity(train, test) < target_linearity(test))
        True
    """
    check_moments(train, name="train")
    check_moments(test, name="test")
    if train.cross_scatter.shape != test.cross_scatter.shape:
        raise ValueError(
            f"train has (features, targets) widths {train.cross_scatter.shape} and test "
            f"{test.cross_scatter.shape}: wanted the same layer and the same targets"
        )
    value = _heldout(train, test, default_rtol(train, rtol))
    return _with_reason("heldout_target_linearity", value, train, test)


@in_float64
def surrogate(
    m: Moments, kernel: Float[Array, "d o"], *, normalized: bool = False
) -> Float[Array, ""]:
    """The surrogate of target linearity: the mean over target columns of yᵀZZᵀy, Z = HK.

    Computed as ‖Kᵀ HᵀY_c‖² / k, Y_c the centred targets, without any (n, n) matrix. Non-negative
    and unbounded: it grows with n and with the scales of features and kernel. The normalised
    surrogate is divided by ‖Z‖²‖Y_c‖²/k and lies in [0, 1].

    Args:
        m: Moments of features H (n, d) and targets Y (n, k).
        kernel: K (d, o) of the layer that reads the features.
        normalized: Divide by ‖Z‖²‖Y_c‖²/k, with Z not centred.

    Returns:
        A float64 scalar; NaN for NaN in the moments, and, if normalised, where Z or Y_c is 0.

    Raises:
        ValueError: If the moments hold no targets or ``kernel`` does not have d rows.
        TypeError: If ``kernel`` is not floating point.

    Source: arXiv 2605.06258, section 4 (the trace that a step of the Gram increases).

    Example:
        >>> h = jnp.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
        >>> m = moments(h, h[:, :1])  # the target is the first feature
        >>> kernels = jnp.eye(2), jnp.eye(2, 1)
        >>> [round(float(surrogate(m, kernel, normalized=True)), 12) for kernel in kernels]
        [0.5, 1.0]
    """
    check_moments(m)
    kernel = check_array("kernel", kernel, ("d", "o"))
    check_filled("kernel", kernel)
    if kernel.shape[0] != m.feature_mean.shape[0]:
        raise ValueError(
            f"kernel has shape {kernel.shape}: wanted ({m.feature_mean.shape[0]}, o), one row a "
            "feature, (in, out) as in Flax; transpose a PyTorch weight"
        )
    return concrete(_surrogate(m, kernel, normalized))


@in_float64
@functools.partial(jax.jit, static_argnames="intercept")
def _target_linearity(m: Moments, intercept: bool, rtol: float) -> Array:
    m = _varying(m)
    fit = regress(m, True, rtol) if intercept else _regress_without_intercept(m, rtol)
    return fit.explained.sum() / _variation(m)


def _regress_without_intercept(m: Moments, rtol: float) -> LeastSquares:
    """The fit Y ≈ HB with ``explained`` = ‖Y − Ȳ‖² − ‖Y − HB‖², by target.

    Let B and b = ȳ − Bᵀh̄ be the fit with an intercept, and Σ the scatter of the features. Without
    one, B + Σ⁺h̄·n bᵀ/(1 + n h̄ᵀΣ⁺h̄) is the fit, and n b²/(1 + n h̄ᵀΣ⁺h̄) is added to the residual.
    So no square of a mean is ever subtracted from another.
    """
    mean, n = m.feature_mean[:, None], m.count
    both = jnp.concatenate([m.cross_scatter, mean], axis=1)  # solves for Σ⁺h̄ beside B
    fit = regress(dataclasses.replace(m, cross_scatter=both), True, rtol)
    solved = fit.coefficients[:, -1:]
    leverage = 1 + n * fit.explained[-1]
    missing = m.target_mean - dot(m.feature_mean, fit.coefficients[:, :-1])
    missing = jnp.where(_spans_constants(m, solved, leverage, rtol), 0.0, missing)
    return fit._replace(
        coefficients=fit.coefficients[:, :-1] + n * solved * missing[None] / leverage,
        explained=fit.explained[:-1] - n * missing**2 / leverage,
    )


def _spans_constants(m: Moments, solved: Array, leverage: Array, rtol: float) -> Array:
    """Whether a combination of the features is a constant other than 0, and so an intercept.

    It is a part of h̄ outside the range of Σ, with columns scaled: a direction that the uncentred
    products have beside those of Σ, by the same rank tolerance.
    """
    squares = without_constants(diagonal(m.feature_scatter), m.feature_mean, m.count)
    constant = (squares == 0) & (m.feature_mean != 0)
    outside = (m.feature_mean - dot(m.feature_scatter, solved)[:, 0]) ** 2
    outside = jnp.where(squares > 0, outside / jnp.where(squares > 0, squares, 1), 0).sum()
    return constant.any() | (m.count * outside > rtol * len(squares) * leverage)


@in_float64
@jax.jit
def _adjusted(m: Moments, rtol: float) -> Array:
    m = _varying(m)
    fit = regress(m, True, rtol)
    left = m.count - fit.rank - 1
    unexplained = 1 - fit.explained.sum() / _variation(m)
    return jnp.where(left > 0, 1 - unexplained * (m.count - 1) / left, jnp.nan)


@in_float64
@jax.jit
def _noise_floor(m: Moments, rtol: float) -> Array:
    rank = regress(m, True, rtol).rank
    known = (m.count > 1) & (rank <= m.count)  # weights may sum to less than the rank
    return jnp.where(known, at_most(rank / (m.count - 1), 1.0), jnp.nan)


@in_float64
@jax.jit
def _heldout(train: Moments, test: Moments, rtol: float) -> Array:
    train, test = _varying(train), _varying(test)
    b = regress(train, True, rtol).coefficients
    h, y = test.feature_mean - train.feature_mean, test.target_mean - train.target_mean
    residual = (
        test.target_scatter.sum()
        - 2 * jnp.sum(b * test.cross_scatter)
        + jnp.sum(b * dot(test.feature_scatter, b))
        + test.count * jnp.sum((y - dot(h, b)) ** 2)
    )
    return jnp.where(train.count > 0, 1 - residual / _variation(test), jnp.nan)


@functools.partial(jax.jit, static_argnames="normalized")
def _surrogate(m: Moments, kernel: Array, normalized: bool) -> Array:
    # Divided by the lengths of the columns, or squares of squares leave float64.
    m = _varying(m)
    products, total = m.feature_products, m.target_scatter.sum()
    lengths = jnp.sqrt(jnp.diag(products))
    unit = jnp.where(lengths > 0, lengths, 1)[:, None]
    unit, root = lax.stop_gradient((unit, jnp.sqrt(positive(total))))
    kernel = kernel.astype(jnp.float64) * unit
    size = lax.stop_gradient(magnitude(kernel))
    kernel = kernel / size
    squares = jnp.sum(dot(kernel.T, m.cross_scatter / unit / root) ** 2)
    if not normalized:
        return squares * (size * root) ** 2 / m.target_mean.shape[0]
    scale = jnp.sum(kernel * dot(products / unit / unit.T, kernel))
    scale = scale * (_variation(m) / root) / root
    return jnp.where(scale > 0, squares / jnp.where(scale > 0, scale, 1.0), jnp.nan)


def _varying(m: Moments) -> Moments:
    """Without what rounding leaves of constant target columns, in Y − Ȳ and in its fit alike."""
    squares = without_constants(m.target_scatter, m.target_mean, m.count)
    cross = jnp.where((squares == 0)[None], 0 * m.cross_scatter, m.cross_scatter)  # NaN stays
    return dataclasses.replace(m, cross_scatter=cross, target_scatter=squares)


def _variation(m: Moments) -> Array:
    """‖Y − Ȳ‖², NaN where no column of the targets varies, or it leaves float64."""
    total = _varying(m).target_scatter.sum()
    return jnp.where((total > 0) & jnp.isfinite(total), total, jnp.nan)


def _with_reason(metric: str, value: Array, *ms: Moments) -> Array:
    """``value``; outside transformations a NaN also warns with the reason."""
    if not is_traced(value) and bool(jnp.isnan(value)):
        warnings.warn(f"{metric} is NaN: {undefined_because(*ms)}", RuntimeWarning, stacklevel=3)
    return concrete(value)


@in_float64
def undefined_because(*ms: Moments) -> str:
    """Why a metric of these moments is NaN: a clause for a warning or a note."""
    scored = ms[-1]
    if not all(bool(jnp.isfinite(block).all()) for block in jax.tree.leaves(ms)):
        return "the features or targets hold NaN or infinity, or their squares leave float64"
    if min(float(m.count) for m in ms) <= 0:
        return "samples in the moments: 0, wanted 1 or more"
    if scored.count <= 1:
        return f"samples in the moments: {float(scored.count):g}, wanted 2 or more"
    targets = scored.target_mean.shape[0]
    if targets and bool(jnp.isnan(_variation(scored))):
        return f"none of the {targets} target columns varies"
    return (
        f"{float(scored.count):g} samples saturate the fit, wanted more than rank + 1 "
        "(the sum of the weights, if there are any)"
    )
