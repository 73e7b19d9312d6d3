"""Draw neural collapse: NC1 to NC4 and target linearity, by epoch and loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..shared.drawing import (
    BLUE,
    GREEN,
    PURPLE,
    VERMILION,
    band,
    layer_style,
    legend_below,
    letters,
    sheet,
    tidy,
)
from ..shared.statistics import spread
from ..shared.text import ACTIVATIONS, NETWORKS, named, over_seeds
from . import TERMINAL
from .claims import by_loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

TITLES = ("NC1", "1 − TL", "NC2", "NC3, NC4")


def plot(result: Result) -> Figure:
    """A row for each loss: NC1 and 1 − TL with the link, by layer; NC2, NC3 and NC4 of the last."""
    losses = by_loss(result)
    figure = sheet(0.9 + 1.45 * len(losses))
    panels = figure.subplots(len(losses), 4, sharex=True, sharey="col", squeeze=False)
    for row, (loss, data) in zip(panels, losses.items(), strict=True):
        shown = data.sel(epoch=data["epoch"] > 0)  # a logarithmic axis has no 0
        nc1, missing, nc2, nc3 = row
        _layers(nc1, missing, shown)
        _last_layer(nc2, nc3, shown.isel(layer=-1))
        nc1.set_ylabel(loss)
        terminal = shown["epoch"][(shown["train_accuracy"] >= TERMINAL).all("seed")]
        for axes in row:
            axes.set_xscale("log")
            axes.set_xlim(*shown["epoch"].values[[0, -1]])
            tidy(axes)
            if terminal.size:
                axes.axvspan(terminal[0], shown["epoch"][-1], color="0.93", lw=0, zorder=-1)
    for axes, title in zip(panels[0], TITLES, strict=True):
        axes.set_title(title)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    for axes in panels[:, 3]:
        _mark_zeros(axes)
    letters(panels[0])
    legend_below(figure, panels[0], columns=4)
    return figure


def captions(result: Result) -> dict[str, str]:
    """What the figure shows."""
    config = result.config
    rate = f"{config.learning_rate:g}{', decaying to 0' if config.decay else ''}"
    text = (
        f"Neural collapse beside target linearity (TL) on {named(config.dataset)}, a row for each "
        "loss, from the first epoch on; in the grey terminal phase the training accuracy is "
        f"{TERMINAL} or more. (a) NC1 = tr(Σ_W Σ_B⁺)/C of each hidden layer; (b) 1 − TL, dotted "
        "black: 1 − tr(Σ_T⁻¹ Σ_B)/(C − 1), which the link says it is; (c) NC2 and (d) NC3 and "
        "NC4 of the last hidden layer; NC4 is the share of samples whose class is not the nearest "
        "class mean's, and ▼ marks where that is 0, which a logarithmic axis does not have. "
        f"A {NETWORKS[config.network]} network, {config.depth} × {config.width}, "
        f"{ACTIVATIONS.get(config.activation, config.activation)}, SGD at {rate}, weight decay "
        f"{config.weight_decay:g}; {over_seeds(config.seeds)}, of logarithms."
    )
    return {"figure": text}


def _layers(nc1: Axes, missing: Axes, data: xr.Dataset) -> None:
    """NC1, and 1 − TL with the right side of the link, of each hidden layer."""
    for place, layer in enumerate(data["layer"].values):
        of, look = data.sel(layer=layer), layer_style(place)
        band(nc1, of["nc1"], log=True, label=f"layer {layer}", **look)
        band(missing, 1 - of["target_linearity"], log=True, **look)
        link = spread(xr.ufuncs.log(1 - of["link"]))[0]
        missing.plot(data["epoch"], np.exp(link), ":", color="k", lw=0.8)
    missing.plot([], [], ":", color="k", lw=0.8, label="the link")


def _last_layer(nc2: Axes, nc3: Axes, data: xr.Dataset) -> None:
    """NC2; NC3 and NC4."""
    for axes, name, colour, style, label in (
        (nc2, "etf_distance", BLUE, "-", "NC2: distance to ETF"),
        (nc2, "equinorm", VERMILION, "--", "NC2: spread of norms"),
        (nc2, "equiangularity", GREEN, "-.", "NC2: spread of angles"),
        (nc3, "nc3", BLUE, ":", "NC3"),
        (nc3, "offset", VERMILION, ":", "classifier's offset"),
    ):
        band(axes, data[name], colour, log=True, ls=style, label=label)
    for split, colour, style in (("train", GREEN, "-"), ("test", PURPLE, "--")):
        share = data[f"{split}_nc4"].mean("seed", skipna=False)
        drawn = share.where(share > 0)
        nc3.plot(data["epoch"], drawn, color=colour, ls=style, label=f"NC4, {split}")


def _mark_zeros(axes: Axes) -> None:
    """A mark on the lower edge where a curve has gaps, since what is 0 has no logarithm."""
    for line in axes.get_lines():
        x, y = (np.asarray(values, float) for values in line.get_data())
        gone = x[np.isnan(y)]
        if gone.size and not np.isnan(y).all():
            axes.plot(
                gone,
                np.full(gone.size, 0.03),
                "v",
                ms=2.5,
                color=line.get_color(),
                transform=axes.get_xaxis_transform(),
            )
