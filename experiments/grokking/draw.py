"""Draw figure 13: accuracies, target linearity and its gap; a column for each weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..shared.drawing import (
    BLUE,
    SHARE,
    VERMILION,
    band,
    layer_style,
    legend_below,
    lettered,
    say_cut,
    sheet,
    tidy,
)
from ..shared.text import over_seeds
from .claims import linearity_gap

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

ERROR: dict[str, Any] = {"ls": (0, (6, 1.5, 1, 1.5, 1, 1.5)), "color": VERMILION}
ROWS = ("accuracy", "TL, train", "TL, held out", "gap in TL")
LOWEST = -0.3  # held-out values below are cut: fits are worse than the mean of the targets


def plot(result: Result) -> Figure:
    """Rows: accuracies; target linearity on training samples and held out; its gap."""
    config, data = result.config, result.data.assign(gap=linearity_gap(result))
    figure = sheet(5.2)
    columns = len(config.weight_decays)
    panels = figure.subplots(4, columns, sharex=True, sharey="row", squeeze=False)
    highest = float(data["target_linearity"].mean("seed", skipna=False).max())
    panels[0, 0].set_ylim(-0.02, 1.05)
    panels[1, 0].set_ylim(0, min(1.05, highest + 0.15))
    panels[2, 0].set_ylim(LOWEST, min(1.05, highest + 0.15))
    errors = [
        _column(column, data.sel(weight_decay=decay))
        for column, decay in zip(panels.T, config.weight_decays, strict=True)
    ]
    for axes in errors[:-1]:
        axes.set_yticklabels([])
    errors[-1].set_ylabel("test error", color=VERMILION)
    for axes, name in zip(panels[:, 0], lettered(ROWS), strict=True):
        axes.set_ylabel(name)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    legend_below(figure, (*panels[[0, 1, 3], 0], errors[0]), columns=4)
    return figure


def captions(result: Result) -> dict[str, str]:
    """What the figure shows."""
    config = result.config
    text = (
        f"Grokking {config.operation} mod {config.p} with AdamW, a column for each weight decay: "
        "(a) accuracy; (b) target linearity (TL) of each hidden layer on training samples; (c) the "
        "same held out, medians over seeds; ▼ marks where the axis cuts off a curve; (d) the gap "
        f"in TL on training samples of layer {config.depth} over layer {config.depth - 1} (left "
        f"axis), and the test error (right axis). {config.depth} layers of {config.width}, ReLU; "
        f"{over_seeds(config.seeds)}."
    )
    return {"figure": text}


def _column(panels: Iterable[Axes], data: xr.Dataset) -> Axes:
    """Draw one weight decay; return the axes of the test error."""
    accuracy, linearity, heldout, gap = panels
    for split, colour, style in (("train", "0.35", "--"), ("test", VERMILION, "-")):
        runs = data[f"{split}_accuracy"]
        band(accuracy, runs, colour, within=SHARE, ls=style, label=f"{split} accuracy")
    medians = data["heldout"].median("seed", skipna=False)  # a mean follows single outliers
    for place, layer in enumerate(data["layer"].values):
        of, look = data["target_linearity"].sel(layer=layer), layer_style(place)
        band(linearity, of, within=SHARE, label=f"layer {layer}", **look)
        heldout.plot(data["epoch"], medians.sel(layer=layer), **look)
    say_cut(heldout, medians)
    band(gap, data["gap"], BLUE, label="gap in TL")
    error = gap.twinx()
    error.grid(False)
    band(error, 1 - data["test_accuracy"], within=SHARE, label="test error (d)", **ERROR)
    error.set_ylim(-0.02, 1.05)
    for axes in (accuracy, linearity, heldout, gap):
        tidy(axes)
        axes.set_xlim(*data["epoch"].values[[0, -1]])
        axes.locator_params(axis="x", nbins=3)
    accuracy.set_title(f"decay {data['weight_decay']:g}")
    return error
