"""Image data sets prepared by TFDS, read without TensorFlow and without a network."""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gramlin_jax.data.dataset import Dataset
from gramlin_jax.data.extras import import_extra

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


class _Records(Protocol):
    def __len__(self) -> int: ...

    def __getitems__(self, keys: Sequence[int]) -> Sequence[bytes]: ...


_Shards = list[tuple[Path, _Records]]
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
    folder = _find_folder(name, data_dir)
    decode = _decoder(shape, classes)
    x, y = _read(name, _open(folder, name, split), decode, shape)
    return Dataset(
        x=x,
        y=y,
        num_classes=classes,
        name=name,
        split=split,
        source=f"TFDS {name} {folder.name} in {folder.parent.parent}",
    )


def _find_folder(name: str, data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of the newest version of a data set, <data_dir>/<name>/<version>."""
    if data_dir is not None:
        roots = {"data_dir": str(data_dir)}
    else:
        variables = ("GRAMLIN_DATA_DIR", "TFDS_DATA_DIR")
        roots = {f"${key}": os.environ[key] for key in variables if os.environ.get(key)}
        roots["TFDS's default"] = "~/tensorflow_datasets"
    for root in roots.values():
        infos = Path(root).expanduser().glob(f"{name}/*.*.*/dataset_info.json")
        folders = [info.parent for info in infos if info.parent.name.replace(".", "").isdigit()]
        if folders:
            return max(folders, key=lambda folder: [int(i) for i in folder.name.split(".")])
    places = "".join(f"\n  {Path(root) / name} ({origin})" for origin, root in roots.items())
    raise FileNotFoundError(
        f"data_dir has no {name}: wanted a version of it in one of{places}\n"
        "Point data_dir or $GRAMLIN_DATA_DIR at a folder that has it, or prepare it, "
        f"{_how_to_prepare(name)}"
    )


def _open(folder: Path, name: str, split: str) -> _Shards:
    """The files of a split, and their records."""
    source: Any = import_extra("array_record.python.array_record_data_source").ArrayRecordDataSource
    shards: _Shards = []
    lengths = _shard_lengths(folder, name, split)
    for i, length in enumerate(lengths):
        path = folder / f"{name}-{split}.array_record-{i:05d}-of-{len(lengths):05d}"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing: wanted all files of the data set; copy or prepare it again, "
                f"{_how_to_prepare(name)}"
            )
        path.open("rb").close()  # a file that one may not read is not damaged
        try:
            records = source([str(path)])
            if len(records) != length:
                raise ValueError(f"it has {len(records)} records, dataset_info.json {length}")
        except Exception as error:
            raise _damaged(path, name, error) from error
        shards.append((path, records))
    return shards


def _shard_lengths(folder: Path, name: str, split: str) -> list[int]:
    """The number of records in each file of a split, from dataset_info.json."""
    path = folder / "dataset_info.json"
    try:
        info = json.loads(path.read_text())
        (part,) = [part for part in info["splits"] if part["name"] == split]
        lengths = [int(length) for length in part["shardLengths"]]
        written = info.get("fileFormat", "tfrecord")
        if not lengths:
            raise ValueError(f"split {split} has no files")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(folder, name, error) from error
    if written != "array_record":
        raise ValueError(
            f"data_dir has {folder} in another format: wanted array_record, which is read "
            f"without TensorFlow; prepare it in another folder, {_how_to_prepare(name)}"
        )
    return lengths


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
    name: str, shards: _Shards, decode: _Decode, shape: tuple[int, ...]
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
                raise _damaged(path, name, error) from error
        start += len(records)
    return x, y


def _damaged(path: Path, name: str, error: Exception) -> OSError:
    return OSError(
        f"{path} is damaged or incomplete ({type(error).__name__}: {error}): wanted a "
        f"whole file of {name}; delete it, then copy or prepare it again, {_how_to_prepare(name)}"
    )


def _how_to_prepare(name: str) -> str:
    return (
        "which needs a network and TensorFlow:\n"
        "  pip install 'gramlin_jax[data]' tensorflow importlib_resources\n"
        f"  tfds build {name} --file_format=array_record --data_dir=DATA_DIR"
    )
