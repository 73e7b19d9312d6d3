"""Rank correlations between target linearity and interpolation."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ...shared.statistics import rank_correlation
from ..claims import at_best_epoch


def correlations(data: xr.Dataset) -> dict[str, np.ndarray]:
    """Spearman's correlations over all β and trained epochs, each (seeds,).

    The untrained network is left out: it decodes every code to the same grey.

    Returns:
        Of target linearity

        - ``error``: with the interpolation error, the distance to the pixels' interpolation;
        - ``given``: the same with the reconstruction error held fixed;
        - ``middle``: as ``given``, of the middle frame alone, since the end frames are
          reconstructions;
        - ``used``: as ``error``, of those β alone whose code has not collapsed in any seed;
        - ``bend``: with the bend;

        and ``reconstruction``: of the reconstruction error with the interpolation error.
    """
    trained = data.isel(epoch=slice(1, None))
    frames = trained["frame_error"]
    linearity, reconstruction = trained["target_linearity"], trained["reconstruction_error"]
    error = frames.mean("frame", skipna=False)
    middle = frames.isel(frame=frames.sizes["frame"] // 2)
    used = (at_best_epoch(data)["active"] > 0).all("seed").values
    of_used = linearity.isel(beta=used), error.isel(beta=used)
    return {
        "error": _over_runs(linearity, error),
        "given": _over_runs(linearity, error, reconstruction),
        "middle": _over_runs(linearity, middle, reconstruction),
        "used": _over_runs(*of_used) if used.any() else np.full(data.sizes["seed"], np.nan),
        "bend": _over_runs(linearity, trained["bend"]),
        "reconstruction": _over_runs(reconstruction, error),
    }


def _over_runs(*values: xr.DataArray) -> np.ndarray:
    """``rank_correlation`` (seeds,) over β and epochs."""
    pooled = (v.stack(all=("beta", "epoch"), create_index=False) for v in values)
    return rank_correlation(*(v.transpose("seed", "all").values for v in pooled))
