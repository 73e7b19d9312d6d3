"""BERT against stored outputs of Hugging Face's, and checkpoints that are not one."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.flax import load_file, save_file

from gramlin_jax import find_layers
from gramlin_jax.models.bert import BERT, BertClassifier, BertConfig, BertMaskedLM, load
from tests.conftest import GOLDEN

FOLDER = GOLDEN / "bert"
SMALL = BertConfig(
    vocab_size=40, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
    intermediate_size=20, max_position_embeddings=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def stored():
    with np.load(FOLDER / "outputs.npz") as file:
        return dict(file)


@pytest.fixture
def copy(tmp_path):
    """A checkpoint to break."""
    return shutil.copytree(FOLDER, tmp_path / "copy")


def edit(folder, change):
    """Apply ``change`` to the arrays of a checkpoint, by name."""
    arrays = load_file(folder / "model.safetensors")
    change(arrays)
    save_file(arrays, folder / "model.safetensors")


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def tokens(stored):
    return [jnp.asarray(stored[name]) for name in ("ids", "mask", "types")]


def test_equals_hugging_face(stored):
    model, params = load(FOLDER)
    logits, hidden = model.apply(params, *tokens(stored))
    assert isinstance(model, BertClassifier) and not model.per_token
    for number, state in enumerate(hidden):
        np.testing.assert_allclose(state, stored[f"hidden_{number}"], atol=2e-6)
    np.testing.assert_allclose(logits, stored["logits"], atol=2e-6)


def test_a_headless_checkpoint_is_the_encoder(stored, copy):
    def behead(arrays):
        for name in list(arrays):
            if name.startswith("classifier"):
                del arrays[name]
            else:
                arrays[name.removeprefix("bert.")] = arrays.pop(name)
        arrays["cls.predictions.bias"] = jnp.zeros(40)
        arrays["embeddings.position_ids"] = jnp.arange(16)[None]

    edit(copy, behead)
    model, params = load(copy)
    last, hidden = model.apply(params, *tokens(stored))
    np.testing.assert_allclose(last, stored["hidden_2"], atol=2e-6)
    pooled = model.apply(params, last, method="pool")
    np.testing.assert_allclose(pooled, stored["pooled"], atol=2e-6)
    assert len(hidden) == 3


def test_padding_does_not_count(stored):
    model, params = load(FOLDER)
    ids, mask, types = tokens(stored)
    changed = jnp.where(mask == 1, ids, 7)
    np.testing.assert_array_equal(
        model.apply(params, ids, mask, types)[0], model.apply(params, changed, mask, types)[0]
    )
    short = model.apply(params, ids[2:, :3], mask[2:, :3], types[2:, :3])[0]
    np.testing.assert_allclose(short, stored["logits"][2:], atol=2e-6)


def test_heads_and_dropout():
    ids = jnp.array([[2, 7, 9, 3]])
    model = BertClassifier(SMALL, classes=4, per_token=True)
    params = model.init(jax.random.key(0), ids)
    plain = model.apply(params, ids)[0]
    dropped = model.apply(params, ids, train=True, rngs={"dropout": jax.random.key(1)})[0]
    assert plain.shape == (1, 4, 4) and not np.allclose(plain, dropped)

    words = BertMaskedLM(SMALL)
    params = words.init(jax.random.key(0), ids)
    table = params["params"]["bert"]["embeddings"]["word"]["embedding"]
    assert words.apply(params, ids)[0].shape == (1, 4, 40)
    params["params"]["bert"]["embeddings"]["word"]["embedding"] = table.at[5].set(0)
    assert not words.apply(params, ids)[0][..., 5].any()  # the word embeddings are its last kernel


def test_bfloat16_computes_in_it(stored):
    model, params = load(FOLDER, dtype=jnp.bfloat16)
    logits, hidden = model.apply(params, *tokens(stored))
    assert logits.dtype == hidden[1].dtype == jnp.bfloat16
    np.testing.assert_allclose(logits.astype(float), stored["logits"], atol=0.1)


def test_every_linear_layer_and_every_state_is_found(stored):
    model, params = load(FOLDER)
    layers = find_layers(model.apply, params, *tokens(stored))
    kernels = [name for name, site in layers.sites.items() if site.has_kernel]
    layer = ["attention/query", "attention/key", "attention/value", "attention/output"]
    layer += ["wide", "narrow"]
    wanted = [f"params/bert/layer_{i}/{part}/kernel" for i in range(2) for part in layer]
    assert kernels == [*wanted, "params/bert/pooler/kernel", "params/classifier/kernel"]
    assert {"hidden_0", "hidden_1", "hidden_2"} < set(layers.sites)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("bert.encoder.layer.1.output.dense.bias"), "no encoder.layer.1.output.d"),
        (lambda a: a.update(extra=jnp.ones(2)), "also extra: wanted the weights of a BERT alone"),
        (lambda a: a.pop("bert.pooler.dense.weight"), "no pooler.dense.weight"),
        (
            lambda a: a.update({"bert.embeddings.word_embeddings.weight": jnp.ones((41, 12))}),
            r"embeddings/word/embedding of shape \(41, 12\): wanted \(40, 12\)",
        ),
    ],
)
def test_other_weights_are_refused(copy, change, message):
    edit(copy, change)
    with pytest.raises(ValueError, match=message):
        load(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "model_type 'roberta'"),
        ({"position_embedding_type": "relative_key"}, "'relative_key': wanted 'bert' and 'absol"),
        ({"architectures": ["BertForMultipleChoice"]}, r"architectures is \['BertForMultipleCho"),
        ({"num_attention_heads": 5}, "num_attention_heads is 5: wanted a divisor of hidden_size"),
        ({"hidden_act": "swish"}, "hidden_act is 'swish': wanted one of gelu"),
        ({"num_hidden_layers": 3}, "has no encoder.layer.2.attention"),
    ],
)
def test_another_architecture_is_refused(copy, changes, message):
    configure(copy, **changes)
    with pytest.raises(ValueError, match=message):
        load(copy)


def test_missing_and_damaged_files(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.json is missing: wanted a folder of a"):
        load(tmp_path)
    (copy / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(OSError, match="has damaged weights"):
        load(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="has no weights: wanted model.safetensors or"):
        load(copy)
    (copy / "config.json").write_text("null")
    with pytest.raises(OSError, match="config.json is damaged"):
        load(copy)


@pytest.mark.parametrize(
    ("ids", "arguments", "message"),
    [
        (jnp.array([[1, 40]]), {}, "ids has values from 1 to 40: wanted 0 to 39"),
        (jnp.ones((1, 17), int), {}, "ids has 17 tokens: wanted at most 16"),
        (jnp.ones((1, 3)), {}, "dtype float32: wanted integers (n, tokens)"),
        (jnp.ones((1, 3), int), {"mask": jnp.ones(3)}, "mask has shape (3,): wanted (1, 3), as"),
        (jnp.ones((1, 3), int), {"types": jnp.full((1, 3), 2)}, "types has values from 2 to 2"),
    ],
)
def test_other_tokens_are_refused(ids, arguments, message):
    params = BERT(SMALL).init(jax.random.key(0), jnp.ones((1, 3), int))
    with pytest.raises(ValueError, match=re.escape(message)):
        BERT(SMALL).apply(params, ids, **arguments)
