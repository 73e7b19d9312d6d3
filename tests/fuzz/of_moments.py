"""Moments, their merger, and target linearity, against least squares in long double."""

from __future__ import annotations

import draws
import jax
import jax.numpy as jnp
import numpy as np
from exact import EPS, LONG, fit, over, svd, t, truth, varying
from verdicts import Verdict

from gramlin_jax import (
    Moments,
    heldout_target_linearity,
    moments,
    noise_floor,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
)

SIZE, PARTS = 256, 5
SHAPES = (24, 5, 3), (5, 6, 2), (60, 2, 1), (1, 3, 2)


def on_device(*arrays):
    with jax.enable_x64(True):
        return tuple(jnp.asarray(a) for a in arrays)


@jax.jit
@jax.vmap
def in_one(h, y, w):
    return moments(h, y, weights=w)


@jax.jit
@jax.vmap
def in_parts(h, y, w, masks):
    """By ``sum`` over a stack of parts, and by ``+``, the empty moments among them."""
    parts = jax.vmap(lambda mask: moments(h, y, weights=w * mask))(masks)
    folded = Moments.zeros(h.shape[1], y.shape[1])
    for index in range(PARTS):
        folded = folded + jax.tree.map(lambda a: a[index], parts)  # noqa: B023
    return parts.sum(), folded


@jax.jit
@jax.vmap
def metrics(m, test, kernel):
    return {
        "target_linearity": target_linearity(m),
        "target_linearity(intercept=False)": target_linearity(m, intercept=False),
        "target_linearity_adjusted": target_linearity_adjusted(m),
        "noise_floor": noise_floor(m),
        "heldout_target_linearity": heldout_target_linearity(m, test),
        "surrogate": surrogate(m, kernel),
        "surrogate(normalized=True)": surrogate(m, kernel, normalized=True),
    }


def inputs(rng):
    """Features and targets of training and test samples, weights, kernel, masks of parts."""
    n, d, k = SHAPES[rng.choice(len(SHAPES), p=(0.45, 0.25, 0.2, 0.1))]
    dtype = rng.choice(list(draws.TYPES))
    h = draws.stack(lambda: draws.columns(rng, 2 * n, d, dtype), SIZE)
    y = draws.stack(lambda: draws.columns(rng, 2 * n, k, dtype), SIZE)
    linear = rng.random(SIZE) < 0.4
    with np.errstate(over="ignore", invalid="ignore"):
        own = (h.astype(np.float64)[..., :1] + y.astype(np.float64)).astype(y.dtype)
    y = np.where(linear[:, None, None] & np.isfinite(own.astype(float)), own, y)
    w = draws.stack(lambda: draws.weights(rng, 2 * n), SIZE)
    kernel = draws.stack(lambda: draws.matrix(rng, d, 2, "float64"), SIZE)
    part = rng.integers(0, PARTS, (SIZE, 1, n))
    masks = (part == np.arange(PARTS)[None, :, None]).astype(np.float64)
    return h, y, w, kernel, masks


def check(rng):
    """Verdicts on a stack of inputs."""
    h, y, w, kernel, masks = inputs(rng)
    n = h.shape[1] // 2
    train, test = ([a[:, part] for a in (h, y, w)] for part in (slice(n), slice(n, None)))
    exact, exact_test, clean = truth(*train), truth(*test), train[1].copy()
    spoiled = draws.spoil(rng, train[0]) | draws.spoil(rng, train[1])
    m, m_test = in_one(*on_device(*train)), in_one(*on_device(*test))
    summed, folded = in_parts(*on_device(*(a.astype(np.float64) for a in train), masks))
    verdicts = []
    for name, found, parts in (
        ("moments", m, 0),
        ("moments: sum of parts", summed, PARTS),
        ("moments: + of parts", folded, PARTS),
    ):
        (verdict,) = of_sums(name, found, exact, clean, parts)
        verdicts.append(verdict._replace(slack=np.where(spoiled[:, None], np.inf, verdict.slack)))
    (k,) = on_device(kernel)
    values = of_metrics("", metrics(m, m_test, k), exact, exact_test, test, kernel, 0)
    values += of_metrics(
        " of parts", metrics(summed, m_test, k), exact, exact_test, test, kernel, PARTS
    )
    return verdicts + [value.undefined(spoiled) for value in values]


