"""Spectra of kernels: how many directions they use, and which of them stand out from noise.

With W = Kᵀ, a kernel of independent entries of mean 0 and variance σ² has a known spectrum: the
eigenvalues of KKᵀ/o follow the Marchenko–Pastur law, and the largest, centred and scaled, the
Tracy–Widom law.

Shapes: i inputs, o outputs, d eigenvalues.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import special

from gramlin_jax.support.checks import (
    check_array,
    check_count,
    check_filled,
    check_known,
    check_numbers,
    is_traced,
)
from gramlin_jax.support.linalg import at_least, at_most, dot, eigh, entry, largest, rank_tolerance
from gramlin_jax.support.precision import concrete, in_float64, magnitude

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

SMALLEST = 8  # rows and columns of a kernel whose components are counted
FEWEST = 10  # eigenvalues of a tail to which a power law is fitted
# The Tracy–Widom law of order 1 as a gamma law, shifted: Chiani (2014), table I.
SHAPE, SCALE, SHIFT = 46.446, 0.186054, 9.84801
# The 5 % point of the modified Kolmogorov–Smirnov statistic of an exponential law of unknown scale.
UNFIT = 1.094


class Components(NamedTuple):
    """Result of ``significant_components``.

    Attributes:
        number: Of components that stand out from noise.
        variance: σ² of the entries of the noise.
        threshold: What an eigenvalue of KKᵀ/o has to exceed to stand out.
    """

    number: Int[Array, ""]
    variance: Float[Array, ""]
    threshold: Float[Array, ""]


class PowerLaw(NamedTuple):
    """Result of ``power_law_exponent``: the density of the eigenvalues λ ≥ cutoff is ∝ λ^(−α).

    Attributes:
        exponent: α > 1; NaN where no power law is found.
        cutoff: The smallest eigenvalue of the tail that is fitted.
        size: Number of eigenvalues in the tail.
        distance: Kolmogorov–Smirnov distance of the tail from the power law, in [0, 1].
    """

    exponent: Float[Array, ""]
    cutoff: Float[Array, ""]
    size: Int[Array, ""]
    distance: Float[Array, ""]


@in_float64
def spectrum(kernel: Float[Array, "i o"]) -> Float[Array, "d"]:
    """The d = min(i, o) largest eigenvalues of KKᵀ/o = WᵀW/o, descending; the others are 0.

    Eigenvalues below max(64, d)·2⁻⁵² of the largest are rounding and set to 0.

    Args:
        kernel: K (i, o), or an update.

    Returns:
        (d,) ≥ 0, float64.

    Raises:
        ValueError: If ``kernel`` is no matrix, is empty or (outside transformations) not finite.
        TypeError: If it is not floating point.

    Example:
        >>> spectrum(jnp.array([[3.0, 0], [0, 1], [0, 0]])).tolist()
        [4.5, 0.5]
    """
    kernel, unit = _scaled_kernel(kernel)
    return concrete(_eigenvalues(kernel) * unit**2 / kernel.shape[1])


@in_float64
def participation_ratio(eigenvalues: Float[Array, "*stack d"]) -> Float[Array, "*stack"]:
    """Participation ratio (Σλ)²/Σλ², the number of directions that share the variance.

    In [1, d]: 1 for one direction, r for r equal ones. Always 1 ≤ ``stable_rank`` ≤
    ``participation_ratio`` ≤ ``effective_rank`` ≤ rank.

    Args:
        eigenvalues: λ (*stack, d) ≥ 0, of a Gram or a covariance; any order and scale. Subnormal
            ones, below 2.3e-308, count as 0.

    Returns:
        (*stack,), float64; NaN where all are 0.

    Raises:
        ValueError: If there are no eigenvalues or (outside transformations) one is negative by more
            than rounding, max(64, d)·2⁻⁵² of the largest.
        TypeError: If they are not floating point.

    Source: the exponential of the Rényi entropy of order 2 of λ/Σλ.

    Example:
        >>> float(participation_ratio(jnp.array([2.0, 2, 0])))
        2.0
    """
    shares = _shares(eigenvalues)
    return concrete(1 / (shares**2).sum(-1))


@in_float64
def stable_rank(eigenvalues: Float[Array, "*stack d"]) -> Float[Array, "*stack"]:
    """Stable rank Σλ/max λ; for a kernel's ``spectrum`` ‖K‖²/‖K‖₂². In [1, d].

    Args, Returns, Raises: as ``participation_ratio``.

    Source: the exponential of the Rényi entropy of order ∞ of λ/Σλ.

    Example:
        >>> float(stable_rank(jnp.array([2.0, 1, 1])))
        2.0
    """
    return concrete(1 / largest(_shares(eigenvalues)))


@in_float64
def effective_rank(eigenvalues: Float[Array, "*stack d"]) -> Float[Array, "*stack"]:
    """Effective rank exp(−Σ p ln p) with p = λ/Σλ. In [1, d].

    Args, Returns, Raises: as ``participation_ratio``.

    Source: Roy and Vetterli, The effective rank (2007), there of singular values.

    Example:
        >>> round(float(effective_rank(jnp.array([2.0, 2, 0]))), 12)
        2.0
    """
    shares = _shares(eigenvalues)
    logs = jnp.log(jnp.where(shares > 0, shares, 1))
    return concrete(jnp.exp(-(shares * logs).sum(-1)))


@in_float64
def spectral_entropy(eigenvalues: Float[Array, "*stack d"]) -> Float[Array, "*stack"]:
    """Normalised entropy −Σ p ln p/ln d with p = λ/Σλ. In [0, 1]: 1 for d equal eigenvalues.

    Args, Returns, Raises: as ``participation_ratio``; NaN for one eigenvalue.

    Source: ln ``effective_rank``/ln d.

    Example:
        >>> round(float(spectral_entropy(jnp.array([2.0, 2, 0, 0]))), 12)
        0.5
    """
    entropy = jnp.log(jnp.asarray(effective_rank(eigenvalues)))
    d = np.shape(eigenvalues)[-1]
    share = at_most(at_least(entropy / np.log(d), 0), 1) if d > 1 else entropy * jnp.nan
    return concrete(share)


@in_float64
def marchenko_pastur_edges(
    n: int, d: int, variance: float | Float[Array, ""] = 1.0
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Edges σ²(1 ± √(d/n))² of the spectrum of XᵀX/n, X (n, d) of independent entries.

    For a kernel K (i, o) and its ``spectrum``, n = o and d = i. For d > n the other d − n
    eigenvalues are 0.

    Args:
        n: Number of rows.
        d: Number of columns.
        variance: σ² > 0 of the entries, whose mean is 0.

    Returns:
        The lower and the upper edge, float64.

    Raises:
        ValueError: If ``n`` or ``d`` < 1, or (outside transformations) σ² ≤ 0.

    Source: Marchenko and Pastur (1967).

    Example:
        >>> [float(edge) for edge in marchenko_pastur_edges(400, 100)]
        [0.25, 2.25]
    """
    check_count("n", n)
    check_count("d", d)
    variance = check_numbers("variance", variance)
    if not is_traced(variance) and not np.all(np.asarray(variance) > 0):
        raise ValueError(f"variance is {variance}: wanted a positive number")
    root = np.sqrt(d / n)
    less, more = (n - d) / n / (1 + root), 1 + root  # 1 − root would cancel
    variance = variance.astype(jnp.float64)
    return concrete(variance * less**2), concrete(variance * more**2)


