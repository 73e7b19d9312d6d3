"""Draw deep linear networks: training, modes with their exact curves, times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..shared.drawing import BLUE, GREEN, ORANGE, VERMILION, band, points, tidy
from ..shared.text import over_seeds
from .claims import PUBLISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result


def plot(result: Result) -> Figure:
    """Training and times above; below, the strengths of the modes of each network."""
    from matplotlib.figure import Figure

    data, config = result.data, result.config
    figure = Figure(figsize=(9.2, 6.6), layout="constrained")
    panels: Any = figure.subplots(3, 3)
    (loss, accuracy, difference), (first, second, third), (fourth, half, depth) = panels
    _training(loss, data, "loss", "mean of squares")
    loss.set_yscale("log")
    loss.legend(frameon=False, fontsize=6.5)
    _training(accuracy, data, "accuracy", "train accuracy")
    _difference(difference, data)
    for axes, case in zip((first, second, third, fourth), data["case"].values, strict=True):
        of = data.sel(case=case)
        _modes(axes, of["times"], of["strength"], of["exact"])
        tidy(axes, title=f"{case}, u$_0$ = {config.start:g}")
    first.set_ylabel("strength of the modes")
    fourth.set_ylabel("strength of the modes")
    _half_times(half, data)
    _depths(depth, data["learning_steps"])
    figure.suptitle(
        f"{config.dataset}, {config.columns} whitened components, {over_seeds(config.seeds)}",
        fontsize=9,
    )
    return figure


def _training(axes: Axes, data: xr.Dataset, name: str, label: str) -> None:
    band(axes, data[name], BLUE, label="data, or covariances")
    band(axes, data[f"sequential_{name}"], VERMILION, ls="--", label="layers in turn")
    known = PUBLISHED[name]
    last = int(data["step"][-1])
    if last == 100:
        axes.plot(list(known), list(known.values()), "x", color="0.1", ms=5, label="published")
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    tidy(axes)


def _difference(axes: Axes, data: xr.Dataset) -> None:
    """By depth, how far covariance training ends from data training."""
    error = data["training_error"]
    for seed in error["seed"].values:
        axes.plot(error["depth"], error.sel(seed=seed), "o", color=BLUE, ms=3)
    axes.axhline(2.0**-52, color="0.4", lw=0.8, ls=":")
    axes.set_yscale("log")
    axes.set_ylim(1e-17, 1e-9)
    axes.set_xticks(error["depth"].values)
    axes.set_xlabel("layers")
    axes.set_ylabel("relative difference")
    tidy(axes, title="kernels by covariances and by data")


def _modes(axes: Axes, times: xr.DataArray, found: xr.DataArray, exact: xr.DataArray) -> None:
    from matplotlib import colormaps

    shades = colormaps["viridis"](np.linspace(0, 0.85, found.sizes["mode"]))
    for mode, shade in enumerate(shades):
        axes.plot(times, exact.isel(mode=mode), color=shade, lw=1.1)
        axes.plot(times[::12], found.isel(mode=mode)[::12], ".", color=shade, ms=3.5)
    axes.set_xlabel("time (steps · learning rate)")


def _half_times(axes: Axes, data: xr.Dataset) -> None:
    """Measured half-times on the law's, for each start."""
    law = data["half_time_law"]
    colours = (BLUE, VERMILION, GREEN, ORANGE, "0.4")
    ends = [float(law.min()), float(law.max())]
    axes.plot(ends, ends, color="0.6", lw=0.8)
    for i, start in enumerate(law["start"].values):
        label = f"u$_0$ = {start:g}"
        found = data["half_time"].sel(start=start)
        axes.plot(law.sel(start=start), found, "o", ms=3, color=colours[i % 5], label=label)
    axes.set_xlabel("τ ln(s/u$_0$ − 1) / 2s")
    axes.set_ylabel("time to half strength")
    axes.legend(frameon=False, fontsize=6)
    tidy(axes)


def _depths(axes: Axes, steps: xr.DataArray) -> None:
    for init, colour in zip(steps["init"].values, (BLUE, VERMILION), strict=True):
        learnt = steps.sel(init=init).dropna("layers")
        if learnt.sizes["layers"]:
            points(axes, learnt, colour, fmt="o-", ms=4, lw=1.2, label=init)
        else:
            axes.plot([], [], "o-", color=colour, label=f"{init}: never")
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps["layers"].values, [str(n) for n in steps["layers"].values])
    axes.set_yscale("log")
    axes.set_xlabel("layers")
    axes.set_ylabel("steps to learn, best rate")
    axes.legend(frameon=False, fontsize=6.5)
    tidy(axes)


def extras(result: Result) -> dict[str, Any]:
    """Modes from small random weights."""

    def random(file: Any) -> None:
        from matplotlib.figure import Figure

        data = result.data
        seeds = data["seed"].values[:3]
        figure = Figure(figsize=(2.6 * len(seeds) + 0.6, 2.4), layout="constrained")
        panels = figure.subplots(1, len(seeds), sharey=True, squeeze=False)[0]
        for axes, seed in zip(panels, seeds, strict=True):
            of = data.sel(seed=seed)
            _modes(axes, data["random_times"], of["random_strength"], of["random_exact"])
            tidy(axes, title=f"small Gaussian weights, seed {seed}")
        panels[0].set_ylabel("strength; curves through half-times", fontsize=7)
        figure.savefig(file, format="png", dpi=200)

    return {"random_weights.png": random}
