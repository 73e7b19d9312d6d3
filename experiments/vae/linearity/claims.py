"""Check the claims of figure 10 against the results, and print their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from ...shared.claims import Claim, decided
from ...shared.statistics import epoch_rank_correlation
from ...shared.tables import Table
from ...shared.text import plus_minus
from .. import RUNS
from ..claims import at_best_epoch, claim_by_beta, of_learnt, table_by_beta

if TYPE_CHECKING:
    from ...shared.results import Result


SAYS = {
    "target linearity grows with training": "it grows",
    "smaller β gives higher": "small β is highest",
    "target linearity rises as the reconstruction error falls": "both improve",
    "the decoder's surrogate rises": "both rise",
}
"""What the paper says, by the beginnings of the claims."""


def check(result: Result) -> list[Claim]:
    """Check the paper's claims of this figure. A claim holds if it does in every seed, for all β.

    A run is taken at its best epoch, the one of the lowest test loss; Spearman's correlations are
    over all its measured epochs. Runs that diverged or learnt nothing decide nothing.

    1. Target linearity is higher at the best epoch than before training.
    2. At the best epoch, smaller β has higher target linearity.
    3. Over training, target linearity rises as the reconstruction error falls.
    4. Over training, the decoder's surrogate rises with target linearity.
    5. Beyond the paper: a collapsed code shows in target linearity. Where no latent is used (see
       ``ACTIVE``), it is lower than before training.
    """
    data = of_learnt(result)
    best = at_best_epoch(data)
    linearity, trained = data["target_linearity"], best["target_linearity"]
    gain, steps = trained - linearity.isel(epoch=0), -trained.diff("beta")
    falling = epoch_rank_correlation(linearity, data["reconstruction_error"])
    rising = epoch_rank_correlation(linearity, data["surrogate"])
    ranks = "rank correlation by β"
    return [
        claim_by_beta("target linearity grows with training", gain, "gain by β", gain),
        claim_by_beta("smaller β gives higher target linearity", steps, "steps by β", steps),
        claim_by_beta(
            "target linearity rises as the reconstruction error falls", -falling, ranks, falling
        ),
        claim_by_beta("the decoder's surrogate rises with target linearity", rising, ranks, rising),
        _collapse(best.assign(gain=gain)),
    ]


def _collapse(best: xr.Dataset) -> Claim:
    """Of runs at their best epochs, with the ``gain`` in target linearity until then."""
    runs = best[["active", "gain", "target_linearity"]].stack(run=RUNS, create_index=False)
    gone = runs.isel(run=(runs["active"] == 0).values)
    evidence = f"{gone.sizes['run']} of {runs.sizes['run']} runs collapse"
    holds = None
    if gone.sizes["run"]:
        fall, linearity = gone["gain"] < 0, gone["target_linearity"].values
        holds = decided(-gone["gain"])
        evidence += (
            f", {int(fall.sum())} of them below their start; target linearity "
            f"{linearity.min():.3g} to {linearity.max():.3g}"
        )
    return Claim("a collapsed code shows in target linearity", holds, evidence)


def table(result: Result) -> Table:
    """Each β at its best epoch, means and standard deviations over seeds."""
    data, best = result.data, at_best_epoch(result.data)
    start = data["target_linearity"].isel(beta=0, epoch=0)
    floor = data["noise_floor"].mean(skipna=False)
    columns = {
        "epoch": best["epoch"],
        "target linearity": best["target_linearity"],
        "held-out": best["heldout"],
        "reconstruction error": best["reconstruction_error"],
        "test loss": best["loss"],
        "KL": best["kl"],
        "latents used": best["active"],
        "normalised surrogate": best["surrogate_share"],
    }
    before = f"Target linearity before training {plus_minus(start, '.3g', '.1g')}"
    return table_by_beta(columns, f"{before}, noise floor {floor:.3f}.")
