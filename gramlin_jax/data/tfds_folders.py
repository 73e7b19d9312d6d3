"""Folders of data sets that TFDS prepared in the array_record format, read without TensorFlow."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from gramlin_jax.support.extras import import_extra


class Records(Protocol):
    """Serialised samples by number."""

    def __len__(self) -> int: ...

    def __getitems__(self, keys: Sequence[int]) -> Sequence[bytes]: ...


Shards = list[tuple[Path, Records]]


def find_folder(name: str, data_dir: str | os.PathLike[str] | None) -> Path:
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
        f"{how_to_prepare(name)}"
    )


def open_shards(folder: Path, name: str, split: str) -> Shards:
    """The files of a split, and their records."""
    source: Any = import_extra("array_record.python.array_record_data_source").ArrayRecordDataSource
    shards: Shards = []
    lengths = shard_lengths(folder, name, split)
    stem = f"{name.partition('/')[0]}-{split}.array_record"
    for i, length in enumerate(lengths):
        path = folder / f"{stem}-{i:05d}-of-{len(lengths):05d}"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing: wanted all files of the data set; copy or prepare it again, "
                f"{how_to_prepare(name)}"
            )
        path.open("rb").close()  # a file that one may not read is not damaged
        try:
            records = source([str(path)])
            if len(records) != length:
                raise ValueError(f"it has {len(records)} records, dataset_info.json {length}")
        except Exception as error:
            raise damaged(path, name, error) from error
        shards.append((path, records))
    return shards


def shard_lengths(folder: Path, name: str, split: str) -> list[int]:
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
        raise damaged(folder, name, error) from error
    if written != "array_record":
        raise ValueError(
            f"data_dir has {folder} in another format: wanted array_record, which is read "
            f"without TensorFlow; prepare it in another folder, {how_to_prepare(name)}"
        )
    return lengths


def damaged(path: Path, name: str, error: Exception) -> OSError:
    """The error of a file that cannot be read."""
    return OSError(
        f"{path} is damaged or incomplete ({type(error).__name__}: {error}): wanted a "
        f"whole file of {name}; delete it, then copy or prepare it again, {how_to_prepare(name)}"
    )


def how_to_prepare(name: str) -> str:
    """The commands that make a data set."""
    return (
        "which needs a network and TensorFlow:\n"
        "  pip install 'gramlin-jax[data]' tensorflow importlib_resources\n"
        f"  tfds build {name} --file_format=array_record --data_dir=DATA_DIR"
    )
