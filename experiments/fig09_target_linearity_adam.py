"""Figure 9: figure 4 with Adam in the place of SGD.

The paper does not give Adam's learning rate; 1e-4 is used here at its sizes, Optax's defaults
otherwise. All else, and the claims, are those of ``fig04_target_linearity``.
"""

from __future__ import annotations

import dataclasses

from experiments import fig04_target_linearity as fig04
from experiments.fig04_target_linearity import check, plot, run, table

__all__ = ["PRESETS", "check", "plot", "run", "table"]

PRESETS = {
    preset: dataclasses.replace(config, optimizer="adam", learning_rate=1e-4)
    for preset, config in fig04.PRESETS.items()
}
