"""What the claims of figures 5 and 10 share."""

from __future__ import annotations

import numpy as np

from experiments.shared.claims import Claim
from experiments.shared.results import Result
from experiments.shared.text import about


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


def best(result: Result, values: np.ndarray) -> np.ndarray:
    """``values`` (β, seeds, measurements, ...) at each run's epoch of the lowest test loss."""
    rows, columns = np.indices(values.shape[:2])
    return values[rows, columns, result.arrays["loss"].argmin(2)]
