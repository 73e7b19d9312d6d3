"""Run folders: other data are refused, versions kept, every kill and every flipped bit survived.

With ``GRAMLIN_TEST_OPTIMIZED=1`` (``make slow``) more kills and more bits are tried.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import runs, staircase
from experiments.registry import find
from experiments.runs import perform, read_result, report
from experiments.shared import provenance, training
from experiments.shared.provenance import record_versions
from experiments.shared.results import write_result
from gramlin_jax.support.files import read_arrays, read_json, write_json

pytestmark = pytest.mark.runs

MORE = 10 if os.environ.get("GRAMLIN_TEST_OPTIMIZED") == "1" else 1
NAME = "fig08_staircase"
TINY = staircase.Config(widths=(2, 3), points=20, steps=2, measurements=2, seeds=1)
OLD_RUN = Path(__file__).parent / "golden" / "run_without_labels"
FIG04 = find("fig04").preset("smoke")


class Events:
    """Copies of a folder at its file events are what a kill would leave."""

    def __init__(self, folder, copies):
        self.folder, self.copies, self.on = folder, copies, True
        sys.addaudithook(self)  # for good: it cannot be removed

    def __call__(self, event, args):
        if not self.on or event not in ("open", "os.rename", "os.remove", "os.mkdir"):
            return
        if not str(args[0]).startswith(str(self.folder)):
            return
        self.on = False  # copying has events of its own
        with contextlib.suppress(OSError):  # a file that another thread renames just now
            shutil.copytree(self.folder, self.copies / f"{len(os.listdir(self.copies)):04}")
        self.on = True


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a finished tiny run of figure 8, its result, and copies at file events."""
    root = tmp_path_factory.mktemp("kills")
    folder, copies = root / "run", root / "copies"
    copies.mkdir()
    folder.mkdir()
    events = Events(folder, copies)
    result, _ = perform(NAME, TINY, folder)
    events.on = False
    return folder, result, sorted(copies.iterdir())


def test_a_kill_at_any_file_event_loses_nothing(tiny):
    folder, result, copies = tiny
    assert len(copies) > 50 and not (copies[0] / "config.json").exists()
    finished = [copy for copy in copies if (copy / "result.npz").exists()]
    unfinished = copies[: -len(finished)]
    assert len(finished) > 5
    for copy in copies:
        for path in copy.rglob("*.json"):
            if path.parent.name != "checkpoints" and "orbax" not in str(path):
                with contextlib.suppress(UnicodeDecodeError):
                    assert json.loads(path.read_text()) is not None
        for path in copy.rglob("*.npz"):
            read_arrays(path)
    assert any((copy / "parts" / "2.npz").exists() for copy in unfinished)
    some = len(unfinished) // 2 // MORE, 1 + len(finished) // (2 * MORE)
    again = [*unfinished[some[0] :: some[0]], *finished[:: some[1]]]
    again = again if MORE > 1 else [copy for copy in again if copy != unfinished[-1]]
    for copy in again:
        begun = (copy / "versions.json").exists()
        found, done = perform(NAME, TINY, copy)
        assert done == (copy in finished), copy
        assert ("seconds" in found.info) == (done or not begun), "the last session's alone"
        assert found.data.identical(result.data), copy
        names = {path.name for path in copy.iterdir()}
        assert names == {path.name for path in folder.iterdir()}, copy
        assert not list(copy.rglob(".*.tmp")), "rests of killed writes are removed"


