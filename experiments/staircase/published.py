"""Published final losses of the staircase network, by width."""

from __future__ import annotations

from typing import Any

PUBLISHED = {32: 1.7425, 128: 1.8251, 512: 1.8943, 1024: 1.9428}
"""As the paper prints them: one run each."""

RERUN = {32: 1.1747, 128: 1.2648, 512: 1.3453}
"""One clean run of the paper's code."""


def published_setting(config: Any) -> bool:
    """Whether a run has the paper's sizes, and more than one seed to compare with."""
    sizes = config.points, config.dimension, config.learning_rate, config.steps
    return (
        sizes == (1000, 10, 0.01, 2000) and config.seeds > 1 and set(config.widths) <= {*PUBLISHED}
    )
