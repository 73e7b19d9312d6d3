"""A data set in memory: arrays with what is needed to read them."""

from __future__ import annotations

import dataclasses

import numpy as np


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels as indicator rows: out[i, c] = 1 if labels[i] = c, else 0.

    Args:
        labels: (n,) integers in [0, C).
        num_classes: C.

    Returns:
        (n, C) float32.

    Raises:
        ValueError: If labels are not integers of shape (n,), or one is out of range.
    """
    _check_labels("labels", labels, num_classes)
    return (labels[:, None] == np.arange(num_classes)).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Samples and targets of one split.

    Attributes:
        x: (n, ...) floating point and finite, float32 from every function here; images are
            (n, height, width, channels) in [0, 1].
        y: (n,) integer labels in [0, C), or (n, k) floating-point regression targets.
        num_classes: C, or None for regression.
        name: What the data set is called.
        split: Which part of it this is.
        source: Where the numbers came from, in one line.

    Raises:
        ValueError: If a field breaks one of these rules.
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
                    f"y has shape {self.y.shape}: regression targets are (n, k); "
                    "use y[:, None] for one target, or pass num_classes for labels"
                )
        else:
            _check_labels("y", self.y, self.num_classes)
        if len(self.x) != len(self.y):
            raise ValueError(
                f"x has {len(self.x)} samples and y has {len(self.y)}: "
                "pass the same number, rows are samples"
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
        """The samples as rows: (n, features), a view of x where its memory allows."""
        return self.x.reshape(len(self), -1)

    @property
    def targets(self) -> np.ndarray:
        """What a linear read-out is fitted to: (n, C) float32 one-hot labels, or y itself."""
        return self.y if self.num_classes is None else one_hot(self.y, self.num_classes)

    def take(self, n: int) -> Dataset:
        """The first n samples, as views.

        Raises:
            ValueError: If n is below 1 or above the number of samples.
        """
        if not 1 <= n <= len(self):
            raise ValueError(
                f"n is {n}: {self.name} {self.split} has {len(self)} samples, pass 1 to {len(self)}"
            )
        return dataclasses.replace(self, x=self.x[:n], y=self.y[:n])


def _check_floats(name: str, values: np.ndarray) -> None:
    if values.ndim < 2 or values.size == 0:
        raise ValueError(
            f"{name} has shape {values.shape}: pass at least one sample and one feature, "
            "as (n, features) or (n, height, width, channels)"
        )
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(
            f"{name} has dtype {values.dtype}: pass floating point, for example "
            f"{name}.astype('float32') (divide pixels by 255); integer labels need num_classes"
        )
    # NaN survives min and max, and neither allocates an array the size of the data.
    if not np.isfinite([values.min(), values.max()]).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(
            f"{name} has the value {values[index]} at index {index}: pass finite values, "
            "drop or repair that sample"
        )


def _check_labels(name: str, labels: np.ndarray, num_classes: int) -> None:
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: pass 1 or more, or None for regression")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{name} has dtype {labels.dtype}: labels are integers, use {name}.astype('int32'), "
            "or num_classes=None for regression targets"
        )
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(
            f"{name} has shape {labels.shape}: labels are (n,) with n at least 1; "
            f"use {name}.argmax(axis=1) on one-hot rows"
        )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise ValueError(
            f"{name} has the value {labels[outside[0]]} at index {outside[0]}, outside "
            f"[0, {num_classes}): renumber the labels from 0 or raise num_classes"
        )
