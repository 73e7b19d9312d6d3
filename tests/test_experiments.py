"""The registry, run folders, and which file may import which."""

import ast
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import experiments
from experiments import __main__ as command
from experiments import runs, target_linearity
from experiments.registry import EXPERIMENTS, PRESETS, find
from experiments.runs import folder_of, perform, read_result
from experiments.shared.results import settings, unlabelled

ROOT = Path(experiments.__file__).parent
OLD_RUN = Path(__file__).parent / "golden" / "run_without_labels"
NAME = "fig04_target_linearity"
SMOKE = target_linearity.PRESETS["smoke"]


@pytest.fixture
def old_folder(tmp_path):
    """A run folder of figure 4 as versions without labels wrote it, where they wrote it."""
    folder = tmp_path / NAME / "smoke-d1f56a68"
    shutil.copytree(OLD_RUN, folder)
    return folder


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_every_experiment_keeps_the_protocol(experiment):
    assert find(experiment.name[:5]) == experiment
    assert set(experiment.presets) >= set(PRESETS)
    for config in experiment.presets.values():
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.seeds = 1
    family = experiment.module()
    assert family.__doc__ and set(family.RUNS) <= set(sum(family.DIMENSIONS.values(), ()))
    for part, verbs in (
        (experiment.module("compute"), ["run"]),
        (experiment.shown("claims"), ["check", "table"]),
        (experiment.shown("draw"), ["plot"]),
    ):
        assert all(callable(getattr(part, verb)) for verb in verbs)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("fig01_swissroll", "smoke-60fb0580"),
        ("fig02_gram_whitening", "smoke-382960d9"),
        ("fig04_target_linearity", "smoke-d1f56a68"),
        ("fig05_vae_interpolation", "smoke-f73262ac"),
        ("fig06_gram_whitening_cnn", "smoke-0b4b956f"),
        ("fig08_staircase", "smoke-743f76d1"),
        ("fig09_target_linearity_adam", "smoke-6404de2f"),
        ("fig10_vae_target_linearity", "smoke-f73262ac"),
        ("fig12_random_labels", "smoke-9e775956"),
        ("fig13_grokking", "smoke-92d90c00"),
        ("neural_collapse", "smoke-874a36ce"),
    ],
)
def test_run_folders_of_before_are_found(name, folder):
    config = find(name).preset("smoke")
    assert folder_of("runs", name, "smoke", config) == Path("runs", name, folder)


def test_a_setting_that_came_later_names_a_run_where_it_is_another():
    smoke = find("neural_collapse").preset("smoke")
    other = dataclasses.replace(smoke, network="cnn")
    assert "network" not in settings(smoke) and settings(other)["network"] == "cnn"
    assert {**settings(other), "network": "dnn"} == dataclasses.asdict(smoke)
    folders = {folder_of("runs", "neural_collapse", "smoke", c) for c in (smoke, other)}
    assert len(folders) == 2


