import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from scipy import stats

from experiments import gram_only
from experiments.gram_only.claims import MARGIN, check, table
from experiments.gram_only.measures import layer_measures
from experiments.registry import find
from experiments.runs import perform, read_result
from experiments.shared.results import Result, label
from gramlin_jax.models import DNN

pytestmark = pytest.mark.runs

SMOKE = gram_only.PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run of figure 2, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, perform("fig02_gram_whitening", SMOKE, folder)[0]


def test_smoke_run(smoke):
    folder, result = smoke
    data = result.data
    assert {dim: data.sizes[dim] for dim in data.dims} == {
        **{"arm": 3, "learning_rate": 2, "seed": 2, "epoch": 3, "layer": 2, "kernel": 3}
    }
    assert data["arm"].values.tolist() == ["original", "gram_only", "gram_preserving"]
    assert data["learning_rate"].values.tolist() == list(SMOKE.learning_rates)
    assert all(np.isfinite(values).all() for values in data.data_vars.values())
    loss = data["train_loss"]
    assert (loss.isel(epoch=-1) < loss.isel(epoch=0)).all()
    assert json.loads((folder / "summary.json").read_text())["claims"] == []
    assert len(check(result)) == 3
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(str(table(result)).splitlines()) == 2 + len(SMOKE.learning_rates)


def test_arms_start_alike_and_part(smoke):
    loss, change = (smoke[1].data[name] for name in ("test_loss", "gram_change"))
    start = loss.isel(epoch=0)
    assert (start == start.isel(arm=0, learning_rate=0)).all()
    end = loss.isel(epoch=-1)
    assert (end.max("arm") - end.min("arm")).min() > 1e-4
    kept = change.sel(arm="gram_preserving")
    assert change.drop_sel(arm="gram_preserving").min() > 1e-2 and kept.max() < 1e-5
    assert not smoke[1].data["start_gram_change"].any()


def test_a_finished_arm_is_not_trained_again(smoke, tmp_path):
    """A run that lost its last arm and its result ends bitwise as if it had not."""
    folder, result = smoke
    again = tmp_path / "run"
    shutil.copytree(folder, again)
    (again / "result.npz").unlink()
    (again / "parts" / "gram_preserving.npz").unlink()
    shutil.rmtree(again / "training")
    perform("fig02_gram_whitening", SMOKE, again)
    assert [path.name for path in (again / "training").iterdir()] == ["gram_preserving"]
    assert read_result("fig02_gram_whitening", SMOKE, again).data.identical(result.data)


@pytest.mark.runs
def test_figure_6_without_the_complement(tmp_path):
    smoke = find("fig06").preset("smoke")
    config = dataclasses.replace(smoke, depth=1, complement=False, projection=20)
    result, _ = perform("fig06_gram_whitening_cnn", config, tmp_path / "run")
    data = result.data
    assert config.network == "cnn" and data["target_linearity"].shape == (2, 2, 2, 1)
    # Maps of 256 features are projected to 20.
    np.testing.assert_allclose(data["start_noise_floor"][:, 0], 20 / (config.samples - 1))
    assert len(check(result)) == 2 and (tmp_path / "run" / "figure.png").exists()


def made_up(gram=0.0, preserving=0.0, linearity=0.0, deviation=1e-4, **arrays):
    """A result of which all claims are true, but for what is added to an arm."""
    noise = deviation * np.array([[1, 2, 4], [3, 1, 2]])
    accuracy = np.stack([0.8 + noise, 0.8 + noise[:, ::-1] + gram, 0.3 + noise + preserving])
    after = 0.5 + np.array([0.2, 0.19, 0.01])[:, None, None, None] + np.zeros((3, 2, 3, 2))
    after[2] += linearity
    config = dataclasses.replace(SMOKE, seeds=3)
    made = {
        "train_loss": np.stack([1 + 0 * accuracy, 0 * accuracy], axis=-1),
        "test_accuracy": np.stack([0 * accuracy, accuracy], axis=-1),
        "target_linearity": after,
        "start_target_linearity": np.full((3, 2), 0.5),
        **arrays,
    }
    return Result(config, label(made, gram_only.DIMENSIONS, gram_only.coordinates(config)), {})


def verdicts(**changes):
    return [claim.holds for claim in check(made_up(**changes))]


def test_check_can_find_each_claim_false():
    assert verdicts() == [True, True, True]
    assert verdicts(gram=-0.1) == [False, False, True]
    assert verdicts(gram=np.array([[-0.1], [0.0]]))[:2] == [False, True], "one learning rate"
    assert verdicts(gram=-0.0002)[:2] == [True, True], "less, but not significantly"
    assert verdicts(gram=-0.002)[:2] == [False, False], "within the margin, but significantly"
    assert verdicts(deviation=0.01)[:2] == [None, None], "the seeds do not decide it"
    assert verdicts(preserving=0.5) == [True, True, True], "its features are what counts"
    one = np.zeros((2, 3, 2))
    one[1, 2, 0] = 0.02
    assert verdicts(linearity=one)[2] is False, "one layer of one run"
    lost = made_up().data["target_linearity"].values.copy()
    lost[0, 1] = 0.3  # the original diverges at the second rate
    claim = check(made_up(target_linearity=lost))[2]
    assert claim.holds and "3 of the 3 runs" in claim.evidence
    lost[0] = 0.3
    assert check(made_up(target_linearity=lost))[2].holds is None


