"""How alike two networks' features are, up to a rotation: from moments of both.

``moments(x, y, pair=True)`` of features x (n, d) and y (n, k) of the same samples is all that these
metrics see. By default features are centred. Uncentred, two untrained networks already agree to
0.9 on images, because their features share a large mean: report that baseline beside any value.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from gramlin_jax._moments.features import Moments, check_moments
from gramlin_jax.metrics.gram import polar_factor
from gramlin_jax.metrics.regression import without_constants
from gramlin_jax.metrics.singular import check_jacobian
from gramlin_jax.support.checks import check_array, check_count, check_orthonormal
from gramlin_jax.support.linalg import diagonal, dot, eigh
from gramlin_jax.support.precision import concrete, in_float64, magnitude

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float


@in_float64
def procrustes(m: Moments, *, centred: bool = True) -> Float[Array, "d k"]:
    """The rotation A = UVᵀ that brings features x nearest to y: it minimises ‖XA − Y‖.

    UΣVᵀ is the singular value decomposition of the cross moment XᵀY (orthogonal Procrustes). A has
    orthonormal rows if d ≤ k, else orthonormal columns; then it maximises tr AᵀXᵀY. Directions
    without a cross moment, as of dead units, are rotated arbitrarily.

    Args:
        m: Moments of x (n, d) with y (n, k) as targets.
        centred: Centre both first.

    Returns:
        A (d, k), float64; NaN for NaN in the moments.

    Raises:
        ValueError: If the moments are stacked, or hold no targets.
        TypeError: If ``m`` is not moments in float64.

    Source: Schönemann (1966).

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> bool(np.allclose(procrustes(moments(x, x[:, [2, 0, 1]])), np.eye(3)[:, [2, 0, 1]]))
        True
    """
    check_moments(m)
    return concrete(_rotation(_blocks(m, centred)[1]))


@in_float64
def alignment(m: Moments, *, centred: bool = True) -> Float[Array, ""]:
    """Cosine of XA and Y after the best rotation: tr Σ/(‖X‖‖Y‖), Σ the singular values of XᵀY.

    In [0, 1], higher is closer. 1 for rotated, permuted or scaled copies, and the same for (y, x).

    Args:
        m: Moments of x (n, d) with y (n, k) as targets.
        centred: Centre both first. Without, common means count as agreement.

    Returns:
        Scalar, float64; NaN where one side is constant, or 0 uncentred, and for NaN in the moments.

    Raises:
        ValueError: If the moments are stacked, or hold no targets.
        TypeError: If ``m`` is not moments in float64.

    Source: Guth, Ménard, Rochette and Mallat, A rainbow in deep network black boxes (2023).

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> round(float(alignment(moments(x, 2 * x[:, ::-1]))), 6)
        1.0
    """
    check_moments(m)
    _, cross, _, x, y = _blocks(m, centred)
    return concrete(_ratio((_rotation(cross) * cross).sum(), x * y))


@in_float64
def alignment_r2(m: Moments, *, centred: bool = True) -> Float[Array, ""]:
    """Share of ‖Y‖² that rotated features explain: 1 − ‖XA − Y‖²/‖Y‖².

    At most 1, for a rotated copy; negative where XA is farther from Y than 0 is. Unlike
    ``alignment`` it counts a difference in scale: for ‖X‖ = ‖Y‖ and d ≤ k it is 2r − 1.

    Args, Returns, Raises: as ``alignment``.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> m, doubled = moments(x, x[:, ::-1]), moments(x, 2 * x)
        >>> round(float(alignment_r2(m)), 6), round(float(alignment_r2(doubled)), 6)
        (1.0, 0.75)
    """
    check_moments(m)
    gram, cross, _, _, y = _blocks(m, centred)
    a = _rotation(cross)
    turned = (dot(gram, a) * a).sum()
    return concrete(_ratio(2 * (a * cross).sum() - turned, y**2))


@in_float64
def heldout_alignment(train: Moments, test: Moments, *, centred: bool = True) -> Float[Array, ""]:
    """``alignment`` on test samples by the rotation of the train samples.

    tr AᵀX'ᵀY'/(‖X'‖‖Y'‖) with A = ``procrustes(train)``. In [−1, 1]. A rotation has d(d − 1)/2
    parameters, so on few train samples ``alignment`` is too high.

    Args:
        train: Moments that give the rotation.
        test: Moments of other samples, of the same features.
        centred: Centre each split by its own means.

    Returns, Raises: as ``alignment``; also ``ValueError`` if the widths differ.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> train, test = (moments(part, part[:, ::-1]) for part in (x[:30], x[30:]))
        >>> round(float(heldout_alignment(train, test)), 6)
        1.0
    """
    check_moments(train, name="train")
    check_moments(test, name="test")
    if train.cross_scatter.shape != test.cross_scatter.shape:
        raise ValueError(
            f"test has features of widths {test.cross_scatter.shape}: wanted "
            f"{train.cross_scatter.shape}, as train"
        )
    _, cross, _, x, y = _blocks(test, centred)
    a = _rotation(_blocks(train, centred)[1])
    return concrete(_ratio((a * cross).sum(), x * y))


@in_float64
def cka(m: Moments, *, centred: bool = True, debiased: bool = False) -> Float[Array, ""]:
    """Linear centred kernel alignment ‖XᵀY‖²/(‖XᵀX‖‖YᵀY‖) (Frobenius).

    In [0, 1], higher is closer; invariant to rotations and scales, not to affine maps. It is biased
    towards 1 where samples are few for the widths. ``debiased`` replaces each square by the
    unbiased HSIC₁ of Song et al. (2012), in which no sample is paired with itself. With centred
    features and n_x = ‖x‖², that is n(n − 3)·HSIC₁ = ‖XᵀY‖² + Σn_x Σn_y/((n − 1)(n − 2)) −
    Σn_x n_y·n/(n − 2): no matrix of n × n. It may be negative.

    Args:
        m: Moments of x (n, d) with y (n, k) as targets, ``moments(x, y, pair=True)``.
        centred: Centre both first; debiased is always centred.
        debiased: Whether to remove the bias.

    Returns:
        Scalar, float64; NaN where one side is constant, or debiased with n < 4, no more variance
        than by chance, or norms of samples outside of 1e-70 to 1e75.

    Raises:
        ValueError: If the moments are stacked, hold no targets, or not the whole scatter of both.
        TypeError: If ``m`` is not moments in float64.

    Source: Kornblith et al. (2019); Nguyen, Raghu and Kornblith (2021), equation 3; Song et al.
        (2012), equation 5.

    Example:
        >>> x, y = np.random.default_rng(0).normal(size=(2, 60, 20))
        >>> m = moments(x, y, pair=True)
        >>> bool(cka(m) > 0.2), bool(abs(cka(m, debiased=True)) < 0.1)
        (True, True)
    """
    check_moments(m)
    if m.pair is None:
        raise ValueError("m is without the whole scatter of its targets: wanted pair=True")
    if debiased:
        return concrete(_debiased_cka(m))
    gram, cross, other = _in_units(m, centred)[:3]
    return concrete(_ratio((cross**2).sum(), jnp.sqrt((gram**2).sum() * (other**2).sum())))


def _debiased_cka(m: Moments) -> Array:
    assert m.pair is not None
    gram, cross, other, totals, units = _in_units(m, centred=True)
    scale = units**2
    products = m.pair.norm_products / scale[:, None] / scale[None]
    scatters, n = {(0, 0): gram, (0, 1): cross, (1, 1): other}, m.count

    def hsic(p: int, q: int) -> Array:
        own = products[p, q] * n / (n - 2)
        return (scatters[p, q] ** 2).sum() + totals[p] * totals[q] / ((n - 1) * (n - 2)) - own

    alone = hsic(0, 0), hsic(1, 1)
    held = (jnp.diagonal(m.pair.norm_products) > 1e-280).all()  # fourth powers of the features
    defined = (n > 3) & (alone[0] > 0) & (alone[1] > 0) & held
    return _ratio(hsic(0, 1), jnp.sqrt(jnp.where(defined, alone[0] * alone[1], 0.0)))


@in_float64
def eigenvector_stability(
    first: Float[ArrayLike, "d d"],
    second: Float[ArrayLike, "k k"],
    rotation: Float[ArrayLike, "d k"],
    components: int,
) -> Float[Array, "components components"]:
    """|cosines| of the leading eigenvectors of one network, rotated, with those of another.

    Entry (i, j) is |aᵢᵀAbⱼ| for eigenvectors a of ``first`` and b of ``second``, by descending
    eigenvalue. The identity for a permuted copy. Two independent sets have entries of about
    √(2/(πd)); equal eigenvalues have no vectors of their own.

    Args:
        first: Symmetric (d, d): a scatter of features, ``m.feature_scatter``, or a weight Gram KKᵀ.
        second: The same of the other network, ``m.pair.target_scatter`` (k, k).
        rotation: A (d, k), of these features: ``procrustes(m)``; for Grams that of the layer
            before, whose features the kernels read; the identity for what reads the data.
        components: Eigenvectors of each, at most d and k.

    Returns:
        (components, components), float64, in [0, 1] up to rounding.

    Raises:
        ValueError: If shapes do not match, ``components`` is not from 1 to the smaller width, or
            (outside transformations) a matrix is not symmetric or not finite, or the columns of the
            rotation, its rows if d < k, are not orthonormal to 0.001.

    Source: as ``alignment``.

    Example:
        >>> scatter = jnp.diag(jnp.array([3.0, 1, 2]))
        >>> eigenvector_stability(scatter, scatter, jnp.eye(3), 2).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    a, b = check_jacobian(first, name="first"), check_jacobian(second, name="second")
    turn = check_array("rotation", rotation, ("d", "k"))
    shapes, (d, k) = (a.shape, b.shape), turn.shape
    if shapes != ((d, d), (k, k)):
        raise ValueError(f"rotation has shape {(d, k)}: wanted (d, k) of {shapes[0]}, {shapes[1]}")
    check_orthonormal(*(("rotation", turn) if d >= k else ("rotation.T", turn.T)))
    check_count("components", components)
    if components > min(d, k):
        raise ValueError(f"components is {components}: wanted 1 to {min(d, k)}, the width")
    return concrete(_stability(a, b, turn, components))


