"""Figures of a metric: over the layers, and over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gramlin_jax.support.extras import import_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bars(values: Mapping[str, float], floor: Mapping[str, float], label: str) -> Figure:
    """A bar for each layer, the first on top, with its noise floor as a dotted line across.

    Args:
        values: By layer.
        floor: By layer; empty where the metric has none.
        label: Of the axis.
    """
    figure = _figure(figsize=(6, 1 + 0.35 * len(values)), layout="constrained")
    axes, places = figure.subplots(), np.arange(len(values))
    axes.barh(places, list(values.values()), color=_shades(len(values)))
    for place, layer in enumerate(values):
        if layer in floor:
            ends = (place - 0.4, place + 0.4)
            name = None if axes.get_legend_handles_labels()[1] else "noise floor"
            axes.plot([floor[layer]] * 2, ends, color="0.2", ls=":", label=name)
    axes.set(xlabel=label.replace("_", " "))
    axes.set_yticks(places, list(values))
    axes.invert_yaxis()
    if floor:
        axes.legend(frameon=False)
    return figure


def curves(
    steps: Sequence[int],
    values: Mapping[str, np.ndarray],
    floor: Sequence[float] | np.ndarray,
    label: str,
) -> Figure:
    """A line for each layer, darker for the first, and their mean noise floor dotted.

    Args:
        steps: Where on the axis.
        values: By layer, (steps,); NaN where there is none.
        floor: (steps,); empty where the metric has none.
        label: Of the axis.
    """
    figure = _figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for (layer, line), shade in zip(values.items(), _shades(len(values)), strict=True):
        name = f" {layer}" if layer.startswith("_") else layer  # or matplotlib leaves it out
        axes.plot(steps, line, color=shade, label=name, marker="." if len(steps) < 30 else None)
    if len(floor):
        axes.plot(steps, floor, color="0.2", ls=":", label="noise floor")
    axes.set(xlabel="step", ylabel=label.replace("_", " "))
    axes.grid(alpha=0.25, lw=0.5)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _figure(**keywords: Any) -> Figure:
    made: Figure = import_extra("matplotlib.figure", "figures").Figure(**keywords)
    return made


def _shades(count: int) -> np.ndarray:
    import matplotlib

    return matplotlib.colormaps["viridis"](np.linspace(0, 0.85, count))