def test_no_mean_leaves_out_a_run_that_diverged():
    """The others' stood for it, in the evidence on the complement and in the table."""
    whole = {name: values.values.copy() for name, values in made_up().data.items()}
    whole["test_accuracy"][2, 1, 0, 1] = whole["target_linearity"][2, 1, 0] = np.nan
    result = made_up(**whole)
    assert "0.1: nan, nan of 0.200, 0.200, test accuracy nan" in check(result)[2].evidence
    assert [row[-1] for row in table(result).rows] == ["0.510, 0.510", "nan, nan"]


def test_no_learning_rate_is_best_where_each_has_a_lost_run():
    accuracy = made_up().data["test_accuracy"].values.copy()
    accuracy[0, :, 1, 1] = np.nan
    claim = check(made_up(test_accuracy=accuracy))[1]
    assert claim.holds is None
    assert claim.evidence == "0.8002 at 0.05, none: a run diverged or is at chance"


def test_of_one_learning_rate_each_claim_is_made_once():
    result = made_up()
    config = dataclasses.replace(result.config, learning_rates=(0.1,))
    one = Result(config, result.data.sel(learning_rate=[0.1]), {})
    assert [claim.statement for claim in check(one)] == [c.statement for c in check(result)[1:]]


def test_no_verdict_rests_on_an_unstable_rate():
    """Of three epochs the loss falls from 2 to 0 and rises to 0.19 or 0.21: a tenth is 0.2."""
    for rise, verdict in ((0.19, False), (0.21, True)):
        accuracy = np.full((3, 2, 3, 3), 0.8)
        accuracy[..., 0] = 0.1
        accuracy[1, 1, :, -1] = 0.7, 0.71, 0.72  # much worse, at the second rate
        loss = np.zeros((3, 2, 3, 3))
        loss[..., 0] = 2
        loss[0, 1, 2, -1] = rise
        claim = check(made_up(test_accuracy=accuracy, train_loss=loss))[0]
        assert claim.holds is verdict
        assert ("unstable, left out: 0.1;" in claim.evidence) is verdict
    loss[:, 0, 0, -1] = 1
    (claim,) = check(made_up(test_accuracy=accuracy, train_loss=loss))
    assert claim.holds is None and claim.evidence == "unstable at 0.05, 0.1"


def test_the_margin_is_half_a_point():
    """Differences 0 ± d over three seeds: the lower end is −t d/√3, t = 4.302653 of two degrees."""
    assert MARGIN == 0.005
    for low, verdict in ((-0.0049, True), (-0.0051, None)):
        d = -low * 3**0.5 / stats.t.ppf(0.975, 2)
        accuracy = np.full((3, 2, 3, 2), 0.8)
        accuracy[..., 0] = 0.1
        accuracy[1, ..., -1] += d * np.array([-1, 0, 1])
        claims = check(made_up(test_accuracy=accuracy))
        assert [claim.holds for claim in claims[:2]] == [verdict, verdict], low


def test_the_printed_deviation_is_the_samples():
    """Of the seeds' final accuracies: 0.1, 0.2, 0.6 have mean 0.3 and deviation √(0.14/2)."""
    accuracy = np.zeros((3, 2, 3, 2))
    accuracy[..., -1] = 0.1, 0.2, 0.6
    result = made_up(test_accuracy=accuracy)
    more = dict.fromkeys(("train_loss", "gram_change"), result.data["target_linearity"])
    more["train_loss"] = result.data["test_accuracy"]
    more["gram_change"] = more["gram_change"].rename(layer="kernel")
    full = dataclasses.replace(result, data=result.data.assign(more))
    assert "0.3000 ± 0.26" in str(table(full)) and (0.14 / 2) ** 0.5 == pytest.approx(
        0.26, abs=5e-3
    )


def test_layer_measures_against_plain_numpy():
    """Target linearity is that of the train samples, held-out is scored on the test ones."""
    rng = np.random.default_rng(0)
    model = DNN(3, 12, 2)
    data = [(rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 2, n)) for n in (40, 30)]
    start, params = (model.init(jax.random.key(seed), data[0][0]) for seed in range(2))
    measured = layer_measures(model, 3)(params, start, data)
    for layer in (0, 11):
        features = [np.float64(model.apply(params, x)[1][layer]) for x, _ in data]
        design = [np.column_stack([h, np.ones(len(h))]) for h in features]
        targets = [np.eye(2)[labels] for _, labels in data]
        fit = np.linalg.lstsq(design[0], targets[0], rcond=None)[0]
        for name, h, y in zip(("target_linearity", "heldout"), design, targets, strict=True):
            expected = 1 - ((y - h @ fit) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
            np.testing.assert_allclose(measured[name][layer], expected, rtol=1e-3, atol=1e-5)
    kernels = [np.float64(p["params"]["Dense_10"]["kernel"]) for p in (start, params)]
    before, after = (k @ k.T for k in kernels)
    change = np.linalg.norm(after - before) / np.linalg.norm(before)
    np.testing.assert_allclose(measured["gram_change"][10], change, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("depth", 0), ("batch_size", 0), ("epochs", 0), ("projection", 0)]
    + [("measurements", 1), ("seeds", 1), ("samples", -1), ("momentum", 1.0), ("network", "vae")]
    + [("learning_rates", rates) for rates in ((), (0.1, 0.1), (0.0,), (float("nan"),))],
)
def test_configurations_that_cannot_run(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        dataclasses.replace(SMOKE, **{name: value})
