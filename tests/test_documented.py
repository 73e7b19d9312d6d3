"""What the documentation says of runs is what the summaries of these say."""

import json
import shutil
from pathlib import Path

import pytest

from experiments import __main__ as command
from experiments.gallery.documented import (
    BLOCK,
    COLUMNS,
    earlier_in,
    rewritten,
    summaries_in,
)
from experiments.registry import find
from experiments.shared.claims import VERDICTS
from gramlin_jax.support.files import write_json

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "results"
OLD_RUN = Path(__file__).parent / "golden" / "run_without_labels"
KNOWN, EARLIER = summaries_in(RESULTS), earlier_in(RESULTS)
WITH_BLOCKS = [page for page in DOCS.rglob("*.md") if BLOCK.search(page.read_text())]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda p: p.stem)
def test_the_tables_of_a_page_are_those_of_the_summaries(page):
    assert rewritten(page.read_text(), KNOWN, EARLIER) == page.read_text(), "run `gramlin record`"


def test_every_summary_is_on_a_page():
    text = "".join(page.read_text() for page in WITH_BLOCKS)
    assert len(WITH_BLOCKS) > 10 and "| **Figure 12** |" in text
    for name, run in KNOWN.items():
        assert find(run["experiment"]).name == run["experiment"] and run["versions"]["jax"], name
        assert f" {name} " in text or name == "fig08_default"
        for claim in run["claims"]:
            first = claim["evidence"].partition(";")[0].replace("-", "−")
            assert f"{VERDICTS[claim['holds']].lower()}, {first}" in text.replace("-", "−")


def test_what_the_paper_says_is_said_of_a_claim():
    """Each phrase belongs to a claim of a run of its experiment."""
    said = {}
    for run in KNOWN.values():
        said.setdefault(run["experiment"], []).extend(c["statement"] for c in run["claims"])
    for name, found in said.items():
        says = getattr(find(name).shown("claims"), "SAYS", {})
        lost = [start for start in says if not any(s.startswith(start) for s in found)]
        assert not lost, name


def test_runs_of_earlier_versions_are_not_recorded():
    """Of one that is, the entry has to go."""
    kept = {(run["experiment"], run["data"]) for run in KNOWN.values()}
    for run in EARLIER:
        assert (find(run["experiment"]).name, run["data"]) not in kept
        assert (DOCS / run["page"]).exists()


def test_a_number_changed_by_hand_is_found():
    page = DOCS / "findings/fig02.md"
    table = KNOWN["fig02_digits"]["table"]
    cell = table["rows"][1][2]
    assert cell in page.read_text() and table["heads"][2] == "Gram-only SGD"
    changed = page.read_text().replace(cell, "0.9999 ± 0.0001")
    assert rewritten(changed, KNOWN, EARLIER) == page.read_text() != changed


def test_a_summary_changed_by_hand_is_refused(tmp_path):
    text = (RESULTS / "fig02_digits.json").read_text()
    (tmp_path / "fig02_digits.json").write_text(text.replace('"holds": false', '"holds": true'))
    with pytest.raises(ValueError, match="is damaged"):
        summaries_in(tmp_path)


def claim(statement, holds, evidence, paper=""):
    return {"statement": statement, "holds": holds, "evidence": evidence, "paper": paper}


def test_the_overview_by_hand():
    of = {"experiment": "fig04_target_linearity", "config": {}}
    known = {
        "a": {**of, "data": "digits", "claims": [claim("up|", True, "5 of 5; -0.1", "rises")]},
        "b": {**of, "data": "CIFAR-10", "claims": [claim("up|", None, "1 of 2")]},
        "c": {**of, "data": "SVHN", "claims": [claim("down", False, "0 of 3; much")]},
    }
    earlier = [{**of, "data": "MNIST", "page": "p.md"}]
    page = rewritten("<!-- overview -->\nold\n<!-- end -->\n", known, earlier)
    rows = [line for line in page.splitlines() if "up" in line or "down" in line]
    before = "[earlier version](p.md)"
    assert rows == [
        f"| up\\| | rises | – | holds, 5 of 5 | {before} | undecided, 1 of 2 | differs |",
        f"| down | – | SVHN: fails, 0 of 3 | – | {before} | – | fails |",
    ]
    del known["c"], earlier[:]
    assert "| not run | undecided" in rewritten(page, known), COLUMNS
    known["a"]["captions"] = {"figure": "First, -1.", "more": "Second."}
    page = rewritten("![](figures/a_more.png)\n<!-- caption a -->\n<!-- end -->\n", known)
    assert page.splitlines()[2:] == ["*Second.*", "<!-- end -->"]
    with pytest.raises(ValueError, match="a page names z: wanted one of a, b"):
        rewritten("<!-- table z -->\n<!-- end -->\n", known)


