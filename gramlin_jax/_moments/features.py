"""Additive second moments of features and targets: all that a metric ever sees of the samples.

Shapes: n samples, d features, k targets. Everything accumulates in float64 (see
``gramlin_jax.support.precision``), because float32 normal equations are wrong on real features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from gramlin_jax.support.checks import check_array, check_leading_axis
from gramlin_jax.support.precision import dot, in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree

# Rows that are turned to float64 at a time: the working memory is ROWS·(d + k) whatever n is.
ROWS = 4096

# A column whose deviation is below this share of its mean is constant up to rounding.
CONSTANT = 1e-12


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
    """Count, means and centred scatter of features h and targets y; a sum over samples.

    ``a + b`` are the moments of the samples of both (Chan, Golub and LeVeque 1983), so batches,
    devices and hosts merge by addition: associative and independent of order to rounding. NaN or
    infinity in a sample makes every block that it touches NaN.

    Attributes:
        count: Number of samples, or the sum of their weights.
        feature_mean: h̄ (d,).
        target_mean: ȳ (k,).
        feature_scatter: Σ (h − h̄)(h − h̄)ᵀ (d, d).
        cross_scatter: Σ (h − h̄)(y − ȳ)ᵀ (d, k).
        target_scatter: Σ (y − ȳ)² (k,), the diagonal only: an image target has thousands of
            columns.
    """

    count: Float[Array, ""]
    feature_mean: Float[Array, "d"]
    target_mean: Float[Array, "k"]
    feature_scatter: Float[Array, "d d"]
    cross_scatter: Float[Array, "d k"]
    target_scatter: Float[Array, "k"]

    @staticmethod
    @in_float64
    def zeros(d: int, k: int = 0) -> Moments:
        """The moments of no sample: the neutral element of ``+``."""
        shapes = (), (d,), (k,), (d, d), (d, k), (k,)
        return Moments(*(jnp.zeros(shape, jnp.float64) for shape in shapes))

    def update(
        self,
        features: Float[Array, "n d"],
        targets: Float[Array, "n k"] | None = None,
        *,
        weights: Float[Array, "n"] | None = None,
    ) -> Moments:
        """These moments and those of one more batch: ``self + moments(features, targets)``."""
        return self + moments(features, targets, weights=weights)

    @in_float64
    def __add__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        _check_mergeable(self, other)
        count = self.count + other.count
        share = jnp.where(count > 0, other.count / jnp.where(count > 0, count, 1.0), 0.0)
        h = other.feature_mean - self.feature_mean
        y = other.target_mean - self.target_mean
        pairs = self.count * share  # n_a n_b / (n_a + n_b)
        return Moments(
            count=count,
            feature_mean=self.feature_mean + share * h,
            target_mean=self.target_mean + share * y,
            feature_scatter=self.feature_scatter + other.feature_scatter + pairs * jnp.outer(h, h),
            cross_scatter=self.cross_scatter + other.cross_scatter + pairs * jnp.outer(h, y),
            target_scatter=self.target_scatter + other.target_scatter + pairs * y**2,
        )

    def __radd__(self, other: object) -> Moments:
        """``0 + m`` is m, so that ``sum`` works."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    @in_float64
    def psum(self, axis_name: str | tuple[str, ...]) -> Moments:
        """The merged moments of all devices along ``axis_name``, inside ``shard_map`` or ``vmap``.

        Args:
            axis_name: Name, or names, of the mapped axis that holds parts of the samples.
        """
        count = lax.psum(self.count, axis_name)
        share = jnp.where(count > 0, self.count / jnp.where(count > 0, count, 1.0), 0.0)
        feature_mean = lax.psum(share * self.feature_mean, axis_name)
        target_mean = lax.psum(share * self.target_mean, axis_name)
        h, y = self.feature_mean - feature_mean, self.target_mean - target_mean
        n = self.count
        return Moments(
            count=count,
            feature_mean=feature_mean,
            target_mean=target_mean,
            feature_scatter=lax.psum(self.feature_scatter + n * jnp.outer(h, h), axis_name),
            cross_scatter=lax.psum(self.cross_scatter + n * jnp.outer(h, y), axis_name),
            target_scatter=lax.psum(self.target_scatter + n * y**2, axis_name),
        )

    @property
    @in_float64
    def feature_products(self) -> Float[Array, "d d"]:
        """The uncentred block HᵀH (d, d)."""
        mean = self.feature_mean
        return self.feature_scatter + self.count * jnp.outer(mean, mean)

    @property
    @in_float64
    def cross_products(self) -> Float[Array, "d k"]:
        """The uncentred block HᵀY (d, k)."""
        return self.cross_scatter + self.count * jnp.outer(self.feature_mean, self.target_mean)

    @property
    @in_float64
    def target_products(self) -> Float[Array, "k"]:
        """The diagonal of the uncentred block YᵀY (k,)."""
        return self.target_scatter + self.count * self.target_mean**2


