"""Labelled text, and its tokens as arrays."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from gramlin_jax.support.checks import check_count
from gramlin_jax.support.extras import import_extra

IGNORED = -100
"""The label of tokens that have none, by the convention of Hugging Face."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Text:
    """Sentences and labels of one split.

    Attributes:
        samples: A string each or a pair of strings; or a list of words each.
        labels: An integer in [0, C) each, or one for every word.
        num_classes: C.
        name: Name of the data set.
        split: Which part of it this is.
        source: Where the text comes from, in one line.

    Raises:
        ValueError: If a sentence is empty or no text, only some are lists of words, a label is no
            integer or out of range, numbers differ, or ``num_classes`` is no integer of at least 1.

    Example:
        >>> Text([["Stay", "!"]], [[0, 1]], 2, "toy", "train", "by hand")
        Text(toy train: 1 samples, 2 classes; by hand)
    """

    samples: Sequence[Any]
    labels: Sequence[Any]
    num_classes: int
    name: str
    split: str
    source: str

    def __post_init__(self) -> None:
        check_count("num_classes", self.num_classes)
        if len(self.samples) != len(self.labels) or not len(self.samples):
            raise ValueError(
                f"samples has {len(self.samples)} entries and labels {len(self.labels)}: wanted "
                "the same number, at least one"
            )
        for number, (sample, label) in enumerate(zip(self.samples, self.labels, strict=True)):
            _check_sample(number, sample)
            _check_label(number, sample, label, self.num_classes)
            if isinstance(sample, list) != isinstance(self.samples[0], list):
                raise ValueError(
                    f"samples has {self.samples[0]!r} at 0 and {sample!r} at {number}: wanted "
                    "lists of words in all places or in none"
                )

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return (
            f"Text({self.name} {self.split}: {len(self)} samples, {self.num_classes} classes; "
            f"{self.source})"
        )

    def take(self, n: int) -> Text:
        """The first n samples.

        Raises:
            ValueError: If n is below 1 or above the number of samples.
        """
        if not isinstance(n, Integral) or not 1 <= n <= len(self):
            raise ValueError(
                f"n is {n}: wanted 1 to {len(self)}, the samples of {self.name} {self.split}"
            )
        return dataclasses.replace(self, samples=self.samples[:n], labels=self.labels[:n])


def _check_sample(number: int, sample: Any) -> None:
    pair = isinstance(sample, tuple) and len(sample) == 2
    parts = [sample] if isinstance(sample, str) else sample
    if not (pair or isinstance(parts, list)) or not all(isinstance(part, str) for part in parts):
        raise ValueError(
            f"samples has {sample!r} at {number}: wanted a string, a pair of strings or a list of "
            "words"
        )
    if not parts or not all(part.strip() for part in parts):
        raise ValueError(f"samples has an empty text at {number}: wanted words")


def _check_label(number: int, sample: Any, label: Any, num_classes: int) -> None:
    found = np.asarray(label)
    several = found.ndim == 1
    if several != isinstance(sample, list) or (several and len(sample) != found.size):
        raise ValueError(
            f"labels has {label} at {number}: wanted one label of a sentence, or one of each word"
        )
    if not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"labels has {label!r} at {number}: wanted integers")
    if not (found.min() >= 0 and found.max() < num_classes):
        raise ValueError(f"labels has {label} at {number}: wanted 0 to {num_classes - 1}")


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens of sentences, padded to one length.

    Attributes:
        ids: Numbers in the vocabulary (n, tokens) int32; 0 in the padding.
        mask: True (n, tokens) where there is a token.
        types: 0, and 1 in the second sentence of a pair, (n, tokens) int32.
        y: Labels (n,) int32, or (n, tokens) where words have labels: that of a word at its first
            token, and ``IGNORED`` elsewhere.
        num_classes: C.
        cut: How many sentences were longer.
    """

    ids: np.ndarray
    mask: np.ndarray
    types: np.ndarray
    y: np.ndarray
    num_classes: int
    cut: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def x(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(ids, mask, types)``, the arguments of a BERT."""
        return self.ids, self.mask, self.types


