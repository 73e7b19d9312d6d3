"""Fine-tune a BERT on each task, measured before, at the start and after each epoch."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax.data import IGNORED, Text, Tokens, load, tokenize, wordpiece
from gramlin_jax.models import bert
from gramlin_jax.models.bert import BertClassifier, BertConfig
from gramlin_jax.training import Loss, Measure, hits

from ..shared.lost import guessing
from ..shared.parts import parts
from ..shared.provenance import claim_data
from ..shared.results import Computed
from ..shared.training import train, unstack
from . import START, Config
from .batches import halves_by_length, trimmed_batches
from .measures import state_metrics, weighted_loss
from .pretrain import adamw, make_tokenizer, pretrain, small_bert

if TYPE_CHECKING:
    from jaxtyping import Array


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Train and measure each task and seed, one after another; what is finished is kept.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which an interrupted run continues; None: nowhere.
        data_dir: Folder of the text, see ``gramlin_jax.data.load``.

    Returns:
        What ``state_metrics`` measures, at random weights (epoch −1), pre-trained ones (0) and
        after each epoch.
    """
    texts = read(config, folder, data_dir)
    sizes, encoder, tokenizer = _pretrained(config, [train for train, _ in texts.values()], folder)
    tokens = {
        task: (tokenize(train, tokenizer, config.length), tokenize(test, tokenizer, config.length))
        for task, (train, test) in texts.items()
    }

    def one(name: str, directory: Path | None) -> dict[str, np.ndarray]:
        task, seed = name.rsplit("-", 1)
        return finetune(config, sizes, encoder, tokens[task], int(seed), directory)

    info = {
        "sources": {name: train.source for name, (train, _) in texts.items()},
        "cut": {name: [part.cut for part in splits] for name, splits in tokens.items()},
        "chance": {
            split: {"task": {name: _guessing(both[i]) for name, both in tokens.items()}}
            for i, split in enumerate(("train", "test"))
        },
    }
    names = [f"{task}-{seed}" for task in config.tasks for seed in range(config.seeds)]
    runs = {"task": range(len(config.tasks)), "seed": range(config.seeds)}
    arrays = unstack(parts(folder, names, one), runs)
    return {**arrays, "epochs": np.arange(START, config.epochs + 1)}, info


def read(config: Config, folder: Path | None, data_dir: str | None) -> dict[str, tuple[Text, Text]]:
    """The train and the test text of each task; the folder keeps fingerprints of all of it.

    Raises:
        ValueError: If the folder holds a run of other text.
    """
    texts = {task: _splits(config, task, data_dir) for task in config.tasks}
    marks = {
        f"{task} {text.split}": np.frombuffer(
            json.dumps([text.samples, text.labels]).encode(), np.uint8
        )
        for task, splits in texts.items()
        for text in splits
    }
    claim_data(folder, marks)
    return texts


def _splits(config: Config, task: str, data_dir: str | None) -> tuple[Text, Text]:
    train, test = (
        cast("Text", load(task, split, data_dir=data_dir)) for split in ("train", "test")
    )
    if config.samples:
        train = train.take(min(config.samples, len(train)))
    return train, test


def _guessing(tokens: Tokens) -> float:
    return guessing(tokens.y[tokens.y != IGNORED])


def _pretrained(
    config: Config, texts: list[Text], folder: Path | None
) -> tuple[BertConfig, Any, Any]:
    """Sizes, parameters and tokenizer of the encoder, read or trained here."""
    if config.checkpoint:
        return _read(config)
    tokenizer = make_tokenizer(config, texts, folder)
    sizes = small_bert(config, tokenizer.get_vocab_size())
    tokens = [tokenize(text, tokenizer, config.length) for text in texts]
    sentences = tuple(
        np.concatenate([getattr(t, name) for t in tokens]) for name in ("ids", "mask")
    )
    directory = None if folder is None else folder / "training" / "pretraining"
    return sizes, pretrain(config, sizes, sentences, directory), tokenizer


def _read(config: Config) -> tuple[BertConfig, Any, Any]:
    folder = checkpoint_folder(config.checkpoint)
    model, params = bert.load(folder)
    sizes = model.config
    found = sizes.num_hidden_layers, sizes.hidden_size, sizes.num_attention_heads
    wanted = config.layers, config.width, config.heads
    if found != wanted or config.length > sizes.max_position_embeddings:
        raise ValueError(
            f"checkpoint has layers, width, heads {found} and {sizes.max_position_embeddings} "
            f"positions: wanted {wanted} and {config.length}, as the settings"
        )
    encoder = params["params"]
    return sizes, encoder.get("bert", encoder), wordpiece(folder)


def checkpoint_folder(name: str) -> Path:
    """A folder, or where an installed package keeps its model.

    Raises:
        FileNotFoundError: If there is neither.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    module = name.replace("-", "_")
    found = importlib.util.find_spec(module) if module.isidentifier() else None
    if found is not None and found.origin is not None:
        return Path(found.origin).parent / "model"
    raise FileNotFoundError(
        f"checkpoint is {name!r}: wanted a folder with config.json and weights, or an installed "
        "package that carries one"
    )


def finetune(
    config: Config, sizes: BertConfig, encoder: Any, splits: tuple[Tokens, Tokens], seed: int,
    directory: Path | None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Arrays (epoch, …) of one task and seed, from random weights on."""
    data, _ = splits
    dtype = jnp.bfloat16 if config.bfloat16 else None
    model = BertClassifier(sizes, dtype, classes=data.num_classes, per_token=data.y.ndim == 2)
    measured = [_measured(split, config.measured) for split in splits]
    measure = state_metrics(model)

    def random(key: Array) -> Any:
        return model.init(key, data.ids[:1])

    def pretrained(key: Array) -> Any:
        params = random(key)["params"]
        return {"params": {**params, "bert": {**params["bert"], **encoder}}}

    before = jax.jit(lambda seed: measure(random(jax.random.key(seed)), {}, measured))(seed)
    steps = config.epochs * math.ceil(len(data) / config.batch_size)
    trained = train(
        pretrained,
        task_loss(model),
        adamw(config, config.learning_rate, steps),
        trimmed_batches(
            (data.x, data.y), data.mask, config.batch_size, seed, by_length=config.by_length
        ),
        epochs=config.epochs,
        sweep={"seed": [seed]},
        measure=Measure(measure, measured, np.arange(config.epochs + 1)),
        directory=directory,
    )
    return {
        name: np.concatenate([np.asarray(before[name])[None], after[0]])
        for name, after in trained.measurements.items()
    }


def _measured(tokens: Tokens, number: int) -> list[Any]:
    """The first samples as ``state_sums`` takes them."""
    first: Any = jax.tree.map(lambda a: a[:number], (tokens.x, tokens.y))
    return jax.tree.map(jnp.asarray, halves_by_length(first, tokens.mask[:number]))


def task_loss(model: BertClassifier) -> Loss:
    """``loss`` of ``train`` on ``((ids, mask, types), labels)``: the mean over what has a label."""

    def loss(params: Any, batch: Any, key: Array, hyper: Any) -> Any:
        del hyper
        x, labels = batch
        logits, _ = model.apply(params, *x, train=True, rngs={"dropout": key})
        losses, weights = weighted_loss(logits, labels)
        count = jnp.maximum(weights.sum(), 1)
        right = jnp.where(weights > 0, hits(logits, labels), 0).sum()
        return losses.sum() / count, {"accuracy": right / count}

    return loss
