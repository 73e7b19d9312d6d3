"""No verdict rests on a run that diverged or is at chance, in any family."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from experiments.registry import EXPERIMENTS, find
from experiments.shared.claims import decided, in_every_seed
from experiments.shared.lost import (
    LOSSES,
    at_chance,
    diverged,
    guessing,
    note_of_divergence,
    without,
)
from experiments.shared.results import COORDINATES, Result, label

pytestmark = pytest.mark.runs

SIZES = {"epoch": 4, "step": 4, "kernel": 3, "frame": 3, "pixel": 4, "image": 2, "end": 2}
NO_CHANCE = {"chance": {"train": 0.0, "test": 0.0}}
SCORED = [e for e in EXPERIMENTS if "train_accuracy" in e.module().DIMENSIONS]
REFUSE = "swissroll", "deep_linear"  # to diverge
TRAINED = [
    e for e in EXPERIMENTS if set(LOSSES) & set(e.module().DIMENSIONS) and e.package not in REFUSE
]


def made_up(experiment):
    """A result of the default preset with all of its arrays, at random."""
    config, family = experiment.preset("default"), experiment.module()
    along = {dim: list(values) for dim, values in family.coordinates(config).items()}
    sizes = SIZES | {dim: len(values) for dim, values in along.items()}
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.uniform(0.1, 1, [sizes.get(dim, 3) for dim in dims])
        for name, dims in family.DIMENSIONS.items()
    }
    if "train_loss" in arrays:  # falls: where it rises a run is unstable, and decides nothing
        time = family.DIMENSIONS["train_loss"].index("epoch")
        arrays["train_loss"] = -np.sort(-arrays["train_loss"], axis=time)
    arrays |= {name: range(4) for name, dim in COORDINATES.items() if dim in _dims(family)}
    return Result(config, label(arrays, family.DIMENSIONS, along), NO_CHANCE)


def _dims(family):
    return {dim for dims in family.DIMENSIONS.values() for dim in dims}


def filled(result, name, value, **where):
    """The result with a number in the place of an array's, at labels or everywhere."""
    values = result.data[name].copy()
    values.loc[where] = value
    return dataclasses.replace(result, data=result.data.assign({name: values}))


@pytest.mark.parametrize("experiment", TRAINED, ids=lambda e: e.name)
def test_runs_that_diverged_decide_nothing(experiment):
    result = made_up(experiment)
    assert any(claim.holds is not None for claim in experiment.check(result))
    (name, *_) = [name for name in LOSSES if name in result.data.data_vars]
    for value in (np.nan, np.inf):
        claims = experiment.check(filled(result, name, value))
        assert claims and all(claim.holds is None for claim in claims), value
    axes = experiment.module().RUNS
    first = {dim: result.data[dim].values[0] for dim in axes}
    one = filled(result, name, np.inf, **first)
    assert diverged(one.data, axes).sum() == 1 and diverged(one.data, axes).sel(first)
    (note,) = experiment.notes(one)
    assert note.startswith("1 of ") and all(f"{dim} " in note for dim in axes)
    # Whatever else that run measured, nothing rests on it.
    other = dataclasses.replace(one, data=1 - one.data.where(diverged(one.data, axes)))
    other = dataclasses.replace(
        one, data=other.data.fillna(one.data).assign({name: one.data[name]})
    )
    assert experiment.check(other) == experiment.check(one)
    assert experiment.notes(result) == []


@pytest.mark.parametrize("experiment", SCORED, ids=lambda e: e.name)
def test_runs_at_chance_decide_nothing(experiment):
    result = made_up(experiment)
    lost = dataclasses.replace(result, info={"chance": {"train": 2.0, "test": 2.0}})
    open_to_all = ("TL = tr",)  # an identity, which needs no training
    claims = [c for c in experiment.check(lost) if not c.statement.startswith(open_to_all)]
    assert claims and all(claim.holds is None for claim in claims)


@pytest.mark.parametrize("experiment", SCORED, ids=lambda e: e.name)
def test_a_network_without_an_accuracy_decides_nothing(experiment):
    result = made_up(experiment)
    for name in {"train_accuracy", "test_accuracy", *LOSSES} & set(result.data.data_vars):
        result = filled(result, name, np.nan)
    assert all(claim.holds is None for claim in experiment.check(result))


def test_a_staircase_or_vae_that_learnt_nothing_decides_nothing():
    for name, loss in (("fig08", "target_output"), ("fig05", "loss"), ("fig10", "loss")):
        experiment = find(name)
        result = made_up(experiment)
        rising = xr.DataArray(np.arange(1.0, 5), dims=experiment.module().DIMENSIONS[loss][-1])
        rising = (0 * result.data[loss] + rising.values).transpose(*result.data[loss].dims)
        claims = experiment.check(
            dataclasses.replace(result, data=result.data.assign({loss: rising}))
        )
        assert all(claim.holds is None for claim in claims), name


def test_margins():
    nan, inf = np.nan, np.inf
    for margins, verdict in (
        ([1, 2], True),
        ([1, 0], False),
        ([nan, -1], False),
        ([nan, 1], None),
        ([inf, 1], None),
        ([-inf, 1], None),
        ([], None),
    ):
        assert decided(np.array(margins, float)) is verdict
    margins = xr.DataArray([[1, 1], [nan, 1], [nan, -1], [1, inf]], dims=("seed", "layer"))
    claim = in_every_seed("all", margins, "numbers")
    assert claim.holds is False and claim.evidence == "1 of 4 seeds, 2 undecided; numbers"
    assert in_every_seed("all", margins[:2], "numbers").holds is None
    assert in_every_seed("all", margins[:1], "numbers").holds is True
    none = in_every_seed("all", margins[:, :0], "numbers")
    assert none.holds is None and none.evidence == "0 of 4 seeds, 4 undecided; numbers"


def test_what_guessing_reaches():
    """Of digits' test labels the most frequent one is 11.4 %; 0.1139 was an arm at chance."""
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    np.testing.assert_allclose(guessing(labels), 0.5 + 2 * (0.5 * 0.5 / 100) ** 0.5)
    data = xr.Dataset({"train_accuracy": (("seed", "epoch"), [[0.1, 0.6], [0.2, 0.2], [0, 0.61]])})
    noted = Result(None, data, {"chance": {"train": guessing(labels)}})
    assert at_chance(noted).values.tolist() == [True, True, False]
    assert at_chance(Result(None, data, {})).values.tolist() == [False, True, False]


def test_notes_name_the_first_runs():
    loss = xr.DataArray(np.ones((2, 3, 2)), {"rate": [0.1, 2.5]}, ("rate", "seed", "epoch"))
    data = xr.Dataset({"train_loss": loss, "n": 3.0}).assign_coords(seed=range(3))
    assert note_of_divergence(data, ("rate", "seed")) == ""
    data["train_loss"][1, :, 1] = np.nan
    data["train_loss"][0, 2, 0] = np.inf
    assert note_of_divergence(data, ("rate", "seed")) == (
        "4 of 6 runs diverged: rate 0.1 seed 2; rate 2.5 seed 0; rate 2.5 seed 1 and 1 more"
    )
    kept = without(Result(None, data, {}), diverged(data, ("rate", "seed"))).data
    assert kept["train_loss"].isnull().all("epoch").sum() == 4 and kept["n"] == 3
