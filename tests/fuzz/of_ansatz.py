"""The neural feature ansatz, its rivals and spectra, against long double."""

from __future__ import annotations

import draws
import jax
import jax.numpy as jnp
import numpy as np
from exact import EPS, LONG, norm, over, svd, t
from of_moments import SIZE, on_device
from verdicts import Verdict

from gramlin_jax import (
    GradientMoments,
    agop,
    ansatz_exponent,
    effective_rank,
    fact,
    isotropy,
    ky_fan_ratio,
    moments,
    nfa_correlation,
    participation_ratio,
    representation_alignments,
    spectrum,
    stable_rank,
    stationarity_identities,
)

SHAPES = (4, 3), (3, 5), (6, 6), (1, 2), (3, 1)
ROWS, WIDTH = 7, 5
DOUBTFUL = 1e-2  # a slack above this promises nothing


@jax.jit
@jax.vmap
def of_jacobian(k, j):
    return {
        "agop": agop(k, j),
        "nfa_correlation": nfa_correlation(k, j),
        "nfa_correlation(power=.5)": nfa_correlation(k, j, power=0.5),
        "nfa_correlation(pearson)": nfa_correlation(k, j, kind="pearson"),
        "isotropy": jnp.stack(isotropy(j)[:4]),
        "isotropy on range(W)": jnp.stack(isotropy(j, k)[:1]),
        "ansatz_exponent: beta": ansatz_exponent(k, j).beta,
        "ky_fan_ratio": ky_fan_ratio(k, j, 1),
        "spectrum": spectrum(k),
    }


@jax.jit
@jax.vmap
def of_rest(k, x, sums, decay):
    found = stationarity_identities(k, sums, decay)
    return {
        "fact": fact(k, sums, decay).cosine,
        "stationarity_identities": jnp.stack(found),
        "representation_alignments": jnp.stack(
            representation_alignments(moments(x), k, sums),
        ),
    }


@jax.jit
def of_eigenvalues(values):
    return {
        "participation_ratio": participation_ratio(values),
        "stable_rank": stable_rank(values),
        "effective_rank": effective_rank(values),
    }


def check(rng):
    """Verdicts on a stack of inputs."""
    i, o = SHAPES[rng.integers(len(SHAPES))]
    k = draws.stack(lambda: draws.matrix(rng, i, o, rng.choice(["float64", "float32"])), SIZE)
    k = k.astype(np.float64)
    delta = draws.stack(lambda: jacobians(rng, o), SIZE)
    j = t(delta) @ delta / ROWS
    got = of_jacobian(*on_device(k, j))
    k, j = k.astype(LONG), j.astype(LONG)
    return [
        *of_correlations(got, k, j, delta.astype(LONG)),
        *of_frames(got, k, j),
        *of_directions(got, k, j),
        *of_stationarity(rng, k),
        *of_ranks(rng),
    ]


def jacobians(rng, o):
    """Rows (n, o) of gradients; none below 1e-60 or above 1e60."""
    rows = draws.matrix(rng, ROWS, o, "float64")
    return rows / abs(rows).max() * 10.0 ** rng.uniform(-60, 60)


def decided(slack):
    """The slack, infinite where it is so large that nothing is promised."""
    return np.where(slack < DOUBTFUL, slack, np.inf)


def cosine(a, b):
    """Between stacks of matrices, in units in which no square overflows."""
    a, b = (over(m, abs(m).max((-2, -1), keepdims=True)) for m in (a, b))
    return over((a * b).sum((-2, -1)), norm(a) * norm(b))


def of_correlations(got, k, j, delta):
    o, i = k.shape[2], k.shape[1]
    gram, both = k @ t(k), k @ j @ t(k)
    most = abs(k) @ abs(j) @ t(abs(k))
    e = 1024 * max(i, o) * EPS
    # KᵀK is known up to rounding of its largest eigenvalue; so is the AGOP's part of it.
    blur = over(norm(k) ** 2 * norm(j), norm(both)) * e
    root = root_of(over(delta, np.sqrt(LONG(ROWS))) @ t(k))
    of_root = over(np.sqrt(e * o * norm(k) ** 2 * norm(j)), norm(root))
    centred = [m - m.mean((1, 2), keepdims=True) for m in (gram, both)]
    loss = [over(norm(m), norm(c)) ** 2 for m, c in zip((gram, both), centred, strict=True)]
    one = np.full(len(k), o == 1)
    verdicts = [
        Verdict("agop", got["agop"], both, 64 * max(i, o) * EPS * most + LONG(1e-290)),
        *(
            Verdict(name, got[name], want, decided(slack)).undefined(one)
            for name, want, slack in (
                ("nfa_correlation", cosine(gram, both), 4 * blur + e),
                ("nfa_correlation(power=.5)", cosine(gram, root), 4 * of_root + e),
            )
        ),
    ]
    name = "nfa_correlation(pearson)"
    slack = decided(e * sum(loss) + 8 * blur * np.sqrt(loss[1]))
    pearson = Verdict(name, got[name], cosine(*centred), slack)
    return [*verdicts, pearson.undefined(one | (i == 1))]


