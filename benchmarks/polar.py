"""Gram-only steps in float32: time and Gram error by the method that finds the rotation.

Each form computes K₂Qᵀ, where Q is the polar factor of K₁ᵀK₂: first for fresh kernels and a step of
rank 16, then for runs of such steps, at several step sizes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.common import print_table, seconds
from gramlin_jax.metrics.gram import gram_only_step, gram_only_step_in_basis, polar_factor
from gramlin_jax.metrics.rotation import first_basis, is_wide
from gramlin_jax.models.initializers import torch_kernel
from gramlin_jax.support.linalg import dot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Array, Float

STEP = 3e-3  # ‖K₂ − K₁‖ / ‖K₁‖
SIZES = 3e-3, 1e-2, 3e-2, 1e-1  # the same, of runs


def run(
    shapes: Sequence[tuple[int, int]], shape: tuple[int, int], length: int, rounds: int
) -> None:
    """Print time, Gram error and distance from the kernel before, for each layer and form.

    Args:
        shapes: Of the layers.
        shape: Of the layer of which runs of steps are made.
        length: Steps of such a run.
        rounds: Of such runs; four times as many of single steps.
    """
    rows = [row for layer in shapes for row in _layer(layer, 4 * rounds)]
    print_table(
        "Gram-only steps, float32 (targets: Gram error below 1e-6; time / ten steps' below 1.2 on "
        "square layers, 0.5 on well-conditioned ones)",
        ["layer", "form", "ms", "/ ten steps'", "Gram error", "distance", "least"],
        rows,
    )

    print_table(
        f"Runs of {length} steps, {shape[0]}×{shape[1]}, the basis carried on",
        ["‖K₂ − K₁‖ / ‖K₁‖", "form", "ms a step", "/ ten steps'"],
        [row for size in SIZES for row in _run(shape, size, length, rounds)],
    )


def _run(shape: tuple[int, int], size: float, length: int, rounds: int) -> list[list[str]]:
    """The rows of one length of steps."""
    before, after = _kernels(shape)
    turns = jax.random.split(jax.random.key(1), length)
    scale = size / STEP
    changes = jnp.stack([jax.random.permutation(k, scale * (after - before)) for k in turns])

    def led(state: tuple[Array, Array], change: Array) -> tuple[tuple[Array, Array], None]:
        return gram_only_step_in_basis(state[0], state[0] + change, state[1]), None

    def alone(form: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        def advance(kernel: Array, change: Array) -> tuple[Array, None]:
            return form(kernel, kernel + change), None

        return jax.jit(lambda kernel, changes: lax.scan(advance, kernel, changes)[0])

    forms = {name: alone(FORMS[name]) for name in ("ten steps", "gram_only_step")}
    basis = first_basis(before)
    forms["warm start"] = jax.jit(lambda k, changes: lax.scan(led, (k, basis), changes)[0][0])
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds + 1):  # the first compiles
        for name, form in forms.items():
            taken[name].append(seconds(partial(form, before, changes)) / length)
    times = {name: float(np.median(values[1:])) for name, values in taken.items()}
    plain = times["ten steps"]
    return [
        [f"{size:g}", name, f"{1e3 * time:.2f}", f"{time / plain:.2f}"]
        for name, time in times.items()
    ]


def _layer(shape: tuple[int, int], rounds: int) -> list[list[str]]:
    """The rows of one layer. The forms take turns; of each, the median round counts."""
    before, after = _kernels(shape)
    forms = {name: jax.jit(form) for name, form in FORMS.items()}
    if not is_wide(before):
        forms["warm start"] = jax.jit(partial(_led, first_basis(before)))
    results = {name: np.asarray(form(before, after)) for name, form in forms.items()}
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            taken[name].append(seconds(partial(form, before, after)))
    times = {name: float(np.median(values)) for name, values in taken.items()}
    return [
        [
            "×".join(map(str, shape)),
            name,
            f"{1e3 * times[name]:.2f}",
            f"{times[name] / times['ten steps']:.2f}",
            f"{_gram_error(step, after):.1e}",
            *(f"{value:.4f}" for value in _distances(step, before, after)),
        ]
        for name, step in results.items()
    ]


def _led(basis: Array, before: Array, after: Array) -> Array:
    """As ``gram_only`` takes its steps, from the basis of the step before."""
    return gram_only_step_in_basis(before, after, basis)[0]


def _kernels(shape: tuple[int, int]) -> tuple[Array, Array]:
    """A fresh kernel, and the same after a step like a gradient's of 16 samples."""
    keys = jax.random.split(jax.random.key(0), 3)
    before = torch_kernel(keys[0], shape)
    rank = min(16, *shape)
    inputs, gradients = (
        jax.random.normal(key, (size, rank)) for key, size in zip(keys[1:], shape, strict=True)
    )
    step = inputs @ gradients.T
    return before, before + step * (STEP * jnp.linalg.norm(before) / jnp.linalg.norm(step))


def _gram_error(kernel: Any, wanted: Any) -> float:
    kernel, wanted = np.asarray(kernel, np.float64), np.asarray(wanted, np.float64)
    gram = wanted @ wanted.T
    return float(np.linalg.norm(kernel @ kernel.T - gram) / np.linalg.norm(gram))


def _distances(step: Any, before: Any, after: Any) -> tuple[float, float]:
    """Distance from the kernel before, and the least one, as parts of the whole step's."""
    k, k1, k2 = (np.asarray(kernel, np.float64) for kernel in (step, before, after))
    u, _, vt = np.linalg.svd(k1.T @ k2)
    plain = np.linalg.norm(k2 - k1)
    return tuple(float(np.linalg.norm(x - k1) / plain) for x in (k, k2 @ (u @ vt).T))


def _by(polar: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda before, after: dot(after, polar(dot(before.T, after)).T)


def _ten_steps(a: Float[Array, "o o"]) -> Float[Array, "o o"]:
    """Newton–Schulz of degree five, ten steps whatever the matrix: the paper's code."""
    x = a / (jnp.linalg.norm(a) + 1e-8)
    for _ in range(10):
        y = dot(x.T, x)
        xy = dot(x, y)
        x = 15 / 8 * x - 10 / 8 * xy + 3 / 8 * dot(xy, y)
    return x


def _scaled_newton(a: Float[Array, "o o"]) -> Float[Array, "o o"]:
    """Newton's iteration, X ← (μX + X⁻ᵀ/μ)/2, in as many steps as single precision needs."""
    for _ in range(8):
        inverse = jnp.linalg.inv(a).T
        mu = jnp.sqrt(jnp.linalg.norm(inverse) / jnp.linalg.norm(a))
        a = (mu * a + inverse / mu) / 2
    return a


FORMS = {
    "ten steps": _by(_ten_steps),
    "svd": _by(partial(polar_factor, method="svd")),
    "scaled newton": _by(_scaled_newton),
    "polar_factor": _by(polar_factor),
    "gram_only_step": gram_only_step,
}
