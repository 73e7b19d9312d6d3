"""Attention entropy of Hugging Face's BERT against the attention that it returns itself."""

import jax
import numpy as np
import pytest

from gramlin_jax import measure

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def _as_users_run_it():
    with jax.numpy_rank_promotion("allow"):
        yield


def test_bert_attends_as_it_says():
    from transformers import BertConfig, FlaxBertModel

    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    model = FlaxBertModel(BertConfig(**sizes, num_hidden_layers=2, initializer_range=1.0))
    rng = np.random.default_rng(0)
    x = {
        "input_ids": rng.integers(0, 20, (4, 6)).astype(np.int32),
        "attention_mask": (np.arange(6) < np.array([[6], [3], [5], [1]])).astype(np.int32),
    }
    m = measure(
        lambda params, x: model(**x, params=params).last_hidden_state,
        model.params,
        (x, x["attention_mask"] * 1.0),
        loss=lambda z, y: (z.mean(-1) * y).mean(),
        metrics=["attention_entropy"],
    )
    seen = np.broadcast_to(x["attention_mask"].sum(1)[:, None, None], (4, 2, 6))
    for layer, p in enumerate(model(**x, output_attentions=True).attentions):
        p = np.float64(p)
        entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(-1)[seen > 1] / np.log(seen[seen > 1])
        name = f"encoder/layer/{layer}/attention/self/query/kernel"
        np.testing.assert_allclose(m[name]["attention_entropy"], entropy.mean(), rtol=1e-5)
