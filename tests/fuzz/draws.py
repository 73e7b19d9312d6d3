"""Random inputs that try a metric: stacks of arrays of one shape, each array of another kind."""

from __future__ import annotations

import ml_dtypes
import numpy as np

# By type: the powers of ten that columns are scaled by, and those of mean/deviation.
RANGE = {
    "float64": (140.0, 9.0),
    "float32": (28.0, 8.0),
    "bfloat16": (28.0, 2.0),
    "float16": (2.0, 2.0),
}
TYPES = {
    "float64": np.float64,
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
}


def stack(draw, size):
    """``size`` draws, stacked."""
    return np.stack([draw() for _ in range(size)])


def entries(rng, shape):
    """Numbers of about 1, of one of several distributions."""
    kind = rng.integers(7)
    if kind == 0:
        return rng.standard_t(1.5, shape).clip(-1e6, 1e6)
    if kind == 1:
        return rng.uniform(size=shape)
    if kind == 2:
        return rng.integers(-3, 4, shape).astype(float)
    if kind == 3:
        return (rng.random(shape) < 0.3).astype(float)
    if kind == 4:
        return np.maximum(rng.standard_normal(shape), 0)
    return rng.standard_normal(shape)


def columns(rng, n, d, dtype):
    """Rows (n, d): of any rank, scale and offset; with equal, constant and nearly equal columns."""
    x = entries(rng, (n, d))
    kind = rng.integers(8)
    if kind == 0:  # of low rank
        rank = rng.integers(1, d + 1)
        x = entries(rng, (n, rank)) @ rng.standard_normal((rank, d))
    elif kind == 1 and d > 1:  # nearly
        x[:, -1] = x[:, 0] + 10.0 ** rng.uniform(-12, 0) * x[:, -1]
    if rng.random() < 0.2 and d > 1:
        x[:, rng.integers(d)] = x[:, rng.integers(d)]
    if rng.random() < 0.2:
        x[:, rng.integers(d)] = rng.choice([0.0, 1.0, 0.1, -7.3])
    if rng.random() < 0.1:
        x[rng.integers(n)] = x[0]
    power, offset = RANGE[dtype]
    spread = rng.choice([0.0, 0.0, min(3.0, power), power])
    x = x * 10.0 ** (
        rng.uniform(-spread, spread) + rng.uniform(-1, 1, d) * rng.choice([0, spread / 4])
    )
    if rng.random() < 0.5:
        shift = np.ptp(x, 0) * 10.0 ** rng.uniform(0, offset) * rng.choice([-1, 0, 1], d)
        x = x + shift
    most = float(ml_dtypes.finfo(TYPES[dtype]).max) / 64
    x = x.clip(-most, most).astype(TYPES[dtype])
    # XLA counts numbers below the normal ones as 0.
    return np.where(abs(x) < ml_dtypes.finfo(x.dtype).tiny, 0, x).astype(x.dtype)


def weights(rng, n):
    """Weights (n,), some of them 0, of any scale."""
    kind = rng.integers(6)
    w = np.ones(n)
    if kind == 1:
        w = rng.integers(0, 4, n).astype(float)
    elif kind == 2:
        w = 10.0 ** rng.uniform(-3, 3, n)
    elif kind == 3:
        w = np.full(n, 10.0 ** rng.uniform(-30, 30))
    elif kind == 4:
        w = (rng.random(n) < 0.7) * 10.0 ** rng.uniform(-6, 6)
    return w


def labels(rng, n, classes):
    """Labels of which each class has two or more; n ≥ 2·classes."""
    y = np.concatenate(
        [np.repeat(np.arange(classes), 2), rng.integers(0, classes, n - 2 * classes)]
    )
    return rng.permutation(y)


def matrix(rng, i, o, dtype):
    """A kernel (i, o): of any rank, scale and condition number."""
    a = rng.standard_normal((i, o))
    kind = rng.integers(6)
    if kind == 0:
        rank = rng.integers(1, min(i, o) + 1)
        a = rng.standard_normal((i, rank)) @ rng.standard_normal((rank, o))
    elif kind == 1:
        u, _, v = np.linalg.svd(a, full_matrices=False)
        a = (u * 10.0 ** rng.uniform(-6, 0, len(v))) @ v
    elif kind == 2:
        a = np.linalg.svd(a, full_matrices=False)[0] @ np.linalg.svd(a, full_matrices=False)[2]
    elif kind == 3:
        a = a * 10.0 ** rng.uniform(-2, 2, o)
    power = {"float64": 130.0, "float32": 28.0}[dtype]
    if rng.random() < 0.4:
        a = a * 10.0 ** rng.uniform(-power, power)
    return a.astype(TYPES[dtype])


def spoil(rng, rows):
    """Puts NaN or infinity into a few of the stacked rows (b, n, d); says into which (b,)."""
    spoiled = rng.random(len(rows)) < 0.02
    for index in np.flatnonzero(spoiled):
        at = rng.integers(rows.shape[1]), rng.integers(rows.shape[2])
        rows[index, at[0], at[1]] = rng.choice([np.nan, np.inf, -np.inf])
    return spoiled
