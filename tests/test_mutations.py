"""The table of mutations fits the sources; ``make mutations`` tries them."""

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("table", ROOT / "tests/mutations/table.py")
table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(table)


def test_each_mutation_changes_one_place():
    assert table.misplaced(ROOT) == []
    names = [mutation.name for mutation in table.MUTATIONS]
    assert len(set(names)) == len(names) >= 150


@pytest.mark.parametrize("mutation", table.MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_is_python_and_names_its_tests(mutation):
    changed = (ROOT / mutation.file).read_text().replace(mutation.old, mutation.new)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse((ROOT / mutation.file).read_text()))
    files, *_ = mutation.tests.split(" -k ")
    assert all((ROOT / name).exists() for name in files.split())
