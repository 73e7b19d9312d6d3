"""The experiment of the neural feature ansatz: its smoke run, its claims, its settings."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments import ansatz
from experiments.ansatz import FORMS, REPLACEMENTS, Config, Setting
from experiments.ansatz.claims import check, layers
from experiments.ansatz.influence import influences
from experiments.ansatz.measures import _jacobians
from experiments.ansatz.networks import apply, batch_loss, init, training_data
from experiments.registry import find
from experiments.runs import perform
from experiments.shared.results import Result, label
from gramlin_jax.support.precision import in_float64

pytestmark = pytest.mark.runs

SMOKE = ansatz.PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ansatz") / "run"
    return folder, perform("ansatz", SMOKE, folder)[0]


@pytest.mark.long
def test_the_smoke_run_measures_all_layers(smoke):
    folder, result = smoke
    data = result.data
    assert set(data.data_vars) == set(ansatz.DIMENSIONS)
    missing = data["rank"].sel(setting="depth=1", layer=2)
    assert missing.isnull().all()
    for name, values in data.data_vars.items():
        without = "nfa_centred", "input_residual", "output_residual", "overlap"
        if name in without or "layer" not in values.dims:
            continue
        assert values.sel(setting="base").notnull().all(), name
    # The null of the ansatz is of the value itself; a rotation changes neither KKᵀ nor its rank.
    nfa = data["alignment"].sel(form="nfa", setting="base")
    assert ((nfa > 0) & (nfa <= 1)).all() and (data["null_deviation"].sel(setting="base") > 0).all()
    # No multiple of −Σ (Wx)δᵀ, nor of −Σ g xᵀ, is nearer than the sine of the angle.
    fact = data["alignment"].sel(form="fact", setting="base")
    for side, cosine in (("output", data["output_fact"].sel(setting="base")), ("input", fact)):
        residual = data[f"{side}_residual"].sel(setting="base")
        assert residual.sel(weight_decay=0).isnull().all()
        assert (residual >= np.sqrt(1 - cosine**2) - 1e-9).sel(weight_decay=1e-2).all()
    overlap = data["overlap"].sel(setting="base")
    assert overlap.isel(direction=0).notnull().all()
    assert overlap.isel(direction=slice(8, None)).isnull().all()  # of width 8
    shapes = {path.name for path in folder.iterdir()}
    assert {"figure.png", "conditions.png", "decay.png", "layers.parquet"} <= shapes
    table = pd.read_parquet(folder / "layers.parquet")
    assert len(table) == 2 * 2 * (2 + 1)  # decays, seeds, layers
    one = table.query("setting == 'base' and weight_decay == 0 and seed == 1 and layer == 2")
    where = {"setting": "base", "weight_decay": 0, "seed": 1, "layer": 2, "init_scale": 1}
    assert one["alignment_nfa"].item() == float(data.sel(where)["alignment"].sel(form="nfa")[-1])
    assert find("ansatz").table(result).count("\n") == 2


@pytest.mark.long
def test_an_interrupted_run_goes_on_from_its_settings(smoke):
    folder, result = smoke
    (folder / "result.npz").unlink()
    (folder / "parts" / "depth=1.npz").unlink()
    kept = folder / "parts" / "base.npz"
    before = kept.stat().st_mtime_ns
    again = perform("ansatz", SMOKE, folder)[0]
    assert kept.stat().st_mtime_ns == before
    assert again.data.equals(result.data)


def test_rescaled_inputs_and_regression_targets():
    plain, rescaled = (
        training_data(SMOKE, Setting(inputs=inputs))[0] for inputs in ("plain", "rescaled")
    )
    for x in (plain, rescaled):
        assert (x**2).mean() == pytest.approx(1, rel=1e-5)
    norms = [np.sqrt((x.astype(float) ** 2).sum(0)) for x in (plain, rescaled)]
    used = norms[0] > 0
    ratio = norms[1][used] / norms[0][used]
    np.testing.assert_allclose(rescaled[:, used], plain[:, used] * ratio, rtol=1e-4, atol=1e-6)
    assert ratio.max() / ratio.min() > 10
    setting = Setting(dataset="single_index", loss="squared_error")
    x, y, _ = training_data(dataclasses.replace(SMOKE, samples=4000), setting)
    np.testing.assert_allclose(y[:, 0], (x.sum(1) ** 2 / 64 - 1) / 2**0.5, rtol=0.05, atol=0.05)


def test_samples_are_a_bound():
    """More than the data set has were an error, of an argument n."""
    x, y, _ = training_data(Config(samples=2000), Setting())
    assert len(x) == len(y) == 1437


def test_losses():
    out, y = jnp.array([[1.0, -2.0], [0.0, 0.0]]), jnp.array([[0.0, 1.0], [1.0, 0.0]])
    assert float(batch_loss("squared_error", out, y)) == pytest.approx((10 / 2 + 1 / 2) / 2)
    logistic = np.log1p(np.exp([1.0, 2.0, 0.0, 0.0])).sum() / 2
    assert float(batch_loss("logistic", out, y)) == pytest.approx(logistic, rel=1e-6)
    entropy = (np.log1p(np.exp(3.0)) + np.log(2)) / 2
    assert float(batch_loss("cross_entropy", out, y)) == pytest.approx(entropy, rel=1e-6)


@pytest.mark.parametrize("inputs", [6, 3])
def test_influence_of_a_linear_network_is_that_of_its_jacobian(inputs):
    """‖tvK₂‖² for a step tv of the pre-activations, whatever its length; v is in range(W)."""
    params = init(jax.random.key(0), (inputs, 5, 3), 1.0)
    x = np.random.default_rng(0).normal(size=(9, inputs)).astype(np.float32)
    k1, k2 = np.asarray(params["1"], float), np.asarray(params["2"], float)
    found = influences(params, 1, x, k2 @ k2.T, "linear")
    v, s, _ = np.linalg.svd(k1.T, full_matrices=False)
    moved = np.diag(v.T @ k2 @ k2.T @ v)
    for name, influence in (("influence_outputs", moved), ("influence_inputs", s**2 * moved)):
        even = influence.sum() / np.sqrt(len(s) * (influence**2).sum())
        assert float(found[name]) == pytest.approx(even, rel=1e-4)
    np.testing.assert_allclose(apply(params, x, "linear"), x @ k1 @ k2, rtol=1e-4, atol=1e-5)


def test_jacobians_are_in_float64():
    """In float32 J = K₂K₂ᵀ would be noise where K₂ has a singular value of 1e-4."""
    u, v = (np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))[0] for seed in (0, 1))
    kernels = {"1": np.eye(4), "2": u * [1, 0.1, 1e-2, 1e-4] @ v}
    params = {name: jnp.asarray(kernel, jnp.float32) for name, kernel in kernels.items()}
    f = in_float64(lambda p, x: apply(p, x, "linear"))
    replaced = {"1": params["1"][None]}
    found = in_float64(_jacobians)(f, params, replaced, jnp.ones((3, 4), jnp.float32))
    of_last = np.asarray(params["2"], float)
    assert np.shape(found["1"].mean) == (2, 4, 4)
    for j in np.asarray(found["1"].mean):
        least = np.linalg.eigvalsh(j)[0]
        assert least == pytest.approx(np.linalg.svd(of_last)[1][-1] ** 2, rel=1e-6)


CONFIG = Config(variations=("base",), init_scales=(1.0,), weight_decays=(0.01,), seeds=3)
SHAPE = 1, 1, 1, 3, 2, 2


def made(decays=(0.01,), **changes):
    """A result in which all claims hold, but for these arrays."""
    shape = 1, 1, len(decays), 3, 2
    at = lambda start, end: np.stack([np.full(shape, v) for v in (start, end)], 4)  # noqa: E731
    arrays = {
        "p": np.repeat(at(0.5, 0.01)[..., None], len(FORMS), -1),
        "alignment": np.repeat(at(0.6, 0.9)[..., None], len(FORMS), -1),
        "replaced": np.repeat(at(0.5, 0.5)[..., None], len(REPLACEMENTS), -1),
        "range_isotropy": at(0.8, 0.95),
        "exponent": at(1.0, 1.0),
        "ky_fan": at(0.5, 0.99),
        "nfa_without_derivative": at(0.5, 0.5),
        "influence_inputs": at(0.5, 0.5),
        "influence_outputs": at(0.9, 0.9),
        "rank": at(64.0, 64.0),
    }
    arrays["alignment"][..., FORMS.index("fact")] = 0.95
    arrays |= {name: value(arrays[name].copy()) for name, value in changes.items()}
    config = dataclasses.replace(CONFIG, weight_decays=decays)
    data = label(arrays, ansatz.DIMENSIONS, ansatz.coordinates(config))
    return Result(config, data, {})


def verdicts(**changes):
    return [claim.holds for claim in check(made(**changes))]


def put(value, *where):
    """Put a value at an index, from the seed on: (seed, epoch, layer, …)."""

    def change(array):
        array[(0, 0, 0, *where)] = value
        return array

    return change


def test_claims_hold_fail_and_are_undecided():
    assert verdicts() == [True] * 18
    everywhere = slice(None)
    for i, name, wrong in (
        (0, "p", put(0.2, everywhere, -1, everywhere, 0)),
        (1, "p", put(0.01, everywhere, 0, everywhere, 0)),
        (3, "range_isotropy", put(0.85, everywhere, -1)),
        (4, "range_isotropy", put(0.99, everywhere, 0)),
        (5, "exponent", put(0.8, everywhere, -1)),
        (6, "replaced", put(0.95, everywhere, -1, everywhere, 2)),
        (7, "nfa_without_derivative", put(0.95, everywhere, -1)),
        (8, "ky_fan", put(0.9, everywhere, -1)),
        (9, "influence_outputs", put(0.4, everywhere, -1)),
        (10, "alignment", put(0.95, everywhere, -1, everywhere, 0)),
        (12, "p", put(0.2, everywhere, -1, everywhere, 3)),
        (17, "rank", put(63, everywhere, -1)),
    ):
        assert verdicts(**{name: wrong})[i] is False, name
    half = put(0.85, 0, -1, 0)  # one of the two layers of one seed
    assert verdicts(range_isotropy=half)[3] is None
    # Before training, significant in one layer of one of three seeds.
    assert verdicts(p=put(0.01, 0, 0, 0, 0))[1] is None
    # A correlation of 0.8 that is not significant, and none that high.
    assert verdicts(p=put(0.2, 1, -1, everywhere, 0))[2] is False
    assert verdicts(alignment=put(0.7, everywhere, -1, everywhere, 0))[2] is None


def test_fact_is_compared_at_the_largest_weight_decay():
    """It was at the last one, and without any weight decay, too."""

    def nearer_at_the_first(alignment):
        alignment[:, :, 1, ..., FORMS.index("fact")] = -1
        return alignment

    assert verdicts(decays=(0.01, 0.0), alignment=nearer_at_the_first)[10] is True
    assert verdicts(decays=(0.0, 0.01), alignment=nearer_at_the_first)[10] is False
    assert verdicts(decays=(0.0,))[10] is None


def test_a_layer_without_an_ansatz_is_not_compared():
    """Where J is 0 the correlation is NaN; it counted as lower than any other."""
    claims = check(made(alignment=put(np.nan, everywhere := slice(None), -1, 0, 0)))
    for place in (6, 7, 10):
        assert claims[place].holds is True and "100.0% of 3 layers" in claims[place].evidence
    nowhere = check(made(alignment=put(np.nan, everywhere, -1, everywhere, 0)))
    assert [nowhere[place].evidence for place in (6, 7, 10)] == ["no layer"] * 3


def test_few_rotations_decide_nothing():
    """The least p of 18 rotations is 1/19: nothing could be significant, and claims failed."""
    for rotations, verdict in ((18, None), (19, True)):
        config = dataclasses.replace(CONFIG, rotations=rotations)
        found = [claim.holds for claim in check(dataclasses.replace(made(), config=config))]
        assert found == [*[verdict] * 3, *[True] * 8, *[verdict] * 6, True]


def test_the_table_leaves_out_layers_that_are_not_there():
    frame = layers(made(rank=put(np.nan, everywhere := slice(None), everywhere, 1)))
    assert len(frame) == 3 and set(frame["layer"]) == {1}
    assert frame["alignment_nfa"].tolist() == [0.9] * 3
    assert (
        frame["alignment_nfa_start"].tolist() == [0.6] * 3 and frame["loss"][0] == "cross_entropy"
    )
    assert len(layers(made(rank=put(np.nan, 1, -1)))) == 6  # a network that diverged is there
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    assert pd.read_parquet(buffer).equals(frame)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variations": ("colour=red",)}, "variations has 'colour=red'"),
        ({"variations": ("activation=sine",)}, "activation is 'sine': wanted one of relu"),
        ({"variations": ("dataset=staircase",)}, "loss is cross_entropy for staircase"),
        ({"variations": ("base", "base")}, "variations is .*: wanted different"),
        ({"seeds": 1}, "seeds is 1: wanted at least 2"),
        ({"probed": 5000}, "probed is 5000"),
        ({"weight_decays": (-1.0,)}, "weight_decays is"),
        ({"init_scales": (0.0,)}, "init_scales is"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)
