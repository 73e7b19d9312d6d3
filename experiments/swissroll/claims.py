"""Check the claims of figure 1 against the results, and print its numbers."""

from __future__ import annotations

import numpy as np

from experiments.shared.claims import Claim
from experiments.shared.results import Result
from experiments.swissroll import LAYERS


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure. A claim holds if it does in every seed.

    The target's direction is that in which X̃ of the last frame has the greatest covariance with
    the angle.

    1. The virtual update unrolls the roll: most of the angle (target linearity above 1/2) is linear
       in X̃ of the last frame, and more than in X.
    2. The Gram turns to the target's direction: the share of its trace along it is larger after
       the last frame than at the start.
    3. The Gram's contours show that direction: after the last frame the cosine of its leading
       eigenvector with it is 0.9 or more.
    4. The Gram's change is the virtual covariance: their cosine is 0.99 or more at every step, in
       every layer.
    """
    arrays = result.arrays
    linearity = arrays["target_linearity"][:, result.config.last_frame]
    before = float(arrays["input_target_linearity"])
    shares, axis, _ = _turning(result)
    least = arrays["cosine"].min(1)
    return [
        _claim(
            "the virtual update unrolls the roll",
            linearity > max(before, 0.5),
            f"target linearity {before:.3g} → {_spread(linearity)}, at least {linearity.min():.3g}",
        ),
        _claim(
            "the Gram turns to the target's direction",
            shares[:, 1] > shares[:, 0],
            f"share of its trace {_spread(shares[:, 0])} → {_spread(shares[:, 1])}, "
            f"gain {_spread(shares[:, 1] - shares[:, 0])}",
        ),
        _claim(
            "the Gram's leading direction is the target's",
            axis >= 0.9,
            f"cosine {', '.join(f'{value:.2f}' for value in axis)} by seed",
        ),
        _claim(
            "the Gram's change is the virtual covariance at every step",
            (least >= 0.99).all(1),
            f"least cosine by layer {', '.join(f'{value:.6f}' for value in least.min(0))}",
        ),
    ]


def _claim(statement: str, true: np.ndarray, evidence: str) -> Claim:
    """The claim of each seed, an entry of ``true``."""
    evidence = f"{np.count_nonzero(true)} of {true.size} seeds; {evidence}"
    return Claim(statement, bool(true.all()), evidence)


def _spread(values: np.ndarray) -> str:
    """Mean and deviation over seeds, the only axis; the deviation of a single seed is 0."""
    return f"{values.mean():.3g} ± {values.std(ddof=min(1, len(values) - 1)):.2g}"


def _turning(result: Result) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How the Gram and its change lie to the target's direction d of the last frame.

    Returns:
        Shares dᵀGd/tr G (seeds, 2) at the start and after the last frame; cosines |dᵀv| (seeds,)
        of the leading eigenvector of the Gram after the last frame, and of its change.
    """
    last, grams = result.config.last_frame, result.arrays["gram"]
    d = result.arrays["direction"][:, last]
    ends = grams[:, [0, last + 1]]
    shares = np.einsum("si,stij,sj->st", d, ends, d) / np.trace(ends, axis1=-2, axis2=-1)
    axes = [_leading(g) for g in (ends[:, 1], ends[:, 1] - ends[:, 0])]
    axis, change_axis = (np.abs((d * v).sum(-1)) for v in axes)
    return shares, axis, change_axis


def _leading(forms: np.ndarray) -> np.ndarray:
    """Eigenvectors (..., d) of the largest eigenvalue of symmetric (..., d, d)."""
    return np.linalg.eigh(forms)[1][..., -1]


def table(result: Result) -> str:
    """Each layer's Gram against its virtual covariance, then the unrolling, means over seeds."""
    arrays, last = result.arrays, result.config.last_frame
    lines = [
        f"{'layer':>5}{'least cosine':>16}{'median 1 − cosine':>20}{'largest difference':>20}"
        f"{'median':>10}{'identity residual':>20}"
    ]
    for layer in range(LAYERS):
        cosine, difference, residual = (
            arrays[name][..., layer] for name in ("cosine", "difference", "residual")
        )
        lines.append(
            f"{layer + 1:>5}{cosine.min():>16.8f}{np.median(1 - cosine):>20.2g}"
            f"{difference.max():>20.2g}{np.median(difference):>10.2g}{residual.max():>20.1g}"
        )
    shares, axis, change_axis = _turning(result)
    change = arrays["gram"][:, last + 1] - arrays["gram"][:, 0]
    moved = _norm(change) / _norm(arrays["gram"][:, 0])
    drawn = arrays["covariance_change"][:, last]
    likeness = (change * drawn).sum((1, 2)) / _norm(change) / _norm(drawn)
    linearity = arrays["target_linearity"][:, last]
    rows = {
        "loss, first → last step": _arrow(arrays["loss"][:, 0], arrays["loss"][:, -1]),
        f"target linearity, X → X̃ at step {last}": (
            f"{arrays['input_target_linearity']:.3g} → {_spread(linearity)}"
        ),
        "Gram of layer 1, relative change": _spread(moved),
        "share along the target's direction": _arrow(shares[:, 0], shares[:, 1]),
        "cosine of its leading direction": _spread(axis),
        "cosine of its change's direction": _spread(change_axis),
        "cosine of its change with X̃ᵀX̃ − XᵀX": _spread(likeness),
    }
    return "\n".join([*lines, *(f"{name:<40}{value}" for name, value in rows.items())])


def _norm(matrices: np.ndarray) -> np.ndarray:
    """Of the last two axes."""
    return np.linalg.norm(matrices, axis=(-2, -1))


def _arrow(before: np.ndarray, after: np.ndarray) -> str:
    return f"{_spread(before)} → {_spread(after)}"
