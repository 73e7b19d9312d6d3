import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import gramlin_jax
from gramlin_jax.metrics.registry import DEFAULT, METRICS

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_have_as_many_cells_as_heads(page):
    for table in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table


RUN = ("architecture", "idea", "measure", "scaling", "watching")


@pytest.mark.docs
@pytest.mark.parametrize("page", RUN)
def test_the_python_of_a_page_runs(page):
    """Every Python block, one after another in one namespace; a title says what else it needs."""
    if page == "watching":
        pytest.importorskip("tensorboardX")
    text = (ROOT / f"docs/{page}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    namespace: dict = {"__package__": "experiments.growth"}  # which one page makes up
    for block in blocks:
        exec(block, namespace)


def test_pages_with_python_are_run():
    with_python = {p.stem for p in (ROOT / "docs").rglob("*.md") if "```python\n" in p.read_text()}
    assert with_python == {"library", *RUN}  # test_readme.py runs one


def test_the_metrics_page_is_the_registry():
    """Its table, and a paragraph of each metric."""
    text = (ROOT / "docs/metrics.md").read_text()
    for name, metric in METRICS.items():
        needs, default = ", ".join(sorted(metric.needs)), "yes" if name in DEFAULT else "–"
        ends = " to ".join(f"{end:g}".replace("inf", "∞").replace("-", "−") for end in metric.range)
        cells = f"`{name}`", metric.head, ends, metric.direction or "–", needs, default
        assert f"| {' | '.join(cells)} |" in text
        assert f"### `{name}`" in text or text.count(f"| `{name}` |") == 2, name
    rows = re.findall(r"^\| `(\w+)` .* \|$", text.partition("Two habits")[0], re.MULTILINE)
    assert rows == list(METRICS)


PUBLIC = (
    "gramlin_jax",
    *(f"gramlin_jax.{n}" for n in ("data", "models", "models.bert", "training", "metrics")),
    *(f"gramlin_jax.{n}" for n in ("optim", "loggers", "rainbow", "deep_linear")),
)


def test_every_public_name_is_in_the_api():
    """Under the shortest path that it has; once."""
    shown = [
        name
        for page in (ROOT / "docs/api").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
    ]
    assert len(shown) == len(set(shown))
    objects = [_named(name) for name in shown]
    for owner in PUBLIC:
        module = importlib.import_module(owner)
        for name in getattr(module, "__all__", _own(module)):
            value = getattr(module, name)
            path = f"{owner}.{name}"
            assert path in shown or any(value is other for other in objects), path
    assert set(gramlin_jax.__all__) <= {name.rpartition(".")[2] for name in shown}


def _named(path):
    owner, _, name = path.rpartition(".")
    return getattr(importlib.import_module(owner), name)


def _own(module):
    """The public functions and classes that a module without ``__all__`` defines."""
    return [
        name
        for name, value in vars(module).items()
        if name[0] != "_"
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


def test_links_to_the_repository_are_those_of_pyproject():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    path = urls["Repository"].removeprefix("https://github.com/")
    pages = [ROOT / "mkdocs.yml", *(ROOT / "docs").rglob("*.md")]
    found = [
        link
        for page in pages
        for link in re.findall(
            r"https://(?:github|colab.research.google)\.com/\S+?(?=[)\s])", page.read_text()
        )
    ]
    assert found
    assert not [link for link in found if f"/{path}" not in link]


def test_the_tree_names_files_that_exist():
    tree = (ROOT / "docs/architecture.md").read_text().split("```")[1]
    folders, missing = [], []
    for line in tree.splitlines():
        names = re.match(r"( *)((?:[\w]+(?:\.py|/) *)+)", line)
        if names is None:
            continue
        depth = len(names[1]) // 2
        for name in names[2].split():
            path = "".join([*folders[:depth], name])
            if not (ROOT / path).exists():
                missing.append(path)
        folders = [*folders[:depth], names[2].split()[0]]
    assert not missing
