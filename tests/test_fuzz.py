"""``make fuzz`` counts what is wrong, and its oracles are right."""

import sys
from pathlib import Path

import numpy as np
import pytest

FUZZ = str(Path(__file__).parent / "fuzz")


@pytest.fixture(scope="module")
def fuzz():
    """Modules of ``tests/fuzz``, which stand on no path."""
    sys.path.insert(0, FUZZ)
    try:
        import draws
        import exact
        import of_moments
        import verdicts
    finally:
        sys.path.remove(FUZZ)
    return {"draws": draws, "exact": exact, "of_moments": of_moments, "verdicts": verdicts}


def test_outcomes(fuzz):
    """In turn: right, wrong, absent, open, rightly undefined, and a number where there is none."""
    nan, inf = np.nan, np.inf
    verdict = fuzz["verdicts"].Verdict(
        "f",
        np.array([1.0, 1.1, nan, 5.0, nan, 1.0]),
        np.array([1.0, 1.0, 1.0, 1.0, nan, nan]),
        np.array([1e-3, 1e-3, 1e-3, inf, 0.0, 0.0]),
    )
    wrong, absent, open_ = verdict.outcomes()
    assert wrong.tolist() == [False, True, False, False, False, True]
    assert absent.tolist() == [False, False, True, False, False, False]
    assert open_.tolist() == [False, False, False, True, False, False]
    tally = fuzz["verdicts"].Tally()
    assert tally.add(verdict, "again").startswith("again: input 1 gives 1.1000000")
    assert tally.wrong == 2


def test_the_oracles_svd(fuzz):
    """Against exact numbers: A = UDVᵀ of mpmath, with a condition number of 1e12."""
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 4)) * np.array([1, 1e-3, 1e-6, 1e-12])
    us, squares, v = fuzz["exact"].svd(a[None])
    with mpmath.workdps(50):
        expected = mpmath.svd_r(mpmath.matrix(a.tolist()), compute_uv=False)
        for found, exact in zip(squares[0], expected, strict=True):
            assert abs(mpmath.mpf(str(found)) / exact**2 - 1) < 1e-15
    np.testing.assert_allclose((us @ fuzz["exact"].t(v))[0].astype(float), a, rtol=1e-15)


def test_the_oracles_least_squares(fuzz):
    """Target linearity and the centred moments of one input, from mpmath's QR."""
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(1)
    h = rng.standard_normal((12, 3)) * [1, 1e-8, 1e30] + [1e9, 1, 1e34]
    y = rng.standard_normal((12, 2)) + 1e8
    exact = fuzz["exact"].truth(h[None], y[None], np.ones((1, 12)))
    f = fuzz["exact"].fit(exact, np.full(1, 1e-15))
    share = ((fuzz["exact"].t(f.rows) @ exact.y) ** 2).sum() / exact.y_squares.sum()
    with mpmath.workdps(60):
        rows = [[1, *row] for row in h.tolist()]
        total = unexplained = mpmath.mpf(0)
        for column in y.T.tolist():
            unexplained += mpmath.qr_solve(mpmath.matrix(rows), mpmath.matrix(column))[1] ** 2
            mean = mpmath.fsum(column) / 12
            total += mpmath.fsum((mpmath.mpf(value) - mean) ** 2 for value in column)
        assert abs(mpmath.mpf(str(share)) - (1 - unexplained / total)) < 1e-14


def test_draws_are_what_they_say(fuzz):
    """Constant and equal columns, offsets and scales do occur, and everything is finite."""
    rng = np.random.default_rng(0)
    drawn = [fuzz["draws"].columns(rng, 12, 4, "float64") for _ in range(300)]
    assert all(np.isfinite(x).all() for x in drawn)
    constant = sum(bool((x == x[0]).all(0).any()) for x in drawn)
    equal = sum(len(np.unique(x, axis=1).T) < 4 for x in drawn)
    with np.errstate(divide="ignore", invalid="ignore"):
        far = sum(bool((abs(x.mean(0)) > 1e6 * x.std(0)).any()) for x in drawn)
    assert min(constant, equal, far) > 10
    sizes = np.log10([abs(x).max() for x in drawn if x.any()])
    assert sizes.min() < -50 and sizes.max() > 50


def test_a_cut_to_float32_is_found(fuzz):
    """The check of moments, with sums that were cut to float32 before they came to it."""
    checks = fuzz["of_moments"]
    rng = np.random.default_rng(3)
    h = rng.standard_normal((4, 8, 2)) + 100.0
    y, w = rng.standard_normal((4, 8, 1)), np.ones((4, 8))
    exact = fuzz["exact"].truth(h, y, w)
    for data, wrong in ((h, 0), (h.astype(np.float32).astype(np.float64), 4)):
        m = checks.in_one(*checks.on_device(data, y, w))
        (verdict,) = checks.of_sums("moments", m, exact, y, 0)
        assert verdict.outcomes()[0].sum() == wrong
