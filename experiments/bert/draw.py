"""Draw figure 11: a panel a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..shared.drawing import SHARE, band, legend_below, letters, sheet, tidy
from ..shared.text import over_seeds
from . import TASKS, stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result


def plot(result: Result) -> Figure:
    """Target linearity of each layer's state at each stage; held out dashed, the floor dotted."""
    config = result.config
    rows = -(-len(config.tasks) // 2)
    columns = min(len(config.tasks), 2)
    figure = sheet(2.0 * rows + 0.5)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, task in zip(panels.flat, config.tasks, strict=False):
        _panel(axes, result, task)
    for axes in list(panels.flat)[len(config.tasks) :]:
        axes.remove()
    for axes in panels[:, 0]:
        axes.set_ylabel("target linearity")
    letters(panels.flat[: len(config.tasks)])
    legend_below(figure, panels[0, :1], lines={"held out": "--", "noise floor": ":"}, columns=4)
    return figure


def captions(result: Result) -> dict[str, str]:
    """What the figure shows."""
    config = result.config
    source = f"a BERT of {config.layers} layers of {config.width}, made here"
    if config.checkpoint:
        source = f"the encoder {config.checkpoint}"
    text = (
        "Target linearity of each layer's states (0: embeddings) in "
        f"{source}: with random weights, after pre-training, and after each epoch of fine-tuning "
        f"with AdamW at {config.learning_rate:g}, on {config.measured} training samples; dashed: "
        "held out, dotted: what noise would have, whose values are means. "
        f"{over_seeds(config.seeds).capitalize()}."
    )
    return {"figure": text}


def _panel(axes: Axes, result: Result, task: str) -> None:
    import matplotlib

    data = result.data.sel(task=task)
    shades: Any = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, data.sizes["epoch"]))
    for epoch, shade in zip(data["epoch"].values, shades, strict=True):
        of = data.sel(epoch=epoch)
        label = stage(result.config, int(epoch))
        band(axes, of["target_linearity"], shade, label=label, within=SHARE, marker="o", ms=2.5)
        axes.plot(of["layer"], of["heldout"].mean("seed"), color=shade, ls="--", lw=0.9)
    floor = data["noise_floor"].mean(["seed", "epoch"])
    axes.plot(data["layer"], floor, color="0.4", ls=":", lw=1)
    axes.set(ylim=(-0.05, 1.02), xlabel="layer")
    axes.set_xticks(data["layer"].values)
    tidy(axes, title=TASKS[task])