def wordpiece(vocabulary: str | os.PathLike[str], *, lowercase: bool = True) -> Any:
    """A tokenizer of the library ``tokenizers`` for BERT, from a file or from a model's folder.

    Args:
        vocabulary: vocab.txt, one token a line, or a folder with tokenizer.json or vocab.txt.
        lowercase: Whether to fold case and accents, as the uncased models do. A tokenizer.json
            says so itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the vocabulary lacks [CLS], [SEP], [PAD] or [UNK].
        ImportError: If ``tokenizers`` is not installed.

    Source: Devlin et al., arXiv 1810.04805; Wu et al., arXiv 1609.08144 (word pieces).

    Example:
        >>> tokenizer = wordpiece("bert-base-uncased")  # doctest: +SKIP
        >>> tokenizer.encode("unaffable").tokens  # doctest: +SKIP
        ['[CLS]', 'una', '##ffa', '##ble', '[SEP]']
    """
    library = import_extra("tokenizers", "text")
    path = Path(vocabulary).expanduser()
    if path.is_dir():
        names = [path / name for name in ("tokenizer.json", "vocab.txt")]
        path = next((name for name in names if name.exists()), names[-1])
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: wanted a WordPiece vocabulary")
    if path.suffix == ".json":
        tokenizer = library.Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
    else:
        kind = import_extra("tokenizers.implementations", "text").BertWordPieceTokenizer
        tokens = path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
        _check_vocabulary(path, tokens)
        tokenizer = kind({token: i for i, token in enumerate(tokens)}, lowercase=lowercase)
    _check_vocabulary(path, tokenizer.get_vocab())
    return tokenizer


def _check_vocabulary(path: Path, tokens: Any) -> None:
    if missing := [t for t in ("[CLS]", "[SEP]", "[PAD]", "[UNK]") if t not in tokens]:
        raise ValueError(f"{path} has no {', '.join(missing)}: wanted the vocabulary of a BERT")


def tokenize(text: Text, tokenizer: Any, length: int) -> Tokens:
    """The tokens [CLS] a [SEP], or [CLS] a [SEP] b [SEP], of all samples, cut at ``length``.

    Of a pair the longer sentence is cut. A word that is cut off has no label.

    Args:
        text: The text.
        tokenizer: As ``wordpiece`` makes it.
        length: Tokens of a sample, at least 3.

    Raises:
        ValueError: If ``length`` is too small.

    Example:
        >>> tokenize(load("sst2"), wordpiece("bert-base-uncased"), 128).ids.shape  # doctest: +SKIP
        (67349, 128)
    """
    if check_count("length", length) < 3:
        raise ValueError(f"length is {length}: wanted at least 3, [CLS], a token and [SEP]")
    words = isinstance(text.samples[0], list)
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    encoded = tokenizer.encode_batch(text.samples, is_pretokenized=words)
    tokenizer.no_truncation()
    cut = sum(bool(encoding.overflowing) for encoding in encoded)
    ids, mask, types = (np.zeros((len(text), length), np.int32) for _ in range(3))
    for row, encoding in enumerate(encoded):
        part = slice(len(encoding))
        ids[row, part], types[row, part], mask[row, part] = encoding.ids, encoding.type_ids, 1
    if words:
        y = np.full(ids.shape, IGNORED, np.int32)
        for row, encoding in enumerate(encoded):
            first = _first_tokens(encoding.word_ids)
            y[row, list(first.values())] = np.asarray(text.labels[row])[list(first)]
    else:
        y = np.asarray(text.labels, np.int32)
    return Tokens(ids, mask.astype(bool), types, y, text.num_classes, cut)


def _first_tokens(word_ids: Sequence[int | None]) -> dict[int, int]:
    """The place of each word's first token, by word."""
    places: dict[int, int] = {}
    for place, word in enumerate(word_ids):
        if word is not None:
            places.setdefault(word, place)
    return places
