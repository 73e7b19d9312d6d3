"""Draw figure 5: decoded interpolations, and how far target linearity explains them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ...shared.drawing import WIDTH, legend_below, letters, sheet, tidy
from ...shared.statistics import interval
from ...shared.text import minus, named
from ..draw import PITCH, beta_styles, few, tile, tiled
from .correlations import correlations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...shared.results import Result

EPOCHS = 3  # that are shown of each run
LABEL, NOTES = 3.0, 3.2  # room left and right of the frames, in tiles
GAP = 0.35  # between runs
NAMES = {
    "target_linearity": "target linearity of μ",
    "reconstruction_error": "reconstruction error",
    "error": "interpolation error",
    "bend": "bend",
}


def plot(result: Result) -> Figure:
    """The pixels' interpolation and, for each β, the decoded one at several epochs."""
    data, betas = result.data.sel(seed=0), result.config.betas
    chosen, frames = few(data["epoch"], EPOCHS), data.sizes["frame"]
    bottom = (1 + len(betas) * len(chosen)) * PITCH + len(betas) * GAP
    wide = LABEL + frames * PITCH + NOTES
    figure = sheet(WIDTH * (bottom + 0.8) / wide)
    axes = figure.subplots()
    weights = xr.DataArray(np.linspace(1, 0, frames), dims="frame")
    first, second = data["row"]
    line = weights * first + (1 - weights) * second
    _row(axes, 0, line, data["image_shape"])
    axes.text(-0.25, 0.5, "pixels", ha="right", va="center", fontsize=7)
    heads = {f * PITCH + 0.5: f"{w:g}" for f, w in enumerate(weights.values)}
    right = frames * PITCH
    for place, head in {-0.5: "λ", **heads, right + 0.8: "TL", right + 2.3: "error"}.items():
        axes.text(place, -0.12, head, ha="center", va="bottom", fontsize=7)
    for place, beta in enumerate(betas):
        top = (1 + place * len(chosen)) * PITCH + (place + 1) * GAP
        middle = top + len(chosen) * PITCH / 2
        axes.text(-LABEL, middle, f"β = {beta:g}", rotation=90, ha="left", va="center")
        _block(axes, data.sel(beta=beta, epoch=chosen), line, top)
    tiled(axes, -LABEL, right + NOTES, bottom)
    axes.set_ylim(bottom, -0.8)
    return figure


def captions(result: Result) -> dict[str, str]:
    """What the figures show."""
    config = result.config
    data = named(config.dataset)
    return {
        "figure": (
            f"Interpolation of two test images of {data}: the pixels' λx₁ + (1 − λ)x₂ above; "
            "below, for each β, the decoded λμ₁ + (1 − λ)μ₂ of the first seed at some epochs. "
            "Right: target linearity (TL) of the code μ, and the mean squared distance of the "
            "frames from the pixels' line, times 1000."
        ),
        "scatter": (
            f"What interpolation on {data} goes with, over {config.pairs} pairs of test images: "
            "the interpolation error, which is the mean squared distance of decoded frames from "
            "the pixels' line, against (a) target linearity of μ and (b) the reconstruction error; "
            "(c) the bend of the decoded line, its squared distance from the line between its ends "
            "over the squared distance of the ends. A point is an epoch of one of "
            f"{config.seeds} seeds, larger ones are later. {_correlations(result)}"
        ),
    }


def _correlations(result: Result) -> str:
    found = {key: interval(seeds) for key, seeds in correlations(result.data).items()}
    return (
        "Rank correlations r over β and epochs, with 95 % intervals over seeds: (a) "
        f"{found['error']}, (b) {found['reconstruction']}, (c) {found['bend']}; with the "
        f"reconstruction error held fixed, (a) {found['given']}, and {found['middle']} for the "
        "middle frame alone."
    )


def _block(axes: Axes, data: xr.Dataset, line: xr.DataArray, top: float) -> None:
    """The rows of one run by epoch, and what is measured of each."""
    right = data.sizes["frame"] * PITCH
    for row, epoch in enumerate(data["epoch"].values):
        at, above = data.sel(epoch=epoch), top + row * PITCH
        _row(axes, above, at["decoded_row"], data["image_shape"])
        distance = float(((at["decoded_row"] - line) ** 2).mean(skipna=False))
        style: dict[str, Any] = {"va": "center", "fontsize": 7}
        middle = above + 0.5
        axes.text(-0.25, middle, f"epoch {epoch}", ha="right", **style)
        axes.text(right + 0.8, middle, f"{at['target_linearity']:.2f}", ha="center", **style)
        axes.text(right + 2.3, middle, f"{1e3 * distance:.1f}", ha="center", **style)


def _row(axes: Axes, top: float, frames: xr.DataArray, shape: xr.DataArray) -> None:
    """Frames (frame, pixel) side by side."""
    for column, frame in enumerate(frames):
        tile(axes, frame, shape, column * PITCH, top)


def figures(result: Result) -> dict[str, Callable[[], Figure]]:
    """The scatter plots of target linearity and interpolation."""
    return {"scatter": lambda: scatter(result)}


def scatter(result: Result) -> Figure:
    """What the interpolation error goes with; a point is an epoch of a run."""
    data = result.data.isel(epoch=slice(1, None))
    data = data.assign(error=data["frame_error"].mean("frame", skipna=False))
    found = correlations(result.data)
    figure = sheet(2.3)
    panels = figure.subplots(1, 3)
    for axes, x, y, key in zip(
        panels,
        ("target_linearity", "reconstruction_error", "target_linearity"),
        ("error", "error", "bend"),
        ("error", "reconstruction", "bend"),
        strict=True,
    ):
        _paths(axes, data[x], data[y])
        axes.set_title(minus(f"r = {interval(found[key]).mean:.2f}"))
    letters(panels)
    legend_below(figure, panels[:1])
    return figure


def _paths(axes: Axes, x: xr.DataArray, y: xr.DataArray) -> None:
    """Runs (beta, seed, epoch), each with a line through its epochs."""
    sizes = np.linspace(2, 12, x.sizes["epoch"])
    for beta, style in beta_styles(tuple(x["beta"].values)).items():
        look = {"color": style["color"], "marker": style["marker"], "lw": 0, "alpha": 0.7}
        for seed, (a, b) in enumerate(zip(x.sel(beta=beta), y.sel(beta=beta), strict=True)):
            axes.plot(a, b, color=style["color"], lw=0.4, alpha=0.4)
            axes.scatter(a, b, s=sizes, label=None if seed else f"β = {beta:g}", **look)
    scale = "linear" if x.name == "target_linearity" else "log"
    axes.set(xscale=scale, yscale="log", xlabel=NAMES[str(x.name)], ylabel=NAMES[str(y.name)])
    tidy(axes)
