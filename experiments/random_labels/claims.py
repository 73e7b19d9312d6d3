"""Check the claims of figure 12 against the results, and print its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from ..shared.claims import Claim, decided, in_every_seed
from ..shared.lost import at_chance, without
from ..shared.tables import Table
from ..shared.text import linearity_cells, linearity_heads, plus_minus
from . import RUNS

if TYPE_CHECKING:
    from ..shared.results import Result

MEMORISED = 0.99  # the train accuracy that counts as having memorised


SAYS = {
    "all labels are memorised at learning rate": "memorised",
    "where labels are memorised, target linearity is ordered": "deeper is higher",
    "where labels are memorised, they are linear": "random labels become linear",
}
"""What the paper says, by the beginnings of the claims."""


def check(result: Result) -> list[Claim]:
    """Check the paper's claims of this figure, and what held-out target linearity shows.

    Runs that diverged, or whose train accuracy is at chance (``shared.lost``), decide nothing.

    1. All labels are memorised at the paper's learning rate: train accuracy is above 0.99 in every
       run.
    2. All labels are memorised at some learning rate.
    3. In runs that memorised, target linearity after training is ordered by depth.
    4. Labels become linear whatever they are: in runs that memorised, target linearity of the last
       layer ends above 0.9.
    5. The more noise, the more of what training adds to the last layer's target linearity is in
       train features only. At the last learning rate, the growth of train less held-out target
       linearity rises with the noise in every seed.
    6. Labels that are all random become linear in train features only. In runs that memorised them,
       training raises the last layer's target linearity and lowers the held-out one. The latter
       begins where a fit of noise is, at −p/(n − p − 1) for p features.
    """
    result = without(result, at_chance(result))
    linearity = result.data["target_linearity"].isel(epoch=-1)
    last = linearity.isel(layer=[-1])
    claims = [
        *_memorised_claims(result),
        _of_memorised(
            "where labels are memorised, target linearity is ordered by depth",
            result,
            linearity.diff("layer"),
            linearity,
        ),
        _of_memorised(
            "where labels are memorised, they are linear in the last features",
            result,
            last - 0.9,
            last,
        ),
        _gap_claim(result),
    ]
    return claims + ([_random_claim(result)] if result.config.noises[-1] == 1 else [])


def _memorised(result: Result) -> xr.DataArray:
    """Which runs (learning_rate, noise, seed) memorised the labels that they were trained on."""
    return result.data["train_accuracy"].isel(epoch=-1) > MEMORISED


def _memorised_claims(result: Result) -> list[Claim]:
    accuracy = result.data["train_accuracy"].isel(epoch=-1)
    margins = accuracy - MEMORISED
    at_first, at_some = margins.isel(learning_rate=0), margins.max("learning_rate")
    known = margins.notnull().all("learning_rate")  # a rate that is not may have memorised
    at_some = at_some.where((at_some > 0) | known)
    by_rate = "; ".join(
        f"at {rate:g}: {_means(accuracy.sel(learning_rate=rate))}"
        for rate in result.config.learning_rates
    )
    return [
        Claim(
            f"all labels are memorised at learning rate {result.config.learning_rates[0]:g}",
            decided(at_first),
            f"{(at_first > 0).sum():d} of {at_first.size} runs; train accuracy by noise {by_rate}",
        ),
        Claim(
            "all labels are memorised at some learning rate",
            decided(at_some),
            f"{(at_some > 0).sum():d} of {at_some.size} noise levels and seeds",
        ),
    ]


def _means(values: xr.DataArray) -> str:
    """Means over seeds of values (noise, seed)."""
    return ", ".join(f"{value:.3f}" for value in values.mean("seed", skipna=False))


def _of_memorised(
    statement: str, result: Result, margins: xr.DataArray, shown: xr.DataArray
) -> Claim:
    """Is it true of every run that memorised? The evidence is the range of ``shown`` by layer."""
    memorised = _memorised(result).stack(run=RUNS).values
    margins, runs = (values.stack(run=RUNS).isel(run=memorised) for values in (margins, shown))
    evidence = f"{(margins > 0).all('layer').sum():d} of {memorised.sum():d} runs"
    if not memorised.any():
        return Claim(statement, None, evidence)
    ends = zip(runs.min("run", skipna=False), runs.max("run", skipna=False), strict=True)
    evidence += "; by layer " + ", ".join(f"{low:.3f} … {high:.3f}" for low, high in ends)
    return Claim(statement, decided(margins), evidence)


def _gap_claim(result: Result) -> Claim:
    last = result.data.isel(learning_rate=-1, layer=-1)
    gap = last["target_linearity"] - last["heldout"]
    growth = _gain(gap)
    return in_every_seed(
        "the more noise, the more of the last layer's gain is in train features only",
        growth.diff("noise"),
        f"at {last['learning_rate']:g} train less held-out, less that before training, by noise "
        + _means(growth),
    )


def _random_claim(result: Result) -> Claim:
    memorised = _memorised(result).isel(noise=-1)
    last = result.data.isel(noise=-1, layer=-1)
    train, heldout = last["target_linearity"], last["heldout"]
    margins = xr.concat([_gain(train), -_gain(heldout)], "split").min("split", skipna=False)
    margins = margins.where(memorised)
    values = "; ".join(
        f"at {rate:g} train {_ends(train.sel(learning_rate=rate))}, "
        f"held-out {_ends(heldout.sel(learning_rate=rate))}"
        for rate in result.config.learning_rates
        if memorised.sel(learning_rate=rate).any()
    )
    return Claim(
        "random labels that are memorised become linear in train features only",
        decided(margins.values[memorised.values]),
        f"{(margins > 0).sum():d} of {memorised.sum():d} runs; {values}".removesuffix("; "),
    )


def _gain(curves: xr.DataArray) -> xr.DataArray:
    return curves.isel(epoch=-1) - curves.isel(epoch=0)


def _ends(curves: xr.DataArray) -> str:
    """Curves (seed, epoch) before and after training."""
    return " → ".join(plus_minus(curves.isel(epoch=at)) for at in (0, -1))


def table(result: Result) -> Table:
    """Each learning rate and noise level after training: means, standard deviations over seeds."""
    data, config = result.data.isel(epoch=-1), result.config
    rows = [
        [f"{rate:g}", f"{noise:g}", *linearity_cells(data.sel(learning_rate=rate, noise=noise))]
        for rate in config.learning_rates
        for noise in config.noises
    ]
    heads = ["learning rate", "noise", *linearity_heads(config.depth)]
    return Table(heads, rows, f"Noise has a target linearity of {data['noise_floor']:.3f}.")
