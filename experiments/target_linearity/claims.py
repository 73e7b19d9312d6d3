"""Check the claims of figures 4 and 9 against the results, and print their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from ..shared.claims import Claim, in_every_seed
from ..shared.lost import at_chance, without
from ..shared.statistics import epoch_rank_correlation
from ..shared.tables import Table
from ..shared.text import listed, start_to_end

if TYPE_CHECKING:
    from ..shared.results import Result


SAYS = {
    "target linearity of each layer grows": "it grows in each layer",
    "after training target linearity is ordered": "deeper is higher",
    "layers gain target linearity in sequence": "layer after layer",
    "each layer's surrogate rises": "both rise",
}
"""What the paper says, by the beginnings of the claims."""


def check(result: Result) -> list[Claim]:
    """Check the paper's claims of this figure. A claim holds if it does in every seed.

    Seeds that diverged, or whose train accuracy is at chance (``shared.lost``), decide nothing.

    1. Target linearity of each layer is higher after training than before.
    2. After training it is ordered by depth.
    3. Layers gain it in sequence: all gain, and each makes half of its gain before the next one
       does. (The epoch is interpolated between measurements.)
    4. Over training a layer's surrogate rises with its target linearity: Spearman's correlation
       over the measured epochs is positive.
    """
    data = without(result, at_chance(result)).data
    linearity = data["target_linearity"]
    end = linearity.isel(epoch=-1)
    gain, steps = end - linearity.isel(epoch=0), end.diff("layer")
    half = half_gain_epoch(linearity)
    least = gain.min("layer", skipna=False)
    sequence = xr.where(least > 0, half.diff("layer"), least)
    ranks = epoch_rank_correlation(linearity, data["surrogate"])
    return [
        _claim("target linearity of each layer grows with training", gain, "gain", gain),
        _claim(
            "after training target linearity is ordered by depth",
            steps,
            "step to the next layer",
            steps,
        ),
        _claim(
            "layers gain target linearity in sequence", sequence, "epoch of half the gain", half
        ),
        _claim(
            "each layer's surrogate rises with its target linearity",
            ranks,
            "rank correlation",
            ranks,
        ),
    ]


def _claim(statement: str, margins: xr.DataArray, name: str, values: xr.DataArray) -> Claim:
    return in_every_seed(
        statement, margins, f"{name} by layer {listed(values, 'layer', deviation='.2g')}"
    )


def half_gain_epoch(linearity: xr.DataArray) -> xr.DataArray:
    """The epoch at which each curve first has half of its final gain; NaN without a gain."""
    curves = linearity.drop_vars("epoch")  # values at two epochs are subtracted, place by place
    epochs = xr.DataArray(linearity["epoch"].values, dims="epoch")
    start = curves.isel(epoch=0)
    gain = curves.isel(epoch=-1) - start
    share = (curves - start) / gain.where(gain > 0)
    after = (share >= 0.5).argmax("epoch")  # not the first: a share begins at 0
    low, high = share.isel(epoch=after - 1), share.isel(epoch=after)
    first, second = epochs.isel(epoch=after - 1), epochs.isel(epoch=after)
    return first + (0.5 - low) / (high - low) * (second - first)


def table(result: Result) -> Table:
    """Each layer before and after training: means, and the deviation over seeds at the end."""
    data = result.data
    names = ("target_linearity", "adjusted", "heldout", "surrogate")
    rows = [
        [
            str(layer),
            *(start_to_end(of[name].squeeze("layer"), ".4g", ".1g") for name in names),
            f"{float(of['noise_floor'].isel(epoch=-1).mean()):.3f}",
        ]
        for layer, of in data.groupby("layer")
    ]
    train, test = (
        start_to_end(data[f"{split}_accuracy"], ".4f", ".1g") for split in ("train", "test")
    )
    heads = ["layer", "target linearity", "adjusted", "held out", "surrogate", "noise floor"]
    return Table(heads, rows, f"Accuracy on training samples {train}, on test samples {test}.")
