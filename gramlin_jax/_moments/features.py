"""Additive second moments of features and targets: all that a metric ever sees of the samples.

Shapes: n samples, d features, k targets. Everything accumulates in float64 (see
``gramlin_jax.support.precision``), because float32 normal equations are wrong on real features.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax._moments.additive import Additive, accumulate, check_factor
from gramlin_jax._moments.by_class import by_class, one_hot_sums
from gramlin_jax._moments.pairs import Pair
from gramlin_jax.support.checks import check_array, check_kind, is_traced
from gramlin_jax.support.linalg import dot, gram
from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

# A column is constant if its standard deviation is below this share of its mean, 16 steps of
# float64. Means are rounded to half a step, which changes a larger variance by less than 1e-3.
CONSTANT = 2.0**-48
# The range of a column's values, in which float64 holds sums of squares of 10⁷ samples, and all
# digits of them.
SMALLEST, LARGEST = 1e-140, 1e150


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Moments(Additive):
    """Count, means and centred scatter of features h and targets y; a sum over samples.

    ``a + b`` are the moments of all samples of a and b (Chan, Golub and LeVeque 1983), so batches,
    devices and hosts merge by addition, associative and independent of order to rounding. A sample
    with NaN or infinity makes every block that it touches NaN.

    The scatter of a constant column is 0 for any number of samples and batches. Numbers below the
    normal ones of their type (1e-38 in float32) may count as 0. Metrics regard a
    column as constant if its standard deviation is below 2⁻⁴⁸ ≈ 3.6e-15 of its mean, 16 steps of
    float64: what varies less cannot be told from rounding.

    Attributes:
        count: Number of samples, or the sum of their weights.
        feature_mean: h̄ (d,).
        target_mean: ȳ (k,).
        feature_scatter: Σ (h − h̄)(h − h̄)ᵀ (d, d).
        cross_scatter: Σ (h − h̄)(y − ȳ)ᵀ (d, k).
        target_scatter: Σ (y − ȳ)² (k,), the diagonal only: an image target has thousands of
            columns.
        class_scatter: Σ y‖h − h̄‖² (k,); for one-hot targets, the scatter of each class about h̄.
        pair: Where the targets are the features of a second network, what alignment and CKA need
            beyond that, its whole scatter among it; else None.
    """

    count: Float[Array, "*stack"]
    feature_mean: Float[Array, "*stack d"]
    target_mean: Float[Array, "*stack k"]
    feature_scatter: Float[Array, "*stack d d"]
    cross_scatter: Float[Array, "*stack d k"]
    target_scatter: Float[Array, "*stack k"]
    class_scatter: Float[Array, "*stack k"]
    pair: Pair | None = None

    @classmethod
    @in_float64
    def zeros(
        cls, d: int, k: int = 0, stack: tuple[int, ...] = (), *, pair: bool = False
    ) -> Moments:
        """The moments of no sample: the neutral element of ``+``."""
        shapes = (), (d,), (k,), (d, d), (d, k), (k,), (k,)
        sums: list[Any] = [jnp.zeros((*stack, *shape), jnp.float64) for shape in shapes]
        return cls(*sums, *([Pair.zeros(d, k, stack)] if pair else []))

    def update(
        self,
        features: Float[Array, "n d"],
        targets: Float[Array, "n k"] | None = None,
        *,
        weights: Float[Array, "n"] | None = None,
    ) -> Moments:
        """Add one more batch: ``self + moments(features, targets)``."""
        pair = self.pair is not None
        return self + moments(features, targets, weights=weights, pair=pair)

    @in_float64
    def __add__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        self._check_mergeable(other)
        for part in (self, other):  # or the sum would be of float64, without its digits
            _check_float64("one side of +", part)
        count = self.count + other.count
        share = _over(other.count, count)
        own, others = _over(self.count, count)[..., None], share[..., None]
        h = other.feature_mean - self.feature_mean
        y = other.target_mean - self.target_mean
        pairs = self.count * share  # n_a n_b / (n_a + n_b)
        away = -others, own

        def mean(a: Array, b: Array) -> Array:
            # From the heavier part: rounding of the lighter one's, if far away, would stay.
            return jnp.where(others < own, a + others * (b - a), b - own * (b - a))

        return Moments(
            count=count,
            feature_mean=mean(self.feature_mean, other.feature_mean),
            target_mean=mean(self.target_mean, other.target_mean),
            feature_scatter=self.feature_scatter + other.feature_scatter + _outer(pairs, h, h),
            cross_scatter=self.cross_scatter + other.cross_scatter + _outer(pairs, h, y),
            target_scatter=self.target_scatter + other.target_scatter + _squares(pairs, y),
            class_scatter=self._class_scatter_from(away[0] * h)
            + other._class_scatter_from(away[1] * h),
            pair=jax.tree.map(
                jnp.add,
                self._pair_from(away[0] * h, away[0] * y),
                other._pair_from(away[1] * h, away[1] * y),
            ),
        )

    @in_float64
    def scaled(self, factor: float | Array) -> Moments:
        """The moments with each sample counted ``factor`` ≥ 0 times; means stay.

        Raises:
            ValueError: If the factor is no single number, or (outside transformations) negative.
        """
        check_factor(factor)
        scaled = jax.tree.map(lambda a: factor * a, self)
        means = {"feature_mean": self.feature_mean, "target_mean": self.target_mean}
        return dataclasses.replace(scaled, **means)

    def _merged(self, total: Callable[[Array], Array]) -> Moments:
        """Chan's formula: scatters about the parts' means, plus that of these means."""
        count = total(self.count)
        share = _over(self.count, count)[..., None]

        def mean(parts: Array) -> Array:
            first = total(share * parts)
            return first + total(share * (parts - first))  # exact where all parts are the same

        feature_mean, target_mean = mean(self.feature_mean), mean(self.target_mean)
        h, y = self.feature_mean - feature_mean, self.target_mean - target_mean
        n = self.count
        return Moments(
            count=count,
            feature_mean=feature_mean,
            target_mean=target_mean,
            feature_scatter=total(self.feature_scatter + _outer(n, h, h)),
            cross_scatter=total(self.cross_scatter + _outer(n, h, y)),
            target_scatter=total(self.target_scatter + _squares(n, y)),
            class_scatter=total(self._class_scatter_from(h)),
            pair=jax.tree.map(total, self._pair_from(h, y)),
        )

    def _class_scatter_from(self, away: Array) -> Array:
        """Σ y‖h − h̄ + away‖², about a mean that lies elsewhere."""
        cross = (away[..., None] * self.cross_scatter).sum(-2)
        squares = _squares(self.count, away).sum(-1, keepdims=True)
        return self.class_scatter + 2 * cross + squares * self.target_mean

    def _pair_from(self, h: Array, y: Array) -> Pair | None:
        """``pair`` about means from which the samples' own lie away by h and y."""
        if self.pair is None:
            return None
        return self.pair.moved(self.count, self.feature_scatter, self.cross_scatter, [h, y])

    @property
    @in_float64
    def feature_products(self) -> Float[Array, "*stack d d"]:
        """The uncentred block HᵀH (d, d)."""
        mean = self.feature_mean
        return self.feature_scatter + _outer(self.count, mean, mean)

    @property
    @in_float64
    def cross_products(self) -> Float[Array, "*stack d k"]:
        """The uncentred block HᵀY (d, k)."""
        return self.cross_scatter + _outer(self.count, self.feature_mean, self.target_mean)

    @property
    @in_float64
    def target_products(self) -> Float[Array, "*stack k"]:
        """The diagonal of the uncentred block YᵀY (k,)."""
        return self.target_scatter + _squares(self.count, self.target_mean)


