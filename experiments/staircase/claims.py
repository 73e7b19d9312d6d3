"""Check the claims of figure 8 against the results, and print its numbers."""

from __future__ import annotations

import numpy as np
from scipy import stats

from experiments.shared.claims import Claim
from experiments.shared.results import Result
from experiments.shared.text import spelled
from experiments.staircase import Config
from experiments.staircase.published import PUBLISHED, published_setting


def final_losses(result: Result) -> np.ndarray:
    """Mean squared errors after training (widths, seeds)."""
    norms: np.ndarray = result.arrays["target_output"]
    return norms[..., -1] ** 2 / result.config.points


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure; one of orders holds if it does in every seed.

    1. The wider the network, the lazier: features move less.
    2. The wider, the higher the final loss.
    3. Rich features learn the target: at the smallest width ‖y − ŷ_OLS‖ falls over training.
    4. The wider, the smaller the share of ‖y − ŷ_OLS‖ that training takes away, where there are
       fewer features than points: more of them fit any target.
    5. The same on new points, which no number of features can fit without learning: all widths.
    6. The published final loss of each width is one that a further seed would give: within the 95 %
       prediction interval of the seeds, whose points and weights differ; only checked in the
       paper's setting.
    """
    arrays, config = result.arrays, result.config
    fits, new = (
        1 - arrays[name][..., -1] / arrays[name][..., 0]
        for name in ("target_fit", "new_target_fit")
    )
    few = sum(width < config.points for width in config.widths)
    change, losses = arrays["feature_change"][..., -1], final_losses(result)
    claims = [
        _ordered("the wider, the less features move", config, -change, change),
        _ordered("the wider, the higher the final loss", config, losses, losses),
        Claim(
            "features of the smallest width learn the target",
            bool((fits[0] > 0).all()),
            f"{np.count_nonzero(fits[0] > 0)} of {config.seeds} seeds; ‖y − ŷ_OLS‖ falls by the "
            f"share {spelled(fits[0])}",
        ),
        _ordered(
            "the wider, below n, the less the fit gains by training",
            config,
            -fits[:few],
            fits[:few],
        ),
        _ordered("the same on new points, at all widths", config, -new, new),
    ]
    return [*claims, _published_claim(config, losses)] if published_setting(config) else claims


def _ordered(statement: str, config: Config, rising: np.ndarray, shown: np.ndarray) -> Claim:
    """Does ``rising`` (widths, seeds) rise with the width in every seed?"""
    seeds = (np.diff(rising, axis=0) > 0).all(0)
    values = ", ".join(
        f"{width}: {spelled(of_seeds)}"
        for width, of_seeds in zip(config.widths, shown, strict=False)
    )
    holds = bool(seeds.all()) if len(rising) > 1 else None
    return Claim(statement, holds, f"{seeds.sum()} of {seeds.size} seeds; {values}")


def _published_claim(config: Config, losses: np.ndarray) -> Claim:
    rows = [(w, PUBLISHED[w], of) for w, of in zip(config.widths, losses, strict=True)]
    known = [(w, value, of.mean(), of.std(ddof=1)) for w, value, of in rows]
    reach = stats.t.ppf(0.975, config.seeds - 1) * (1 + 1 / config.seeds) ** 0.5
    near = [abs(value - mean) <= reach * deviation for _, value, mean, deviation in known]
    values = "; ".join(
        f"{w}: {value:.4f} published, {mean:.4f} ± {deviation:.4f}"
        for w, value, mean, deviation in known
    )
    evidence = f"{sum(near)} of {len(near)} widths; {values}"
    statement = "the published final losses are within the spread over points and weights"
    return Claim(statement, all(near), evidence)


def table(result: Result) -> str:
    """Each width before and after training, means and deviations over seeds."""
    arrays, config = result.arrays, result.config
    names = ("target_fit", "fit_output", "new_target_fit", "noise_norm")
    lines = [
        f"norm of y {spelled(arrays['target_norm'], 2)}, "
        f"of new points {spelled(arrays['new_target_norm'], 2)}",
        f"{'width':>6}{'final loss':>18}{'features move':>18}"
        + "".join(f"{name.replace('_', ' '):>30}" for name in names),
    ]
    for i, (width, losses) in enumerate(zip(config.widths, final_losses(result), strict=True)):
        cells = [spelled(losses, 4), spelled(arrays["feature_change"][i, :, -1])]
        ends = [(arrays[n][i, :, 0].mean(), spelled(arrays[n][i, :, -1], 2)) for n in names]
        lines.append(
            f"{width:>6}"
            + "".join(f"{cell:>18}" for cell in cells)
            + "".join(f"{f'{start:.2f} → {end}':>30}" for start, end in ends)
        )
    return "\n".join(lines)
