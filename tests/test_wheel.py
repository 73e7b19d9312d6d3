"""The wheel, installed into empty environments outside of the checkout."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from experiments.registry import EXPERIMENTS

pytestmark = pytest.mark.wheel
ROOT = Path(__file__).parents[1]


def run(folder, *words, fails=False):
    """What a command prints, in an environment without variables that lead to this checkout."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=kept, capture_output=True, text=True
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(folder, sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An empty folder, and the programs of an environment with the wheel and no extra."""
    folder = tmp_path_factory.mktemp("user")
    venv.create(folder / "env", with_pip=True)
    programs = folder / "env" / "bin"
    constraints = ["--constraint", ROOT / "constraints.txt"]
    run(folder, programs / "python", "-m", "pip", "install", "--quiet", *constraints, wheel)
    return folder, programs


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2 and {top.split("-")[0] for top in tops} == {"gramlin_jax"}
    of_files = {
        f"gramlin_jax/experiments/{path.relative_to(ROOT / 'experiments')}"
        for path in (ROOT / "experiments").rglob("*")
        if path.is_file() and path.suffix in (".py", ".css", ".js", ".html")
    }
    assert of_files < set(names) and "gramlin_jax/py.typed" in names


def test_without_extras_it_measures_and_lists(installed):
    folder, programs = installed
    listed = run(folder, programs / "gramlin", "list")
    assert [line.split()[0] for line in listed.splitlines()[:-1]] == [e.name for e in EXPERIMENTS]
    assert listed == run(folder, programs / "python", "-m", "gramlin_jax.experiments", "list")
    (folder / "model.py").write_text(
        "import jax.numpy as jnp\n"
        "def mine():\n"
        "    x = jnp.linspace(-1, 1, 60).reshape(20, 3)\n"
        "    loss = lambda out, y: ((out - y) ** 2).mean()\n"
        "    data = {'params': jnp.ones((3, 1)), 'batches': (x, x[:, :1])}\n"
        "    return {'f': lambda p, x: x @ p, 'loss': loss, **data}\n"
    )
    printed = run(folder, programs / "gramlin", "measure", "model.py:mine")
    assert "3 → 1" in printed and "20 samples" in printed
    refused = run(folder, programs / "gramlin", "run", "fig04", fails=True)
    assert refused.splitlines()[-1].startswith("error: ")
    assert "pip install 'gramlin-jax[" in refused and "Traceback" not in refused
    for name in ("experiments", "tests", "benchmarks"):
        assert f"No module named '{name}'" in run(
            folder, programs / "python", "-c", f"import {name}", fails=True
        )


def test_with_figures_it_carries_out_an_experiment(wheel, installed):
    folder, programs = installed
    constraints = ["--constraint", ROOT / "constraints.txt"]
    pip = [programs / "python", "-m", "pip", "install", "--quiet", *constraints]
    run(folder, *pip, f"{wheel}[figures]")
    printed = run(folder, programs / "gramlin", "run", "fig04", "--preset", "smoke")
    assert "target_linearity" in printed
    (made,) = (folder / "runs" / "fig04_target_linearity").iterdir()
    assert {"figure.png", "result.npz", "summary.json"} <= {path.name for path in made.iterdir()}
    assert "gallery of 1 run:" in run(folder, programs / "gramlin", "gallery")


def test_an_editable_install_finds_the_experiments_by_their_own_name(installed, tmp_path):
    folder, programs = installed
    install = [programs / "python", "-m", "pip", "install", "--quiet"]
    run(folder, *install, "--constraint", ROOT / "constraints.txt", "--editable", ROOT)
    assert "fig04" in run(tmp_path, programs / "gramlin", "list")
    place = "import gramlin_jax.experiments as e; print(e.__path__[0])"
    assert str(ROOT) in run(tmp_path, programs / "python", "-c", place)
    assert "No module" in run(tmp_path, programs / "python", "-c", "import experiments", fails=True)
