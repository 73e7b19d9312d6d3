"""``gramlin reproduce``: all experiments whose data are available, in order."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import textwrap
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from ..registry import EXPERIMENTS, Experiment, find
from ..runs import folder_of, perform
from ..shared.claims import VERDICTS, Claim
from ..shared.durations import duration
from ..shared.progress import in_front
from .errors import line_of
from .gallery import write_gallery
from .options import read
from .place import Data, Names, mesh_of

PURPOSE = """Run all experiments whose data are available, and resume those that were interrupted.

It ends with the gallery of all runs and a table: claim, paper, here, verdict."""


@dataclasses.dataclass(frozen=True)
class Chosen(Data):
    """Options.

    Attributes:
        names: Experiments; by default all.
    """

    names: Names = ()


@dataclasses.dataclass
class Outcome:
    """What became of an experiment: its claims, or why there are none."""

    experiment: Experiment
    config: Any
    claims: list[Claim] = dataclasses.field(default_factory=list)
    missing: str = ""
    failure: str = ""


def main(arguments: Sequence[str], prog: str) -> None:
    """Carry out the experiments and print the table."""
    found = read(Chosen, arguments, prog, PURPOSE)
    chosen = [find(name) for name in found.names] or EXPERIMENTS
    outcomes = [Outcome(e, e.preset(found.preset)) for e in chosen]
    find_data(outcomes, found.data_dir)
    carry_out(outcomes, found, mesh_of(found.devices))
    print(table_of_claims(outcomes))
    print(write_gallery(found.runs))
    for outcome in outcomes:
        if outcome.missing:
            print(f"{outcome.experiment.name} lacks its data, see above")
        elif outcome.failure:
            print(f"{outcome.experiment.name} FAILED: {outcome.failure}")
    if any(outcome.failure for outcome in outcomes):
        raise SystemExit(1)


def find_data(outcomes: Sequence[Outcome], data_dir: str | None) -> None:
    """Look for the data of each experiment, and print what is missing and how to get it."""
    known: dict[Any, str] = {}
    for outcome in outcomes:
        own = hasattr(outcome.experiment.module("compute"), "read")
        key = outcome.experiment.name if own else getattr(outcome.config, "dataset", None)
        if key not in known:
            known[key] = _problem_of_data(outcome, data_dir)
        outcome.missing = known[key]
        if outcome.missing:
            print(f"{outcome.experiment.name} lacks its data: {outcome.missing}", flush=True)


def _problem_of_data(outcome: Outcome, data_dir: str | None) -> str:
    try:
        outcome.experiment.claim_data(outcome.config, None, data_dir)
    except (FileNotFoundError, ImportError) as error:
        return line_of(error)
    except (OSError, ValueError):  # not missing but damaged: their own experiments fail by it
        pass
    return ""


def carry_out(outcomes: Sequence[Outcome], options: Data, mesh: Mesh) -> None:
    """Carry out what has data, one after another; an error stops only its own experiment."""
    ready = [outcome for outcome in outcomes if not outcome.missing]
    for done, outcome in enumerate(ready):
        experiment, start = outcome.experiment, time.monotonic()
        left = time_left([o.experiment for o in ready[done:]], options.preset)
        front = f"{done + 1}/{len(ready)} {experiment.name}{left}"
        print(front, flush=True)
        with in_front(front):
            _carry_out_one(outcome, options, mesh)
        jax.clear_caches()
        if not outcome.failure:
            counts = Counter(VERDICTS[claim.holds] for claim in outcome.claims)
            verdicts = ", ".join(f"{verdict}: {n}" for verdict, n in counts.items())
            print(f"  {verdicts or 'no verdicts'}; {duration(time.monotonic() - start)}")


def _carry_out_one(outcome: Outcome, options: Data, mesh: Mesh) -> None:
    experiment, config = outcome.experiment, outcome.config
    folder = folder_of(options.runs, experiment.name, options.preset, config)
    try:
        result, _ = perform(experiment.name, config, folder, options.data_dir, mesh)
        outcome.claims = experiment.check(result)
    except Exception as error:
        outcome.failure = line_of(error) or repr(error)
        if not line_of(error):
            traceback.print_exc()


def time_left(experiments: Sequence[Experiment], preset: str) -> str:
    """The processor time left; at least that of the experiments of which it is known."""
    known = [e.minutes[preset] for e in experiments if preset in e.minutes]
    bound = "about" if len(known) == len(experiments) else "at least"
    return f", {bound} {duration(60 * sum(known))} left" if known else ""


def table_of_claims(outcomes: Sequence[Outcome]) -> str:
    """Claim, paper, here and verdict, as wide as the terminal."""
    width = max(80, shutil.get_terminal_size((120, 24)).columns) - 16
    widths = (width * 3 // 9, width * 2 // 9, width * 4 // 9, 9)
    lines = [_row(("claim", "paper", "here", "verdict"), widths)]
    for outcome in outcomes:
        if outcome.claims:
            lines += ["", outcome.experiment.title]
        lines += [
            _row((c.statement, c.paper or "–", c.evidence, VERDICTS[c.holds]), widths)
            for c in outcome.claims
        ]
    return "\n".join(lines)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells side by side, each broken into lines of its width."""
    columns = [textwrap.wrap(text, width) for text, width in zip(cells, widths, strict=True)]
    lines = itertools.zip_longest(*columns, fillvalue="")
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
