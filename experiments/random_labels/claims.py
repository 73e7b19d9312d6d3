"""Check the claims of figure 12 against the results, and print its numbers."""

from __future__ import annotations

import numpy as np

from experiments.shared.claims import Claim
from experiments.shared.results import Result
from experiments.shared.text import spelled

MEMORISED = 0.99  # the train accuracy that counts as having memorised


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure, and what held-out target linearity shows.

    1. All labels are memorised at the paper's learning rate: train accuracy 0.99 in every run.
    2. They are at some learning rate.
    3. In runs that memorised, target linearity after training is ordered by depth.
    4. Labels become linear whatever they are: in runs that memorised, that of the last layer ends
       above 0.9.
    5. The more noise, the more of what training adds to the last layer's target linearity is in
       train features only: train less held-out, less the same before training, rises with p in
       every seed at the last learning rate.
    6. Labels that are all random become linear in train features only: in runs that memorised at
       p = 1, training raises the last layer's target linearity and lowers the held-out one, which
       begins where a fit of noise is, at −p/(n − p − 1) for p features.
    """
    arrays, config = result.arrays, result.config
    accuracy = arrays["train_accuracy"][..., -1]
    linearity = arrays["target_linearity"][..., -1, :]
    memorised = accuracy >= MEMORISED
    gap = arrays["target_linearity"][-1, ..., -1] - arrays["heldout"][-1, ..., -1]
    gap = gap[..., -1] - gap[..., 0]
    widens = (np.diff(gap, axis=0) > 0).all(0)
    rates = [f"{rate:g}" for rate in config.learning_rates]
    by_rate = "train accuracy by noise " + "; ".join(
        f"at {rate}: {_means(values)}" for rate, values in zip(rates, accuracy, strict=True)
    )
    claims = [
        Claim(
            f"all labels are memorised at learning rate {rates[0]}",
            bool(memorised[0].all()),
            f"{memorised[0].sum()} of {memorised[0].size} runs; {by_rate}",
        ),
        Claim(
            "all labels are memorised at some learning rate",
            bool(memorised.any(0).all()),
            f"{memorised.any(0).sum()} of {memorised[0].size} noise levels and seeds",
        ),
        _of_memorised(
            "where labels are memorised, target linearity is ordered by depth",
            memorised,
            np.asarray((np.diff(linearity, axis=-1) > 0).all(-1)),
            linearity,
        ),
        _of_memorised(
            "where labels are memorised, they are linear in the last features",
            memorised,
            linearity[..., -1] > 0.9,
            linearity[..., -1:],
        ),
        Claim(
            "the more noise, the more of the last layer's gain is in train features only",
            bool(widens.all()),
            f"{widens.sum()} of {widens.size} seeds at {rates[-1]}; train less held-out, less that "
            f"before training, by noise {_means(gap)}",
        ),
    ]
    return claims + ([_random_claim(result)] if config.noises[-1] == 1 else [])


def _means(values: np.ndarray) -> str:
    """Means over seeds of values (noise levels, seeds)."""
    return ", ".join(f"{value:.3f}" for value in values.mean(-1))


def _of_memorised(
    statement: str, memorised: np.ndarray, true: np.ndarray, shown: np.ndarray
) -> Claim:
    """Is it true of every run that memorised?"""
    both = memorised & true
    evidence = f"{both.sum()} of {memorised.sum()} runs"
    if memorised.any():
        lowest, highest = shown[memorised].min(0), shown[memorised].max(0)
        layers = zip(lowest, highest, strict=True)
        evidence += "; by layer " + ", ".join(f"{a:.3f} … {b:.3f}" for a, b in layers)
    holds = bool((both == memorised).all()) if memorised.any() else None
    return Claim(statement, holds, evidence)


def _random_claim(result: Result) -> Claim:
    arrays, rates = result.arrays, result.config.learning_rates
    memorised = arrays["train_accuracy"][:, -1, :, -1] >= MEMORISED
    train, heldout = (arrays[name][:, -1, ..., -1] for name in ("target_linearity", "heldout"))
    true = memorised & (train[..., -1] > train[..., 0]) & (heldout[..., -1] < heldout[..., 0])
    values = "; ".join(
        f"at {rates[i]:g} train {_from_to(train[i])}, held-out {_from_to(heldout[i])}"
        for i in np.flatnonzero(memorised.any(1))
    )
    return Claim(
        "random labels that are memorised become linear in train features only",
        bool((true == memorised).all()) if memorised.any() else None,
        f"{true.sum()} of {memorised.sum()} runs; {values}".removesuffix("; "),
    )


def _from_to(curves: np.ndarray) -> str:
    """Before and after training, of curves (seeds, measurements)."""
    return f"{spelled(curves[:, 0])} → {spelled(curves[:, -1])}"


def table(result: Result) -> str:
    """Each learning rate and noise level after training, means and deviations over seeds."""
    arrays, config = result.arrays, result.config
    layers = range(config.depth)
    lines = [
        f"noise floor of target linearity {arrays['noise_floor']:.3f}",
        f"{'rate':>6}{'noise':>7}{'train accuracy':>18}{'test accuracy':>18}"
        + "".join(f"{f'TL {layer + 1}, held out':>32}" for layer in layers),
    ]
    for i, rate in enumerate(config.learning_rates):
        for j, noise in enumerate(config.noises):
            ends = {name: v[i, j, :, -1] for name, v in arrays.items() if v.ndim > 3}
            lines.append(
                f"{rate:>6g}{noise:>7g}"
                f"{spelled(ends['train_accuracy']):>18}{spelled(ends['test_accuracy']):>18}"
                + "".join(
                    f"{spelled(ends['target_linearity'][:, layer]):>17}"
                    f"{spelled(ends['heldout'][:, layer]):>15}"
                    for layer in layers
                )
            )
    return "\n".join(lines)
