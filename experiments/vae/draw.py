"""What the pictures of figures 5 and 10 share: styles of β, and tiles of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..shared.drawing import STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "o", "s", "^", "D", "v", "P"
PITCH = 1.08  # from one tile to the next


def beta_styles(betas: tuple[float, ...]) -> dict[float, dict[str, Any]]:
    """Colour, marker and line style of each β, distinct in grey and to the colour-blind too."""
    import matplotlib

    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(betas)))
    return {
        beta: {"color": shade, "marker": MARKERS[i % 6], "ls": STYLES[i % 4]}
        for i, (shade, beta) in enumerate(zip(shades, betas, strict=True))
    }


def tile(axes: Axes, pixels: xr.DataArray, shape: xr.DataArray, column: float, row: float) -> None:
    """Draw an image (pixel) of (height, width, channels) into a unit square of ``axes``."""
    image = np.clip(pixels.values, 0, 1).reshape(shape.values)
    axes.imshow(
        image[..., 0] if image.shape[-1] == 1 else image,
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


def few(epochs: xr.DataArray, wanted: int) -> list[int]:
    """Up to ``wanted`` of the epochs after the first, denser at the beginning, and the last."""
    places = np.geomspace(1, len(epochs) - 1, wanted).round().astype(int)
    return [int(epochs[place]) for place in np.unique(places)]
