"""Rank correlations between target linearity and interpolation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.shared.statistics import rank_correlation
from experiments.vae.claims import best

if TYPE_CHECKING:
    from experiments.shared.results import Result


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


def _pool(values: np.ndarray) -> np.ndarray:
    """(β, seeds, epochs) as (seeds, β · epochs)."""
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