def test_a_flipped_bit_in_any_file_is_refused_or_harmless(tiny, tmp_path):
    """The checkpoints have a test of their own, in ``training/test_checkpoints.py``."""
    _, result, _ = tiny
    folder = tmp_path / "run"
    shutil.copytree(tiny[0], folder, ignore=shutil.ignore_patterns("training"))
    rng, refused = np.random.default_rng(0), set()
    experiment = find(NAME)
    for path in sorted(path for path in folder.rglob("*") if path.stat().st_size):
        if not path.is_file():
            continue
        whole = path.read_bytes()
        read = {".json": read_json, ".npz": read_arrays}.get(path.suffix)
        before = read(path) if read else None
        for bit in rng.integers(8 * len(whole), size=40 * MORE):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            try:
                if read:
                    after = read(path)
                    np.testing.assert_equal({name: after[name] for name in before}, before)
                found = read_result(NAME, TINY, folder)
            except ValueError as error:
                # A flip in the name of the checksum leaves an unknown setting.
                assert str(folder) in str(error), error
                assert "damaged" in str(error) or "another configuration" in str(error), error
                refused.add(path.name)
            else:
                assert found.data.identical(result.data) and found.info == result.info
                if path.name in ("summary.json", "networks.csv"):
                    report(experiment, found, folder, again=False)
                    assert path.read_bytes() == whole, "text is made anew"
        path.write_bytes(whole)
    assert {"config.json", "result.npz", "data.json", "versions.json", "2.npz"} <= refused


@pytest.fixture
def old_folder(tmp_path):
    """A finished run of figure 4 that has fingerprints of its data."""
    folder = tmp_path / "run"
    shutil.copytree(OLD_RUN, folder)
    training.load_splits("digits", folder=folder)
    return folder


def change(monkeypatch, name, value):
    """Let the data set have other numbers in one place."""

    def load(dataset, split, **options):
        data = LOAD(dataset, split, **options)
        if split == name:
            x = data.x.copy()
            x[-1, 0, 0] = value
            data = dataclasses.replace(data, x=x)
        return data

    monkeypatch.setattr(training, "load", load)


LOAD = training.load


def test_other_data_are_refused(old_folder, monkeypatch):
    kept = read_json(old_folder / "data.json")
    assert list(kept) == ["train x", "train y", "test x", "test y"]
    assert kept["train x"].startswith("float32[1437, 8, 8, 1] ")
    perform("fig04", FIG04, old_folder)
    for split in ("train", "test"):
        change(monkeypatch, split, 0.5)
        with pytest.raises(ValueError, match=f"a run of other data: its {split} x is float32.*now"):
            perform("fig04", FIG04, old_folder)
        (old_folder / "result.npz").rename(old_folder / "moved")  # a resume
        with pytest.raises(ValueError, match=f"a run of other data: its {split} x is"):
            perform("fig04", FIG04, old_folder)
        (old_folder / "moved").rename(old_folder / "result.npz")
    assert read_json(old_folder / "data.json") == kept


def test_a_finished_run_whose_data_are_not_here_is_read(old_folder, monkeypatch):
    def gone(*_, **__):
        raise FileNotFoundError("no data")

    monkeypatch.setattr(training, "load", gone)
    with pytest.warns(RuntimeWarning, match="were not compared: no data"):
        _, done = perform("fig04", FIG04, old_folder)
    assert done


def test_the_same_runs_of_other_data_are_not_copied(smoke_vae, tmp_path, monkeypatch):
    """Figure 5 is read from figure 10 beside it, unless the data are others."""
    trained, result = smoke_vae
    folder = tmp_path / trained.parent.name / trained.name
    shutil.copytree(trained, folder)
    fig05, beside = find("fig05"), tmp_path / "fig05_vae_interpolation" / folder.name
    copied = runs._same_runs(fig05, result.config, beside, None)
    assert copied.data.identical(result.data)
    assert copied.info["of"]["experiment"] == "fig05_vae_interpolation"
    assert read_json(beside / "data.json") == read_json(folder / "data.json")
    change(monkeypatch, "test", 0.5)
    assert runs._same_runs(fig05, result.config, beside, None) is None


