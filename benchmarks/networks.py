"""Networks compared and taken apart: clipping curves, moments of two networks, covariance steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.common import print_table, seconds, with_medians
from gramlin_jax import alignment, cka, covariance_step, moments
from gramlin_jax.rainbow import clip

if TYPE_CHECKING:
    from jaxtyping import Array

AT_ONCE = 32  # clipped kernels in one batch of the vmapped form


def run(
    clipped: Mapping[str, int], aligned: Mapping[str, int], stepped: Mapping[str, Any], rounds: int
) -> None:
    """Print a table for each."""
    _clipping(**clipped, rounds=rounds)
    _alignment(**aligned, rounds=rounds)
    _steps(**stepped, rounds=rounds)


def _clipping(width: int, outputs: int, images: int, ranks: int, rounds: int) -> None:
    """Accuracy against kept components: all ranks in one program, and a jitted call for each."""
    keys = jax.random.split(jax.random.key(0), 3)
    kernel = jax.random.normal(keys[0], (width, outputs)) / width**0.5
    head = jax.random.normal(keys[1], (outputs, 10)) / outputs**0.5
    x = jax.random.normal(keys[2], (images, width))
    basis = jnp.linalg.qr(jax.random.normal(keys[2], (width, width)))[0]
    labels = (jax.nn.relu(x @ kernel) @ head).argmax(1)

    network = kernel, basis, x, head, labels  # as arguments: XLA computes with constants itself

    @jax.jit
    def each(rank: Array, network: tuple[Array, ...]) -> Array:
        kernel, basis, x, head, labels = network
        logits = jax.nn.relu(x @ clip(kernel, basis, rank)) @ head
        return (logits.argmax(1) == labels).mean()

    @jax.jit
    def curve(ranks: Array, network: tuple[Array, ...]) -> Array:
        return lax.map(lambda rank: each(rank, network), ranks, batch_size=AT_ONCE)

    at = jnp.arange(1, ranks + 1)
    one_by_one = lambda: [each(rank, network) for rank in at]  # noqa: E731
    _compare(
        f"Accuracy of {ranks} clipped kernels {width}×{outputs} on {images} images, s",
        {"vmapped": lambda: curve(at, network), "loop": one_by_one},
        rounds,
    )


def _alignment(n: int, d: int, rounds: int) -> None:
    """Moments of two networks' features with all that alignment and CKA need, and these."""
    x, y = jax.random.normal(jax.random.key(0), (2, n, d))
    paired = functools.partial(moments, pair=True)
    m = paired(x, y)
    _compare(
        f"Moments of two networks' features, n = {n}, d = {d}, s",
        {
            "moments": lambda: moments(x, y),
            "pair=True": lambda: paired(x, y),
            "alignment": lambda: alignment(m),
            "debiased CKA": lambda: cka(m, debiased=True),
        },
        rounds,
    )


def _steps(n: int, widths: tuple[int, ...], steps: int, rounds: int) -> None:
    """A step of a deep linear network on data in float32, and on covariances in float64."""
    keys = jax.random.split(jax.random.key(0), 2 + len(widths))
    x, y = (jax.random.normal(keys[end], (n, widths[end])) for end in (0, -1))
    shapes = zip(keys[1:], widths, widths[1:], strict=False)
    kernels = [jax.random.normal(key, (a, b)) / a**0.5 for key, a, b in shapes]
    m = moments(x, y)
    cxx, cxy = (np.asarray(sums) / n for sums in (m.feature_products, m.cross_products))

    def loss(kernels: list[Array]) -> Array:
        return ((functools.reduce(jnp.matmul, kernels, x) - y) ** 2).sum() / (2 * n)

    def on_data(kernels: list[Array]) -> list[Array]:
        return [k - 1e-3 * g for k, g in zip(kernels, jax.grad(loss)(kernels), strict=True)]

    def many(step: Callable[[list[Array]], list[Array]]) -> Callable[[], Any]:
        program = jax.jit(lambda k: lax.fori_loop(0, steps, lambda _, k: step(k), k))
        return lambda: program(kernels)

    _compare(
        f"{steps} steps of a linear network {widths}, n = {n}, s",
        {
            "covariances": many(lambda k: covariance_step(k, cxx, cxy, 1e-3)),
            "data": many(on_data),
            "their moments, once": lambda: moments(x, y),
        },
        rounds,
    )


def _compare(title: str, forms: Mapping[str, Callable[[], Any]], rounds: int) -> None:
    """Seconds of each form by round, and how many times the first the others take."""
    for form in forms.values():
        jax.block_until_ready(form())  # compiles
    times = [[seconds(form) for form in forms.values()] for _ in range(rounds)]
    rows = [[*row, *(other / row[0] for other in row[1:])] for row in times]
    first, *others = forms
    header = ["round", *forms, *(f"{name} / {first}" for name in others)]
    formats = ["{:.4g}"] * len(forms) + ["{:.2f}"] * len(others)
    print_table(title, header, with_medians(rows, formats))
