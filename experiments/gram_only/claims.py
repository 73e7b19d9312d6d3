"""Check the claims of figures 2 and 6 against the results, and print their numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..shared.claims import Claim, all_of, decided
from ..shared.lost import at_chance, unstable
from ..shared.statistics import Paired, paired
from ..shared.tables import Table
from ..shared.text import plus_minus
from . import ARMS

if TYPE_CHECKING:
    from ..shared.results import Result

MARGIN = 0.005  # of accuracy: how sure the seeds have to be that nothing is lost
EVERY = "Gram-only matches or beats the original at every learning rate"
SAYS = {
    EVERY: "accuracy as of SGD, or higher",
    "Gram-only matches or beats the original, each": "accuracy as of SGD, or higher",
}
"""What the paper says, by the beginnings of the claims."""
LITTLE = 0.1  # a share of the original's gain in target linearity that counts as nothing


def check(result: Result) -> list[Claim]:
    """Check the paper's claims of this figure, and what the complement shows.

    Accuracies are those of the test split after the last epoch, compared by a paired t-test over
    seeds. One does not match another where the 95 % confidence interval of the mean difference lies
    below 0, however near; else it matches or beats it where the interval lies above −0.005, half a
    point; else the seeds do not decide it. Intervals are those of a single comparison. Runs that
    diverged, or are at chance (``shared.lost``), decide nothing. A learning rate at which a run of
    either is unstable is left out of all verdicts and named.

    1. Gram-only matches or beats the original at every learning rate, where there are several.
    2. With each arm at the learning rate of its highest mean accuracy, it does too.
    3. Beyond the paper: the Gram-preserving complement learns nothing in the features. Wherever
       (learning rate, seed, hidden layer) the original gains target linearity, the complement gains
       less than a tenth of it.
    """
    gone = unstable_rates(result)
    rates = tuple(rate for rate in result.config.learning_rates if rate not in gone)
    if not rates:
        return [Claim(EVERY, None, f"unstable at {_listed(gone)}")]
    steady = dataclasses.replace(
        result,
        config=dataclasses.replace(result.config, learning_rates=rates),
        data=result.data.sel(learning_rate=list(rates)),
    )
    every, best = _compared_claims(steady, f"; unstable, left out: {_listed(gone)}" if gone else "")
    claims = [every, best] if len(result.config.learning_rates) > 1 else [best]
    return [*claims, _complement_claim(steady)] if result.config.complement else claims


def unstable_rates(result: Result) -> list[float]:
    """The learning rates at which a run of SGD or of Gram-only steps is unstable."""
    loss = result.data["train_loss"].sel(arm=["original", "gram_only"])
    found = unstable(loss).any(["arm", "seed"])
    return [rate for rate in result.config.learning_rates if found.sel(learning_rate=rate)]


def _listed(rates: Iterable[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


def _compared_claims(result: Result, left_out: str) -> tuple[Claim, Claim]:
    accuracy = _learnt(result)
    original, gram = accuracy.sel(arm="original"), accuracy.sel(arm="gram_only")
    tests = {
        rate.item(): paired(gram.sel(learning_rate=rate), original.sel(learning_rate=rate))
        for rate in accuracy["learning_rate"]
    }
    matches = [_matches(test) for test in tests.values()]
    best = [_at_best_rate(arm) for arm in (gram, original)]
    test = paired(*best)
    return (
        Claim(
            EVERY,
            all_of(matches),
            f"at {matches.count(True)} of {len(tests)} learning rates, worse at "
            f"{matches.count(False)}{left_out}; test accuracy, Gram-only less original [95 %]: "
            + "; ".join(f"{rate:g}: {_compared(test)}" for rate, test in tests.items()),
        ),
        Claim(
            "Gram-only matches or beats the original, each at its best learning rate",
            _matches(test),
            f"{', '.join(map(_best, best))}: {_compared(test)}",
        ),
    )


def _learnt(result: Result) -> xr.DataArray:
    """Final test accuracies (arm, learning_rate, seed), NaN at chance."""
    accuracy: xr.DataArray = result.data["test_accuracy"].isel(epoch=-1)
    return accuracy.where(~at_chance(result, "test"))


def _at_best_rate(accuracy: xr.DataArray) -> xr.DataArray:
    """Accuracies (learning_rate, seed) at the learning rate of the highest mean."""
    mean = accuracy.mean("seed", skipna=False)
    return accuracy.isel(learning_rate=mean.fillna(-1).argmax("learning_rate"))


def _best(accuracy: xr.DataArray) -> str:
    mean = accuracy.mean(skipna=False)
    return f"{mean:.4f} at {accuracy['learning_rate']:g}" if mean.notnull() else "none"


def _compared(test: Paired) -> str:
    return str(test) if np.isfinite(test.mean) else "a run diverged or is at chance"


def _matches(test: Paired) -> bool | None:
    return False if test.high < 0 else True if test.low > -MARGIN else None


def _complement_claim(result: Result) -> Claim:
    gain = result.data["target_linearity"] - result.data["start_target_linearity"]
    original, complement = gain.sel(arm="original"), gain.sel(arm="gram_preserving")
    learnt = _learnt(result).sel(arm="original").notnull()
    gains = (original > 0) & learnt
    margins = (LITTLE * original - complement).where(gains)  # NaN of the complement's, too
    compared = gains.any("layer")
    nothing = compared & ((margins > 0) | ~gains).all("layer")
    accuracy = result.data["test_accuracy"].sel(arm="gram_preserving").isel(epoch=-1)
    by_rate = "; ".join(
        f"{rate:g}: {_layers(complement.sel(learning_rate=rate))} of "
        f"{_layers(original.sel(learning_rate=rate))}, test accuracy "
        f"{accuracy.sel(learning_rate=rate).mean(skipna=False):.3f}"
        for rate in result.config.learning_rates
    )
    return Claim(
        "the Gram-preserving complement learns nothing in the features",
        decided(margins.values[gains.values]),
        f"{nothing.sum():d} of the {compared.sum():d} runs in which a layer of the original gains; "
        f"gain by layer, of the original's, by learning rate {by_rate}",
    )


def _layers(gains: xr.DataArray) -> str:
    return ", ".join(f"{gain:.3f}" for gain in gains.mean("seed", skipna=False))


def table(result: Result) -> Table:
    """Test accuracy of each arm by learning rate, what Gram-only steps cost, and features."""
    data, arms = result.data.isel(epoch=-1), result.config.arms
    gone, start = unstable_rates(result), data["start_target_linearity"]
    rows = []
    for rate in result.config.learning_rates:
        of = data.sel(learning_rate=rate)
        accuracy = of["test_accuracy"]
        test = paired(accuracy.sel(arm="gram_only"), accuracy.sel(arm="original"))
        rows.append(
            [
                f"{rate:g}{' (unstable)' if rate in gone else ''}",
                *(_spelled(accuracy.sel(arm=arm)) for arm in arms),
                test.interval,
                *(_layers(of["target_linearity"].sel(arm=arm)) for arm in arms),
            ]
        )
    names = [ARMS[arm] for arm in arms]
    heads = ["learning rate", *names, "Gram-only less SGD [95 %]", *(f"TL, {n}" for n in names)]
    note = f"Test accuracy, and target linearity by layer, which starts at {_layers(start)}:"
    return Table(heads, rows, note)


def _spelled(runs: xr.DataArray) -> str:
    return plus_minus(runs, ".4f", ".2g")
