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
    legend_below,
    lettered,
    points,
    sheet,
    tidy,
)
from ..shared.text import NETWORKS, named, over_seeds
from . import ARMS
from .claims import unstable_rates

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
MARKERS = {"original": "o", "gram_only": "s", "gram_preserving": "^", BEFORE: "D"}
NAMES = "test error", "train loss", "target linearity"


def plot(result: Result) -> Figure:
    """Test error and train loss by epoch, target linearity by layer, for each learning rate."""
    config = result.config
    rates, unstable = len(config.learning_rates), unstable_rates(result)
    across = rates > 2  # a column a rate; few rates make rows
    figure = sheet(4.6 if across else 1.6 * rates + 0.4)
    if across:
        panels = figure.subplots(3, rates, sharex="row", sharey="row", squeeze=False).T
    else:
        panels = figure.subplots(rates, 3, sharex="col", sharey="col", squeeze=False)
    for rate, of_rate in zip(config.learning_rates, panels, strict=True):
        _panels(of_rate, result.data.sel(learning_rate=rate), config.arms)
        of_rate[0].set_title(f"rate {rate:g}{', unstable' if rate in unstable else ''}")
    for row in panels[:1] if across else panels:
        for axes, name in zip(row, lettered(NAMES), strict=True):
            axes.set_ylabel(name)
    for axes in () if across else panels[:-1].flat:  # the numbers stand below the last row
        axes.set_xlabel("")
    legend_below(figure, panels[0][[0, 2]])
    return figure


def captions(result: Result) -> dict[str, str]:
    """What the figure shows."""
    config = result.config
    unstable = [f"{rate:g}" for rate in unstable_rates(result)]
    text = (
        f"Steps that keep only what they do to the Gram, against SGD: (a) test error and (b) "
        f"train loss by epoch, (c) target linearity of each hidden layer after training, on "
        f"{named(config.dataset)}, at each learning rate. A {NETWORKS[config.network]} network, "
        f"{config.depth} × {config.width}, momentum {config.momentum:g}; "
        f"{over_seeds(config.seeds)}, of logarithms where the scale is logarithmic. A test error "
        f"below {LEAST:g} is drawn there."
    )
    if unstable:
        text += f" At a learning rate of {' and '.join(unstable)} training is unstable."
    return {"figure": text}


def _panels(panels: Iterable[Axes], data: xr.Dataset, arms: tuple[str, ...]) -> None:
    """Of one learning rate."""
    error, loss, linearity = panels
    accuracy = data["test_accuracy"]
    for arm in arms:
        _curve(error, (1 - accuracy.sel(arm=arm)).clip(LEAST), arm, within=SHARE)
        _curve(loss, data["train_loss"].sel(arm=arm), arm)
        look: dict[str, Any] = {"color": COLOURS[arm], "ls": STYLES[arm], "marker": MARKERS[arm]}
        error.plot([], [], label=ARMS[arm], **look)  # of both kinds of panels
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
            within=SHARE,
            shift=0.13 * (k - len(arms) / 2),
            fmt=MARKERS[name],
            label=None if name in arms else name,
            lw=1,
        )
    layers = data["layer"]
    axes.set_xticks(layers)
    axes.set_xlim(0.5, len(layers) + 0.5)


def _curve(axes: Axes, runs: xr.DataArray, arm: str, **options: Any) -> None:
    band(axes, runs, COLOURS[arm], log=True, ls=STYLES[arm], **options)
    axes.set_xlim(*runs["epoch"].values[[0, -1]])
