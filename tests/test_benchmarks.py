"""Every benchmark runs at its tiny sizes and fills its tables; what it measures is not tested."""

import importlib

import jax
import pytest

from benchmarks.common import SIZES

pytestmark = pytest.mark.benchmark

TABLES = {"metrics": 5, "taps": 5, "sweeps": 2, "polar": 2}
TABLES |= {"vae": 3, "networks": 3, "ansatz": 3}  # else one


@pytest.mark.parametrize("name", SIZES)
def test_a_benchmark_runs_and_fills_its_tables(name, capsys, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # of the processes that it starts
    with jax.numpy_rank_promotion("allow"):
        importlib.import_module(f"benchmarks.{name}").run(**SIZES[name].quick)
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == TABLES.get(name, 1)
    for table in tables:
        title, header, *rows = table.splitlines()
        assert title and rows and all(len(row) == len(header) for row in rows), (
            "columns are aligned"
        )
        assert "nan" not in table


def test_quick_and_full_name_the_same_arguments():
    for name, sizes in SIZES.items():
        assert sizes.quick.keys() == sizes.full.keys(), name
