"""Check the claims of figure 5 against the results, and print their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...shared.claims import Claim, claim_negative
from ...shared.statistics import epoch_rank_correlation, interval
from ...shared.tables import Table
from ..claims import at_best_epoch, claim_by_beta, of_learnt, table_by_beta
from .correlations import correlations

if TYPE_CHECKING:
    from ...shared.results import Result


SAYS = {
    "training brings interpolation nearer": "it does",
    "smaller β interpolates nearer": "small β is nearest",
}
"""What the paper says, by the beginnings of the claims."""


def check(result: Result) -> list[Claim]:
    """Check the paper's claims of this figure, and whether target linearity explains them.

    The interpolation error is the mean squared distance of the decoded from the pixels'
    interpolation, over pairs, frames and pixels; the best epoch is the one of the lowest test loss.

    1. The error is lower at the best epoch than at the first measured one after the start.
    2. At the best epoch, smaller β has a lower error.
    3. Within each run, over epochs, the error falls as target linearity grows.
    4. It does over all β and epochs: the interval of the correlation lies below 0.
    5. It does with the reconstruction error held fixed. The end frames are reconstructions, and
       the two errors nearly agree in rank; so the middle frame decides. (It was chosen after the
       first results, in which all frames decided; the table has both.)
    6. The decoded line is straighter as target linearity grows.

    3 to 6 are not the paper's. Correlations are decided by their 95 % interval over seeds. Runs
    that diverged or learnt nothing decide nothing.
    """
    data = of_learnt(result)
    data = data.assign(error=data["frame_error"].mean("frame", skipna=False))
    trained = at_best_epoch(data)["error"]
    fall, steps = data["error"].isel(epoch=1) - trained, trained.diff("beta")
    after = data.isel(epoch=slice(1, None))
    within = epoch_rank_correlation(after["target_linearity"], after["error"])
    found = correlations(data)
    return [
        claim_by_beta(
            "training brings interpolation nearer to pixel interpolation", fall, "by β", fall
        ),
        claim_by_beta("smaller β interpolates nearer to pixel interpolation", steps, "by β", steps),
        claim_by_beta(
            "the interpolation error falls as target linearity grows, within each β",
            -within,
            "rank correlation by β",
            within,
        ),
        claim_negative(
            "the interpolation error falls as target linearity grows, over β and epochs",
            found["error"],
        ),
        claim_negative(
            "the interpolation error of the middle frame falls as target linearity grows, "
            "with the reconstruction error held fixed",
            found["middle"],
        ),
        claim_negative("the decoded line is straighter as target linearity grows", found["bend"]),
    ]


def table(result: Result) -> Table:
    """Each β at its best epoch, and the correlations with target linearity."""
    best = at_best_epoch(result.data)
    frames = best["frame_error"]
    columns = {
        "target linearity": best["target_linearity"],
        "interpolation error": frames.mean("frame", skipna=False),
        "at its ends": frames.isel(frame=[0, -1]).mean("frame", skipna=False),
        "in the middle": frames.isel(frame=frames.sizes["frame"] // 2),
        "bend": best["bend"],
    }
    meanings = {
        "error": "of target linearity and interpolation error",
        "used": "the same, of β without collapse",
        "given": "the same, reconstruction error held fixed",
        "middle": "the same, of the middle frame alone",
        "bend": "of target linearity and bend",
        "reconstruction": "of reconstruction error and interpolation error",
    }
    found = correlations(result.data)
    listed = "; ".join(f"{interval(found[key])} {text}" for key, text in meanings.items())
    note = f"Rank correlations over β and epochs [95 % over seeds]: {listed}."
    return table_by_beta(columns, note)
