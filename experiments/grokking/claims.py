"""Check the claims of figure 13 against the results, and print its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..shared.claims import Claim, decided
from ..shared.lost import at_chance, without
from ..shared.statistics import epoch_rank_correlation, first_epoch, rank_correlation
from ..shared.tables import Table
from ..shared.text import linearity_cells, linearity_heads, listed
from . import RUNS

if TYPE_CHECKING:
    from ..shared.results import Result

LEARNT = 0.5  # the accuracy that counts as having learnt; chance is 1/p

MEMORISED = 0.99  # the train accuracy from which on the second phase is counted


SAYS = {
    "runs with weight decay generalise": "weight decay leads to grokking",
    "runs that generalise memorise first": "memorised first",
    "a smaller gap": "the gap closes as it generalises",
    "the gap in target linearity between the last two layers goes with the test": "together",
}
"""What the paper says, by the beginnings of the claims."""


def check(result: Result) -> list[Claim]:
    """Check the paper's claims of this figure, and whether held-out target linearity does better.

    A run generalises if its final test accuracy is one half or more. The gap is the target
    linearity of the last hidden layer less that of the layer before it. Runs that diverged, or
    whose train accuracy is at chance (``shared.lost``), decide nothing.

    1. Runs with weight decay end at a higher test accuracy than the run of their seed without.
    2. Runs that generalise memorise first: train accuracy passes one half before test accuracy.
    3. The last layer's target linearity separates runs: after training it is higher in all that
       generalise than in all others.
    4. The last layer's held-out target linearity separates them in the same way.
    5. The gap separates them too: it is smaller in all that generalise.
    6. In every run the gap goes with the test error: Spearman's correlation over epochs is
       positive. The correlation from train accuracy 0.99 on is given beside it.
    7. In every run the gap goes with the generalisation gap, train less test accuracy.
    """
    result = without(result, at_chance(result))
    gap = linearity_gap(result)
    train, test = (result.data[f"{split}_accuracy"] for split in ("train", "test"))
    accuracy, last = test.isel(epoch=-1), result.data.isel(epoch=-1, layer=-1)
    of_gap = "gap in target linearity between the last two layers"
    separates = "separates runs that generalise"
    return [
        *([_decay_claim(accuracy)] if 0 in result.config.weight_decays else []),
        _memorised_first(train, test),
        _separates(
            f"the last layer's target linearity {separates}", last["target_linearity"], accuracy
        ),
        _separates(
            f"the last layer's held-out target linearity {separates}", last["heldout"], accuracy
        ),
        _separates(f"a smaller {of_gap} {separates}", gap.isel(epoch=-1), accuracy, sign=-1),
        _over_epochs(f"the {of_gap} goes with the test error", gap, 1 - test, train),
        _over_epochs(f"the {of_gap} goes with the generalisation gap", gap, train - test, train),
    ]


def linearity_gap(result: Result) -> xr.DataArray:
    """Target linearity of the last hidden layer less that of the layer before it."""
    linearity = result.data["target_linearity"]
    return linearity.isel(layer=-1) - linearity.isel(layer=-2)


def _decay_claim(accuracy: xr.DataArray) -> Claim:
    better = accuracy.drop_sel(weight_decay=0) - accuracy.sel(weight_decay=0)
    return Claim(
        "runs with weight decay generalise better than without",
        decided(better),
        f"{(better > 0).sum():d} of {better.size} runs; test accuracy by weight decay "
        + listed(accuracy, "weight_decay", ".3f", ".3f", "{:g}: "),
    )


def _memorised_first(train: xr.DataArray, test: xr.DataArray) -> Claim:
    memorised, learnt = first_epoch(train >= LEARNT), first_epoch(test >= LEARNT)
    generalised = test.isel(epoch=-1) >= LEARNT
    first = generalised & (memorised < learnt)
    delays = (learnt - memorised).where(generalised)
    count = int(generalised.sum())
    evidence = f"{first.sum():d} of the {count} runs, out of {learnt.size}, that generalise"
    if delays.notnull().any():
        evidence += f"; test accuracy follows {delays.min():g} to {delays.max():g} epochs later"
    holds = bool((first == generalised).all()) if count else None
    return Claim("runs that generalise memorise first", holds, evidence)


def _separates(
    statement: str, values: xr.DataArray, accuracy: xr.DataArray, sign: int = 1
) -> Claim:
    """Are the values of all runs that generalise above, or (−1) below, those of all others?"""
    values, accuracy = values.stack(run=RUNS), accuracy.stack(run=RUNS)
    more, others = values[accuracy >= LEARNT], values[accuracy < LEARNT]
    if not (more.size and others.size):
        return Claim(statement, None, f"{more.size} of {values.size} runs do: none to compare")
    nearest = sign * (sign * more).min(skipna=False)
    other = sign * (sign * others).max(skipna=False)
    correlation = float(rank_correlation(values.values, accuracy.values))
    evidence = (
        f"nearest {nearest:.3f} among the {more.size} that do, {other:.3f} among the others; rank "
        f"correlation with test accuracy {correlation:.2f} over all runs"
    )
    return Claim(statement, decided(sign * (nearest - other)), evidence)


def _over_epochs(
    statement: str, gap: xr.DataArray, error: xr.DataArray, train: xr.DataArray
) -> Claim:
    """Does the error go with the gap in every run?"""
    found = epoch_rank_correlation(gap, error)
    values = ", ".join(f"{r:.2f}" for r in found.mean("seed", skipna=False))
    evidence = f"{(found > 0).sum():d} of {found.size} runs; by weight decay {values}"
    later = epoch_rank_correlation(gap, error, first_epoch(train >= MEMORISED))
    if later.notnull().any():
        low, middle, high = np.nanquantile(later, (0, 0.5, 1))
        evidence += f"; once memorised {low:.2f} to {high:.2f}, median {middle:.2f}"
    return Claim(statement, decided(found), evidence)


def table(result: Result) -> Table:
    """Each weight decay after training: means and standard deviations over seeds."""
    data, config = result.data.isel(epoch=-1), result.config
    rows = [
        [f"{decay:g}", *linearity_cells(data.sel(weight_decay=decay))]
        for decay in config.weight_decays
    ]
    return Table(["weight decay", *linearity_heads(config.depth)], rows)
