"""Real data by name: ``load("digits")``, ``load("cifar10", "test")``, ``load("sst2")``."""

from __future__ import annotations

import difflib
import os
from typing import Literal, overload

import numpy as np

from gramlin_jax.data.dataset import Dataset
from gramlin_jax.data.text import Text
from gramlin_jax.data.text_sets import TEXTS, load_text
from gramlin_jax.data.tfds_images import TFDS_IMAGES, load_tfds_images
from gramlin_jax.support.extras import import_extra

DATASETS = ("digits", *TFDS_IMAGES)
"""Image sets that ``load`` knows; those of text are ``TEXTS``."""

_Text = Literal["sst2", "mnli", "conll2003_pos", "conll2003_ner", "ewt_pos"]

_DIGITS_TRAIN = 1437


@overload
def load(  # type: ignore[overload-overlap]
    name: _Text, split: str = ..., *, data_dir: str | os.PathLike[str] | None = ...
) -> Text: ...
@overload
def load(
    name: str, split: str = ..., *, data_dir: str | os.PathLike[str] | None = ...
) -> Dataset: ...
def load(
    name: str, split: str = "train", *, data_dir: str | os.PathLike[str] | None = None
) -> Dataset | Text:
    """A data set by name: images (n, height, width, channels) float32 in [0, 1], int32 labels.

    Text sets are a ``Text``; ``load_text`` says where they are looked for.

    ``digits`` comes with scikit-learn (1437 train, 360 test, 8×8×1, in an order permuted by a
    fixed seed). The others are read from a folder that TFDS prepared; nothing is downloaded.

    Args:
        name: One of ``DATASETS`` or ``TEXTS``.
        split: "train" or "test".
        data_dir: Folder of the TFDS data sets. None: $GRAMLIN_DATA_DIR, $TFDS_DATA_DIR and
            ~/tensorflow_datasets, in this order. ``digits`` needs none.

    Raises:
        ValueError: If the name or the split is unknown, or the data set is not in array_record
            format.
        FileNotFoundError: If the data set, or one of its files, is not found.
        OSError: If a file is damaged.
        ImportError: If a package of the extra ``data`` is not installed.

    Example:
        >>> load("digits").x.shape
        (1437, 8, 8, 1)
    """
    names = (*DATASETS, *TEXTS)
    if name not in names:
        near = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"name is {name!r}: wanted one of {', '.join(names)}{hint}")
    if split not in ("train", "test"):
        raise ValueError(
            f"split is {split!r}: wanted 'train' or 'test'; use take(n) for a part of it"
        )
    if name == "digits":
        return _load_digits(split)
    if name in TEXTS:
        return load_text(name, split, data_dir)
    return load_tfds_images(name, split, data_dir)


def _load_digits(split: str) -> Dataset:
    digits = import_extra("sklearn.datasets", "figures").load_digits()
    # NumPy guarantees the stream of RandomState for ever, that of default_rng not.
    order = np.random.RandomState(0).permutation(len(digits.target))
    part = order[:_DIGITS_TRAIN] if split == "train" else order[_DIGITS_TRAIN:]
    return Dataset(
        x=(digits.images[part] / 16).astype(np.float32)[..., None],
        y=digits.target[part].astype(np.int32),
        num_classes=10,
        name="digits",
        split=split,
        source="scikit-learn load_digits, permuted by RandomState(0)",
    )
