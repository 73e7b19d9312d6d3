"""All experiments by one command."""

import dataclasses

import pytest

from experiments import __main__ as command
from experiments.commands.reproduce import Outcome, find_data, table_of_claims, time_left
from experiments.registry import Experiment, find
from experiments.shared.claims import Claim
from experiments.shared.durations import duration
from experiments.shared.progress import FRONT
from gramlin_jax.support.files import write_json

pytestmark = pytest.mark.runs


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 seconds"),
        (1, "1 second"),
        (89, "89 seconds"),
        (91, "2 minutes"),
        (5399, "90 minutes"),
        (7200, "2 hours"),
        (9000, "2.5 hours"),
        (360000, "100 hours"),
    ],
)
def test_durations_read_as_a_person_says_them(seconds, text):
    assert duration(seconds) == text


def test_the_table_has_every_claim_with_its_number_and_verdict(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    claims = [
        Claim("layers gain it in a sequence that is long to say", True, "5 of 5 seeds", "0.91"),
        Claim("so do others", None, "2 of 5 seeds; and words enough to need a second line here"),
        Claim("and these", False, "0 of 5"),
    ]
    outcomes = [Outcome(find("fig04"), None, claims), Outcome(find("fig11"), None, missing="gone")]
    lines = table_of_claims(outcomes).splitlines()
    assert lines[0].split() == ["claim", "paper", "here", "verdict"]
    assert lines[2] == find("fig04").title and max(map(len, lines[3:])) <= 100
    verdicts = [line.split()[-1] for line in lines[3:] if line.endswith(("holds", "FAILS", "ided"))]
    assert verdicts == ["holds", "undecided", "FAILS"]
    text = " ".join(" ".join(lines[3:]).split())
    for words in ("0.91", "5 of 5 seeds", "0 of 5", "second line"):
        assert words in text or all(word in text for word in words.split())
    assert find("fig11").title not in text


def test_the_time_left_is_a_bound_where_one_is_not_known():
    known, unknown = (dataclasses.replace(find("fig04"), minutes=m) for m in ({"default": 0.8}, {}))
    assert time_left([known, known], "default") == ", about 2 minutes left"
    assert time_left([known, unknown, known], "default") == ", at least 2 minutes left"
    assert time_left([unknown], "default") == time_left([known], "smoke") == ""


@pytest.mark.parametrize("error", [OSError("train is damaged"), ValueError("not array_record")])
def test_damaged_data_stop_their_own_experiments_only(error, monkeypatch):
    def claim(experiment, config, folder, data_dir):
        if experiment.name == "fig11_bert":
            raise error

    monkeypatch.setattr(Experiment, "claim_data", claim)
    outcomes = [Outcome(e, e.preset("smoke")) for e in map(find, ("fig11", "fig04"))]
    find_data(outcomes, None)
    assert not any(outcome.missing for outcome in outcomes), "the run says what is wrong"


@pytest.mark.runs
def test_what_has_data_is_carried_out_and_the_rest_listed(tmp_path, capsys):
    arguments = ["reproduce", "fig04", "fig11", "fig09", "--preset", "smoke", "--runs", "runs"]
    arguments[-1] = str(tmp_path)
    damaged = tmp_path / "fig09_target_linearity_adam" / "smoke-6404de2f"
    write_json(damaged / "config.json", {"experiment": "fig09_target_linearity_adam", "width": 1})
    with pytest.raises(SystemExit, match="1"):
        command.main([*arguments, "--data-dir", "nowhere"])
    first = capsys.readouterr()
    assert first.out.startswith("fig11_bert lacks its data: data_dir has no ")
    assert "tfds build" in first.out, "how to get it"
    steps = [line.partition(",")[0] for line in first.out.splitlines() if "/2 " in line[:5]]
    assert steps == ["1/2 fig04_target_linearity", "2/2 fig09_target_linearity_adam"]
    assert "1/2 fig04_target_linearity" in first.err and "4/4" in first.err, "a bar of epochs"
    assert "fig09_target_linearity_adam FAILED: folder" in first.out
    assert (tmp_path / "fig04_target_linearity" / "smoke-d1f56a68" / "figure.png").exists()
    assert "<h2>Figure 4" in (tmp_path / "gallery.html").read_text()
    assert FRONT.get() == ""
    with pytest.raises(SystemExit, match="1"):
        command.main([*arguments, "--data-dir", "nowhere"])
    assert "epoch" not in capsys.readouterr().err, "what is finished is only read"
