"""The notebooks run, define nothing, and their .ipynb are their texts with small outputs."""

import ast
import re
import tomllib
from pathlib import Path

import jupytext
import nbformat
import pytest
from executing import ROOT, TEXTS, executed, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
OLDEST = next(d.removeprefix("jax>=") for d in PROJECT["dependencies"] if d.startswith("jax>="))
TEXT = next((p for p in (ROOT.parent / "shared/text", Path("/none")) if p.is_dir()), None)
by_name = pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)


def code(text):
    return [cell.source for cell in jupytext.read(text).cells if cell.cell_type == "code"]


@by_name
def test_a_notebook_is_its_text_executed(text):
    book = nbformat.read(text.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(book)
    assert sources(book) == sources(jupytext.read(text))
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    assert "error" not in {output.output_type for output in outputs}
    assert text.stem.startswith("measure") or any("image/png" in o.get("data", {}) for o in outputs)
    assert text.with_suffix(".ipynb").stat().st_size < 300_000


@by_name
def test_a_notebook_defines_nothing(text):
    tree = ast.parse(text.read_text())
    kinds = ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef
    assert not [node for node in ast.walk(tree) if isinstance(node, kinds)]


@by_name
def test_a_notebook_uses_the_devices_that_it_finds(text):
    """Experiments and measurements are given the mesh; a training loop's batches lie on it."""
    calls = [
        ast.unparse(n) for n in ast.walk(ast.parse(text.read_text())) if isinstance(n, ast.Call)
    ]
    work = [c for c in calls if c.startswith(("experiment.run(", "measure(", "NamedSharding("))]
    assert work and all("mesh=mesh" in c or c.startswith("NamedSharding(mesh, ") for c in work)


@by_name
def test_a_notebook_opens_in_colab_and_installs_itself(text):
    path = REPOSITORY.removeprefix("https://github.com/")
    first, *_ = jupytext.read(text).cells
    assert f"/github/{path}/blob/main/notebooks/{text.stem}.ipynb)" in first.source
    setup = code(text)[0]
    others = {re.sub(r"needed = \[.*?\]\n", "", code(t)[0], flags=re.DOTALL) for t in TEXTS}
    assert len(others) == 1 and f"@ git+{REPOSITORY}" in setup
    assert f"older than {OLDEST}: " in setup
    links = re.findall(rf"{REPOSITORY}/blob/main/([^)#]+)", text.read_text())
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.runs
@by_name
def test_a_kernel_executes_a_notebook(text, monkeypatch):
    """Without the text that figure 11 reads, its notebook says where to get it."""
    if TEXT:
        monkeypatch.setenv("GRAMLIN_DATA_DIR", str(TEXT))
    book, kept = executed(text), nbformat.read(text.with_suffix(".ipynb"), as_version=4)
    kinds = [[o.output_type for c in b.cells for o in c.get("outputs", ())] for b in (book, kept)]
    assert kinds[0] == kinds[1] or (text.stem.startswith("fig11") and not TEXT)
