"""BERT: encoder, pooler, and heads for sentences, tokens and hidden words."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from gramlin_jax.support.checks import check_at_least, is_traced

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT, named as in a checkpoint's config.json; the defaults are BERT-base's.

    Raises:
        ValueError: If a size is below 1, the heads do not divide the width, or the activation is
            not known.

    Source: Devlin et al., arXiv 1810.04805.

    Example:
        >>> BertConfig(hidden_size=32, num_attention_heads=4).num_hidden_layers
        12
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type == "int":
                check_at_least(field.name, getattr(self, field.name), 1)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads is {self.num_attention_heads}: wanted a divisor of "
                f"hidden_size, {self.hidden_size}"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(
                f"hidden_act is {self.hidden_act!r}: wanted one of {', '.join(ACTIVATIONS)}"
            )


class Module(nn.Module):
    """A part of BERT: its layers start from N(0, initializer_range²)."""

    config: BertConfig
    dtype: Any = None

    def dense(self, units: int, name: str) -> nn.Dense:
        """A linear layer."""
        return nn.Dense(units, dtype=self.dtype, kernel_init=self._init, name=name)

    def embed(self, entries: int, name: str) -> nn.Embed:
        """A table of vectors."""
        width = self.config.hidden_size
        return nn.Embed(entries, width, dtype=self.dtype, embedding_init=self._init, name=name)

    def norm(self, name: str) -> nn.LayerNorm:
        """A layer norm."""
        return nn.LayerNorm(self.config.layer_norm_eps, dtype=self.dtype, name=name)

    def drop(self, x: Array, train: bool) -> Array:
        """Dropout between layers."""
        return nn.Dropout(self.config.hidden_dropout_prob)(x, deterministic=not train)

    @property
    def _init(self) -> nn.initializers.Initializer:
        return nn.initializers.normal(self.config.initializer_range)


class Embeddings(Module):
    """Word, position and type embeddings, added and normalised."""

    @nn.compact
    def __call__(self, ids: Array, types: Array, train: bool) -> Array:
        """(n, tokens) twice to (n, tokens, d)."""
        config = self.config
        word = self.embed(config.vocab_size, "word")(ids)
        position = self.embed(config.max_position_embeddings, "position")(jnp.arange(ids.shape[1]))
        kind = self.embed(config.type_vocab_size, "type")(types)
        return self.drop(self.norm("norm")(word + position[None] + kind), train)


class Attention(Module):
    """Multi-head self-attention over the tokens that ``mask`` keeps."""

    @nn.compact
    def __call__(self, h: Array, mask: Array, train: bool) -> Array:
        """(n, tokens, d) and (n, 1, 1, tokens) to (n, tokens, d)."""
        width, heads = self.config.hidden_size, self.config.num_attention_heads
        split = (*h.shape[:2], heads, width // heads)
        query, key, value = (
            self.dense(width, name)(h).reshape(split) for name in ("query", "key", "value")
        )
        rate = self.config.attention_probs_dropout_prob
        random = self.make_rng("dropout") if train and rate else None
        mixed = nn.dot_product_attention(
            query, key, value, mask=mask, dropout_rng=random, dropout_rate=rate,
            deterministic=not train, broadcast_dropout=False,
        )  # fmt: skip
        return self.dense(width, "output")(mixed.reshape(h.shape))


class Layer(Module):
    """Attention, then two linear layers; each part is added to its input and normalised."""

    @nn.compact
    def __call__(self, h: Array, mask: Array, train: bool) -> Array:
        """(n, tokens, d) and (n, 1, 1, tokens) to (n, tokens, d)."""
        config = self.config
        mixed = Attention(config, self.dtype, name="attention")(h, mask, train)
        h = self.norm("attention_norm")(h + self.drop(mixed, train))
        wide = ACTIVATIONS[config.hidden_act](self.dense(config.intermediate_size, "wide")(h))
        return self.norm("norm")(h + self.drop(self.dense(h.shape[-1], "narrow")(wide), train))


class BERT(Module):
    """The encoder: embeddings and ``num_hidden_layers`` transformer layers.

    The states are named ``hidden_0`` (the embeddings), ``hidden_1`` … for taps.

    Attributes:
        config: The sizes.
        dtype: Type of the computation, such as ``jnp.bfloat16``; None: that of the parameters.

    Source: Devlin et al., arXiv 1810.04805.

    Example:
        >>> config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2,
        ...                     num_attention_heads=2, intermediate_size=16)
        >>> model, ids = BERT(config), jnp.array([[1, 5, 2, 0]])
        >>> params = model.init(jax.random.key(0), ids)
        >>> last, hidden = model.apply(params, ids, ids > 0)
        >>> last.shape, len(hidden)
        ((1, 4, 8), 3)
    """

    def setup(self) -> None:
        """Make the layers."""
        parts = range(self.config.num_hidden_layers)
        self.embeddings = Embeddings(self.config, self.dtype)
        self.layer = [Layer(self.config, self.dtype) for _ in parts]
        self.pooler = nn.Dense(self.config.hidden_size, dtype=self.dtype, kernel_init=self._init)

    def __call__(
        self,
        ids: Int[Array, "n tokens"],
        mask: Bool[Array, "n tokens"] | Int[Array, "n tokens"] | None = None,
        types: Int[Array, "n tokens"] | None = None,
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "n tokens d"], tuple[Array, ...]]:
        """The last state (n, tokens, d), and all states, embeddings first.

        Args:
            ids: Numbers of the tokens.
            mask: True or 1 where there is a token, else padding; None: everywhere.
            types: 0 for the first sentence and 1 for the second; None: zeros.
            train: Whether to drop units, with the key ``rngs={"dropout": …}``.

        Raises:
            ValueError: If a shape differs, there are more tokens than positions, or a concrete
                number is not in the vocabulary.
        """
        mask = jnp.ones(ids.shape, bool) if mask is None else mask
        types = jnp.zeros(ids.shape, jnp.int32) if types is None else types
        check_tokens(self.config, ids, mask, types)
        h = checkpoint_name(self.embeddings(ids, types, train), "hidden_0")
        hidden, kept = [h], mask.astype(bool)[:, None, None, :]
        for number, layer in enumerate(self.layer, 1):
            h = checkpoint_name(layer(h, kept, train), f"hidden_{number}")
            hidden.append(h)
        if self.is_initializing():
            self.pool(h)
        return h, tuple(hidden)

    def pool(self, last: Float[Array, "n tokens d"]) -> Float[Array, "n d"]:
        """Tanh of a linear layer of the first token, [CLS]."""
        return jnp.tanh(self.pooler(last[:, 0]))


class BertClassifier(Module):
    """BERT with a linear layer on the pooled [CLS], or on each token if ``per_token``.

    Attributes:
        config: The sizes.
        dtype: As in ``BERT``.
        classes: C.
        per_token: Whether each token has a label, or the sentence.

    Example:
        >>> config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1,
        ...                     num_attention_heads=2, intermediate_size=16)
        >>> model, ids = BertClassifier(config, classes=3), jnp.array([[1, 5, 2, 0]])
        >>> logits, hidden = model.apply(model.init(jax.random.key(0), ids), ids, ids > 0)
        >>> logits.shape
        (1, 3)
    """

    classes: int = 2
    per_token: bool = False

    def setup(self) -> None:
        """Make the encoder and the head."""
        check_at_least("classes", self.classes, 1)
        self.bert = BERT(self.config, self.dtype)
        self.dropout = nn.Dropout(self.config.hidden_dropout_prob)
        self.classifier = nn.Dense(self.classes, dtype=self.dtype, kernel_init=self._init)

    def __call__(
        self,
        ids: Int[Array, "n tokens"],
        mask: Array | None = None,
        types: Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "n ... classes"], tuple[Array, ...]]:
        """Logits (n, C), or (n, tokens, C) if ``per_token``, and the states of ``BERT``."""
        last, hidden = self.bert(ids, mask, types, train=train)
        read = last if self.per_token else self.bert.pool(last)
        return self.classifier(self.dropout(read, deterministic=not train)), hidden


class BertMaskedLM(Module):
    """BERT that predicts hidden words, with the word embeddings as its last kernel.

    Source: Devlin et al., arXiv 1810.04805, section 3.1.
    """

    def setup(self) -> None:
        """Make the encoder and the head."""
        width, words = self.config.hidden_size, self.config.vocab_size
        self.bert = BERT(self.config, self.dtype)
        self.transform = nn.Dense(width, dtype=self.dtype, kernel_init=self._init)
        self.transform_norm = nn.LayerNorm(self.config.layer_norm_eps, dtype=self.dtype)
        self.bias = self.param("bias", nn.initializers.zeros, (words,))

    def __call__(
        self,
        ids: Int[Array, "n tokens"],
        mask: Array | None = None,
        types: Array | None = None,
        *,
        places: Int[Array, "n k"] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "n k words"], tuple[Array, ...]]:
        """Logits (n, k, words) at ``places``, or at all tokens, and the states of ``BERT``."""
        last, hidden = self.bert(ids, mask, types, train=train)
        if places is not None:
            last = jnp.take_along_axis(last, places[..., None], axis=1)
        read = ACTIVATIONS[self.config.hidden_act](self.transform(last))
        table = self.bert.embeddings.variables["params"]["word"]["embedding"]
        return self.transform_norm(read) @ table.T.astype(read.dtype) + self.bias[
            None, None
        ], hidden


def check_tokens(config: BertConfig, ids: Array, mask: Array, types: Array) -> None:
    """Raise ``ValueError`` if shapes differ, or concrete numbers are outside the tables."""
    if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(
            f"ids has shape {ids.shape} and dtype {ids.dtype}: wanted integers (n, tokens)"
        )
    if ids.shape[1] > config.max_position_embeddings:
        raise ValueError(
            f"ids has {ids.shape[1]} tokens: wanted at most {config.max_position_embeddings}, the "
            "positions of the model; cut the sentences"
        )
    for name, value in {"mask": mask, "types": types}.items():
        if value.shape != ids.shape:
            raise ValueError(f"{name} has shape {value.shape}: wanted {ids.shape}, as ids")
    for name, value, size in (
        ("ids", ids, config.vocab_size),
        ("types", types, config.type_vocab_size),
    ):
        if is_traced(value) or not value.size:
            continue
        low, high = np.asarray(value).min(), np.asarray(value).max()  # concrete under ``jit``, too
        if not 0 <= low <= high < size:
            raise ValueError(f"{name} has values from {low} to {high}: wanted 0 to {size - 1}")
