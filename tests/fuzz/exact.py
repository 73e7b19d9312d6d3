"""Linear algebra in long double, over stacks of small matrices: what the oracles stand on."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

LONG = np.longdouble
EPS = 2.0**-52
CONSTANT = 2.0**-48  # of its mean, below which a column is documented to be constant
RANK = 64 * EPS  # of the largest eigenvalue, below which one is documented to be absent


def t(a):
    return np.swapaxes(a, -1, -2)


def norm(a, axes=(-2, -1)):
    return np.sqrt((a.astype(LONG) ** 2).sum(axes))


def over(a, b):
    """a/b, NaN where b is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b != 0, a / np.where(b != 0, b, 1), np.nan)


def svd(a):
    """US (..., n, d), S² and V of A = USVᵀ, by one-sided Jacobi rotations; S² descend."""
    a = a.astype(LONG).copy()
    d = a.shape[-1]
    v = np.broadcast_to(np.eye(d, dtype=LONG), (*a.shape[:-2], d, d)).copy()
    for _ in range(30):
        turned = False
        for i, j in itertools.combinations(range(d), 2):
            p, q = a[..., i], a[..., j]
            alpha, beta, gamma = (p * p).sum(-1), (q * q).sum(-1), (p * q).sum(-1)
            turn = abs(gamma) > 1e-19 * np.sqrt(alpha * beta)
            if not turn.any():
                continue
            turned = True
            zeta = (beta - alpha) / (2 * np.where(turn, gamma, 1))
            tan = np.where(zeta < 0, -1, 1) / (abs(zeta) + np.sqrt(1 + zeta * zeta))
            cos = 1 / np.sqrt(1 + tan * tan)
            cos, sin = np.where(turn, cos, 1)[..., None], np.where(turn, cos * tan, 0)[..., None]
            for m in (a, v):
                p, q = m[..., i].copy(), m[..., j].copy()
                m[..., i], m[..., j] = cos * p - sin * q, sin * p + cos * q
        if not turned:
            break
    squares = (a * a).sum(-2)
    order = np.argsort(-squares, -1)
    a, v = (np.take_along_axis(m, order[..., None, :], -1) for m in (a, v))
    return a, np.take_along_axis(squares, order, -1), v


class Truth(NamedTuple):
    """Moments of a stack in long double; rows are centred and multiplied by the root of weights."""

    count: np.ndarray
    h_mean: np.ndarray
    y_mean: np.ndarray
    h: np.ndarray
    y: np.ndarray
    class_scatter: np.ndarray

    @property
    def h_squares(self):
        return (self.h**2).sum(-2)

    @property
    def y_squares(self):
        return (self.y**2).sum(-2)


def truth(h, y, w):
    """Of features (b, n, d), targets (b, n, k) and weights (b, n)."""
    h, y, w = (a.astype(LONG) for a in (h, y, w))
    count = w.sum(-1)
    share = over(w, np.where(count > 0, count, 1)[:, None])
    means, rows = [], []
    for a in (h, y):
        # Subtract from a row first, and again: what is left is right to all digits.
        first = np.take_along_axis(a, w.argmax(-1)[:, None, None], 1)
        away = a - first
        mean = (share[..., None] * away).sum(-2)
        away = away - mean[:, None]
        error = (share[..., None] * away).sum(-2)
        means.append(first[:, 0] + mean + error)
        rows.append((away - error[:, None]) * np.sqrt(w)[..., None])
    scatter = (y * (rows[0] ** 2).sum(-1)[..., None]).sum(-2)
    return Truth(count, *means, *rows, scatter)


def varying(squares, mean, count):
    """Where a column is not constant, and where the documented bound leaves that open."""
    bound = count[..., None] * (CONSTANT * mean) ** 2
    return squares > bound, (squares > bound / 4) & (squares < bound * 4)


class Fit(NamedTuple):
    """Least squares in the directions of the column-scaled features.

    Attributes:
        rows: u (b, n, d), unit vectors, of directions that are present; 0 for others.
        present: (b, d).
        clear: (b,), whether every direction is clearly present or clearly absent.
        condition: (b,), λmax/λmin over the directions that are present.
        coefficients: (b, d, k).
    """

    rows: np.ndarray
    present: np.ndarray
    clear: np.ndarray
    condition: np.ndarray
    coefficients: np.ndarray


def fit(m: Truth, noise) -> Fit:
    """The fit of Y on H with an intercept; Gram matrices are known to ``noise`` (b,)."""
    squares = m.h_squares
    varies, open_ = varying(squares, m.h_mean, m.count)
    scale = over(np.where(varies, 1, 0), np.sqrt(np.where(varies, squares, 1)))
    us, s2, v = svd(m.h * scale[:, None])
    top = s2[:, :1]
    rtol = max(64, squares.shape[-1]) * EPS
    present = (s2 > rtol * top) & (top > 0)
    band = 8 * noise[:, None]
    candidates = np.arange(s2.shape[1]) < varies.sum(-1)[:, None]  # constant columns give none
    open_directions = (s2 > (rtol / 4 - band) * top) & (s2 < (4 * rtol + band) * top) & candidates
    # A direction that is 0 up to long double's rounding is rounding in float64, too, and the
    # tolerance leaves room for that of the sums; not for that of the parts' means.
    zero = (s2 < 1e-30 * top) & (noise < (64 + m.h.shape[1]) * EPS)[:, None]
    clear = ~(open_directions & ~zero).any(-1) & ~open_.any(-1)
    u = np.where(present[:, None], us / np.sqrt(np.where(present, s2, 1))[:, None], 0)
    b = scale[..., None] * (
        v @ (np.where(present, 1 / np.sqrt(np.where(present, s2, 1)), 0)[..., None] * (t(u) @ m.y))
    )
    least = np.where(present, s2, np.inf).min(-1)
    condition = np.where(present.any(-1), top[:, 0] / least, 1)
    return Fit(u, present, clear, condition.astype(float), b)
