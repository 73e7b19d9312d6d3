"""``Measurement``: sums and metrics of every layer, as a table and as a file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from gramlin_jax._measure.charts import bars
from gramlin_jax._measure.comparison import Comparison
from gramlin_jax._measure.tables import Form, Library, cell, frame, html_table
from gramlin_jax._moments.attention import AttentionMoments
from gramlin_jax._moments.features import Moments
from gramlin_jax._moments.gradients import GradientMoments
from gramlin_jax._moments.jacobians import JacobianMoments
from gramlin_jax.metrics.layer_sums import LayerSums
from gramlin_jax.support.array_fields import ArrayFields
from gramlin_jax.support.devices import gathered
from gramlin_jax.support.files import read_arrays, write_arrays

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Measurement(ArrayFields, Mapping[str, dict[str, float]]):
    """Metrics of every layer, and the sums that they were computed from: a pytree.

    It is a mapping of layers: ``measurement[layer]`` are a layer's metrics by name.
    ``print(measurement)`` is the table. ``==`` compares all numbers, NaN being equal to NaN.

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
        return dict(self.metrics[layer])

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
        head, rows = self._cells()
        head = [text[:10] for text in head]
        first = max(len(row[0]) for row in (head, *rows))
        lines = [
            "  ".join([name.ljust(first), f"{shape:>14}", *(f"{text:>10}" for text in rest)])
            for name, shape, *rest in (head, *rows)
        ]
        return "\n".join([*lines, *self._below()])

    def _repr_html_(self) -> str:
        return html_table(*self._cells(), self._below())

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        names, heads = self._names(), dict(self.heads)
        rows = [
            [layer, _shape(self.sums.get(layer)), *(cell(values[name]) for name in names)]
            for layer, values in self.metrics.items()
        ]
        return ["layer", "in → out", *(heads.get(name, name) for name in names)], rows

    def _below(self) -> list[str]:
        accuracy = "" if math.isnan(self.accuracy) else f", accuracy {self.accuracy:.4f}"
        scores = f"loss {self.loss:.6g}{accuracy}, {self.count:.0f} samples"
        return [scores, *(f"{layer}: {note}" for layer, note in self.notes)]

    def _names(self) -> list[str]:
        return list(next(iter(self.metrics.values()), {}))

    def scalars(self) -> dict[str, float]:
        """All numbers by ``layer/metric``, with ``loss``, ``accuracy`` and ``count``: for a logger.

        A metric that is not defined at a layer is NaN.
        """
        scores = {name: float(getattr(self, name)) for name in ("loss", "accuracy", "count")}
        of_layers = {
            f"{layer}/{name}": float(value)
            for layer, values in self.metrics.items()
            for name, value in values.items()
        }
        return {**of_layers, **scores}

    def to_frame(self, form: Form = "wide", *, library: Library = "pandas") -> Any:
        """The metrics as a data frame.

        Args:
            form: ``"wide"``: a line a layer, a column a metric; ``"long"``: columns ``layer``,
                ``metric`` and ``value``.
            library: ``"pandas"`` or ``"polars"``, whose frames also write CSV and Parquet.

        Raises:
            ValueError: If ``form`` or ``library`` is unknown.
            ImportError: If the library is not installed.
        """
        rows = [({"layer": layer}, values) for layer, values in self.metrics.items()]
        return frame(rows, form, library)

    def plot(self, metric: str = "target_linearity") -> Figure:
        """Bars of a metric over the layers; those of target linearity have their noise floor.

        Raises:
            ValueError: If the metric was not measured.
        """
        if metric not in self._names():
            raise ValueError(f"metric is {metric!r}: wanted one of {', '.join(self._names())}")
        return bars(self._column(metric), self._column(FLOORS.get(metric, "")), metric)

    def _column(self, metric: str) -> dict[str, float]:
        return {layer: v[metric] for layer, v in self.metrics.items() if metric in v}

    def compare(self, other: Measurement) -> Comparison:
        """How another measurement differs from this one; layers are matched by name.

        Raises:
            ValueError: If they share no layer, or no metric.
            TypeError: If it is no measurement.
        """
        if not isinstance(other, Measurement):
            raise TypeError(f"other is a {type(other).__name__}: wanted a Measurement")
        shared = [layer for layer in self.metrics if layer in other.metrics]
        if not shared:
            raise ValueError(
                f"other has the layers {', '.join(other.layers)}: wanted some of "
                f"{', '.join(self.layers)}"
            )
        names = [name for name in self._names() if name in other._names()]
        if not names:
            raise ValueError(
                f"other has the metrics {', '.join(other._names())}: wanted some of "
                f"{', '.join(self._names())}"
            )
        before, after = (
            {layer: {name: m[layer][name] for name in names} for layer in shared}
            for m in (self, other)
        )
        mine, theirs = (tuple(x for x in m.layers if x not in shared) for m in (self, other))
        return Comparison(before, after, mine, theirs)

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

    @staticmethod
    def from_dict(
        plain: Mapping[str, Any], sums: dict[str, LayerSums] | None = None
    ) -> Measurement:
        """What ``to_dict`` gave, without its sums or with these."""
        return Measurement(
            metrics=ordered(
                {
                    layer: {name: float(value) for name, value in values.items()}
                    for layer, values in plain["layers"].items()
                }
            ),
            sums=sums or {},
            loss=float(plain["loss"]),
            accuracy=float(plain["accuracy"]),
            count=float(plain["count"]),
            notes=tuple((layer, note) for layer, note in plain["notes"]),
            coverage=plain["coverage"],
            heads=tuple(plain.get("heads", {}).items()),
        )

    def save(self, path: str | Path) -> None:
        """Write everything to one ``.npz`` file, atomically."""
        arrays = {}
        for index, layer in enumerate(self.metrics):
            for field, value in _parts(self.sums[layer]) if layer in self.sums else ():
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
        places = {layer: f"{i}/" for i, layer in enumerate(plain["layers"])}
        sums = {k: _rebuilt(arrays, p) for k, p in places.items() if f"{p}learning_rate" in arrays}
        return Measurement.from_dict(plain, sums)


def ordered(metrics: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The metrics in dictionaries whose order JAX keeps; it sorts the names of others."""
    return OrderedDict((layer, OrderedDict(values)) for layer, values in metrics.items())


# What noise would get, by metric.
FLOORS = {"target_linearity": "noise_floor"}


def _shape(sums: LayerSums | None) -> str:
    if sums is None:
        return ""
    if sums.kernel is None:
        return f"{sums.moments.feature_mean.shape[0]}" if sums.moments is not None else ""
    *groups, fan_in, fan_out = sums.kernel.shape
    return "".join(f"{size} × " for size in groups) + f"{fan_in} → {fan_out}"


# Fields of ``LayerSums`` that are sums, and those that are numbers.
NESTED = {
    "moments": Moments,
    "gradients": GradientMoments,
    "jacobians": JacobianMoments,
    "attention": AttentionMoments,
}
NUMBERS = "learning_rate", "reads_rows", "pooled", "classes", "fixed_jacobian"


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
