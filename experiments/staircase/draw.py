"""Draw figure 8: norms by step, and what becomes of them with the width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..shared.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    band,
    entitle,
    legend_below,
    points,
    tidy,
)
from ..shared.text import over_seeds
from .claims import final_losses
from .published import PUBLISHED, RERUN, published_setting

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

NORMS = {  # name: colour, line and label
    "target_fit": (BLUE, "-", "‖y − ŷ$_{OLS}$‖"),
    "fit_output": (VERMILION, "--", "‖ŷ$_{OLS}$ − ŷ‖"),
    "target_output": (GREEN, "-.", "‖y − ŷ‖"),
    "noise_norm": ("0.45", ":", "‖y − ŷ$_{OLS}$‖ if y were noise"),
}


def plot(result: Result) -> Figure:
    """Norms by step above, a panel for each width; losses, fits and features by width below."""
    from matplotlib.figure import Figure

    config = result.config
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    above, below = halves
    panels = above.subplots(1, len(config.widths), sharex=True, sharey=True)
    for axes, width in zip(panels, config.widths, strict=True):
        _norms(axes, result.data.sel(width=width), fits_any=width >= config.points)
    panels[0].set_ylabel("norm", fontsize=8)
    legend_below(above, panels[:1])
    losses, fits, change = below.subplots(1, 3)
    _losses(losses, result)
    _fits(fits, result)
    moved = result.data["feature_change"].isel(step=-1)
    points(change, moved, BLUE, fmt="o-", ms=4, lw=1.2)
    change.set_ylim(0, None)
    _by_width(change, config.widths, "change of the last features\n‖H − H$_0$‖ / ‖H$_0$‖")
    entitle(
        figure,
        f"staircase, {config.points} points, gradient descent {config.learning_rate:g}, "
        + over_seeds(config.seeds),
    )
    return figure


def _norms(axes: Axes, data: xr.Dataset, *, fits_any: bool) -> None:
    """Norms of one width by step; grey where its features fit any target."""
    for name, (colour, style, label) in NORMS.items():
        band(axes, data[name], colour, ls=style, label=label)
    axes.set_xlim(*data["step"].values[[0, -1]])
    axes.set_ylim(0, None)
    axes.set_xlabel("step")
    tidy(axes, title=f"width {data['width'].item()}")
    if fits_any:
        axes.set_facecolor("0.93")
        note = "width ≥ n:\nany target is fitted"
        axes.text(0.5, 0.25, note, transform=axes.transAxes, fontsize=7, ha="center", color="0.3")


def _losses(axes: Axes, result: Result) -> None:
    config = result.config
    points(axes, final_losses(result), GREEN, fmt="o", ms=4, label="these seeds")
    if published_setting(config):
        for known, marker, colour, label in (
            (PUBLISHED, "x", "0.1", "published"),
            (RERUN, "+", PURPLE, "paper's code, rerun"),
        ):
            widths = [width for width in config.widths if width in known]
            values = [known[width] for width in widths]
            axes.plot(widths, values, marker, color=colour, ms=6, label=label)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.5 * (high - low))  # room for the legend
        axes.legend(frameon=False, fontsize=7, loc="upper left")
    _by_width(axes, config.widths, "final loss")


def _fits(axes: Axes, result: Result) -> None:
    """Norms relative to the target's, before and after training, against the width."""
    data, config = result.data, result.config
    for name, size, colour, label in (
        ("target_fit", "target_norm", BLUE, "training points"),
        ("new_target_fit", "new_target_norm", ORANGE, "new points"),
        ("noise_norm", "target_norm", "0.45", "noise"),
    ):
        relative = data[name] / data[size]
        shared: dict[str, Any] = {"ms": 3, "lw": 1.2}
        points(axes, relative.isel(step=0), colour, fmt="o:", mfc="white", **shared)
        points(axes, relative.isel(step=-1), colour, fmt="o-", mfc=colour, label=label, **shared)
    axes.set_yscale("log")
    axes.axvspan(config.points, 2 * config.widths[-1], color="0.93", zorder=0)
    axes.plot([], [], "o:", color="0.3", ms=3, mfc="white", lw=1.2, label="before training")
    axes.legend(frameon=False, fontsize=6.5)
    _by_width(axes, config.widths, "‖y − ŷ$_{OLS}$‖ / ‖y‖")


def _by_width(axes: Axes, widths: tuple[int, ...], name: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(widths[0] / 1.5, widths[-1] * 1.5)
    axes.set(xlabel="width", ylabel=name)
    tidy(axes)
    axes.set_xticks(widths, [str(width) for width in widths])