def test_a_result_without_labels_is_read(old_folder):
    before = {path.name: path.read_bytes() for path in old_folder.iterdir()}
    assert folder_of(old_folder.parent.parent, NAME, "smoke", SMOKE) == old_folder
    result = read_result(NAME, SMOKE, old_folder)
    with np.load(old_folder / "result.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "info"}
    assert "labels" not in arrays and unlabelled(result.data).keys() == arrays.keys()
    for name, values in unlabelled(result.data).items():
        assert values.dtype == arrays[name].dtype
        np.testing.assert_array_equal(values, arrays[name])
    linearity = result.data["target_linearity"].sel(seed=1, epoch=4, layer=3)
    assert linearity == arrays["target_linearity"][1, 2, 2]
    _, done = perform(NAME, SMOKE, old_folder)
    assert done and (old_folder / "figure.png").exists(), "what is missing is drawn"
    assert {name: (old_folder / name).read_bytes() for name in ("config.json", "result.npz")} == {
        name: before[name] for name in ("config.json", "result.npz")
    }


def test_labels_are_kept_in_the_file(old_folder, tmp_path, monkeypatch):
    """With them a result is read whatever the table of its family says."""
    result = read_result(NAME, SMOKE, old_folder)
    runs.write_result(old_folder / "result.npz", result.data, result.info)
    monkeypatch.setattr(target_linearity, "DIMENSIONS", {})
    again = read_result(NAME, SMOKE, old_folder)
    assert again.data.identical(result.data) and again.info == result.info


def test_a_second_run_reads_the_first(old_folder):
    perform(NAME, SMOKE, old_folder)
    before = [(old_folder / n).stat().st_mtime_ns for n in ("result.npz", "figure.png")]
    _, done = perform(NAME, SMOKE, old_folder)
    assert done
    assert [(old_folder / n).stat().st_mtime_ns for n in ("result.npz", "figure.png")] == before


def test_a_folder_of_another_configuration_is_left_alone(old_folder):
    other = dataclasses.replace(SMOKE, seeds=3)
    with pytest.raises(ValueError, match="another configuration: its seeds is 2, wanted 3"):
        perform(NAME, other, old_folder)
    with pytest.raises(ValueError, match="its experiment is fig04"):
        perform("fig09_target_linearity_adam", SMOKE, old_folder)
    with pytest.raises(SystemExit, match="another configuration"):
        command.main(["plot", "fig09", "--preset", "smoke", "--folder", str(old_folder)])
    assert sorted(path.name for path in old_folder.iterdir()) == ["config.json", "result.npz"]


def test_a_truncated_result_is_named_and_left_alone(old_folder):
    path = old_folder / "result.npz"
    cut = path.read_bytes()[:1000]
    path.write_bytes(cut)
    with pytest.raises(ValueError, match="result.npz is truncated or damaged"):
        perform(NAME, SMOKE, old_folder)
    assert path.read_bytes() == cut


def test_folders_differ_by_configuration(tmp_path):
    a, b = SMOKE, target_linearity.PRESETS["default"]
    folders = {folder_of(tmp_path, "fig04", "smoke", config) for config in (a, b, a)}
    assert len(folders) == 2


def test_unknown_names():
    with pytest.raises(ValueError, match="name is 'fig99': wanted one of fig01_swissroll"):
        find("fig99")
    with pytest.raises(ValueError, match="name is 'fig'"):
        find("fig")
    with pytest.raises(ValueError, match="preset is 'huge': wanted one of smoke, default, paper"):
        find("fig04").preset("huge")


def test_unfinished_run(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_result(NAME, SMOKE, tmp_path)


def imports(path):
    """Names of the modules that a file imports."""
    package = ["experiments", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_the_experiments_import_each_other_by_relative_names():
    """So that the folder works as ``experiments`` and as ``gramlin_jax.experiments``."""
    for path in ROOT.glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("experiments") for alias in node.names), path
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert not f"{node.module}.".startswith("experiments."), path


FAMILIES = {experiment.package for experiment in EXPERIMENTS}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*/**/*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_which_file_may_import_which(path):
    home, found = path.relative_to(ROOT).parts[0], set(imports(path))
    assert home in FAMILIES | {"shared", "commands", "gallery"}
    for other in FAMILIES - {home}:
        assert not any(f"{name}.".startswith(f"experiments.{other}.") for name in found)
    tops = {name.split(".")[0] for name in found}
    if path.stem in ("claims", "draw", "text", "statistics", "drawing", "row"):
        assert not tops & {"jax", "flax", "optax", "gramlin_jax"}
        assert not any(name.startswith(f"experiments.{home}.compute") for name in found)
    if path.stem not in ("draw", "drawing", "row"):
        assert "matplotlib" not in tops
        assert not any(name.split(".")[-1] in ("draw", "drawing") for name in found)


def test_training_calls_fit_in_one_place():
    files = ROOT.glob("**/*.py")
    users = [p.relative_to(ROOT) for p in files if "gramlin_jax.training.fit" in {*imports(p)}]
    assert users == [Path("shared/training.py")]
