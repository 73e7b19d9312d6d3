"""Synthetic data: the reference's numbers, and what must hold for any draw."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gramlin_jax.data import (
    quadratic,
    quadratic_from_draws,
    staircase,
    staircase_target,
    swiss_roll,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def relative_to_range(values):
    low, high = values.min(axis=0), values.max(axis=0)
    return (values - low) / (high - low)


# Swiss roll


def test_swiss_roll_golden():
    golden = np.load(GOLDEN / "swissroll.npz")
    data = swiss_roll()
    np.testing.assert_allclose(data.x, golden["X"], rtol=0, atol=6e-8)
    np.testing.assert_allclose(data.y[:, 0], golden["y"], rtol=0, atol=6e-8)


def test_swiss_roll_golden_points_are_a_function_of_the_targets():
    golden = np.load(GOLDEN / "swissroll.npz")
    # The target is the angle scaled by the extremes of the draw, which the first seed fixes.
    u = np.random.RandomState(0).uniform(size=1000)
    t = 1.5 * np.pi * (1 + 2 * (u.min() + golden["y"] * (u.max() - u.min())))
    x = relative_to_range(np.stack([t * np.cos(t), t * np.sin(t)], axis=1))
    np.testing.assert_allclose(x, golden["X"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "noise", "seed"), [(50, 0.0, 3), (200, 0.5, 1)])
def test_swiss_roll_is_that_of_scikit_learn(n, noise, seed):
    from sklearn.datasets import make_swiss_roll

    points, t = make_swiss_roll(n, noise=noise, random_state=seed)
    data = swiss_roll(n, noise, seed)
    expected = relative_to_range(points[:, [0, 2]]).astype(np.float32)
    np.testing.assert_array_equal(data.x, expected)
    np.testing.assert_array_equal(data.y[:, 0], relative_to_range(t).astype(np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 1}, "n is 1: wanted at least 2"),
        ({"noise": -0.1}, "noise is -0.1: wanted a standard"),
        ({"noise": float("nan")}, "noise is nan: wanted a finite number"),
        ({"noise": None}, "noise is None: wanted a number"),
    ],
)
def test_swiss_roll_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        swiss_roll(**arguments)


# Staircase


def test_staircase_golden():
    golden = np.load(GOLDEN / "staircase.npz")
    np.testing.assert_allclose(staircase_target(golden["X"]), golden["y"], rtol=1e-6, atol=1e-6)


def test_staircase_depends_on_four_coordinates():
    data = staircase(n=300, dimension=6, seed=2)
    x1, x2, x3, x4 = data.x[:, :4].T
    expected = x1 * x2 * x3 * x4 + x1 * x2 * x3 + x1 * x2 + x1
    np.testing.assert_allclose(data.y[:, 0], expected, rtol=1e-5, atol=1e-5)
    assert data.x.shape == (300, 6)
    assert data.x.dtype == data.y.dtype == np.float32


def test_staircase_inputs_are_standard_normal():
    x = staircase(n=20_000, dimension=5).x.astype(np.float64)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(x.T), np.eye(5), atol=0.05)
    np.testing.assert_allclose((x**4).mean(axis=0), 3, atol=0.3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: staircase(n=0), "n is 0: wanted at least 1"),
        (lambda: staircase(dimension=3), "dimension is 3: wanted at least 4"),
        (lambda: staircase_target(np.ones((5, 3))), "x has shape (5, 3): wanted (n, d)"),
        (lambda: staircase_target(np.ones(5)), "x has shape (5,): wanted (n, d)"),
    ],
)
def test_staircase_refuses(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


# Quadratic


def draws():
    golden = np.load(GOLDEN / "get_quadratic.npz")
    names = {"mixing": "C", "latents": "Z", "noise": "noise", "form": "A_raw"}
    return golden, {name: golden[key].astype(np.float64) for name, key in names.items()}


def test_quadratic_golden_classes():
    golden, arrays = draws()
    x, y = quadratic_from_draws(**arrays)
    np.testing.assert_allclose(x, golden["cls_X"], rtol=0, atol=2e-7)
    np.testing.assert_array_equal(y, golden["cls_y"])
    assert (x.dtype, y.dtype) == (np.float32, np.int32)


def test_quadratic_golden_regression():
    golden, arrays = draws()
    x, y = quadratic_from_draws(**arrays, num_classes=None)
    np.testing.assert_allclose(x, golden["reg_X"], rtol=0, atol=2e-7)
    np.testing.assert_allclose(y, golden["reg_y"], rtol=0, atol=2e-6)
    assert (x.dtype, y.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("change", ["transpose", "skew", "constant"])
def test_quadratic_ignores_what_the_form_loses(change):
    _, arrays = draws()
    form = arrays["form"]
    other = {"transpose": form.T, "skew": form + 3 * (form - form.T), "constant": form + 2.5}
    _, expected = quadratic_from_draws(**arrays, num_classes=None)
    _, y = quadratic_from_draws(**{**arrays, "form": other[change]}, num_classes=None)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


def test_quadratic_ignores_the_scale_of_a_row():
    _, arrays = draws()
    scaled = {**arrays, "latents": 3 * arrays["latents"], "noise": 3 * arrays["noise"]}
    (x, y), (other_x, other_y) = quadratic_from_draws(**arrays), quadratic_from_draws(**scaled)
    np.testing.assert_allclose(x, other_x, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(y, other_y)


@pytest.mark.parametrize(("n", "num_classes"), [(400, 4), (90, 3), (101, 2), (7, 7)])
def test_quadratic_classes_are_balanced(n, num_classes):
    data = quadratic(n, num_classes=num_classes, seed=5)
    counts = np.bincount(data.y, minlength=num_classes)
    assert counts.max() - counts.min() <= 1
    np.testing.assert_allclose(np.linalg.norm(data.x, axis=1), 1, rtol=1e-6)
    assert data.num_classes == num_classes


def test_quadratic_regression():
    data = quadratic(50, 8, 3, num_classes=None)
    assert data.x.shape == (50, 8)
    assert data.y.shape == (50, 1)
    assert data.y.min() == 0
    assert data.num_classes is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quadratic(0), "n is 0: wanted at least 1"),
        (lambda: quadratic(dimension=0), "dimension is 0: wanted at least 1"),
        (lambda: quadratic(latent_dimension=-1), "latent_dimension is -1: wanted at least 1"),
        (lambda: quadratic(num_classes=1), "num_classes is 1: wanted at least 2"),
        (lambda: quadratic(3), "num_classes is 4: wanted at most n = 3"),
        (lambda: quadratic(num_classes="4"), "num_classes is '4': wanted an integer"),
        (lambda: quadratic(noise_scale=np.ones(2)), "noise_scale has shape (2,): wanted a number"),
        (
            lambda: quadratic_from_draws(
                np.ones((2, 5)), np.ones((4, 3)), np.ones((4, 5)), np.ones((5, 5))
            ),
            "wanted mixing (r, d), latents (n, r), noise (n, d) and form (d, d)",
        ),
        (
            lambda: quadratic_from_draws(
                np.ones((2, 5)), np.ones((4, 2)), np.ones((4, 5)), np.ones((5, 4))
            ),
            "form has shape (5, 4) with",
        ),
        (
            lambda: quadratic_from_draws(np.eye(2), np.eye(3)[:, :2], np.zeros((3, 2)), np.eye(2)),
            "has a row that is zero or not finite",
        ),
    ],
)
def test_quadratic_refuses(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("make", [swiss_roll, staircase, quadratic])
def test_the_seed_decides(make):
    np.testing.assert_array_equal(make(seed=1).x, make(seed=1).x)
    np.testing.assert_array_equal(make(seed=1).y, make(seed=1).y)
    assert np.any(make(seed=1).x != make(seed=2).x)
