"""What a check says of a stack of inputs: values right, absent, or wrong without a word."""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np


class Verdict(NamedTuple):
    """Values of one function beside those of its oracle; the first axis counts inputs.

    Attributes:
        function: Its public name, and perhaps what of its result.
        got: Its values (b, ...).
        want: Those of the oracle; NaN where nothing is defined, and NaN has to come.
        slack: How far the two may be apart; infinite where no promise is made.
    """

    function: str
    got: np.ndarray
    want: np.ndarray
    slack: np.ndarray | float

    def undefined(self, where: np.ndarray) -> Verdict:
        """The same, but that these inputs (b,) have to give NaN."""
        got, want, slack = np.broadcast_arrays(self.got, self.want, self.slack)
        where = where.reshape(-1, *[1] * (got.ndim - 1))
        return Verdict(self.function, got, np.where(where, np.nan, want), np.where(where, 0, slack))

    def outcomes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By input: whether a value is wrong, absent without need, and not promised."""
        got, want, slack = np.broadcast_arrays(
            np.asarray(self.got, np.longdouble), np.asarray(self.want, np.longdouble), self.slack
        )
        with np.errstate(invalid="ignore", over="ignore"):
            near = abs(got - want) <= slack
        open_ = np.isinf(slack)
        wrong = np.isfinite(got) & ~near & ~open_
        absent = ~np.isfinite(got) & np.isfinite(want) & ~open_
        over = tuple(range(1, got.ndim))
        return wrong.any(over), absent.any(over), open_.all(over)


class Tally:
    """Counts by function, and the first wrong values of each."""

    def __init__(self) -> None:
        self.counts = collections.defaultdict(collections.Counter)

    def add(self, verdict: Verdict, replay: str) -> str:
        """Count the outcomes; the first wrong value in words, of the first three of a function."""
        before = self.counts[verdict.function]["wrong"]
        wrong, absent, open_ = verdict.outcomes()
        count = self.counts[verdict.function]
        count["inputs"] += len(wrong)
        count["absent"] += int(absent.sum())
        count["open"] += int(open_.sum())
        count["wrong"] += int(wrong.sum())
        return f"{replay}: {_worst(verdict, wrong)}" if wrong.any() and before < 3 else ""

    @property
    def wrong(self) -> int:
        return sum(count["wrong"] for count in self.counts.values())

    def __str__(self) -> str:
        heads = "inputs", "absent", "open", "wrong"
        width = max(map(len, self.counts), default=0)
        lines = [" ".join(["function".ljust(width), *(f"{head:>9}" for head in heads)])]
        for name, count in sorted(self.counts.items()):
            lines.append(" ".join([name.ljust(width), *(f"{count[head]:>9}" for head in heads)]))
        total = [sum(count[head] for count in self.counts.values()) for head in heads]
        lines.append(" ".join(["all".ljust(width), *(f"{number:>9}" for number in total)]))
        return "\n".join(lines)


def _worst(verdict: Verdict, wrong: np.ndarray) -> str:
    """The first input with a wrong value, and the entry that is furthest from its oracle."""
    at = int(np.flatnonzero(wrong)[0])
    parts = np.broadcast_arrays(
        np.asarray(verdict.got, np.longdouble),
        np.asarray(verdict.want, np.longdouble),
        verdict.slack,
    )
    got, want, slack = (np.ravel(part[at]) for part in parts)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = abs(got - want) / slack
    ratio = np.where(np.isnan(ratio), np.inf, ratio)  # a number where there is none
    worst = int(np.argmax(np.where(np.isfinite(got) & ~(abs(got - want) <= slack), ratio, -1)))
    return (
        f"input {at} gives {float(got[worst]):.17g}, wanted {float(want[worst]):.17g} "
        f"± {float(slack[worst]):.2g}"
    )