@functools.partial(jax.jit, static_argnames="components")
def _stability(first: Array, second: Array, rotation: Array, components: int) -> Array:
    a, b = (
        eigh(matrix.astype(jnp.float64))[1][:, : -components - 1 : -1] for matrix in (first, second)
    )
    return abs(dot(dot(a.T, rotation.astype(jnp.float64)), b))


@jax.jit  # where NaN passes the checks of input
def _rotation(cross: Array) -> Array:
    return polar_factor(cross, method="svd")


def _blocks(m: Moments, centred: bool) -> tuple[Array, Array, Array | None, Array, Array]:
    """XᵀX, XᵀY, YᵀY where it is known, ‖X‖ and ‖Y‖; centred, columns that are constant are 0."""
    whole = None if m.pair is None else m.pair.target_scatter
    if not centred:
        squares = diagonal(m.feature_products), m.target_products
        mean = m.target_mean
        whole = None if whole is None else whole + m.count * mean[:, None] * mean[None]
        norms = _norm(squares[0]), _norm(squares[1])
        return m.feature_products, m.cross_products, whole, *norms
    x, y = (
        without_constants(squares, mean, m.count)
        for squares, mean in (
            (diagonal(m.feature_scatter), m.feature_mean),
            (m.target_scatter, m.target_mean),
        )
    )
    varies, moves = x != 0, y != 0  # NaN included
    gram = jnp.where(varies[:, None] & varies[None], m.feature_scatter, 0.0)
    cross = jnp.where(varies[:, None] & moves[None], m.cross_scatter, 0.0)
    whole = None if whole is None else jnp.where(moves[:, None] & moves[None], whole, 0.0)
    return gram, cross, whole, _norm(x), _norm(y)


def _in_units(m: Moments, centred: bool) -> tuple[Array, Array, Array, Array, Array]:
    """XᵀX, XᵀY, YᵀY, ‖X‖² and ‖Y‖² (2,) in units (2,) of X and Y in which squares stay finite."""
    gram, cross, other, x, y = _blocks(m, centred)
    assert other is not None
    units = jnp.stack([magnitude(x), magnitude(y)])
    grams = gram / units[0] / units[0], cross / units[0] / units[1], other / units[1] / units[1]
    return *grams, (jnp.stack([x, y]) / units) ** 2, units


def _norm(squares: Array) -> Array:
    return jnp.sqrt(squares.sum())


def _ratio(a: Array, b: Array) -> Array:
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), jnp.nan)
