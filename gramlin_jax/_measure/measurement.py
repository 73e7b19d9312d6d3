"""``Measurement``: sums and metrics of every layer, as a table and as a file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gramlin_jax._moments.features import Moments
from gramlin_jax._moments.gradients import GradientMoments
from gramlin_jax._moments.jacobians import JacobianMoments
from gramlin_jax.metrics.registry import LayerSums
from gramlin_jax.support.devices import gathered
from gramlin_jax.support.files import read_arrays, write_arrays


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Measurement:
    """Metrics of every layer, and the sums that they were computed from: a pytree.

    ``measurement[layer]`` are a layer's metrics by name, ``for layer in measurement`` are the
    layers, and ``print(measurement)`` is the table.

    Attributes:
        metrics: Values by layer and metric, float64. Unless chosen otherwise:

            * ``target_linearity``, ``adjusted``, ``noise_floor``: of the features that the layer
              reads; higher is more linear, the floor is what noise of the same rank would get;
            * ``surrogate``: normalised, in [0, 1]; NaN for convolutions and reduced features;
            * ``kernel_norm``, ``gradient_norm``: ‖K‖, ‖∇_K L‖;
            * ``virtual_share``: ‖virtual covariance‖/‖weight Gram‖, the relative size of a step;
            * ``virtual_alignment``: cosine of the Gram's change in a step of gradient descent with
              the virtual covariance.
        sums: ``LayerSums`` by layer, for any further metric.
        loss: Mean over samples.
        accuracy: Share of labels that the largest logit names; NaN for real targets.
        count: Number of samples.
        notes: Of layers whose features were reduced, or not measured, with the reason.
        coverage: What became of every parameter leaf, as text.
        heads: Of the metrics' columns in the table, where they are not the names themselves.
    """

    metrics: dict[str, dict[str, float]]
    sums: dict[str, LayerSums]
    loss: float
    accuracy: float
    count: float
    notes: tuple[tuple[str, str], ...] = dataclasses.field(metadata={"static": True})
    coverage: str = dataclasses.field(metadata={"static": True})
    heads: tuple[tuple[str, str], ...] = dataclasses.field(default=(), metadata={"static": True})

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in the order of the computation."""
        return tuple(self.metrics)

    def __getitem__(self, layer: str) -> dict[str, float]:
        if layer not in self.metrics:
            raise KeyError(f"layer is {layer!r}: wanted one of {', '.join(self.layers)}")
        return self.metrics[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def __contains__(self, layer: object) -> bool:
        return layer in self.metrics

    def __repr__(self) -> str:
        return self.table()

    def table(self) -> str:
        """The metrics, a line a layer, with notes below."""
        names, heads = list(next(iter(self.metrics.values()), {})), dict(self.heads)
        width = max([len("layer"), *map(len, self.layers)])
        head = [
            "layer".ljust(width),
            "      in → out",
            *(f"{heads.get(name, name)[:10]:>10}" for name in names),
        ]
        lines = ["  ".join(head)]
        for layer, values in self.metrics.items():
            cells = [f"{_cell(values[name]):>10}" for name in names]
            lines.append("  ".join([layer.ljust(width), f"{_shape(self.sums[layer]):>14}", *cells]))
        accuracy = "" if math.isnan(self.accuracy) else f", accuracy {self.accuracy:.4f}"
        lines.append(f"loss {self.loss:.6g}{accuracy}, {self.count:.0f} samples")
        lines += [f"{layer}: {note}" for layer, note in self.notes]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text: metrics by layer, loss, accuracy, count, notes, coverage."""
        plain = {
            layer: {name: float(value) for name, value in values.items()}
            for layer, values in self.metrics.items()
        }
        numbers = {name: float(getattr(self, name)) for name in ("loss", "accuracy", "count")}
        return {
            "layers": plain,
            **numbers,
            "notes": [list(note) for note in self.notes],
            "coverage": self.coverage,
            "heads": dict(self.heads),
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one ``.npz`` file, atomically."""
        arrays = {}
        for index, sums in enumerate(self.sums.values()):
            for field, value in _parts(sums):
                arrays[f"{index}/{field}"] = gathered(value)
        write_arrays(Path(path), {**arrays, "measurement": np.array(json.dumps(self.to_dict()))})

    @staticmethod
    def load(path: str | Path) -> Measurement:
        """What ``save`` wrote; arrays are NumPy's.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, or is no measurement.
        """
        arrays = read_arrays(Path(path))
        if "measurement" not in arrays:
            raise ValueError(f"path {path} holds {', '.join(arrays)}: wanted a saved Measurement")
        plain = json.loads(str(arrays.pop("measurement")))
        notes = tuple((layer, note) for layer, note in plain.pop("notes"))
        metrics = plain.pop("layers")
        heads = tuple(plain.pop("heads", {}).items())
        sums = {layer: _rebuilt(arrays, f"{index}/") for index, layer in enumerate(metrics)}
        return Measurement(metrics=metrics, sums=sums, notes=notes, heads=heads, **plain)


def _cell(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4g}"


def _shape(sums: LayerSums) -> str:
    if sums.kernel is None:
        return f"{sums.moments.feature_mean.shape[0]}" if sums.moments is not None else ""
    *groups, fan_in, fan_out = sums.kernel.shape
    return "".join(f"{size} × " for size in groups) + f"{fan_in} → {fan_out}"


# Fields of ``LayerSums`` that are sums, and those that are numbers.
NESTED = {"moments": Moments, "gradients": GradientMoments, "jacobians": JacobianMoments}
NUMBERS = "learning_rate", "reads_rows", "classes"


def _parts(sums: LayerSums) -> list[tuple[str, Any]]:
    """Names and arrays of a layer's sums, without those that are None."""
    nested = {name: getattr(sums, name) for name in NESTED}
    parts = [
        (f"{name}.{field.name}", getattr(value, field.name))
        for name, value in nested.items()
        if value is not None
        for field in dataclasses.fields(value)
    ]
    parts += [(name, getattr(sums, name)) for name in ("kernel", *NUMBERS)]
    return [(name, value) for name, value in parts if value is not None]


def _rebuilt(arrays: dict[str, np.ndarray], prefix: str) -> LayerSums:
    def of(kind: Any, name: str) -> Any:
        fields = [field.name for field in dataclasses.fields(kind)]
        keys = [f"{prefix}{name}.{field}" for field in fields]
        return kind(*(arrays.get(key) for key in keys)) if keys[0] in arrays else None

    return LayerSums(
        **{name: of(kind, name) for name, kind in NESTED.items()},
        kernel=arrays.get(f"{prefix}kernel"),
        learning_rate=float(arrays[f"{prefix}learning_rate"]),
        **{name: bool(arrays.get(f"{prefix}{name}", False)) for name in NUMBERS[1:]},
    )
