"""Draw neural collapse: NC1 to NC4 and target linearity, by epoch and loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..shared.drawing import BLUE, GREEN, LAYERS, PURPLE, VERMILION, band, entitle, tidy
from ..shared.statistics import spread
from ..shared.text import over_seeds
from . import TERMINAL
from .claims import by_loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

ACTIVATION = {"relu": "ReLU", "gelu": "GELU"}

LEAST = 1e-5
"""Where shares of samples that are 0 are drawn; the axis says 0 there."""


def plot(result: Result) -> Figure:
    """A row for each loss: NC1 and 1 − TL with the link, by layer; NC2, NC3 and NC4 of the last."""
    from matplotlib.figure import Figure

    config, losses = result.config, by_loss(result)
    figure = Figure(figsize=(9, 0.7 + 2.1 * len(losses)), layout="constrained")
    panels = figure.subplots(len(losses), 4, sharex=True, sharey="col", squeeze=False)
    for row, (loss, data) in zip(panels, losses.items(), strict=True):
        nc1, missing, nc2, nc3 = row
        _layers(nc1, missing, data)
        _last_layer(nc2, nc3, data.isel(layer=-1))
        nc1.set_ylabel(loss, fontsize=9)
        terminal = data["epoch"][(data["train_accuracy"] >= TERMINAL).all("seed")]
        for axes in row:
            tidy(axes)
            if terminal.size:
                axes.axvspan(terminal[0], data["epoch"][-1], color="0.93", lw=0, zorder=-1)
    _frame(panels, result.data["epoch"])
    rate = f"{config.learning_rate:g}{' → 0' if config.decay else ''}"
    entitle(
        figure,
        f"{config.dataset}, {config.depth}×{config.width} {ACTIVATION[config.activation]}, SGD "
        f"{rate}, weight decay {config.weight_decay:g}, {over_seeds(config.seeds)}; grey: terminal "
        "phase",
    )
    return figure


def _layers(nc1: Axes, missing: Axes, data: xr.Dataset) -> None:
    """NC1, and 1 − TL with the right side of the link, of each hidden layer."""
    for i, layer in enumerate(data["layer"].values):
        of, colour = data.sel(layer=layer), LAYERS[i % len(LAYERS)]
        band(nc1, of["nc1"], colour, log=True, label=f"layer {layer}")
        band(missing, 1 - of["target_linearity"], colour, log=True)
        link = spread(xr.ufuncs.log(1 - of["link"]))[0]
        missing.plot(data["epoch"], np.exp(link), ":", color="k", lw=1)
    missing.plot([], [], ":", color="k", lw=1, label="1 − tr(Σ$_T^{-1}$Σ$_B$)/(C−1)")


def _last_layer(nc2: Axes, nc3: Axes, data: xr.Dataset) -> None:
    """NC2; NC3 and NC4."""
    for axes, name, colour, label in (
        (nc2, "etf_distance", BLUE, "distance to the ETF"),
        (nc2, "equinorm", VERMILION, "spread of norms"),
        (nc2, "equiangularity", GREEN, "angles"),
        (nc3, "nc3", BLUE, "NC3"),
        (nc3, "offset", VERMILION, "classifier's offset"),
    ):
        band(axes, data[name], colour, log=True, label=label)
    for split, colour in (("train", GREEN), ("test", PURPLE)):
        share = data[f"{split}_nc4"].mean("seed", skipna=False).clip(LEAST)
        nc3.plot(data["epoch"], share, color=colour, lw=1.3, label=f"NC4, {split}")


def _frame(panels: np.ndarray, epochs: xr.DataArray) -> None:
    """Titles, legends with room for them, and scales."""
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator

    titles = (
        "NC1: tr(Σ$_W$Σ$_B^+$)/C",
        "1 − target linearity",
        "NC2, last hidden layer",
        "NC3 and NC4, last hidden layer",
    )
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, fontsize=8)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, epochs[-1])
    panels[0, 3].set_ylim(bottom=LEAST)
    panels[0, 3].yaxis.set_major_locator(LogLocator())
    powers = LogFormatterSciNotation()
    powers.set_axis(panels[0, 3].yaxis)
    panels[0, 3].yaxis.set_major_formatter(lambda x, _: "0" if x <= LEAST else powers(x))
    for axes in panels[-1]:
        axes.set_xlabel("epoch (logarithmic from 1)", fontsize=8)
        axes.legend(frameon=False, fontsize=6)
