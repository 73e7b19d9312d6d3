import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import staircase as fig08
from experiments.runs import perform
from experiments.shared.results import Result
from experiments.staircase import claims, compute
from experiments.staircase.norms import Network, linear_fit
from experiments.staircase.published import PUBLISHED


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run of figure 8, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, perform("fig08_staircase", fig08.PRESETS["smoke"], folder)[0]


def test_smoke_run(smoke):
    folder, result = smoke
    config, arrays = result.config, result.arrays
    names = ["target_fit", "fit_output", "target_output", "new_target_fit", "new_target_output"]
    names += ["noise_norm", "feature_change"]
    shape = len(config.widths), config.seeds, config.measurements
    assert {name: values.shape for name, values in arrays.items()} == {
        **dict.fromkeys(names, shape),
        **dict.fromkeys(("target_norm", "new_target_norm"), (config.seeds,)),
        "steps": (config.measurements,),
    }
    assert all(np.isfinite(values).all() for values in arrays.values())
    assert (np.diff(arrays["target_output"], axis=-1) < 0).all(), "gradient descent"
    change = arrays["feature_change"]
    assert not change[..., 0].any() and (change[..., 1:] > 0).all()
    # 48 features of 40 points fit anything, 4 do not.
    noise = arrays["noise_norm"] / arrays["target_norm"][:, None]
    assert (noise[0] > 0.9).all() and (noise[1] < 0.3).all()
    assert len(json.loads((folder / "summary.json").read_text())["claims"]) == 5
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(claims.table(result).splitlines()) == 2 + len(config.widths)


def golden_run(numbers, width, steps):
    """A run from the paper's initial weights, and its norms (steps + 1, 3), after each step."""
    start = {"params": {f"Dense_{i}": {"kernel": numbers[f"w{width}_init{i}"].T} for i in range(3)}}
    data = numbers["X"][:, None], numbers["y"][:, None]
    config = dataclasses.replace(
        fig08.Config(), steps=steps, measurements=steps + 1, seeds=1, widths=(width, width + 1)
    )
    network = Network(width)
    trained = compute.train_width(
        config, network, (data, data), init=lambda key: jax.tree.map(jnp.asarray, start)
    )
    names = "target_fit", "fit_output", "target_output"
    return trained, np.stack([trained.measurements[name][0] for name in names], axis=-1)


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


def test_golden_run_of_a_wider_network(golden):
    numbers = golden("staircase")
    _, norms = golden_run(numbers, 128, 81)
    at = np.arange(1, 82, 20)
    np.testing.assert_allclose(norms[0], numbers["w128_metrics0"], rtol=3e-6)
    np.testing.assert_allclose(norms[at], numbers["w128_metrics"], rtol=1e-5)
    np.testing.assert_allclose(norms[at, 2] ** 2 / 1000, numbers["w128_losses"], rtol=1e-6)


@pytest.mark.parametrize(("n", "w"), [(30, 5), (5, 30), (10, 10)])
def test_linear_fit_is_ridge_regression(n, w):
    random = np.random.default_rng(0)
    h, y = random.normal(size=(n, w)), random.normal(size=(n, 2))
    h[:, -1] = h[:, 0]  # without the ridge there is no single solution
    found = linear_fit(h, y, 0.1)
    plain = np.linalg.solve(h.T @ h + 0.1 * np.eye(w), h.T)
    np.testing.assert_allclose(found.coefficients, plain @ y, rtol=1e-9, atol=1e-12)
    left = np.linalg.norm(np.eye(n) - h @ plain) / n**0.5
    np.testing.assert_allclose(found.noise, left, rtol=1e-9)
    assert found.coefficients.dtype == np.float64


def made_up(widths=(32, 128), **arrays):
    """A result of which all claims are true, but for the arrays that are named."""
    shape = len(widths), 3, 2
    noise = 0.01 * np.arange(3)[None]
    falling = np.ones(shape)
    falling[..., 1] = np.array([0.6, 0.9])[:, None] + noise
    losses = np.array([PUBLISHED[width] for width in widths])[:, None] + noise - 0.01
    output = np.sqrt(1000 * np.stack([2 + 0 * losses, losses], -1))
    change = np.stack([np.zeros((2, 3)), np.array([0.5, 0.2])[:, None] + noise], -1)
    made = {"target_fit": falling, "new_target_fit": falling, "feature_change": change}
    config = fig08.Config(widths=widths, seeds=3)
    return Result(config, {**made, "target_output": output, **arrays}, {})


def verdicts(**arrays):
    return [claim.holds for claim in claims.check(made_up(**arrays))]


def test_check_can_find_each_claim_false():
    assert verdicts() == [True] * 6
    whole = made_up().arrays
    swapped = {name: values[::-1] for name, values in whole.items()}
    assert verdicts(feature_change=swapped["feature_change"])[0] is False
    assert verdicts(target_output=swapped["target_output"])[1:6:4] == [False, False]
    assert verdicts(target_fit=1 / whole["target_fit"])[2:4] == [False, False]
    assert verdicts(new_target_fit=swapped["new_target_fit"])[2:5] == [True, True, False]
    one = whole["feature_change"].copy()
    one[:, 1, 1] = one[::-1, 1, 1]
    assert verdicts(feature_change=one)[0] is False, "one seed"


def test_a_width_that_fits_anything_does_not_decide():
    """With 100 points the second width is left out of what the train fit gains."""
    result = made_up()
    few = dataclasses.replace(result.config, points=100)
    swapped = result.arrays["target_fit"][::-1]
    found = claims.check(Result(few, {**result.arrays, "target_fit": swapped}, {}))
    assert found[3].holds is None and "128" not in found[3].evidence, "one width is left"
    assert claims.check(made_up(target_fit=swapped))[3].holds is False


def test_published_losses_are_for_the_papers_setting_only():
    result = made_up()
    other = dataclasses.replace(result.config, steps=100)
    assert len(claims.check(Result(other, result.arrays, {}))) == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("points", 1), ("dimension", 3), ("steps", 0), ("measurements", 1), ("seeds", 0)]
    + [("learning_rate", 0.0), ("ridge", 0.0), ("ridge", float("nan"))]
    + [("widths", widths) for widths in ((), (32,), (64, 32), (32, 32), (0, 32))],
)
def test_configurations_that_cannot_run(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        dataclasses.replace(fig08.PRESETS["smoke"], **{name: value})
