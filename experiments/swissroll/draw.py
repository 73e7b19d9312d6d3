"""The pictures of figure 1: a row of frames, their animation, and the alignment by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.shared.results import Result

FORMS = ("Gram", "its change")


def extras(result: Result) -> dict[str, Callable[[IO[bytes]], None]]:
    """The picture of ``plot_alignment``, and the animation of the frames."""
    return {
        "alignment.png": lambda file: plot_alignment(result).savefig(file, format="png", dpi=200),
        "animation.gif": lambda file: animate(result, file),
    }


def plot(result: Result) -> Figure:
    """The first seed's X̃ by step; level lines of the Gram above, of its change below."""
    from matplotlib.figure import Figure

    config = result.config
    steps = np.unique(np.linspace(0, config.last_frame, config.frames).round().astype(int))
    figure = Figure(figsize=(1.12 * len(steps) + 0.6, 2.85), layout=_layout())
    panels = figure.subplots(2, len(steps), sharex=True, sharey=True, squeeze=False)
    for column, step in zip(panels.T, steps, strict=True):
        points = _frame(column, result, step)
        linearity = result.arrays["target_linearity"][0, step]
        column[0].set_title(f"step {step}\nTL {linearity:.2f}", fontsize=8)
        gram, change = _forms(result, step)
        share = np.linalg.norm(change) / np.linalg.norm(gram)
        column[1].set_title(f"{100 * share:.2f} % of it", fontsize=7, pad=2)
    for axes, label in zip(panels[:, 0], FORMS, strict=True):
        axes.set_ylabel(label, fontsize=8)
    _colorbar(figure, points, panels)
    return figure


def _layout() -> Any:
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)


def _forms(result: Result, step: int) -> tuple[np.ndarray, np.ndarray]:
    """The Gram of frame ``step``, and its change by the steps whose gradients the frame has."""
    grams = result.arrays["gram"][0]
    return grams[step], grams[step + 1] - grams[0]


def _frame(panels: Iterable[Axes], result: Result, step: int) -> Any:
    """The points of a frame on level lines of the Gram in one panel, of its change in the other.

    Frames are centred and of unit mean square radius; the limits are those of all of them. Full
    lines are above zero, broken ones below, and a straight one is the leading eigenvector.
    """
    x = result.arrays["virtual_inputs"]
    x = x - x.mean(1, keepdims=True)
    x = x / np.sqrt((x**2).sum(2).mean(1))[:, None, None]
    limit = 1.05 * np.abs(x).max()
    ticks = np.linspace(-limit, limit, 81)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    for axes, form in zip(panels, _forms(result, step), strict=True):
        heights = np.einsum("xyi,ij,xyj->xy", grid, form, grid)
        levels = np.abs(np.linalg.eigvalsh(form)).max() * (0.2 * limit * np.arange(1, 8)) ** 2
        levels = np.concatenate([-levels[::-1], levels])
        axes.contour(ticks, ticks, heights, levels, colors="0.6", linewidths=0.6, zorder=1)
        v = 2 * limit * np.linalg.eigh(form)[1][:, -1]
        axes.plot([-v[0], v[0]], [-v[1], v[1]], color="crimson", lw=0.8, zorder=1)
        points = axes.scatter(
            x[step, :, 0],
            x[step, :, 1],
            s=1.5,
            c=result.arrays["angle"],
            cmap="viridis",
            linewidths=0,
            zorder=2,
        )
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
    return points


def _colorbar(figure: Figure, points: Any, panels: np.ndarray) -> None:
    bar = figure.colorbar(points, ax=panels, fraction=0.03, pad=0.01, aspect=30, ticks=[0, 0.5, 1])
    bar.set_label("angle", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def animate(result: Result, file: IO[bytes]) -> None:
    """Every step to the last frame as a GIF; the last one stays for two seconds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(5.4, 2.9), dpi=100, layout=_layout())
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    images: list[Image.Image] = []
    for step in range(result.config.last_frame + 1):
        for axes in panels:
            axes.clear()
        points = _frame(panels, result, step)
        for axes, name in zip(panels, FORMS, strict=True):
            axes.set_title(name, fontsize=8)
        linearity = result.arrays["target_linearity"][0, step]
        figure.suptitle(f"step {step}, target linearity {linearity:.2f}", fontsize=9)
        if not images:
            _colorbar(figure, points, panels)
            canvas.draw()
            figure.set_layout_engine("none")  # what the first frame found is kept
        canvas.draw()
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    palette = images[-1].quantize(method=Image.Quantize.MAXCOVERAGE)
    first, *rest = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [100] * len(rest) + [2000]
    first.save(file, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def plot_alignment(result: Result) -> Figure:
    """The Gram's change ΔG against the virtual covariance V by layer; the unrolling by seed."""
    from matplotlib.figure import Figure

    arrays, config = result.arrays, result.config
    figure = Figure(figsize=(7.2, 2.5), layout="constrained")
    panels = figure.subplots(1, 3)
    _curves(panels[0], 1 - arrays["cosine"])
    panels[0].set_title("1 − cosine(ΔG, V)", fontsize=9)
    _curves(panels[1], arrays["difference"])
    panels[1].set_title("‖ΔG − V‖ / ‖V‖", fontsize=9)
    drawn, *others = arrays["target_linearity"]
    for i, curve in enumerate(others):
        panels[2].plot(curve, color="0.7", lw=0.9, label="other seeds" if i == 0 else None)
    panels[2].plot(drawn, color="crimson", lw=1.4, label="the seed that is drawn")
    panels[2].axhline(arrays["input_target_linearity"], color="0.3", ls=":", label="X")
    panels[2].set_title("target linearity of X̃", fontsize=9)
    panels[2].set_ylim(0, 1.02)
    for axes in panels:
        axes.set_xlim(0, config.steps - 1)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25, lw=0.5)
    for axes, place in zip(panels, ("upper right", "upper right", "center right"), strict=True):
        axes.legend(frameon=False, fontsize=7, loc=place)
    return figure


def _curves(axes: Axes, values: np.ndarray) -> None:
    """Geometric mean and deviation over seeds of values (seeds, steps, layers), log axis."""
    import matplotlib

    layers = values.shape[2]
    logs = np.log(np.maximum(values, np.finfo(float).eps))  # a cosine may be 1 to rounding
    mean, deviation = logs.mean(0), logs.std(0, ddof=min(1, len(logs) - 1))
    axes.set_yscale("log")
    axes.minorticks_off()
    for layer in range(layers):
        shade = matplotlib.colormaps["viridis"](0.85 * layer / (layers - 1))
        axes.plot(np.exp(mean[:, layer]), color=shade, label=f"layer {layer + 1}", lw=1.4)
        band = np.exp([mean[:, layer] - deviation[:, layer], mean[:, layer] + deviation[:, layer]])
        axes.fill_between(np.arange(len(mean)), *band, color=shade, alpha=0.2, lw=0)
