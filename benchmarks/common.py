"""What the benchmarks share: sizes, tables, clocks and the paper's setting of figure 4."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import io_callback

from gramlin_jax.models import DNN
from gramlin_jax.training import Fit, Measure, classification_loss, fit

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

CLASSES = 10
IMAGE = 3072  # numbers in an image of CIFAR-10


class Sizes(NamedTuple):
    """Arguments of a benchmark's ``run``: those that are reported, and tiny ones to try it."""

    full: Mapping[str, Any]
    quick: Mapping[str, Any]


SIZES = {
    "import_time": Sizes({"rounds": 5}, {"rounds": 1}),
    "metrics": Sizes(
        {"sizes": (10_000, 20_000, 50_000), "width": 256, "rounds": 3},
        {"sizes": (200,), "width": 8, "rounds": 1},
    ),
    "epoch": Sizes(
        {"n": 50_000, "width": 256, "matmul": 2048, "rounds": 3},
        {"n": 256, "width": 8, "matmul": 64, "rounds": 1},
    ),
    "measure": Sizes({"n": 50_000, "width": 256, "rounds": 3}, {"n": 256, "width": 8, "rounds": 1}),
    "taps": Sizes(
        {
            "dnns": ((784, 1024), (784, 4096), (3072, 1024), (3072, 4096)),
            "convolutions": 256,
            "transformer": (4, 128),
            "measured": (50_000, 256),
            "covariances": 10_000,
            "rounds": 3,
        },
        {
            "dnns": (),
            "convolutions": 8,
            "transformer": (0, 4),
            "measured": (256, 8),
            "covariances": 200,
            "rounds": 1,
        },
    ),
    "probe": Sizes(
        {
            "dnns": ((256, 64), (256, 1024)),
            "convolutions": (16, 64),
            "gpt": (128, 64, 16),
            "rounds": 15,
        },
        {"dnns": ((8, 16),), "convolutions": (2, 8), "gpt": (8, 4, 4), "rounds": 1},
    ),
    "live": Sizes(
        {
            "data": "cifar10",
            "width": 256,
            "samples": 10_000,
            "epochs": 30,
            "every": 3,
            "rate": 5e-3,
            "figure": "docs/figures/live.png",
        },
        {
            "data": "digits",
            "width": 8,
            "samples": 128,
            "epochs": 2,
            "every": 1,
            "rate": 5e-3,
            "figure": None,
        },
    ),
    "sweeps": Sizes(
        {
            "sweeps": (
                {"width": 64},
                {"width": 128},
                {"width": 192},
                {"width": 256},
                {"width": 256, "runs": 5},
                {"width": 32, "runs": 10, "n": 1000, "inputs": 10, "batch": None},
                {"width": 128, "runs": 10, "n": 1000, "inputs": 10, "batch": None},
            ),
            "rounds": 3,
        },
        {
            "sweeps": ({"width": 8, "runs": 2, "n": 100},),
            "rounds": 1,
        },
    ),
    "polar": Sizes(
        {
            "shapes": ((256, 256), (784, 256), (256, 10), (64, 256)),
            "shape": (256, 256),
            "length": 14,
            "rounds": 10,
        },
        {"shapes": ((8, 8), (4, 8)), "shape": (8, 8), "length": 2, "rounds": 1},
    ),
    "gram_step": Sizes(
        {
            "dnns": ({"width": 256, "depth": 2, "inputs": 784},),
            "cnns": (
                {"channels": 16, "depth": 3, "shape": (28, 28, 1)},
                {"channels": 16, "depth": 3, "shape": (32, 32, 3)},
            ),
            "steps": 20,
            "rounds": 5,
        },
        {
            "dnns": ({"width": 8, "depth": 1, "inputs": 8},),
            "cnns": (),
            "steps": 2,
            "rounds": 1,
        },
    ),
    "linearising": Sizes(
        {
            "grokking": {"p": 61, "width": 256, "epochs": 3},
            "random_labels": {"n": 50_000, "inputs": 3072, "width": 256, "epochs": 3},
            "staircase": {"points": 1000, "width": 1024, "epochs": 6},
        },
        {
            "grokking": {"p": 7, "width": 8, "epochs": 2},
            "random_labels": {"n": 100, "inputs": 12, "width": 8, "epochs": 2},
            "staircase": {"points": 40, "width": 8, "epochs": 2},
        },
    ),
    "networks": Sizes(
        {
            "clipped": {"width": 1024, "outputs": 64, "images": 10_000, "ranks": 1024},
            "aligned": {"n": 50_000, "d": 512},
            "stepped": {"n": 50_000, "widths": (100, 32, 10), "steps": 20},
            "rounds": 3,
        },
        {
            "clipped": {"width": 12, "outputs": 8, "images": 40, "ranks": 12},
            "aligned": {"n": 200, "d": 8},
            "stepped": {"n": 100, "widths": (6, 4, 3), "steps": 2},
            "rounds": 1,
        },
    ),
    "ansatz": Sizes(
        {
            "config": {},
            "outputs": (10, 1000),
            "jacobian": (256, 64),
            "passes": (50_000, 256),
            "rounds": 3,
        },
        {
            "config": {
                "width": 8,
                "seeds": 2,
                "samples": 40,
                "probed": 10,
                "epochs": 1,
                "rotations": 3,
                "init_scales": (1.0,),
                "weight_decays": (0.0,),
            },
            "outputs": (3,),
            "jacobian": (10, 8),
            "passes": (100, 8),
            "rounds": 1,
        },
    ),
    "significance": Sizes(
        {
            "draws": 1000,
            "normal": ((64, 64), (256, 256), (512, 1024)),
            "heavy": ((64, 64), (256, 256)),
        },
        {"draws": 20, "normal": ((8, 8),), "heavy": ((8, 8),)},
    ),
    "bert": Sizes(
        {
            "models": ((4, 128, 4), (6, 384, 12)),
            "sentences": 2016,
            "length": 128,
            "rounds": 3,
        },
        {"models": ((1, 8, 2),), "sentences": 64, "length": 6, "rounds": 1},
    ),
    "vae": Sizes(
        {
            "model": {"pixels": 784},
            "n": 60_000,
            "swept": 12_800,
            "executions": ("auto", "vmap"),
            "linearity": (50_000, 32, 3072),
            "matmul": 2048,
            "rounds": 3,
        },
        {
            "model": {"pixels": 64, "width": 16, "depth": 1, "latent": 4},
            "n": 256,
            "swept": 128,
            "executions": ("auto",),
            "linearity": (200, 4, 16),
            "matmul": 64,
            "rounds": 1,
        },
    ),
}
"""By benchmark, in the order in which they run."""


