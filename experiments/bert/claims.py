"""Check the claims of figure 11 against the results, and print its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..shared.claims import Claim, decided
from ..shared.lost import at_chance, without
from ..shared.text import plus_minus
from . import stage

if TYPE_CHECKING:
    from ..shared.results import Result

PAPER = {
    "sst2": (0.24, 0.58, 0.91, 0.97),
    "mnli": (0.16, 0.27, 0.77, 0.88),
    "conll2003_pos": (0.41, 0.59, 0.90, 0.91),
    "conll2003_ner": (0.13, 0.58, 0.89, 0.92),
}
"""The last layer's target linearity at random and pre-trained weights and after epochs 1 and 3, as
read off the figure to ±0.02."""
READING = 0.05  # how near a number has to be to one that is read off


SAYS = {
    "pre-training raises the last layer's": "it rises",
    "fine-tuning raises the last layer's": "it rises",
    "after fine-tuning target linearity rises": "deeper is higher",
}
"""What the paper says, by the beginnings of the claims."""


def check(result: Result) -> list[Claim]:
    """Check the paper's claims of this figure. A claim holds if it does in every task and seed.

    Runs that diverged, or whose train accuracy after training is at chance, decide nothing.

    1. Pre-training raises the last layer's target linearity over that of random weights.
    2. Fine-tuning raises it further, after the first epoch and to the last.
    3. After fine-tuning it rises with depth: it is higher in the last state than in the middle one,
       and there than in the embeddings.
    4. The same of samples that were not fitted: pre-training, then fine-tuning raises the held-out
       target linearity of the last layer.
    5. Where the sizes are BERT-base's: the last layer's numbers are the paper's to ±0.05.
    """
    data = without(result, at_chance(result)).data
    linearity, heldout = data["target_linearity"], data["heldout"]
    last, unseen = linearity.isel(layer=-1), heldout.isel(layer=-1)
    middle = linearity.sizes["layer"] // 2
    depth = linearity.isel(epoch=-1, layer=[0, middle, -1])
    claims = [
        _claim("pre-training raises the last layer's target linearity", _steps(last, [0, 1]), last),
        _claim(
            "fine-tuning raises the last layer's target linearity, at first and later",
            _steps(last, [1, 2, *[-1] * (result.config.epochs > 1)]),
            last,
        ),
        _claim(
            "after fine-tuning target linearity rises with depth",
            depth.drop_vars("layer").diff("layer"),
            linearity.isel(epoch=-1),
            "layer",
        ),
        _claim(
            "pre-training and fine-tuning raise the last layer's held-out target linearity",
            _steps(unseen, [0, 1, -1]),
            unseen,
        ),
    ]
    return [*claims, *_paper_claims(result, last)]


def _steps(values: xr.DataArray, stages: list[int]) -> xr.DataArray:
    """What is gained from one stage to the next: random, pre-trained, then the epochs."""
    return values.isel(epoch=stages).drop_vars("epoch").diff("epoch")


def _claim(
    statement: str, margins: xr.DataArray, values: xr.DataArray, along: str = "epoch"
) -> Claim:
    evidence = "; ".join(
        f"{task.item()} by {along} "
        + ", ".join(plus_minus(one) for one in values.sel(task=task).transpose(along, "seed"))
        for task in values["task"]
    )
    return Claim(statement, decided(margins), evidence)


def _paper_claims(result: Result, last: xr.DataArray) -> list[Claim]:
    config = result.config
    same = (config.layers, config.width, config.epochs) == (12, 768, 3) and config.checkpoint
    tasks = [task for task in config.tasks if task in PAPER]
    if not same or not tasks:
        return []
    here = last.sel(task=tasks).isel(epoch=[0, 1, 2, 4]).mean("seed", skipna=False)
    published = np.array([PAPER[task] for task in tasks])
    off = np.abs(here.transpose("task", "epoch").values - published)
    evidence = f"largest difference {off.max():.3f}"
    paper = "; ".join(f"{task}: {', '.join(map(str, PAPER[task]))}" for task in tasks)
    return [
        Claim("the last layer's numbers are the paper's", decided(READING - off), evidence, paper)
    ]


def table(result: Result) -> str:
    """Target linearity by task and stage, and the last layer held out, its floor, accuracy."""
    data, config = result.data, result.config
    middle = config.layers // 2
    head = (
        f"{'task':>14}{'weights':>21}{'TL embeddings':>16}{f'layer {middle}':>16}"
        f"{f'layer {config.layers}':>16}{'held out':>16}{'floor':>8}{'accuracy':>16}"
    )
    lines = [head]
    for task in data["task"].values:
        for epoch in data["epoch"].values:
            of = data.sel(task=task, epoch=epoch)
            layers = [of["target_linearity"].isel(layer=i) for i in (0, middle, -1)]
            cells = [*layers, of["heldout"].isel(layer=-1)]
            floor = float(of["noise_floor"].isel(layer=-1).mean())
            lines.append(
                f"{task:>14}{stage(config, int(epoch)):>21}"
                + "".join(f"{plus_minus(cell):>16}" for cell in cells)
                + f"{floor:>8.3f}{plus_minus(of['test_accuracy']):>16}"
            )
    return "\n".join(lines)
