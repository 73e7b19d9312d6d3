"""Image data sets prepared by TFDS, read without TensorFlow and without a network."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from gramlin_jax.data.dataset import Dataset
from gramlin_jax.data.extras import import_extra

TFDS_IMAGES = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn_cropped")
"""Data sets with the features ``image`` and ``label``."""

_CHUNK = 1000


class _Records(Protocol):
    def __getitems__(self, keys: Sequence[int]) -> Sequence[bytes]: ...


def load_tfds_images(
    name: str, split: str, data_dir: str | os.PathLike[str] | None = None
) -> Dataset:
    """One split of an image data set that TFDS prepared in the array_record format.

    x = pixels/255, (n, height, width, channels) float32; y is the feature ``label``, (n,) int32.
    Reads about 8 000 images of 32×32×3 a second. Threads do not help, since decoding holds the
    interpreter's lock most of the time.

    Raises:
        ValueError: If the data set is not in the array_record format.
        FileNotFoundError: If the data set, or one of its files, is missing.
        OSError: If a file is damaged.
        ImportError: If a package of the extra ``data`` is not installed.
    """
    folder = _find_folder(name, data_dir)
    # Importing tensorflow_datasets only logs a failure; importing its public_api raises.
    tfds = import_extra("tensorflow_datasets.public_api")
    import_extra(
        "array_record.python.array_record_data_source"
    )  # TFDS imports it too late for a clear error
    try:
        # Unlike tfds.builder, this uses the folder as it is and never contacts a server.
        builder = tfds.builder_from_directory(folder)
        records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        part = builder.info.splits[split]
        # Parsing these two features alone saves a quarter of the time.
        features = tfds.features.FeaturesDict(
            {key: builder.info.features[key] for key in ("image", "label")}
        )
    except NotImplementedError as error:
        raise ValueError(
            f"data_dir has {folder} in another format: wanted array_record, which is read "
            f"without TensorFlow; prepare it in another folder, {_how_to_prepare(name)}"
        ) from error
    except Exception as error:
        raise _damaged(folder, name, error) from error
    shards = [(Path(path), n) for path, n in zip(part.filepaths, part.shard_lengths, strict=True)]
    x, y = _read(name, records, _decoder(tfds, features), shards, features["image"].shape)
    return Dataset(
        x=x,
        y=y,
        num_classes=features["label"].num_classes,
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


def _decoder(tfds: ModuleType, features: Any) -> Callable[[bytes], tuple[np.ndarray, int]]:
    """Decodes a record to pixels (height, width[, channels]) uint8 and a label."""
    image = import_extra("PIL.Image")
    undecoded = {"image": tfds.decode.SkipDecoding()}

    def decode(record: bytes) -> tuple[np.ndarray, int]:
        # A truncated file gives empty records, whose image is None: the next line raises.
        example = features.deserialize_example_np(record, decoders=undecoded)
        png = image.open(io.BytesIO(example["image"]), formats=("PNG",))
        return np.asarray(png), example["label"]

    return decode


def _read(
    name: str,
    records: _Records,
    decode: Callable[[bytes], tuple[np.ndarray, int]],
    shards: list[tuple[Path, int]],
    shape: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """All records as x (n, *shape) in [0, 1] and y (n,)."""
    n = sum(length for _, length in shards)
    x, y = np.empty((n, *shape), np.float32), np.empty(n, np.int32)
    stop = 0
    for path, length in shards:
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing: wanted all files of the data set; copy or prepare it again, "
                f"{_how_to_prepare(name)}"
            )
        start, stop = stop, stop + length
        for first in range(start, stop, _CHUNK):
            part = slice(first, min(first + _CHUNK, stop))
            try:
                pairs = map(decode, records.__getitems__(range(part.start, part.stop)))
                pixels, y[part] = zip(*pairs, strict=True)
                np.divide(np.reshape(pixels, (-1, *shape)), np.float32(255), out=x[part])
            except Exception as error:
                raise _damaged(path, name, error) from error
    return x, y


def _damaged(path: Path, name: str, error: Exception) -> OSError:
    return OSError(
        f"{path} is damaged or incomplete ({type(error).__name__}: {error}): wanted a "
        f"whole file; delete it, then copy or prepare it again, {_how_to_prepare(name)}"
    )


def _how_to_prepare(name: str) -> str:
    return (
        "which needs a network and TensorFlow:\n"
        "  pip install 'gramlin_jax[data]' tensorflow importlib_resources\n"
        f"  tfds build {name} --file_format=array_record --data_dir=DATA_DIR"
    )
