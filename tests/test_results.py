import errno
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from gramlin_jax.support import files
from gramlin_jax.support.files import (
    claim_folder,
    read_arrays,
    read_json,
    running,
    write_arrays,
    write_json,
    write_whole,
)

pytestmark = pytest.mark.runs


def test_round_trip(tmp_path):
    arrays = {"a": np.arange(5.0), "b": np.array("text"), "nan": np.array([np.nan, np.inf])}
    write_arrays(tmp_path / "deep" / "result.npz", arrays)
    for name, values in read_arrays(tmp_path / "deep" / "result.npz").items():
        np.testing.assert_array_equal(values, arrays[name])
    write_json(tmp_path / "a.json", {"x": np.float32(0.5), "n": float("nan"), "t": (1, [2])})
    assert read_json(tmp_path / "a.json") == {"x": 0.5, "n": None, "t": [1, [2]]}


def test_a_write_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "result.npz"
    write_arrays(path, {"a": np.ones(3)})

    def fail(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["result.npz"]
    np.testing.assert_array_equal(read_arrays(path)["a"], np.ones(3))


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_named_and_left_alone(tmp_path, keep):
    path = tmp_path / "result.npz"
    write_arrays(path, {"a": np.random.default_rng(0).normal(size=1000)})
    whole = path.read_bytes()
    cut = whole[: keep if isinstance(keep, int) else int(keep * len(whole))]
    path.write_bytes(cut)
    with pytest.raises(ValueError, match="result.npz is truncated or damaged.*move it away"):
        read_arrays(path)
    assert path.read_bytes() == cut


def test_damaged_json_and_missing_files(tmp_path):
    (tmp_path / "config.json").write_text('{"a": 1')
    with pytest.raises(ValueError, match="config.json is damaged"):
        claim_folder(tmp_path, {"a": 1})
    assert (tmp_path / "config.json").read_text() == '{"a": 1'
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")


def test_a_number_that_changed_in_json_is_refused(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"accuracy": 0.5, "more": {"seeds": [1, 2]}})
    whole = path.read_text()
    assert '"checksum": "' in whole
    for old, new in (("0.5", "0.7"), ("1,", "3,"), ("seeds", "weeds"), ('"checksum": "', '"a": "')):
        path.write_text(whole.replace(old, new))
        if new == '"a": "':
            assert read_json(path).keys() == {"accuracy", "more", "a"}
        else:
            with pytest.raises(ValueError, match="damaged .its checksum is .*wanted"):
                read_json(path)
    path.write_text('{"accuracy": 0.5}')
    assert read_json(path) == {"accuracy": 0.5}, "of a version that wrote none"


def test_claim_of_a_folder(tmp_path):
    configuration = {"name": "x", "sweep": {"seed": np.arange(2)}, "rate": 0.1}
    claim_folder(tmp_path, configuration)
    claim_folder(tmp_path, configuration)
    with pytest.raises(ValueError, match=r"its sweep.seed is \[0, 1\], wanted \[0\]"):
        claim_folder(tmp_path, {**configuration, "sweep": {"seed": [0]}})
    with pytest.raises(ValueError, match="its more is None, wanted 1"):
        claim_folder(tmp_path, {**configuration, "more": 1})


@pytest.mark.parametrize("text", ["null", "[]", "3", "1e999", "9" * 5000, "[" * 10**5, "\x00"])
def test_json_that_is_not_an_object_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json is damaged.*move its folder away"):
        claim_folder(tmp_path, {"a": 1})
    assert (tmp_path / "config.json").read_text() == text


def test_values_that_only_look_alike_are_told_apart(tmp_path):
    claim_folder(tmp_path, {"width": "16", "decay": True})
    with pytest.raises(ValueError, match="its width is '16', wanted 16;"):
        claim_folder(tmp_path, {"width": 16, "decay": True})
    with pytest.raises(ValueError, match="its decay is True, wanted 1;"):
        claim_folder(tmp_path, {"width": "16", "decay": 1})


def refuse(error):
    def raises(*_, **__):
        raise error

    return raises


def test_a_good_file_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "result.npz"
    write_arrays(path, {"a": np.ones(3)})
    with monkeypatch.context() as patch:
        patch.setattr(np, "load", refuse(MemoryError("no memory")))
        with pytest.raises(MemoryError, match="no memory"):
            read_arrays(path)
    write_json(tmp_path / "a.json", {})
    monkeypatch.setattr(files.Path, "open", refuse(PermissionError("no permission")))
    for read, name in ((read_arrays, "result.npz"), (read_json, "a.json")):
        with pytest.raises(PermissionError, match="no permission"):
            read(tmp_path / name)


def test_every_damaged_byte_of_a_result_is_seen_or_harmless(tmp_path):
    path = tmp_path / "result.npz"
    arrays = {"a": np.arange(3.0), "text": np.array("t")}
    write_arrays(path, arrays)
    whole, harmless = path.read_bytes(), 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            found = read_arrays(path)
        except ValueError as error:
            assert "result.npz is truncated or damaged" in str(error)
        else:
            harmless += 1
            assert found.keys() == arrays.keys()
            assert all((found[name] == arrays[name]).all() for name in arrays)
    assert harmless < len(whole) / 2


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", refuse(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device.*result.npz") as caught:
        write_arrays(tmp_path / "result.npz", {"a": np.ones(3)})
    assert caught.value.errno == errno.ENOSPC and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_arrays(files.Path("~/runs/a.npz"), {"a": np.ones(3)})
    claim_folder(files.Path("~/more"), {})
    with running(files.Path("~/more")):
        assert read_arrays(files.Path("~/runs/a.npz")) and (tmp_path / "more/config.json").exists()
    assert not (tmp_path / "~").exists()


def test_threads_write_one_file_at_once(tmp_path):
    errors = []

    def write(value):
        try:
            for _ in range(20):
                write_arrays(tmp_path / "a.npz", {"a": np.full(100, value)})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(set(read_arrays(tmp_path / "a.npz")["a"])) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


HOLD = """
import sys, time
from pathlib import Path
from gramlin_jax.support.files import running, write_whole

def write(file):
    print("ready", flush=True)
    time.sleep(60)

with running(Path(sys.argv[1])):
    write_whole(Path(sys.argv[1]) / "parts" / "a.npz", write)
"""


def test_one_process_at_a_time(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    expected = f"another process is running this .process {process.pid} on "
    with pytest.raises(ValueError, match=expected), running(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (temporary,) = (tmp_path / "parts").iterdir()
    assert temporary.name.startswith(".a.npz-")
    with running(tmp_path):  # the lock of a killed process is free, and its rest goes
        assert not list((tmp_path / "parts").iterdir())
        with pytest.raises(ValueError, match="another process is running this"), running(tmp_path):
            pass
    with running(tmp_path):
        pass
