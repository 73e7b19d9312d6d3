"""The pictures of figure 1: a row of frames, their animation, and the alignment by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..shared.drawing import band, legend_below, tidy

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

FORMS = ("Gram", "change of the Gram")


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
    drawn = result.data.sel(seed=0)
    steps = np.unique(np.linspace(0, config.last_frame, config.frames).round().astype(int))
    figure = Figure(figsize=(1.12 * len(steps) + 0.6, 3.1), layout=_layout())
    panels = figure.subplots(2, len(steps), sharex=True, sharey=True, squeeze=False)
    for column, step in zip(panels.T, steps, strict=True):
        roll = _frame(column, drawn, step)
        linearity = drawn["target_linearity"].sel(step=step)
        column[0].set_title(f"step {step}\nTL {linearity:.2f}", fontsize=8)
        gram, change = _forms(drawn, step)
        share = np.linalg.norm(change) / np.linalg.norm(gram)
        column[1].set_title(f"{100 * share:.2f} % of the Gram", fontsize=7, pad=2)
    for axes, name in zip(panels[:, 0], FORMS, strict=True):
        axes.set_ylabel(name, fontsize=8)
    _colorbar(figure, roll, panels)
    levels = {"level lines above 0": "-", "level lines below 0": "--"}
    legend_below(figure, panels[:1, 0], lines=levels)
    return figure


def _layout() -> Any:
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)


def _forms(data: xr.Dataset, step: int) -> tuple[np.ndarray, np.ndarray]:
    """The Gram of frame ``step``, and its change by the steps whose gradients X̃ sums."""
    start, before, after = (data["gram"].sel(state=s).values for s in (0, step, step + 1))
    return before, after - start


def _frame(panels: Iterable[Axes], data: xr.Dataset, step: int) -> Any:
    """The points of a frame on level lines of the Gram in one panel, of its change in the other.

    Frames are centred and of unit mean square radius; all have the same limits. Full lines are
    above zero, broken ones below, and a straight one is the leading eigenvector.
    """
    x = data["virtual_inputs"]
    x = x - x.mean("point", skipna=False)
    x = x / np.sqrt((x**2).sum("input", skipna=False).mean("point", skipna=False))
    limit = 1.05 * float(abs(x).max())
    ticks = np.linspace(-limit, limit, 81)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    for axes, form in zip(panels, _forms(data, step), strict=True):
        heights = np.einsum("xyi,ij,xyj->xy", grid, form, grid)
        levels = np.abs(np.linalg.eigvalsh(form)).max() * (0.2 * limit * np.arange(1, 8)) ** 2
        levels = np.concatenate([-levels[::-1], levels])
        axes.contour(ticks, ticks, heights, levels, colors="0.6", linewidths=0.6, zorder=1)
        v = 2 * limit * np.linalg.eigh(form)[1][:, -1]
        axes.plot(
            [-v[0], v[0]],
            [-v[1], v[1]],
            color="crimson",
            lw=0.8,
            zorder=1,
            label="leading eigenvector",
        )
        a, b = x.sel(frame=step).transpose("input", "point")
        roll = axes.scatter(a, b, s=1.5, c=data["angle"], cmap="viridis", linewidths=0, zorder=2)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
    return roll


def _colorbar(figure: Figure, roll: Any, panels: np.ndarray) -> None:
    bar = figure.colorbar(roll, ax=panels, fraction=0.03, pad=0.01, aspect=30, ticks=[0, 0.5, 1])
    bar.set_label("angle", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def animate(result: Result, file: IO[bytes]) -> None:
    """Every step to the last frame as a GIF; the last one stays for two seconds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    drawn = result.data.sel(seed=0)
    figure = Figure(figsize=(5.4, 2.9), dpi=100, layout=_layout())
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    images: list[Image.Image] = []
    for step in range(result.config.last_frame + 1):
        for axes in panels:
            axes.clear()
        roll = _frame(panels, drawn, step)
        for axes, name in zip(panels, FORMS, strict=True):
            axes.set_title(name, fontsize=8)
        linearity = drawn["target_linearity"].sel(step=step)
        figure.suptitle(f"step {step}, target linearity {linearity:.2f}", fontsize=9)
        if not images:
            _colorbar(figure, roll, panels)
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

    data, config = result.data, result.config
    figure = Figure(figsize=(7.2, 2.5), layout="constrained")
    panels = figure.subplots(1, 3)
    _by_layer(panels[0], 1 - data["cosine"])
    panels[0].set_title("1 − cosine(ΔG, V)", fontsize=9)
    _by_layer(panels[1], data["difference"])
    panels[1].set_title("‖ΔG − V‖ / ‖V‖", fontsize=9)
    drawn, *others = data["target_linearity"].transpose("seed", "step")
    for i, curve in enumerate(others):
        panels[2].plot(curve, color="0.7", lw=0.9, label="other seeds" if i == 0 else None)
    panels[2].plot(drawn, color="crimson", lw=1.4, label="the seed that is drawn")
    panels[2].axhline(float(data["input_target_linearity"]), color="0.3", ls=":", label="X")
    panels[2].set_title("target linearity of X̃", fontsize=9)
    panels[2].set_ylim(0, 1.02)
    for axes in panels:
        axes.set_xlim(0, config.steps - 1)
        axes.set_xlabel("step")
        tidy(axes)
    for axes, place in zip(panels, ("upper right", "upper right", "center right"), strict=True):
        axes.legend(frameon=False, fontsize=7, loc=place)
    return figure


def _by_layer(axes: Axes, runs: xr.DataArray) -> None:
    """A band for each layer of runs (seed, step, layer), on a logarithmic scale."""
    import matplotlib

    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, runs.sizes["layer"]))
    positive = runs.clip(np.finfo(float).eps)  # a cosine may be 1 to rounding
    for of_layer, shade in zip(positive.transpose("layer", ...), shades, strict=True):
        band(axes, of_layer, shade, log=True, label=f"layer {of_layer['layer']:d}", lw=1.4)
    axes.minorticks_off()
