"""Check the claims about neural collapse against the results, and print its numbers."""

from __future__ import annotations

import numpy as np

from experiments.neural_collapse import TERMINAL
from experiments.shared.claims import Claim
from experiments.shared.results import Result
from experiments.shared.statistics import rank_correlation
from experiments.shared.text import about, spelled


def by_loss(result: Result) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each loss, which begin with the axis of seeds, by the loss's name in words."""
    arrays = {name: values for name, values in result.arrays.items() if name != "epochs"}
    return {
        loss.replace("_", " "): {name: values[i] for name, values in arrays.items()}
        for i, loss in enumerate(result.config.losses)
    }


def check(result: Result) -> list[Claim]:
    """What neural collapse and its link to target linearity say. Claims hold if in every seed.

    The exact link first: in every layer at every measured epoch of all losses, to 1e-8, in the
    directions that have digits to compare (``LINK_RTOL``). Then, for each loss, its terminal phase
    going from the first measured epoch of train accuracy 0.999 to the last one:

    1. to 4. NC1, NC2 (distance to the simplex ETF) and NC3 of the last hidden layer are lower at
       the end of the terminal phase than at its beginning; NC4's mismatch on train samples ends
       below 0.001. Only tested if all seeds reach that phase.
    5. In the terminal phase target linearity of the last layer rises as NC1 falls: Spearman's
       correlation of NC1 and 1 − TL is above 0.9.
    6. NC1 at the end falls from layer to layer.
    """
    arrays = result.arrays
    residual = arrays["link_error"].max((0, 2, 3))
    evidence = f"largest residual {residual.max():.1e}"
    link = _claim("TL = tr(Σ_T⁻¹Σ_B)/(C − 1) along the run", residual < 1e-8, evidence)
    of_losses = [_collapse_claims(loss, of) for loss, of in by_loss(result).items()]
    return [link, *(claim for claims in of_losses for claim in claims)]


def _collapse_claims(loss: str, arrays: dict[str, np.ndarray]) -> list[Claim]:
    """The claims on one loss; ``arrays`` begin with the axis of seeds."""
    claims = []
    accuracies = arrays["train_accuracy"]
    begins = [_terminal(accuracy) for accuracy in accuracies]
    reached = int((accuracies >= TERMINAL).any(1).sum())
    if reached < len(begins):
        evidence = f"{reached} of {len(begins)} seeds reach train accuracy {TERMINAL}"
        return [Claim(f"{loss}: NC1 to NC4 in the terminal phase", None, evidence)]
    for name, statement in (
        ("nc1", "NC1, features collapse to their class means in the terminal phase"),
        ("etf_distance", "NC2, class means come nearer to a simplex ETF in the terminal phase"),
        ("nc3", "NC3, the classifier comes nearer to the class means in the terminal phase"),
    ):
        values = arrays[name] if name == "nc3" else arrays[name][..., -1]
        pairs = np.array([(run[i], run[-1]) for run, i in zip(values, begins, strict=True)])
        evidence = " → ".join(map(about, pairs.T))
        claims.append(_claim(f"{loss}: {statement}", pairs[:, 1] < pairs[:, 0], evidence))
    nc4 = arrays["train_nc4"][:, -1]
    statement = f"{loss}: NC4, the decision is the nearest class mean's"
    claims.append(_claim(statement, nc4 < 1e-3, about(nc4)))
    nc1, missing = arrays["nc1"][..., -1], 1 - arrays["target_linearity"][..., -1]
    ranks = np.array(
        [rank_correlation(a[i:], b[i:]) for a, b, i in zip(nc1, missing, begins, strict=True)]
    )
    statement = f"{loss}: in the terminal phase target linearity rises as NC1 falls"
    claims.append(_claim(statement, ranks > 0.9, f"rank correlation {spelled(ranks)}"))
    final = arrays["nc1"][:, -1]
    ordered = np.asarray((np.diff(final, axis=1) < 0).all(1))
    evidence = "by layer " + ", ".join(map(about, final.T))
    return [*claims, _claim(f"{loss}: at the end NC1 falls from layer to layer", ordered, evidence)]


def _terminal(accuracy: np.ndarray) -> int:
    """The index at which the terminal phase begins; the last, where it does not begin."""
    reached = accuracy >= TERMINAL
    return int(reached.argmax()) if reached.any() else len(accuracy) - 1


def _claim(statement: str, true: np.ndarray, evidence: str) -> Claim:
    count = f"{np.count_nonzero(true)} of {len(true)} seeds"
    return Claim(statement, bool(true.all()), f"{count}; {evidence}")


def table(result: Result) -> str:
    """By loss, layers and the last one's geometry: first, as the terminal phase begins, last."""
    lines = []
    for loss, of in by_loss(result).items():
        begins = [_terminal(accuracy) for accuracy in of["train_accuracy"]]
        times = {"start": [0] * len(begins), "terminal": begins, "end": [-1] * len(begins)}
        lines.append(f"{loss:<24}" + "".join(f"{name:>22}" for name in times))
        rows = {"epoch": np.broadcast_to(result.arrays["epochs"], of["train_accuracy"].shape)}
        plain = "train_accuracy", "test_accuracy", "nc3", "offset", "train_nc4", "test_nc4"
        rows |= {name: of[name] for name in plain}
        last = "etf_distance", "equinorm", "equiangularity", "cdnv"
        rows |= {name: of[name][..., -1] for name in last}
        for name in ("nc1", "target_linearity"):
            layers = range(result.config.depth)
            rows |= {f"{name}, layer {layer + 1}": of[name][..., layer] for layer in layers}
        for name, values in rows.items():
            picked = (
                [run[at] for run, at in zip(values, when, strict=True)] for when in times.values()
            )
            lines.append(f"{name:<24}" + "".join(f"{about(np.array(p)):>22}" for p in picked))
    return "\n".join(lines)