@in_float64
def moments(
    features: Float[Array, "n d"],
    targets: Float[Array, "n k"] | None = None,
    *,
    weights: Float[Array, "n"] | None = None,
) -> Moments:
    """Second moments of features, and of targets beside them.

    Reads ``ROWS`` samples at a time: device memory beyond the arguments is O(d² + dk), whatever n.

    Args:
        features: H (n, d), floating point, one row a sample.
        targets: Y (n, k), floating point; one-hot rows for classes. None: no targets, k = 0.
        weights: (n,) ≥ 0, each the number of times that a sample counts; 0 masks a sample, whose
            values have to be finite all the same. None: 1.

    Raises:
        ValueError: If shapes do not match, n or d is 0, or (outside of ``jit`` and ``vmap``) a
            value is NaN or infinite or a weight negative. Under a transformation a value that is
            NaN or infinite makes the moments NaN.
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
            if not isinstance(weights, jax.core.Tracer) and bool((weights < 0).any()):
                raise ValueError("weights has negative entries: wanted counts >= 0 (0 is a mask)")
    return _moments(features, targets, weights)


@jax.jit
def _moments(features: Array, targets: Array, weights: Array | None) -> Moments:
    """``moments`` by blocks of ``ROWS`` rows; the last one may be shorter."""
    return _sum_blocks(lambda rows: _block_moments(*rows), (features, targets, weights), ROWS)


def _block_moments(features: Array, targets: Array, weights: Array | None) -> Moments:
    h, y = features.astype(jnp.float64), targets.astype(jnp.float64)
    w = jnp.ones(len(h)) if weights is None else weights.astype(jnp.float64)
    count = w.sum()
    share = w / jnp.where(count > 0, count, 1.0)
    h_mean, y_mean = dot(share, h), dot(share, y)
    h, y = h - h_mean[None], y - y_mean[None]
    # Laid out before it is multiplied: a fifth faster on a CPU than a transpose inside the product.
    weighted = lax.optimization_barrier((h if weights is None else h * w[:, None]).T)
    return Moments(count, h_mean, y_mean, dot(weighted, h), dot(weighted, y), dot(w, y**2))


def accumulate(
    function: Callable[[Any], PyTree], data: PyTree, *, batch_size: int = ROWS
) -> PyTree:
    """Σ ``function(batch)`` over the batches of ``data``, in one scan: a streaming pass.

    ``function`` turns a batch into anything that adds: ``Moments`` of a layer's features, a
    count of correct answers, a summed loss. No feature outlives its batch.

    Args:
        function: ``batch -> pytree`` of arrays and ``Moments``, each a sum over the batch's
            samples. Call ``accumulate`` under ``jit``, or each call compiles anew.
        data: Pytree of arrays that share their first axis (n, ...); a batch is a slice of it.
        batch_size: Samples a batch; only speed and memory depend on it, never the result.

    Returns:
        The sums over all n samples, in ``function``'s structure.

    Raises:
        ValueError: If the first axes differ or are empty, or ``batch_size`` < 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: wanted at least 1")
    return _sum_blocks(function, _on_device(data), batch_size)


def _sum_blocks(function: Callable[[Any], PyTree], data: PyTree, size: int) -> PyTree:
    """Σ function(rows) over blocks of ``size`` rows; the last one may be shorter.

    The sum begins with the first block, not with zeros, so that inside ``shard_map`` it varies
    over devices from the start.
    """
    n = check_leading_axis("data", data)
    whole, rest = divmod(n, size)

    def add(total: PyTree, more: PyTree) -> PyTree:
        return jax.tree.map(_add, total, more, is_leaf=_is_moments)

    def step(total: PyTree, start: Array) -> tuple[PyTree, None]:
        rows = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, size), data)
        return add(total, function(rows)), None

    total = function(jax.tree.map(lambda a: a[: min(size, n)], data))
    if whole > 1:
        starts = size * jnp.arange(1, whole, dtype=jnp.int32)
        total, _ = lax.scan(step, total, starts)
    if whole and rest:
        total = add(total, function(jax.tree.map(lambda a: a[whole * size :], data)))
    return total


@in_float64
def _on_device(data: PyTree) -> PyTree:
    """``data`` as JAX arrays of their own types, float64 included."""
    return jax.tree.map(jnp.asarray, data)


@in_float64
def _add(a: Any, b: Any) -> Any:
    return a + b


def _is_moments(value: object) -> bool:
    return isinstance(value, Moments)


def _check_rows(name: str, array: Array, n: int) -> None:
    if array.shape[0] != n:
        raise ValueError(
            f"{name} has {array.shape[0]} rows and features has {n}: wanted one row a sample"
        )


def _check_mergeable(a: Moments, b: Moments) -> None:
    if a.cross_scatter.shape != b.cross_scatter.shape:
        raise ValueError(
            f"moments of (features, targets) widths {a.cross_scatter.shape} and "
            f"{b.cross_scatter.shape} do not add: wanted the same widths in both"
        )


def check_moments(m: Any, *, targets: bool = True, name: str = "m") -> None:
    """What every metric wants of its moments: one layer's, in float64, with targets or without.

    Raises:
        TypeError: If it is something else, or of another type than float64.
        ValueError: If the moments are stacked, or hold no targets.
    """
    if not isinstance(m, Moments):
        raise TypeError(
            f"{name} is a {type(m).__name__}: wanted Moments, moments(features, targets)"
        )
    if m.cross_scatter.ndim != 2:
        raise ValueError(
            f"{name} is stacked (cross_scatter {m.cross_scatter.shape}): map over it with jax.vmap"
        )
    if m.cross_scatter.dtype != jnp.float64:
        raise TypeError(
            f"{name} is of {m.cross_scatter.dtype}: wanted float64; under jit and vmap JAX cuts "
            "NumPy arrays to float32, so make them JAX arrays first, under jax.enable_x64(True)"
        )
    if targets and not m.target_mean.shape[0]:
        raise ValueError(f"{name} holds no targets: wanted moments(features, targets)")
