"""Check deep linear networks against their theory and the notebook, and print the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..shared.claims import Claim, all_of, decided, in_every_seed
from ..shared.statistics import prediction_margin
from ..shared.text import plus_minus
from . import published_setting

if TYPE_CHECKING:
    from ..shared.results import Result

PUBLISHED = {
    "loss": {0: 0.936852, 1: 0.594968},
    "accuracy": {0: 0.11006, 1: 0.12794, 10: 0.38976, 100: 0.82956},
}
"""The notebook's numbers by step, of one run without a seed."""

ROUNDING = 1e-10


SAYS = {
    "modes follow the exact curves": "exact (arXiv 1312.6120)",
    "the half-time law": "exact (arXiv 1312.6120)",
    "with orthogonal": "time independent of depth",
}
"""What the source says, by the beginnings of the claims."""


def check(result: Result) -> list[Claim]:
    """Check the claims on deep linear networks.

    1. The hand-written gradients are those of automatic differentiation, to rounding.
    2. Training on covariances is training on data, to rounding at every depth.
    3. Changing layers one after another is another algorithm: its losses differ.
    4. Modes follow the exact curves of their depth and balance, to the order of the learning rate:
       the largest deviation is below a tenth of a mode, and half the rate has 0.4 to 0.6 of it.
    5. The time to half strength obeys τ ln(s/u₀ − 1)/2s, to 5 %.
    6. With orthogonal initialisation the deepest network learns in at most twice as many steps as
       the shallowest.
    7. With Gaussian initialisation it takes more than twice as many, or does not learn at all.
       Where neither of the two learns, or there is one depth alone, nothing is decided.
    8. In the notebook's setting, a further seed could have given each published number: it lies
       in the 95 % prediction interval of the seeds.
    """
    data = result.data
    ratio = data["half_time"] / data["half_time_law"]
    claims = [
        _rounding("hand-written gradients are those of autodiff", data["gradient_error"]),
        _rounding("covariance training is data training at any depth", data["training_error"]),
        _sequential(data),
        _curves(data["mode_error"]),
        Claim(
            "the half-time law with its logarithm",
            decided(0.05 - abs(ratio - 1)),
            f"measured/law from {ratio.min():.4f} to {ratio.max():.4f}",
        ),
        *_depth(data["learning_steps"]),
    ]
    return [*claims, *_published(data)] if published_setting(result.config) else claims


def _rounding(statement: str, error: xr.DataArray) -> Claim:
    return in_every_seed(
        f"{statement}, to rounding", ROUNDING - error, f"largest difference {error.max():.1e}"
    )


def _sequential(data: xr.Dataset) -> Claim:
    all_at_once, in_turn = data["covariance_loss"], data["sequential_loss"]
    apart = abs(in_turn / all_at_once - 1).max("step")
    after = [plus_minus(loss.isel(step=1), ".4f") for loss in (all_at_once, in_turn)]
    evidence = f"loss after one step {after[0]} against {after[1]}"
    return in_every_seed(
        "changing one layer after another is another algorithm", apart > 1e-4, evidence
    )


def _curves(error: xr.DataArray) -> Claim:
    whole, half = error.sel(halved=0), error.sel(halved=1)
    ratio = half / whole
    shown = ", ".join(f"{case}: {float(whole.sel(case=case)):.3f}" for case in error["case"].values)
    return Claim(
        "modes follow the exact curves up to the order of the learning rate",
        all_of([decided(0.1 - whole), decided(0.1 - abs(ratio - 0.5))]),
        f"{shown}; half the rate has {ratio.min():.2f} to {ratio.max():.2f} of it",
    )


def _depth(steps: xr.DataArray) -> list[Claim]:
    """The time to learn of the deepest network over that of the shallowest, ∞ for never."""
    steps = steps.sortby("layers")
    forever = steps.fillna(np.inf)
    ratio = forever.isel(layers=-1) / forever.isel(layers=0)  # NaN if neither learns
    known = ratio.notnull() & (steps.sizes["layers"] > 1)
    deep = int(steps["layers"][-1])

    def text(init: str) -> str:
        first, last = (steps.sel(init=init).isel(layers=i) for i in (0, -1))
        learnt = f"{int(last.notnull().sum())} learn at {deep} layers"
        return f"from {first.mean():.0f} to {last.mean():.0f} steps; {learnt}"

    return [
        in_every_seed(
            "with orthogonal initialisation the time to learn does not grow with depth",
            (ratio <= 2).where(known).sel(init="orthogonal"),
            text("orthogonal"),
        ),
        in_every_seed(
            "with Gaussian initialisation the time to learn grows with depth",
            (ratio > 2).where(known).sel(init="Gaussian"),
            text("Gaussian"),
        ),
    ]


def _published(data: xr.Dataset) -> list[Claim]:
    """Could a further seed have given the notebook's numbers? None with a single seed."""
    claims = []
    for name, numbers in PUBLISHED.items():
        published = xr.DataArray(list(numbers.values()), {"step": list(numbers)}, "step")
        found = data[name].sel(step=published["step"])
        margins = prediction_margin(published, found)
        values = "; ".join(f"step {step}: {plus_minus(found.sel(step=step))}" for step in numbers)
        paper = "; ".join(f"step {step}: {value:.5g}" for step, value in numbers.items())
        statement = f"the notebook's {name} is within the spread over seeds"
        inside = f"{(margins > 0).sum():d} of {margins.size} in the 95 % prediction interval"
        claims.append(Claim(statement, decided(margins), f"{inside}; {values}", paper))
    return claims


def table(result: Result) -> str:
    """Loss and accuracy by step, half-times, and the time to learn by depth."""
    data = result.data
    at = [step for step in (0, 1, 10, 100) if step in data["step"].values]
    lines = [f"{'step':<28}" + "".join(f"{step:>20}" for step in at)]
    for name in ("loss", "accuracy", "covariance_loss", "sequential_loss", "sequential_accuracy"):
        cells = "".join(f"{plus_minus(data[name].sel(step=step), '.4f'):>20}" for step in at)
        lines.append(f"{name.replace('_', ' '):<28}{cells}")
    for start in data["start"].values:
        pair = (data[name].sel(start=start).values for name in ("half_time", "half_time_law"))
        cells = "".join(f"{a:>10.1f}/{b:.1f}" for a, b in zip(*pair, strict=True))
        lines.append(f"half-times/law, u₀ {start:<10g}{cells}")
    for init in data["init"].values:
        steps = data["learning_steps"].sel(init=init)
        cells = ", ".join(
            f"{depth} layers: {_mean(steps.sel(layers=depth))}" for depth in steps["layers"].values
        )
        lines.append(f"steps to learn, {init:<12}{cells}")
    return "\n".join(lines)


def _mean(steps: xr.DataArray) -> str:
    """Of the seeds that learn, and how many these are if not all."""
    learnt = steps.dropna("seed")
    if not learnt.size:
        return "never"
    count = f" ({learnt.size} of {steps.size} seeds)" if learnt.size < steps.size else ""
    return plus_minus(learnt, ".0f") + count
