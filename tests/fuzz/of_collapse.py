"""Neural collapse and its form for regression, against class means in long double."""

from __future__ import annotations

import itertools

import draws
import jax
import numpy as np
from exact import CONSTANT, EPS, LONG, RANK, norm, over, svd, t, truth
from of_moments import SIZE, in_one, on_device
from verdicts import Verdict

from gramlin_jax import nc4_mismatch, neural_collapse, regression_collapse

SHAPES = (24, 5, 3), (12, 3, 4), (40, 6, 2)


@jax.jit
@jax.vmap
def collapse(m, kernel, bias):
    return neural_collapse(m, kernel, bias)


@jax.jit
@jax.vmap
def mismatch(m, h, predictions):
    return nc4_mismatch(m, h, predictions)


@jax.jit
@jax.vmap
def of_regression(m, kernel, covariance):
    return regression_collapse(m, kernel, covariance)


def check(rng):
    """Verdicts on a stack of inputs."""
    n, d, classes = SHAPES[rng.integers(len(SHAPES))]
    dtype = rng.choice(["float64", "float32"])
    labels = draws.stack(lambda: draws.labels(rng, n, classes), SIZE)
    h = draws.stack(lambda: draws.columns(rng, n, d, "float64"), SIZE)
    h = collapsed(rng, h, labels, classes).astype(draws.TYPES[dtype])
    usable = np.isfinite(h.astype(float)) & (abs(h) >= np.finfo(h.dtype).tiny)
    h = np.where(usable, h, 0).astype(h.dtype)
    one_hot = np.eye(classes)[labels]
    w = draws.stack(lambda: whole_weights(rng, n), SIZE)
    kernel = draws.stack(lambda: draws.matrix(rng, d, classes, "float64"), SIZE)
    bias = rng.standard_normal((SIZE, classes)) * 10.0 ** rng.uniform(-3, 3, (SIZE, 1))
    predictions = np.where(rng.random((SIZE, n)) < 0.7, labels, rng.integers(0, classes, (SIZE, n)))
    exact = truth(h, one_hot, w)
    means = Means(exact, h, one_hot, w)
    given = h.copy()
    spoiled = draws.spoil(rng, given)
    m = in_one(*on_device(given, one_hot, w))
    found = collapse(m, *on_device(kernel, bias))
    verdicts = of_classes(found, exact, means, kernel, bias)
    got = mismatch(m, *on_device(given, predictions))
    verdicts.append(of_nearest(got, exact, means, h, predictions))
    *shares, structure = of_targets(rng, m, exact, kernel[..., :2])
    return [verdict.undefined(spoiled) for verdict in verdicts + shares] + [structure]


def collapsed(rng, h, labels, classes):
    """Features nearer to their class means, at some of the inputs exactly there."""
    share = np.where(rng.random(SIZE) < 0.2, 0, 10.0 ** -rng.uniform(0, 8, SIZE))
    share = np.where(rng.random(SIZE) < 0.5, 1, share)
    first = np.stack([h[np.arange(SIZE), (labels == c).argmax(1)] for c in range(classes)], 1)
    own = np.take_along_axis(first, labels[..., None], 1)
    return own + share[:, None, None] * (h - own)


def whole_weights(rng, n):
    return np.ones(n) if rng.random() < 0.6 else rng.integers(1, 4, n) * 10.0 ** rng.uniform(-3, 3)


class Means:
    """Class means about the samples' mean and about each other, and the scatter within classes."""

    def __init__(self, exact, h, one_hot, w):
        rows = exact.h  # centred, times √w
        root = np.sqrt(w.astype(LONG))[..., None]
        self.counts = (w.astype(LONG)[..., None] * one_hot).sum(1)
        self.away = np.swapaxes(
            t(one_hot.astype(LONG)) @ (rows * root) / self.counts[..., None], 1, 2
        )
        self.center = self.away.mean(-1, keepdims=True)
        self.a = self.away - self.center
        own = rows - root * (one_hot.astype(LONG) @ np.swapaxes(self.away, 1, 2))
        self.within = own
        self.own = (one_hot * (own**2).sum(-1)[..., None]).sum(1) / self.counts
        self.total = (rows**2).sum((1, 2)) / exact.count
        self.pooled = (own**2).sum((1, 2)) / exact.count
        self.rounding = RANK * self.total + CONSTANT**2 * (exact.h_mean**2).sum(-1)