class Timing(NamedTuple):
    """Seconds of one call of ``fit``."""

    epoch: float  # the median epoch, without the first, which compiles
    total: float  # the whole call, compilation included


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under a title, columns aligned to the right but the first."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for row in cells:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join([first.strip().ljust(widths[0]), *rest]), flush=True)


def with_medians(rows: Sequence[Sequence[float]], formats: Sequence[str]) -> list[list[str]]:
    """The rows of a table of rounds, numbered, and below them the median of each column."""
    names = [*map(str, range(1, len(rows) + 1)), "median"]
    return [
        [name, *(form.format(value) for form, value in zip(formats, row, strict=True))]
        for name, row in zip(names, [*rows, np.median(rows, 0)], strict=True)
    ]


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of one call, until all that it returns is there."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def in_fresh_process(benchmark: str, *arguments: object) -> dict[str, Any]:
    """What ``python -m benchmarks.BENCHMARK ARGUMENTS`` prints as JSON, of a memory of its own."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def memory(*, reset: bool = False) -> dict[str, float]:
    """Megabytes resident now (VmRSS) and at most (VmHWM), from Linux's /proc.

    The high-water mark of ``getrusage`` is the same number, but starts at the parent's.
    """
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(status[name].split()[0]) / 1e3 for name in ("VmRSS", "VmHWM")}


def matmul_rate(size: int) -> float:
    """GFLOP/s of the best of several float32 matmuls."""
    a, b = jax.random.normal(jax.random.key(0), (2, size, size))
    matmul = jax.jit(jnp.matmul)
    jax.block_until_ready(matmul(a, b))
    return 2 * size**3 / min(seconds(lambda: matmul(a, b)) for _ in range(8)) / 1e9


def flops(widths: list[int], n: int) -> int:
    """Of the matmuls alone: forward, to the weights, and to all inputs but the network's."""
    layers = [2 * n * a * b for a, b in zip(widths[:-1], widths[1:], strict=True)]
    return 3 * sum(layers) - layers[0]


def timed_fit(
    model: DNN, data: tuple[np.ndarray, np.ndarray], *, epochs: int, **options: Any
) -> tuple[Fit, Timing]:
    """``fit`` of a classifier by SGD with momentum 0.8, and its wall time by the epoch.

    The time is stamped from within, by a measurement after each epoch that reads the clock.
    """
    x = jnp.zeros((1, data[0].shape[1]))
    start = time.perf_counter()

    def stamp(params: Any, hyper: Any, data: Any) -> Array:
        del params, hyper, data
        return io_callback(
            lambda: np.float32(time.perf_counter() - start), jax.ShapeDtypeStruct((), jnp.float32)
        )

    fitted = fit(
        lambda key: model.init(key, x),
        classification_loss(model.apply),
        optax.sgd(5e-4, momentum=0.8),
        data,
        epochs=epochs,
        hooks=[Measure(stamp)],
        **options,
    )
    total = time.perf_counter() - start
    epoch = np.median(np.diff(fitted.measurements.max(0))[1:])
    return fitted, Timing(float(epoch), total)


def images(n: int, width: int = IMAGE) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, "n"]]:
    """Normal inputs in float32, labelled by the largest of ten random linear functions.

    Their deviations fall as 1/i, as those of images do along their principal directions: features
    of white noise would be better conditioned than any data's.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, width), np.float32)
    x *= (10 / np.arange(1, width + 1)).astype(np.float32)
    return x, (x @ rng.standard_normal((width, CLASSES), np.float32)).argmax(1)
