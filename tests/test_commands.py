"""The command line."""

import csv
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__ as command
from experiments.commands.options import read, settings_of
from experiments.commands.place import read_place
from experiments.registry import EXPERIMENTS, find
from experiments.shared.threads import one_blas_thread

pytestmark = pytest.mark.runs

ROOT = Path(__file__).parents[1]
OLD_RUN = Path(__file__).parent / "golden" / "run_without_labels"


@pytest.fixture
def old_folder(tmp_path):
    folder = tmp_path / "fig04_target_linearity" / "smoke-d1f56a68"
    shutil.copytree(OLD_RUN, folder)
    return folder


def test_run_and_plot(old_folder, capsys):
    command.main(["run", "fig04", "--preset", "smoke", "--folder", str(old_folder)])
    printed = capsys.readouterr().out
    assert printed.startswith("fig04_target_linearity: finished before")
    assert "finished before" in printed and "no verdicts: a run as short as" in printed
    assert not any(verdict in printed for verdict in ("[holds]", "[FAILS]", "[undecided]"))
    (old_folder / "figure.png").unlink()
    command.main(["plot", "fig04", "--preset", "smoke", "--folder", str(old_folder)])
    assert (old_folder / "figure.png").exists()


def test_help_names_the_experiments_and_not_the_script(capsys):
    for arguments in (["run", "--help"], ["run", "fig04", "-h"], ["--help"], ["list", "-h"]):
        with pytest.raises(SystemExit) if len(arguments) > 1 else pytest.MonkeyPatch.context():
            command.main(arguments)
        printed = capsys.readouterr().out
        assert "__main__" not in printed and "python -m experiments" in printed
        if arguments[:2] == ["run", "--help"]:
            assert all(e.name in printed and e.title in printed for e in EXPERIMENTS)
    assert all(name in command._usage() for name in command.COMMANDS)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_every_setting_has_an_option_with_a_meaning(experiment):
    """Without options the settings are the preset's."""
    for name, preset in experiment.presets.items():
        settings = settings_of(preset)
        for setting, kind, _ in settings:
            (meaning,) = (part.help for part in kind.__metadata__)
            assert meaning, setting
        form = dataclasses.make_dataclass("Form", settings)
        assert dataclasses.asdict(read(form, [], name, "")) == dataclasses.asdict(preset)


def test_options_become_settings():
    place = read_place(
        ["fig02", "--learning_rates", "0.1", "1e-2", "--no-complement", "--width=8"]
        + ["--network", "cnn", "--folder", "there"],
        "run",
        "",
    )
    config, default = place.config, find("fig02").preset("default")
    assert config.learning_rates == (0.1, 0.01) and config.complement is False
    assert (config.width, config.network, config.depth) == (8, "cnn", default.depth)
    assert place.folder == Path("there") and place.preset == "default"


RUN = ["run", "fig04"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dance"], "command is 'dance': wanted one of list, run"),
        (["lst"], "did you mean list"),
        (["run"], "name is absent: wanted one of fig01_swissroll"),
        (["run", "--preset", "smoke"], "name is absent: wanted one of"),
        (["run", "fig77"], "name is 'fig77': wanted one of fig01_swissroll"),
        ([*RUN, "--preset", "none"], "preset is 'none'"),
        ([*RUN, "--dataset", "imagenet"], "dataset is 'imagenet': wanted one of digits, mnist"),
        ([*RUN, "--dataset", "sst2"], "dataset is 'sst2': wanted one of digits, mnist"),
        (["plot", "fig04"], "run the experiment to its end"),
        (["list", "fig04"], "Unrecognized options: fig04"),
        ([*RUN, "fig05"], "Unrecognized options: fig05"),
        ([*RUN, "--epochs", str(10**12)], "epochs is 1000000000000: wanted at most"),
        (
            [*RUN, "--epochs", "10**12"],
            r"--epochs: invalid literal for int\(\) with base 10: '10\*\*12'",
        ),
        ([*RUN, "--learning-rate", "fast"], "--learning-rate: could not convert .* float: 'fast'"),
        ([*RUN, "--activation", "tanh"], "'tanh' for argument '--activation'. Expected one of"),
        ([*RUN, "--wdth", "3"], "options: --wdth, 3 Perhaps you meant: --width INT"),
        ([*RUN, "--width"], "Missing value for argument '--width'"),
        ([*RUN, "--devices", "9"], "devices is 9: wanted 0 to 8, as many as JAX finds"),
        (["run", "fig09", "--width", "-3"], "width is -3: wanted at least 1"),
        ([*RUN, "--learning-rate", "1e309"], "learning_rate is inf: wanted a finite"),
        ([*RUN, "--momentum", "1.5"], "momentum is 1.5: wanted 0 or more, below 1"),
        ([*RUN, "--dataset", "cifar10", "--data-dir", "nowhere"], "data_dir"),
        (["measure"], "Missing from .* FILE:FUNCTION"),
        (["measure", "model.py"], "FILE:FUNCTION is 'model.py': wanted a file and a function"),
        (["measure", "absent.py:f"], "FILE is absent.py, which does not exist"),
    ],
)
def test_errors_of_the_user_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message) as error:
        command.main(arguments)
    assert error.value.code.startswith("error: ")
    assert "\n" not in error.value.code or "data_dir" in message  # that says how to get the data
    assert not capsys.readouterr().err
    assert not any(tmp_path.rglob("config.json")), "a run that did not begin leaves nothing"


