"""Claims of the paper, and how seeds decide them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import xarray as xr

from .statistics import interval

VERDICTS = {True: "holds", False: "FAILS", None: "undecided"}
"""What a claim may come to."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the paper and the verdict of the results.

    Attributes:
        statement: The claim, so that it can be false.
        holds: Whether it does, in every seed or beyond their spread, as ``check`` says; None where
            the runs do not decide it, or none came to what it speaks of.
        evidence: The numbers, as a person reads them.
        paper: What the paper says, in a phrase or in its numbers; empty where it says nothing.
    """

    statement: str
    holds: bool | None
    evidence: str
    paper: str = ""

    def __str__(self) -> str:
        published = f"; paper: {self.paper}" if self.paper else ""
        return f"[{VERDICTS[self.holds]}] {self.statement}: {self.evidence}{published}"


def decided(margins: xr.DataArray | np.ndarray) -> bool | None:
    """Are all margins above 0? No verdict rests on one that is NaN or infinite.

    Returns:
        False if one is finite and not above 0; else None if one is not finite, or there is none;
        else True.
    """
    values = np.asarray(margins)
    known = values[np.isfinite(values)]
    if (known <= 0).any():
        return False
    return True if known.size == values.size > 0 else None


def in_every_seed(statement: str, margins: xr.DataArray, evidence: str) -> Claim:
    """A claim that holds if it is true in every seed.

    Args:
        statement: The claim.
        margins: Numbers with a dimension ``seed``. In a seed the claim is true if all of its own
            are above 0, false if a finite one is not, and undecided otherwise, see ``decided``.
        evidence: The numbers; the count of seeds is put before them.
    """
    known, others = xr.ufuncs.isfinite(margins), [dim for dim in margins.dims if dim != "seed"]
    true, false = (known & (margins > 0)).all(others), (known & (margins <= 0)).any(others)
    true &= known.any(others)  # of nothing, all is true
    count = f"{int(true.sum())} of {true.size} seeds"
    if undecided := int((~true & ~false).sum()):
        count += f", {undecided} undecided"
    return Claim(statement, decided(margins), f"{count}; {evidence}")


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """False if one is; else None if one is; else True."""
    found = set(verdicts)
    return False if False in found else None if None in found else True


def claim_negative(statement: str, correlations: np.ndarray) -> Claim:
    """Does the interval of the seeds' correlations (s,) lie below 0? With 0 in it, undecided."""
    found = interval(correlations)
    negative = np.count_nonzero(correlations < 0)
    evidence = f"rank correlation {found}; {negative} of {correlations.size} seeds below 0"
    holds = True if found.high < 0 else False if found.low > 0 else None
    return Claim(statement, holds, evidence)
