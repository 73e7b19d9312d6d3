"""Check the claims of figure 8 against the results, and print its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from ..shared.claims import Claim, decided, in_every_seed
from ..shared.lost import without
from ..shared.statistics import prediction_margin
from ..shared.tables import Table
from ..shared.text import listed, plus_minus, start_to_end
from .published import PUBLISHED, published_setting

if TYPE_CHECKING:
    from ..shared.results import Result


SAYS = {
    "the wider, the less features move": "wide networks are lazy",
    "the wider, the higher the final loss": "losses rise with width",
    "features of the smallest width learn": "they do",
    "the wider, below n, the less": "rich features improve the fit",
    "the wider, the less training improves the fit of new": "rich features improve the fit",
}
"""What the paper says, by the beginnings of the claims."""


def final_losses(result: Result) -> xr.DataArray:
    """Mean squared errors after training (width, seed)."""
    return result.data["target_output"].isel(step=-1) ** 2 / result.config.points


def check(result: Result) -> list[Claim]:
    """Check the paper's claims of this figure. Claims 1 to 5 hold if they do in every seed.

    Runs that diverged, or whose loss did not fall, decide nothing.

    1. The wider the network, the lazier: features move less.
    2. The wider the network, the higher the final loss.
    3. Rich features learn the target: at the smallest width ‖y − ŷ_OLS‖ falls over training.
    4. The wider the network, the smaller the share of ‖y − ŷ_OLS‖ that training removes. Only
       widths below the number of points count, since more features fit any target.
    5. The same holds on new points at all widths. No number of features fits these without
       learning.
    6. A further seed could have given the published final loss of each width: the loss lies in the
       95 % prediction interval of the seeds, which differ in points and weights. This is checked in
       the paper's setting only.
    """
    output = result.data["target_output"]
    result = without(result, output.isel(step=-1) >= output.isel(step=0))
    data, config = result.data, result.config
    few = [width for width in config.widths if width < config.points]
    train, new = (
        1 - data[name].isel(step=-1) / data[name].isel(step=0)
        for name in ("target_fit", "new_target_fit")
    )
    change, losses = data["feature_change"].isel(step=-1), final_losses(result)
    richest = train.isel(width=0)
    improves = "the less training improves the fit of"
    claims = [
        _ordered("the wider, the less features move", -change, change),
        _ordered("the wider, the higher the final loss", losses, losses),
        in_every_seed(
            "features of the smallest width learn the target",
            richest,
            f"‖y − ŷ_OLS‖ falls by the share {plus_minus(richest)}",
        ),
        _ordered(f"the wider, below n, {improves} training points", -train, train.sel(width=few)),
        _ordered(f"the wider, {improves} new points", -new, new),
    ]
    return [*claims, _published_claim(losses)] if published_setting(config) else claims


def _ordered(statement: str, rising: xr.DataArray, shown: xr.DataArray) -> Claim:
    """Does ``rising`` rise with the widths of ``shown`` in every seed? None for fewer than two."""
    rises = rising.sel(width=shown["width"]).diff("width")
    numbers = listed(shown, "width", ".3f", ".3f", "{}: ")
    return in_every_seed(statement, rises, numbers or "no width is below the number of points")


def _published_claim(losses: xr.DataArray) -> Claim:
    widths = losses["width"].values
    published = xr.DataArray([PUBLISHED[width] for width in widths], {"width": widths}, "width")
    margins = prediction_margin(published, losses)
    values = "; ".join(f"{width}: {plus_minus(losses.sel(width=width), '.4f')}" for width in widths)
    return Claim(
        "the published final losses are within the spread over points and weights",
        decided(margins),
        f"{(margins > 0).sum():d} of {margins.size} widths in the 95 % prediction interval; "
        f"{values}",
        "; ".join(f"{width}: {PUBLISHED[width]:.4f}" for width in widths),
    )


def table(result: Result) -> Table:
    """Each width before and after training: means and standard deviations over seeds."""
    data = result.data.assign(final_loss=final_losses(result))
    names = {
        "target_fit": "‖y − ŷ_OLS‖",
        "fit_output": "‖ŷ_OLS − ŷ‖",
        "new_target_fit": "‖y − ŷ_OLS‖ on new points",
        "noise_norm": "‖y − ŷ_OLS‖ if y were noise",
    }
    rows = []
    for width in result.config.widths:
        of = data.sel(width=width)
        loss, moved = plus_minus(of["final_loss"], ".4f"), of["feature_change"].isel(step=-1)
        curves = (start_to_end(of[name], ".2f", ".2f", "step") for name in names)
        rows.append([str(width), loss, plus_minus(moved), *curves])
    norm, new = (plus_minus(data[name], ".2f") for name in ("target_norm", "new_target_norm"))
    heads = ["width", "final loss", "‖H − H₀‖/‖H₀‖", *names.values()]
    return Table(heads, rows, f"The norm of y is {norm}, on new points {new}.")
