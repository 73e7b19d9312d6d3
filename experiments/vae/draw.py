"""What the pictures of figures 5 and 10 share: colours of β, curves, and tiles of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "o", "s", "^", "D", "v", "P"
STYLES = "-", "--", "-.", ":"
PITCH = 1.08  # from one tile to the next


def beta_styles(betas: tuple[float, ...]) -> list[dict[str, Any]]:
    """Colour, marker and line style of each β, told apart in grey and by the colour-blind too."""
    import matplotlib

    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(betas)))
    return [
        {"color": shade, "marker": MARKERS[i % 6], "ls": STYLES[i % 4], "label": f"β = {beta:g}"}
        for i, (shade, beta) in enumerate(zip(shades, betas, strict=True))
    ]


def band(
    axes: Axes, epochs: np.ndarray, runs: np.ndarray, style: dict[str, Any], *, log: bool = False
) -> None:
    """Mean and deviation over seeds of runs (seeds, epochs), geometric if ``log``."""
    values = np.log(runs) if log else runs
    mean, deviation = values.mean(0), values.std(0, ddof=1)
    low, high = mean - deviation, mean + deviation
    if log:
        mean, low, high = np.exp(mean), np.exp(low), np.exp(high)
        axes.set_yscale("log")
    axes.plot(epochs, mean, lw=1.4, ms=3, markevery=max(1, len(epochs) // 8), **style)
    axes.fill_between(epochs, low, high, color=style["color"], alpha=0.2, lw=0)


def tile(axes: Axes, pixels: np.ndarray, shape: np.ndarray, column: float, row: float) -> None:
    """Draw an image (pixels,) of (height, width, channels) into a unit square of ``axes``."""
    image = np.clip(pixels, 0, 1).reshape(shape)
    axes.imshow(
        image[..., 0] if shape[-1] == 1 else image,
        cmap="gray_r",
        vmin=0,
        vmax=1,
        extent=(column, column + 1, row + 1, row),
        interpolation="nearest",
    )


def tiled(axes: Axes, left: float, right: float, bottom: float) -> None:
    """Show tiles from 0 down to ``bottom``, without axes."""
    axes.set(xlim=(left, right), ylim=(bottom, -0.1), aspect="equal")
    axes.axis("off")


def few(count: int, wanted: int) -> list[int]:
    """Up to ``wanted`` of the places 1 … count − 1, denser at the beginning, the last included."""
    places = np.geomspace(1, count - 1, wanted).round().astype(int)
    return sorted(set(places.tolist()))
