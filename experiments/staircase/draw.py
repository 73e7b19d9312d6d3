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
    legend_below,
    letters,
    points,
    sheet,
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
    config = result.config
    figure = sheet(4.0)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.05))
    above, below = halves
    panels = above.subplots(1, len(config.widths), sharex=True, sharey=True)
    for axes, width in zip(panels, config.widths, strict=True):
        _norms(axes, result.data.sel(width=width), fits_any=width >= config.points)
    panels[0].set_ylabel("norm")
    legend_below(above, panels[:1])
    lower = losses, fits, change = below.subplots(1, 3)
    _losses(losses, result)
    _fits(fits, result)
    moved = result.data["feature_change"].isel(step=-1)
    points(change, moved, BLUE, fmt="o-")
    change.set_ylim(0, None)
    _by_width(change, config.widths, "‖H − H$_0$‖ / ‖H$_0$‖")
    letters([*panels, *lower])
    legend_below(below, lower, columns=4)
    return figure


def captions(result: Result) -> dict[str, str]:
    """What the figure shows."""
    config = result.config
    last = chr(96 + len(config.widths))
    losses, fits, change = (chr(97 + len(config.widths) + i) for i in range(3))
    wide = any(width >= config.points for width in config.widths)
    grey = "; grey: as many features as points, which fit any target" if wide else ""
    text = (
        f"A staircase function of {config.points} points learnt by networks from rich to lazy. "
        f"(a) to ({last}) Norms by step of gradient descent at {config.learning_rate:g}: y is the "
        "target, ŷ the output, ŷ_OLS the ridge fit of y to the last hidden features H; dotted: the "
        f"norm that a fit of pure noise leaves{grey}. ({losses}) Final mean squared error by "
        f"width. ({fits}) What the fit leaves, before training (open, dotted) and after. "
        f"({change}) How far the last hidden features H moved from their start H₀. "
        f"{over_seeds(config.seeds).capitalize()}."
    )
    return {"figure": text}


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


def _losses(axes: Axes, result: Result) -> None:
    config = result.config
    points(axes, final_losses(result), GREEN, fmt="o", label="these seeds")
    if published_setting(config):
        for known, marker, colour, label in (
            (PUBLISHED, "x", "0.1", "published"),
            (RERUN, "+", PURPLE, "paper's code, rerun"),
        ):
            widths = [width for width in config.widths if width in known]
            values = [known[width] for width in widths]
            axes.plot(widths, values, marker, color=colour, ms=5, label=label)
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
        points(axes, relative.isel(step=0), colour, fmt="o:", mfc="white")
        points(axes, relative.isel(step=-1), colour, fmt="o-", mfc=colour, label=label)
    axes.set_yscale("log")
    axes.axvspan(config.points, 2 * config.widths[-1], color="0.93", zorder=0)
    axes.plot([], [], "o:", color="0.3", mfc="white", label="before training")
    _by_width(axes, config.widths, "‖y − ŷ$_{OLS}$‖ / ‖y‖")


def _by_width(axes: Axes, widths: tuple[int, ...], name: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(widths[0] / 1.5, widths[-1] * 1.5)
    axes.set(xlabel="width", ylabel=name)
    tidy(axes)
    axes.set_xticks(widths, [str(width) for width in widths], fontsize="x-small")
