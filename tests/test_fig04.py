import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import target_linearity
from experiments.registry import find
from experiments.runs import perform
from experiments.shared.parameters import kept_parameters
from experiments.shared.results import Result, label
from experiments.shared.training import load_splits
from experiments.target_linearity.claims import check, half_gain_epoch, table
from gramlin_jax.models import DNN

pytestmark = pytest.mark.runs

SMOKE = target_linearity.PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run of figure 4, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    result, done = perform("fig04_target_linearity", SMOKE, folder)
    assert not done
    return folder, result


def test_trained_parameters_are_kept(smoke):
    """They give the accuracies that the run measured last."""
    folder, result = smoke
    train, _ = load_splits(SMOKE.dataset, samples=SMOKE.samples)
    model = DNN(SMOKE.width, SMOKE.depth, train.num_classes, SMOKE.activation)
    like = jax.eval_shape(model.init, jax.random.key(0), train.flat[:1])
    kept = kept_parameters(folder, like)
    for seed, measured in enumerate(result.data["train_accuracy"].isel(epoch=-1)):
        params = jax.tree.map(lambda a: a[seed], kept)  # noqa: B023
        accuracy = (model.apply(params, train.flat)[0].argmax(-1) == train.y).mean()
        np.testing.assert_allclose(accuracy, measured, rtol=1e-6)
    with pytest.raises(ValueError, match="parameters.npz holds parameters of shapes"):
        kept_parameters(folder, {"other": np.zeros(3)})
    with pytest.raises(FileNotFoundError):
        kept_parameters(folder / "other", like)


def test_smoke_run(smoke):
    folder, result = smoke
    data = result.data
    for name in ("target_linearity", "adjusted", "heldout", "noise_floor", "surrogate"):
        assert dict(data[name].sizes) == {"seed": 2, "epoch": 3, "layer": 4}, name
        assert np.isfinite(data[name]).all(), name
    assert data["epoch"].values.tolist() == [0, 2, 4]
    linearity, floor = data["target_linearity"], data["noise_floor"]
    assert (linearity > floor).all() and (linearity <= 1).all()
    np.testing.assert_allclose(floor, SMOKE.width / (SMOKE.samples - 1))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["claims"] == [] and len(check(result)) == 4
    assert summary["jax"] and summary["seconds"] > 0 and 0.1 < summary["chance"]["test"] < 0.2
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    lines = (folder / "networks.csv").read_text().splitlines()
    assert len(lines) == 1 + SMOKE.seeds and "target_linearity_4" in lines[0]
    assert len(str(table(result)).splitlines()) == SMOKE.depth + 2


@pytest.mark.runs
def test_figure_9_runs_with_adam(tmp_path):
    name = "fig09_target_linearity_adam"
    config = find(name).preset("smoke")
    result, _ = perform(name, config, tmp_path / "run")
    losses = result.data["train_loss"]
    assert config.optimizer == "adam" and (losses.isel(epoch=-1) < losses.isel(epoch=0)).all()
    assert (tmp_path / "run" / "figure.png").exists()


def labelled(linearity, surrogate=None, epochs=None):
    """Data of one seed with the given curves (epoch, layer)."""
    surrogate = linearity if surrogate is None else surrogate
    epochs = range(len(linearity)) if epochs is None else epochs
    arrays = {"target_linearity": [linearity], "surrogate": [surrogate], "epochs": list(epochs)}
    arrays["train_accuracy"] = [np.linspace(0.1, 0.9, len(linearity))]
    return label(arrays, target_linearity.DIMENSIONS, {"seed": [0], "layer": [1, 2]})


def verdicts(*curves):
    return [claim.holds for claim in check(Result(None, labelled(*curves), {}))]


def test_check_can_find_each_claim_false():
    claims = np.array([[0.1, 0.1], [0.3, 0.15], [0.4, 0.5], [0.45, 0.6]])
    assert verdicts(claims) == [True, True, True, True]
    assert verdicts(claims[::-1])[0] is False, "it falls"
    assert verdicts(claims[:, ::-1])[1:3] == [False, False], "the last layer first, and lowest"
    assert verdicts(claims, -claims)[3] is False, "the surrogate falls"
    assert verdicts(claims, 0 * claims)[3] is None, "the surrogate stays"
    falling = np.array([[0.9, 0.95], [0.3, 0.9], [0.2, 0.3]])
    assert verdicts(falling)[2] is False, "they lose it in sequence"


def test_half_of_the_gain_is_interpolated():
    curves = np.array([[0.0, 0.0], [0.2, 0.5], [0.6, 0.9], [1.0, 1.0]])
    half = half_gain_epoch(labelled(curves, epochs=[0, 10, 20, 30])["target_linearity"])
    np.testing.assert_allclose(half, [[17.5, 10]])
    assert np.isnan(half_gain_epoch(labelled(curves[::-1])["target_linearity"])).all()


def test_configurations_that_cannot_run():
    for name, value in (("epochs", 0), ("depth", 1), ("measurements", 1), ("seeds", 0)):
        with pytest.raises(ValueError, match=f"{name} is {value}: wanted at least"):
            dataclasses.replace(SMOKE, **{name: value})
