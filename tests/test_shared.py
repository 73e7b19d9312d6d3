"""What the experiments share, against plain formulas."""

import io
import subprocess
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from scipy import special, stats

from experiments.shared import provenance, text
from experiments.shared.claims import all_of, claim_negative, in_every_seed
from experiments.shared.devices import mesh_for, spread_over
from experiments.shared.drawing import band, points, sheet, tidy, write
from experiments.shared.measures import layer_sums
from experiments.shared.parts import parts
from experiments.shared.progress import FRONT, in_front
from experiments.shared.results import label, table_of_runs, unlabelled
from experiments.shared.statistics import (
    epoch_rank_correlation,
    first_epoch,
    interval,
    paired,
    prediction_margin,
    rank_correlation,
    spread,
)
from experiments.shared.training import classes_of, evenly, load_splits, rate_or_schedule, train
from gramlin_jax.models import DNN
from gramlin_jax.training import Measure

pytestmark = pytest.mark.runs

RUNS = xr.DataArray([[1.0, 2.0], [2.0, 4.0], [6.0, 6.0]], {"epoch": [0, 5]}, ("seed", "epoch"))


def test_spread_is_the_samples():
    """1, 2, 6 have mean 3 and variance (4 + 1 + 9)/2; the order of the dimensions is no matter."""
    for runs in (RUNS, RUNS.transpose()):
        mean, deviation = spread(runs)
        np.testing.assert_allclose(mean, [3, 4])
        np.testing.assert_allclose(deviation, [7**0.5, 2])
    _, alone = spread(RUNS.isel(seed=[0]))
    assert (alone == 0).all(), "one seed"
    assert np.isnan(spread(RUNS.where(RUNS < 6))[0]).all(), "a seed without a value is not left out"


def test_prediction_margin_is_of_one_more_seed():
    """1, 2, 6: 3 ± t(0.975, 2)·√7·√(4/3), with t = 4.302653; on its edge and half as far out."""
    reach = 4.302653 * 7**0.5 * (4 / 3) ** 0.5
    runs = RUNS.isel(epoch=0)
    for value, margin in ((3 + reach, 0), (3 - reach / 2, reach / 2), (3 + 2 * reach, -reach)):
        np.testing.assert_allclose(prediction_margin(value, runs), margin, atol=1e-5)
    assert np.isnan(prediction_margin(1.0, runs.isel(seed=[0]))), "one seed"


def test_text():
    assert text.plus_minus(RUNS.isel(epoch=0)) == "3.000 ± 2.646"
    assert text.plus_minus(RUNS.isel(epoch=0), ".3g", ".1g") == "3 ± 3"
    assert text.listed(RUNS, "epoch", ".1f", ".2f") == "3.0 ± 2.65, 4.0 ± 2.00"
    assert text.listed(RUNS, "epoch", name="{} → ") == "0 → 3 ± 3, 5 → 4 ± 2"
    assert text.start_to_end(RUNS, ".1f", ".2f") == "3.0 → 4.0 ± 2.00"
    steps = RUNS.rename(epoch="step")
    assert text.start_to_end(steps, ".1f", ".2f", "step") == "3.0 → 4.0 ± 2.00"
    assert "one seed" == text.over_seeds(1) and "of 3 seeds" in text.over_seeds(3)


def test_linearity_cells():
    layers = xr.Dataset(
        {"target_linearity": ("layer", [0.5, 0.6]), "heldout": ("layer", [-0.1, 0.2])}
    )
    scores = xr.Dataset({"train_accuracy": 0.9, "test_accuracy": 0.8})
    data = xr.merge([layers.assign_coords(layer=[1, 2]), scores]).expand_dims(seed=1)
    cells = "0.900 0.800 0.500 -0.100 0.600 0.200"
    assert [c.removesuffix(" ± 0.000") for c in text.linearity_cells(data)] == cells.split()
    assert len(text.linearity_cells(data)) == len(text.linearity_heads(2))


@pytest.mark.parametrize("log", [False, True])
def test_band_and_points_show_the_spread(log):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    band(axes, RUNS, "red", log=log)
    values = np.log(RUNS.values) if log else RUNS.values
    back = np.exp if log else np.asarray
    mean, deviation = values.mean(0), values.std(0, ddof=1)
    np.testing.assert_allclose(axes.lines[0].get_xydata(), np.stack([[0, 5], back(mean)], 1))
    box = axes.collections[0].get_datalim(axes.transData)
    edges = back(np.stack([mean - deviation, mean + deviation]))
    np.testing.assert_allclose([box.y0, box.y1], [edges.min(), edges.max()])
    points(axes, RUNS, "red", shift=0.5, fmt="o")
    mean, deviation = RUNS.values.mean(0), RUNS.values.std(0, ddof=1)
    (bars,) = axes.containers[0].lines[2]
    for x, segment, m, d in zip((0.5, 5.5), bars.get_segments(), mean, deviation, strict=True):
        np.testing.assert_allclose(segment, [[x, m - d], [x, m + d]])


