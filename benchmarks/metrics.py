"""Metrics of a layer from its moments, against the plain form with its (n, n) Gram matrix.

Each form and each n runs in a fresh process, ``python -m benchmarks.metrics FORM FILE``. It loads
the features, computes the two metrics of all layers, and prints the time and memory it took.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import CLASSES, images, in_fresh_process, memory, print_table
from gramlin_jax import Moments, accumulate, moments, surrogate, target_linearity
from gramlin_jax.models import DNN

if TYPE_CHECKING:
    from jaxtyping import Array

DEPTH = 4
OURS = "moments", "streaming"
PLAIN = "plain_jax", "plain_numpy"
ONCE = 50_000  # so many samples or more: the plain form runs once


def run(sizes: Sequence[int], width: int, rounds: int) -> None:
    """Print time, memory and error of each form."""
    with tempfile.TemporaryDirectory() as folder:
        files = {n: _write_features(Path(folder) / f"{n}.npz", n, width) for n in sizes}
        truth = np.array(in_fresh_process("metrics", "lstsq", files[sizes[0]])["values"])
        first = _rounds(files[sizes[0]], (*OURS, *PLAIN), rounds)
        plain = min(PLAIN, key=lambda form: first[form]["seconds"])
        taken = {sizes[0]: {form: first[form] for form in (*OURS, plain)}}
        for n in sizes[1:]:
            taken[n] = _rounds(files[n], (*OURS, plain), 1 if n >= ONCE else rounds)
    setting = f"{DEPTH} layers of {width}, {CLASSES} classes"
    _print_costs(taken, plain, setting)
    _print_scaling(taken, plain)
    _print_plain_forms(first, sizes[0])
    _print_errors(first, truth, sizes[0])


def _print_costs(taken: dict[int, Any], plain: str, setting: str) -> None:
    print_table(
        f"Target linearity and surrogate of {setting} (targets at n = 50 000: time / 100, "
        "memory / 20)",
        ["n", "form", "s", "compile s", "MB beyond features", "MB total", "time /", "memory /"],
        [
            [
                n,
                form,
                f"{cost['seconds']:.3f}",
                f"{cost['compile']:.2f}",
                f"{cost['beyond']:.0f}",
                f"{cost['total']:.0f}",
                f"{forms[plain]['seconds'] / cost['seconds']:.1f}",
                f"{forms[plain]['beyond'] / cost['beyond']:.1f}",
            ]
            for n, forms in taken.items()
            for form, cost in forms.items()
        ],
    )


def _print_scaling(taken: dict[int, Any], plain: str) -> None:
    small, large = min(taken), max(taken)
    growth = [
        [form, *(f"{taken[large][form][k] / taken[small][form][k]:.2f}" for k in kinds)]
        for form in (*OURS, plain)
        for kinds in [("seconds", "beyond")]
    ]
    print_table(
        f"From n = {small} to {large}: linear is {large / small:g}, quadratic "
        f"{(large / small) ** 2:g}, flat 1",
        ["form", "time", "memory"],
        growth,
    )


def _print_plain_forms(first: dict[str, Any], n: int) -> None:
    print_table(
        f"The plain form in JAX and in numpy, n = {n}: the faster one is compared with above",
        ["form", "s", "compile s", "MB beyond features"],
        [
            [
                f,
                f"{first[f]['seconds']:.3f}",
                f"{first[f]['compile']:.2f}",
                round(first[f]["beyond"]),
            ]
            for f in PLAIN
        ],
    )


def _print_errors(first: dict[str, Any], truth: np.ndarray, n: int) -> None:
    forms = (*OURS, *PLAIN)
    error = {form: np.array(first[form]["values"]) - truth[:, :2] for form in forms}
    print_table(
        f"Target linearity, difference from numpy's lstsq in float64, n = {n}",
        ["layer", "condition", "lstsq", *forms],
        [
            [
                i + 1,
                f"{truth[i, 2]:.0f}",
                f"{truth[i, 0]:.6f}",
                *(f"{error[form][i, 0]:.1e}" for form in forms),
            ]
            for i in range(DEPTH)
        ],
    )
    print_table(
        "Surrogate, relative difference from float64",
        ["layer", "float64", *forms],
        [
            [i + 1, f"{truth[i, 1]:.6g}", *(f"{error[f][i, 1] / truth[i, 1]:.1e}" for f in forms)]
            for i in range(DEPTH)
        ],
    )


def _write_features(path: Path, n: int, width: int) -> Path:
    """Features of a fresh network on random images, one-hot labels, and the next kernels."""
    x, labels = images(n)
    model = DNN(width, DEPTH, CLASSES)
    params = model.init(jax.random.key(0), x[:1])
    layers = jax.jit(model.apply)(params, x)[1]
    arrays = {f"features{i}": h for i, h in enumerate(layers)}
    arrays |= {f"kernel{i}": params["params"][f"Dense_{i + 1}"]["kernel"] for i in range(DEPTH)}
    np.savez(path, targets=np.eye(CLASSES, dtype=np.float32)[labels], **arrays)
    return path


def _rounds(file: Path, forms: Sequence[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Medians over rounds in which the forms take turns."""
    taken = [
        {form: in_fresh_process("metrics", form, file) for form in forms} for _ in range(rounds)
    ]
    return {
        form: {
            key: taken[0][form][key]
            if key == "values"
            else np.median([t[form][key] for t in taken])
            for key in taken[0][form]
        }
        for form in forms
    }


