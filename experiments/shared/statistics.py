"""What seeds say together: spread, intervals, rank correlations, paired differences."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats


def spread(runs: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean and standard deviation over the dimension ``seed``; NaN where a seed is NaN.

    The standard deviation is the sample's, √(Σ(x − x̄)²/(s − 1)); of a single seed it is 0.
    """
    ddof = min(1, runs.sizes["seed"] - 1)
    return runs.mean("seed", skipna=False), runs.std("seed", ddof=ddof, skipna=False)


def prediction_margin(value: xr.DataArray | float, runs: xr.DataArray) -> xr.DataArray:
    """How far a value lies inside the 95 % prediction interval of one more seed; NaN from one seed.

    The interval is x̄ ± t s √(1 + 1/n): a further seed varies, and so does the mean of n seeds that
    it is compared with.
    """
    n, (mean, deviation) = runs.sizes["seed"], spread(runs)
    reach = stats.t.ppf(0.975, n - 1) * (1 + 1 / n) ** 0.5
    return reach * deviation - abs(value - mean)


@dataclasses.dataclass(frozen=True)
class Interval:
    """Mean of the seeds' correlations, with a 95 % interval from their spread.

    Attributes:
        mean: On Fisher's scale, arctanh r, and back.
        low: Lower end, by the t distribution on that scale: the seeds are the samples, since
            epochs and hyper-parameters of one seed are not independent.
        high: Upper end.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def interval(correlations: np.ndarray) -> Interval:
    """Summarise correlations (s,) of two seeds or more; NaN where one is not defined.

    Beyond ±0.999 they count as that: arctanh would make much of the last rank.
    """
    z = np.arctanh(np.clip(correlations, -0.999, 0.999))
    reach = stats.t.ppf(0.975, len(z) - 1) * z.std(ddof=1) / len(z) ** 0.5
    low, mean, high = np.tanh([z.mean() - reach, z.mean(), z.mean() + reach])
    return Interval(float(mean), float(low), float(high))


def rank_correlation(a: np.ndarray, b: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """Spearman's correlation over the last axis; NaN where nothing changes.

    Args:
        a: (..., n).
        b: (..., n).
        given: What is held fixed (..., n): the partial correlation of the ranks then,
            (r_ab − r_ac r_bc)/√((1 − r_ac²)(1 − r_bc²)); 0 where it leaves nothing of a or b.
    """
    ab = _pearson(*(stats.rankdata(values, axis=-1) for values in (a, b)))
    if given is None:
        return ab
    ac, bc = rank_correlation(a, given), rank_correlation(b, given)
    left = np.sqrt(np.maximum((1 - ac**2) * (1 - bc**2), 0))
    return np.where(left < 1e-6, 0 * ab, _ratio(ab - ac * bc, left))


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (values - values.mean(-1, keepdims=True) for values in (a, b))
    return _ratio((a * b).sum(-1), np.sqrt((a**2).sum(-1) * (b**2).sum(-1)))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a / np.where(b > 1e-12, b, np.nan)


def epoch_rank_correlation(
    a: xr.DataArray, b: xr.DataArray, since: xr.DataArray | None = None
) -> xr.DataArray:
    """``rank_correlation`` over the dimension ``epoch``.

    Args:
        a: Curves, with a coordinate ``epoch``.
        b: Curves like them.
        since: The first epoch that counts, for each curve; where it is NaN, so is the correlation.
            None: all count.
    """
    dims = ["epoch"]
    if since is None:
        found: xr.DataArray = xr.apply_ufunc(rank_correlation, a, b, input_core_dims=[dims, dims])
        return found

    def later(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> float:
        return float(rank_correlation(x[counts], y[counts])) if counts.any() else np.nan

    counted = a, b, a["epoch"] >= since
    found = xr.apply_ufunc(later, *counted, input_core_dims=[dims, dims, dims], vectorize=True)
    return found


def first_epoch(true: xr.DataArray) -> xr.DataArray:
    """The first epoch at which each curve of truth values is true; NaN where none is."""
    return true["epoch"].where(true).min("epoch")


@dataclasses.dataclass(frozen=True)
class Paired:
    """The mean of paired differences and what a t-test says of it.

    Attributes:
        mean: Of the differences.
        low: Lower end of the mean's 95 % confidence interval.
        high: Its upper end.
        p: Probability of a mean as far from 0, were it 0.
    """

    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.interval}, p {self.p:.2g}"

    @property
    def interval(self) -> str:
        """The mean with its interval, as a person reads them."""
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def paired(a: Any, b: Any) -> Paired:
    """Compare ``a`` with ``b`` (s,), s ≥ 2, seed by seed: the differences a − b; NaN if one is."""
    a, b = (np.asarray(values, float) for values in (a, b))
    difference = a - b
    mean = float(difference.mean())
    if not np.isfinite(difference).all():
        return Paired(*[np.nan] * 4)
    if not np.ptp(difference):  # no deviation: the test divides by it
        return Paired(mean, mean, mean, float(mean == 0))
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    return Paired(mean, float(interval.low), float(interval.high), float(test.pvalue))
