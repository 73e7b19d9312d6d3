"""Draw figure 5: decoded interpolations, and how far target linearity explains them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ...shared.drawing import entitle, legend_below, tidy
from ...shared.statistics import interval
from ..draw import PITCH, beta_styles, few, tile, tiled
from .correlations import correlations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...shared.results import Result

ROW = 1.5  # from one row of frames to the next, with its numbers
LABEL = 2.3  # room for a row's name, in tiles
NAMES = {
    "target_linearity": "target linearity of μ",
    "reconstruction_error": "reconstruction error",
    "error": "distance from the pixels' line",
    "bend": "bend",
}


def plot(result: Result) -> Figure:
    """Of each β, the pixels' interpolation and below it the decoded one at several epochs."""
    from matplotlib.figure import Figure

    data, config = result.data.sel(seed=0), result.config
    rows = -(-len(config.betas) // 2)
    chosen = few(data["epoch"], 4)
    figure = Figure(figsize=(7.2, 0.45 + rows * (0.25 + 0.41 * (len(chosen) + 1))))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03)
    panels = figure.subplots(rows, 2, squeeze=False)
    for axes in panels.flat[len(config.betas) :]:
        axes.axis("off")
    for axes, beta in zip(panels.flat, config.betas, strict=False):
        axes.set_title(f"β = {beta:g}", fontsize=8, pad=2)
        _block(axes, data.sel(beta=beta), chosen)
    entitle(
        figure,
        f"{config.dataset}: decoded λμ₁ + (1 − λ)μ₂; below a frame its mean squared distance "
        "from the pixels' interpolation, ×10⁻³",
    )
    return figure


def _block(axes: Axes, data: xr.Dataset, chosen: list[int]) -> None:
    """The rows of one run: the pixels' interpolation, then the decoded one by epoch."""
    weights = xr.DataArray(np.linspace(1, 0, data.sizes["frame"]), dims="frame")
    first, second = data["row"]
    line = weights * first + (1 - weights) * second
    shape: xr.DataArray = data["image_shape"]
    axes.text(-0.2, 0.5, "pixels", ha="right", va="center", fontsize=6.5)
    axes.text(-0.2, 1.22, "λ", ha="right", va="center", fontsize=6)
    _row(axes, 0, line, shape, (f"{weight:g}" for weight in weights))
    for row, epoch in enumerate(chosen, start=1):
        at, top = data.sel(epoch=epoch), row * ROW
        name, score = f"epoch {epoch}", f"TL {at['target_linearity']:.2f}"
        axes.text(-0.2, top + 0.4, name, ha="right", va="center", fontsize=6.5)
        axes.text(-0.2, top + 0.85, score, ha="right", va="center", fontsize=6.5)
        distances = ((at["decoded_row"] - line) ** 2).mean("pixel", skipna=False)
        notes = (f"{1e3 * distance:.1f}" for distance in distances)
        _row(axes, top, at["decoded_row"], shape, notes)
    tiled(axes, -LABEL, data.sizes["frame"] * PITCH, (1 + len(chosen)) * ROW)


def _row(
    axes: Axes, top: float, frames: xr.DataArray, shape: xr.DataArray, notes: Iterable[str]
) -> None:
    """Frames (frame, pixel), each above its note."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 5}
    for column, (frame, note) in enumerate(zip(frames, notes, strict=True)):
        tile(axes, frame, shape, column * PITCH, top)
        axes.text(column * PITCH + 0.5, top + 1.22, note, **style)


def extras(result: Result) -> dict[str, Callable[[IO[bytes]], None]]:
    """The scatter plots of target linearity and interpolation."""
    return {"scatter.png": lambda file: scatter(result).savefig(file, format="png", dpi=200)}


def scatter(result: Result) -> Figure:
    """What the interpolation error goes with; a point is an epoch of a run."""
    from matplotlib.figure import Figure

    data, config = result.data.isel(epoch=slice(1, None)), result.config
    data = data.assign(error=data["frame_error"].mean("frame", skipna=False))
    found = {
        key: str(interval(seeds)).replace("-", "−")
        for key, seeds in correlations(result.data).items()
    }
    fixed = f"reconstruction fixed: {found['given']}\nsame, middle frame: {found['middle']}"
    figure = Figure(figsize=(7.2, 3.25), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, x, y, note in zip(
        panels,
        ("target_linearity", "reconstruction_error", "target_linearity"),
        ("error", "error", "bend"),
        (f"{found['error']}\n{fixed}", found["reconstruction"], found["bend"]),
        strict=True,
    ):
        _paths(axes, data[x], data[y])
        axes.set_title(f"r = {note}", fontsize=7)
    legend_below(figure, panels[:1])
    entitle(
        figure,
        f"{config.dataset}, {config.pairs} pairs of test images, {config.seeds} seeds; larger "
        "points are later epochs; r: rank correlation [95 % over seeds]",
    )
    return figure


def _paths(axes: Axes, x: xr.DataArray, y: xr.DataArray) -> None:
    """Runs (beta, seed, epoch), each with a line through its epochs."""
    sizes = np.linspace(3, 18, x.sizes["epoch"])
    for beta, style in beta_styles(tuple(x["beta"].values)).items():
        look = {"color": style["color"], "marker": style["marker"], "lw": 0, "alpha": 0.7}
        for seed, (a, b) in enumerate(zip(x.sel(beta=beta), y.sel(beta=beta), strict=True)):
            axes.plot(a, b, color=style["color"], lw=0.4, alpha=0.4)
            axes.scatter(a, b, s=sizes, label=None if seed else f"β = {beta:g}", **look)
    scale = "linear" if x.name == "target_linearity" else "log"
    axes.set(xscale=scale, yscale="log", xlabel=NAMES[str(x.name)], ylabel=NAMES[str(y.name)])
    tidy(axes)