def _main(form: str, file: str) -> None:
    """Print, as JSON, the values, seconds and megabytes of one form on one file."""
    compute, on_device = FORMS[form]
    arrays = np.load(file)
    place = jnp.asarray if on_device else np.asarray
    targets = place(arrays["targets"])
    layers, kernels = (
        [place(arrays[f"{name}{i}"]) for i in range(DEPTH)] for name in ("features", "kernel")
    )
    before = memory(reset=True)["VmRSS"]
    first, values = _clocked(lambda: compute(layers, targets, kernels))
    times = [] if on_device else [first]  # a first call in JAX compiles
    while not times or (len(times) < 5 and sum(times) < 2):
        times.append(_clocked(lambda: compute(layers, targets, kernels))[0])
    peak = memory()["VmHWM"]
    taken = {
        "seconds": np.median(times),
        "compile": first - np.median(times) if on_device else 0.0,
        "beyond": peak - before,
        "total": peak,
        "values": values.tolist(),
    }
    print(json.dumps(taken))


def _clocked(function: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    values = function()
    return time.perf_counter() - start, values


def _by_moments(layers: list[Array], targets: Array, kernels: list[Array]) -> np.ndarray:
    return _metrics([moments(h, targets) for h in layers], kernels)


def _by_streaming(layers: list[Array], targets: Array, kernels: list[Array]) -> np.ndarray:
    return _metrics(_stream(layers, targets), kernels)


@jax.jit
def _stream(layers: list[Array], targets: Array) -> list[Moments]:
    return accumulate(lambda rows: [moments(h, rows[1]) for h in rows[0]], (layers, targets))


def _metrics(layers: list[Moments], kernels: list[Array]) -> np.ndarray:
    pairs = zip(layers, kernels, strict=True)
    return np.array([(target_linearity(m), surrogate(m, kernel)) for m, kernel in pairs])


def _plainly(xp: Any, h: Any, y: Any, kernel: Any) -> Any:
    """Both metrics of a layer in float32, in numpy or JAX, as one writes them first."""
    h, y = h - h.mean(0), y - y.mean(0)
    z = h @ kernel
    gram = z @ z.T.copy()  # else numpy calls BLAS's syrk, which is slow here and crashes at 50 000
    trace = (y * (gram @ y)).sum() / y.shape[1]
    inverse = xp.linalg.inv(h.T @ h + 1e-8 * xp.eye(h.shape[1], dtype=h.dtype))
    residual = y - h @ (inverse @ (h.T @ y))
    return xp.stack([1 - (residual**2).sum() / (y**2).sum(), trace])


@jax.jit
def _plainly_in_jax(h: Array, y: Array, kernel: Array) -> Array:
    return _plainly(jnp, h, y, kernel)


def _by_plain_jax(layers: list[Array], targets: Array, kernels: list[Array]) -> np.ndarray:
    pairs = zip(layers, kernels, strict=True)
    return np.array([_plainly_in_jax(h, targets, kernel) for h, kernel in pairs], np.float64)


def _by_plain_numpy(layers: list[Any], targets: Any, kernels: list[Any]) -> np.ndarray:
    pairs = zip(layers, kernels, strict=True)
    return np.array([_plainly(np, h, targets, kernel) for h, kernel in pairs], np.float64)


def _by_lstsq(layers: list[Any], targets: Any, kernels: list[Any]) -> np.ndarray:
    """The truth, least squares by singular values in float64, and the features' condition."""
    y = targets.astype(np.float64) - targets.mean(0, dtype=np.float64)
    values = []
    for h, kernel in zip(layers, kernels, strict=True):
        h = h.astype(np.float64) - h.mean(0, dtype=np.float64)
        b, _, _, singular = np.linalg.lstsq(h, y)
        squares = np.sum((kernel.astype(np.float64).T @ (h.T @ y)) ** 2)
        linearity = 1 - np.sum((y - h @ b) ** 2) / np.sum(y**2)
        values.append((linearity, squares / y.shape[1], singular[0] / singular[-1]))
    return np.array(values)


# Each form, and whether it takes arrays of JAX.
FORMS = {
    "moments": (_by_moments, True),
    "streaming": (_by_streaming, True),
    "plain_jax": (_by_plain_jax, True),
    "plain_numpy": (_by_plain_numpy, False),
    "lstsq": (_by_lstsq, False),
}

if __name__ == "__main__":
    _main(*sys.argv[1:])