def root_of(rows):
    """(AᵀA)^½."""
    us, s2, v = svd(rows)
    return (v * np.sqrt(s2)[:, None]) @ t(v)


def of_frames(got, k, j):
    o = k.shape[2]
    values = np.sqrt(svd(j)[1])
    total, top = values.sum(-1), values[:, 0]
    e = 512 * o * EPS
    want = [
        over(total, np.sqrt(o * (values**2).sum(-1))),
        1 - over(np.sqrt(values).sum(-1) ** 2, o * total),
        over(o * values[:, -1], total),
        over(o * top, total),
    ]
    found = np.asarray(got["isotropy"], LONG).T.copy()
    found[1] **= 2
    # Eigenvalues below the rank's tolerance count as 0, and their roots are larger.
    slack = np.array([e, 4 * o * np.sqrt(128 * EPS), o * e, o * e])
    verdict = Verdict("isotropy", found.T, np.stack(want, -1), slack[None])
    us, s2, v = svd(k)
    inside = s2 > 64 * EPS * s2[:, :1]
    unclear = ((s2 > 8 * EPS * s2[:, :1]) & (s2 < 512 * EPS * s2[:, :1])).any(-1)
    turned = t(v) @ j @ v * inside[:, None] * inside[:, :, None]
    rank = inside.sum(-1)
    of_range = np.sqrt(svd(turned)[1])
    want = over(of_range.sum(-1), np.sqrt(rank * (of_range**2).sum(-1)))
    least = np.where(inside, s2, np.inf).min(-1)
    blur = e * over(s2[:, 0], least) * over(norm(j), norm(turned))
    outside = np.where(rank < o, blur, e * over(norm(j), norm(turned)))
    on_range = Verdict(
        "isotropy on range(W)",
        np.asarray(got["isotropy on range(W)"])[:, 0],
        want,
        np.where(unclear, np.inf, decided(4 * outside)),
    )
    return [verdict.undefined(np.full(len(k), o == 1)), on_range.undefined(rank < 2)]


def of_directions(got, k, j):
    i, o = k.shape[1:]
    _, s2, v = svd(k)
    top, e = s2[:, :1], 256 * max(i, o) * EPS
    inside, unclear = s2 > 64 * EPS * top, (s2 > 8 * EPS * top) & (s2 < 512 * EPS * top)
    captured = np.einsum("boi,bop,bpi->bi", v, j, v)
    agop_ = k @ j @ t(k)
    best = np.sqrt(svd(agop_)[1])[:, 0]
    gap = over(s2[:, 0] - s2[:, 1], top[:, 0]) if o > 1 else np.ones(len(k))
    ratio = over(s2[:, 0] * captured[:, 0], best)
    slack = e * (1 + over(1, gap)) * (1 + over(top[:, 0] * norm(j), best))
    # The slope of ln vᵀJv: vectors turn by rounding over the gaps between singular values.
    away = abs(s2[:, :, None] - s2[:, None]) + np.where(np.eye(o), np.inf, 0)
    turn = e * over(top, away.min(-1))
    of_logs = np.where(inside, over(2 * turn * norm(j)[:, None], captured), 0).max(-1)
    x, y = (np.log(np.where(inside, m, 1)) for m in (s2, captured))
    rank = inside.sum(-1)[:, None]
    x, y = (
        np.where(inside, m - over((m * inside).sum(-1, keepdims=True), rank), 0) for m in (x, y)
    )
    spread = np.sqrt((x**2).sum(-1))
    beta = over((x * y).sum(-1), spread**2)
    of_x = np.where(inside, e * over(top, s2), 0).max(-1)
    loose = over(np.sqrt(LONG(o)) * (of_logs + 2 * abs(beta) * of_x), spread)
    defined = (rank[:, 0] > 1) & (spread > 1e-3)
    return [
        Verdict("ky_fan_ratio", got["ky_fan_ratio"], ratio, decided(slack)),
        Verdict(
            "ansatz_exponent: beta",
            got["ansatz_exponent: beta"],
            beta,
            np.where(defined & ~unclear.any(-1), decided(4 * loose), np.inf),
        ).undefined(rank[:, 0] < 2),
        Verdict("spectrum", got["spectrum"], s2[:, : min(i, o)] / o, e * top / o + LONG(1e-290)),
    ]


