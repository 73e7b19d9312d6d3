"""``gramlin list``: the experiments, and how long they take."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..registry import EXPERIMENTS, PRESETS
from .options import read


@dataclasses.dataclass
class _Nothing:
    pass


def main(arguments: Sequence[str], prog: str) -> None:
    """Print a line for each experiment."""
    if arguments:
        purpose = "List the experiments and the processor time of their default presets."
        read(_Nothing, arguments, prog, purpose)
    for experiment in EXPERIMENTS:
        print(f"{experiment.name:28}{experiment.duration('default'):13}{experiment.title}")
    meanings = ", ".join(f"{name} ({meaning})" for name, meaning in PRESETS.items())
    print(f"presets of each: {meanings}; times are processor times of the preset default")
