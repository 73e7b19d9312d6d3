"""Check the claims of figure 10 against the results, and print their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.shared.claims import Claim
from experiments.shared.statistics import rank_correlation
from experiments.shared.text import about
from experiments.vae.claims import best, claim_by_beta

if TYPE_CHECKING:
    from experiments.shared.results import Result


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure, each true of a seed if it is for all β.

    A run is taken at its best epoch, that of the lowest test loss; Spearman's correlations are
    over all its measured epochs.

    1. Target linearity is higher at the best epoch than before training.
    2. There, smaller β has higher target linearity.
    3. Over training it rises as the reconstruction error falls.
    4. The surrogate rises with it.
    5. Beyond the paper: a collapsed code shows in it. Where no latent is used (see ``ACTIVE``), it
       is lower than before training.
    """
    arrays = result.arrays
    linearity = arrays["target_linearity"]
    trained = best(result, linearity)
    gain, steps = trained - linearity[..., 0], -np.diff(trained, axis=0)
    falling = rank_correlation(linearity, arrays["reconstruction_error"])
    rising = rank_correlation(linearity, arrays["surrogate"])
    return [
        claim_by_beta("target linearity grows with training", gain > 0, "gain by β", gain),
        claim_by_beta("smaller β gives higher target linearity", steps > 0, "steps by β", steps),
        claim_by_beta(
            "it rises as the reconstruction error falls",
            falling < 0,
            "rank correlation by β",
            falling,
        ),
        claim_by_beta(
            "the decoder's surrogate rises with it", rising > 0, "rank correlation by β", rising
        ),
        _collapse(best(result, arrays["active"]), gain, trained),
    ]


def _collapse(active: np.ndarray, gain: np.ndarray, trained: np.ndarray) -> Claim:
    """All (β, seeds)."""
    gone = active == 0
    evidence = f"{np.count_nonzero(gone)} of {gone.size} runs collapse"
    if gone.any():
        evidence += (
            f", {np.count_nonzero(gain[gone] < 0)} of them below their start; target linearity "
            f"{trained[gone].min():.3g} to {trained[gone].max():.3g}"
        )
    holds = bool((gain[gone] < 0).all()) if gone.any() else None
    return Claim("a collapsed code shows in target linearity", holds, evidence)


def table(result: Result) -> str:
    """Each β at its best epoch, means and deviations over seeds."""
    names = {
        "epoch": np.broadcast_to(result.arrays["epochs"], result.arrays["loss"].shape),
        "target linearity": result.arrays["target_linearity"],
        "held-out": result.arrays["heldout"],
        "reconstruction error": result.arrays["reconstruction_error"],
        "test loss": result.arrays["loss"],
        "KL": result.arrays["kl"],
        "latents used": result.arrays["active"],
        "normalised surrogate": result.arrays["surrogate_share"],
    }
    start = result.arrays["target_linearity"][0, :, 0]
    floor = result.arrays["noise_floor"].mean()
    lines = [
        f"target linearity before training {about(start)}, noise floor {floor:.3f}",
        f"{'β':>6}" + "".join(f"{name:>22}" for name in names),
    ]
    for i, beta in enumerate(result.config.betas):
        cells = (about(best(result, values)[i]) for values in names.values())
        lines.append(f"{beta:>6g}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)