def test_logarithmic_axes_without_a_number_are_drawn():
    """As where all runs diverged: matplotlib set no tick, and the run ended without a figure."""

    def draw():
        figure = sheet(2)
        axes = figure.subplots()
        axes.plot([np.nan, np.nan], [np.nan, np.nan])
        axes.set(xscale="log", yscale="log")
        tidy(axes)
        return figure

    write(draw, io.BytesIO(), "svg")


def test_a_claim_holds_if_it_does_in_every_seed():
    true = xr.DataArray([[True, True], [True, False], [True, True]], dims=("seed", "layer"))
    claim = in_every_seed("all", true, "numbers")
    assert claim.holds is False and str(claim) == "[FAILS] all: 2 of 3 seeds; numbers"
    claim = in_every_seed("all", true.isel(layer=0), "numbers")
    assert claim.holds is True and claim.evidence == "3 of 3 seeds; numbers"


def test_verdicts_of_several():
    assert all_of([True, True]) is True
    assert all_of([True, None]) is None
    assert all_of([None, False, True]) is False


def test_a_correlation_has_to_be_significant():
    assert claim_negative("", np.array([-0.9, -0.8, -0.85])).holds
    assert claim_negative("", np.array([0.9, 0.8, 0.85])).holds is False
    assert claim_negative("", np.array([-0.9, -0.1, 0.1])).holds is None
    assert claim_negative("", np.array([-0.9, np.nan, -0.9])).holds is None


def test_first_epoch_and_the_ranks_since_then():
    """Each seed counts from its own epoch on; the third never does."""
    true = xr.DataArray(
        [[False, True, False, True], [False, False, True, True], 4 * [False]],
        {"epoch": [0, 5, 10, 20]},
        ("seed", "epoch"),
    )
    since = first_epoch(true)
    np.testing.assert_array_equal(since, [5, 10, np.nan])
    a = xr.DataArray([[9, 1, 3, 2], [9, 8, 1, 2], [1, 2, 3, 4]], true.coords, true.dims)
    b = xr.DataArray([[0, 1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 4]], true.coords, true.dims)
    np.testing.assert_allclose(epoch_rank_correlation(a, b, since), [0.5, 1, np.nan])


def test_rank_correlations():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 2, 30))
    ranks = [values.argsort(1).argsort(1) for values in (a, b, c)]
    wanted = [np.corrcoef(x, y)[0, 1] for x, y in zip(*ranks[:2], strict=True)]
    np.testing.assert_allclose(rank_correlation(a, b), wanted)
    for i in range(2):  # of what a regression on c's ranks leaves
        x, y = (r[i] - np.polyval(np.polyfit(ranks[2][i], r[i], 1), ranks[2][i]) for r in ranks[:2])
        np.testing.assert_allclose(rank_correlation(a, b, c)[i], np.corrcoef(x, y)[0, 1])
    assert np.isnan(rank_correlation(a, 0 * b)).all()
    np.testing.assert_array_equal(rank_correlation(a, b, a), 0)
    dims = "seed", "epoch"
    labelled = epoch_rank_correlation(xr.DataArray(a, dims=dims), xr.DataArray(b, dims=dims))
    np.testing.assert_allclose(labelled, wanted)
    found = interval(np.tanh([0.3, 0.5, 0.7]))
    reach = 4.302653 * 0.2 / 3**0.5
    np.testing.assert_allclose(
        [found.mean, found.low, found.high],
        np.tanh([0.5, 0.5 - reach, 0.5 + reach]),
        atol=1e-7,
    )
    assert str(interval(np.full(3, 0.5))) == "+0.50 [+0.50, +0.50]"


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


LABELS = {"loss": ("rate", "seed", "epoch"), "linearity": ("rate", "seed", "epoch", "layer")}


def made_up():
    """Arrays of two learning rates, three seeds, four epochs and two layers."""
    rng = np.random.default_rng(0)
    loss = rng.normal(size=(2, 3, 4)).astype(np.float32)
    arrays = {"loss": loss, "linearity": rng.normal(size=(2, 3, 4, 2)), "epochs": np.arange(4) * 5}
    return arrays, label(arrays, LABELS, {"rate": (0.1, 0.01), "seed": range(3), "layer": (1, 2)})


def test_labels():
    arrays, data = made_up()
    assert data["loss"].sel(rate=0.01, seed=2, epoch=15) == arrays["loss"][1, 2, 3]
    assert unlabelled(data).keys() == arrays.keys()
    for name, values in unlabelled(data).items():
        assert values.dtype == arrays[name].dtype and (values == arrays[name]).all()
    with pytest.raises(ValueError, match=r"arrays holds \['lost'\]: wanted names of"):
        label({"lost": np.ones(2)}, LABELS, {})
    with pytest.raises(ValueError):
        label({"loss": np.ones((2, 3))}, LABELS, {})


def test_table_of_runs():
    """One row a network, at its last epoch."""
    arrays, data = made_up()
    table = table_of_runs(data.assign(seconds=("seed", np.ones(3))), ("rate", "seed"))
    assert list(table) == ["loss", "linearity_1", "linearity_2"] and len(table) == 6
    row = table.loc[(0.01, 2)]
    assert row["loss"] == arrays["loss"][1, 2, -1]
    assert row["linearity_2"] == arrays["linearity"][1, 2, -1, 1]


