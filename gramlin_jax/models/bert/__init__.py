"""BERT in Flax, equal to that of Hugging Face, and its checkpoints."""

from gramlin_jax.models.bert.checkpoint import load
from gramlin_jax.models.bert.network import BERT, BertClassifier, BertConfig, BertMaskedLM

__all__ = ["BERT", "BertClassifier", "BertConfig", "BertMaskedLM", "load"]
