"""Dataset and one_hot: what they give, and what they refuse."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from gramlin_jax.data import Dataset, one_hot

IMAGES = np.linspace(0, 1, 6 * 2 * 2, dtype=np.float32).reshape(6, 2, 2, 1)
LABELS = np.array([0, 1, 2, 2, 1, 0], np.int32)


def make(x=IMAGES, y=LABELS, num_classes=3):
    return Dataset(x, y, num_classes, name="toy", split="train", source="made here")


def test_labels():
    data = make()
    assert len(data) == 6
    assert data.flat.shape == (6, 4)
    assert np.shares_memory(data.flat, IMAGES)
    assert data.targets.dtype == np.float32
    np.testing.assert_array_equal(data.targets, np.eye(3)[LABELS])


def test_regression():
    y = np.ones((6, 2), np.float32)
    data = make(y=y, num_classes=None)
    assert data.targets is y


@pytest.mark.parametrize("n", [1, 4, 6])
def test_take(n):
    part = make().take(n)
    np.testing.assert_array_equal(part.x, IMAGES[:n])
    np.testing.assert_array_equal(part.y, LABELS[:n])
    assert dataclasses.replace(part, x=IMAGES, y=LABELS).name == "toy"


@pytest.mark.parametrize("n", [-1, 0, 7, 2.0])
def test_take_refuses(n):
    with pytest.raises(ValueError, match=rf"n is {n}: wanted 1 to 6, the samples of toy train"):
        make().take(n)


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().name = "other"  # type: ignore[misc]


def test_repr_is_one_line():
    assert repr(make()) == (
        "Dataset(toy train: x (6, 2, 2, 1) float32, y (6,) int32, 3 classes; made here)"
    )
    assert "regression" in repr(make(y=IMAGES[:, 0, 0], num_classes=None))


def with_value(value):
    x = IMAGES.copy()
    x[4, 1, 0, 0] = value
    return x


REFUSED = {
    "fewer labels": ({"y": LABELS[:5]}, "x has 6 samples and y has 5: wanted the same number"),
    "no samples": ({"x": IMAGES[:0]}, "x has shape (0, 2, 2, 1): wanted at least one sample"),
    "a list": ({"x": [[1.0]]}, "x is a list: wanted an array; use np.asarray"),
    "a list of labels": ({"y": [0, 1, 2, 0, 1, 2]}, "y is a list: wanted an array"),
    "no features": ({"x": IMAGES[:, 0, 0, 0]}, "x has shape (6,): wanted at least one"),
    "bytes": ({"x": np.zeros((6, 3), np.uint8)}, "x has dtype uint8: wanted floating point"),
    "nan": ({"x": with_value(np.nan)}, "x has the value nan at index (4, 1, 0, 0): wanted finite"),
    "infinite": ({"x": with_value(-np.inf)}, "x has the value -inf at index (4, 1, 0, 0)"),
    "float labels": (
        {"y": LABELS * 1.0},
        "y has dtype float64: wanted integer labels; use y.astype",
    ),
    "boolean labels": ({"y": LABELS > 0}, "y has dtype bool: wanted integer labels"),
    "one-hot labels": ({"y": np.eye(6, dtype=int)}, "use y.argmax(axis=1) on one-hot rows"),
    "label too large": ({"num_classes": 2}, "y has the value 2 at index 2: wanted 0 to 1"),
    "label negative": (
        {"y": LABELS - 1},
        "y has the value -1 at index 0: wanted 0 to 2; renumber",
    ),
    "no classes": ({"num_classes": 0}, "num_classes is 0: wanted at least 1, or None"),
    "labels as regression": (
        {"y": LABELS[:, None], "num_classes": None},
        "y has dtype int32: wanted floating point; use y.astype('float32') "
        "(divide pixels by 255), or num_classes for integer labels",
    ),
    "infinite target": (
        {"y": np.full((6, 1), np.inf), "num_classes": None},
        "y has the value inf at index (0, 0)",
    ),
    "images as targets": (
        {"y": IMAGES, "num_classes": None},
        "y has shape (6, 2, 2, 1): wanted regression targets (n, k); use y[:, None]",
    ),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**fields)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_one_hot(dtype):
    out = one_hot(np.array([2, 0], dtype), 3)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, [[0, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        (np.array([0.0, 1.0]), 2, "labels has dtype float64: wanted integer labels"),
        (np.array([0, 3, 1, 4]), 3, "labels has the value 3 at index 1: wanted 0 to 2; renumber"),
        (np.array([0, 1, -2]), 3, "labels has the value -2 at index 2"),
        (np.array([[0, 1]]), 3, "labels has shape (1, 2): wanted labels (n,)"),
        (np.array([0]), 0, "num_classes is 0"),
        (np.array([0, 1]), 2.5, "num_classes is 2.5: wanted at least 1"),
        ([0, 1], 2, "labels is a list: wanted an array; use np.asarray"),
    ],
)
def test_one_hot_refuses(labels, num_classes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        one_hot(labels, num_classes)