def test_versions_are_kept(tmp_path, monkeypatch):
    versions = {"jax": "1", "numpy": "2"}
    monkeypatch.setattr(provenance, "versions", lambda: versions)
    assert record_versions(tmp_path) == [] == record_versions(tmp_path)
    versions = {"jax": "1.1", "numpy": "2"}
    assert record_versions(tmp_path) == ["jax 1 → 1.1"]
    versions = {"jax": "1.1", "numpy": "3"}
    assert record_versions(tmp_path) == ["jax 1 → 1.1", "numpy 2 → 3"]
    sessions = read_json(tmp_path / "versions.json")["sessions"]
    assert [s["numpy"] for s in sessions] == ["2", "2", "3"]


def test_another_run_may_claim_the_folder_just_before(tmp_path, monkeypatch):
    """It was computed to its end in a folder that said another configuration by then."""
    other, locked = dataclasses.replace(TINY, steps=3), runs.running

    @contextlib.contextmanager
    def late(folder):
        with locked(folder):  # what another process did until it was killed
            write_json(folder / "config.json", {"experiment": NAME, **dataclasses.asdict(other)})
            yield

    monkeypatch.setattr(runs, "running", late)
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="another configuration: its steps is 3, wanted 2"):
        perform(NAME, TINY, folder)
    assert read_json(folder / "config.json")["steps"] == 3 and not (folder / "parts").exists()


def test_changed_versions_are_a_note(tiny):
    _, result, _ = tiny
    assert runs.notes_of_versions(result) == [] and "jax" in result.info
    changed = dataclasses.replace(result, info={**result.info, "jax": "0.1"})
    (line,) = runs.notes_of_versions(changed)
    assert line.startswith("computed with other versions: jax 0.1 → ") and line.endswith(" now")
    noted = dataclasses.replace(result, info={**result.info, "changes": ["jax 1 → 2"]})
    assert find(NAME).notes(noted)[0] == "versions changed while it ran: jax 1 → 2"


def test_the_result_of_another_run_is_refused(tiny, old_folder, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(tiny[0], folder, ignore=shutil.ignore_patterns("training"))
    message = "result.npz is not the result of this run .*move it away.*nothing was changed"
    shutil.copy(old_folder / "result.npz", folder / "result.npz")
    with pytest.raises(ValueError, match="arrays holds .*|" + message):
        read_result(NAME, TINY, folder)
    result = tiny[1]
    wider = dataclasses.replace(TINY, widths=(2, 5))
    for info, change, reason in (
        ({"of": {"experiment": "fig99"}}, {}, "its experiment is 'fig99', wanted 'fig08"),
        ({}, {"width": [2, 5]}, r"its width is \[2, 5\], wanted \[2, 3\]"),
    ):
        write_result(folder / "result.npz", result.data.assign_coords(change), info)
        with pytest.raises(ValueError, match=reason) as caught:
            read_result(NAME, TINY, folder)
        assert "\n" not in str(caught.value)
    write_result(folder / "result.npz", result.data.drop_vars("noise_norm"), {})
    with pytest.raises(ValueError, match="it lacks noise_norm"):
        read_result(NAME, TINY, folder)
    arrays = read_arrays(folder / "result.npz")
    arrays.pop("info")
    runs.write_whole(folder / "result.npz", lambda file: np.savez(file, **arrays))
    with pytest.raises(ValueError, match="result.npz is not a result .it lacks readable notes"):
        read_result(NAME, TINY, folder)
    write_json(folder / "config.json", {"experiment": NAME, **dataclasses.asdict(wider)})
    with pytest.raises(ValueError, match="its widths is"):
        read_result(NAME, TINY, folder)


@pytest.mark.runs
@pytest.mark.long
def test_sigterm_is_one_line_and_the_run_goes_on(tmp_path):
    options = ["--widths", "2", "3", "--steps", "9000000", "--points", "20", "--measurements", "2"]
    command = [sys.executable, "-m", "experiments", "run", "fig08", "--folder", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--seeds", "1", *options], stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        time.sleep(0.1)
        if (tmp_path / "training" / "2" / "program.json").exists():
            break
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 143, printed
    assert printed.splitlines()[-1] == "stopped: the same command goes on from here"
    assert "Traceback" not in printed
