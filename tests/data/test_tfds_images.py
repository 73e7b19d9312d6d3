"""TFDS image sets: small ones written here in the real layout, and the real ones where they are."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from gramlin_jax.data import load
from tests.data.prepared import edit_info, use_names_of_prepared_shards

SHAPES = {
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
    "svhn_cropped": (32, 32, 3),
}
SIZES = {"train": 25, "test": 7}
"""With shards of 10 records: three and one."""


def pixels(name, split):
    n = SIZES[split]
    return np.random.RandomState(n).randint(0, 256, (n, *SHAPES[name]), dtype=np.uint8)


def labels(name, split):
    return np.arange(SIZES[split]) * 7 % (100 if name == "cifar100" else 10)


def as_png(image):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "PNG")
    file.seek(0)
    return file


def write_set(root, name, version="3.0.1"):
    """A set of generated examples, written by TFDS as its own builders lay it out."""
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = root / name / version
    folder.mkdir(parents=True)
    classes = tfds.features.ClassLabel(num_classes=100 if name == "cifar100" else 10)
    features = {"image": tfds.features.Image(shape=SHAPES[name]), "label": classes}
    if name.startswith("cifar"):
        features["id"] = tfds.features.Text()
    if name == "cifar100":
        features["coarse_label"] = tfds.features.ClassLabel(num_classes=20)
    identity = tfds.core.DatasetIdentity(
        name=name, version=tfds.core.Version(version), data_dir=str(folder), module_name=__name__
    )
    info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features))
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=10, file_format="array_record")
    writer.initialize_splits(list(SIZES))
    for split in SIZES:
        rows = zip(pixels(name, split), labels(name, split), strict=True)
        examples = [
            {"image": as_png(image), "label": label, "id": f"{split}_{i}", "coarse_label": 3}
            for i, (image, label) in enumerate(rows)
        ]
        writer.add_examples({split: [{key: row[key] for key in features} for row in examples]})
    writer.close_splits(list(SIZES))
    use_names_of_prepared_shards(folder, SIZES)
    return folder


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch, tmp_path):
    """No set of this machine is found by accident."""
    monkeypatch.delenv("GRAMLIN_DATA_DIR", raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


# What is read


@pytest.mark.parametrize("split", SIZES)
@pytest.mark.parametrize("name", SHAPES)
def test_reads_what_was_written(tmp_path, name, split):
    folder = write_set(tmp_path, name)
    data = load(name, split, data_dir=tmp_path)
    assert data.x.dtype == np.float32
    np.testing.assert_array_equal(data.x, pixels(name, split) / np.float32(255))
    assert data.y.dtype == np.int32
    np.testing.assert_array_equal(data.y, labels(name, split))
    assert data.num_classes == (100 if name == "cifar100" else 10)
    assert (data.name, data.split) == (name, split)
    assert data.source == f"TFDS {name} 3.0.1 in {tmp_path}"
    assert len(list(folder.glob("*train*"))) == 3


OFFLINE = """
import socket, sys

def refuse(*_):
    raise AssertionError("the network was used")