def of_stationarity(rng, k):
    i, o = k.shape[1:]
    x = draws.stack(lambda: draws.entries(rng, (ROWS, i)), SIZE)
    delta = draws.stack(lambda: jacobians(rng, o), SIZE)
    decay = 10.0 ** rng.uniform(-8, 1, SIZE)
    sums = np.full(SIZE, float(ROWS)), ROWS * t(x) @ delta, ROWS**2 * t(delta) @ delta
    got = of_rest(
        *on_device(k.astype(float), x), GradientMoments(*on_device(*sums)), *on_device(decay)
    )
    gradient, products = sums[1].astype(LONG) / ROWS, sums[2].astype(LONG) / ROWS**2
    e = 256 * (i + o) * EPS
    residuals, cosines, unsure = [], [], []
    for a, b, c in ((k, t(k), t(gradient)), (t(k), k, gradient)):
        gram, other = a @ b, -a @ c
        lost = over(norm(abs(a) @ abs(c)), norm(other))
        scaled = over(other, decay.astype(LONG)[:, None, None])
        residuals.append(over(norm(gram - scaled), norm(gram)))
        unsure.append(e * (1 + over(norm(abs(a) @ abs(c)), norm(gram) * decay) + residuals[-1]))
        cosines.append((cosine(gram, other), e * (1 + lost)))
    x = x.astype(LONG)
    before = t(x) @ x, k @ products @ t(k), k @ t(k)
    after = t(k) @ before[0] @ k, products, t(k) @ k
    sizes = (
        (norm(before[0]), norm(abs(k) @ abs(products) @ t(abs(k))), norm(k @ t(k))),
        (norm(t(abs(k)) @ (t(abs(x)) @ abs(x)) @ abs(k)), norm(products), norm(t(k) @ k)),
    )
    wanted, slack = [], []
    for matrices, most in zip((before, after), sizes, strict=True):
        loss = [over(m, norm(a)) for m, a in zip(most, matrices, strict=True)]
        for p, q in ((0, 1), (0, 2), (1, 2)):
            wanted.append(cosine(matrices[p], matrices[q]))
            slack.append(decided(e * (loss[p] + loss[q])))
    stationary = np.stack([*residuals, cosines[0][0], cosines[1][0]], -1)
    of_cosines = [decided(b) for _, b in cosines]
    return [
        Verdict("fact", got["fact"], cosines[0][0], of_cosines[0]),
        Verdict(
            "stationarity_identities",
            got["stationarity_identities"],
            stationary,
            np.stack([*unsure, *of_cosines], -1),
        ),
        Verdict(
            "representation_alignments",
            got["representation_alignments"],
            np.stack(wanted, -1),
            np.stack(slack, -1),
        ),
    ]


def of_ranks(rng):
    scale = 10.0 ** rng.uniform(-299, 300, (SIZE, 1))  # subnormal numbers are 0 to XLA
    spread = 10.0 ** rng.uniform(-8, 0, (SIZE, WIDTH)) * (rng.random((SIZE, WIDTH)) < 0.8)
    values = np.where(rng.random((SIZE, 1)) < 0.3, 1.0, spread) * scale
    got = of_eigenvalues(*on_device(values))
    values = values.astype(LONG)
    p = over(values, values.sum(-1, keepdims=True))
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
    wanted = {
        "participation_ratio": over(1, (p**2).sum(-1)),
        "stable_rank": over(1, p.max(-1)),
        "effective_rank": np.exp(entropy),
    }
    return [
        Verdict(name, got[name], want, 256 * WIDTH * EPS * WIDTH) for name, want in wanted.items()
    ]