def offset(exact):
    """|mean|/deviation of the columns that vary, the largest of each input."""
    ratios = []
    for squares, mean in ((exact.h_squares, exact.h_mean), (exact.y_squares, exact.y_mean)):
        varies, _ = varying(squares, mean, exact.count)
        deviation = np.sqrt(over(squares, np.where(exact.count > 0, exact.count, 1)[:, None]))
        ratios.append(np.where(varies, over(abs(mean), deviation), 0).max(-1))
    return np.maximum(*ratios)


def noise_of(exact, parts):
    """The relative rounding of the Gram of scaled columns: means of parts are rounded, too."""
    n = exact.h.shape[1]
    return ((16 + n) * EPS + 4 * parts * EPS * offset(exact)).astype(float)


def of_sums(name, m, exact, y, parts):
    """The blocks of the moments; each entry by the lengths of its two columns."""
    n = exact.h.shape[1]
    e = (16 + 2 * n) * EPS
    root = np.sqrt(np.where(exact.count > 0, exact.count, 1))[:, None]
    means = [np.where(exact.count[:, None] > 0, a, 0) for a in (exact.h_mean, exact.y_mean)]
    lengths = [np.sqrt(exact.h_squares), np.sqrt(exact.y_squares)]
    # The means of parts are rounded, which adds this to the length of a column.
    blur = [parts * 8 * EPS * abs(mean) * root for mean in means]
    of_means = [
        4 * EPS * (1 + parts) * abs(mean) + e * over(length, root)
        for mean, length in zip(means, lengths, strict=True)
    ]

    def slack(a, b):
        return e * outer(lengths[a], lengths[b]) + sum(
            outer(*pair) * (1 + e)
            for pair in ((blur[a], lengths[b]), (lengths[a], blur[b]), (blur[a], blur[b]))
        )

    size, more = (np.sqrt((a**2).sum(-1)) for a in (lengths[0], blur[0]))
    largest = abs(y.astype(LONG)).max(1) * np.where(exact.count > 0, 1, 0)[:, None]
    of_classes = 4 * largest * (e * size**2 + 2 * size * more + more**2)[:, None]
    blocks = [
        (m.count, exact.count, n * EPS * exact.count),
        (m.feature_mean, means[0], of_means[0]),
        (m.target_mean, means[1], of_means[1]),
        (m.feature_scatter, t(exact.h) @ exact.h, slack(0, 0)),
        (m.cross_scatter, t(exact.h) @ exact.y, slack(0, 1)),
        (m.target_scatter, exact.y_squares, np.einsum("bii->bi", slack(1, 1))),
        (m.class_scatter, exact.class_scatter, of_classes),
    ]
    got, want, slacks = (
        np.concatenate([np.asarray(part, LONG).reshape(len(y), -1) for part in column], 1)
        for column in zip(*blocks, strict=True)
    )
    return [Verdict(name, got, want, slacks + LONG(1e-300))]  # numbers below are not normal


def outer(a, b):
    return a[:, :, None] * b[:, None]


