"""A data set in memory: arrays, and the facts needed to interpret them."""

from __future__ import annotations

import dataclasses
from numbers import Integral

import numpy as np


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """One-hot labels: out[i, c] = 1 if labels[i] = c, else 0.

    Args:
        labels: (n,) integers in [0, C).
        num_classes: C.

    Returns:
        (n, C) float32.

    Raises:
        ValueError: If labels are not integers of shape (n,), or one is out of range.

    Example:
        >>> one_hot(np.array([0, 2]), 3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    _check_labels("labels", labels, num_classes)
    return (labels[:, None] == np.arange(num_classes)).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Samples and targets of one split.

    Attributes:
        x: Inputs (n, ...), floating point and finite; every function here makes float32. Images
            are (n, height, width, channels) in [0, 1].
        y: Integer labels (n,) in [0, C), or floating-point regression targets (n, k).
        num_classes: C, or None for regression.
        name: Name of the data set.
        split: Which part of it this is.
        source: Where the numbers come from, in one line.

    Raises:
        ValueError: If a field breaks one of these rules.

    Example:
        >>> Dataset(np.ones((3, 2)), np.array([0, 1, 1]), 2, "toy", "train", "by hand")
        Dataset(toy train: x (3, 2) float64, y (3,) int64, 2 classes; by hand)
    """

    x: np.ndarray
    y: np.ndarray
    num_classes: int | None
    name: str
    split: str
    source: str

    def __post_init__(self) -> None:
        _check_floats("x", self.x)
        if self.num_classes is None:
            _check_floats("y", self.y)
            if self.y.ndim != 2:
                raise ValueError(
                    f"y has shape {self.y.shape}: wanted regression targets (n, k); "
                    "use y[:, None] for one target, or num_classes for labels"
                )
        else:
            _check_labels("y", self.y, self.num_classes)
        if len(self.x) != len(self.y):
            raise ValueError(
                f"x has {len(self.x)} samples and y has {len(self.y)}: "
                "wanted the same number, one row a sample"
            )

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        classes = "regression" if self.num_classes is None else f"{self.num_classes} classes"
        return (
            f"Dataset({self.name} {self.split}: x {self.x.shape} {self.x.dtype}, "
            f"y {self.y.shape} {self.y.dtype}, {classes}; {self.source})"
        )

    @property
    def flat(self) -> np.ndarray:
        """The inputs as rows (n, features), a view of x where its memory layout allows."""
        return self.x.reshape(len(self), -1)

    @property
    def targets(self) -> np.ndarray:
        """The targets of a linear fit: one-hot labels (n, C) float32, or y itself."""
        return self.y if self.num_classes is None else one_hot(self.y, self.num_classes)

    def take(self, n: int) -> Dataset:
        """The first n samples, as views.

        Raises:
            ValueError: If n is below 1 or above the number of samples.
        """
        if not isinstance(n, Integral) or not 1 <= n <= len(self):
            raise ValueError(
                f"n is {n}: wanted 1 to {len(self)}, the samples of {self.name} {self.split}"
            )
        return dataclasses.replace(self, x=self.x[:n], y=self.y[:n])


def _check_array(name: str, values: np.ndarray) -> None:
    if not hasattr(values, "dtype"):
        raise ValueError(f"{name} is a {type(values).__name__}: wanted an array; use np.asarray")


def _check_floats(name: str, values: np.ndarray) -> None:
    _check_array(name, values)
    if values.ndim < 2 or values.size == 0:
        raise ValueError(
            f"{name} has shape {values.shape}: wanted at least one sample and one feature, "
            "as (n, features) or (n, height, width, channels)"
        )
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(
            f"{name} has dtype {values.dtype}: wanted floating point; use "
            f"{name}.astype('float32') (divide pixels by 255), or num_classes for integer labels"
        )
    # NaN survives min and max, and neither allocates an array of the data's size.
    if not np.isfinite([values.min(), values.max()]).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(
            f"{name} has the value {values[index]} at index {index}: wanted finite values; "
            "drop or repair that sample"
        )


def _check_labels(name: str, labels: np.ndarray, num_classes: int) -> None:
    _check_array(name, labels)
    if not isinstance(num_classes, Integral) or num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: wanted at least 1, or None for regression")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{name} has dtype {labels.dtype}: wanted integer labels; use {name}.astype('int32'), "
            "or num_classes=None for regression targets"
        )
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(
            f"{name} has shape {labels.shape}: wanted labels (n,), at least one; "
            f"use {name}.argmax(axis=1) on one-hot rows"
        )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise ValueError(
            f"{name} has the value {labels[outside[0]]} at index {outside[0]}: wanted "
            f"0 to {num_classes - 1}; renumber the labels from 0 or raise num_classes"
        )
