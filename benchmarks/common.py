"""What the benchmarks share: tables, clocks and the paper's setting of figure 4."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
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