def of_metrics(suffix, got, exact, exact_test, test, kernel, parts):
    """Each metric beside its definition, in which constant targets have no part."""
    open_targets, open_test = (
        varying(m.y_squares, m.y_mean, m.count)[1].any(-1) for m in (exact, exact_test)
    )
    exact, exact_test = without_constants(exact), without_constants(exact_test)
    noise = noise_of(exact, parts)
    f = fit(exact, noise)
    total = exact.y_squares.sum(-1)
    projections = t(f.rows) @ exact.y
    defined = (total > 0) & (exact.count > 0)
    share = np.where(
        defined, over((projections**2).sum((-2, -1)), np.where(defined, total, 1)), np.nan
    )
    loose = noise * f.condition
    open_ = ~f.clear | open_targets
    slack = np.where(open_, np.inf, loose + 1e-13)
    rank, n = f.present.sum(-1), exact.count.astype(float)
    left = n - rank - 1
    near_saturated = abs(left) < 1e-9 * n
    factor = over(n - 1, np.where(left > 0, left, 1))
    adjusted = np.where(left > 0, 1 - (1 - share) * factor, np.nan)
    of_count = exact.h.shape[1] * EPS * over(n, np.where(left > 0, left, 1))
    blurred = slack * (1 + abs(factor)) + abs((1 - share) * factor) * of_count
    blurred = np.where(near_saturated, np.inf, blurred)
    floor = np.where((n > 1) & (rank <= n), np.minimum(over(rank, n - 1), 1), np.nan)
    near_one = (abs(n - 1) < 1e-9) | ((abs(rank - n) < 1e-9 * n) & (rank != n))
    open_floor = ~f.clear | near_one
    verdicts = [
        Verdict("target_linearity" + suffix, got["target_linearity"], share, slack),
        Verdict(
            "target_linearity_adjusted" + suffix,
            got["target_linearity_adjusted"],
            adjusted,
            blurred,
        ),
        Verdict(
            "noise_floor" + suffix, got["noise_floor"], floor, np.where(open_floor, np.inf, 1e-12)
        ),
        of_heldout(suffix, got, exact, exact_test, test, f, noise, open_ | open_test),
        *of_surrogate(suffix, got, exact, kernel, total, noise, parts, open_targets),
    ]
    name = "target_linearity(intercept=False)"
    bare = without_intercept(exact, f, share, total, defined, noise, open_)
    return [*verdicts, Verdict(name + suffix, got[name], *bare)]


def without_constants(exact):
    varies, _ = varying(exact.y_squares, exact.y_mean, exact.count)
    return exact._replace(y=np.where(varies[:, None], exact.y, 0))


def of_heldout(suffix, got, exact, exact_test, test, f, noise, open_):
    h, y, w = (a.astype(LONG) for a in test)
    away = h - exact.h_mean[:, None]
    parts = away[..., None] * f.coefficients[:, None]
    y = np.where(exact_test.y_squares[:, None] > 0, y, exact_test.y_mean[:, None])
    residual = y - exact.y_mean[:, None] - parts.sum(2)
    total = exact_test.y_squares.sum(-1)
    defined = (total > 0) & (exact.count > 0)
    total = np.where(defined, total, 1)
    lost = over((w[..., None] * residual**2).sum((1, 2)), total)
    want = np.where(defined, 1 - lost, np.nan)
    energy = over((w[:, :, None, None] * parts**2).sum((1, 2, 3)), total) * h.shape[2]
    blur = 64 * EPS * (offset(exact) + offset(exact_test))
    # Of the targets' means only the rounding is left where they are far away.
    of_means = 2 * EPS * (abs(exact.y_mean) + abs(exact_test.y_mean))
    missed = abs((w[..., None] * residual).sum(1))
    of_means = (of_means * (2 * missed + exact_test.count[:, None] * of_means)).sum(-1)
    slack = 64 * (noise + blur) * f.condition * (energy + lost + 1) + over(of_means, total)
    return Verdict(
        "heldout_target_linearity" + suffix,
        got["heldout_target_linearity"],
        want,
        np.where(open_, np.inf, slack),
    )


