import dataclasses
import json

import numpy as np
import pytest
from conftest import torch_params
from PIL import Image

from experiments import swissroll as fig01
from experiments.runs import perform
from experiments.shared.results import Result, label, unlabelled
from experiments.swissroll import claims, compute

pytestmark = pytest.mark.runs

NAME = "fig01_swissroll"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, perform(NAME, fig01.PRESETS["smoke"], folder)[0]


@pytest.fixture(scope="module")
def paper(golden):
    """The paper's numbers, and training from its initial weights."""
    numbers = golden("swissroll")
    params, y = torch_params(numbers, "init_"), numbers["y"][:, None]
    trained = compute.train(params, numbers["X"], y, fig01.PRESETS["paper"])
    return numbers, {name: np.asarray(values) for name, values in trained.items()}


def test_training_is_the_papers(paper):
    numbers, trained = paper
    kernels = trained["kernel"].swapaxes(1, 2)
    frames = np.arange(0, 60, 10)
    for precision, tolerance in (("f64", 1e-9), ("f32", 2e-6)):
        for name, values in (
            ("losses", trained["loss"]),
            ("W0_frames", kernels[frames]),
            ("W0_end", kernels[-1]),
        ):
            expected = numbers[f"{name}_{precision}"]
            np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance, err_msg=name)
    gradients = trained["input_gradients"][frames]
    np.testing.assert_allclose(gradients, numbers["input_grads_frames_f64"], rtol=0, atol=1e-11)
    np.testing.assert_allclose(gradients, numbers["input_grads_frames_f32"], rtol=0, atol=1e-9)


