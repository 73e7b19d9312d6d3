"""Check the claims about neural collapse against the results, and print its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from ..shared.claims import Claim, in_every_seed
from ..shared.statistics import epoch_rank_correlation, first_epoch
from ..shared.tables import Table
from ..shared.text import listed, plus_minus
from . import TERMINAL

if TYPE_CHECKING:
    from ..shared.results import Result

FALLING = {
    "nc1": "NC1, features collapse to their class means in the terminal phase",
    "etf_distance": "NC2, class means come nearer to a simplex ETF in the terminal phase",
    "nc3": "NC3, the classifier comes nearer to the class means in the terminal phase",
}
"""What falls in the terminal phase, and the claims that say so."""

LAST = (
    *("train_accuracy", "test_accuracy", "nc3", "offset", "train_nc4", "test_nc4"),
    *("etf_distance", "equinorm", "equiangularity", "cdnv"),
)
"""What the table shows of the network and its last hidden layer."""


def by_loss(result: Result) -> dict[str, xr.Dataset]:
    """The data of each loss, by its name in words."""
    return {loss.replace("_", " "): result.data.sel(loss=loss) for loss in result.config.losses}


SAYS = {
    "TL = tr": "target linearity is neural collapse",
    "squared error: in the terminal phase target linearity": "target linearity is neural collapse",
    "cross entropy: in the terminal phase target linearity": "target linearity is neural collapse",
}
"""What the paper says, by the beginnings of the claims."""


def check(result: Result) -> list[Claim]:
    """Check neural collapse and its link to target linearity. A claim holds if in every seed.

    The exact link comes first: it holds in every layer at every measured epoch of all losses, to
    1e-8, in the directions that have digits to compare (``LINK_RTOL``). The other claims are made
    for each loss. Claims 1 to 5 are about its terminal phase, from the first measured epoch of
    train accuracy 0.999 to the last one. No claim is tested unless all seeds reach that phase.

    1. to 3. NC1, NC2 (distance to the simplex ETF) and NC3 of the last hidden layer are lower at
       the end of the terminal phase than at its beginning.
    4. NC4's mismatch on training samples ends below 0.001.
    5. Target linearity of the last layer rises as NC1 falls: Spearman's correlation of NC1 and
       1 − TL over epochs is above 0.9.
    6. NC1 at the end falls from layer to layer.
    """
    residual = result.data["link_error"].max(["loss", "epoch", "layer"], skipna=False)
    link = in_every_seed(
        "TL = tr(Σ_T⁻¹Σ_B)/(C − 1) along the run",
        1e-8 - residual,
        f"largest residual {residual.max(skipna=False):.1e}",
    )
    return [link, *(claim for loss, of in by_loss(result).items() for claim in _claims(loss, of))]


def _claims(loss: str, data: xr.Dataset) -> list[Claim]:
    """The claims on one loss."""
    begin = first_epoch(data["train_accuracy"] >= TERMINAL)
    if begin.isnull().any():
        reached = f"{begin.notnull().sum():d} of {begin.size} seeds"
        evidence = f"{reached} reach train accuracy {TERMINAL}"
        return [Claim(f"{loss}: NC1 to NC4 in the terminal phase", None, evidence)]
    last, end = data.isel(layer=-1), data.isel(epoch=-1)
    nc4, nc1 = end["train_nc4"], end["nc1"]
    ranks = epoch_rank_correlation(last["nc1"], 1 - last["target_linearity"], begin)
    return [
        *(_falls(f"{loss}: {statement}", last[name], begin) for name, statement in FALLING.items()),
        in_every_seed(
            f"{loss}: NC4, the decision is the nearest class mean's", 1e-3 - nc4, _about(nc4)
        ),
        in_every_seed(
            f"{loss}: in the terminal phase target linearity rises as NC1 falls",
            ranks - 0.9,
            f"rank correlation {plus_minus(ranks)}",
        ),
        in_every_seed(
            f"{loss}: at the end NC1 falls from layer to layer",
            -nc1.diff("layer"),
            f"by layer {listed(nc1, 'layer')}",
        ),
    ]


def _falls(statement: str, curves: xr.DataArray, begin: xr.DataArray) -> Claim:
    """Are curves (seed, epoch) lower at the end than at each seed's epoch ``begin`` before it?"""
    first, last = curves.sel(epoch=begin), curves.isel(epoch=-1)
    fall = (first - last).where(begin < curves["epoch"].max())
    return in_every_seed(statement, fall, f"{_about(first)} → {_about(last)}")


def _about(runs: xr.DataArray) -> str:
    return plus_minus(runs, ".3g", ".1g")


def table(result: Result) -> Table:
    """By loss, layers and the last one's geometry: first, as the terminal phase begins, last.

    In place of a terminal phase that a seed does not reach stands –.
    """
    heads, cells, names = [""], [], list(_rows(result.data.isel(loss=0, epoch=0)))
    for loss, data in by_loss(result).items():
        begin = first_epoch(data["train_accuracy"] >= TERMINAL)
        for time, of in (
            ("start", data.isel(epoch=0)),
            ("terminal phase", None if begin.isnull().any() else data.sel(epoch=begin)),
            ("end", data.isel(epoch=-1)),
        ):
            heads.append(f"{loss}, {time}")
            cells.append([_about(v) for v in _rows(of).values()] if of else ["–"] * len(names))
    names = [name.replace("_", " ") for name in names]
    return Table(heads, list(zip(names, *cells, strict=True)))


def _rows(of: xr.Dataset) -> dict[str, xr.DataArray]:
    """What the table shows of networks at one epoch of each, values (seed,) by name."""
    last = of.isel(layer=-1)
    rows = {"epoch": of["epoch"].broadcast_like(of["train_accuracy"])}
    rows |= {name: last[name] for name in LAST}
    for name in ("nc1", "target_linearity"):
        rows |= {
            f"{name}, layer {layer}": of[name].sel(layer=layer) for layer in of["layer"].values
        }
    return rows
