"""The pictures of figure 5: decoded interpolations, and how far target linearity explains them."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from experiments.shared.statistics import interval
from experiments.vae.draw import PITCH, beta_styles, few, tile, tiled
from experiments.vae.interpolation.correlations import correlations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.shared.results import Result
    from experiments.shared.statistics import Interval

ROW = 1.5  # from one row of frames to the next, with its numbers
LABEL = 2.3  # room for a row's name, in tiles


def plot(result: Result) -> Figure:
    """Of each β, the pixels' interpolation and below it the decoded one at several epochs."""
    from matplotlib.figure import Figure

    config = result.config
    rows = -(-len(config.betas) // 2)
    chosen = few(len(result.arrays["epochs"]), 4)
    figure = Figure(figsize=(7.2, 0.45 + rows * (0.25 + 0.41 * (len(chosen) + 1))))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03)
    panels = figure.subplots(rows, 2, squeeze=False)
    for axes in panels.flat[len(config.betas) :]:
        axes.axis("off")
    for i, axes in enumerate(panels.flat[: len(config.betas)]):
        _rows(axes, result, i, chosen)
    figure.suptitle(
        f"{config.dataset}: decoded λμ₁ + (1 − λ)μ₂; below a frame its mean squared distance "
        "from that of the pixels, ×10⁻³",
        fontsize=8,
    )
    return figure


def _rows(axes: Axes, result: Result, i: int, chosen: list[int]) -> None:
    """The block of one β, of its first seed."""
    arrays, config = result.arrays, result.config
    weights = np.linspace(1, 0, config.frames)[:, None]
    first, second = arrays["row"]
    line = weights * first + (1 - weights) * second
    blocks = [("pixels", "", line)]
    for epoch in chosen:
        linearity = arrays["target_linearity"][i, 0, epoch]
        name, score = f"epoch {arrays['epochs'][epoch]}", f"TL {linearity:.2f}"
        blocks.append((name, score, arrays["decoded_row"][i, 0, epoch]))
    for row, (name, score, frames) in enumerate(blocks):
        top = row * ROW
        text: dict[str, Any] = {"ha": "right", "fontsize": 6.5}
        axes.text(-0.2, top + (0.4 if score else 0.5), name, va="center", **text)
        axes.text(-0.2, top + 0.85, score, va="center", **text)
        for column, (frame, target) in enumerate(zip(frames, line, strict=True)):
            tile(axes, frame, arrays["image_shape"], column * PITCH, top)
            note = (
                f"{1e3 * ((frame - target) ** 2).mean():.1f}"
                if score
                else f"{weights[column, 0]:g}"
            )
            axes.text(column * PITCH + 0.5, top + 1.22, note, ha="center", va="center", fontsize=5)
    axes.text(-0.2, 1.22, "λ", ha="right", va="center", fontsize=6)
    axes.set_title(f"β = {config.betas[i]:g}", fontsize=8, pad=2)
    tiled(axes, -LABEL, config.frames * PITCH, len(blocks) * ROW)


def extras(result: Result) -> dict[str, Callable[[IO[bytes]], None]]:
    """The scatter plots of target linearity and interpolation."""
    figure = scatter(result, {key: interval(r) for key, r in correlations(result).items()})
    return {"scatter.png": lambda file: figure.savefig(file, format="png", dpi=200)}


def scatter(result: Result, found: dict[str, Interval]) -> Figure:
    """What the interpolation error goes with; a point is an epoch of a run.

    Args:
        result: The runs.
        found: Correlations as of ``correlations``.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    arrays, config = result.arrays, result.config
    figure = Figure(figsize=(7.2, 3.25), layout="constrained")
    error = arrays["frame_error"].mean(-1)
    linearity, reconstruction = arrays["target_linearity"], arrays["reconstruction_error"]
    of_linearity, of_pixels = "target linearity of μ", "distance from the pixels' line"
    fixed = (
        f"reconstruction fixed: {_signed(found['given'])}\n"
        f"that, middle frame: {_signed(found['middle'])}"
    )
    for axes, x, y, names, note in zip(
        figure.subplots(1, 3),
        (linearity, reconstruction, linearity),
        (error, error, arrays["bend"]),
        (
            (of_linearity, of_pixels),
            ("reconstruction error", of_pixels),
            (of_linearity, "bend"),
        ),
        (
            f"{_signed(found['error'])}\n{fixed}",
            _signed(found["reconstruction"]),
            _signed(found["bend"]),
        ),
        strict=True,
    ):
        for i, style in enumerate(beta_styles(config.betas)):
            _points(axes, x[i, :, 1:], y[i, :, 1:], style)
        axes.set(yscale="log", xscale="linear" if x is linearity else "log")
        axes.xaxis.set_minor_formatter(NullFormatter())  # labels of less than a decade overlap
        axes.set_xlabel(names[0], fontsize=8)
        axes.set_ylabel(names[1], fontsize=8)
        axes.set_title(f"r = {note}", fontsize=7)
        axes.tick_params(labelsize=6.5, which="both")
        axes.grid(alpha=0.25, lw=0.5)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8
    )
    figure.suptitle(
        f"{config.dataset}, {config.pairs} pairs of test images, {config.seeds} seeds; larger "
        "points are later epochs; r: rank correlation [95 % over seeds]",
        fontsize=8,
    )
    return figure


def _signed(interval: Interval) -> str:
    return str(interval).replace("-", "−")


def _points(axes: Axes, x: np.ndarray, y: np.ndarray, style: dict[str, Any]) -> None:
    """Runs (seeds, epochs), each with a line through its epochs."""
    sizes = np.linspace(3, 18, x.shape[1])
    look = {"color": style["color"], "marker": style["marker"], "lw": 0, "alpha": 0.7}
    for seed, (a, b) in enumerate(zip(x, y, strict=True)):
        axes.plot(a, b, color=style["color"], lw=0.4, alpha=0.4)
        axes.scatter(a, b, s=sizes, label=None if seed else style["label"], **look)
