import dataclasses
import io
import json

import numpy as np
import pytest

from experiments import deep_linear
from experiments.deep_linear.claims import PUBLISHED, check, table
from experiments.deep_linear.draw import plot
from experiments.deep_linear.modes import crossing, modes_of, run_half_times, run_modes
from experiments.deep_linear.notebook import check_descent, unit_kernels, whitened
from experiments.runs import perform
from experiments.shared.results import Result, label

pytestmark = pytest.mark.runs

SMOKE, PAPER = deep_linear.PRESETS["smoke"], deep_linear.PRESETS["paper"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, perform("deep_linear", SMOKE, folder)[0]


def test_smoke_run(smoke):
    folder, result = smoke
    data = result.data
    assert set(data.data_vars) == set(deep_linear.DIMENSIONS)
    assert (data["loss"].diff("step") < 0).all(), "gradient descent"
    np.testing.assert_allclose(data["covariance_loss"], data["loss"], rtol=1e-12)
    exact = json.loads((folder / "summary.json").read_text())["claims"][:5]
    assert all(claim["holds"] for claim in exact), "theorems, whatever the sizes"
    np.testing.assert_allclose(data["strength"].isel(point=0), SMOKE.start, rtol=1e-9)
    assert len(plot(result).axes) == 6 + data.sizes["case"]
    assert (folder / "random_weights.png").exists()
    assert "half-times/law" in table(result)


def test_whitened_columns():
    images = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32) * np.arange(6)
    x = whitened(images, 3)
    np.testing.assert_allclose(x.T @ x / 50, np.eye(3), atol=1e-12)
    _, s, vt = np.linalg.svd(images - images.mean(0, dtype=float), full_matrices=False)
    np.testing.assert_allclose(abs(x.T @ (images @ vt[:3].T)).max(0), s[:3] * 50**0.5, rtol=1e-4)
    with pytest.raises(ValueError, match="columns is 6: wanted at most 5, the rank"):
        whitened(images, 6)


def test_units_start_with_norm_1():
    first, second = unit_kernels(0, (4, 3, 2))
    for kernel, shape in ((first, (4, 3)), (second, (3, 2))):
        assert kernel.shape == shape
        np.testing.assert_allclose((kernel**2).sum(0), 1)


def test_half_times_are_read_off_between_points():
    times, s, half = np.arange(0, 60.0, 7), np.array([1.0, 0.5]), np.array([9.3, 26.0])
    u = s / (1 + np.exp(2 * s * (half - times[:, None])))
    np.testing.assert_allclose(crossing(times, u, s), half, rtol=1e-6)
    assert np.isnan(crossing(times[:2], u[:2], s)).all(), "never"


def test_a_loss_that_grows_is_named():
    with pytest.raises(ValueError, match="learning_rate is 9.0: wanted a smaller one; training di"):
        check_descent(np.array([1.0, 2.0]), "learning_rate", 9.0)
    with pytest.raises(ValueError, match="learning_rate is 9.0"):
        check_descent(np.array([1.0, np.nan]), "learning_rate", 9.0)


def made_up(scaling=PAPER.scaling, **arrays):
    """A result of the notebook's setting of which all claims are true, but for arrays named."""
    config = dataclasses.replace(PAPER, seeds=3, scaling=scaling)
    noise = 0.01 * np.arange(-1, 2)[:, None]
    steps = np.arange(101)
    loss, accuracy = (
        np.interp(steps, list(known), list(known.values()))[None] + noise
        for known in PUBLISHED.values()
    )
    deep = np.ones((2, 5, 3)) * np.array([50, 200])[:, None, None]
    deep[1, 0] = 50
    law = np.ones((5, 9))
    made = {
        "loss": loss,
        "accuracy": accuracy,
        "covariance_loss": loss,
        "sequential_loss": 1.1 * loss,
        "gradient_error": np.zeros(3),
        "training_error": np.zeros((3, 3)),
        "mode_error": np.tile([0.02, 0.01], (4, 1)),
        "half_time": 1.01 * law,
        "half_time_law": law,
        "learning_steps": deep,
        "steps": steps,
        **arrays,
    }
    data = label(made, deep_linear.DIMENSIONS, deep_linear.coordinates(config))
    return Result(config, data, {})


def verdicts(**changes):
    return [claim.holds for claim in check(made_up(**changes))]