def test_virtual_update_is_the_papers(paper):
    numbers, trained = paper
    x, y = numbers["X"], numbers["y"][:, None]
    unrolled = compute.unroll(x, y, trained["input_gradients"], fig01.PRESETS["paper"].scale)
    virtual = np.asarray(unrolled["virtual_inputs"])[10:60:10]
    low, high = (bound(1, keepdims=True) for bound in (virtual.min, virtual.max))
    scaled = (virtual - low) / (high - low + 1e-6)  # as the paper draws a frame
    np.testing.assert_allclose(scaled, numbers["Xp_frames10to50_f32"], rtol=0, atol=1e-6)
    centred = virtual[-1] - virtual[-1].mean(0)
    fitted = centred @ np.linalg.lstsq(centred, y - y.mean(), rcond=None)[0]
    linear = 1 - ((y - y.mean() - fitted) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    np.testing.assert_allclose(unrolled["target_linearity"][50], linear, rtol=1e-6)


def test_first_layer_against_the_plain_virtual_covariance(paper):
    numbers, trained = paper
    rate, x = fig01.PRESETS["paper"].learning_rate, numbers["X"].astype(float)
    for step in (0, 7, 99):
        before, after = trained["kernel"][step : step + 2]
        change = after @ after.T - before @ before.T
        moved = x - rate * trained["input_gradients"][step]
        virtual = moved.T @ moved - x.T @ x
        norms = np.linalg.norm(change), np.linalg.norm(virtual)
        cosine = (change * virtual).sum() / np.prod(norms)
        difference = np.linalg.norm(change - virtual) / norms[1]
        np.testing.assert_allclose(trained["cosine"][step, 0], cosine, rtol=0, atol=1e-9)
        np.testing.assert_allclose(trained["difference"][step, 0], difference, rtol=0, atol=1e-6)


def test_smoke_run(smoke):
    folder, result = smoke
    config, data = fig01.PRESETS["smoke"], result.data
    assert dict(data.sizes) == {
        "seed": config.seeds,
        "step": config.steps,
        "state": config.steps + 1,
        "layer": fig01.LAYERS,
        "frame": config.last_frame + 1,
        "point": config.points,
        "input": 2,
        "input_2": 2,
    }
    assert set(data.data_vars) == set(fig01.DIMENSIONS)
    assert all(np.isfinite(values).all() for values in data.data_vars.values())
    assert data["loss"].dtype == np.float64 and data["residual"].max() < 1e-10
    assert (data["loss"].sel(seed=0) != data["loss"].sel(seed=1)).all(), "seeds differ"
    assert json.loads((folder / "summary.json").read_text())["claims"] == []
    assert len(claims.check(result)) == 4
    assert len(claims.table(result).splitlines()) == 1 + fig01.LAYERS + 7


def test_smoke_run_writes_its_pictures(smoke):
    folder, result = smoke
    for name in ("figure.png", "alignment.png"):
        with Image.open(folder / name) as image:
            assert image.format == "PNG" and image.width > 500
    with Image.open(folder / "animation.gif") as image:
        assert image.n_frames == result.config.last_frame + 1
    figure = (folder / "figure.png").read_bytes()
    (folder / "animation.gif").unlink()
    _, done = perform(NAME, result.config, folder)
    assert done and (folder / "animation.gif").exists(), "what is missing is drawn again"
    assert (folder / "figure.png").read_bytes() == figure


def made_up(**changes):
    """A result of one seed of which all claims are true, but for the changes."""
    grams = np.tile(np.diag([2.0, 1.0]), (1, 4, 1, 1))
    grams[0, 1:, 0, 0] = 3
    made = {
        "target_linearity": np.array([[0.1, 0.6, 0.9]]),
        "input_target_linearity": np.array(0.1),
        "gram": grams,
        "direction": np.tile([1.0, 0.0], (1, 3, 1)),
        "cosine": np.full((1, 3, fig01.LAYERS), 0.999),
        **changes,
    }
    config = dataclasses.replace(fig01.PRESETS["smoke"], steps=3, last_frame=2, seeds=1)
    return Result(config, label(made, fig01.DIMENSIONS, fig01.coordinates(config)), {})


def verdicts(**changes):
    return [claim.holds for claim in claims.check(made_up(**changes))]


def test_check_can_find_each_claim_false():
    assert verdicts() == [True, True, True, True]
    assert verdicts(target_linearity=np.array([[0.1, 0.9, 0.4]]))[0] is False, "less than half"
    assert verdicts(input_target_linearity=np.array(0.95))[0] is False, "it was more before"
    still = np.tile(np.diag([2.0, 1.0]), (1, 4, 1, 1))
    assert verdicts(gram=still)[1:3] == [False, True], "it does not turn"
    across = np.tile([0.0, 1.0], (1, 3, 1))
    assert verdicts(direction=across)[1:3] == [False, False]
    cosine = np.full((1, 3, fig01.LAYERS), 0.999)
    cosine[0, 1, 2] = 0.98
    assert verdicts(cosine=cosine)[3] is False, "one layer at one step"
    cosine[0, 1, 2] = np.nan
    assert verdicts(cosine=cosine)[3] is None, "not defined at one step"


def test_turning_of_known_forms():
    """From diag(2, 1) to a Gram with the eigenvector (1, 1); that of the change is (1, φ)."""
    grams = np.zeros((1, 4, 2, 2))
    grams[0, 0], grams[0, 3] = np.diag([2, 1]), [[2, 1], [1, 2]]
    drawn = np.zeros((1, 3, 2, 2))
    drawn[0, 2] = [[0, 1], [1, 0]]
    made = {"gram": grams, "direction": np.tile([0.6, 0.8], (1, 3, 1)), "covariance_change": drawn}
    made |= dict.fromkeys(("difference", "residual"), np.zeros((1, 3, fig01.LAYERS)))
    result = made_up(**made, loss=np.array([[3.0, 2, 1]]))
    turned, golden = claims.turning(result.data, last=2), (1 + 5**0.5) / 2
    np.testing.assert_allclose(turned["start_share"], [(2 * 0.36 + 0.64) / 3])
    np.testing.assert_allclose(turned["end_share"], [(2 + 2 * 0.48) / 4])
    np.testing.assert_allclose(turned["axis"], [1.4 / 2**0.5])
    change_axis = (0.6 + 0.8 * golden) / (1 + golden**2) ** 0.5
    np.testing.assert_allclose(turned["change_axis"], [change_axis])
    rows = [line.split("  ")[-1].strip() for line in claims.table(result).splitlines()]
    assert f"{(3 / 5) ** 0.5:.3g}" in rows, "of diag(2, 1), norm √5, by [[0, 1], [1, 1]]"
    assert claims.table(result).endswith(f" {2 / 6**0.5:.3g}"), "cosine with [[0, 1], [1, 0]]"


@pytest.mark.parametrize(
    ("name", "value"),
    [("points", 0), ("width", 0), ("steps", 0), ("seeds", -1), ("frames", 1), ("last_frame", 12)]
    + [("learning_rate", 0.0), ("scale", float("nan"))],
)
def test_configurations_that_cannot_run(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        dataclasses.replace(fig01.PRESETS["smoke"], **{name: value})


def test_divergence_is_an_error(smoke, monkeypatch):
    result = smoke[1]
    arrays = unlabelled(result.data)
    arrays["loss"] = np.full_like(arrays["loss"], np.nan)
    monkeypatch.setattr(compute, "_run", lambda *_: arrays)
    with pytest.raises(ValueError, match="learning_rate is 0.05, with which training diverges"):
        compute.run(result.config)
