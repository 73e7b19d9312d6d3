"""Check the claims of figure 13 against the results, and print its numbers."""

from __future__ import annotations

import numpy as np

from experiments.shared.claims import Claim
from experiments.shared.results import Result
from experiments.shared.statistics import rank_correlation
from experiments.shared.text import spelled

LEARNT = 0.5  # the accuracy that counts as having learnt; chance is 1/p

MEMORISED = 0.99  # the train accuracy from which on the second phase is counted


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure, and whether held-out target linearity does better.

    A run generalises if its final test accuracy is one half or more. The gap is the target
    linearity of the last hidden layer less that of the layer before it.

    1. Runs with weight decay end at a higher test accuracy than the run of their seed without.
    2. Runs that generalise memorise first: train accuracy passes one half before test accuracy.
    3. The last layer's target linearity separates runs: at the end all that generalise have more of
       it than all others.
    4. Its held-out target linearity does.
    5. The gap does, being smaller in all that generalise.
    6. In every run the gap goes with the test error: Spearman's correlation over epochs is above 0.
       The same after the run has memorised, from train accuracy 0.99 on, is given beside it.
    7. In every run it goes with the generalisation gap, train less test accuracy.
    """
    arrays = result.arrays
    train, test = arrays["train_accuracy"], arrays["test_accuracy"]
    gap = linearity_gap(result)
    claims = [_decay_claim(result)] if 0 in result.config.weight_decays else []
    claims.append(_memorised_first(result))
    for name, values, sign in (
        ("the last layer's target linearity", arrays["target_linearity"][..., -1, -1], 1),
        ("its held-out target linearity", arrays["heldout"][..., -1, -1], 1),
        ("a smaller gap", gap[..., -1], -1),
    ):
        claims.append(
            _separates(f"{name} separates runs that generalise", values, test[..., -1], sign)
        )
    for name, error in (("test error", 1 - test), ("generalisation gap", train - test)):
        claims.append(_over_epochs(f"the gap goes with the {name}", gap, error, train))
    return claims


def _decay_claim(result: Result) -> Claim:
    decays, ends = result.config.weight_decays, result.arrays["test_accuracy"][..., -1]
    without = decays.index(0)
    better = np.delete(ends > ends[without], without, axis=0)
    by_decay = ", ".join(
        f"{decay:g}: {spelled(of_seeds)}" for decay, of_seeds in zip(decays, ends, strict=True)
    )
    return Claim(
        "runs with weight decay generalise better than without",
        bool(better.all()),
        f"{better.sum()} of {better.size} runs; test accuracy by weight decay {by_decay}",
    )


def _separates(statement: str, values: np.ndarray, accuracy: np.ndarray, sign: int) -> Claim:
    """Are the values of all runs that generalise above those of all others, or (−1) below?"""
    correlation = float(rank_correlation(values.ravel(), accuracy.ravel()))
    more, others = values[accuracy >= LEARNT], values[accuracy < LEARNT]
    if not (more.size and others.size):
        return Claim(statement, None, f"{more.size} of {values.size} runs do: none to compare")
    nearest, other = sign * (sign * more).min(), sign * (sign * others).max()
    evidence = (
        f"nearest {nearest:.3f} among the {more.size} that do, {other:.3f} among the others; rank "
        f"correlation with test accuracy {correlation:.2f} over all runs"
    )
    return Claim(statement, bool(sign * nearest > sign * other), evidence)


def linearity_gap(result: Result) -> np.ndarray:
    """Target linearity of the last hidden layer less the layer's before it, without that axis."""
    linearity: np.ndarray = result.arrays["target_linearity"]
    return linearity[..., -1] - linearity[..., -2]


def _over_epochs(statement: str, a: np.ndarray, b: np.ndarray, train: np.ndarray) -> Claim:
    """Does b go with a (weight decays, seeds, measurements) in every run?"""
    found = rank_correlation(a, b)
    values = ", ".join(f"{r:.2f}" for r in found.mean(1))
    evidence = f"{np.count_nonzero(found > 0)} of {found.size} runs; by weight decay {values}"
    memorised = [accuracy >= MEMORISED for accuracy in train.reshape(-1, train.shape[-1])]
    runs = zip(a.reshape(len(memorised), -1), b.reshape(len(memorised), -1), memorised, strict=True)
    later = [
        float(rank_correlation(x[at.argmax() :], y[at.argmax() :])) for x, y, at in runs if at.any()
    ]
    if later and np.isfinite(later).any():
        low, middle, high = np.nanquantile(later, (0, 0.5, 1))
        evidence += f"; once memorised {low:.2f} to {high:.2f}, median {middle:.2f}"
    holds = bool((found > 0).all()) if np.isfinite(found).all() else None
    return Claim(statement, holds, evidence)


def _memorised_first(result: Result) -> Claim:
    epochs = result.arrays["epochs"]
    train, test = (
        first_passed(result.arrays[f"{name}_accuracy"], epochs, LEARNT)
        for name in ("train", "test")
    )
    generalised = np.isfinite(test)
    first = generalised & (train < test)
    delays = (test - train)[generalised]
    evidence = f"{first.sum()} of the {generalised.sum()} runs, out of {test.size}, that generalise"
    if delays.size:
        evidence += f"; test accuracy follows {delays.min():g} to {delays.max():g} epochs later"
    holds = bool((first == generalised).all()) if generalised.any() else None
    return Claim("runs that generalise memorise first", holds, evidence)


def first_passed(curves: np.ndarray, epochs: np.ndarray, level: float) -> np.ndarray:
    """The measured epoch at which curves (..., measurements) first reach a level, NaN if never."""
    reached = curves >= level
    return np.where(reached.any(-1), epochs[reached.argmax(-1)], np.nan)


def table(result: Result) -> str:
    """Each weight decay after training, means and deviations over seeds."""
    arrays, config = result.arrays, result.config
    layers = range(1, config.depth + 1)
    lines = [
        f"{'decay':>6}{'train accuracy':>18}{'test accuracy':>18}"
        + "".join(f"{f'TL {layer}, held out':>32}" for layer in layers)
    ]
    for i, decay in enumerate(config.weight_decays):
        ends = {name: values[i, :, -1] for name, values in arrays.items() if name != "epochs"}
        lines.append(
            f"{decay:>6g}{spelled(ends['train_accuracy']):>18}{spelled(ends['test_accuracy']):>18}"
            + "".join(
                f"{spelled(ends['target_linearity'][:, layer - 1]):>17}"
                f"{spelled(ends['heldout'][:, layer - 1]):>15}"
                for layer in layers
            )
        )
    return "\n".join(lines)