def test_parts_are_made_once(tmp_path):
    made = []

    def make(name, directory):
        made.append((name, directory))
        if name == "b" and len(made) == 2:
            raise KeyboardInterrupt
        return {"x": np.full(2, float(ord(name))), "kind": np.array(name)}

    with pytest.raises(KeyboardInterrupt):
        parts(tmp_path, "ab", make)
    for _ in range(2):
        found = parts(tmp_path, "ab", make)
        np.testing.assert_array_equal(found["x"], [[97, 97], [98, 98]])
        assert found["kind"].tolist() == ["a", "b"]
    assert made == [(name, tmp_path / "training" / name) for name in "abb"]
    parts(None, "a", make)
    assert made[-1] == ("a", None)


def test_bars_say_which_part_it_is():
    said = []

    def make(name, directory):
        said.append(FRONT.get())
        if name == "c":
            raise KeyboardInterrupt
        return {"x": np.zeros(1)}

    parts(None, "ab", make)
    with in_front("1/2 fig02"), pytest.raises(KeyboardInterrupt):
        parts(None, "a", make)
        parts(None, "ac", make)
    assert said == ["part 1 of 2", "part 2 of 2", "1/2 fig02"] + [
        f"1/2 fig02, part {n} of 2" for n in (1, 2)
    ]
    assert FRONT.get() == ""


def test_axes_of_a_sweep_lead():
    """Measured are the hyper-parameters themselves."""
    trained = train(
        lambda key: {"w": jnp.zeros(2)},
        lambda params, batch, key, hyper: (((params["w"] - batch.mean()) ** 2).sum(), {}),
        lambda hyper: optax.sgd(hyper["rate"]),
        np.ones((4, 1), np.float32),
        epochs=2,
        sweep={"rate": (0.1, 0.2, 0.3), "seed": range(2)},
        measure=Measure(
            lambda params, hyper, data: {"rate": hyper["rate"], "w": params["w"]}, at=[0, 2]
        ),
    )
    assert trained.measurements["w"].shape == (3, 2, 2, 2)
    for i, rate in enumerate((0.1, 0.2, 0.3)):
        np.testing.assert_allclose(trained.measurements["rate"][i], rate, rtol=1e-6)
        np.testing.assert_allclose(
            trained.measurements["w"][i, :, 1], 1 - (1 - 2 * rate) ** 2, rtol=1e-5
        )


@pytest.mark.parametrize(("networks", "used"), [(8, 8), (9, 3), (20, 5), (7, 7), (11, None)])
def test_as_many_devices_as_divide_the_networks(networks, used):
    with spread_over(jax.sharding.Mesh(jax.devices(), "data")):
        mesh = mesh_for(networks)
    assert (mesh and mesh.size) == used


def test_evenly():
    assert evenly(10, 3).tolist() == [0, 5, 10]
    assert evenly(2, 9).tolist() == [0, 1, 2], "each once"


def test_loss_and_accuracy_are_means_over_samples():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(7, 5)).astype(np.float32), rng.integers(3, size=7)
    model = DNN(width=4, depth=1, out=3)
    params = model.init(jax.random.key(0), x)
    logits = np.asarray(model.apply(params, x)[0], np.float64)
    losses = special.logsumexp(logits, axis=1) - logits[np.arange(7), labels]
    found = layer_sums(model, params, (jnp.asarray(x), jnp.asarray(labels)))
    assert float(found["loss"]) == pytest.approx(losses.mean(), rel=1e-6)
    assert float(found["accuracy"]) == pytest.approx(np.mean(logits.argmax(1) == labels))


def test_the_rate_falls_to_zero_where_asked():
    config = SimpleNamespace(epochs=4, batch_size=64, decay=False)
    assert rate_or_schedule(config, 0.5, 130) == 0.5
    config.decay = True
    falling = rate_or_schedule(config, 0.5, 130)  # 4·3 steps
    np.testing.assert_allclose([falling(0), falling(6), falling(12)], [0.5, 0.25, 0], atol=1e-7)


def test_splits():
    every, test = load_splits("digits")
    few, same = load_splits("digits", samples=20)
    np.testing.assert_array_equal(few.x, every.x[:20])
    np.testing.assert_array_equal(same.x, test.x)
    assert classes_of(few) == 10
    with pytest.raises(ValueError, match="samples is 1438: wanted at most 1437"):
        load_splits("digits", samples=1438)
    with pytest.raises(ValueError, match="dataset is x, for regression: wanted one with classes"):
        classes_of(SimpleNamespace(num_classes=None, name="x"))


def test_a_commit_is_of_the_code_itself(monkeypatch):
    """Not of a repository in which the package is installed."""
    root = Path(__file__).resolve().parents[1]
    head = ["git", "-C", root, "rev-parse", "--short=12", "HEAD"]
    found = subprocess.run(head, capture_output=True, text=True).stdout.strip()
    assert provenance.commit().rstrip("+") == found
    monkeypatch.setattr(provenance, "__file__", str(root / "docs" / "shared" / "a" / "b.py"))
    assert provenance.commit() == ""
