"""Results: labelled arrays with the configuration of their run, in one file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from gramlin_jax.support.files import read_arrays, write_arrays

Computed: TypeAlias = tuple[dict[str, np.ndarray], dict[str, Any]]
"""What the ``run`` of a family returns: named arrays, and notes on the run."""

COORDINATES = {"epochs": "epoch", "steps": "step"}
"""Coordinates that a run finds out: their names among its arrays, and as dimensions."""

SCORES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
"""The arrays that ``shared.measures.scores`` gives."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run of an experiment gives.

    Attributes:
        config: The settings.
        data: The arrays; their dimensions have names (``seed``, ``epoch``, …) and coordinates.
        info: Notes on the run.
    """

    config: Any
    data: xr.Dataset
    info: dict[str, Any]


def later(default: Any) -> Any:
    """A field of a configuration that runs of before do not have, in which it was ``default``."""
    return dataclasses.field(default=default, metadata={"later": True})


def settings(config: Any) -> dict[str, Any]:
    """What a run's folder is named by, and keeps: all fields, ``later`` ones unless default."""
    values = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        if field.metadata.get("later") and values[field.name] == field.default:
            del values[field.name]
    return values


def label(
    arrays: Mapping[str, Any],
    dimensions: Mapping[str, tuple[str, ...]],
    coordinates: Mapping[str, Iterable[Any]],
) -> xr.Dataset:
    """Name the dimensions of arrays.

    Args:
        arrays: The arrays; one whose name is in ``COORDINATES`` becomes a coordinate.
        dimensions: Names of the dimensions of every array.
        coordinates: Values along dimensions, for those that the arrays have.

    Raises:
        ValueError: If an array has no entry in ``dimensions``, or its shape does not fit it.
    """
    unknown = [name for name in arrays if name not in {**dimensions, **COORDINATES}]
    if unknown:
        raise ValueError(f"arrays holds {unknown}: wanted names of {sorted(dimensions)}")
    data = xr.Dataset({n: (dimensions[n], v) for n, v in arrays.items() if n in dimensions})
    found = {COORDINATES[n]: v for n, v in arrays.items() if n in COORDINATES}
    along = {dim: list(values) for dim, values in coordinates.items()} | found
    return data.assign_coords({dim: along[dim] for dim in along if dim in data.dims})


def unlabelled(data: xr.Dataset) -> dict[str, np.ndarray]:
    """The arrays of ``label``, without its other coordinates."""
    found = {
        name: data.coords[dim].values for name, dim in COORDINATES.items() if dim in data.coords
    }
    return {**{str(name): values.values for name, values in data.data_vars.items()}, **found}


def write_result(path: Path, data: xr.Dataset, info: Mapping[str, Any]) -> None:
    """Write arrays, labels and notes into one file, atomically."""
    found = {dim for dim in COORDINATES.values() if dim in data.dims}
    labels = {
        "dimensions": {name: values.dims for name, values in data.data_vars.items()},
        "coordinates": {d: v.values.tolist() for d, v in data.coords.items() if d not in found},
    }
    notes = {"labels": np.array(json.dumps(labels)), "info": np.array(json.dumps(dict(info)))}
    write_arrays(path, {**unlabelled(data), **notes})


def read_arrays_and_labels(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], Any]:
    """Read what ``write_result`` wrote.

    Returns:
        The arrays; the notes; and the labels, None in a file of a version that wrote none.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated or damaged, or not a result.
    """
    arrays = read_arrays(path)
    try:
        info = json.loads(str(arrays.pop("info")))
        labels = json.loads(str(arrays.pop("labels", "null")))
        if not isinstance(info, dict) or not isinstance(labels, dict | None):
            raise ValueError("it has no notes and labels")
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a result (it lacks readable notes and labels): move it away to make it "
            "anew; nothing was changed"
        ) from error
    return arrays, info, labels


def table_of_runs(data: xr.Dataset, axes: tuple[str, ...]) -> pd.DataFrame:
    """A row for each network: its numbers at the end of training.

    Args:
        data: A result's.
        axes: Dimensions that tell the networks apart; the index of the table.

    Returns:
        A column for each array that has these dimensions and no others but ``epoch`` and
        ``step``, of which it is the last; and one for each layer where it has ``layer`` too.
    """
    columns: dict[str, pd.Series] = {}
    for name, values in data.data_vars.items():
        ends = values.isel({dim: -1 for dim in COORDINATES.values() if dim in values.dims})
        if set(ends.dims) == set(axes):
            columns[str(name)] = ends.to_series()
        elif set(ends.dims) == {*axes, "layer"}:
            for layer in ends["layer"].values:
                one = ends.sel(layer=layer, drop=True)
                columns[f"{name}_{layer}"] = one.transpose(*axes).to_series()
    return pd.DataFrame(columns)
