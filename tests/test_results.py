import numpy as np
import pytest

from gramlin_jax.support.files import (
    claim_folder,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
    write_whole,
)


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


def test_claim_of_a_folder(tmp_path):
    configuration = {"name": "x", "sweep": {"seed": np.arange(2)}, "rate": 0.1}
    claim_folder(tmp_path, configuration)
    claim_folder(tmp_path, configuration)
    with pytest.raises(ValueError, match=r"its sweep.seed is \[0, 1\], wanted \[0\]"):
        claim_folder(tmp_path, {**configuration, "sweep": {"seed": [0]}})
    with pytest.raises(ValueError, match="its more is None, wanted 1"):
        claim_folder(tmp_path, {**configuration, "more": 1})
