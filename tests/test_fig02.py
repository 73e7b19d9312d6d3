import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from experiments import fig02_gram_whitening as fig02
from experiments import fig06_gram_whitening_cnn as fig06
from experiments.framework import Result, perform
from experiments.gram_arms import paired


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


def made_up(gram=0.0, preserving=0.0, linearity=0.0):
    """A result of which all claims are true, but for what is added to an arm."""
    noise = 0.01 * np.array([[1, 2, 4], [3, 1, 2]])
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
    assert verdicts(gram=-0.001)[:2] == [True, True], "less, but not significantly"
    assert verdicts(preserving=0.5) == [True, True, True], "its features are what counts"
    one = np.zeros((2, 3, 2))
    one[1, 2, 0] = 0.02
    assert verdicts(linearity=one)[2] is False, "one layer of one run"


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
