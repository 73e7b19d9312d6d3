import dataclasses

import numpy as np
import pytest

from experiments.neural_collapse import PRESETS
from experiments.neural_collapse.claims import check, table
from experiments.neural_collapse.compute import balanced
from experiments.runs import perform
from experiments.shared.results import Result
from gramlin_jax.data import load


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, perform("neural_collapse", PRESETS["smoke"], folder)[0]


def test_smoke_run(smoke):
    folder, result = smoke
    config, arrays = result.config, result.arrays
    runs = len(config.losses), config.seeds, config.measurements
    layers = "nc1", "equinorm", "equiangularity", "etf_distance", "cdnv", "target_linearity"
    layers += "link", "link_error"
    splits = [f"{split}_{name}" for split in ("train", "test") for name in ("loss", "accuracy")]
    assert {name: values.shape for name, values in arrays.items()} == {
        **dict.fromkeys(layers, (*runs, config.depth)),
        **dict.fromkeys(("nc3", "offset", "train_nc4", "test_nc4", *splits), runs),
        "epochs": (config.measurements,),
    }
    assert all(np.isfinite(values).all() for values in arrays.values())
    assert result.info["samples"] == 10 * config.samples
    np.testing.assert_allclose(arrays["link"], arrays["target_linearity"], atol=1e-10)
    assert check(result)[0].holds
    assert arrays["train_loss"][0, 0, 0] < 1.5 < arrays["train_loss"][1, 0, 0], "½ and log 10"
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(table(result).splitlines()) == 2 * (12 + 2 * config.depth)


def test_balanced():
    data = load("digits", "train")
    counts = np.bincount(data.y)
    assert set(np.bincount(balanced(data).y)) == {counts.min()}
    few = balanced(data, 3)
    assert set(np.bincount(few.y)) == {3}
    np.testing.assert_array_equal(few.x[few.y == 7], data.x[data.y == 7][:3])
    without = dataclasses.replace(data, x=data.x[data.y != 3], y=data.y[data.y != 3])
    with pytest.raises(ValueError, match=r"data has fewer than two samples of classes \[3\]"):
        balanced(without)
    with pytest.raises(ValueError, match=f"samples is 1000: wanted at most {counts.min()}"):
        balanced(data, 1000)


def made_up(**changes):
    """A result of which all claims are true, but for the arrays that are changed."""
    fall = np.tile(np.geomspace(1, 1e-3, 5), (1, 2, 1))
    layers = np.stack([2 * fall, fall], axis=-1)
    accuracy = np.tile([0.1, 0.9, 1, 1, 1], (1, 2, 1))
    arrays = {
        "nc1": layers,
        "etf_distance": layers,
        "nc3": fall,
        "train_nc4": 0 * fall,
        "target_linearity": 1 - layers / 4,
        "link_error": 0 * layers,
        "train_accuracy": accuracy,
    }
    config = dataclasses.replace(PRESETS["smoke"], losses=("squared_error",), seeds=2)
    return Result(config, {**arrays, **changes}, {})


def test_check_can_find_each_claim_false():
    def verdicts(**changes):
        return [claim.holds for claim in check(made_up(**changes))]

    right = made_up().arrays
    assert verdicts() == 7 * [True]
    later = right["nc1"][:, :, ::-1]  # rises after the terminal phase began
    assert verdicts(nc1=later) == [True, False, True, True, True, False, True]
    assert verdicts(nc1=right["nc1"][..., ::-1])[6] is False
    assert verdicts(etf_distance=later)[2] is False
    one = right["nc3"].copy()
    one[0, 1, -1] = 1
    assert verdicts(nc3=one)[3] is False, "in one seed"
    assert verdicts(train_nc4=right["train_nc4"] + 0.01)[4] is False
    assert verdicts(link_error=right["link_error"] + 1e-6)[0] is False
    assert verdicts(train_accuracy=0.9 * right["train_accuracy"]) == [True, None], "not reached"


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("depth", 1), ("learning_rate", 0.0), ("learning_rate", float("inf"))]
    + [
        ("weight_decay", float("inf")),
        ("activation", "tanh"),
        ("samples", 1),
        ("batch_size", 0),
        ("epochs", 0),
        ("seeds", 0),
    ]
    + [("measurements", 1), ("samples", -1), ("weight_decay", -1.0), ("momentum", 1.0)]
    + [("losses", ()), ("losses", ("hinge",)), ("losses", 2 * ("squared_error",))],
)
def test_configurations_that_cannot_run(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        dataclasses.replace(PRESETS["smoke"], **{name: value})
