"""Published models in small configurations, called as their users call them.

Each function returns a ``Model``. Texts are of unequal lengths.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

ALL = os.environ.get("GRAMLIN_TEST_MODELS") == "1"
"""Whether an absent package is a failure, as for ``make test-models``."""

SAMPLES, LENGTH, VOCABULARY, CLASSES = 40, 6, 20, 3


@dataclasses.dataclass(frozen=True)
class Model:
    """A model, data, and what is to be found in it.

    Attributes:
        f: ``f(params, x) -> output``.
        params: Its parameters.
        x: Samples.
        y: Labels, one a sample or one a token; −100 does not count.
        outputs: ``output -> logits``.
        sites: Names of the leaves that are linear sites; each is used once.
        lost: By leaf, words of the reason why a use of it is not tapped.
        transposed: Names of sites that are stored (…, out, in).
        skipped: Names of sites whose features are not measured: which of their rows is which token
            is not clear, since they read the state before it, or go backwards from its end.
    """

    f: Callable[..., Any]
    params: Any
    x: Any
    y: np.ndarray
    sites: list[str]
    outputs: Callable[[Any], Any] = lambda output: output
    lost: dict[str, str] = dataclasses.field(default_factory=dict)
    transposed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def loss(self, output: Any, y: Any) -> Any:
        """The mean cross-entropy over labels that count."""
        counted = y != -100
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(
            self.outputs(output), jnp.where(counted, y, 0)
        )
        return (losses * counted).sum() / counted.sum()


def made(build: Callable[[], Any]) -> Any:
    """What ``build`` makes; without its package the test is skipped, or fails if ``ALL``."""
    try:
        return build()
    except ImportError as error:
        if ALL:
            raise
        pytest.skip(f"{build.__name__} cannot be made: {error}")


def needed(package: str) -> Any:
    """The module; as ``made``, if it is absent."""
    return importlib.import_module(package) if ALL else pytest.importorskip(package)


def text(rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Tokens and their mask, and a label for each that is no padding."""
    tokens = rng.integers(2, VOCABULARY, (SAMPLES, LENGTH))
    mask = np.arange(LENGTH)[None] < rng.integers(2, LENGTH + 1, SAMPLES)[:, None]
    labels = np.where(mask, rng.integers(0, CLASSES, mask.shape), -100)
    tokens = np.where(mask, tokens, 1)  # RoBERTa's padding
    return {"input_ids": tokens.astype(np.int32), "attention_mask": mask.astype(np.int32)}, labels


def moved(params: Any, rng: np.random.Generator) -> Any:
    """The parameters with noise on all of them, since some start at zero or at one."""

    def noisy(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.asarray(leaf + 0.2 * rng.standard_normal(np.shape(leaf)), leaf.dtype)

    return jax.tree.map(noisy, params)


ENCODER = [
    *(f"attention/self/{name}" for name in ("query", "key", "value")),
    *("attention/output/dense", "intermediate/dense", "output/dense"),
]
SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "num_labels": CLASSES,
}


def encoder(name: str) -> list[str]:
    """Sites of an encoder with one layer, as Hugging Face names them."""
    return [f"{name}/encoder/layer/0/{site}/kernel" for site in ENCODER]


def bert() -> Model:
    """A classifier of sentences; the output is an object."""
    from transformers import BertConfig, FlaxBertForSequenceClassification

    rng = np.random.default_rng(0)
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH, **SIZES)
    model = FlaxBertForSequenceClassification(config)
    x, _ = text(rng)
    return Model(
        f=lambda params, x: model(**x, params=params),
        params=moved(model.params, rng),
        x=x,
        y=rng.integers(0, CLASSES, SAMPLES),
        outputs=lambda output: output.logits,
        sites=[*encoder("bert"), "bert/pooler/dense/kernel", "classifier/kernel"],
        lost={"bert/embeddings/word_embeddings/embedding": "lookup"},
    )


def roberta() -> Model:
    """A tagger; positions count tokens that are no padding, so that theirs are lookups as well."""
    from transformers import FlaxRobertaForTokenClassification, RobertaConfig

    rng = np.random.default_rng(0)
    config = RobertaConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH + 2, **SIZES)
    model = FlaxRobertaForTokenClassification(config)
    x, labels = text(rng)
    embeddings = "roberta/embeddings/{}_embeddings/embedding"
    return Model(
        f=lambda params, x: model(x["input_ids"], x["attention_mask"], params=params).logits,
        params=moved(model.params, rng),
        x=x,
        y=labels,
        sites=[*encoder("roberta"), "classifier/kernel"],
        lost={embeddings.format(name): "lookup" for name in ("word", "position")},
    )


