"""Labelled text by name, from plain files or from folders that TFDS prepared."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gramlin_jax.data.text import Text
from gramlin_jax.data.tfds_folders import damaged, find_folder, open_shards
from gramlin_jax.support.extras import import_extra

UPOS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN",
    "PUNCT", "SCONJ", "SYM", "VERB", "X",
)  # fmt: skip
"""The universal parts of speech: the classes of ``ewt_pos``."""


class _Set(NamedTuple):
    """Where a data set lies, and how its samples are read."""

    folder: str
    """Of TFDS."""
    columns: tuple[str, ...]
    label: str
    classes: int
    splits: dict[str, str]


_GLUE = {"train": "train", "test": "validation"}
_MATCHED = {"train": "train", "test": "validation_matched"}
_CONLL = {"train": "train", "test": "test"}
_TFDS = {
    "sst2": _Set("glue/sst2", ("sentence",), "label", 2, _GLUE),
    "mnli": _Set("glue/mnli", ("premise", "hypothesis"), "label", 3, _MATCHED),
    "conll2003_pos": _Set("conll2003/conll2003", ("tokens",), "pos", 47, _CONLL),
    "conll2003_ner": _Set("conll2003/conll2003", ("tokens",), "ner", 9, _CONLL),
}

TEXTS = (*_TFDS, "ewt_pos")
"""Names of the text sets."""


def load_text(name: str, split: str, data_dir: str | os.PathLike[str] | None = None) -> Text:
    """One split of a text set.

    GLUE keeps the labels of its test sets: "test" is its validation set. ``sst2`` is read from
    sst2/train.tsv and sst2/dev.tsv, and ``ewt_pos`` from ud_english_ewt/*-train.conllu and
    *-test.conllu, where ``data_dir`` has these; all but ``ewt_pos`` from a folder that TFDS
    prepared elsewhere.

    Raises:
        ValueError: If a file holds something else, or the set is not in the array_record format.
        FileNotFoundError: If the set, or one of its files, is missing.
        OSError: If a file is damaged.
        ImportError: If a package of the extra ``data`` is not installed.
    """
    for root in _roots(data_dir):
        if name == "sst2" and (path := root / "sst2" / _TSV[split]).exists():
            return read_tsv(path, name=name, split=split, num_classes=2)
        if name == "ewt_pos":
            paths = sorted((root / "ud_english_ewt").glob(f"*-{split}.conllu"))
            if paths:
                return read_conllu(paths[0], name=name, split=split)
    if name == "ewt_pos":
        raise FileNotFoundError(
            "data_dir has no ud_english_ewt: wanted a folder of that name with the .conllu files "
            "of the Universal Dependencies English Web Treebank"
        )
    return _load_tfds(name, split, data_dir)


_TSV = {"train": "train.tsv", "test": "dev.tsv"}


def _roots(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    variables = (os.environ.get(key) for key in ("GRAMLIN_DATA_DIR", "TFDS_DATA_DIR"))
    roots = [data_dir] if data_dir is not None else list(filter(None, variables))
    return [Path(root).expanduser() for root in roots]


def read_tsv(
    path: str | os.PathLike[str],
    *,
    num_classes: int,
    name: str | None = None,
    split: str = "all",
    text: str = "sentence",
    label: str = "label",
) -> Text:
    """Sentences and integer labels from two columns of a file with tabs and a header line.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If a column is missing, a line has more or fewer of them, a label is no integer,
            the file is not in UTF-8, or as in ``Text``.

    Example:
        >>> read_tsv("sst2/train.tsv", num_classes=2)  # doctest: +SKIP
    """
    path = Path(path).expanduser()
    head, *rows = _lines(path)
    columns = head.split("\t")
    if not {text, label} <= set(columns):
        raise ValueError(f"{path} has columns {columns}: wanted {text} and {label}")
    sentences, labels = [], []
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        cells = row.split("\t")
        if len(cells) != len(columns):
            raise ValueError(
                f"{path} has {len(cells)} columns in line {number}: wanted {len(columns)}"
            )
        named = dict(zip(columns, cells, strict=True))
        try:
            labels.append(int(named[label]))
        except ValueError:
            raise ValueError(
                f"{path} has the label {named[label]!r} in line {number}: wanted a number"
            ) from None
        sentences.append(named[text])
    return Text(sentences, labels, num_classes, name or path.stem, split, str(path))


def _lines(path: Path) -> list[str]:
    """The lines of a file in UTF-8, with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}): wanted that") from None


def read_conllu(
    path: str | os.PathLike[str], *, name: str | None = None, split: str = "all"
) -> Text:
    """Words and their universal parts of speech (``UPOS``) from a CoNLL-U file.

    Lines of contractions (``1-2``) and of words that are not there (``1.1``) are left out.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If a line has not ten columns, another number or part of speech, or the file is
            not in UTF-8.

    Source: Universal Dependencies, format CoNLL-U, version 2.

    Example:
        >>> read_conllu("en_ewt-ud-test.conllu").num_classes  # doctest: +SKIP
        17
    """
    path = Path(path).expanduser()
    sentences = list(_sentences(path, _lines(path)))
    samples = [[word for word, _ in sentence] for sentence in sentences]
    labels = [[UPOS.index(tag) for _, tag in sentence] for sentence in sentences]
    return Text(samples, labels, len(UPOS), name or path.stem, split, str(path))


def _sentences(path: Path, lines: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
    """Words with their parts of speech, by sentence."""
    sentence: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        if not line and sentence:
            yield sentence
            sentence = []
        if not line or line.startswith("#"):
            continue
        columns = line.split("\t")
        if len(columns) != 10:
            raise ValueError(f"{path} has {len(columns)} columns in line {number}: wanted 10")
        if not columns[0].isdecimal():
            _check_left_out(path, columns[0], number)
            continue
        if columns[3] not in UPOS:
            raise ValueError(
                f"{path} has {columns[3]!r} in line {number}: wanted a part of speech, one of "
                f"{', '.join(UPOS)}"
            )
        sentence.append((columns[1], columns[3]))
    if sentence:
        yield sentence


def _check_left_out(path: Path, number: str, line: int) -> None:
    if not re.fullmatch(r"\d+[-.]\d+", number):
        raise ValueError(
            f"{path} has the number {number!r} in line {line}: wanted 1, or 1-2 and 1.1, which are "
            "left out"
        )


def _load_tfds(name: str, split: str, data_dir: str | os.PathLike[str] | None) -> Text:
    facts = _TFDS[name]
    folder = find_folder(facts.folder, data_dir)
    decode = _decoder(facts)
    samples, labels = [], []
    for path, records in open_shards(folder, facts.folder, facts.splits[split]):
        try:
            for record in records.__getitems__(range(len(records))):
                sample, label = decode(record)
                if sample:  # CoNLL-2003 marks documents by empty sentences
                    samples.append(sample)
                    labels.append(label)
        except MemoryError:
            raise
        except Exception as error:
            raise damaged(path, facts.folder, error) from error
    source = f"TFDS {facts.folder} {folder.name} in {data_dir or folder}"
    return Text(samples, labels, facts.classes, name, split, source)


def _decoder(facts: _Set) -> Callable[[bytes], tuple[Any, Any]]:
    """Decodes a record to a sample and a label."""
    tfds = import_extra("tensorflow_datasets.public_api")
    text, classes = tfds.features.Text(), tfds.features.ClassLabel(num_classes=facts.classes)
    words = facts.columns == ("tokens",)
    kinds = {column: text for column in facts.columns} | {facts.label: classes}
    if words:
        kinds = {column: tfds.features.Sequence(kind) for column, kind in kinds.items()}
    features = tfds.features.FeaturesDict(kinds)

    def decode(record: bytes) -> tuple[Any, Any]:
        example = features.deserialize_example_np(record)
        if words:
            sample = [word.decode() for word in example["tokens"]]
            return sample, [int(label) for label in example[facts.label]]
        texts = tuple(example[column].decode() for column in facts.columns)
        return texts if len(texts) > 1 else texts[0], int(example[facts.label])

    return decode
