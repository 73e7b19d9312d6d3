"""Draw figure 12: accuracy and target linearity by epoch, and by noise after training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..shared.drawing import (
    SHARE,
    VERMILION,
    band,
    layer_style,
    legend_below,
    lettered,
    points,
    say_cut,
    sheet,
    tidy,
)
from ..shared.text import named, over_seeds

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

ACCURACY = {
    "train": ("0.35", "--", "train accuracy (noisy labels)"),
    "test": (VERMILION, "-", "test accuracy (true labels)"),
}
ROWS = ("accuracy", "TL, train", "TL, held out")
LOWEST = -0.65  # held-out values below are cut: far worse than the mean of the labels


def plot(result: Result) -> Figure:
    """By epoch, at the paper's learning rate: accuracies and target linearity."""
    return _by_epoch(result, result.config.learning_rates[0])


def figures(result: Result) -> dict[str, Callable[[], Figure]]:
    """The same figure at each further learning rate, and the ends of all runs by noise level."""
    further = result.config.learning_rates[1:]
    return {
        "ends": functools.partial(_ends, result),
        **{f"rate_{rate:g}": functools.partial(_by_epoch, result, rate) for rate in further},
    }


def captions(result: Result) -> dict[str, str]:
    """What the figures show."""
    config = result.config
    decay = "decaying to 0, " if config.decay else ""
    rest = (
        "(a) Accuracy on the noisy labels of training samples and on the true labels of test "
        "samples; target linearity (TL) of each hidden layer (b) on training samples and (c) held "
        "out, fitted to training samples and scored on others with noisy labels; grey: a fit "
        f"of noise. {config.depth} layers of {config.width}, GELU, momentum {config.momentum:g}; "
        f"{over_seeds(config.seeds)}."
    )
    labels = f"A share of the labels of {named(config.dataset)} is drawn at random"
    first, *further = config.learning_rates
    return {
        "figure": f"{labels} (columns); learning rate {first:g}, {decay}by epoch. {rest}",
        "ends": f"{labels}: after {config.epochs} epochs, by that share and learning rate. {rest}",
        **{
            f"rate_{rate:g}": f"{labels} (columns); learning rate {rate:g}, {decay}by epoch. {rest}"
            for rate in further
        },
    }


def _by_epoch(result: Result, rate: float) -> Figure:
    """Curves at one learning rate; a column for each noise level."""
    config = result.config
    figure = sheet(4.2)
    panels = figure.subplots(3, len(config.noises), sharex=True, sharey="row", squeeze=False)
    panels[2, 0].set_ylim(LOWEST, 1.05)
    for column, noise in zip(panels.T, config.noises, strict=True):
        _curves(column, result.data.sel(learning_rate=rate, noise=noise))
    for axes in panels[2]:
        axes.set_xlabel("epoch")
    _frame(figure, panels)
    return figure


def _curves(panels: Iterable[Axes], data: xr.Dataset) -> None:
    """Accuracies and target linearity by epoch at one noise level."""
    accuracy, linearity, heldout = panels
    for split, (colour, style, label) in ACCURACY.items():
        runs = data[f"{split}_accuracy"]
        band(accuracy, runs, colour, within=SHARE, ls=style, label=label)
    for place, layer in enumerate(data["layer"].values):
        of, look = data.sel(layer=layer), layer_style(place)
        band(linearity, of["target_linearity"], within=SHARE, label=f"layer {layer}", **look)
        band(heldout, of["heldout"], **look)
    _floors(linearity, heldout, data)
    say_cut(heldout, data["heldout"].mean("seed"))
    for axes in (accuracy, linearity, heldout):
        axes.set_xlim(*data["epoch"].values[[0, -1]])
        tidy(axes)
    accuracy.set_title(f"noise {data['noise']:g}")


def _ends(result: Result) -> Figure:
    """Values after training, by noise level; a column for each learning rate."""
    config = result.config
    figure = sheet(4.6)
    columns = len(config.learning_rates)
    panels = figure.subplots(3, columns, sharex=True, sharey="row", squeeze=False)
    for column, rate in zip(panels.T, config.learning_rates, strict=True):
        _points(column, result.data.sel(learning_rate=rate).isel(epoch=-1))
    for axes in panels[2]:
        axes.set_xlabel("share of random labels")
    _frame(figure, panels)
    return figure


def _points(panels: Iterable[Axes], data: xr.Dataset) -> None:
    """Accuracies and target linearity by noise level at one learning rate."""
    accuracy, linearity, heldout = panels
    for split, (colour, style, label) in ACCURACY.items():
        look: dict[str, Any] = {"fmt": "o", "ls": style, "label": label}
        points(accuracy, data[f"{split}_accuracy"], colour, within=SHARE, **look)
    for place, layer in enumerate(data["layer"].values):
        of, look = data.sel(layer=layer), {"fmt": "o", **layer_style(place)}
        points(linearity, of["target_linearity"], within=SHARE, label=f"layer {layer}", **look)
        points(heldout, of["heldout"], **look)
    _floors(linearity, heldout, data)
    for axes in (accuracy, linearity, heldout):
        tidy(axes)
    accuracy.set_title(f"learning rate {data['learning_rate']:g}")


def _floors(linearity: Axes, heldout: Axes, data: xr.Dataset) -> None:
    """What a fit of noise has on training samples, p/(n − 1), and held out, −p/(n − p − 1)."""
    floor = float(data["noise_floor"])
    linearity.axhline(floor, color="0.5", lw=0.8, label="noise")
    heldout.axhline(-floor / (1 - floor) if floor < 1 else float("nan"), color="0.5", lw=0.8)


def _frame(figure: Figure, panels: np.ndarray) -> None:
    """Names of the rows, scales and the legend."""
    for axes, name in zip(panels[:, 0], lettered(ROWS), strict=True):
        axes.set_ylabel(name)
    for row in panels[:2]:
        row[0].set_ylim(-0.02, 1.05)
    legend_below(figure, panels[:2, 0], columns=3)
