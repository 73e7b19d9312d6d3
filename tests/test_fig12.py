import dataclasses
import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import random_labels
from experiments.random_labels import compute
from experiments.random_labels.claims import check, table
from experiments.runs import perform
from experiments.shared.results import Result, label
from gramlin_jax.data import load
from gramlin_jax.training import classification_loss

pytestmark = pytest.mark.runs

SMOKE = random_labels.PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run of figure 12, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, perform("fig12_random_labels", SMOKE, folder)[0]


def test_smoke_run(smoke):
    folder, result = smoke
    data = result.data
    assert {dim: data.sizes[dim] for dim in data.dims} == {
        **{"learning_rate": 1, "noise": 2, "seed": 2, "epoch": 3, "layer": 2}
    }
    assert set(data.data_vars) == set(random_labels.DIMENSIONS)
    assert data["noise"].values.tolist() == [0, 1] and data["epoch"].values.tolist() == [0, 2, 4]
    assert all(np.isfinite(values).all() for values in data.data_vars.values())
    loss = data["train_loss"]
    assert (loss.isel(epoch=-1) < loss.isel(epoch=0)).all()
    assert json.loads((folder / "summary.json").read_text())["claims"] == []
    assert len(check(result)) == 6
    for picture in ("figure.png", "ends.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert len(str(table(result)).splitlines()) == 2 + len(SMOKE.noises)


def test_runs_differ_in_labels_only(smoke):
    """Before training a seed's test accuracy, of true labels, is the same at all noise levels."""
    start = smoke[1].data.sel(epoch=0)
    accuracy, linearity = start["test_accuracy"], start["target_linearity"]
    np.testing.assert_array_equal(accuracy.sel(noise=0), accuracy.sel(noise=1))
    assert (linearity.sel(noise=0) > 0.3).all(), "true labels"
    assert (linearity.sel(noise=1) < 2.5 * start["noise_floor"]).all(), "random ones"


def test_the_loss_is_of_the_noisy_labels():
    model = SimpleNamespace(apply=lambda params, x: (x @ params, []))
    x, labels, noise = compute.with_noise(load("digits").take(100), seed=3)
    params = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    for share, expected in ((0.0, labels), (1.0, noise.replacements)):
        hyper = {"noise": jnp.float32(share)}
        loss, _ = compute.noisy_loss(model)(params, (x, labels, noise), None, hyper)
        plain, _ = classification_loss(model.apply)(params, (x, expected), None, {})
        np.testing.assert_allclose(loss, plain, rtol=1e-6)


def made_up(**changes):
    """A result of which all claims are true, but for what is added to an array."""
    config = dataclasses.replace(
        SMOKE, depth=2, noises=(0.0, 0.5, 1.0), learning_rates=(0.01, 0.1), seeds=2
    )
    shape = 2, 3, 2, 2
    linearity = np.zeros((*shape, 2))
    linearity[..., -1, :] = 0.95, 0.99
    heldout = linearity - np.array([0.1, 0.7, 1.2])[:, None, None, None]
    heldout[..., 0, :] = -0.05
    accuracy = np.ones(shape)
    accuracy[..., 0] = 0.1
    arrays = {"target_linearity": linearity, "heldout": heldout, "train_accuracy": accuracy}
    made = {name: values + changes.get(name, 0) for name, values in arrays.items()}
    coordinates = random_labels.coordinates(config)
    return Result(config, label(made, random_labels.DIMENSIONS, coordinates), {})


def verdicts(**changes):
    return [claim.holds for claim in check(made_up(**changes))]


def one(shape, at, value):
    """Zeros but for one entry."""
    array = np.zeros(shape)
    array[at] = value
    return array


def test_check_can_find_each_claim_false():
    assert verdicts() == [True] * 6
    run = (2, 3, 2, 2)
    assert verdicts(train_accuracy=one(run, (0, 2, 1, -1), -0.1))[:2] == [False, True]
    assert verdicts(train_accuracy=one(run, (slice(None), 2, 1, -1), -0.1))[:2] == [False, False]
    assert verdicts(train_accuracy=-0.1)[2:] == [None, None, True, None], "no run memorised"
    layer = (1, 2, 0, -1)
    lower = one((*run, 2), (*layer, -1), -0.05)
    assert verdicts(target_linearity=lower, heldout=lower)[2:4] == [False, True]
    ends = check(made_up(target_linearity=lower))[3].evidence
    assert ends.endswith("12 of 12 runs; by layer 0.940 … 0.990")
    lower = one((*run, 2), layer, -0.1)
    assert verdicts(target_linearity=lower, heldout=lower)[2:4] == [True, False]
    assert verdicts(heldout=one((*run, 2), (1, 1, 0, -1, -1), 0.65))[4] is False
    assert verdicts(heldout=one((*run, 2), (0, 2, 0, -1, -1), 0.3))[4:] == [True, False]
    start = one((*run, 2), (slice(None), slice(None), slice(None), 0), 1.0)
    assert verdicts(target_linearity=start)[5] is False, "it has to rise"


def test_an_untrained_network_does_not_decide(smoke):
    """Held out, a fit of noise is below 0 before any training."""
    result = smoke[1]
    start = result.data.isel(epoch=[0, 0])
    assert (start["heldout"].sel(noise=1).isel(layer=-1) < 0).all()
    found = check(dataclasses.replace(result, data=start))
    assert all(claim.holds is None for claim in found)


def test_runs_that_did_not_memorise_do_not_count():
    accuracy, linearity = one((2, 3, 2, 2), (0, 2, 1, -1), -0.5), np.zeros((2, 3, 2, 2, 2))
    linearity[0, 2, 1, -1] = -0.9, -0.95
    assert verdicts(train_accuracy=accuracy, target_linearity=linearity)[2:4] == [True, True]


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("depth", 1), ("batch_size", 0), ("epochs", 0), ("measurements", 1)]
    + [("seeds", 0), ("samples", -1), ("momentum", 1.0)]
    + [("noises", noises) for noises in ((), (0.5,), (0.0, 1.1), (-0.1, 1.0), (0.5, 0.5))]
    + [("noises", (0.0, float("nan")))]
    + [("learning_rates", rates) for rates in ((), (0.1, 0.1), (0.0,), (float("inf"),))],
)
def test_configurations_that_cannot_run(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        dataclasses.replace(SMOKE, **{name: value})
