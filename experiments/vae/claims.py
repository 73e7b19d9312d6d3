"""What the claims and the tables of figures 5 and 10 share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import xarray as xr

from ..shared.claims import Claim, in_every_seed
from ..shared.lost import without
from ..shared.tables import Table
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


def table_by_beta(columns: Mapping[str, xr.DataArray], note: str) -> Table:
    """A row for each β, with the columns (beta, seed) over seeds."""
    betas = next(iter(columns.values()))["beta"].values
    rows = [
        [f"{beta:g}", *(plus_minus(runs.sel(beta=beta), ".3g", ".1g") for runs in columns.values())]
        for beta in betas
    ]
    return Table(["β", *columns], rows, note)
