import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.neural_collapse import DIMENSIONS, PRESETS, coordinates
from experiments.neural_collapse.claims import check, table
from experiments.neural_collapse.compute import (
    balanced,
    between_share,
    collapse_metrics,
    network,
    squared_error,
)
from experiments.runs import perform
from experiments.shared.results import Result, label
from gramlin_jax import moments
from gramlin_jax.data import load

pytestmark = pytest.mark.runs

SMOKE = PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, perform("neural_collapse", SMOKE, folder)[0]


def test_smoke_run(smoke):
    folder, result = smoke
    data = result.data
    assert dict(data.sizes) == {"loss": 2, "seed": 2, "epoch": 3, "layer": 2}
    assert set(data.data_vars) == set(DIMENSIONS)
    assert data["epoch"].values.tolist() == [0, 1, 3], "even on the scale of log(1 + epoch)"
    assert all(np.isfinite(values).all() for values in data.data_vars.values())
    assert result.info["samples"] == 10 * SMOKE.samples
    np.testing.assert_allclose(data["link"], data["target_linearity"], atol=1e-10)
    assert check(result)[0].holds
    loss = data["train_loss"].sel(epoch=0, seed=0)
    assert loss.sel(loss="squared_error") < 1.5 < loss.sel(loss="cross_entropy"), "½ and log 10"
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    rows = table(result).rows
    assert len(rows) == 11 + 2 * SMOKE.depth
    assert rows[0] == ("epoch", *2 * ("0 ± 0", "–", "3 ± 0")), "no terminal phase"


def test_the_metrics_of_a_convolutional_network_against_plain_numpy():
    """The classifier reads means over positions, and so do all metrics."""
    config = dataclasses.replace(SMOKE, network="cnn", depth=3)
    data = balanced(load("digits", "train"), 20)
    with jax.enable_x64(True):
        x = jnp.asarray(data.x, jnp.float64)
        model = network(config, 10)
        params = model.init(jax.random.key(0), x[:1])
        params = jax.tree.map(lambda a: a.astype(jnp.float64), params)
        pair = (x, jnp.asarray(data.y))
        found = collapse_metrics(model, squared_error)(params, {}, (pair, pair))
        logits, maps = model.model.apply(params, x)
    assert [h.shape[1:] for h in maps] == [(4, 4, 16), (4, 4, 16), (2, 2, 16)]
    for h, nc1 in zip(maps, found["nc1"], strict=True):
        h = np.asarray(h).mean((1, 2))
        means = np.stack([h[data.y == c].mean(0) for c in range(10)])
        within, apart = h - means[data.y], means - h.mean(0)
        scatter = apart.T @ apart / 10
        expected = np.trace(within.T @ within / len(h) @ np.linalg.pinv(scatter, rcond=1e-10)) / 10
        np.testing.assert_allclose(nc1, expected, rtol=1e-6)
    head, apart = np.asarray(params["params"]["Dense_0"]["kernel"]), apart.T
    expected = head / np.linalg.norm(head) - apart / np.linalg.norm(apart)
    np.testing.assert_allclose(found["nc3"], (expected**2).sum(), rtol=1e-5)
    nearest = ((h[:, None] - means) ** 2).sum(-1).argmin(1)
    assert found["train_nc4"] == pytest.approx((nearest != np.asarray(logits).argmax(1)).mean())


def test_a_convolutional_network_trains(tmp_path):
    config = dataclasses.replace(SMOKE, network="cnn", losses=("squared_error",), seeds=1)
    data = perform("neural_collapse", config, tmp_path / "run")[0].data
    assert dict(data.sizes) == {"loss": 1, "seed": 1, "epoch": 3, "layer": 2}
    np.testing.assert_allclose(data["link"], data["target_linearity"], atol=1e-10)
    text = (tmp_path / "run" / "figure.txt").read_text()
    assert "A convolutional network, 2 × 16, ReLU" in text


def test_the_link_against_plain_numpy():
    """tr(Σ_T⁺Σ_B)/(C − 1) from the samples, for classes of unequal sizes and a constant column."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (4, 7, 9))
    h = rng.normal(size=(20, 5)) + labels[:, None] * rng.normal(size=5)
    h[:, 4] = 3
    h -= 0.5 * h[:, [0]]  # and columns that depend on one another
    h[:, 0] = h[:, 1] + h[:, 2]
    centred = h - h.mean(0)
    between = np.zeros((5, 5))
    for c in range(3):
        apart = h[labels == c].mean(0) - h.mean(0)
        between += (labels == c).sum() * np.outer(apart, apart)
    expected = np.trace(np.linalg.pinv(centred.T @ centred, rcond=1e-10) @ between) / 2
    with jax.enable_x64(True):
        m = moments(jnp.asarray(h), jnp.asarray(np.eye(3)[labels]))
        np.testing.assert_allclose(between_share(m), expected, rtol=1e-10)


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
    arrays |= {"epochs": np.arange(5), **changes}
    config = dataclasses.replace(SMOKE, losses=("squared_error",), seeds=2)
    return Result(config, label(arrays, DIMENSIONS, coordinates(config)), {})


def test_check_can_find_each_claim_false():
    def verdicts(**changes):
        return [claim.holds for claim in check(made_up(**changes))]

    right = {name: values.values for name, values in made_up().data.items()}
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
        ("network", "rnn"),
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
        dataclasses.replace(SMOKE, **{name: value})


def test_convolutions_are_followed_by_relu():
    with pytest.raises(ValueError, match='^activation is "gelu": wanted "relu"'):
        dataclasses.replace(SMOKE, network="cnn", activation="gelu")
