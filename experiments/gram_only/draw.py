"""Draw figures 2 and 6: test error and loss by epoch, target linearity by layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..shared.drawing import (
    BLUE,
    GREEN,
    SHARE,
    VERMILION,
    band,
    entitle,
    legend_below,
    points,
    tidy,
)
from ..shared.statistics import paired
from . import ARMS

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

BEFORE = "before training"
LEAST = 1e-3  # test error that is drawn for less, which a logarithmic scale does not have
COLOURS = {
    "original": BLUE,
    "gram_only": VERMILION,
    "gram_preserving": GREEN,
    BEFORE: "0.45",
}
STYLES = {"original": "-", "gram_only": "--", "gram_preserving": ":"}
MARKERS = {"original": "o", "gram_only": "s", "gram_preserving": "^", BEFORE: "_"}


def plot(result: Result) -> Figure:
    """Test error and train loss by epoch, target linearity by layer, for each learning rate."""
    from matplotlib.figure import Figure

    config = result.config
    rates = len(config.learning_rates)
    across = rates > 2  # a column a rate; few rates make rows
    size = (1.75 * rates + 0.6, 5.2) if across else (7.4, 2.1 * rates + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    if across:
        panels = figure.subplots(3, rates, sharex="row", sharey="row", squeeze=False).T
    else:
        panels = figure.subplots(rates, 3, sharex="col", sharey="col", squeeze=False)
    for rate, of_rate in zip(config.learning_rates, panels, strict=True):
        _panels(of_rate, result.data.sel(learning_rate=rate), config.arms)
    names = "test error", "train loss", "target linearity"
    for row in panels[:1] if across else panels:
        for axes, name in zip(row, names, strict=True):
            axes.set_ylabel(name, fontsize=9)
    legend_below(figure, panels[0][[0, 2]])
    entitle(
        figure,
        f"{config.dataset}, {config.network.upper()} {config.depth}×{config.width}, momentum "
        f"{config.momentum:g}, mean ± 2 deviations of {config.seeds} seeds\n"
        "numbers: Gram-only less SGD in final test accuracy [95 %]",
    )
    return figure


def _panels(panels: Iterable[Axes], data: xr.Dataset, arms: tuple[str, ...]) -> None:
    """Of one learning rate."""
    error, loss, linearity = panels
    accuracy = data["test_accuracy"]
    final = accuracy.isel(epoch=-1)
    difference = paired(final.sel(arm="gram_only"), final.sel(arm="original")).interval
    error.set_title(f"learning rate {data['learning_rate']:g}\n{difference}", fontsize=8)
    for arm in arms:
        _curve(error, (1 - accuracy.sel(arm=arm)).clip(LEAST), arm, within=SHARE)
        _curve(loss, data["train_loss"].sel(arm=arm), arm)
        look: dict[str, Any] = {
            "color": COLOURS[arm],
            "ls": STYLES[arm],
            "marker": MARKERS[arm],
            "ms": 4,
        }
        error.plot([], [], label=ARMS[arm], lw=1.4, **look)  # of both kinds of panels
    _ends(linearity, data, arms)
    for axes, label in ((error, "epoch"), (loss, "epoch"), (linearity, "hidden layer")):
        axes.set_xlabel(label)
        tidy(axes)


def _ends(axes: Axes, data: xr.Dataset, arms: tuple[str, ...]) -> None:
    """Target linearity of each hidden layer before and after training at one learning rate."""
    ends = {BEFORE: data["start_target_linearity"]}
    ends |= {arm: data["target_linearity"].sel(arm=arm) for arm in arms}
    for k, (name, runs) in enumerate(ends.items()):
        points(
            axes,
            runs,
            COLOURS[name],
            deviations=2,
            within=SHARE,
            shift=0.13 * (k - len(arms) / 2),
            fmt=MARKERS[name],
            label=None if name in arms else name,
            ms=4,
            lw=1,
        )
    layers = data["layer"]
    axes.set_xticks(layers)
    axes.set_xlim(0.5, len(layers) + 0.5)


def _curve(axes: Axes, runs: xr.DataArray, arm: str, **options: Any) -> None:
    band(
        axes,
        runs,
        COLOURS[arm],
        log=True,
        deviations=2,
        ls=STYLES[arm],
        lw=1.4,
        **options,
    )
    axes.set_xlim(*runs["epoch"].values[[0, -1]])
