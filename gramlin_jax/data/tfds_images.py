"""Image data sets prepared by TFDS, read without TensorFlow and without a network."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable

import numpy as np

from gramlin_jax.data.dataset import Dataset
from gramlin_jax.data.tfds_folders import Shards, damaged, find_folder, open_shards
from gramlin_jax.support.extras import import_extra

# Facts of the published sets. A prepared folder describes itself too, in features.json, but names
# Python classes there, which TFDS imports: reading data must not run what a file names.
_FEATURES = {
    "mnist": ((28, 28, 1), 10),
    "fashion_mnist": ((28, 28, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
    "svhn_cropped": ((32, 32, 3), 10),
}

TFDS_IMAGES = tuple(_FEATURES)
"""Data sets with the features ``image`` and ``label``."""

_CHUNK = 1000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR = {1: 0, 3: 2}
"""PNG's colour types by the number of channels: grey and RGB."""


_Decode = Callable[[bytes], tuple[np.ndarray, int]]


def load_tfds_images(
    name: str, split: str, data_dir: str | os.PathLike[str] | None = None
) -> Dataset:
    """One split of an image data set that TFDS prepared in the array_record format.

    x = pixels/255, (n, height, width, channels) float32; y is the feature ``label``, (n,) int32.
    Reads about 8 000 images of 32×32×3 a second. Threads do not help, since decoding holds the
    interpreter's lock most of the time. Every image must be a PNG of the set's own size with
    8 bits a channel; another one is refused before it is decoded.

    Raises:
        ValueError: If the data set is not in the array_record format.
        FileNotFoundError: If the data set, or one of its files, is missing.
        OSError: If a file is damaged, holds other images, or cannot be opened.
        ImportError: If a package of the extra ``data`` is not installed.
    """
    shape, classes = _FEATURES[name]
    folder = find_folder(name, data_dir)
    decode = _decoder(shape, classes)
    x, y = _read(name, open_shards(folder, name, split), decode, shape)
    return Dataset(
        x=x,
        y=y,
        num_classes=classes,
        name=name,
        split=split,
        source=f"TFDS {name} {folder.name} in {folder.parent.parent}",
    )


def _decoder(shape: tuple[int, ...], classes: int) -> _Decode:
    """Decodes a record to pixels (height, width[, channels]) uint8 and a label."""
    # Importing tensorflow_datasets only logs a failure; importing its public_api raises.
    tfds = import_extra("tensorflow_datasets.public_api")
    image = import_extra("PIL.Image")
    # Parsing these two features alone saves a quarter of the time.
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape),
            "label": tfds.features.ClassLabel(num_classes=classes),
        }
    )
    undecoded = {"image": tfds.decode.SkipDecoding()}

    def decode(record: bytes) -> tuple[np.ndarray, int]:
        # A truncated file gives empty records, whose image is None: the next line raises.
        example = features.deserialize_example_np(record, decoders=undecoded)
        _check_header(example["image"], shape)
        if not 0 <= example["label"] < classes:
            raise ValueError(f"a label is {example['label']}, wanted 0 to {classes - 1}")
        png = image.open(io.BytesIO(example["image"]), formats=("PNG",))
        if png.size != (shape[1], shape[0]):  # a second header, which Pillow follows
            raise ValueError(f"an image has size {png.size}, wanted {(shape[1], shape[0])}")
        return np.asarray(png), example["label"]

    return decode


def _check_header(png: bytes, shape: tuple[int, ...]) -> None:
    """Refuse another size, depth or mode from the first chunk, before a pixel is decoded."""
    if png[:8] != _SIGNATURE or png[12:16] != b"IHDR":
        raise ValueError("an image is not a PNG")
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    found, wanted = (height, width, depth, colour), (*shape[:2], 8, _COLOUR[shape[2]])
    if found != wanted:
        raise ValueError(
            f"an image has height, width, bit depth and PNG colour type {found}, wanted {wanted}"
        )


def _read(
    name: str, shards: Shards, decode: _Decode, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """All records as x (n, *shape) in [0, 1] and y (n,)."""
    n = sum(len(records) for _, records in shards)
    x, y = np.empty((n, *shape), np.float32), np.empty(n, np.int32)
    start = 0
    for path, records in shards:
        for first in range(0, len(records), _CHUNK):
            rows = range(first, min(first + _CHUNK, len(records)))
            part = slice(start + rows.start, start + rows.stop)
            try:
                pixels, y[part] = zip(*map(decode, records.__getitems__(rows)), strict=True)
                np.divide(np.reshape(pixels, (-1, *shape)), np.float32(255), out=x[part])
            except MemoryError:
                raise
            except Exception as error:
                raise damaged(path, name, error) from error
        start += len(records)
    return x, y
