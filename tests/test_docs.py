import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_have_as_many_cells_as_heads(page):
    for table in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table


@pytest.mark.parametrize("page", ("architecture", pytest.param("watching", marks=pytest.mark.runs)))
def test_the_python_of_a_page_runs(page):
    """Every Python block, one after another in one namespace."""
    if page == "watching":
        pytest.importorskip("tensorboardX")
    text = (ROOT / f"docs/{page}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    namespace: dict = {"__package__": "experiments.growth"}  # which one page makes up
    for block in blocks:
        exec(block, namespace)


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
