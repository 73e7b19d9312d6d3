"""Follow the modes of deep linear networks beside their exact curves, and time their learning."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from gramlin_jax.deep_linear import (
    covariance_step,
    deep_mode,
    half_time,
    unbalanced_mode,
)
from gramlin_jax.support.linalg import dot
from gramlin_jax.support.precision import in_float64
from gramlin_jax.training import over_runs

from ..shared.devices import mesh_for
from . import CASES, INITS, LEARNT, Config

if TYPE_CHECKING:
    from jaxtyping import Array

UNBALANCE = 4.0
"""The first layer of the unbalanced network starts so many times stronger, the second weaker."""


class Modes(NamedTuple):
    """Singular value decomposition of C_xy (d, k): Σ s u vᵀ, and the inputs' covariance, I."""

    cxx: Any
    cxy: Any
    u: Any
    s: Any
    v: Any


def modes_of(cxx: Array, cxy: Array) -> Modes:
    """The modes with a singular value above rounding."""
    u, s, vt = np.linalg.svd(np.asarray(cxy), full_matrices=False)
    m = int((s > 1e-8 * s[0]).sum())
    return Modes(np.asarray(cxx), np.asarray(cxy), u[:, :m], s[:m], vt[:m].T)


def diagonal(modes: Modes, hidden: int, scales: Sequence[float], seed: int) -> list[np.ndarray]:
    """Kernels that hold every mode, layer l with the strength ``scales[l]``, in random frames."""
    rng, m = np.random.default_rng(seed), len(modes.s)
    inner = [np.linalg.qr(rng.standard_normal((hidden, m)))[0] for _ in scales[1:]]
    frames = [modes.u, *inner, modes.v]
    pairs = zip(frames, frames[1:], scales, strict=False)
    return [scale * left @ right.T for left, right, scale in pairs]


@in_float64
@functools.partial(jax.jit, static_argnames=("points",))
def strengths(kernels: list[Array], modes: Modes, rate: float, every: int, points: int) -> Array:
    """u_αᵀK₁…K_Lv_α (points + 1, modes), before training and after each ``every`` steps."""

    def read(kernels: list[Array]) -> Array:
        return (dot(modes.u.T, functools.reduce(dot, kernels)) * modes.v.T).sum(1)

    def step(_: int, kernels: list[Array]) -> list[Array]:
        return covariance_step(kernels, modes.cxx, modes.cxy, rate)

    def some(kernels: list[Array], _: None) -> tuple[list[Array], Array]:
        return lax.fori_loop(0, every, step, kernels), read(kernels)

    kernels, found = lax.scan(some, kernels, length=points)
    return jnp.concatenate([found, read(kernels)[None]])


