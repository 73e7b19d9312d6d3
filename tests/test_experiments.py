import dataclasses
import json

import numpy as np
import pytest
from experiments.framework import (
    EXPERIMENTS,
    Result,
    find,
    folder_of,
    perform,
    preset_of,
    read_result,
)

from experiments import __main__ as command
from experiments import fig04_target_linearity as fig04


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run of figure 4, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    result, done = perform("fig04_target_linearity", fig04.PRESETS["smoke"], folder)
    assert not done
    return folder, result


def test_figure_9_runs_with_adam(tmp_path):
    name = "fig09_target_linearity_adam"
    config = find(name)[1].PRESETS["smoke"]
    result, _ = perform(name, config, tmp_path / "run")
    losses = result.arrays["train_loss"]
    assert config.optimizer == "adam" and (losses[:, -1] < losses[:, 0]).all()
    assert (tmp_path / "run" / "figure.png").exists()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_keeps_the_protocol(name):
    full, experiment = find(name[:5])
    assert full == name and experiment.__doc__
    assert set(experiment.PRESETS) == {"smoke", "default", "paper"}
    for config in experiment.PRESETS.values():
        assert dataclasses.is_dataclass(config)
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.seeds = 1
    for verb in ("run", "plot", "check", "table"):
        assert callable(getattr(experiment, verb))


def test_smoke_run_writes_its_folder(smoke):
    folder, result = smoke
    assert {"config.json", "result.npz", "summary.json", "figure.png"} <= {
        path.name for path in folder.iterdir()
    }
    config = fig04.PRESETS["smoke"]
    shape = (config.seeds, config.measurements, config.depth)
    for name in ("target_linearity", "adjusted", "heldout", "noise_floor", "surrogate"):
        assert result.arrays[name].shape == shape, name
        assert np.isfinite(result.arrays[name]).all(), name
    np.testing.assert_array_equal(result.arrays["epochs"], [0, 2, 4])
    linearity, floor = result.arrays["target_linearity"], result.arrays["noise_floor"]
    assert (linearity > floor).all() and (linearity <= 1).all()
    np.testing.assert_allclose(floor, config.width / (config.samples - 1))
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["claims"]) == 4 and summary["jax"] and summary["seconds"] > 0
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(fig04.table(result).splitlines()) == config.depth + 3


def test_a_second_run_reads_the_first(smoke):
    folder, result = smoke
    before = (folder / "result.npz").stat().st_mtime_ns
    again, done = perform("fig04_target_linearity", fig04.PRESETS["smoke"], folder)
    assert done and (folder / "result.npz").stat().st_mtime_ns == before
    for name, values in result.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], values)


def test_a_folder_of_another_configuration_is_left_alone(smoke):
    folder, _ = smoke
    other = dataclasses.replace(fig04.PRESETS["smoke"], seeds=3)
    with pytest.raises(ValueError, match="another configuration: its seeds is 2, wanted 3"):
        perform("fig04_target_linearity", other, folder)
    with pytest.raises(ValueError, match="its experiment is fig04"):
        perform("fig09_target_linearity_adam", fig04.PRESETS["smoke"], folder)
    before = (folder / "figure.png").read_bytes()
    with pytest.raises(SystemExit, match="another configuration"):
        command.main(["plot", "fig09", "--preset", "smoke", "--folder", str(folder)])
    assert (folder / "figure.png").read_bytes() == before


def test_a_truncated_result_is_named_and_left_alone(smoke):
    folder, _ = smoke
    path = folder / "result.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    try:
        with pytest.raises(ValueError, match="result.npz is truncated or damaged"):
            perform("fig04_target_linearity", fig04.PRESETS["smoke"], folder)
        assert path.read_bytes() == whole[:1000]
    finally:
        path.write_bytes(whole)