def of_surrogate(suffix, got, exact, kernel, total, noise, parts, open_):
    k = kernel.astype(LONG)
    value = t(k) @ t(exact.h) @ exact.y
    squares = (value**2).sum((1, 2))
    root = np.sqrt(exact.count)[:, None]
    # The scatter is right by the lengths of columns, and means of parts are rounded.
    lengths = np.sqrt(exact.h_squares), np.sqrt(exact.y_squares)
    blur = [
        (1e3 * EPS + 8 * parts) * EPS * abs(mean) * root for mean in (exact.h_mean, exact.y_mean)
    ]
    error = outer(4 * noise[:, None] * lengths[0] + blur[0], lengths[1] + blur[1])
    error = t(abs(k)) @ (error + outer(lengths[0], blur[1]))
    error = (2 * abs(value) * error + error**2).sum((1, 2))
    products = t(exact.h) @ exact.h + (
        exact.count[:, None, None] * exact.h_mean[:, :, None] * exact.h_mean[:, None]
    )
    length = np.sqrt(np.einsum("bii->bi", products))
    of_z = (k * (products @ k)).sum((1, 2))
    most = ((abs(k) * length[:, :, None]).sum(1) ** 2).sum(-1)
    columns = exact.y.shape[2]
    scale = of_z * total
    loose = noise + 64 * EPS
    unsure = loose * most > 0.01 * of_z
    defined = (of_z > 0) & (total > 0)
    want = np.where(defined, over(squares, np.where(defined, scale, 1)), np.nan)
    slack = over(error, np.where(scale > 0, scale, 1))
    slack += 8 * loose * want * over(most, np.where(of_z > 0, of_z, 1))
    return [
        Verdict(
            "surrogate" + suffix,
            got["surrogate"],
            squares / columns,
            error / columns + LONG(1e-300),
        ),
        Verdict(
            "surrogate(normalized=True)" + suffix,
            got["surrogate(normalized=True)"],
            want,
            np.where(unsure | open_, np.inf, np.nan_to_num(slack)),
        ),
    ]


def without_intercept(exact, f, share, total, defined, noise, open_):
    """1 − ‖Y − HB‖²/‖Y_c‖² with the residual of the uncentred fit, by its normal equation in b.

    The residual of the best fit Y ≈ HB is that of the fit with an intercept b that costs: the
    minimum over b of ‖Y_c − H_cB‖² + n(ȳ − Bᵀh̄)², a least-squares problem with one row more.
    """
    root = np.sqrt(exact.count)[:, None]
    h = np.concatenate([exact.h, (root * exact.h_mean)[:, None]], 1)
    y = np.concatenate([exact.y, (root * exact.y_mean)[:, None]], 1)
    varies, _ = varying(exact.h_squares, exact.h_mean, exact.count)
    # A constant column is an intercept; the documented tolerance decides what else is one.
    constant = (~varies & (exact.h_mean != 0)).any(-1)
    scale = np.where(varies, over(1, np.sqrt(np.where(varies, exact.h_squares, 1))), 0)
    us, s2, _ = svd(h * scale[:, None])
    top = s2[:, :1]
    present = (s2 > 1e-30 * top) & (top > 0)
    u = np.where(present[:, None], us / np.sqrt(np.where(present, s2, 1))[:, None], 0)
    residual = ((y - u @ (t(u) @ y)) ** 2).sum((1, 2))
    residual = np.where(constant, (1 - share) * total, residual)
    unit = np.where(defined, total, 1)
    want = np.where(defined, 1 - over(residual, unit), np.nan)
    least = np.where(present, s2, np.inf).min(-1)
    ratio = np.nan_to_num(over(top[:, 0], np.where(np.isfinite(least), least, 1)))
    # An intercept that is nearly in the features is present by the tolerance, or is not.
    faint = (present.sum(-1) > f.present.sum(-1)) & (least < 1e-9) & ~constant
    # The residual of Y, which may be far longer than Y_c, is rounded in long double.
    rounding = 8 * sum(h.shape[1:]) * np.finfo(LONG).eps * np.sqrt(ratio * (y**2).sum((1, 2)))
    lost = np.where(constant | ~defined, 0, rounding * (2 * np.sqrt(residual) + rounding))
    doubtful = open_ | (f.condition > 1e9) | faint | (lost > 1e-3 * unit)
    blur = noise + 64 * EPS * offset(exact)
    slack = 64 * blur * f.condition * (1 + over(residual, unit)) + over(lost, unit)
    return want, np.where(doubtful, np.inf, slack + 1e-12)
