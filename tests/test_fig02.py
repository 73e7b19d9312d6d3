import dataclasses
import json

import jax
import numpy as np
import pytest
from experiments.gram_arms import layer_measures, paired
from scipy import stats

from experiments import fig02_gram_whitening as fig02
from experiments import fig06_gram_whitening_cnn as fig06
from experiments.runs import perform
from experiments.shared.results import Result
from gramlin_jax.models import DNN


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run of figure 2, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, perform("fig02_gram_whitening", fig02.PRESETS["smoke"], folder)[0]


def test_smoke_run(smoke):
    folder, result = smoke
    config, arrays = result.config, result.arrays
    shape = 3, len(config.learning_rates), config.seeds
    splits = [f"{split}_{name}" for split in ("train", "test") for name in ("loss", "accuracy")]
    of_layers = dict.fromkeys(("target_linearity", "heldout", "noise_floor"), config.depth)
    of_layers["gram_change"] = config.depth + 1
    assert {name: values.shape for name, values in arrays.items()} == {
        **dict.fromkeys(splits, (*shape, config.measurements)),
        **{name: (*shape, n) for name, n in of_layers.items()},
        **{f"start_{name}": (config.seeds, n) for name, n in of_layers.items()},
        "epochs": (config.measurements,),
    }
    assert all(np.isfinite(values).all() for values in arrays.values())
    loss = arrays["train_loss"]
    assert (loss[..., -1] < loss[..., 0]).all()
    assert len(json.loads((folder / "summary.json").read_text())["claims"]) == 3
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(fig02.table(result).splitlines()) == 2 + 3 * len(config.learning_rates)


def test_arms_start_alike_and_part(smoke):
    loss, change = (smoke[1].arrays[name] for name in ("test_loss", "gram_change"))
    for values in loss[..., 0].reshape(-1, loss.shape[2]):
        np.testing.assert_array_equal(values, loss[0, 0, :, 0])
    assert np.ptp(loss[..., -1], axis=0).min() > 1e-4
    assert change[:2].min() > 1e-2 and change[2].max() < 1e-5
    assert not smoke[1].arrays["start_gram_change"].any()


def test_figure_6_without_the_complement(tmp_path):
    config = dataclasses.replace(fig06.PRESETS["smoke"], depth=1, complement=False, projection=20)
    result, _ = perform("fig06_gram_whitening_cnn", config, tmp_path / "run")
    assert config.network == "cnn" and result.arrays["target_linearity"].shape == (2, 2, 2, 1)
    # Maps of 256 features are projected to 20.
    np.testing.assert_allclose(result.arrays["start_noise_floor"][:, 0], 20 / (config.samples - 1))
    assert len(fig06.check(result)) == 2 and (tmp_path / "run" / "figure.png").exists()


def made_up(gram=0.0, preserving=0.0, linearity=0.0, deviation=1e-4):
    """A result of which all claims are true, but for what is added to an arm."""
    noise = deviation * np.array([[1, 2, 4], [3, 1, 2]])
    accuracy = np.stack([0.8 + noise, 0.8 + noise[:, ::-1] + gram, 0.3 + noise + preserving])
    start = np.full((3, 2), 0.5)
    after = 0.5 + np.array([0.2, 0.19, 0.01])[:, None, None, None] + np.zeros((3, 2, 3, 2))
    after[2] += linearity
    config = dataclasses.replace(fig02.PRESETS["smoke"], seeds=3)
    arrays = {"test_accuracy": np.stack([0 * accuracy, accuracy], axis=-1)}
    arrays |= {"target_linearity": after, "start_target_linearity": start}
    return Result(config, arrays, {})


def verdicts(**changes):
    return [claim.holds for claim in fig02.check(made_up(**changes))]


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
    result = made_up()
    lost = result.arrays["target_linearity"].copy()
    lost[0, 1] = 0.3  # the original diverges at the second rate
    claim = fig02.check(Result(result.config, {**result.arrays, "target_linearity": lost}, {}))[2]
    assert claim.holds and "3 of the 3 runs" in claim.evidence
    lost[0] = 0.3
    claim = fig02.check(Result(result.config, {**result.arrays, "target_linearity": lost}, {}))[2]
    assert claim.holds is None


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


def test_paired_differences():
    a, b = np.array([0.9, 0.7, 0.8, 0.85]), np.array([0.8, 0.75, 0.6, 0.8])
    test = paired(a, b)
    standard_error = (a - b).std(ddof=1) / 2
    reach = stats.t.ppf(0.975, 3) * standard_error
    expected = 0.075, 0.075 - reach, 0.075 + reach
    np.testing.assert_allclose((test.mean, test.low, test.high), expected)
    np.testing.assert_allclose(test.p, 2 * stats.t.sf(0.075 / standard_error, 3))
    assert str(test).startswith("+0.0750 [-0.")
    assert paired(a, a).p == 1 and paired(a, a).low == 0
    ahead = paired(np.ones(3), np.zeros(3))
    assert (ahead.low, ahead.high, ahead.p) == (1, 1, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("depth", 0), ("batch_size", 0), ("epochs", 0), ("projection", 0)]
    + [("measurements", 1), ("seeds", 1), ("samples", -1), ("momentum", 1.0), ("network", "vae")]
    + [("learning_rates", rates) for rates in ((), (0.1, 0.1), (0.0,), (float("nan"),))],
)
def test_configurations_that_cannot_run(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        dataclasses.replace(fig02.PRESETS["smoke"], **{name: value})
