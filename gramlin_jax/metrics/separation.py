"""The law of data separation: NC1 falls by one factor from each layer to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gramlin_jax.support.checks import check_concrete, check_known, check_numbers
from gramlin_jax.support.precision import in_float64


class SeparationLaw(NamedTuple):
    """Result of ``separation_law``.

    Attributes:
        slope: Of ln NC1 over the layers; exp(slope) is the factor from a layer to the next.
        low: Lower end of the slope's interval.
        high: Upper end.
        correlation: Of ln NC1 with depth, in [−1, 1]; −1 where the law is exact.
    """

    slope: float
    low: float
    high: float
    correlation: float


@in_float64
def separation_law(nc1: Sequence[float], *, level: float = 0.95) -> SeparationLaw:
    """Slope of ln NC1 over depth, by least squares, with its interval under normal errors.

    Args:
        nc1: NC1 > 0 of the features of each layer, in the order of depth, three or more.
        level: Of the interval, 0 < level < 1.

    Returns:
        The slope with its interval; a negative slope means that classes separate with depth.

    Raises:
        ValueError: If there are fewer than three values, one is not positive and finite, or
            ``level`` is out of range.

    Source: He and Su, A law of data separation in deep learning (arXiv 2210.17020).

    Example:
        >>> law = separation_law([8.0, 4.0, 2.0, 1.0])
        >>> round(math.exp(law.slope), 12), round(law.correlation, 12)
        (0.5, -1.0)
    """
    from scipy import stats  # takes long to import

    check_concrete("nc1", nc1, "outside of what is compiled")
    values = np.asarray(check_numbers("nc1", nc1), np.float64)
    if values.ndim != 1 or len(values) < 3:
        raise ValueError(f"nc1 has shape {values.shape}: wanted three layers or more")
    if not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"nc1 is {values.tolist()}: wanted positive numbers")
    level = check_known("level", level)
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: wanted a number between 0 and 1")
    fit = stats.linregress(np.arange(len(values)), np.log(values))
    # Equal values have neither an error nor a correlation, of which SciPy makes NaN.
    error = fit.stderr if math.isfinite(fit.stderr) else 0.0
    away = float(stats.t.ppf((1 + level) / 2, len(values) - 2) * error)
    slope = float(fit.slope)
    correlation = float(fit.rvalue) if math.isfinite(fit.rvalue) else 0.0
    return SeparationLaw(slope, slope - away, slope + away, correlation)
