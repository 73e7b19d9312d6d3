import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from experiments import grokking
from experiments.grokking import compute
from experiments.grokking.claims import check, linearity_gap, table
from experiments.registry import find
from experiments.runs import perform
from experiments.shared import training as shared
from experiments.shared.devices import mesh_for
from experiments.shared.results import Result, label

pytestmark = pytest.mark.runs

SMOKE = grokking.PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run of figure 13, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, perform("fig13_grokking", SMOKE, folder)[0]


def test_smoke_run(smoke):
    folder, result = smoke
    data = result.data
    assert dict(data.sizes) == {"weight_decay": 2, "seed": 2, "epoch": 3, "layer": 2}
    assert set(data.data_vars) == set(grokking.DIMENSIONS)
    assert data["weight_decay"].values.tolist() == [0, 1]
    assert data["epoch"].values.tolist() == [0, 2, 4]
    assert all(np.isfinite(values).all() for values in data.data_vars.values())
    loss = data["train_loss"]
    assert loss.dtype == np.float64 and (loss.sel(epoch=4) < loss.sel(epoch=0)).all()
    without, decayed = loss.sel(weight_decay=0), loss.sel(weight_decay=1)
    np.testing.assert_array_equal(without.sel(epoch=0), decayed.sel(epoch=0))
    assert (without.sel(epoch=4) != decayed.sel(epoch=4)).all(), "weight decay does something"
    assert json.loads((folder / "summary.json").read_text())["claims"] == []
    assert len(check(result)) == 7
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(str(table(result)).splitlines()) == 1 + len(SMOKE.weight_decays)


def test_networks_spread_over_devices_are_the_same(smoke, monkeypatch, capsys):
    """Four seeds of two weight decays on eight devices; two of these seeds on one, before."""
    kept = []

    def train(*args, **options):
        kept.append(shared.train(*args, **options))
        return kept[-1]

    monkeypatch.setattr(compute, "train", train)
    config, mesh = dataclasses.replace(SMOKE, seeds=4), jax.sharding.Mesh(jax.devices(), "data")
    result = find("fig13").run(config, mesh=mesh)
    for leaf in jax.tree.leaves(kept[0].fit.params):
        rows = {shard.index[0].start: shard.device for shard in leaf.addressable_shards}
        assert rows == dict(enumerate(jax.devices()))
    assert "on 8 devices" in capsys.readouterr().err
    assert mesh_for(8) is None, "outside of the experiment"
    for name, values in smoke[1].data.items():
        found = result.data[name].sel(seed=[0, 1]).values
        np.testing.assert_allclose(found, values, rtol=1e-12, atol=1e-14, err_msg=name)


def test_every_pair_is_in_one_part():
    config = grokking.Config()
    (train, labels), (test, others) = compute.split(config)
    assert len(labels) == int(0.7 * 43**2) and len(labels) + len(others) == 43**2
    assert len(np.unique(np.concatenate([train, test]), axis=0)) == 43**2
    x, y = train[:, :43].argmax(1), train[:, 43:].argmax(1)
    np.testing.assert_array_equal((x + y) % 43, labels)
    assert train.dtype == np.float64


def made_up(**changes):
    """A result of which all claims are true, but for the arrays that are named."""
    config = dataclasses.replace(SMOKE, weight_decays=(0.0, 0.5, 1.0))
    end = np.array([0.2, 0.6, 1.0])[:, None] + np.zeros((3, 2))  # test accuracy
    train = np.stack([0 * end, 0 * end + 0.8, 0 * end + 1, 0 * end + 1], -1)
    test = np.stack([0 * end, 0.1 * end, 0.4 * end, end], -1)
    gap = 1 - test
    last = np.stack([0 * end, 0 * end, 0 * end, 0.5 * end], -1)
    arrays = {
        "train_accuracy": train,
        "test_accuracy": test,
        "target_linearity": np.stack([last - gap, last], -1),
        "heldout": np.stack([last - 1, last], -1),
    }
    arrays |= {"epochs": np.array([0, 10, 20, 30]), **changes}
    return Result(config, label(arrays, grokking.DIMENSIONS, grokking.coordinates(config)), {})


def verdicts(**changes):
    return [claim.holds for claim in check(made_up(**changes))]