def test_listing_is_light():
    code = (
        "import sys; from experiments.__main__ import main; main(['list']);"
        "print(*(name for name in ('jax', 'numpy', 'pandas') if name in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    lines = run.stdout.splitlines()
    assert lines[-1] == "" and all(line.split()[0] for line in lines[:-2])
    assert [line.split()[0] for line in lines[:-2]] == [e.name for e in EXPERIMENTS]


def test_a_reader_who_leaves_ends_it_quietly():
    line = f"{sys.executable} -m experiments list | true"
    run = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert (run.stdout, run.stderr) == ("", "")


MODEL = """
import jax.numpy as jnp
from beside import loss

def network():
    x = jnp.linspace(-1, 1, 60).reshape(20, 3)
    params = {"in": jnp.linspace(-1, 1, 12).reshape(3, 4), "out": jnp.ones((4, 2))}
    f = lambda params, x: jnp.tanh(x @ params["in"]) @ params["out"]
    return {"f": f, "params": params, "batches": (x, jnp.arange(20) % 2), "loss": loss}

def wrong():
    return 3

def broken():
    raise RuntimeError("mine")

def more():
    return {**network(), "speed": 3}

def dry():
    return {**network(), "dry_run": True}

def kind():
    return {**network(), "learning_rate": "fast"}

def refused(out, y):
    raise ValueError("mine")

def raising():
    return {**network(), "loss": refused}

def bug():
    return {**network(), "loss": lambda out, y: len(3)}
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "beside.py").write_text("loss = lambda out, y: ((out[:, 0] - y) ** 2).mean()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("model", "beside"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_measure_prints_and_writes_what_measure_gives(model, capsys):
    from gramlin_jax import Measurement, measure

    paths = {name: model / "out" / f"table.{name}" for name in ("csv", "html")}
    options = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    options += ["--metrics", "target_linearity", "noise_floor", "--layers", "out", "--coverage"]
    target = f"{model}/model.py:network"
    command.main(["measure", target, "--save", str(model / "m"), *options])
    printed = capsys.readouterr().out
    import model as module

    names = ("target_linearity", "noise_floor")
    wanted = measure(**module.network(), metrics=names, layers=["out"])
    assert printed == f"{wanted}\n{wanted.coverage}\n"
    (row,) = csv.DictReader(paths["csv"].read_text().splitlines())
    assert row.pop("layer") == "out"
    assert {name: float(value) for name, value in row.items()} == wanted["out"]
    assert wanted._repr_html_() in paths["html"].read_text()
    assert Measurement.load(model / "m").table() == wanted.table()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("absent", "FUNCTION is 'absent': wanted a function that"),
        ("wrong", "returns int: wanted a dictionary"),
        ("more", "speed is no argument of measure: wanted f, params"),
        ("broken", "raised what stands above"),
    ],
)
def test_measure_refuses_other_functions(model, function, message, capsys):
    with pytest.raises(SystemExit, match=message):
        command.main(["measure", f"{model}/model.py:{function}"])
    assert ("RuntimeError: mine" in capsys.readouterr().err) == (function == "broken")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["network", "--batch-size", "0"], "error: batch_size is 0: wanted at least 1"),
        (["kind"], "error: learning_rate is a str, 'fast': wanted a number"),
        (["raising"], r"error: mine; loss was called with output: float32 \(20, 2\); y: int32"),
        *((["dry", f"--{name}", "a"], f"error: --{name} is given") for name in ("csv", "html")),
        (["dry", "--save", "a"], "error: --save is given where .*:dry returns dry_run=True"),
        (["dry", "--coverage"], "error: --coverage is given"),
    ],
)
def test_measure_says_in_one_line_what_is_wrong(model, words, message):
    function, *options = words
    with pytest.raises(SystemExit, match=f"^{message}"):
        command.main(["measure", f"{model}/model.py:{function}", *options])


def test_a_dry_run_prints_its_forecast_and_bugs_of_the_user_their_traceback(model, capsys):
    command.main(["measure", f"{model}/model.py:dry"])
    assert "3×4" in capsys.readouterr().out
    with pytest.raises(TypeError, match=r"object of type 'int' has no len\(\)"):
        command.main(["measure", f"{model}/model.py:bug"])


def test_blas_has_one_thread_unless_the_user_says_otherwise(monkeypatch):
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads():
        return {
            lib["num_threads"]
            for lib in threadpoolctl.threadpool_info()
            if lib["user_api"] == "blas"
        }

    for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with threadpoolctl.threadpool_limits(limits=2, user_api="blas"):
        with one_blas_thread():
            assert threads() == {1}
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        with one_blas_thread():
            assert threads() == {2}
