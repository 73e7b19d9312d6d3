"""How claims about all β are held against the numbers, and printed."""

from __future__ import annotations

import numpy as np

from experiments.curves import about
from experiments.framework import Claim
from experiments.rank_correlation import interval


def claim_by_beta(statement: str, true: np.ndarray, name: str, values: np.ndarray) -> Claim:
    """A claim that is true of each seed where all entries of ``true`` (·, seeds) are.

    Args:
        statement: The claim.
        true: (·, seeds), the first axis being β or steps from one to the next.
        name: What the values are.
        values: (·, seeds), the evidence.
    """
    each = ", ".join(about(row) for row in values)
    holds = np.asarray(true.all(0))
    evidence = f"{np.count_nonzero(holds)} of {holds.size} seeds; {name} {each}"
    return Claim(statement, bool(holds.all()), evidence)


def claim_negative(statement: str, correlations: np.ndarray) -> Claim:
    """Does the interval of the seeds' correlations (s,) lie below 0? With 0 in it, undecided."""
    found = interval(correlations)
    negative = np.count_nonzero(correlations < 0)
    evidence = f"rank correlation {found}; {negative} of {correlations.size} seeds below 0"
    holds = True if found.high < 0 else False if found.low > 0 else None
    return Claim(statement, holds, evidence)
