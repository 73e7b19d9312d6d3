import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import staircase
from experiments.runs import perform
from experiments.shared.results import Result, label
from experiments.staircase import compute
from experiments.staircase.claims import check, table
from experiments.staircase.draw import plot
from experiments.staircase.norms import Network, noise_left
from experiments.staircase.published import PUBLISHED
from gramlin_jax import moments
from gramlin_jax.metrics import least_squares

pytestmark = pytest.mark.runs

SMOKE = staircase.PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run of figure 8, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, perform("fig08_staircase", SMOKE, folder)[0]


def test_smoke_run(smoke):
    folder, result = smoke
    data = result.data
    assert dict(data.sizes) == {"width": 2, "seed": 2, "step": 3}
    assert set(data.data_vars) == set(staircase.DIMENSIONS)
    assert data["width"].values.tolist() == [4, 48] and data["step"].values.tolist() == [0, 3, 6]
    assert all(np.isfinite(values).all() for values in data.data_vars.values())
    assert (data["target_output"].diff("step") < 0).all(), "gradient descent"
    change = data["feature_change"]
    assert not change.sel(step=0).any() and (change.sel(step=[3, 6]) > 0).all()
    # 48 features of 40 points fit anything, 4 do not.
    noise = data["noise_norm"] / data["target_norm"]
    assert (noise.sel(width=4) > 0.9).all() and (noise.sel(width=48) < 0.3).all()
    assert json.loads((folder / "summary.json").read_text())["claims"] == []
    assert len(check(result)) == 5
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(str(table(result)).splitlines()) == 2 + len(SMOKE.widths)
    above = plot(result).subfigs[0]
    titles = [axes.get_title(loc="left") for axes in above.axes]
    assert titles == ["(a) width 4", "(b) width 48"]


def golden_run(numbers, width, steps):
    """A run from the paper's initial weights, and its norms (steps + 1, 3), after each step."""
    start = {"params": {f"Dense_{i}": {"kernel": numbers[f"w{width}_init{i}"].T} for i in range(3)}}
    data = numbers["X"][:, None], numbers["y"][:, None]
    config = dataclasses.replace(
        staircase.Config(), steps=steps, measurements=steps + 1, seeds=1, widths=(width, width + 1)
    )
    network = Network(width)
    trained = compute.train_width(
        config, network, (data, data), init=lambda key: jax.tree.map(jnp.asarray, start)
    )
    names = "target_fit", "fit_output", "target_output"
    return trained, np.stack([trained.measurements[name][0] for name in names], axis=-1)


@pytest.mark.runs
def test_golden_run(golden):
    """The paper's code measures after a step, at steps 1, 21, …, 381, in float32 throughout."""
    numbers = golden("staircase")
    trained, norms = golden_run(numbers, 32, 400)
    at = np.arange(1, 382, 20)
    np.testing.assert_allclose(norms[0], numbers["w32_metrics0"], rtol=3e-6)
    np.testing.assert_allclose(norms[at], numbers["w32_metrics"], rtol=3e-6)
    np.testing.assert_allclose(norms[at, 2] ** 2 / 1000, numbers["w32_losses"], rtol=1e-6)
    assert trained.measurements["feature_change"][0, 0] == 0
    for i in range(3):
        kernel = trained.fit.run(0)["params"][f"Dense_{i}"]["kernel"]
        np.testing.assert_allclose(kernel.T, numbers[f"w32_final{i}"], atol=1e-5)


@pytest.mark.runs
def test_golden_run_of_a_wider_network(golden):
    numbers = golden("staircase")
    _, norms = golden_run(numbers, 128, 81)
    at = np.arange(1, 82, 20)
    np.testing.assert_allclose(norms[0], numbers["w128_metrics0"], rtol=3e-6)
    np.testing.assert_allclose(norms[at], numbers["w128_metrics"], rtol=1e-5)
    np.testing.assert_allclose(norms[at, 2] ** 2 / 1000, numbers["w128_losses"], rtol=1e-6)