def of_classes(found, exact, means, kernel, bias):
    a, classes = means.a, means.a.shape[2]
    e = 256 * EPS
    blur = e * np.sqrt(means.total)  # of the class means
    us, s2, _ = svd(a)
    rounding = means.rounding[:, None]
    present = s2 > RANK * s2[:, :1] + rounding
    edge = RANK * s2[:, :1] + rounding
    noise = 4 * EPS * (s2[:, :1] + means.total[:, None])
    zero = s2 < 1e-28 * s2[:, :1]
    open_rank = (
        (s2 > edge / 4 - noise) & (s2 < edge * 4 + noise) & ~(zero & (noise < edge / 4))
    ).any(-1)
    inverse = np.where(present[:, None], us / np.where(present, s2, 1)[:, None], 0)  # U/S
    within = means.within @ inverse / np.sqrt(exact.count)[:, None, None]
    nc1 = (within**2).sum((1, 2))
    least = np.where(present, s2, np.inf).min(-1)
    there = present.any(-1)
    slack = 8 * e * over(means.total, least) * (1 + nc1) + nc1 * 8 * e * over(s2[:, 0], least)
    size = (a**2).sum((1, 2))
    open_size = (size < 4 * means.rounding + e * means.total) & (size > 0)
    size_ok = size > means.rounding
    lengths = (a**2).sum(1)
    open_lengths = (
        (lengths > rounding / 4) & (lengths < 4 * rounding + 8 * e * means.total[:, None])
    ).any(-1)
    norms = np.sqrt(np.where(lengths > rounding, lengths, 0))
    equinorm = np.where(size_ok, over(norms.std(-1), norms.mean(-1)), np.nan)
    gram = t(a) @ a
    pairs = list(itertools.combinations(range(classes), 2))
    ok = (lengths > rounding).all(-1) & size_ok
    cosines = [over(gram[:, i, j], norms[:, i] * norms[:, j]) for i, j in pairs]
    angle = np.where(ok, sum(abs(c + 1 / LONG(classes - 1)) for c in cosines) / len(pairs), np.nan)
    etf = (np.eye(classes, dtype=LONG) - 1 / LONG(classes)) / np.sqrt(LONG(classes - 1))
    etf_distance = np.where(size_ok, norm(over(gram, norm(gram)[:, None, None]) - etf), np.nan)
    least_length = np.sqrt(lengths.min(-1))
    root = np.sqrt(size)
    verdicts = [
        ("nc1", found.nc1, np.where(there & size_ok, nc1, np.nan), slack, open_rank | open_size),
        (
            "equinorm",
            found.equinorm,
            equinorm,
            8 * over(blur, root) + 1e-13,
            open_lengths | open_size,
        ),
        (
            "equiangularity",
            found.equiangularity,
            angle,
            8 * over(blur, least_length) + 1e-13,
            open_lengths | open_size,
        ),
        ("etf_distance", found.etf_distance, etf_distance, 8 * over(blur, root) + 1e-13, open_size),
        *of_classifier(found, exact, means, kernel, bias, size_ok, blur, open_size),
        *of_distances(
            found, means, pairs, gram, lengths, ok_least=rounding[:, 0], e=e, size_ok=size_ok
        ),
    ]
    return [
        Verdict(
            f"neural_collapse: {name}",
            got,
            want,
            np.where(open_, np.inf, np.nan_to_num(slack, nan=0.0)),
        )
        for name, got, want, slack, open_ in verdicts
    ]


def of_classifier(found, exact, means, kernel, bias, size_ok, blur, open_size):
    a, k, b = means.a, kernel.astype(LONG), bias.astype(LONG)
    difference = over(k, norm(k)[:, None, None]) - over(a, norm(a)[:, None, None])
    nc3 = np.where(size_ok, norm(difference) ** 2, np.nan)
    root = norm(a)
    mean = exact.h_mean + means.center[..., 0]
    at = (t(k) @ mean[..., None])[..., 0] + b
    logits = t(k) @ a
    centred = logits - logits.mean(1, keepdims=True)
    spread = norm(centred) / np.sqrt(LONG(b.shape[-1]))
    offset = np.where(size_ok, over(norm(at - at.mean(-1, keepdims=True), -1), spread), np.nan)
    error = 64 * EPS * ((abs(k) * abs(mean)[..., None]).sum((1, 2)) + abs(b).sum(-1))
    error = error + (abs(k) * blur[:, None, None]).sum((1, 2))
    of_spread = (abs(k)).sum((1, 2)) * (64 * EPS * root + blur)
    slack = 8 * over(error, spread) + 8 * offset * over(of_spread, spread)
    unsure = of_spread > 0.01 * spread
    return [
        ("nc3", found.nc3, nc3, 16 * over(blur, root) + 1e-13, open_size),
        ("offset", found.offset, offset, slack, open_size | unsure),
    ]


def of_distances(found, means, pairs, gram, lengths, *, ok_least, e, size_ok):
    cdnv, pooled, slack, slack_pooled = [], [], 0, 0
    open_ = np.zeros(len(lengths), bool)
    for i, j in pairs:
        distance = ((means.a[..., i] - means.a[..., j]) ** 2).sum(-1)
        blur = (
            e * (lengths[:, i] + lengths[:, j] + np.sqrt(means.total * distance))
            + e**2 * means.total
        )
        open_ |= (distance < 4 * ok_least + 8 * blur) & (distance > ok_least / 4)
        open_ |= (distance <= ok_least / 4) & (blur > ok_least / 8)
        far = np.where((distance > ok_least) & size_ok, distance, np.nan)
        cdnv.append((means.own[:, i] + means.own[:, j]) / (2 * far))
        pooled.append(means.pooled / far)
        own = e * (
            means.own[:, i]
            + means.own[:, j]
            + (means.away[..., (i, j)] ** 2).sum((1, 2))
            + means.total * e
        )
        slack = slack + own / far + cdnv[-1] * 4 * blur / far
        slack_pooled = slack_pooled + e * means.total / far + pooled[-1] * 4 * blur / far
    return [
        ("cdnv", found.cdnv, sum(cdnv) / len(pairs), 8 * slack, open_),
        ("pooled_cdnv", found.pooled_cdnv, sum(pooled) / len(pairs), 8 * slack_pooled, open_),
    ]


