"""Draw deep linear networks: training, modes with their exact curves, times."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..shared.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    VERMILION,
    band,
    letters,
    points,
    sheet,
    tidy,
)
from ..shared.text import named, over_seeds
from .claims import PUBLISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result


MARKERS = "o", "s", "^", "D", "v"


def plot(result: Result) -> Figure:
    """Training and times above; below, the strengths of the modes of each network."""
    data = result.data
    figure = sheet(4.9)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.9, 1))
    upper, modes = parts
    panels: Any = upper.subplots(2, 3)
    (loss, accuracy, difference), (half, depth, spare) = panels
    _training(loss, data, "loss", "mean of squares")
    loss.set_yscale("log")
    _training(accuracy, data, "accuracy", "train accuracy")
    _difference(difference, data)
    _half_times(half, data)
    _depths(depth, data["learning_steps"])
    row = modes.subplots(1, data.sizes["case"], sharey=True, squeeze=False)[0]
    for axes, case in zip(row, data["case"].values, strict=True):
        of = data.sel(case=case)
        _modes(axes, of["times"], of["strength"], of["exact"])
        tidy(axes, title=str(case).replace(", ", ",\n"))
    row[0].set_ylabel("strength of modes")
    letters([loss, accuracy, difference, half, depth, *row])
    _legend(spare, [loss, half, depth])
    return figure


def _legend(spare: Axes, panels: list[Axes]) -> None:
    """What is labelled in the panels, in the place of one that is not used."""
    shown: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    spare.set_axis_off()
    spare.legend(list(shown.values()), list(shown), loc="center", labelspacing=0.25)


def captions(result: Result) -> dict[str, str]:
    """What the figures show."""
    config = result.config
    return {
        "figure": (
            f"Deep linear networks on {config.columns} whitened components of "
            f"{named(config.dataset)}. (a, b) Loss and accuracy by step, trained on data or on "
            "covariances alone, which agree, and with layers changed one after another; (c) by "
            "depth, the relative difference of kernels trained by covariances and by data, dotted: "
            "float64's rounding; (d) time of each mode to half of its strength against the law "
            "τ ln(s/u₀ − 1)/2s, from several starts u₀; (e) steps to learn at the best learning "
            "rate, by depth, where all seeds learn; (f) and on: strength of each mode (points) and "
            f"the exact curves, from u₀ = {config.start:g}. "
            f"{over_seeds(config.seeds).capitalize()}."
        ),
        "random_weights": (
            f"Modes on {named(config.dataset)} from small Gaussian weights (points) and the exact "
            "curves of balanced networks through their measured half-times, for some seeds."
        ),
    }


def _training(axes: Axes, data: xr.Dataset, name: str, label: str) -> None:
    band(axes, data[name], BLUE, label="data, or covariances")
    band(axes, data[f"sequential_{name}"], VERMILION, ls="--", label="layers in turn")
    known = PUBLISHED[name]
    last = int(data["step"][-1])
    if last == 100:
        axes.plot(list(known), list(known.values()), "x", color="0.1", ms=4, label="published")
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    tidy(axes)


def _difference(axes: Axes, data: xr.Dataset) -> None:
    """By depth, how far covariance training ends from data training."""
    error = data["training_error"]
    for seed in error["seed"].values:
        axes.plot(error["depth"], error.sel(seed=seed), "o", color=BLUE)
    axes.axhline(2.0**-52, color="0.4", lw=0.8, ls=":")
    axes.set_yscale("log")
    axes.set_ylim(1e-17, 1e-9)
    axes.set_xticks(error["depth"].values)
    axes.set_xlabel("layers")
    axes.set_ylabel("relative difference")
    tidy(axes)


def _modes(axes: Axes, times: xr.DataArray, found: xr.DataArray, exact: xr.DataArray) -> None:
    from matplotlib import colormaps

    shades = colormaps["viridis"](np.linspace(0, 0.85, found.sizes["mode"]))
    for mode, shade in enumerate(shades):
        axes.plot(times, exact.isel(mode=mode), color=shade, lw=0.9)
        axes.plot(times[::12], found.isel(mode=mode)[::12], ".", color=shade, ms=2.5)
    axes.set_xlabel("steps · rate")


def _half_times(axes: Axes, data: xr.Dataset) -> None:
    """Measured half-times on the law's, for each start."""
    law = data["half_time_law"]
    colours = (BLUE, VERMILION, GREEN, ORANGE, "0.4")
    ends = [float(law.min()), float(law.max())]
    axes.plot(ends, ends, color="0.6", lw=0.8)
    for i, start in enumerate(law["start"].values):
        label = f"u$_0$ = 10$^{{{np.log10(start):.3g}}}$"
        found = data["half_time"].sel(start=start)
        axes.plot(
            law.sel(start=start), found, MARKERS[i % 5], ms=3, color=colours[i % 5], label=label
        )
    axes.set_xlabel("τ ln(s/u$_0$ − 1) / 2s")
    axes.set_ylabel("time to half strength")
    tidy(axes)


def _depths(axes: Axes, steps: xr.DataArray) -> None:
    for init, colour in zip(steps["init"].values, (BLUE, VERMILION), strict=True):
        learnt = steps.sel(init=init).dropna("layers")
        if learnt.sizes["layers"]:
            points(axes, learnt, colour, fmt="o-", label=init)
        else:
            axes.plot([], [], "o-", color=colour, label=f"{init}: not in all seeds")
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps["layers"].values, [str(n) for n in steps["layers"].values])
    axes.set_yscale("log")
    axes.set_xlabel("layers")
    axes.set_ylabel("steps to learn, best rate")
    tidy(axes)


def figures(result: Result) -> dict[str, Callable[[], Figure]]:
    """Modes from small random weights."""
    return {"random_weights": lambda: _random(result.data)}


def _random(data: xr.Dataset) -> Figure:
    seeds = data["seed"].values[:3]
    figure = sheet(1.9)
    panels = figure.subplots(1, len(seeds), sharey=True, squeeze=False)[0]
    for axes, seed in zip(panels, seeds, strict=True):
        of = data.sel(seed=seed)
        _modes(axes, data["random_times"], of["random_strength"], of["random_exact"])
        tidy(axes, title=f"seed {seed}")
    panels[0].set_ylabel("strength of modes")
    letters(panels)
    return figure
