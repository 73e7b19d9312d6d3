"""BERT: hidden states of sentences, and moments of all states without keeping any.

Where PyTorch and transformers are installed, Hugging Face's own model extracts the same states in
the same run, from the same weights' shapes and the same tokens.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.common import print_table, seconds
from experiments.bert.measures import state_sums
from gramlin_jax.models.bert import BertClassifier, BertConfig

VOCABULARY, CLASSES, BATCH = 1000, 2, 32


def run(models: Sequence[tuple[int, int, int]], sentences: int, length: int, rounds: int) -> None:
    """Print tokens per second of each model (layers, width, heads), and what memory it needs."""
    rows = []
    for layers, width, heads in models:
        config = BertConfig(
            vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers,
            num_attention_heads=heads, intermediate_size=4 * width, max_position_embeddings=length,
        )  # fmt: skip
        ids = np.random.default_rng(0).integers(0, VOCABULARY, (sentences, length))
        ways, temporary = _ours(config, ids)
        if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
            ways["PyTorch"] = _theirs(config, ids)
        for way in ways.values():
            way()  # compile, and fill caches
        times = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                times[name].append(seconds(way))
        rate = {name: sentences * length / np.median(taken) for name, taken in times.items()}
        kept = sentences * length * width * 4 * (layers + 1) / 1e6
        rows.append(
            [
                f"{layers} × {width}",
                *(f"{rate[name]:.0f}" for name in ("states", "moments")),
                f"{rate['PyTorch']:.0f}" if "PyTorch" in rate else "–",
                f"{rate['states'] / rate['PyTorch']:.2f}" if "PyTorch" in rate else "–",
                f"{temporary / 1e6:.0f}",
                f"{kept:.0f}",
            ]
        )
    print_table(
        f"Tokens per second of {sentences} sentences of {length} tokens, and MB",
        ["model", "states", "moments", "PyTorch", "states/PyTorch", "moments hold", "all states"],
        rows,
    )


def _ours(config: BertConfig, ids: np.ndarray) -> tuple[dict[str, Callable[[], Any]], int]:
    """Both ways, and the bytes that the moments hold while they are summed."""
    model = BertClassifier(config, classes=CLASSES)
    tokens, ones = jnp.asarray(ids, jnp.int32), jnp.ones(ids.shape, jnp.int32)
    x, labels = (tokens, ones, 0 * ones), tokens[:, 0] % CLASSES
    params = model.init(jax.random.key(0), tokens[:1])

    def states(params: Any, x: Any) -> Any:
        """Of a batch; what is kept of each batch is a number, as if it went to a disk."""
        return sum(state.sum() for state in model.apply(params, *x)[1])

    @jax.jit
    def extract(params: Any, x: Any) -> Any:
        batches = jax.tree.map(lambda a: a.reshape(-1, BATCH, a.shape[1]), x)
        return lax.map(lambda batch: states(params, batch), batches)

    summed = jax.jit(lambda params, x, y: state_sums(model, params, [(x, y)]))
    analysis = summed.lower(params, x, labels).compile().memory_analysis()
    ways = {"states": lambda: extract(params, x), "moments": lambda: summed(params, x, labels)}
    return ways, analysis.temp_size_in_bytes


def _theirs(config: BertConfig, ids: np.ndarray) -> Callable[[], Any]:
    import torch
    import transformers

    model = transformers.BertModel(transformers.BertConfig(**dataclasses.asdict(config))).eval()
    tokens = torch.tensor(ids)

    def extract() -> Any:
        with torch.no_grad():
            return [
                sum(float(state.sum()) for state in model(part, output_hidden_states=True)[2])
                for part in tokens.split(BATCH)
            ]

    return extract
