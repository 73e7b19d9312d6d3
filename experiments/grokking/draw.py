"""Draw figure 13: accuracies, target linearity and its gap; a column for each weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..shared.drawing import (
    BLUE,
    LAYERS,
    SHARE,
    VERMILION,
    band,
    entitle,
    legend_below,
    say_cut,
    tidy,
)
from ..shared.text import over_seeds
from .claims import linearity_gap

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result


def plot(result: Result) -> Figure:
    """Rows: accuracies; target linearity of each layer; its gap with the test error."""
    from matplotlib.figure import Figure

    config, data = result.config, result.data.assign(gap=linearity_gap(result))
    columns = len(config.weight_decays)
    figure = Figure(figsize=(1.6 * max(columns, 2) + 0.9, 5.4), layout="constrained")
    panels = figure.subplots(3, columns, sharex=True, sharey="row", squeeze=False)
    highest = float(data["target_linearity"].mean("seed", skipna=False).max())
    panels[0, 0].set_ylim(-0.02, 1.05)
    panels[1, 0].set_ylim(-0.3, min(1.05, highest + 0.15))  # below, fits are worse than the mean
    errors = [
        _column(column, data.sel(weight_decay=decay))
        for column, decay in zip(panels.T, config.weight_decays, strict=True)
    ]
    for axes in errors[:-1]:
        axes.set_yticklabels([])
    errors[-1].set_ylabel("test error", fontsize=8, color=VERMILION)
    names = "accuracy", "target linearity", f"gap, layer {config.depth} − {config.depth - 1}"
    for axes, name in zip(panels[:, 0], names, strict=True):
        axes.set_ylabel(name, fontsize=8)
    panels[2, 0].yaxis.label.set_color(BLUE)
    lines = {"train target linearity": "-", "its held-out median": ":"}
    legend_below(figure, (*panels[:2, 0], errors[0]), lines=lines)
    entitle(
        figure,
        f"{config.operation} mod {config.p}, {config.depth}×{config.width} ReLU, AdamW, "
        + over_seeds(config.seeds),
    )
    return figure


def _column(panels: tuple[Axes, Axes, Axes], data: xr.Dataset) -> Axes:
    """Draw one weight decay; return the axes of the test error."""
    accuracy, linearity, gap = panels
    for split, colour, style in (("train", "0.35", "--"), ("test", VERMILION, "-")):
        runs = data[f"{split}_accuracy"]
        band(accuracy, runs, colour, within=SHARE, ls=style, label=f"{split} accuracy")
    for i, layer in enumerate(data["layer"].values):
        of, colour = data.sel(layer=layer), LAYERS[i % len(LAYERS)]
        band(linearity, of["target_linearity"], colour, within=SHARE, label=f"layer {layer}")
        held_out = of["heldout"].median("seed", skipna=False)  # a mean follows single outliers
        linearity.plot(data["epoch"], held_out, ":", color=colour, lw=1.3)
    say_cut(linearity, data["heldout"].median("seed", skipna=False))
    band(gap, data["gap"], BLUE)
    error = gap.twinx()
    error_style: dict[str, Any] = {"ls": "-.", "label": "test error"}
    band(error, 1 - data["test_accuracy"], VERMILION, within=SHARE, **error_style)
    error.set_ylim(-0.02, 1.05)
    error.tick_params(labelsize=7)
    for axes in panels:
        tidy(axes)
        axes.set_xlim(*data["epoch"].values[[0, -1]])
    tidy(accuracy, title=f"weight decay {data['weight_decay']:g}")
    gap.set_xlabel("epoch", fontsize=8)
    return error
