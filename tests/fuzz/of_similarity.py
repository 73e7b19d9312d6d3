"""Similarities of two networks' features from moments of both, against long double."""

from __future__ import annotations

import draws
import jax
import numpy as np
from exact import LONG, norm, over, svd, t, truth, varying
from of_moments import PARTS, SIZE, noise_of, on_device
from verdicts import Verdict

from gramlin_jax import Moments, alignment, alignment_r2, cka, moments

SHAPES = (24, 4, 3), (12, 3, 5), (5, 2, 2)


@jax.jit
@jax.vmap
def similarities(x, y, masks):
    whole = moments(x, y, pair=True)
    parts = jax.vmap(lambda mask: moments(x, y, weights=mask, pair=True))(masks).sum()
    return {"": of_moments(whole), " of parts": of_moments(parts)}


def of_moments(m: Moments):
    return {
        "cka": cka(m),
        "cka(debiased=True)": cka(m, debiased=True),
        "alignment": alignment(m),
        "alignment_r2": alignment_r2(m),
    }


def check(rng):
    """Verdicts on a stack of inputs."""
    n, d, k = SHAPES[rng.integers(len(SHAPES))]
    x = draws.stack(lambda: draws.columns(rng, n, d, "float64"), SIZE)
    y = draws.stack(lambda: draws.columns(rng, n, k, "float64"), SIZE)
    alike = (rng.random(SIZE) < 0.5)[:, None, None]
    turn = np.linalg.qr(rng.standard_normal((SIZE, max(d, k), max(d, k))))[0][:, :d, :k]
    y = np.where(alike, x @ turn, y)
    masks = rng.integers(0, PARTS, (SIZE, 1, n)) == np.arange(PARTS)[None, :, None]
    got = similarities(*on_device(x, y, masks.astype(np.float64)))
    exact = truth(x, y, np.ones((SIZE, n)))
    found = []
    for name, parts in (("", 0), (" of parts", PARTS)):
        found += verdicts(name, got[name], exact, parts)
    return found


def verdicts(suffix, got, exact, parts):
    columns = (exact.h, exact.h_squares, exact.h_mean), (exact.y, exact.y_squares, exact.y_mean)
    rows, open_ = [], False
    for a, squares, mean in columns:
        varies, unclear = varying(squares, mean, exact.count)
        a = np.where(varies[:, None], a, 0)
        rows.append(over(a, abs(a).max((1, 2), keepdims=True)))  # in units of the largest
        open_ = open_ | unclear.any(-1)
    units = [abs(a).max((1, 2)) for a in (exact.h, exact.y)]
    x, y = rows
    n, sizes = exact.count, [norm(a) for a in rows]
    e = 64 * np.sqrt(LONG(x.shape[2] * y.shape[2])) * noise_of(exact, parts)
    gram, cross, other = t(x) @ x, t(x) @ y, t(y) @ y
    tall = cross.shape[1] >= cross.shape[2]
    us, s2, v = svd(cross if tall else t(cross))
    sums = np.sqrt(s2)
    known = s2 > 1e-12 * s2[:, :1]
    u = np.where(known[:, None], us / np.where(known, sums, 1)[:, None], 0)
    nearest = u @ t(v) if tall else v @ t(u)
    ratio = over(units[0], units[1])
    turned = ((gram @ nearest) * nearest).sum((1, 2)) * ratio**2
    full = known.all(-1) & (s2[:, -1] > 1e-6 * s2[:, 0])
    r2 = over(2 * sums.sum(-1) * ratio - turned, sizes[1] ** 2)
    loose = e * (over(sizes[0], sizes[1]) * ratio + (over(sizes[0], sizes[1]) * ratio) ** 2 + 1)
    wanted = {
        "alignment": (over(sums.sum(-1), sizes[0] * sizes[1]), e),
        "alignment_r2": (r2, np.where(full, 1e4 * loose, np.inf)),
        "cka": (over((cross**2).sum((1, 2)), norm(gram) * norm(other)), 8 * e),
        "cka(debiased=True)": debiased(gram, cross, other, x, y, n, e),
    }
    return [
        Verdict(name + suffix, got[name], want, np.where(open_ | np.isnan(slack), np.inf, slack))
        for name, (want, slack) in wanted.items()
    ]


def debiased(gram, cross, other, x, y, n, e):
    """HSIC₁ by its definition: Gram matrices of samples, without their diagonals."""
    kernels = [a @ t(a) * (1 - np.eye(a.shape[1], dtype=LONG)) for a in (x, y)]
    terms = [
        ((0, 0), norm(gram) ** 2),
        ((0, 1), norm(cross) ** 2),
        ((1, 1), norm(other) ** 2),
    ]
    found, blur = {}, {}
    m = n[0]
    for (p, q), _ in terms:
        a, b = kernels[p], kernels[q]
        found[p, q] = (
            (a * b).sum((1, 2))
            + a.sum((1, 2)) * b.sum((1, 2)) / ((m - 1) * (m - 2))
            - 2 * (a.sum(1) * b.sum(1)).sum(-1) / (m - 2)
        )
        totals = (x**2).sum((1, 2)), (y**2).sum((1, 2))
        blur[p, q] = 64 * e * totals[p] * totals[q]
    product = found[0, 0] * found[1, 1]
    sure = (found[0, 0] > 100 * blur[0, 0]) & (found[1, 1] > 100 * blur[1, 1])
    root = np.sqrt(np.where(sure, product, 1))
    want = np.where(sure, found[0, 1] / root, np.nan)
    slack = over(blur[0, 1], root) + abs(want) * sum(
        over(blur[p, p], np.where(sure, found[p, p], 1)) for p in (0, 1)
    )
    return want, np.where(sure, slack, np.inf)
