"""Figure 5: a VAE interpolates between images as linearly as its code is linear in them.

The runs are those of figure 10. Two test images are encoded and λμ₁ + (1 − λ)μ₂ decoded for λ
from 1 to 0, at several epochs and for each β, beside the interpolation of their pixels. Beyond the
paper the same is done between many random pairs of test images: if target linearity explains
linear interpolation, runs and epochs of higher target linearity are nearer to the pixels' line.

Two things besides could bring them nearer, and are told apart. The ends of a decoded line are
reconstructions, so the distance falls as reconstructions get better: the partial correlation holds
that fixed. And ``bend`` is the distance from the line between the decoded ends themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING

import numpy as np

from experiments.curves import about
from experiments.fig05_drawing import plot, scatter
from experiments.framework import Claim
from experiments.rank_correlation import interval, rank_correlation
from experiments.vae_claims import claim_by_beta, claim_negative
from experiments.vae_runs import PRESETS, best, run

if TYPE_CHECKING:
    from experiments.framework import Result

__all__ = ["PRESETS", "check", "extras", "plot", "run", "table"]


def correlations(result: Result) -> dict[str, np.ndarray]:
    """Spearman's correlations over all β and trained epochs, (seeds,) each.

    The untrained network is left out: it decodes every code to the same grey.

    Returns:
        With target linearity, ``error``: of the distance to the pixels' interpolation; ``given``:
        the same with the reconstruction error held fixed; ``middle``: that, of the middle frame
        alone, since the end frames are reconstructions; ``used``: as ``error``, of the β alone
        whose code has not collapsed in any seed; ``bend``: of the bend. ``reconstruction``: of
        that distance with the reconstruction error.
    """
    arrays = result.arrays
    names = "target_linearity", "frame_error", "reconstruction_error", "bend"
    linearity, frames, reconstruction, bend = (arrays[name][:, :, 1:] for name in names)
    error = frames.mean(-1)
    used = (best(result, arrays["active"]) > 0).all(1)
    middle = frames[..., frames.shape[-1] // 2]
    pooled = [_pool(values) for values in (linearity, error, reconstruction, bend, middle)]
    kept = (_pool(linearity[used]), _pool(error[used])) if used.any() else None
    return {
        "error": rank_correlation(pooled[0], pooled[1]),
        "given": rank_correlation(pooled[0], pooled[1], pooled[2]),
        "middle": rank_correlation(pooled[0], pooled[4], pooled[2]),
        "used": rank_correlation(*kept) if kept else np.full(linearity.shape[1], np.nan),
        "bend": rank_correlation(pooled[0], pooled[3]),
        "reconstruction": rank_correlation(pooled[2], pooled[1]),
    }


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure, and whether target linearity explains them.

    The error is the mean squared distance of the decoded from the pixels' interpolation, over
    pairs, frames and pixels; the best epoch is that of the lowest test loss.

    1. The error is lower at the best epoch than at the first measured one after the start.
    2. At the best epoch, smaller β has a lower error.
    3. Within each run the error falls as target linearity grows, over epochs.
    4. Over all β and epochs it does: the interval of the correlation lies below 0.
    5. It does with the reconstruction error held fixed. The end frames are reconstructions, and
       the two errors nearly agree in rank: so in the middle frame. (That this frame decides was
       chosen after the first results, in which all frames did; both are given.)
    6. The decoded line is straighter as target linearity grows.

    3 to 6 are not the paper's. Correlations are decided by their 95 % interval over seeds.
    """
    arrays = result.arrays
    error = arrays["frame_error"].mean(-1)
    trained = best(result, error)
    fall, steps = error[..., 1] - trained, np.diff(trained, axis=0)
    within = rank_correlation(arrays["target_linearity"][..., 1:], error[..., 1:])
    found = correlations(result)
    return [
        claim_by_beta("training brings interpolation to the pixels'", fall > 0, "by β", fall),
        claim_by_beta("smaller β interpolates nearer to the pixels", steps > 0, "by β", steps),
        claim_by_beta(
            "the error falls as target linearity grows, within each β",
            within < 0,
            "rank correlation by β",
            within,
        ),
        claim_negative(
            "the error falls as target linearity grows, over β and epochs", found["error"]
        ),
        claim_negative(
            "it does in the middle frame, with the reconstruction error held fixed",
            found["middle"],
        ),
        claim_negative(
            "the decoded line is straighter as target linearity grows",
            found["bend"],
        ),
    ]


def table(result: Result) -> str:
    """Each β at its best epoch, and the correlations with target linearity."""
    arrays = result.arrays
    names = {
        "target linearity": arrays["target_linearity"],
        "interpolation error": arrays["frame_error"].mean(-1),
        "at its ends": arrays["frame_error"][..., [0, -1]].mean(-1),
        "in the middle": arrays["frame_error"][..., result.config.frames // 2],
        "bend": arrays["bend"],
    }
    lines = [f"{'β':>6}" + "".join(f"{name:>22}" for name in names)]
    for i, beta in enumerate(result.config.betas):
        cells = (about(best(result, values)[i]) for values in names.values())
        lines.append(f"{beta:>6g}" + "".join(f"{cell:>22}" for cell in cells))
    meanings = {
        "error": "of target linearity and interpolation error",
        "used": "the same, of β without collapse",
        "given": "the same, reconstruction error held fixed",
        "middle": "the same, of the middle frame alone",
        "bend": "of target linearity and bend",
        "reconstruction": "of reconstruction error and interpolation error",
    }
    lines.append("rank correlations over β and epochs [95 % over seeds]")
    found = correlations(result)
    lines += [f"{interval(found[key])}  {meaning}" for key, meaning in meanings.items()]
    return "\n".join(lines)


def extras(result: Result) -> dict[str, Callable[[IO[bytes]], None]]:
    """The scatter plots of target linearity and interpolation."""
    figure = scatter(result, {key: interval(r) for key, r in correlations(result).items()})
    return {"scatter.png": lambda file: figure.savefig(file, format="png", dpi=200)}


def _pool(values: np.ndarray) -> np.ndarray:
    """(β, seeds, epochs) as (seeds, β · epochs)."""
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