def gpt2() -> Model:
    """A language model: kernels (out, in), a head that is the embedding, labels one token ahead."""
    from transformers import FlaxGPT2LMHeadModel, GPT2Config

    rng = np.random.default_rng(0)
    sizes = {"n_positions": LENGTH, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_inner": 12}
    model = FlaxGPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes))
    x, labels = text(rng)
    ahead = np.full_like(labels, -100)
    ahead[:, :-1] = np.where(labels[:, 1:] < 0, -100, x["input_ids"][:, 1:])
    block = [f"transformer/h/0/{name}/kernel" for name in ("attn/c_attn", "attn/c_proj")]
    block += [f"transformer/h/0/mlp/{name}/kernel" for name in ("c_fc", "c_proj")]
    return Model(
        f=lambda params, x: model(**x, params=params),
        params=moved(model.params, rng),
        x=x,
        y=ahead,
        outputs=lambda output: output.logits,
        sites=[*block, "transformer/wte/embedding"],
        lost={"transformer/wte/embedding": "lookup"},
        transposed=(*block, "transformer/wte/embedding"),
    )


def vit() -> Model:
    """A classifier of images, channels first."""
    from transformers import FlaxViTForImageClassification, ViTConfig

    rng = np.random.default_rng(0)
    model = FlaxViTForImageClassification(ViTConfig(image_size=8, patch_size=4, **SIZES))
    names = [f"attention/attention/{name}" for name in ("query", "key", "value")]
    names += ENCODER[3:]
    patches = "vit/embeddings/patch_embeddings/projection/kernel"
    return Model(
        f=lambda params, x: model(x, params=params),
        params=moved(model.params, rng),
        x=rng.standard_normal((SAMPLES, 3, 8, 8)).astype(np.float32),
        y=rng.integers(0, CLASSES, SAMPLES),
        outputs=lambda output: output.logits,
        sites=[
            patches,
            *(f"vit/encoder/layer/0/{name}/kernel" for name in names),
            "classifier/kernel",
        ],
    )


def mobilenet() -> Model:
    """Depthwise convolutions, and batch norms whose statistics are closed over."""
    import haiku as hk

    rng = np.random.default_rng(0)
    network = hk.transform_with_state(
        lambda x, is_training: hk.nets.MobileNetV1((1, 2), (8, 12), CLASSES)(x, is_training)
    )
    x = rng.standard_normal((SAMPLES, 12, 12, 3)).astype(np.float32)
    params, state = network.init(jax.random.key(0), x, True)
    state = jax.tree.map(lambda a: a + 0.5, state)
    blocks = [f"mobile_net_v1/mobile_net_v1_block{end}" for end in ("", "_1")]
    kinds = "depthwise_conv", "pointwise_conv"
    names = [f"{block}/{kind}" for block in blocks for kind in kinds]
    names += ["mobile_net_v1/conv2_d", "mobile_net_v1/logits"]
    return Model(
        f=lambda params, x: network.apply(params, state, None, x, False)[0],
        params=moved(params, rng),
        x=x,
        y=rng.integers(0, CLASSES, SAMPLES),
        sites=[f"{name}/w" for name in names],
    )


def equinox_tagger() -> Model:
    """A GRU cell that is scanned over time, under ``vmap``; the parameters are the module."""
    import equinox as eqx

    class Tagger(eqx.Module):
        embed: eqx.nn.Embedding
        cell: eqx.nn.GRUCell
        head: eqx.nn.Linear

        def __init__(self, key: Any) -> None:
            keys = jax.random.split(key, 3)
            self.embed = eqx.nn.Embedding(VOCABULARY, 5, key=keys[0])
            self.cell = eqx.nn.GRUCell(5, 7, key=keys[1])
            self.head = eqx.nn.Linear(7, CLASSES, key=keys[2])

        def __call__(self, tokens: Any) -> Any:
            def step(h: Any, x: Any) -> Any:
                h = self.cell(x, h)
                return h, h

            states = jax.lax.scan(step, jnp.zeros(7), jax.vmap(self.embed)(tokens))[1]
            return jax.vmap(self.head)(states)

    rng = np.random.default_rng(0)
    x, labels = text(rng)
    sites = ["cell/weight_ih", "cell/weight_hh", "head/weight"]
    return Model(
        f=lambda model, tokens: jax.vmap(model)(tokens),
        params=moved(Tagger(jax.random.key(0)), rng),
        x=x["input_ids"],
        y=labels,
        sites=sites,
        lost={"embed/weight": "lookup"},
        transposed=tuple(sites),
        skipped=("cell/weight_hh",),
    )


