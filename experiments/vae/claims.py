"""What the claims and the tables of figures 5 and 10 share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import xarray as xr

from ..shared.claims import Claim, in_every_seed
from ..shared.lost import without
from ..shared.text import listed, plus_minus

if TYPE_CHECKING:
    from ..shared.results import Result


def at_best_epoch(data: xr.Dataset) -> xr.Dataset:
    """The data of each run (beta, seed) at its epoch of the lowest test loss."""
    return data.isel(epoch=data["loss"].argmin("epoch", skipna=False))


def of_learnt(result: Result) -> xr.Dataset:
    """The data, with NaN for the runs whose test loss never fell below where it began."""
    loss = result.data["loss"]
    return without(result, loss.min("epoch", skipna=False) >= loss.isel(epoch=0)).data


def claim_by_beta(statement: str, margins: xr.DataArray, name: str, values: xr.DataArray) -> Claim:
    """``in_every_seed`` with ``values`` (beta, seed), called ``name``, as the evidence."""
    return in_every_seed(statement, margins, f"{name} {listed(values, 'beta')}")


def rows_by_beta(columns: Mapping[str, xr.DataArray]) -> list[str]:
    """The lines of a table: a head, and for each β the columns (beta, seed) over seeds."""
    lines = [f"{'β':>6}" + "".join(f"{name:>22}" for name in columns)]
    for beta in next(iter(columns.values()))["beta"].values:
        cells = (plus_minus(runs.sel(beta=beta), ".3g", ".1g") for runs in columns.values())
        lines.append(f"{beta:>6g}" + "".join(f"{cell:>22}" for cell in cells))
    return lines
