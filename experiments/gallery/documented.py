"""Documented runs: a small summary of each in the repository, and the tables made of these.

A page names a block ``<!-- table NAME -->`` … ``<!-- end -->``, and ``rewritten`` fills it:

- ``table NAME``: the numbers of a run;
- ``claims NAME …``: its claims and their verdicts, a column for each run;
- ``caption NAME …``: what those of its figures show that the page has;
- ``overview``: all claims of all experiments by data set.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gramlin_jax.support.files import read_json

from ..registry import EXPERIMENTS, Experiment
from ..shared.claims import VERDICTS
from ..shared.results import Result
from ..shared.tables import Table, markdown
from ..shared.text import minus, named
from .folders import VERSIONS

NAME = r"[\w.]+"
"""What a run may be called."""
BLOCK = re.compile(
    rf"(<!-- (table|claims|caption|overview)((?: {NAME})*) -->\n).*?(<!-- end -->)", re.S
)
COLUMNS = ("digits", "MNIST", "CIFAR-10")
EARLIER = "earlier.json"
"""Beside the summaries: runs of earlier versions, of which no summary was kept."""

Summaries = Mapping[str, Mapping[str, Any]]


def summary(experiment: Experiment, result: Result, commit: str = "") -> dict[str, Any]:
    """What the repository keeps of a run: its claims and numbers, and where they come from.

    Args:
        experiment: Of the run.
        result: Of the run.
        commit: Of the code that ran, where the result does not say.
    """
    info, table = result.info, experiment.table(result)
    return {
        "experiment": experiment.name,
        "data": data_of(experiment, result.config),
        "config": dataclasses.asdict(result.config),
        "claims": [dataclasses.asdict(claim) for claim in experiment.check(result)],
        "table": dataclasses.asdict(table) if isinstance(table, Table) else str(table),
        "captions": experiment.captions(result),
        "notes": experiment.notes(result),
        "seconds": info.get("seconds"),
        "versions": {name: info[name] for name in VERSIONS if name in info},
        "commit": info.get("commit") or commit,
    }


def data_of(experiment: Experiment, config: Any) -> str:
    """The data of a run, as papers name them."""
    own = getattr(experiment.module(), "data", None)
    return own(config) if own else named(getattr(config, "dataset", ""))


def summaries_in(folder: Path) -> dict[str, dict[str, Any]]:
    """The summaries by name.

    Raises:
        ValueError: If one was changed by hand.
    """
    return {p.stem: read_json(p) for p in sorted(folder.glob("*.json")) if p.name != EARLIER}


def rewritten(page: str, known: Summaries, earlier: Sequence[Mapping[str, str]] = ()) -> str:
    """A page with its blocks made anew.

    Raises:
        ValueError: If a block names a run without a summary.
    """

    def fill(found: re.Match[str]) -> str:
        head, kind, rest, end = found.groups()
        missing = [name for name in rest.split() if name not in known]
        if missing:
            raise ValueError(f"a page names {missing[0]}: wanted one of {', '.join(known)}")
        runs = {name: known[name] for name in rest.split()}
        made = {
            "table": lambda: _table(runs),
            "claims": lambda: _claims(runs),
            "caption": lambda: _caption(runs, page),
            "overview": lambda: _overview(known, earlier),
        }
        body = made[kind]()
        return f"{head}{minus(body)}\n{end}"

    return BLOCK.sub(fill, page)


def _table(runs: Summaries) -> str:
    (run,) = runs.values()
    table = run["table"]
    if isinstance(table, str):
        return f"```text\n{table}\n```"
    note = f"{table['note']}\n\n" if table["note"] else ""
    return note + markdown(table["heads"], table["rows"])


def _claims(runs: Summaries) -> str:
    """The claims of runs of one experiment side by side; – where a run does not decide a claim."""
    by_run = [{c["statement"]: c for c in run["claims"]} for run in runs.values()]
    statements = list(dict.fromkeys(s for claims in by_run for s in claims))
    rows = [
        [statement, *(_cell(claims.get(statement), "evidence") for claims in by_run)]
        for statement in statements
    ]
    return markdown(["claim", *(_title(run) for run in runs.values())], rows)


def _title(run: Mapping[str, Any]) -> str:
    return run["data"] or run["experiment"]


def _cell(claim: Mapping[str, Any] | None, *more: str) -> str:
    if claim is None:
        return "–"
    verdict = VERDICTS[claim["holds"]].lower()
    return f"{verdict}: {claim['evidence']}" if more else verdict


def _caption(runs: Summaries, page: str) -> str:
    """What the figures show that the page has."""
    texts = [
        text
        for name, run in runs.items()
        for figure, text in run["captions"].items()
        if f"figures/{name}{_ending(figure)}.png)" in page
    ]
    return "\n\n".join(f"*{text}*" for text in texts)


def _ending(figure: str) -> str:
    """What the documentation puts after the name of a run for one of its pictures."""
    return "" if figure == "figure" else f"_{figure}"


def _overview(known: Summaries, earlier: Sequence[Mapping[str, str]]) -> str:
    """Claim, paper, what was found by data set, and the verdict of all runs."""
    rows: list[list[str]] = []
    for experiment in EXPERIMENTS:
        runs = [run for run in known.values() if run["experiment"] == experiment.name]
        before = [run for run in earlier if run["experiment"] == experiment.name]
        rows.append([f"**{experiment.title.partition(':')[0].rstrip('.')}**", *[""] * 6])
        claims: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
        for run in runs:
            data, settings = run["data"], _own_settings(run, runs)
            for claim in run["claims"]:
                claims.setdefault(claim["statement"], []).append((data, settings, claim))
        rows += [_overview_row(statement, found, before) for statement, found in claims.items()]
        if not claims:
            rows.append(["no run is recorded", *[""] * 6])
    heads = ["claim", "paper", "other data", *COLUMNS, "verdict"]
    return markdown(heads, rows)


def _overview_row(
    statement: str,
    found: Sequence[tuple[str, str, Mapping[str, Any]]],
    before: Sequence[Mapping[str, str]],
) -> list[str]:
    own = [_found(claim, data, settings) for data, settings, claim in found if data not in COLUMNS]
    own += [f"{run['data']}: {_link(run)}" for run in before if run["data"] not in COLUMNS]
    cells = ["; ".join(own) or "–"]
    for column in COLUMNS:
        here = [_found(claim, settings) for data, settings, claim in found if data == column]
        here += [_link(run) for run in before if run["data"] == column]
        cells.append("; ".join(here) or ("–" if own else "not run"))
    verdicts = {VERDICTS[claim["holds"]].lower() for *_, claim in found}
    paper = max((claim["paper"] for *_, claim in found), key=len) or "–"  # of most widths
    return [statement, paper, *cells, verdicts.pop() if len(verdicts) == 1 else "differs"]


def _own_settings(run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """The settings that tell a run from others on the same data."""
    others = [other["config"] for other in runs if other["data"] == run["data"]]
    own = {
        name: value
        for name, value in run["config"].items()
        if any(config.get(name) != value for config in others)
    }
    return ", ".join(_setting(name.replace("_", " "), value) for name, value in own.items())


def _setting(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"


def _found(claim: Mapping[str, Any], *of: str) -> str:
    """Which run, the verdict, and the first part of the evidence, which is a count."""
    which, first = ", ".join(filter(None, of)), claim["evidence"].partition(";")[0]
    return f"{which}: " * bool(which) + f"{_cell(claim)}, {first}"


def _link(run: Mapping[str, str]) -> str:
    return f"[earlier version]({run['page']})"


def earlier_in(folder: Path) -> list[dict[str, str]]:
    """The runs of earlier versions of which no summary was kept."""
    path = folder / EARLIER
    runs: list[dict[str, str]] = json.loads(path.read_text()) if path.exists() else []
    return runs
