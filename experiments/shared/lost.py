"""Runs that no verdict may rest on: diverged, unstable, or having learnt nothing."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from .results import Result

LOSSES = ("train_loss", "test_loss", "loss", "target_output")
"""Arrays that are finite at all times, whichever family has them, unless a run diverged."""

JUMP = 0.1  # of the loss before training: a rise by more makes a run unstable
NAMED = 3  # runs that a note names; of the others it gives the number


def diverged(data: xr.Dataset, axes: Sequence[str]) -> xr.DataArray:
    """Which runs had a loss that was NaN or infinite when it was measured.

    Args:
        data: A result's.
        axes: Dimensions that tell the runs apart.
    """

    def lost(loss: xr.DataArray) -> xr.DataArray:
        return (~xr.ufuncs.isfinite(loss)).any([dim for dim in loss.dims if dim not in axes])

    found = (lost(data[name]) for name in LOSSES if name in data.data_vars)
    return functools.reduce(operator.or_, found, xr.DataArray(False))


def note_of_divergence(data: xr.Dataset, axes: Sequence[str]) -> str:
    """Which runs diverged, in one line; empty if none did."""
    lost = diverged(data, axes)
    runs = lost.stack(run=lost.dims, create_index=False) if lost.ndim else lost.expand_dims("run")
    gone = runs.isel(run=runs.values)
    if not gone.size:
        return ""
    names = [
        " ".join(f"{dim} {_plain(run[dim].item())}" for dim in axes if dim in run.coords)
        for run in gone[:NAMED]
    ]
    rest = f" and {gone.size - NAMED} more" if gone.size > NAMED else ""
    return f"{gone.size} of {runs.size} runs diverged: {'; '.join(names)}{rest}"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def guessing(labels: np.ndarray) -> float:
    """The accuracy that guessing seldom exceeds: p + 2√(p(1 − p)/n).

    Args:
        labels: Integers (n,); p is the share of the most frequent one.

    Example:
        >>> round(guessing(np.arange(100) % 2), 10)
        0.6
    """
    share = np.bincount(labels).max() / len(labels)
    return float(share + 2 * np.sqrt(share * (1 - share) / len(labels)))


def at_chance(result: Result, split: str = "train") -> xr.DataArray:
    """Which runs end at an accuracy that guessing reaches.

    What guessing reaches is in the notes on a run, ``info["chance"]``. Results of earlier versions
    have none: there it is the highest accuracy of a network before training.
    """
    accuracy = result.data[f"{split}_accuracy"]
    chance = result.info.get("chance", {}).get(split, accuracy.isel(epoch=0).max())
    if isinstance(chance, Mapping):  # by the labels along a dimension
        ((dim, levels),) = chance.items()
        chance = xr.DataArray([levels[label] for label in accuracy[dim].values], dims=dim)
    return accuracy.isel(epoch=-1) <= chance


def without(result: Result, lost: xr.DataArray) -> Result:
    """The result with NaN in the place of every number of the runs that are ``lost``."""

    def kept(values: xr.DataArray) -> xr.DataArray:
        of_runs = set(lost.dims) <= set(values.dims) and values.dtype.kind in "fiu"
        return values.where(~lost) if of_runs else values

    if not lost.any():
        return result
    return dataclasses.replace(result, data=result.data.map(kept))


def unstable(loss: xr.DataArray) -> xr.DataArray:
    """Which runs lost again what they had learnt, so that rounding decides how they end.

    Their loss rose above the lowest one until then by more than a tenth of what it was before
    training. Seeds, hardware and versions then give other numbers, and no spread over a few seeds
    says how other ones.

    Args:
        loss: Train losses along ``epoch``, the first before training.
    """
    lowest = xr.apply_ufunc(
        functools.partial(np.minimum.accumulate, axis=-1),
        loss,
        input_core_dims=[["epoch"]],
        output_core_dims=[["epoch"]],
    )
    return (loss - lowest).max("epoch") > JUMP * loss.isel(epoch=0)
