"""From runs to a page of HTML, with pictures, style and script inside."""

from __future__ import annotations

import base64
import html
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..shared.claims import VERDICTS
from ..shared.durations import duration
from .folders import Run

HERE = Path(__file__).parent


def page(runs: Sequence[Run], root: Path) -> str:
    """The page of these runs."""
    parts = {
        "STYLE": (HERE / "style.css").read_text(),
        "SCRIPT": (HERE / "script.js").read_text(),
        "SUMMARY": _summary(runs, root),
        "RUNS": "\n".join(_card(run, place) for place, run in enumerate(runs)),
    }
    text = (HERE / "page.html").read_text()
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part)
    return text


def _summary(runs: Sequence[Run], root: Path) -> str:
    claims = itertools.chain.from_iterable(run.claims for run in runs)
    counts = Counter(claim["holds"] for claim in claims)
    number = f"{len(runs)} run{'s' * (len(runs) > 1)}"
    return (
        f"{number} in <code>{html.escape(str(root))}</code>. Of their claims "
        f"{counts[True]} hold, {counts[False]} fail and {counts[None]} are undecided."
    )


def _card(run: Run, place: int) -> str:
    seconds = run.summary.get("seconds")
    made = (run.folder / "config.json").stat().st_mtime
    state = "damaged" if run.problem else "finished" if run.summary else "unfinished"
    took = [] if seconds is None else [duration(seconds)]
    facts = [
        run.name,
        run.preset,
        *run.changes,
        *took,
        time.strftime("%Y-%m-%d", time.localtime(made)),
    ]
    verdicts = {_verdict(claim) for claim in run.claims} | {state}
    return (
        f'<article class="run" data-place="{place}" data-made="{made:.0f}" '
        f'data-seconds="{seconds or 0}" data-states="{" ".join(sorted(verdicts))}">'
        f"<h2>{html.escape(run.title)}</h2>"
        f'<p class="facts">{" · ".join(map(html.escape, facts))}</p>'
        f"{_body(run, state)}</article>"
    )


def _body(run: Run, state: str) -> str:
    if state == "damaged":
        return f'<p class="note">{html.escape(run.problem)}</p>'
    begun = '<p class="note">This run has not finished.</p>' if state == "unfinished" else ""
    return "".join(
        [
            _figure(run),
            begun,
            *(f'<p class="note">{html.escape(note)}</p>' for note in run.summary.get("notes", [])),
            _claims(run),
            _details("Configuration", run.config),
            _details("Versions", run.versions),
        ]
    )


def _figure(run: Run) -> str:
    path = run.folder / "figure.png"
    if not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(run.title)
    return (
        f'<button class="figure" title="Enlarge"><img alt="{name}" '
        f'src="data:image/png;base64,{data}"></button>{_caption(run)}'
    )


def _caption(run: Run) -> str:
    path = run.folder / "figure.txt"
    return f'<p class="caption">{html.escape(path.read_text())}</p>' if path.exists() else ""


def _claims(run: Run) -> str:
    if not run.claims:
        return ""
    rows = "".join(_claim(claim) for claim in run.claims)
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Claim", "Here", "Verdict"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _claim(claim: dict[str, Any]) -> str:
    verdict = _verdict(claim)
    statement, evidence = (html.escape(claim[key]) for key in ("statement", "evidence"))
    paper = html.escape(claim.get("paper", ""))
    paper = f" <small>The paper: {paper}.</small>" if paper else ""
    return (
        f'<tr><th scope="row">{statement}{paper}</th><td>{evidence}</td>'
        f'<td><span class="verdict {verdict}">{verdict}</span></td></tr>'
    )


def _verdict(claim: dict[str, Any]) -> str:
    return VERDICTS[claim["holds"]].lower()


def _details(head: str, values: dict[str, Any]) -> str:
    if not values:
        return ""
    rows = "".join(_pair(name, value) for name, value in values.items())
    return f"<details><summary>{head}</summary><dl>{rows}</dl></details>"


def _pair(name: str, value: Any) -> str:
    values: Iterable[Any] = value if isinstance(value, list) else [value]
    shown = " ".join(str(v) for v in values)
    return f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(shown)}</dd></div>"
