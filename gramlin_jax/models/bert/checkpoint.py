"""BERT checkpoints in the format of Hugging Face."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gramlin_jax.models.bert.network import BERT, BertClassifier, BertConfig
from gramlin_jax.support.extras import import_extra


class _Weight(NamedTuple):
    """An array of a checkpoint: where it goes, and whether PyTorch stores its transpose."""

    path: tuple[str, ...]
    transposed: bool = False


def load(
    folder: str | os.PathLike[str], *, dtype: Any = None
) -> tuple[BERT | BertClassifier, dict[str, Any]]:
    """A BERT from a folder in the format of Hugging Face, and its parameters in float32.

    The folder has config.json, and model.safetensors or pytorch_model.bin; the latter is read
    by PyTorch's loader of weights alone, so that no pickle is executed. Every array of the model
    must be there with its shape, and no other: only the heads of the pre-training tasks
    (``cls.…``) and a table of position numbers are left out. The pooler may be absent, as in models
    that do not use it.

    Args:
        folder: The folder.
        dtype: As in ``BERT``.

    Returns:
        The model, a ``BertClassifier`` where the checkpoint has a classifier, and its parameters.

    Raises:
        FileNotFoundError: If the folder has no configuration or no weights.
        ValueError: If the checkpoint is of another architecture, or arrays are missing, left
            over, or of another shape.
        OSError: If a file is damaged.
        ImportError: If safetensors, or PyTorch for pytorch_model.bin, is not installed.

    Example:
        >>> model, params = load("bert-base-uncased")  # doctest: +SKIP
        >>> last, hidden = model.apply(params, ids, mask)  # doctest: +SKIP
    """
    folder = Path(folder).expanduser()
    raw = _read_config(folder / "config.json")
    arrays = {_normalised(name): value for name, value in _read_arrays(folder).items()}
    model = _model_of(raw, arrays, dtype)
    wanted = dict(_weights(model))
    if "pooler.dense.weight" not in arrays and (isinstance(model, BERT) or model.per_token):
        wanted = {name: to for name, to in wanted.items() if not name.startswith("pooler.")}
    found = {name for name in arrays if not name.startswith("cls.")} - {"embeddings.position_ids"}
    if missing := sorted(wanted.keys() - found):
        raise ValueError(f"{folder} has no {_few(missing)}: wanted all weights of config.json")
    if extra := sorted(found - wanted.keys()):
        raise ValueError(f"{folder} has also {_few(extra)}: wanted the weights of a BERT alone")
    params = {
        to.path: np.asarray(arrays[name].T if to.transposed else arrays[name], np.float32)
        for name, to in wanted.items()
    }
    _check_shapes(folder, model, params)
    return model, {"params": unflatten_dict(params)}


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: wanted a folder of a BERT checkpoint")
    try:
        raw = json.loads(path.read_text())
        kind = raw.get("model_type")
    except (ValueError, AttributeError) as error:
        raise OSError(f"{path} is damaged ({error}): wanted the configuration of a BERT") from error
    position = raw.get("position_embedding_type", "absolute")
    if kind != "bert" or position != "absolute":
        raise ValueError(
            f"{path} has model_type {kind!r} and position_embedding_type {position!r}: wanted "
            "'bert' and 'absolute'"
        )
    return raw


def _read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of all files of weights, by the names of the checkpoint."""
    if files := sorted(folder.glob("model*.safetensors")):
        read = import_extra("safetensors.flax", "text").load_file
    elif files := sorted(folder.glob("pytorch_model*.bin")):
        torch = import_extra("torch", "equivalence")

        def read(path: Path) -> dict[str, np.ndarray]:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            return {name: value.float().numpy() for name, value in loaded.items()}
    else:
        raise FileNotFoundError(
            f"{folder} has no weights: wanted model.safetensors or pytorch_model.bin"
        )
    try:
        return {name: np.asarray(v) for path in files for name, v in read(path).items()}
    except (MemoryError, PermissionError):
        raise
    except Exception as error:
        raise OSError(f"{folder} has damaged weights ({error}): copy the folder again") from error


def _normalised(name: str) -> str:
    """A name without the prefix of models with heads, and with PyTorch's words for a norm."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


def _model_of(raw: Mapping[str, Any], arrays: Mapping[str, Any], dtype: Any) -> Any:
    names = {field.name for field in dataclasses.fields(BertConfig)}
    config = BertConfig(**{name: value for name, value in raw.items() if name in names})
    if "classifier.weight" not in arrays:
        return BERT(config, dtype)
    kinds = raw.get("architectures") or [None]
    per_token = {"BertForSequenceClassification": False, "BertForTokenClassification": True}
    if kinds[0] not in per_token:
        raise ValueError(
            f"architectures is {kinds} in config.json: wanted one of {', '.join(per_token)} for a "
            "checkpoint with a classifier"
        )
    classes = len(arrays["classifier.weight"])
    return BertClassifier(config, dtype, classes=classes, per_token=per_token[kinds[0]])


def _weights(model: BERT | BertClassifier) -> Iterator[tuple[str, _Weight]]:
    """The checkpoint's name of every array, and its place here."""
    head = isinstance(model, BertClassifier)
    for name, path in _modules(model.config):
        path = ("bert", *path) if head else path
        if path[-1] in ("word", "position", "type"):
            yield f"{name}.weight", _Weight((*path, "embedding"))
        elif path[-1].endswith("norm"):
            yield f"{name}.weight", _Weight((*path, "scale"))
            yield f"{name}.bias", _Weight((*path, "bias"))
        else:
            yield from _dense(name, path)
    if head:
        yield from _dense("classifier", ("classifier",))


def _dense(name: str, path: tuple[str, ...]) -> Iterator[tuple[str, _Weight]]:
    yield f"{name}.weight", _Weight((*path, "kernel"), transposed=True)
    yield f"{name}.bias", _Weight((*path, "bias"))


def _modules(config: BertConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The checkpoint's name of every module that holds arrays, and its place in ``BERT``."""
    for name in ("word", "position"):
        yield f"embeddings.{name}_embeddings", ("embeddings", name)
    yield "embeddings.token_type_embeddings", ("embeddings", "type")
    yield "embeddings.LayerNorm", ("embeddings", "norm")
    for number in range(config.num_hidden_layers):
        there, here = f"encoder.layer.{number}", f"layer_{number}"
        for name in ("query", "key", "value"):
            yield f"{there}.attention.self.{name}", (here, "attention", name)
        yield f"{there}.attention.output.dense", (here, "attention", "output")
        yield f"{there}.attention.output.LayerNorm", (here, "attention_norm")
        yield f"{there}.intermediate.dense", (here, "wide")
        yield f"{there}.output.dense", (here, "narrow")
        yield f"{there}.output.LayerNorm", (here, "norm")
    yield "pooler.dense", ("pooler",)


def _check_shapes(folder: Path, model: nn.Module, params: Mapping[tuple, np.ndarray]) -> None:
    shapes: Any = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    wanted = cast("dict[tuple, Any]", flatten_dict(shapes["params"]))
    for path, value in params.items():
        if value.shape != wanted[path].shape:
            raise ValueError(
                f"{folder} has {'/'.join(path)} of shape {value.shape}: wanted "
                f"{wanted[path].shape}, as config.json says"
            )


def _few(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