@pytest.mark.parametrize(("n", "w"), [(30, 5), (5, 30), (10, 10)])
def test_what_a_ridge_fit_leaves_of_noise(n, w):
    """√(tr(I − S)²/n), with I − S written out."""
    random = np.random.default_rng(0)
    h, y = random.normal(size=(n, w)).astype(np.float32), np.ones((n, 1), np.float32)
    h[:, -1] = h[:, 0]  # without the ridge there is no single solution
    fit = least_squares(moments(h, y), intercept=False, ridge=0.1)
    h = h.astype(float)
    s = h @ np.linalg.solve(h.T @ h + 0.1 * np.eye(w), h.T)
    left = np.linalg.norm(np.eye(n) - s) / n**0.5
    np.testing.assert_allclose(noise_left(fit, n), left, rtol=1e-9)


def made_up(widths=(32, 128), config=None, **arrays):
    """A result of which all claims are true, but for the arrays that are named."""
    shape = len(widths), 3, 2
    noise = 0.01 * np.arange(3)[None]
    falling = np.ones(shape)
    falling[..., 1] = np.array([0.6, 0.9])[:, None] + noise
    losses = np.array([PUBLISHED[width] for width in widths])[:, None] + noise - 0.01
    output = np.sqrt(1000 * np.stack([2 + 0 * losses, losses], -1))
    change = np.stack([np.zeros((2, 3)), np.array([0.5, 0.2])[:, None] + noise], -1)
    made = {"target_fit": falling, "new_target_fit": falling, "feature_change": change}
    made |= {"target_output": output, **arrays}
    config = config or staircase.Config(widths=widths, seeds=3)
    return Result(config, label(made, staircase.DIMENSIONS, staircase.coordinates(config)), {})


def values_of(name):
    """An array of ``made_up()`` (width, seed, step)."""
    return made_up().data[name].values


def verdicts(**arrays):
    return [claim.holds for claim in check(made_up(**arrays))]


def test_check_can_find_each_claim_false():
    assert verdicts() == [True] * 6
    assert verdicts(feature_change=values_of("feature_change")[::-1])[0] is False
    assert verdicts(target_output=values_of("target_output")[::-1])[1:6:4] == [False, False]
    rising = values_of("target_fit") * np.array([[[1, 1]], [[1, 2]]])
    assert verdicts(target_fit=rising)[2] is True, "the smallest width counts"
    assert verdicts(target_fit=1 / values_of("target_fit"))[2:4] == [False, False]
    assert verdicts(new_target_fit=values_of("target_fit")[::-1])[2:5] == [True, True, False]
    one = values_of("feature_change").copy()
    one[:, 1, 1] = one[::-1, 1, 1]
    assert verdicts(feature_change=one)[0] is False, "one seed"


def test_a_width_that_fits_anything_does_not_decide():
    """With 100 points the second width is left out of what the train fit gains."""
    few = dataclasses.replace(made_up().config, points=100)
    swapped = values_of("target_fit")[::-1]
    found = check(made_up(config=few, target_fit=swapped))
    assert found[3].holds is None and "128" not in found[3].evidence, "one width is left"
    assert verdicts(target_fit=swapped)[3] is False
    none = check(made_up(config=dataclasses.replace(few, points=20)))[3]
    wanted = "0 of 3 seeds, 3 undecided; no width is below the number of points"
    assert (none.holds, none.evidence) == (None, wanted)


def test_published_losses_are_for_the_papers_setting_only():
    other = dataclasses.replace(made_up().config, steps=100)
    assert len(check(made_up(config=other))) == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("points", 1), ("dimension", 3), ("steps", 0), ("measurements", 1), ("seeds", 0)]
    + [("learning_rate", 0.0), ("ridge", 0.0), ("ridge", float("nan"))]
    + [("widths", widths) for widths in ((), (32,), (64, 32), (32, 32), (0, 32))],
)
def test_configurations_that_cannot_run(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        dataclasses.replace(SMOKE, **{name: value})