@in_float64
def marchenko_pastur_density(
    x: Float[Array, "..."], n: int, d: int, variance: float | Float[Array, ""] = 1.0
) -> Float[Array, "..."]:
    """Density √((λ₊ − x)(x − λ₋))/(2πσ²x·d/n) of the nonzero eigenvalues of XᵀX/n, n, d → ∞.

    It integrates to min(1, n/d): for d > n the other eigenvalues are 0.

    Args:
        x: Where, (...).
        n: Number of rows.
        d: Number of columns.
        variance: σ² > 0 of the entries.

    Returns:
        (...), float64; 0 outside of the edges.

    Raises:
        ValueError: As ``marchenko_pastur_edges``.

    Source: Marchenko and Pastur (1967).

    Example:
        >>> round(float(marchenko_pastur_density(1.0, 400, 100)), 4)
        0.6164
    """
    marchenko_pastur_edges(n, d, variance)  # checks them
    low, high = marchenko_pastur_edges(n, d)
    variance = jnp.asarray(variance, jnp.float64)
    x = check_numbers("x", x).astype(jnp.float64) / variance  # squares of either may leave float64
    inside = ~((x <= low) | (x >= high))  # NaN too
    x = jnp.where(inside, x, (low + high) / 2)  # or derivatives are NaN outside
    root = jnp.sqrt((high - x) * (x - low))
    return concrete(jnp.where(inside, root / (2 * np.pi * variance * x * d / n), 0.0))