def made_up(linearity, surrogate=None):
    """A result with the given curves of one seed, (epochs, depth)."""
    linearity = np.asarray(linearity, float)[None]
    surrogate = linearity if surrogate is None else np.asarray(surrogate, float)[None]
    arrays = {"target_linearity": linearity, "surrogate": surrogate}
    return Result(None, {**arrays, "epochs": np.arange(linearity.shape[1])}, {})


def verdicts(*curves):
    return [claim.holds for claim in fig04.check(made_up(*curves))]


def test_check_can_find_each_claim_false():
    claims = np.array([[0.1, 0.1], [0.3, 0.15], [0.4, 0.5], [0.45, 0.6]])
    assert verdicts(claims) == [True, True, True, True]
    assert verdicts(claims[::-1])[0] is False, "it falls"
    assert verdicts(claims[:, ::-1])[1:3] == [False, False], "the last layer first, and lowest"
    assert verdicts(claims, -claims)[3] is False, "the surrogate falls"
    assert verdicts(claims, 0 * claims)[3] is False, "the surrogate stays"
    falling = np.array([[0.9, 0.95], [0.3, 0.9], [0.2, 0.3]])
    assert verdicts(falling)[2] is False, "they lose it in sequence"


def test_half_of_the_gain_is_interpolated():
    curves = np.array([[0.0, 0.0], [0.2, 0.5], [0.6, 0.9], [1.0, 1.0]])[None]
    half = fig04._half_gain_epoch(curves, np.array([0, 10, 20, 30]))
    np.testing.assert_allclose(half, [[17.5, 10]])


def test_folders_differ_by_configuration(tmp_path):
    a, b = fig04.PRESETS["smoke"], fig04.PRESETS["default"]
    folders = {folder_of(tmp_path, "fig04", "smoke", config) for config in (a, b, a)}
    assert len(folders) == 2


def test_unknown_names():
    with pytest.raises(ValueError, match="name is 'fig99': wanted one of fig01_swissroll"):
        find("fig99")
    with pytest.raises(ValueError, match="name is 'fig'"):
        find("fig")
    with pytest.raises(ValueError, match="preset is 'huge': wanted one of smoke, default, paper"):
        preset_of(find("fig04")[1], "huge")


def test_unfinished_run(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_result("fig04_target_linearity", fig04.PRESETS["smoke"], tmp_path)


def test_command_line(smoke, capsys, tmp_path):
    folder, _ = smoke
    command.main([])
    assert "fig09_target_linearity_adam" in capsys.readouterr().out
    command.main(["run", "fig04", "--preset", "smoke", "--folder", str(folder)])
    printed = capsys.readouterr().out
    assert "finished before" in printed and "ordered by depth" in printed
    (folder / "figure.png").unlink()
    command.main(["plot", "fig04", "--preset", "smoke", "--folder", str(folder)])
    assert (folder / "figure.png").exists()
    for arguments, message in (
        (["run", "fig77"], "name is 'fig77'"),
        (["run", "fig04", "--preset", "none"], "preset is 'none'"),
        (["run", "fig04", "--dataset", "imagenet", "--runs", str(tmp_path)], "imagenet"),
        (["plot", "fig04", "--runs", str(tmp_path)], "run the experiment to its end"),
        (
            ["run", "fig04", "--dataset", "cifar10", "--data-dir", str(tmp_path)]
            + ["--runs", str(tmp_path)],
            "data_dir",
        ),
    ):
        with pytest.raises(SystemExit, match=message):
            command.main(arguments)
    with pytest.raises(SystemExit):
        command.main(["dance"])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        command.main(["run", "fig04", "--help"])
    assert "--learning-rate" in capsys.readouterr().out


def test_configurations_that_cannot_run():
    for name, value in (("epochs", 0), ("depth", 1), ("measurements", 1), ("seeds", 0)):
        with pytest.raises(ValueError, match=f"{name} is {value}: wanted at least"):
            dataclasses.replace(fig04.PRESETS["smoke"], **{name: value})
