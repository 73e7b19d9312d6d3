"""load: names, splits, the embedded digits, and what is imported when."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from gramlin_jax.data import DATASETS, load


@pytest.mark.parametrize(("split", "n"), [("train", 1437), ("test", 360)])
def test_digits(split, n):
    data = load("digits", split)
    assert data.x.shape == (n, 8, 8, 1)
    assert data.x.dtype == np.float32
    assert (data.x.min(), data.x.max()) == (0, 1)
    assert data.y.dtype == np.int32
    assert data.num_classes == 10
    assert set(data.y) == set(range(10))
    assert (data.name, data.split) == ("digits", split)
    assert "scikit-learn" in data.source


def test_digits_splits_partition_the_embedded_set():
    from sklearn.datasets import load_digits

    embedded = load_digits()
    both = [load("digits", split) for split in ("train", "test")]
    rows = np.concatenate([np.column_stack([part.flat * 16, part.y]) for part in both])
    expected = np.column_stack([embedded.data, embedded.target])
    np.testing.assert_array_equal(
        rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)].astype(np.float32)
    )


def test_digits_is_deterministic_and_mixed():
    first, second = load("digits"), load("digits")
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.y, second.y)
    assert first.y[:10].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5]


@pytest.mark.parametrize(
    ("name", "near"), [("cifar-10", "cifar10"), ("MNIST", "mnist"), ("svhn", "svhn_cropped")]
)
def test_unknown_name_suggests_the_nearest(name, near):
    with pytest.raises(
        ValueError, match=f"name is '{name}': wanted .*did you mean '{near}'"
    ) as caught:
        load(name)
    assert all(known in str(caught.value) for known in DATASETS)


def test_unknown_name_without_a_near_one():
    with pytest.raises(ValueError, match="name is 'zzz': wanted one of digits, mnist"):
        load("zzz")


@pytest.mark.parametrize("name", ["digits", "mnist"])
@pytest.mark.parametrize("split", ["valid", "train[:10]", ""])
def test_unknown_split(name, split):
    with pytest.raises(ValueError, match="split is .*: wanted 'train' or 'test'; use take"):
        load(name, split)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"sklearn.*pip install 'gramlin-jax\[figures\]'"):
        load("digits")


def test_extras_are_imported_only_when_used():
    code = (
        "import sys, gramlin_jax.data; "
        "print([m for m in ('tensorflow_datasets', 'array_record', 'sklearn', 'tensorflow') "
        "if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