@in_float64
def significant_components(kernel: Float[Array, "i o"], level: float = 0.05) -> Components:
    """How many components of a kernel stand out from noise of independent Gaussian entries.

    Let ℓ₁ ≥ … be the eigenvalues of KKᵀ. Without the k largest, those of noise behave as those of a
    kernel (i − k, o − k), whose variance is σ̂² = Σ_{j>k} ℓ_j / ((i − k)(o − k)). Component k + 1
    stands out if ℓ_{k+1}/σ̂² exceeds the 1 − level quantile of the largest eigenvalue of that
    noise; the number is the largest such k + 1, at most half of min(i, o). So σ̂² comes from the
    bulk, whatever stands out. For levels up to 0.1, noise has a component with a probability of
    about ``level``. Above, the probability is larger, since each k has its chance: 0.6 to 0.9 at
    0.5. A kernel whose entries have heavy tails, or a common mean, has components.

    The largest eigenvalue has Tracy–Widom's law about μ = (√a + √b)² with the scale
    s = (√a + √b)(1/√a + 1/√b)^(1/3), a = i − k − ½, b = o − k − ½. Divided by σ̂², of the same
    entries, it varies less: to second order F − F''·(μ/s)²/((i − k)(o − k)) takes the law's place.

    Args:
        kernel: K (i, o), or an update of a kernel.
        level: Of each test, in (0, 0.5].

    Returns:
        Number, variance of the noise, and threshold for eigenvalues of the ``spectrum``. For zeros
        the number is 0; NaN in the kernel gives 0 and NaN.

    Raises:
        ValueError: If ``kernel`` is no matrix, has fewer than 8 rows or columns or (outside
            transformations) is not finite; or ``level`` is not in (0, 0.5].
        TypeError: If ``kernel`` is not floating point.

    Source: Johnstone (2001), theorem 1.1, with the ½ of Ma (2012), theorem 2, and Nadler (2011),
        equation 14, for the ratio; Kritchman and Nadler (2008) for the sequence of tests; Chiani
        (2014) for the law.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(50, 80))
        >>> int(significant_components(noise).number)
        0
        >>> spikes = np.diag(np.repeat([20.0, 0.0], [3, 47])) @ np.eye(50, 80)
        >>> int(significant_components(noise + spikes).number)
        3
    """
    kernel, unit = _scaled_kernel(kernel)
    if min(kernel.shape) < SMALLEST:
        raise ValueError(f"kernel has shape {kernel.shape}: wanted at least {SMALLEST} a side")
    level = check_known("level", level)
    if not 0 < level <= 0.5:
        raise ValueError(f"level is {level}: wanted a probability in (0, 0.5]")
    i, o = (size - np.arange(min(kernel.shape) // 2 + 1) for size in kernel.shape)
    bounds = jnp.asarray(_largest_of_noise(i, o, level))
    return Components(*map(concrete, _components(kernel, unit, bounds)))


@in_float64
def power_law_exponent(eigenvalues: Float[Array, "d"], *, fewest: int = FEWEST) -> PowerLaw:
    """The exponent α of a power law λ^(−α) in the tail of a spectrum.

    Above a cutoff x the maximum-likelihood estimate is α = 1 + n/Σ ln(λ/x). The cutoff is the
    eigenvalue for which the tail is nearest to its power law by the Kolmogorov–Smirnov distance D.
    The law is refused, and α is NaN, where (D − 0.2/n)(√n + 0.26 + 0.5/√n) exceeds 1.094, or there
    are fewer than ``fewest`` different eigenvalues. The choice of the cutoff makes D small, so a
    tail that is not refused need not be a power law: mind ``size``.

    Args:
        eigenvalues: λ (d,) ≥ 0, see ``participation_ratio``; zeros are left out.
        fewest: Least number of eigenvalues in a tail, at least 3.

    Returns:
        Exponent, cutoff, size and distance; NaN and 0 where there are too few eigenvalues, or
        (under transformations) one is not finite.

    Raises:
        ValueError: As ``participation_ratio``, or if ``fewest`` < 3.
        TypeError: If the eigenvalues are not floating point.

    Source: Clauset, Shalizi and Newman (2009), sections 3.1 and 3.3; Stephens (1974), table 1.1,
        for the refusal, since ln(λ/x) is exponential.

    Example:
        >>> tail = power_law_exponent((np.arange(1000) + 0.5) ** -0.5 / 1000**-0.5)
        >>> round(float(tail.exponent), 2)
        3.0
    """
    check_count("fewest", fewest, 3)
    values = _eigenvalues_of(eigenvalues, ("d",))
    return PowerLaw(*map(concrete, _power_law(values, fewest)))


def _scaled_kernel(kernel: Array) -> tuple[Array, Array]:
    """K in float64, divided by a power of two so that squares neither overflow nor vanish."""
    kernel = check_array("kernel", kernel, ("i", "o")).astype(jnp.float64)
    check_filled("kernel", kernel)
    unit = magnitude(kernel)
    return kernel / unit, unit


@jax.jit
def _eigenvalues(kernel: Array) -> Array:
    """Of the smaller Gram of K, descending; what is rounding is 0."""
    wide = kernel.shape[0] < kernel.shape[1]
    values = eigh(dot(kernel, kernel.T) if wide else dot(kernel.T, kernel))[0][::-1]
    return jnp.where(values < rank_tolerance(len(values)) * values[0], 0, values)


@jax.jit
def _components(kernel: Array, unit: Array, bounds: Array) -> tuple[Array, Array, Array]:
    values = _eigenvalues(kernel)
    removed = np.arange(len(bounds))
    i, o = (size - removed for size in kernel.shape)
    tails = jnp.cumsum(values[::-1])[::-1][: len(removed)]
    variances = tails / (i * o)
    found = (values[: len(removed)] > variances * bounds) & (removed < removed[-1])
    number = jnp.where(found, removed + 1, 0).max()
    variance = entry(variances, number) * unit**2
    return number, variance, bounds[number] * variance / kernel.shape[1]


@functools.partial(jax.jit, static_argnames="fewest")
def _power_law(values: Array, fewest: int) -> tuple[Array, Array, Array, Array]:
    values = _descending(values)
    logs = jnp.log(jnp.where(values > 0, values, 1))
    n = np.arange(1, len(values) + 1)
    # Row j is the tail of the j + 1 largest; entry r of it, how far ln λ_r lies above the cutoff.
    of_tail = n[:, None] >= n[None]
    above = jnp.where(of_tail, logs[None] - logs[:, None], 0)
    spread = above.sum(1)
    varies = spread > 0
    rate = jnp.asarray(n) / jnp.where(varies, spread, 1)
    modelled, observed = jnp.exp(-rate[:, None] * above), n[None] / n[:, None]
    beside = modelled - observed
    away = largest(jnp.stack([abs(beside), abs(beside + 1 / n[:, None])], -1))
    distances = largest(jnp.where(of_tail, away, 0))
    differs = (jnp.diff(values, append=-1.0) < 0) & (values > 0)  # a cutoff takes all its equals
    usable = (n >= fewest) & differs & varies
    least = jnp.where(usable, lax.stop_gradient(distances), jnp.inf).min()
    best = jnp.where(usable & (distances == least), n, len(n)).min() - 1  # vmap breaks argmin
    found = usable.any() & jnp.isfinite(values).all()  # NaN is below no other, nor above
    size, distance = jnp.asarray(n)[best], entry(distances, best)
    cutoff = entry(values, best)
    statistic = (distance - 0.2 / size) * (jnp.sqrt(size) + 0.26 + 0.5 / jnp.sqrt(size))
    exponent = jnp.where(
        (statistic <= UNFIT) & (differs.sum() >= fewest), 1 + entry(rate, best), jnp.nan
    )
    none = jnp.nan, jnp.nan, 0, jnp.nan
    law = exponent, cutoff, size, distance
    return jax.tree.map(lambda a, b: jnp.where(found, a, b), law, none)


def _descending(values: Array) -> Array:
    """``values`` sorted, with a derivative as ``diagonal`` has it."""
    index = jnp.arange(len(values), dtype=jnp.int32)
    order = lax.sort_key_val(lax.stop_gradient(values), index)[1][::-1]
    return jnp.where(order[:, None] == index[None], values[None], 0).sum(1)


def _eigenvalues_of(eigenvalues: Array, axes: tuple[str, ...]) -> Array:
    """λ as the user gives them, checked, scaled, and without negative rounding."""
    values = check_array("eigenvalues", eigenvalues, axes).astype(jnp.float64)
    if not values.shape[-1]:
        raise ValueError(f"eigenvalues has shape {values.shape}: wanted at least one")
    rounding = rank_tolerance(values.shape[-1]) * lax.stop_gradient(values).max(-1, keepdims=True)
    negative = values < -rounding
    if not is_traced(negative) and bool(negative.any()):
        raise ValueError(
            f"eigenvalues has the negative entry {float(values.min())}: wanted those of a Gram"
        )
    return jnp.where(negative, jnp.nan, jnp.where(values < 0, 0, values))


def _shares(eigenvalues: Array) -> Array:
    """λ/Σλ (*stack, d)."""
    axes = (*["stack"] * (np.ndim(eigenvalues) - 1), "d")
    values = _eigenvalues_of(eigenvalues, axes)
    # Or their sum may overflow. Shares do not depend on the unit, and so have no derivative by it.
    values = values / jnp.max(lax.stop_gradient(values), -1, keepdims=True)
    return values / values.sum(-1, keepdims=True)


def _largest_of_noise(i: np.ndarray, o: np.ndarray, level: float) -> np.ndarray:
    """The 1 − level quantile of ℓ₁/σ̂² of kernels (i, o) of noise."""
    a, b = np.sqrt(i - 0.5), np.sqrt(o - 0.5)
    mean, scale = (a + b) ** 2, (a + b) * (1 / a + 1 / b) ** (1 / 3)
    gamma = SCALE * special.gammainccinv(SHAPE, level)
    slope = (SHAPE - 1) / gamma - 1 / SCALE  # F''/F' of the shifted gamma law
    return mean + scale * (gamma - SHIFT + slope * (mean / scale) ** 2 / (i * o))