def test_check_can_find_each_claim_false():
    whole = {name: values.values for name, values in made_up().data.items()}
    train, test = whole["train_accuracy"], whole["test_accuracy"]
    assert verdicts()[:6] == [True] * 6
    assert verdicts(test_accuracy=test[::-1])[0] is False
    level = test.copy()
    level[1, 1] = level[0, 1]
    assert verdicts(test_accuracy=level)[0] is False, "one run"
    assert verdicts(test_accuracy=test[..., [0, 3, 2, 3]], train_accuracy=0.3 * train)[1] is False
    assert verdicts(train_accuracy=test)[1] is False, "in the same epoch is not first"
    assert verdicts(test_accuracy=0.1 * test)[1:5] == [None] * 4, "no run generalises"
    linearity, heldout = whole["target_linearity"], whole["heldout"]
    assert verdicts(target_linearity=linearity[::-1])[2:5] == [False, True, False]
    assert verdicts(heldout=heldout[::-1])[2:5] == [True, False, True]
    assert verdicts(target_linearity=linearity[..., ::-1])[5] is False
    # A gap that follows the accuracies' does not follow the test error, which starts at 1.
    apart = np.stack([0 * test, train - test], -1)
    assert verdicts(target_linearity=apart)[6] is True
    assert verdicts(target_linearity=-apart)[6] is False
    one = apart.copy()
    one[1, 1] *= -1
    assert verdicts(target_linearity=one)[6] is False, "one run"


def test_evidence_has_the_sign_of_what_it_names():
    """The smaller gap is the smaller number; the phase after memorising is given by itself."""
    result = made_up()
    found = check(result)
    nearest, other = re.findall(r"-?\d\.\d{3}", found[4].evidence)
    gap = linearity_gap(result).isel(epoch=-1)
    generalised = result.data["test_accuracy"].isel(epoch=-1) >= 0.5
    np.testing.assert_allclose(float(nearest), gap.where(generalised).max(), atol=1e-3)
    np.testing.assert_allclose(float(other), gap.where(~generalised).min(), atol=1e-3)
    assert float(re.search(r"accuracy (\S+) over", found[4].evidence)[1]) < 0
    # From the epoch of train accuracy 1 on, the gap falls with train less test accuracy.
    assert found[6].evidence.endswith("once memorised 1.00 to 1.00, median 1.00")
    assert "-" in found[6].evidence.split(";")[1], "over all epochs it does not"


def test_evidence_counts_epochs():
    """Train accuracy passes one half at epoch 10, test accuracy at 30 where it ends so high."""
    found = check(made_up())[1]
    assert found.evidence.startswith("4 of the 4 runs, out of 6, that generalise")
    assert found.evidence.endswith("test accuracy follows 20 to 20 epochs later")


def test_a_run_that_forgets_again_does_not_generalise():
    """All runs but two pass one half on their way, before they memorise; two end above it."""
    train, test = np.zeros((3, 2, 4)), np.zeros((3, 2, 4))
    train[..., 2:], test[..., 1] = 1, 0.7
    test[0, :, 1], test[0, :, 3] = 0, 0.9
    _, first, *others = check(made_up(train_accuracy=train, test_accuracy=test))
    assert first.holds is True and first.evidence.startswith("2 of the 2 runs, out of 6")
    assert first.evidence.endswith("test accuracy follows 10 to 10 epochs later")
    assert "among the 2 that do" in others[0].evidence


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("depth", 1), ("batch_size", 0), ("epochs", 0), ("measurements", 1)]
    + [("seeds", 0), ("learning_rate", 0.0), ("operation", "x**y"), ("p", 1), ("p", 43.5)]
    + [("train_share", share) for share in (0.0, 1.0, -0.5, float("nan"))]
    + [("weight_decays", decays) for decays in ((), (0.1, 0.1), (-0.1,), (float("inf"),))],
)
def test_configurations_that_cannot_run(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        dataclasses.replace(SMOKE, **{name: value})


def test_division_needs_a_prime():
    with pytest.raises(ValueError, match="^p is 60: wanted a prime"):
        grokking.Config(operation="x/y", p=60)
    assert grokking.Config(p=60).p == 60
