"""Exact curves against SciPy's solver; covariance steps against steps on data."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from gramlin_jax.deep_linear import (
    covariance_step,
    deep_mode,
    half_time,
    mode_strength,
    unbalanced_mode,
)

EXACT = {"rtol": 1e-12, "atol": 1e-14, "method": "DOP853"}
STARTS = ((2.0, 0.1), (0.7, 0.69), (1.0, 1e-4))


def solved(velocity, start, times):
    return solve_ivp(velocity, (0, times[-1]), start, t_eval=times, **EXACT).y


@pytest.mark.parametrize("layers", [2, 3, 8])
@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_modes_solve_their_equation(layers, tau):
    s, u0 = np.transpose(STARTS)
    ends = 2 * abs(np.asarray(half_time(s, u0, tau, layers=layers))) + 1
    times = np.linspace(0, ends, 15)
    strengths = deep_mode(times, s, u0, layers, tau)
    assert strengths.dtype == np.float64
    for i, (s, u0) in enumerate(STARTS):
        expected = solved(
            lambda _, u, s=s: layers * u ** (2 - 2 / layers) * (s - u) / tau, [u0], times[:, i]
        )[0]
        np.testing.assert_allclose(strengths[:, i], expected, rtol=1e-8)


def test_one_layer_relaxes():
    times = np.linspace(0, 3, 5)
    np.testing.assert_allclose(deep_mode(times, 2.0, 0.5, 1, 2.0), 2 - 1.5 * np.exp(-times / 2))


@pytest.mark.parametrize("start", [(1.0, 0.01), (0.01, 0.3), (-0.2, 0.3), (0.5, 0.0), (-0.4, -0.1)])
def test_unbalanced_modes_solve_their_equation(start):
    s, times, tau = 1.3, np.linspace(0, 8, 15), 1.7

    def velocity(_, ab):
        return ab[::-1] * (s - ab[0] * ab[1]) / tau

    a, b = solved(velocity, start, times)
    np.testing.assert_allclose(unbalanced_mode(times, s, *start, tau), a * b, atol=1e-10)


def by_the_formula(t, s, a, b):
    """In 50 digits, where nothing cancels."""
    with mpmath.workdps(50):
        t, s, a, b = map(mpmath.mpf, (t, s, a, b))
        r = mpmath.sqrt((a**2 - b**2) ** 2 + 4 * s**2)
        ratio, tanh = (a**2 - b**2) / r, mpmath.tanh(r * t / 2)
        first = a * (1 + ratio * tanh) + 2 * s * b / r * tanh
        second = b * (1 - ratio * tanh) + 2 * s * a / r * tanh
        squares = ratio**2 - (2 * s / r) ** 2 + 8 * s * a * b / r**2
        divisor = 1 + 2 * tanh * (a**2 + b**2) / r + tanh**2 * squares
        return float(first * second / divisor)


def test_small_and_nearly_opposite_starts_keep_their_digits():
    """Relative to the strengths at both times, for s of any unit."""
    rng = np.random.default_rng(0)
    s = 10 ** rng.uniform(-30, 30, 300)
    a, b = np.sqrt(s) * rng.normal(size=(2, 300)) * 10 ** rng.uniform(-8, 2, (2, 300))
    b[::3] = -a[::3] * (1 + 10 ** rng.uniform(-10, -1, 100))
    times = 10 ** rng.uniform(-3, 3, 300) / s
    expected = np.array([by_the_formula(*each) for each in zip(times, s, a, b, strict=True)])
    error = abs(unbalanced_mode(times, s, a, b) - expected)
    assert (error / np.maximum(abs(expected), abs(a * b))).max() < 1e-13


def test_a_balanced_start_is_the_limit_of_an_unbalanced_one():
    times = np.linspace(0, 5, 7)
    balanced = unbalanced_mode(times, 1.3, 0.1, 0.1, 2.0)
    np.testing.assert_allclose(balanced, mode_strength(times, 1.3, 0.01, 2.0), rtol=1e-12)


@pytest.mark.parametrize("layers", [2, 3])
def test_half_times(layers):
    s, u0 = np.array([2.0, 1.0]), np.array([0.01, 1e-5])
    times = half_time(s, u0, 1.5, layers=layers)
    np.testing.assert_allclose(deep_mode(times, s, u0, layers, 1.5), s / 2, rtol=1e-9)
    if layers == 2:
        np.testing.assert_allclose(times, 1.5 * np.log(s / u0 - 1) / (2 * s), rtol=1e-13)


def test_the_derivative_of_a_deep_mode_is_its_velocity():
    s, u0, layers = 1.5, 0.05, 4
    with jax.enable_x64(True):
        value, slope = jax.value_and_grad(lambda t: deep_mode(t, s, u0, layers))(jnp.float64(0.9))
    value = float(value)
    np.testing.assert_allclose(slope, layers * value**1.5 * (s - value), rtol=1e-9)


@pytest.mark.parametrize(("layers", "u0"), [(3, 1e-200), (6, 1e-30), (10, 1e-50), (30, 1e-30)])
def test_a_long_plateau_is_left_in_time(layers, u0):
    """For u ≪ s the equation is τu̇ = Ls·u^(2−2/L), whose solution is a power of the time left."""
    s, tau, power = 1.7, 1.3, 1 - 2 / layers
    end = tau / (power * layers * s * u0**power)  # of the plateau
    times = np.array([0.0, 0.1, 0.5, 0.9, 1.01]) * end
    strengths = deep_mode(times, s, u0, layers, tau)
    expected = u0 * (1 - times[:-1] / end) ** (-1 / power)
    np.testing.assert_allclose(strengths[:-1], expected, rtol=1e-10)
    np.testing.assert_allclose(strengths[-1], s, rtol=1e-12)


def network(widths=(6, 4, 5, 3), n=40, seed=0):
    """Kernels, inputs and targets in float64."""
    rng = np.random.default_rng(seed)
    kernels = [0.5 * rng.normal(size=shape) for shape in zip(widths, widths[1:], strict=False)]
    return kernels, rng.normal(size=(n, widths[0])) + 1, rng.normal(size=(n, widths[-1]))


def product(kernels):
    return np.linalg.multi_dot(kernels)


def train(kernels, cxx, cxy, rate, steps):
    for _ in range(steps):
        kernels = covariance_step(kernels, cxx, cxy, rate)
    return [np.asarray(kernel) for kernel in kernels]


def test_a_covariance_step_is_a_step_on_the_data():
    """Written out for the data, layer by layer, in NumPy; several steps."""
    kernels, x, y = network()
    n, rate = len(x), 0.05
    with jax.enable_x64(True):
        found = train(kernels, x.T @ x / n, x.T @ y / n, rate, 3)
    for _ in range(3):
        inputs = [x]
        for kernel in kernels:
            inputs.append(inputs[-1] @ kernel)
        delta, gradients = (inputs.pop() - y) / n, []
        for h, kernel in zip(inputs[::-1], kernels[::-1], strict=True):
            gradients.insert(0, h.T @ delta)
            delta = delta @ kernel.T
        kernels = [k - rate * g for k, g in zip(kernels, gradients, strict=True)]
    for a, b in zip(found, kernels, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_gradient_flow_conserves_balance():
    """KₗᵀKₗ − Kₗ₊₁Kₗ₊₁ᵀ drifts by O(η) in a fixed time: half the rate, half the drift."""
    kernels, x, y = network()
    cxx, cxy = x.T @ x / len(x), x.T @ y / len(x)

    def balance(kernels):
        return kernels[0].T @ kernels[0] - kernels[1] @ kernels[1].T

    with jax.enable_x64(True):
        drifts = [
            np.linalg.norm(balance(train(kernels, cxx, cxy, rate, steps)) - balance(kernels))
            for rate, steps in ((0.01, 20), (0.005, 40), (0.0025, 80))
        ]
    scale = np.linalg.norm(balance(kernels))
    assert 1e-6 < drifts[0] / scale < 0.1
    np.testing.assert_allclose(np.divide(drifts[:-1], drifts[1:]), 2, rtol=0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mode_strength(1.0, 1.0, 1.0), "u0 is 1: wanted strengths inside"),
        (lambda: mode_strength(1.0, [1.0, 0.5], 0.7), "u0 is 0.7"),
        (lambda: half_time(1.0, 0.0), "u0 is 0"),
        (lambda: half_time(1.0, 0.1, layers=1), "layers is 1"),
        (lambda: deep_mode(1.0, 1.0, 0.1, 0), "layers is 0"),
        (lambda: deep_mode(1.0, 1.0, 0.1, 2.5), "layers is 2.5: wanted an integer"),
        (lambda: half_time(1.0, 0.1, layers=None), "layers is None: wanted an integer"),
        (lambda: deep_mode(-1.0, 1.0, 0.1, 3), "t is -1"),
        (lambda: mode_strength(1.0, 1.0, 0.1, tau=0.0), "tau is 0"),
        (lambda: mode_strength(1.0, -1.0, 0.1), "s is -1"),
        (lambda: unbalanced_mode(1.0, 1.0, 0.3, -0.3), r"a0 \+ b0 is 0"),
        (lambda: mode_strength(np.ones(2), np.ones(3), 0.1), "wanted ones that broadcast"),
    ],
)
def test_bad_times_and_strengths(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bad_steps():
    kernels, x, y = (jax.tree.map(np.float32, part) for part in network())
    cxx, cxy = x.T @ x / len(x), x.T @ y / len(x)
    with pytest.raises(ValueError, match="learning_rate is 30.0: wanted a smaller one; the step d"):
        covariance_step(kernels, cxx, cxy, 30.0)
    one, none = np.ones((1, 1)), np.zeros((1, 1))  # K ← (1 − η)K
    with pytest.raises(ValueError, match=r"½E‖y‖² from 0\.5 to 0\.605"):
        covariance_step([one], one, none, 2.1)
    np.testing.assert_allclose(covariance_step([one], one, none, 1.9), [-0.9 * one])
    with pytest.raises(ValueError, match="learning_rate is 0"):
        covariance_step(kernels, cxx, cxy, 0.0)
    with pytest.raises(ValueError, match=r"learning_rate has shape \(3,\): wanted a number"):
        covariance_step(kernels, cxx, cxy, np.full(3, 0.1))  # it would broadcast
    for bad in ([], kernels[1:], kernels[:-1]):
        with pytest.raises(ValueError, match="^kernels has shapes"):
            covariance_step(bad, cxx, cxy, 0.1)
    with pytest.raises(TypeError, match="cxy has dtype int"):
        covariance_step(kernels, cxx, np.ones((6, 3), int), 0.1)