socket.socket.connect = socket.getaddrinfo = refuse
from gramlin_jax.data import load
print(len(load("cifar100", data_dir=sys.argv[1])), "tensorflow" in sys.modules)
"""


def test_needs_neither_tensorflow_nor_a_network(tmp_path):
    write_set(tmp_path, "cifar100")
    command = [sys.executable, "-W", "error", "-c", OFFLINE, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stdout.strip() == f"{SIZES['train']} False", run.stderr


def test_reads_the_newest_version(tmp_path):
    for version in ("3.0.9", "3.0.10", "2.11.0"):
        write_set(tmp_path, "mnist", version)
    (tmp_path / "mnist" / "4.0.0.incomplete").mkdir()
    (tmp_path / "mnist" / "4.0.0").mkdir()
    assert "mnist 3.0.10" in load("mnist", data_dir=tmp_path).source


# Where it looks


def test_folders_are_searched_in_order(tmp_path, monkeypatch):
    roots = {
        key: tmp_path / key for key in ("argument", "gramlin", "tfds", "home/tensorflow_datasets")
    }
    for root in roots.values():
        write_set(root, "mnist")
    monkeypatch.setenv("GRAMLIN_DATA_DIR", str(roots["gramlin"]))
    monkeypatch.setenv("TFDS_DATA_DIR", str(roots["tfds"]))
    assert load("mnist", data_dir=roots["argument"]).source.endswith(str(roots["argument"]))
    assert load("mnist").source.endswith(str(roots["gramlin"]))
    monkeypatch.setenv("GRAMLIN_DATA_DIR", str(tmp_path / "empty"))
    assert load("mnist").source.endswith(str(roots["tfds"]))
    monkeypatch.setenv("TFDS_DATA_DIR", "")
    assert load("mnist").source.endswith(str(roots["home/tensorflow_datasets"]))


def test_the_argument_is_the_only_folder_when_given(tmp_path, monkeypatch):
    write_set(tmp_path / "gramlin", "mnist")
    monkeypatch.setenv("GRAMLIN_DATA_DIR", str(tmp_path / "gramlin"))
    with pytest.raises(FileNotFoundError, match="data_dir has no mnist: wanted") as caught:
        load("mnist", data_dir=tmp_path / "other")
    assert str(tmp_path / "other" / "mnist") in str(caught.value)
    assert str(tmp_path / "gramlin") not in str(caught.value)


def test_missing_set_says_where_and_how(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAMLIN_DATA_DIR", str(tmp_path / "gramlin"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    with pytest.raises(FileNotFoundError) as caught:
        load("svhn_cropped")
    message = str(caught.value)
    for part in (
        "data_dir has no svhn_cropped: wanted",
        f"{tmp_path / 'gramlin' / 'svhn_cropped'} ($GRAMLIN_DATA_DIR)",
        f"{tmp_path / 'tfds' / 'svhn_cropped'} ($TFDS_DATA_DIR)",
        "~/tensorflow_datasets/svhn_cropped",
        "Point data_dir or $GRAMLIN_DATA_DIR at a folder",
        "tfds build svhn_cropped --file_format=array_record",
        "network and TensorFlow",
    ):
        assert part in message


# What is refused


DAMAGES = {
    "empty": lambda data: b"",
    "first bytes": lambda data: data[:100],
    "half": lambda data: data[: len(data) // 2],
    "last bytes missing": lambda data: data[:-10],
    "not records": lambda data: b"hello" * 50_000,
    "records overwritten": lambda data: bytes(20_000) + data[20_000:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_file_is_named(tmp_path, damage):
    shard = write_set(tmp_path, "cifar10") / "cifar10-train.array_record-00001-of-00003"
    shard.write_bytes(damage(shard.read_bytes()))
    expected = (
        re.escape(f"{shard} is damaged or incomplete")
        + ".*delete it, then copy or prepare it again"
    )
    with pytest.raises(OSError, match=f"(?s){expected}"):
        load("cifar10", data_dir=tmp_path)
    assert len(load("cifar10", "test", data_dir=tmp_path)) == SIZES["test"]


def png(mode, size, colour=1, bits=None):
    """A PNG of one colour; of ``bits`` a channel where Pillow writes no such file."""
    from PIL import Image

    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, "PNG")
    return header(file.getvalue(), 24, bits) if bits else file.getvalue()


def header(data, at, value):
    """Change a byte of the first chunk, and its checksum."""
    first = bytearray(data[12:29])
    first[at - 12] = value
    return data[:12] + first + zlib.crc32(first).to_bytes(4, "big") + data[33:]


def with_second_header(data, big):
    """The first header is as wanted; Pillow follows the last one."""
    return data[:33] + big[8:33] + data[33:]


BOMB = png("1", (10_000, 10_000))
IMAGES = {
    ("mnist", "14×56 pixels"): png("L", (56, 14)),
    ("mnist", "turned"): png("L", (784, 1)),
    ("mnist", "16 bits"): png("I;16", (28, 28), 257),
    ("mnist", "1 bit"): png("1", (28, 28)),
    ("mnist", "palette"): png("P", (28, 28)),
    ("mnist", "with alpha"): png("LA", (28, 28), (1, 1)),
    ("mnist", "in colour"): png("RGB", (28, 28)),
    ("mnist", "4 bits"): png("L", (28, 28), bits=4),
    ("mnist", "a bomb"): BOMB,
    ("mnist", "a hidden bomb"): with_second_header(png("L", (28, 28)), BOMB),
    ("mnist", "JPEG"): b"\xff\xd8\xff\xe0" + bytes(100),
    ("cifar10", "in grey"): png("L", (32, 32)),
    ("cifar10", "three times as wide"): png("L", (96, 32)),
    ("cifar10", "with alpha"): png("RGBA", (32, 32)),
    ("cifar10", "16 bits"): png("RGB", (32, 32), bits=16),
}


@pytest.mark.parametrize(("name", "kind"), IMAGES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_other_images_are_refused_before_they_are_decoded(tmp_path, monkeypatch, name, kind):
    import PIL.Image

    data = IMAGES[name, kind]
    monkeypatch.setitem(globals(), "as_png", lambda image: io.BytesIO(data))
    folder = write_set(tmp_path, name)
    monkeypatch.setattr(PIL.Image.Image, "load", None)  # what decodes
    shard = folder / f"{name}-train.array_record-00000-of-00003"
    expected = re.escape(f"{shard} is damaged or incomplete (ValueError: an image ")
    with pytest.raises(OSError, match=expected):
        load(name, data_dir=tmp_path)


def test_reading_runs_nothing_that_a_file_names(tmp_path, monkeypatch):
    folder = write_set(tmp_path, "mnist")
    (tmp_path / "named_in_a_file.py").write_text("raise SystemExit('was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("features.json", "dataset_info.json"):
        text = (folder / name).read_text()
        text = re.sub(r'("(pythonClassName|moduleName)": )"[^"]*"', r'\1"named_in_a_file.X"', text)
        assert "named_in_a_file" in text
        (folder / name).write_text(text)
    np.testing.assert_array_equal(
        load("mnist", data_dir=tmp_path).x, pixels("mnist", "train") / np.float32(255)
    )


@pytest.mark.parametrize("label", [-1, 10, 2**32 + 3])
def test_labels_out_of_range_are_refused(tmp_path, monkeypatch, label):
    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds.features.ClassLabel, "encode_example", lambda self, _: label)
    write_set(tmp_path, "mnist")
    with pytest.raises(OSError, match=f"a label is {label}, wanted 0 to 9"):
        load("mnist", data_dir=tmp_path)


def test_a_file_that_one_may_not_read_is_not_called_damaged(tmp_path, monkeypatch):
    write_set(tmp_path, "mnist")

    def refuse(*_, **__):
        raise PermissionError("no permission")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match="no permission"):
        load("mnist", data_dir=tmp_path)


def test_missing_file_is_named(tmp_path):
    shard = write_set(tmp_path, "cifar10") / "cifar10-train.array_record-00002-of-00003"
    shard.unlink()
    expected = re.escape(
        f"{shard} is missing: wanted all files of the data set; copy or prepare it again"
    )
    with pytest.raises(FileNotFoundError, match=expected):
        load("cifar10", data_dir=tmp_path)


def without_split(text):
    info = json.loads(text)
    info["splits"] = [part for part in info["splits"] if part["name"] != "train"]
    return json.dumps(info)


def of_length(length):
    return lambda text: re.sub(r'"(10|5|7)"', json.dumps(length), text)


EDITS = [lambda text: text[:50], lambda text: "", lambda text: "null", lambda text: "[" * 10**5]
EDITS += [without_split, of_length([]), of_length("x"), lambda text: '{"splits": null}']


@pytest.mark.parametrize("edit", EDITS)
def test_damaged_description_names_the_folder(tmp_path, edit):
    folder = write_set(tmp_path, "mnist")
    edit_info(folder, edit)
    with pytest.raises(OSError, match=re.escape(f"{folder} is damaged or incomplete")):
        load("mnist", data_dir=tmp_path)


def test_a_length_that_the_files_do_not_have_is_refused(tmp_path):
    folder = write_set(tmp_path, "mnist")
    edit_info(folder, of_length("99999999999999"))
    with pytest.raises(OSError, match="it has 10 records, dataset_info.json 99999999999999"):
        load("mnist", data_dir=tmp_path)


def test_tfrecord_is_refused(tmp_path):
    folder = write_set(tmp_path, "mnist")
    edit_info(folder, lambda text: text.replace("array_record", "tfrecord"))
    expected = re.escape(f"data_dir has {folder} in another format: wanted array_record")
    with pytest.raises(ValueError, match=f"(?s){expected}.*--file_format=array_record"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    "module",
    ["tensorflow_datasets.public_api", "array_record.python.array_record_data_source", "PIL.Image"],
)
def test_missing_package_names_the_extra(tmp_path, monkeypatch, module):
    write_set(tmp_path, "mnist")
    monkeypatch.setitem(sys.modules, module, None)
    expected = re.escape(module) + r".*pip install 'gramlin-jax\[data\]'"
    with pytest.raises(ImportError, match=f"(?s){expected}"):
        load("mnist", data_dir=tmp_path)


# The real sets

REAL = Path(
    os.environ.get("GRAMLIN_DATA_DIR") or Path(__file__).resolve().parents[3] / "shared" / "tfds"
)
STATISTICS = {
    ("mnist", "test"): (10_000, [0.13251], [0.31048]),
    ("cifar10", "test"): (10_000, [0.4942, 0.4851, 0.4504], [0.2467, 0.2429, 0.2616]),
}


@pytest.mark.parametrize(("name", "split"), STATISTICS)
def test_real_set(name, split):
    if not (REAL / name).is_dir():
        pytest.skip(f"no {name} in {REAL}; set $GRAMLIN_DATA_DIR to a folder that has it")
    n, mean, deviation = STATISTICS[name, split]
    data = load(name, split, data_dir=REAL)
    assert data.x.shape == (n, *SHAPES[name])
    assert (data.x.min(), data.x.max()) == (0, 1)
    # The mean of the squares needs no second array of the size of the data.
    means = data.x.mean(axis=(0, 1, 2), dtype=np.float64)
    squares = [np.vdot(part, part) / part.size for part in np.moveaxis(data.x, 3, 0)]
    np.testing.assert_allclose(means, mean, rtol=0, atol=6e-5)
    np.testing.assert_allclose(np.sqrt(squares - means**2), deviation, rtol=0, atol=1e-4)
    assert set(data.y) == set(range(10))
    if name == "cifar10":
        np.testing.assert_array_equal(np.bincount(data.y), [n // 10] * 10)
