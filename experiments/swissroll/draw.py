"""The pictures of figure 1: a row of frames, their animation, and the alignment by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..shared.drawing import (
    VERMILION,
    WIDTH,
    band,
    layer_style,
    legend_below,
    letters,
    sheet,
    styled,
    tidy,
)
from ..shared.text import over_seeds

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

FORMS = ("(a) Gram G", "(b) change ΔG")
LEADING: dict[str, Any] = {"color": VERMILION, "lw": 0.8, "label": "leading eigenvector"}
LEVELS = {"level lines above 0": "-", "level lines below 0": "--"}


def figures(result: Result) -> dict[str, Callable[[], Figure]]:
    """The picture of ``plot_alignment``."""
    return {"alignment": lambda: plot_alignment(result)}


def extras(result: Result) -> dict[str, Callable[[IO[bytes]], None]]:
    """The animation of the frames."""
    return {"animation.gif": lambda file: animate(result, file)}


def captions(result: Result) -> dict[str, str]:
    """What the figures show."""
    config = result.config
    return {
        "figure": (
            "The virtual update unrolls the swiss roll. The points X̃ = X − "
            f"{config.scale:g} Σ∇L of the first seed after some steps, centred and of unit mean "
            "square radius, coloured by their angle, with their target linearity (TL), on level "
            "lines of xᵀGx for the first layer's Gram G (above), and of xᵀΔGx for what the Gram "
            "has changed by since the start (below, with ‖ΔG‖/‖G‖)."
        ),
        "alignment": (
            "The Gram's change ΔG in a step against the virtual covariance V, by layer: (a) their "
            "cosine, (b) their difference; "
            f"{over_seeds(config.seeds)}, of logarithms. (c) Target linearity of X̃ by seed; the "
            "dotted line is that of X."
        ),
    }


def plot(result: Result) -> Figure:
    """The first seed's X̃ by step; level lines of the Gram above, of its change below."""
    config = result.config
    drawn = result.data.sel(seed=0)
    steps = np.unique(np.linspace(0, config.last_frame, config.frames).round().astype(int))
    figure = sheet(1.0 + 2 * (WIDTH - 0.6) / len(steps))
    figure.set_layout_engine(_layout())
    panels = figure.subplots(2, len(steps), sharex=True, sharey=True, squeeze=False)
    for column, step in zip(panels.T, steps, strict=True):
        roll = _frame(column, drawn, step)
        linearity = drawn["target_linearity"].sel(step=step)
        column[0].set_title(f"step {step}\nTL {linearity:.2f}")
        gram, change = _forms(drawn, step)
        share = np.linalg.norm(change) / np.linalg.norm(gram)
        column[1].set_title(f"‖ΔG‖/‖G‖\n{100 * share:.2f} %", pad=2)
    for axes, name in zip(panels[:, 0], FORMS, strict=True):
        axes.set_ylabel(name)
    _colorbar(figure, roll, panels)
    legend_below(figure, panels[:1, 0], lines=LEVELS)
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
        axes.plot([-v[0], v[0]], [-v[1], v[1]], zorder=1, **LEADING)
        a, b = x.sel(frame=step).transpose("input", "point")
        roll = axes.scatter(a, b, s=1.5, c=data["angle"], cmap="viridis", linewidths=0, zorder=2)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
    return roll


def _colorbar(figure: Figure, roll: Any, panels: np.ndarray) -> None:
    bar = figure.colorbar(roll, ax=panels, fraction=0.03, pad=0.01, aspect=30, ticks=[0, 0.5, 1])
    bar.set_label("angle")


def animate(result: Result, file: IO[bytes]) -> None:
    """Every step to the last frame as a GIF; the last one stays for two seconds."""
    from PIL import Image

    with styled():
        images = _images(result)
    palette = images[-1].quantize(method=Image.Quantize.MAXCOVERAGE)
    first, *rest = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [100] * len(rest) + [2000]
    first.save(file, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def _images(result: Result) -> list[Any]:
    """A picture of each step; their panels lie in one place."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    drawn = result.data.sel(seed=0)
    figure = sheet(3.2)
    figure.set_layout_engine(_layout())
    figure.dpi = 110
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    images: list[Any] = []
    for step in range(result.config.last_frame + 1):
        for axes in panels:
            axes.clear()
        roll = _frame(panels, drawn, step)
        for axes, name in zip(panels, FORMS, strict=True):
            axes.set_title(name)
        linearity = drawn["target_linearity"].sel(step=step)
        figure.suptitle(f"step {step}, target linearity {linearity:.2f}")
        if not images:
            _colorbar(figure, roll, panels)
            legend_below(figure, panels[:1], lines=LEVELS)
            for _ in range(3):  # until the layout moves no more
                canvas.draw()
            figure.set_layout_engine("none")  # what the first frame found is kept
        canvas.draw()
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    return images


def plot_alignment(result: Result) -> Figure:
    """The Gram's change ΔG against the virtual covariance V by layer; the unrolling by seed."""
    data, config = result.data, result.config
    figure = sheet(2.0)
    panels = figure.subplots(1, 3)
    _by_layer(panels[0], 1 - data["cosine"])
    panels[0].set_title("1 − cosine(ΔG, V)")
    _by_layer(panels[1], data["difference"])
    panels[1].set_title("‖ΔG − V‖ / ‖V‖")
    drawn, *others = data["target_linearity"].transpose("seed", "step")
    for i, curve in enumerate(others):
        panels[2].plot(curve, color="0.7", lw=0.9, label="other seeds" if i == 0 else None)
    panels[2].plot(drawn, color=VERMILION, label="the seed that is drawn")
    panels[2].axhline(float(data["input_target_linearity"]), color="0.3", ls=":", label="TL of X")
    panels[2].set_title("TL of X̃")
    panels[2].set_ylim(0, 1.02)
    for axes in panels:
        axes.set_xlim(0, config.steps - 1)
        axes.set_xlabel("step")
        tidy(axes)
    letters(panels)
    legend_below(figure, panels[[0, 2]])
    return figure


def _by_layer(axes: Axes, runs: xr.DataArray) -> None:
    """A band for each layer of runs (seed, step, layer), on a logarithmic scale."""
    positive = runs.clip(np.finfo(float).eps)  # a cosine may be 1 to rounding
    for place, of_layer in enumerate(positive.transpose("layer", ...)):
        label = f"layer {of_layer['layer']:d}"
        band(axes, of_layer, log=True, label=label, **layer_style(place))
    axes.minorticks_off()