def followed(
    kernels: list[np.ndarray], modes: Modes, rate: float, duration: float, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Times (points + 1,), at least ``duration``, and strengths (points + 1, modes)."""
    every = max(1, round(np.ceil(duration / rate / points)))
    times = rate * every * np.arange(points + 1)
    return times, np.asarray(strengths(kernels, modes, rate, every, points))


def run_modes(config: Config, modes: Modes) -> dict[str, np.ndarray]:
    """Strengths and exact curves of each case, with two learning rates, and of random starts.

    Raises:
        ValueError: If the start is not below half of every singular value.
    """
    _check_start("start", config.start, modes)
    rows = [_case(config, modes, case) for case in CASES]
    names = "times", "strength", "exact", "mode_error"
    found = {
        name: np.stack(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
    return found | _random(config, modes) | {"singular_values": modes.s}


def _case(config: Config, modes: Modes, case: str) -> tuple[np.ndarray, ...]:
    layers, start, s = CASES[case], config.start, modes.s
    factors = np.ones(layers)
    if "unbalanced" in case:
        factors[:] = UNBALANCE, 1 / UNBALANCE
    scales = start ** (1 / layers) * factors
    kernels = diagonal(modes, config.hidden, scales, seed=0)
    duration = 1.5 * float(half_time(s[-1], start, layers=layers))
    errors = []
    for rate in (config.flow_rate / 2, config.flow_rate):
        times, found = followed(kernels, modes, rate, duration, config.points)
        if "unbalanced" in case:
            exact = unbalanced_mode(times[:, None], s, *scales)
        else:
            exact = deep_mode(times[:, None], s, start, layers)
        errors.append(np.max(abs(found - exact) / s))
    return times, found, np.asarray(exact), np.array(errors[::-1])


def _random(config: Config, modes: Modes) -> dict[str, np.ndarray]:
    """Small Gaussian starts; the curves of two balanced layers, through the measured half-times."""
    s, (inputs, outputs) = modes.s, modes.cxy.shape
    deviation = np.sqrt(config.start / np.sqrt(config.hidden))
    duration = 1.5 * float(half_time(s[-1], config.start))
    found, curves = [], []
    for seed in range(config.seeds):
        rng = np.random.default_rng(seed)
        shapes = (inputs, config.hidden), (config.hidden, outputs)
        kernels = [deviation * rng.standard_normal(shape) for shape in shapes]
        times, u = followed(kernels, modes, config.flow_rate, duration, config.points)
        found.append(u)
        curves.append(s / (1 + np.exp(2 * s * (crossing(times, u, s) - times[:, None]))))
    arrays = {"random_strength": np.stack(found), "random_exact": np.stack(curves)}
    return {**arrays, "random_times": times}


def run_half_times(config: Config, modes: Modes) -> dict[str, np.ndarray]:
    """Measured times to half strength, and their law, (start, mode).

    Raises:
        ValueError: If a start is not below half of every singular value.
    """
    _check_start("starts", config.starts, modes)
    found, law = [], []
    for start in config.starts:
        kernels = diagonal(modes, config.hidden, [start**0.5] * 2, seed=0)
        times = np.asarray(half_time(modes.s, start))
        run = followed(kernels, modes, config.flow_rate, 1.2 * times[-1], config.points)
        found.append(crossing(*run, modes.s))
        law.append(times)
    return {"half_time": np.stack(found), "half_time_law": np.stack(law)}


def _check_start(name: str, start: float | tuple[float, ...], modes: Modes) -> None:
    if np.max(start) >= modes.s[-1] / 2:
        raise ValueError(
            f"{name} is {start}: wanted strengths below {modes.s[-1] / 2:.3g}, half of the weakest "
            "mode's"
        )


def crossing(times: np.ndarray, u: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Times at which strengths (points, modes) first reach s/2; NaN if never.

    ln(u/(s − u)) is linear in time, so interpolation in it is exact.
    """
    found = np.full(len(s), np.nan)
    for mode in range(len(s)):
        after = int(np.argmax(u[:, mode] >= s[mode] / 2))
        if u[after, mode] < s[mode] / 2 or after == 0 or u[after - 1, mode] <= 0:
            continue
        pair = slice(after - 1, after + 1)
        near = np.minimum(u[pair, mode] / s[mode], 1 - 1e-12)
        found[mode] = np.interp(0, np.log(near / (1 - near)), times[pair])
    return found


def run_scaling(config: Config, modes: Modes) -> dict[str, np.ndarray]:
    """Steps to learn at the best learning rate, and that rate, (init, layers, seed); NaN: never."""
    scaled = narrowed(modes, config.hidden)
    rates = np.geomspace(1e-3, 2, config.rates)
    steps = np.array(
        [
            [
                [_steps_to_learn(config, scaled, init, layers, seed, rates) for seed in seeds]
                for layers in config.scaling
            ]
            for init in INITS
            for seeds in [range(config.seeds)]
        ]
    )
    never = ~np.isfinite(steps)
    best = np.where(never.all(-1), np.nan, rates[steps.argmin(-1)])
    fastest = steps.min(-1)
    return {"learning_steps": np.where(np.isinf(fastest), np.nan, fastest), "best_rate": best}


def narrowed(modes: Modes, width: int) -> Modes:
    """The modes in ``width`` inputs, scaled to a largest singular value of 1.

    Whitened inputs may be rotated, and those without a mode left out.
    """
    inputs, m = modes.u.shape
    noise = np.random.default_rng(0).standard_normal((inputs, min(width, inputs) - m))
    frame = np.linalg.qr(np.concatenate([modes.u, noise], 1))[0]
    cxy = frame.T @ modes.cxy / modes.s[0]
    return Modes(np.eye(len(cxy)), cxy, frame.T @ modes.u, modes.s / modes.s[0], modes.v)


def _steps_to_learn(
    config: Config, modes: Modes, init: str, layers: int, seed: int, rates: np.ndarray
) -> np.ndarray:
    rng, (inputs, outputs) = np.random.default_rng(seed), modes.cxy.shape
    widths = [*[inputs] * layers, outputs]
    drawn = [rng.standard_normal(shape) for shape in zip(widths, widths[1:], strict=False)]
    if init == "orthogonal":
        kernels = [np.linalg.qr(kernel)[0] for kernel in drawn]
    else:
        kernels = [kernel / np.sqrt(len(kernel)) for kernel in drawn]
    mesh = mesh_for(len(rates))
    return np.asarray(_first_learnt(kernels, modes, rates, config.patience, mesh=mesh))


@in_float64
@functools.partial(jax.jit, static_argnames=("mesh",))
def _first_learnt(
    kernels: list[Array], modes: Modes, rates: Array, patience: int, mesh: Mesh | None
) -> Array:
    """By learning rate, the first step after which the excess loss is small; ∞ if there is none."""
    limit = LEARNT * (modes.cxy**2).sum()

    def excess(kernels: list[Array]) -> Array:
        return ((functools.reduce(dot, kernels) - modes.cxy) ** 2).sum()

    def one(rate: Array) -> Array:
        def going(state: tuple[list[Array], Array]) -> Array:
            kernels, step = state
            far = excess(kernels)
            return (far > limit) & (far < 1e6) & (step < patience)

        def step(state: tuple[list[Array], Array]) -> tuple[list[Array], Array]:
            kernels, step = state
            return covariance_step(kernels, modes.cxx, modes.cxy, rate), step + 1

        kernels_, steps = lax.while_loop(going, step, (kernels, jnp.zeros(())))
        return jnp.where(excess(kernels_) <= limit, steps, jnp.inf)

    return over_runs(one, execution="vmap", mesh=mesh)(rates)