def test_check_can_find_each_claim_false():
    assert verdicts() == [True] * 9
    data = made_up().data
    assert verdicts(gradient_error=np.array([0, 0, 1e-6]))[0] is False
    assert verdicts(training_error=np.full((3, 3), 1e-6))[1] is False
    assert verdicts(sequential_loss=data["loss"].values)[2] is False
    assert verdicts(mode_error=np.full((4, 2), 0.02))[3] is False
    assert verdicts(mode_error=np.tile([0.4, 0.2], (4, 1)))[3] is False
    assert verdicts(half_time=1.1 * data["half_time_law"].values)[4] is False
    swapped = data["learning_steps"].values[::-1]
    assert verdicts(learning_steps=swapped)[5:7] == [False, False]
    never = data["learning_steps"].values.copy()
    never[:, -1] = np.nan
    assert verdicts(learning_steps=never)[5:7] == [False, True]
    assert verdicts(loss=data["loss"].values + 0.1)[7:] == [False, True]
    assert verdicts(accuracy=data["accuracy"].values + 0.1)[7:] == [True, False]


def test_what_is_not_known_decides_nothing():
    """Neither depth learns: "grows with depth" held. Curves of a rate that diverges failed."""
    nan = np.nan
    assert verdicts(learning_steps=np.full((2, 5, 3), nan))[5:7] == [None, None]
    steps = made_up().data["learning_steps"].values.copy()
    steps[:, 0] = nan  # the shallowest alone
    assert verdicts(learning_steps=steps)[5:7] == [True, False]
    assert verdicts(mode_error=np.full((4, 2), nan))[3] is None
    assert verdicts(mode_error=np.array([[nan, nan], *[[0.4, 0.2]] * 3]))[3] is False
    half = made_up().data["half_time"].values.copy()
    half[0, 0] = nan
    assert verdicts(half_time=half)[4] is None
    assert verdicts(training_error=np.array([[0, 0, 0], [0, 0, 0], [0, nan, 0]]))[1] is None


def test_depths_in_any_order():
    """The first was taken for the shallowest, and a single one for both."""
    steps = made_up().data["learning_steps"].values
    swapped = {"scaling": PAPER.scaling[::-1], "learning_steps": steps[:, ::-1]}
    assert verdicts(**swapped)[5:7] == [True, True]
    assert "from 50 to 200 steps; 3 learn at 32" in check(made_up(**swapped))[6].evidence
    assert verdicts(scaling=(2,), learning_steps=steps[:, :1])[5:7] == [None, None]


def test_the_table_counts_the_seeds_that_learn():
    """A depth at which 2 of 3 seeds learn was called "never"."""
    steps = np.array([[[10, 20, 30]] * 5, [[10, np.nan, 20]] * 4 + [[np.nan] * 3]])
    accuracy = made_up().data["accuracy"].values
    result = made_up(learning_steps=steps, sequential_accuracy=accuracy)
    orthogonal, gaussian = table(result).splitlines()[-2:]
    assert "32 layers: 20 ± 10" in orthogonal
    assert "16 layers: 15 ± 7 (2 of 3 seeds), 32 layers: never" in gaussian


def test_a_figure_of_networks_that_never_learn(smoke):
    _, result = smoke
    never = result.data["learning_steps"].where(False)
    figure = plot(dataclasses.replace(result, data=result.data.assign(learning_steps=never)))
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize(
    ("name", "value"),
    [("columns", 9), ("hidden", 9), ("steps", 0), ("seeds", 0), ("rates", 1)]
    + [("learning_rate", 0.0), ("flow_rate", float("nan")), ("start", -1.0)]
    + [("depths", (2, 1)), ("scaling", ()), ("starts", (0.1, 0.1))],
)
def test_configurations_that_cannot_run(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        dataclasses.replace(SMOKE, **{name: value})


@pytest.mark.parametrize(
    ("run", "name", "value"), [(run_modes, "start", 0.25), (run_half_times, "starts", (0.1, 0.3))]
)
def test_starts_beyond_half_of_a_mode_are_named(run, name, value):
    """A start was called u0, as the argument of the curves is."""
    modes = modes_of(np.eye(3), np.diag([1.0, 0.7, 0.5]))
    config = dataclasses.replace(SMOKE, **{name: value})
    with pytest.raises(ValueError, match=f"^{name} is .*: wanted strengths below 0.25, half of"):
        run(config, modes)