def test_the_overview_says_how_runs_on_the_same_data_differ():
    of = {"experiment": "fig04_target_linearity", "claims": [claim("up", True, "5 of 5")]}
    same = {"seeds": 5}

    def found(*runs):
        known = {str(k): {**of, "data": d, "config": c} for k, (d, c) in enumerate(runs)}
        page = rewritten("<!-- overview -->\n<!-- end -->\n", known)
        (row,) = (line for line in page.splitlines() if line.startswith("| up"))
        return row.split(" | ")[2:4]

    rates = [{**same, "learning_rates": rates, "decay": False} for rates in ([0.1], [0.1, 0.2])]
    two = "learning rates 0.1: holds, 5 of 5; learning rates 0.1, 0.2: holds, 5 of 5"
    assert found(*(("digits", config) for config in rates)) == ["–", two]
    decay = {**rates[0], "decay": True}
    two = "no decay: holds, 5 of 5; decay: holds, 5 of 5"
    assert found(("digits", rates[0]), ("digits", decay)) == ["–", two]
    two = "SVHN, no decay: holds, 5 of 5; SVHN, decay: holds, 5 of 5"
    assert found(("SVHN", rates[0]), ("SVHN", decay), ("digits", rates[1])) == [
        two,
        "holds, 5 of 5",
    ]


@pytest.mark.parametrize("name", ["earlier", "a/b", "../a", "two words", "a-b", ""])
def test_a_name_that_no_page_can_name_is_refused(name, tmp_path):
    """The runs of earlier versions were overwritten; other files no table would have found."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results/earlier.json").write_text("[]")
    with pytest.raises(SystemExit, match="name is .*: wanted letters, digits"):
        command.main(["record", name, str(OLD_RUN), "--docs", str(tmp_path)])
    assert (tmp_path / "results/earlier.json").read_text() == "[]"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"colour": 3}, "config.json has colour: wanted the settings of fig04"), ({}, "name is ''")],
)
def test_settings_of_another_version_are_named(change, message, tmp_path):
    values = json.loads((OLD_RUN / "config.json").read_text())
    kept = {**values, **change} if change else {}
    write_json(tmp_path / "config.json", kept)
    with pytest.raises(SystemExit, match=message):
        command.main(["record", "small", str(tmp_path), "--docs", str(tmp_path)])


@pytest.mark.runs
def test_the_command(tmp_path, capsys):
    folder = tmp_path / "fig04_target_linearity" / "smoke-d1f56a68"
    shutil.copytree(OLD_RUN, folder)
    docs = tmp_path / "docs"
    with pytest.raises(SystemExit, match="docs is .*/docs, no folder: wanted"):
        command.main(["record", "small", str(folder), "--docs", str(docs)])
    docs.mkdir()
    page = docs / "page.md"
    page.write_text("![](figures/small.png)\n<!-- table small -->\n<!-- end -->\n")
    command.main(["record", "small", str(folder), "--docs", str(docs), "--commit", "abc"])
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"summary: {docs}/results/small.json", f"tables: {page}"]
    run = summaries_in(docs / "results")["small"]
    assert (run["data"], run["commit"], run["config"]["seeds"]) == ("digits", "abc", 2)
    assert page.read_text().count("\n|") == 2 + find("fig04").preset("smoke").depth
    assert (docs / "figures/small.png").read_bytes().startswith(b"\x89PNG")
    command.main(["record", "--docs", str(docs)])
    assert capsys.readouterr().out == "", "nothing changed"
    run["table"]["rows"][0][1] = "other"
    write_json(docs / "results/small.json", run)
    command.main(["record", "--docs", str(docs)])
    assert "| other |" in page.read_text()
    assert json.loads((docs / "results/small.json").read_text())["checksum"]
    for kind in ("svg", "pdf"):
        arguments = ["plot", "fig04", "--preset", "smoke", "--folder", str(folder)]
        command.main([*arguments, "--format", kind])
        start = (folder / f"figure.{kind}").read_bytes()[:5]
        assert start == (b"%PDF-" if kind == "pdf" else b"<?xml")
    assert "Target linearity" in (folder / "figure.txt").read_text()