def _over(part: Array, whole: Array) -> Array:
    """part/whole, 0 where there is nothing."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), 0.0)


def _outer(scale: Array, a: Array, b: Array) -> Array:
    """scale·abᵀ, over any stack axes; abᵀ alone may leave float64 where the product does not."""
    return (scale[..., None] * a)[..., :, None] * b[..., None, :]


def _squares(scale: Array, a: Array) -> Array:
    """The diagonal of ``_outer(scale, a, a)``."""
    return (scale[..., None] * a) * a


@in_float64
def moments(
    features: Float[Array, "n d"],
    targets: Float[Array, "n k"] | None = None,
    *,
    weights: Float[Array, "n"] | None = None,
    pair: bool = False,
) -> Moments:
    """Second moments of features, and of targets beside them.

    Reads ``ROWS`` samples at a time: device memory beyond the arguments is O(d² + dk), whatever n.
    Outside of ``jit`` NumPy's float64 is read as it is. ``jit`` itself cuts NumPy's float64 to
    float32 unless ``jax_enable_x64`` is set: pass it JAX arrays, made under
    ``jax.enable_x64(True)``.

    Args:
        features: H (n, d), floating point, one row a sample.
        targets: Y (n, k), floating point; one-hot rows for classes. None: no targets, k = 0.
        weights: (n,) ≥ 0, each the number of times that a sample counts; 0 masks a sample, whose
            values have to be finite all the same. None: 1.
        pair: The targets are the features of a second network: keep their whole scatter (k, k),
            too, and what debiased CKA needs. Rows may be positions (samples · positions, channels).

    Raises:
        ValueError: If shapes do not match, n or d is 0, or (outside of ``jit`` and ``vmap``) a
            value is NaN or infinite, a weight negative, or the range of a column's values, times
            the root of the largest weight, outside 1e-140 … 1e150, whose squares leave float64.
            Under a transformation such values make the moments NaN.
        TypeError: If an argument is not of floating point.

    Example:
        >>> h = jax.random.normal(jax.random.key(0), (100, 5))
        >>> m = moments(h[:30], h[:30, :2]) + moments(h[30:], h[30:, :2])
        >>> m.feature_scatter.shape, m.cross_scatter.shape, float(m.count)
        ((5, 5), (5, 2), 100.0)
    """
    features = check_array("features", features, ("n", "d"))
    n, d = features.shape
    if n == 0 or d == 0:
        raise ValueError(
            f"features has shape {features.shape}: wanted (n, d) with at least one sample and one "
            "column; leave an empty batch out of the sum (Moments.zeros is its neutral element)"
        )
    if targets is None:
        targets = jnp.zeros((n, 0), features.dtype)
    targets = check_array("targets", targets, ("n", "k"))
    _check_rows("targets", targets, n)
    if weights is not None:
        weights = check_array("weights", weights, ("n",))
        _check_rows("weights", weights, n)
        with jax.ensure_compile_time_eval():
            if not is_traced(weights) and bool((weights < 0).any()):
                raise ValueError("weights has negative entries: wanted counts >= 0 (0 is a mask)")
    m, lost = _moments(features, targets, weights, pair)
    for name, columns in zip(("features", "targets"), lost, strict=True):
        if not is_traced(columns) and np.any(columns):
            raise ValueError(
                f"{name} varies by less than {SMALLEST} or more than {LARGEST} in columns "
                f"{np.flatnonzero(columns)[:8].tolist()}: wanted values whose squares float64 holds"
            )
    return m


@in_float64
def class_moments(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    classes: int,
    *,
    weights: Float[Array, "n"] | None = None,
) -> Moments:
    """``moments`` of features and the one-hot rows of labels, which are never made on a CPU."""
    return _moments(features, labels, weights, False, classes)[0]


@functools.partial(jax.jit, static_argnames=("pair", "classes"))
def _moments(
    features: Array, targets: Array, weights: Array | None, pair: bool, classes: int | None = None
) -> tuple[Moments, tuple[Array, Array]]:
    """``moments`` by blocks of ``ROWS`` rows; NaN in columns out of range, and which these are."""
    block = functools.partial(_block_moments, pair, classes)
    m = accumulate(lambda rows: block(*rows), (features, targets, weights))
    root = 1.0 if weights is None else jnp.sqrt(weights.astype(jnp.float64).max())
    of_targets = jnp.zeros(classes, bool) if classes else _out_of_range(targets, root)
    lost = _out_of_range(features, root), of_targets
    any_lost = lost[0].any() | lost[1].any()
    return dataclasses.replace(
        m,
        feature_scatter=jnp.where(lost[0][:, None] | lost[0][None], jnp.nan, m.feature_scatter),
        cross_scatter=jnp.where(lost[0][:, None] | lost[1][None], jnp.nan, m.cross_scatter),
        target_scatter=jnp.where(lost[1], jnp.nan, m.target_scatter),
        class_scatter=jnp.where(lost[0].any(), jnp.nan, m.class_scatter),
        pair=jax.tree.map(lambda a: jnp.where(any_lost, jnp.nan, a), m.pair),
    ), lost


def _out_of_range(rows: Array, root: Array | float) -> Array:
    """Columns that vary, but so little or so much that their scatter is 0 or infinite.

    ``root`` is that of the largest weight.
    """
    if rows.dtype != jnp.float64 or not len(rows):  # other types hold no such numbers
        return jnp.zeros(rows.shape[1], bool)
    low, high = rows.min(0), rows.max(0)
    varies = high - low > CONSTANT * jnp.maximum(abs(low), abs(high))
    reach = jnp.where(root > 0, root, 1.0) * (high - low)
    return varies & ((reach < SMALLEST) | (reach > LARGEST))


def _block_moments(
    pair: bool, classes: int | None, features: Array, targets: Array, weights: Array | None
) -> Moments:
    w = jnp.ones(len(features))
    if weights is not None:
        w = weights.astype(jnp.float64)
        w = jnp.where(w < 0, jnp.nan, w)  # refused where they are known
    count = w.sum()
    h_mean, h, _ = _centred(w, count, features)
    lengths = ((w[:, None] * h) * h).sum(1)
    weighted = h if weights is None else h * w[:, None]
    both = None
    if classes is None:
        y_mean, y, squares = _centred(w, count, targets)
        of_targets = {
            "target_mean": y_mean,
            "cross_scatter": dot(weighted.T, y),
            "target_scatter": squares,
            "class_scatter": dot(lengths, targets.astype(jnp.float64)),
        }
        both = Pair.of(w, h, y) if pair else None
    else:
        of_targets = one_hot_sums(*(by_class(r, targets, classes) for r in (w, weighted, lengths)))
    return Moments(
        count=count,
        feature_mean=h_mean,
        feature_scatter=gram(h) if weights is None else gram(weighted, h),
        pair=both,
        **of_targets,
    )


def _centred(w: Array, count: Array, rows: Array) -> tuple[Array, Array, Array]:
    """The mean of the rows, the rows less the mean, and their sums of squares.

    The mean's rounding grows with the number of rows. The second pass removes it, so the mean of a
    constant column is that constant. What is left of such columns is cleared.
    """
    share = w / jnp.where(count > 0, count, 1.0)
    rows = rows.astype(jnp.float64)
    mean = dot(share, rows)
    rows = rows - mean[None]
    error = dot(share, rows)
    mean, rows = mean + error, rows - error[None]
    squares = ((w[:, None] * rows) * rows).sum(0)
    rows = jnp.where(_varies(squares, mean, count)[None], rows, 0)
    return mean, rows, ((w[:, None] * rows) * rows).sum(0)


def _varies(squares: Array, mean: Array, count: Array) -> Array:
    """False for constant columns, of which two passes leave the square of rounding, 2⁻¹⁰⁰.

    True for columns with NaN.
    """
    return ~(jnp.sqrt(squares) <= jnp.sqrt(count) * 2.0**-80 * abs(mean))  # squares may vanish


def _check_rows(name: str, array: Array, n: int) -> None:
    if array.shape[0] != n:
        raise ValueError(
            f"{name} has {array.shape[0]} rows and features has {n}: wanted one row a sample"
        )


def _check_float64(name: str, m: Moments) -> None:
    if m.cross_scatter.dtype != jnp.float64:
        raise TypeError(
            f"{name} is of {m.cross_scatter.dtype}: wanted float64; under jit and vmap JAX cuts "
            "NumPy arrays to float32, so make them JAX arrays first, under jax.enable_x64(True)"
        )


def check_moments(m: Any, *, targets: bool = True, name: str = "m") -> None:
    """Check that a metric can use these moments: of one layer, in float64, with targets or without.

    Raises:
        TypeError: If it is something else, or of another type than float64.
        ValueError: If the moments are stacked, or hold no targets.
    """
    check_kind(name, m, Moments, "moments(features, targets)")
    if m.cross_scatter.ndim != 2:
        raise ValueError(
            f"{name} is stacked (cross_scatter {m.cross_scatter.shape}): map over it with jax.vmap"
        )
    _check_float64(name, m)
    if targets and not m.target_mean.shape[0]:
        raise ValueError(f"{name} holds no targets: wanted moments(features, targets)")
