"""Neural collapse: how far features, class means and classifier are from their final geometry.

Everything is computed from moments with one-hot targets, so samples can be streamed. The class
means are μ_c = h̄ + S_hy[:, c]/n_c, and only μ_c − h̄ is used, so an offset of the features costs no
digits. The within-class scatter is the total minus the scatter of the class means. It inherits the
total's rounding, so NC1 is known to about 1e-15 tr Σ_T/λ, where λ is the smallest nonzero
eigenvalue of Σ_B; what rounding makes negative is 0.

As in Papyan, Han and Donoho (2020), class means are centred at μ = (1/C) Σ_c μ_c, and
Σ_B = (1/C) Σ_c (μ_c − μ)(μ_c − μ)ᵀ: classes have equal weight, whatever their sizes. Σ_W is the
mean over samples, in which a larger class weighs more. For unequal class sizes μ is not the mean of
the samples, and Σ_T ≠ Σ_W + Σ_B.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax._moments.features import CONSTANT, Moments, check_moments
from gramlin_jax.support.checks import check_array, check_filled, check_numbers, is_traced
from gramlin_jax.support.linalg import (
    at_least,
    diagonal,
    dot,
    eigh,
    inverse_root,
    norm,
    rank_tolerance,
    root,
)
from gramlin_jax.support.precision import concrete, in_float64, magnitude

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

FEWEST = 1e-9  # a class with a smaller share of the samples is empty, up to rounding


class NeuralCollapse(NamedTuple):
    """Result of ``neural_collapse``: float64 scalars, each 0 at collapse.

    Attributes:
        nc1: tr(Σ_W Σ_B⁺)/C ≥ 0, the variability within classes relative to that between classes.
        equinorm: Coefficient of variation of ‖μ_c − μ‖ over classes, in [0, √(C−1)].
        equiangularity: Mean of |cos(μ_c − μ, μ_c' − μ) + 1/(C−1)| over pairs of classes.
        etf_distance: ‖G/‖G‖ − (I − 11ᵀ/C)/√(C−1)‖ in [0, √2], G the Gram of the centred class
            means: NC2 as one number.
        nc3: ‖K/‖K‖ − A/‖A‖‖² in [0, 4], A (d, C) the centred class means; None without a kernel.
        offset: √C‖b̃‖/‖L‖, where b̃ (C,) are the logits at μ and L = KᵀA (C, C) is the change of the
            logits from μ to the class means, each centred over classes. Together with NC2 and NC3,
            0 means that the classifier picks the nearest class mean. None without a kernel.
        cdnv: Class-distance normalised variance: the mean over pairs of classes of
            (tr Σ_c + tr Σ_c')/(2‖μ_c − μ_c'‖²), with Σ_c the covariance of the features of class c.
        pooled_cdnv: The same with tr Σ_W for each tr Σ_c, the variance of all samples.
    """

    nc1: Float[Array, ""]
    equinorm: Float[Array, ""]
    equiangularity: Float[Array, ""]
    etf_distance: Float[Array, ""]
    nc3: Float[Array, ""] | None
    offset: Float[Array, ""] | None
    cdnv: Float[Array, ""]
    pooled_cdnv: Float[Array, ""]


@in_float64
def neural_collapse(
    m: Moments, kernel: Float[Array, "d C"] | None = None, bias: Float[Array, "C"] | None = None
) -> NeuralCollapse:
    """NC1 to NC3 of features and their classifier, from moments with one-hot targets.

    Invariant under rotations of the features, if the kernel is rotated too, and under changes of
    scale of either. NC1 is computed from the C×C Gram AᵀA of the centred class means. Directions of
    Σ_B whose eigenvalue is below max(64, d)·2⁻⁵² times the largest are treated as absent. Squared
    distances below the same share of tr Σ_T, or below (2⁻⁴⁸‖h̄‖)², are treated as 0.

    Args:
        m: Moments of features (n, d) and one-hot targets (n, C).
        kernel: K (d, C) of the layer that reads the features, for ``nc3`` and ``offset``.
        bias: b (C,) of that layer, for ``offset``; None: zeros.

    Returns:
        Scalars; under transformations NaN if the targets are not one-hot or a class has fewer than
        two samples; NaN if a moment is, and for metrics that divide by the distance of class means
        that coincide.

    Raises:
        ValueError: If the moments have fewer than two targets or (outside transformations) their
            targets are not one-hot or a class has fewer than two samples; if shapes do not match;
            or for a bias without a kernel.
        TypeError: If ``m`` is not moments in float64.

    Source: Papyan, Han and Donoho (2020), section 3; ``cdnv``: Galanti, György and Hutter (2021).

    Example:
        >>> h, y = jnp.repeat(jnp.eye(3), 4, axis=0), jnp.repeat(jnp.eye(3), 4, axis=0)
        >>> collapse = neural_collapse(moments(h, y))
        >>> [round(abs(float(x)), 9) for x in (collapse.nc1, collapse.equinorm, collapse.cdnv)]
        [0.0, 0.0, 0.0]
    """
    counts = _class_counts(m)
    shape = m.cross_scatter.shape
    if kernel is None and bias is not None:
        raise ValueError("kernel is None: wanted the kernel of the layer that has the bias")
    if kernel is not None:
        kernel = check_array("kernel", kernel, ("d", "C"))
        if kernel.shape != shape:
            raise ValueError(f"kernel has shape {kernel.shape}: wanted {shape}, (d, C)")
        bias = check_array("bias", jnp.zeros(shape[1]) if bias is None else bias, ("C",))
        if bias.shape != shape[1:]:
            raise ValueError(f"bias has shape {bias.shape}: wanted {shape[1:]}")
    return jax.tree.map(concrete, _neural_collapse(m, counts, kernel, bias))


@jax.jit
def _neural_collapse(
    m: Moments, counts: Array, kernel: Array | None, bias: Array | None
) -> NeuralCollapse:
    m, unit = _in_own_unit(m)
    apart = _class_deviations(m, counts)
    classes = apart.shape[1]
    scatter, share = m.feature_scatter / m.count, counts / m.count
    rounding = (
        rank_tolerance(max(apart.shape)) * diagonal(scatter).sum()
        + (CONSTANT**2) * (m.feature_mean**2).sum()
    )
    center = apart.mean(1, keepdims=True)
    a = apart - center
    a = jnp.where((a**2).sum() > rounding, a, 0)  # coinciding means give 0/0 = NaN below

    # Σ_T is centred at the mean of the samples, so the scatter to subtract from it is, too.
    _, dual, factor = directions(a, rounding)
    inverse = dot(dual, factor.T)  # (AAᵀ)⁺ is its Gram
    between = share[None] * dot(inverse.T, apart) ** 2
    nc1 = (inverse * dot(scatter, inverse)).sum() - between.sum()
    own = at_least(m.class_scatter / counts - (apart**2).sum(0), 0)
    pooled = at_least(diagonal(scatter).sum() - (share * (apart**2).sum(0)).sum(), 0)

    gram = dot(a.T, a)
    lengths, pairs = diagonal(gram), np.triu(np.ones((classes, classes), bool), 1)
    distances = lengths[:, None] + lengths[None] - 2 * gram
    distances = jnp.where(pairs, _or_nan(distances, rounding), jnp.inf)
    norms = root(jnp.where(lengths > rounding, lengths, 0))
    cosines = gram / _or_nan(jnp.outer(norms, norms), 0)
    etf = (jnp.eye(classes) - 1 / classes) / (classes - 1) ** 0.5

    def mean(of_pairs: Array) -> Array:
        return jnp.where(pairs, of_pairs, 0).sum() / pairs.sum()

    nc3, offset = _duality(m.feature_mean + center[:, 0], a, kernel, bias, unit)
    return NeuralCollapse(
        nc1=jnp.where((factor != 0).any(), at_least(nc1, 0), jnp.nan),
        equinorm=root(norms.var()) / norms.mean(),
        equiangularity=mean(abs(cosines + 1 / (classes - 1))),
        etf_distance=norm(gram / norm(gram) - etf),
        nc3=nc3,
        offset=offset,
        cdnv=mean((own[:, None] + own[None]) / (2 * distances)),
        pooled_cdnv=mean(pooled / distances),
    )


def _in_own_unit(m: Moments) -> tuple[Moments, Array]:
    """Moments of features divided by a power of two near their deviation, and this.

    Squares of squared distances then stay in float64.
    """
    variances = jnp.diag(m.feature_scatter) / jnp.where(m.count > 0, m.count, 1)
    unit = magnitude(jnp.sqrt(lax.stop_gradient(variances)))
    scaled = dataclasses.replace(
        m,
        feature_mean=m.feature_mean / unit,
        feature_scatter=m.feature_scatter / unit / unit,
        cross_scatter=m.cross_scatter / unit,
        class_scatter=m.class_scatter / unit / unit,
    )
    return scaled, unit


def _or_nan(a: Array, least: Array | float) -> Array:
    """``a``, NaN where it is not above ``least``."""
    return jnp.where(a > least, a, jnp.nan)


def directions(a: Array, rounding: Array | float = 0.0) -> tuple[Array, Array, Array]:
    """U = AF and U(UᵀU)⁻¹, both (d, c), and F (c, c), with FFᵀ = (AᵀA)⁺, for A (d, c).

    Directions of AᵀA whose eigenvalue is below ``rounding``, or negligible beside the largest, are
    left out. The projection onto A is UUᵀ, and (AAᵀ)⁺ = U(UᵀU)⁻¹FᵀF(UᵀU)⁻¹Uᵀ. UᵀU is I but for the
    rounding of AᵀA, which one Newton step for the inverse squares.
    """
    squares = dot(a.T, a)
    values, vectors = eigh(lax.stop_gradient(squares))
    there = values > rank_tolerance(max(a.shape)) * values[-1] + rounding
    root = inverse_root(squares, lax.stop_gradient(jnp.where(there, values, 0)), vectors)
    basis = dot(a, root)
    return basis, 2 * basis - dot(basis, dot(basis.T, basis)), root


@in_float64
def nc4_mismatch(
    m: Moments, features: Float[Array, "n d"], predictions: Int[Array, "n"]
) -> Float[Array, ""]:
    """NC4: the share of samples whose predicted class differs from the nearest class mean's.

    In [0, 1]. It needs the samples themselves; its mean over batches of equal size is its value on
    all of them. The mean of the features is rounded to float64: samples halfway between two class
    means, up to 2⁻⁵² of it, may go either way.

    Args:
        m: Moments of the training features (n', d) and one-hot targets (n', C): the class means.
        features: H (n, d), of the same layer, on any split.
        predictions: The network's predicted classes (n,), integers in [0, C).

    Returns:
        A float64 scalar; NaN where a feature, a class mean or a moment is NaN, or under
        transformations a prediction is out of range.

    Raises:
        ValueError: As ``neural_collapse``, if widths or lengths differ, or if a prediction is out
            of range.
        TypeError: If ``predictions`` are not integers.

    Source: Papyan, Han and Donoho (2020), NC4.

    Example:
        >>> h, y = jnp.array([[0.0], [1], [9], [10]]), jnp.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
        >>> float(nc4_mismatch(moments(h, y), h, jnp.array([0, 0, 1, 0])))
        0.25
    """
    features = check_array("features", features, ("n", "d"))
    check_filled("features", features)
    predictions = check_numbers("predictions", predictions)
    means = _class_deviations(m, _class_counts(m))
    if features.shape[1] != len(means):
        raise ValueError(f"features has shape {features.shape}: wanted (n, {len(means)})")
    if predictions.shape != features.shape[:1]:
        raise ValueError(f"predictions has shape {predictions.shape}: wanted ({len(features)},)")
    if not jnp.issubdtype(predictions.dtype, jnp.integer):
        raise TypeError(f"predictions has dtype {predictions.dtype}: wanted integers")
    if not is_traced(predictions):
        found = np.asarray(predictions)
        low, high = found.min(), found.max()
        if low < 0 or high >= means.shape[1]:
            raise ValueError(
                f"predictions has values from {low} to {high}: wanted 0 to {means.shape[1] - 1}"
            )
    # From the samples' mean, near all class means, the squares keep their digits.
    h = features.astype(jnp.float64) - m.feature_mean[None]
    squares = lax.stop_gradient((means**2).sum(0)[None] - 2 * dot(h, means))
    # Not with argmin, which names its result type and so cannot be traced again (see ``dot``).
    classes = np.arange(means.shape[1], dtype=np.int32)[None]
    predicted = predictions.astype(jnp.int32)[:, None] == classes
    own = jnp.where(predicted, squares, jnp.inf).min(1)
    known = jnp.isfinite(squares).all(1) & jnp.isfinite(own)
    return concrete(jnp.where(known, jnp.where(own > squares.min(1), 1.0, 0.0), jnp.nan).mean())


def _class_counts(m: Moments) -> Array:
    """n_c (C,), checked if concrete; else NaN unless one-hot, and for a class of one sample."""
    check_moments(m)
    if m.target_mean.shape[0] < 2:
        raise ValueError(
            f"m has {m.target_mean.shape[0]} targets: wanted one-hot targets of two classes or more"
        )
    counts = m.count * m.target_mean
    one_hot = _one_hot(m)
    if not is_traced(one_hot):
        _check_classes(m, one_hot, np.asarray(counts))
    return jnp.where(one_hot & ~jnp.isclose(counts, 1), counts, jnp.nan)


def _class_deviations(m: Moments, counts: Array) -> Array:
    """μ_c − h̄ as columns (d, C); NaN for a class that is empty, or whose count is."""
    there = counts > FEWEST * m.count
    return m.cross_scatter / jnp.where(there, counts, jnp.nan)[None]


def _one_hot(m: Moments) -> Array:
    """Whether every row of the targets can be a single 1 among zeros; False for NaN.

    Rows such as (1, 1, 0) and (0, 0, 0) sum to 1 on average, but their sums vary with a feature.
    """
    squares = m.target_scatter / m.count + m.target_mean**2  # mean y² = mean y for y of 0 or 1
    varying = jnp.sqrt(m.count * diagonal(m.feature_scatter))
    return (
        jnp.allclose(squares, m.target_mean, rtol=1e-6)
        & jnp.isclose(m.target_mean.sum(), 1, rtol=1e-6)
        & (abs(m.cross_scatter.sum(1)) <= 1e-10 * varying).all()
    )


def _check_classes(m: Moments, one_hot: Array, counts: np.ndarray) -> None:
    if not all(bool(jnp.isfinite(block).all()) for block in jax.tree.leaves(m)):
        return
    if not one_hot:
        raise ValueError("m has targets that are not one-hot: wanted rows with a single 1")
    if reason := _too_few(counts, float(m.count)):
        raise ValueError(f"m has {reason}")


def _too_few(counts: np.ndarray, n: float) -> str:
    """Which classes have fewer than two samples; empty where none has."""
    if (empty := np.flatnonzero(counts <= FEWEST * n)).size:
        return f"no sample of classes {empty.tolist()}: wanted two of each or more"
    if (single := np.flatnonzero(np.isclose(counts, 1))).size:
        return (
            f"one sample of classes {single.tolist()}: wanted two of each or more, since one "
            "sample has no variability; rescale weights that happen to sum to 1"
        )
    return ""


@in_float64
def no_collapse_because(m: Moments) -> str:
    """Why NC1 of moments with one-hot targets is NaN: a clause for a note."""
    if not all(bool(jnp.isfinite(block).all()) for block in jax.tree.leaves(m)):
        return "the features hold NaN or infinity, or their squares leave float64"
    counts = np.asarray(m.count * m.target_mean)
    return _too_few(counts, float(m.count)) or "the class means coincide"


def _duality(
    center: Array, a: Array, kernel: Array | None, bias: Array | None, unit: Array
) -> tuple[Array | None, Array | None]:
    """``nc3`` and ``offset``, of class means that were divided by ``unit``."""
    if kernel is None or bias is None:
        return None, None
    kernel, bias = kernel.astype(jnp.float64), bias.astype(jnp.float64)
    size = lax.stop_gradient(magnitude(kernel))
    kernel, bias = kernel / size, bias / size / unit
    nc3 = ((kernel / norm(kernel) - a / norm(a)) ** 2).sum()
    at_center, logits = dot(kernel.T, center) + bias, dot(kernel.T, a)
    spread = norm(logits - logits.mean(0, keepdims=True)) / len(bias) ** 0.5
    return nc3, norm(at_center - at_center.mean()) / jnp.where(spread > 0, spread, jnp.nan)