def of_nearest(got, exact, means, h, predictions):
    rows = h.astype(LONG) - exact.h_mean[:, None]
    # The mean is known to half a step of float64, and the rows from it no better.
    blur = 4 * EPS * (abs(exact.h_mean) * np.ptp(means.away, -1)).sum(-1)[:, None]
    squares = ((rows[..., None] - means.away[:, None]) ** 2).sum(2)
    own = np.take_along_axis(squares, predictions[..., None], -1)[..., 0]
    size = (rows**2).sum(-1)[..., None] + (means.away**2).sum(1)[:, None]
    reach = size.max(-1) + means.total[:, None]
    reach = 1e-10 * reach + blur
    tie = abs(own - squares.min(-1)) < reach
    tie &= own != squares.min(-1)
    others = np.sort(squares, -1)
    tie |= (own == others[..., 0]) & (others[..., 1] - others[..., 0] < reach)
    want = (own > squares.min(-1)).mean(-1)
    # A sample between two means may go either way.
    return Verdict("nc4_mismatch", got, want, tie.mean(-1) + 1e-12)


def of_targets(rng, m, exact, kernel):
    k = kernel.shape[2]
    root = draws.stack(lambda: draws.matrix(rng, k, k, "float64"), SIZE).astype(LONG)
    covariance = np.asarray(root @ t(root), np.float64)
    covariance = (covariance + t(covariance)) / 2
    found = of_regression(m, *on_device(kernel, covariance))
    squares = svd(exact.h)[1]
    total = squares.sum(-1)
    bound = exact.count * CONSTANT**2 * (exact.h_mean**2).sum(-1)
    open_ = (total > bound / 4) & (total < bound * 4)
    some = total > bound
    nrc1 = np.where(some, over(squares[:, k:].sum(-1), total), np.nan)
    columns = over(kernel.astype(LONG), norm(kernel, -2)[:, None])
    us, s2, _ = svd(np.nan_to_num(columns))
    present = s2 > RANK * s2[:, :1]
    zero = s2 < 1e-28
    unsure = ((s2 > RANK / 64 * s2[:, :1]) & (s2 < 64 * RANK * s2[:, :1]) & ~zero).any(-1)
    basis = np.where(present[:, None], us / np.sqrt(np.where(present, s2, 1))[:, None], 0)
    nrc2 = np.where(some, 1 - over(((exact.h @ basis) ** 2).sum((1, 2)), total), np.nan)
    condition = over(s2[:, 0], np.where(present, s2, np.inf).min(-1))
    slack2 = 256 * EPS * (1 + np.nan_to_num(condition))
    return [
        Verdict("regression_collapse: nrc1", found.nrc1, nrc1, np.where(open_, np.inf, 1e-12)),
        Verdict(
            "regression_collapse: nrc2", found.nrc2, nrc2, np.where(open_ | unsure, np.inf, slack2)
        ),
        of_structure(found, kernel, covariance),
    ]


def of_structure(found, kernel, covariance):
    """NRC3 on a grid of √γ from 0 to the smallest eigenvalue of Σ_Y^½, ever finer at its best."""
    gram = t(kernel.astype(LONG)) @ kernel.astype(LONG)
    gram = over(gram, norm(gram)[:, None, None])
    cov = covariance.astype(LONG)
    size = norm(cov)[:, None, None]
    values, vectors = np.linalg.eigh(np.asarray(over(cov, size), np.float64))
    sigma = np.sqrt(np.maximum(values, 0)).astype(LONG)
    diagonal = (vectors * (np.nan_to_num(gram) @ vectors)).sum(1)
    low, high, best = np.zeros(SIZE, LONG), sigma[:, 0], -np.inf
    for _ in range(4):
        grid = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 101, dtype=LONG)
        rest = sigma[:, None] - grid[..., None]
        lengths = norm(rest, -1)
        usable = lengths > 1e-6 * sigma.max(-1)[:, None]
        cosines = (diagonal[:, None] * rest).sum(-1) / np.where(usable, lengths, np.inf)
        at = cosines.argmax(-1)
        best = np.maximum(best, np.where(usable.any(-1), cosines.max(-1), np.nan))
        low, high = (grid[np.arange(SIZE), (at + by).clip(0, 100)] for by in (-1, 1))
    defined = np.isfinite(gram).all((1, 2)) & (size[:, 0, 0] > 0)
    ill = values[:, 0] < 1e-10
    near = (sigma[:, -1] - sigma[:, 0]) < 1e-3 * sigma[:, -1]
    want = np.where(defined, 2 - 2 * best, np.nan)
    return Verdict(
        "regression_collapse: nrc3", found.nrc3, want, np.where(ill | near, np.inf, 1e-3)
    )
