"""Draw figure 12: accuracy and target linearity by epoch, and by noise after training."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from ..shared.drawing import (
    LAYERS,
    SHARE,
    VERMILION,
    band,
    entitle,
    legend_below,
    points,
    say_cut,
    tidy,
)
from ..shared.text import over_seeds

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

ACCURACY = {"train": "train accuracy, noisy labels", "test": "test accuracy, true labels"}
LOWEST = -0.65  # held-out values below are cut: far worse than the mean of the labels


def plot(result: Result) -> Figure:
    """By epoch, at the paper's learning rate: accuracies above, target linearity below."""
    return _by_epoch(result, result.config.learning_rates[0])


def extras(result: Result) -> dict[str, Callable[[IO[bytes]], None]]:
    """The same figure at each further learning rate, and the ends of all runs by noise level."""

    def drawn(figure: Callable[..., Figure], *rate: float) -> Callable[[IO[bytes]], None]:
        return lambda file: figure(result, *rate).savefig(file, format="png", dpi=200)

    further = result.config.learning_rates[1:]
    return {
        "ends.png": drawn(_ends),
        **{f"rate_{rate:g}.png": drawn(_by_epoch, rate) for rate in further},
    }


def _by_epoch(result: Result, rate: float) -> Figure:
    """Curves at one learning rate; a column for each noise level."""
    from matplotlib.figure import Figure

    config = result.config
    columns = len(config.noises)
    figure = Figure(figsize=(1.4 * max(columns, 3) + 0.6, 3.9), layout="constrained")
    panels = figure.subplots(2, columns, sharex=True, sharey="row", squeeze=False)
    panels[0, 0].set_ylim(-0.02, 1.05)
    panels[1, 0].set_ylim(LOWEST, 1.05)
    for column, noise in zip(panels.T, config.noises, strict=True):
        _curves(column, result.data.sel(learning_rate=rate, noise=noise))
    _frame(figure, panels, result, f"learning rate {rate:g}", 4 if columns < 5 else 8)
    return figure


def _curves(panels: tuple[Axes, Axes], data: xr.Dataset) -> None:
    """Accuracies and target linearity by epoch at one noise level."""
    accuracy, linearity = panels
    for split, colour, style in (("train", "0.35", "--"), ("test", VERMILION, "-")):
        runs = data[f"{split}_accuracy"]
        band(accuracy, runs, colour, within=SHARE, ls=style, label=ACCURACY[split])
    for layer, colour in _layers(data):
        of = data.sel(layer=layer)
        band(linearity, of["target_linearity"], colour, within=SHARE, label=f"layer {layer}")
        band(linearity, of["heldout"], colour, ls=":")
    _floors(linearity, data)
    say_cut(linearity, data["heldout"].mean("seed"))
    accuracy.set_xlim(*data["epoch"].values[[0, -1]])
    tidy(accuracy, title=f"noise {data['noise']:g}")
    linearity.set_xlabel("epoch")
    tidy(linearity)


def _ends(result: Result) -> Figure:
    """Values after training, by noise level; a column for each learning rate."""
    from matplotlib.figure import Figure

    config = result.config
    columns = len(config.learning_rates)
    figure = Figure(figsize=(2.6 * max(columns, 2) + 0.6, 4.4), layout="constrained")
    panels = figure.subplots(2, columns, sharex=True, sharey="row", squeeze=False)
    for column, rate in zip(panels.T, config.learning_rates, strict=True):
        _points(column, result.data.sel(learning_rate=rate).isel(epoch=-1))
    _frame(figure, panels, result, f"after {config.epochs} epochs", 4)
    return figure


def _points(panels: tuple[Axes, Axes], data: xr.Dataset) -> None:
    """Accuracies and target linearity by noise level at one learning rate."""
    accuracy, linearity = panels
    style: dict[str, Any] = {"ms": 3, "lw": 1.2}
    for split, colour, line in (("train", "0.35", "o--"), ("test", VERMILION, "o-")):
        of_split = data[f"{split}_accuracy"]
        points(accuracy, of_split, colour, within=SHARE, fmt=line, label=ACCURACY[split], **style)
    for layer, colour in _layers(data):
        of = data.sel(layer=layer)
        points(linearity, of["target_linearity"], colour, fmt="o-", label=f"layer {layer}", **style)
        points(linearity, of["heldout"], colour, fmt="s:", **style)
    _floors(linearity, data)
    linearity.axhline(0, color="0.8", lw=0.8, zorder=0)
    accuracy.set_ylim(-0.02, 1.05)
    linearity.set_xlabel("share of random labels")
    tidy(accuracy, title=f"learning rate {data['learning_rate']:g}")
    tidy(linearity)


def _layers(data: xr.Dataset) -> list[tuple[int, str]]:
    """Each layer and its colour."""
    return [(layer, LAYERS[i % len(LAYERS)]) for i, layer in enumerate(data["layer"].values)]


def _floors(axes: Axes, data: xr.Dataset) -> None:
    """What a fit of noise has on training samples, p/(n − 1), and held out, −p/(n − p − 1)."""
    floor = float(data["noise_floor"])
    axes.axhline(floor, color="0.5", lw=0.8, label="of noise")
    if floor < 1:
        axes.axhline(-floor / (1 - floor), color="0.5", lw=0.8, ls=":")


def _frame(figure: Figure, panels: np.ndarray, result: Result, line: str, columns: int) -> None:
    """Names of the rows, the legend and the title, whose last line is ``line``."""
    config = result.config
    for axes, name in zip(panels[:, 0], ("accuracy", "target linearity"), strict=True):
        axes.set_ylabel(name, fontsize=8)
    legend_below(figure, panels[:, 0], lines={"held out": ":"}, columns=columns)
    decay = "rates decaying to 0, " if config.decay else ""
    entitle(
        figure,
        f"{config.dataset}, {config.depth}×{config.width} GELU, momentum {config.momentum:g}, "
        f"{decay}{over_seeds(config.seeds)}\n{line}",
    )