def linen_tagger() -> Model:
    """GRU cells of both directions; the length of each sample is known."""
    from flax import linen as nn

    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, tokens: Any, lengths: Any) -> Any:
            h = nn.Embed(VOCABULARY, 5)(tokens)
            both = nn.Bidirectional(nn.RNN(nn.GRUCell(7)), nn.RNN(nn.GRUCell(7)))
            return nn.Dense(CLASSES)(both(h, seq_lengths=lengths))

    rng = np.random.default_rng(0)
    x, labels = text(rng)
    lengths = x["attention_mask"].sum(1).astype(np.int32)
    params = Tagger().init(jax.random.key(0), x["input_ids"], lengths)["params"]
    gates = "ir", "iz", "in", "hr", "hz", "hn"
    return Model(
        f=lambda params, x: Tagger().apply({"params": params}, *x),
        params=moved(params, rng),
        x=(x["input_ids"], lengths),
        y=labels,
        sites=[
            *(f"GRUCell_{i}/{gate}/kernel" for i in (0, 1) for gate in gates),
            "Dense_0/kernel",
        ],
        lost={"Embed_0/embedding": "lookup"},
        skipped=(
            *(f"GRUCell_0/{gate}/kernel" for gate in gates[3:]),
            *(f"GRUCell_1/{gate}/kernel" for gate in gates),
        ),
    )


def _linen_mlp() -> Any:
    from flax import linen as nn

    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(CLASSES)(nn.gelu(nn.Dense(7)(x)))

    return MLP()


def lora() -> Model:
    """Low-rank adapters beside frozen kernels, by qwix."""
    import qwix

    rng = np.random.default_rng(0)
    rule = qwix.LoraRule(module_path=".*", rank=2, alpha=1.0)
    model = qwix.apply_lora_to_model(_linen_mlp(), qwix.LoraProvider([rule]))
    x = rng.standard_normal((SAMPLES, 5)).astype(np.float32)
    params = model.init(jax.random.key(0), x)["params"]
    kernels = "kernel", "kernel_lora_a", "kernel_lora_b"
    return Model(
        f=lambda params, x: model.apply({"params": params}, x),
        params=moved(params, rng),
        x=x,
        y=rng.integers(0, CLASSES, SAMPLES),
        sites=[f"Dense_{i}/{kernel}" for i in (0, 1) for kernel in kernels],
    )


def int8_kernels() -> Model:
    """Kernels of 8 bits with scales, by qwix."""
    return _int8(None)


def int8_matmuls() -> Model:
    """Activations of 8 bits as well: products of integers, of which none is a site."""
    return _int8("int8")


def _int8(activations: str | None) -> Model:
    import qwix

    rng = np.random.default_rng(0)
    rules = [qwix.QuantizationRule(module_path=".*", weight_qtype="int8", act_qtype=activations)]
    model = qwix.quantize_model(_linen_mlp(), qwix.PtqProvider(rules))
    x = rng.standard_normal((SAMPLES, 5)).astype(np.float32)
    plain = moved(_linen_mlp().init(jax.random.key(0), x)["params"], rng)
    abstract = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    params = qwix.quantize_params(plain, abstract)
    qvalues = [f"Dense_{i}/kernel/array/qvalue" for i in (0, 1)]
    return Model(
        f=lambda params, x: model.apply({"params": params}, x),
        params=params,
        x=x,
        y=rng.integers(0, CLASSES, SAMPLES),
        sites=[] if activations else [f"Dense_{i}/kernel/array/scale" for i in (0, 1)],
        lost=dict.fromkeys(qvalues, "matmul of int8 numbers") if activations else {},
    )


MODELS = {
    "bert": bert,
    "roberta": roberta,
    "gpt2": gpt2,
    "vit": vit,
    "mobilenet": mobilenet,
    "equinox_tagger": equinox_tagger,
    "linen_tagger": linen_tagger,
    "lora": lora,
    "int8_kernels": int8_kernels,
}
