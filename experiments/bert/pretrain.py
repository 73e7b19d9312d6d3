"""Pre-train a small BERT from scratch: hidden words are to be found."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gramlin_jax.models.bert import BertConfig, BertMaskedLM
from gramlin_jax.support.files import write_whole
from gramlin_jax.training import Loss

from ..shared.training import train
from . import Config
from .batches import trimmed_batches

if TYPE_CHECKING:
    from jaxtyping import Array

    from gramlin_jax.data import Text

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""The first tokens of the vocabulary."""
SOUGHT = 0.15
"""The share of tokens that are to be found."""


def small_bert(config: Config, vocabulary: int) -> BertConfig:
    """The sizes of the small BERT."""
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.width,
        max_position_embeddings=config.length,
    )


def make_tokenizer(config: Config, texts: Sequence[Text], folder: Path | None) -> Any:
    """A WordPiece tokenizer made from the text, or the one that ``folder`` keeps."""
    from tokenizers import Tokenizer
    from tokenizers.implementations import BertWordPieceTokenizer

    path = None if folder is None else folder / "tokenizer.json"
    if path is not None and path.exists():
        return Tokenizer.from_file(str(path))
    maker = BertWordPieceTokenizer()
    maker.train_from_iterator(
        _strings(texts), config.vocabulary, special_tokens=list(SPECIAL), show_progress=False
    )
    tokens = maker.get_vocab()
    vocabulary = sorted(tokens, key=tokens.__getitem__)
    made = BertWordPieceTokenizer({token: i for i, token in enumerate(vocabulary)})
    if path is not None:
        text = json.dumps(json.loads(made.to_str()), ensure_ascii=False).encode()
        write_whole(path, lambda file: file.write(text))
    return made


def _strings(texts: Sequence[Text]) -> Iterator[str]:
    for text in texts:
        for sample in text.samples:
            yield sample if isinstance(sample, str) else " ".join(sample)


def pretrain(config: Config, sizes: BertConfig, tokens: Any, directory: Path | None) -> Any:
    """Parameters of a ``BERT`` that was trained to find hidden words.

    Args:
        config: The settings.
        sizes: Of the model.
        tokens: ``(ids, mask)`` of sentences (n, tokens).
        directory: Where checkpoints go; None: nowhere.
    """
    model, n = BertMaskedLM(sizes), len(tokens[0])
    steps = config.pretraining_epochs * math.ceil(n / config.batch_size)
    trained = train(
        lambda key: model.init(key, tokens[0][:1]),
        hidden_words_loss(model),
        adamw(config, config.pretraining_rate, steps),
        trimmed_batches(tokens, tokens[1], config.batch_size, seed=0, by_length=config.by_length),
        epochs=config.pretraining_epochs,
        sweep={"seed": [0]},
        directory=directory,
    )
    return jax.tree.map(lambda leaf: np.asarray(leaf[0]), trained.fit.params["params"]["bert"])


def adamw(config: Config, rate: float, steps: int) -> optax.GradientTransformation:
    """AdamW with a rate that rises in the first steps, then falls to 0, both linearly."""
    rising = math.ceil(config.warmup * steps)
    up = optax.linear_schedule(0.0, rate, rising) if rising else optax.constant_schedule(rate)
    down = optax.linear_schedule(rate, 0.0, max(steps - rising, 1))
    return optax.adamw(optax.join_schedules([up, down], [rising]), weight_decay=config.decay)


def hidden_words_loss(model: BertMaskedLM) -> Loss:
    """``loss`` of ``train`` on ``(ids, mask)``: cross-entropy of the words that are to be found."""

    def loss(params: Any, batch: Any, key: Array, hyper: Any) -> Any:
        del hyper
        ids, mask = batch
        hide, drop = jax.random.split(key)
        shown, places, sought = hidden_words(hide, ids, mask, model.config.vocab_size)
        logits, _ = model.apply(
            params, shown, mask, places=places, train=True, rngs={"dropout": drop}
        )
        truth = jnp.take_along_axis(ids, places, axis=1)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, truth)
        return (losses * sought).sum() / jnp.maximum(sought.sum(), 1), {}

    return loss


def hidden_words(
    key: Array, ids: Array, mask: Array, vocabulary: int
) -> tuple[Array, Array, Array]:
    """Sentences in which some words are hidden.

    Args:
        key: Of the draws.
        ids: (n, tokens).
        mask: True where there is a token.
        vocabulary: Its size; the first tokens are ``SPECIAL``.

    Returns:
        The sentences (n, tokens); the places (n, k) that are drawn, k = ⌈0.15 tokens⌉; and True
        (n, k) for those that are to be found, 15 % of a sentence's words, at least one.
    """
    draw, what, other = jax.random.split(key, 3)
    words = mask.astype(bool) & (ids >= len(SPECIAL))
    order = jnp.where(words, jax.random.uniform(draw, ids.shape), -1.0)
    _, places = jax.lax.top_k(order, math.ceil(SOUGHT * ids.shape[1]))
    number = jnp.ceil(SOUGHT * words.sum(1, keepdims=True))
    sought = jnp.arange(places.shape[1])[None] < number
    truth = jnp.take_along_axis(ids, places, axis=1)
    chance = jax.random.uniform(what, places.shape)
    random = jax.random.randint(other, places.shape, len(SPECIAL), vocabulary)
    new = jnp.where(chance < 0.8, SPECIAL.index("[MASK]"), jnp.where(chance < 0.9, random, truth))
    new = jnp.where(sought, new, truth)
    return ids.at[jnp.arange(len(ids))[:, None], places].set(new), places, sought
