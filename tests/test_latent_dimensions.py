import dataclasses

import jax
import numpy as np
import pytest

from experiments import latent_dimensions
from experiments.latent_dimensions.claims import check, enough, kept_share, overlap, table
from experiments.latent_dimensions.draw import plot
from experiments.latent_dimensions.networks import blank, grey, initial_kernels, wavelets
from experiments.registry import find
from experiments.runs import perform
from experiments.shared.results import Result, label

pytestmark = pytest.mark.runs

SMOKE = latent_dimensions.PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished smoke run of the CNN, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = find("cnn_latent").preset("smoke")
    return folder, perform("cnn_latent_dimensions", config, folder)[0]


@pytest.mark.long
def test_smoke_run(smoke):
    folder, result = smoke
    data = result.data
    assert set(data.data_vars) == set(latent_dimensions.DIMENSIONS)
    cosines = data["alignment"]
    assert (abs(cosines) <= 1 + 1e-9).all() and (cosines.sel(split="train") > 0).all()
    # All components kept are the trained network.
    end = data["test_accuracy"].sel(pair="first").isel(epoch=-1)
    for layer in (1, 2):
        for name in ("activation_clipping", "weight_clipping"):
            kept = data[name].sel(layer=layer).dropna("rank").isel(rank=-1)
            np.testing.assert_allclose(kept, end, atol=1 / 360 + 1e-6)
    spectrum = data["activation_spectrum"]
    assert (spectrum.diff("component") <= 0).all() and (spectrum > -1e-12).all()
    names = {path.name for path in folder.iterdir()}
    assert {"figure.png", "samples.png", "layer.png", "stability.png"} <= names
    assert plot(result).axes[-1].get_title(loc="left") == "(i) resampled"
    (line,) = (line for line in table(result).splitlines() if "resampled, two networks" in line)
    found = data["resampled"].sel(variant="two networks").transpose("seed", "draw").values
    means, within = found.mean(1), found.std(1, ddof=1).mean()
    whole = f"{means.mean():.3f} ± {means.std(ddof=1):.3f}" if len(means) > 1 else f"{means[0]:.3f}"
    assert line.split(maxsplit=3)[3] == f"{whole} (between draws {within:.3f})"
    one = dataclasses.replace(result, data=data.isel(draw=[0]))
    assert "between draws" not in table(one) and "nan" not in table(one)


def test_colours_are_normalised_and_then_grey():
    images = np.random.default_rng(0).uniform(size=(2, 3, 3, 3)).astype(np.float32)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = ((images - mean) / deviation) @ np.array([0.2989, 0.587, 0.114])
    np.testing.assert_allclose(grey(images)[..., 0], expected, atol=1e-5)
    assert grey(images[..., :1]) is not images and (grey(images[..., :1]) == images[..., :1]).all()


def test_wavelets_have_norm_1_and_no_mean():
    bank = wavelets(5)
    assert bank.shape == (5, 5, 9)
    np.testing.assert_allclose(np.linalg.norm(bank, axis=(0, 1)), 1, rtol=1e-5)
    np.testing.assert_allclose(bank[..., 1:].sum((0, 1)), 0, atol=1e-5)
    turned = np.rot90(bank[..., 1])  # the orientation a quarter turn away
    np.testing.assert_allclose(abs(turned), abs(bank[..., 5]), atol=1e-5)


@pytest.mark.parametrize(
    ("network", "shapes"),
    [
        ("mlp", [(1024, 512), (512, 256), (256, 10)]),
        ("cnn", [(5, 5, 1, 32), (5, 5, 32, 64), (1600, 10)]),
        ("wavelets", [(9, 32), (288, 64), (1600, 10)]),
    ],
)
def test_networks_of_the_tutorial(network, shapes):
    config = dataclasses.replace(latent_dimensions.PRESETS["paper"], network=network)
    layers = blank(config, np.zeros((1, 32, 32, 1), np.float32), 10)
    assert [layer.kernel.shape for layer in layers] == shapes
    first = initial_kernels(layers, jax.random.key(0))[0]
    bound = (np.size(first) / first.shape[-1]) ** -0.5
    assert 0.9 * bound < abs(first).max() <= bound


def made_up(network="mlp", **arrays):
    """A result of the tutorial's setting of which all claims are true, but for arrays named."""
    paper = latent_dimensions.PRESETS["paper"]
    config = dataclasses.replace(paper, network=network, components=4, seeds=3, draws=2)
    noise = 0.002 * np.arange(-1, 2)
    trained, drawn = {"mlp": (0.427, 0.314), "cnn": (0.58, 0.36)}[network]
    epochs = np.linspace(0.1, trained, 6)
    curve = np.where(config.kept() < 5, 0.2, trained)
    kinds = np.array([1.0, 0.6, 0.3])[:, None]
    train = np.stack([[0.922, 0.875] * kinds, 0.8 * kinds * [1, 1]], -1)  # (kind, layer, centring)
    aligned = np.stack([train, 0.9 * train], -2)
    maps = np.array([1.0, 0.4, 0.3])[:, None, None, None] * np.eye(4)[None, None]
    maps = np.broadcast_to(maps, (3, 3, 2, 4, 4))
    made = {
        **dict.fromkeys(
            ("train_accuracy", "test_accuracy"),
            np.broadcast_to(epochs + noise[:, None], (2, 3, 6)),
        ),
        "significant": np.tile([50.0, 15.0], (3, 1)),
        "initial_significant": np.zeros((3, 2)),
        "learned_alone": trained - 0.005 + noise[:, None] * [1, 1],
        "activation_clipping": np.broadcast_to(curve + noise[:, None, None], (3, 2, len(curve))),
        "alignment": aligned[None] + 0.1 * noise[:, None, None, None, None],
        "activation_stability": maps,
        "weight_stability": maps,
        "resampled": drawn + noise[:, None, None] + np.zeros((3, 5, 2)),
        "epochs": np.arange(6),
        **arrays,
    }
    data = label(made, latent_dimensions.DIMENSIONS, latent_dimensions.coordinates(config))
    return Result(config, data, {})


def verdicts(**arrays):
    return [claim.holds for claim in check(made_up(**arrays))]


def test_check_can_find_each_claim_false():
    assert verdicts() == [True] * 11
    assert [claim.holds for claim in check(made_up("cnn"))] == [True] * 9
    data = {name: values.values.copy() for name, values in made_up().data.items()}
    assert verdicts(initial_significant=data["significant"])[0] is False
    assert verdicts(learned_alone=data["learned_alone"] - 0.02)[1] is False
    late = data["activation_clipping"] - 0.02
    late[..., -1] += 0.02
    assert verdicts(activation_clipping=late)[2] is False
    swapped = data["alignment"].copy()
    swapped[:, [0, 1], :, 1, 1] = swapped[:, [1, 0], :, 1, 1]
    assert verdicts(alignment=swapped)[3] is False
    maps = data["weight_stability"][:, ::-1]
    assert verdicts(activation_stability=maps)[4:6] == [False, True]
    assert verdicts(weight_stability=maps)[4:6] == [True, False]
    tied = data["weight_stability"].copy()
    tied[:, 1] = tied[:, 0]  # untrained networks share as much, permuted ones do not
    assert verdicts(activation_stability=tied)[4:6] == [False, True]
    assert verdicts(resampled=data["resampled"] - 0.07)[6] is False
    assert verdicts(resampled=data["resampled"] + 0.1)[7:9] == [True, False]
    assert verdicts(alignment=data["alignment"] + 0.01)[9:] == [False, False]


def test_at_most_a_hundredth_may_be_lost():
    """100 of 10 000 images were more where float32 rounds the accuracies apart."""
    right = np.array([4273, 4275, 4277])
    end, less, too_few = ((right - lost).astype(np.float32) / 10_000 for lost in (0, 100, 101))
    epochs = np.linspace(np.float32(0.1), end, 6, axis=-1, dtype=np.float32)

    def held(kept):
        alone, clipped = np.broadcast_to(kept, (2, 3)).T, made_up().data["activation_clipping"]
        curves = np.where(clipped < 0.3, 0.2, kept[:, None, None])
        accuracies = dict.fromkeys(("train_accuracy", "test_accuracy"), np.stack([epochs] * 2))
        return verdicts(learned_alone=alone, activation_clipping=curves, **accuracies)[1:3]

    assert held(less) == [True, True] and held(too_few)[0] is False


def test_chance_is_that_of_the_classes():
    """Of 100 classes it was a tenth, too: above what the networks reach."""
    result = dataclasses.replace(made_up(), info={"num_classes": 100})
    end, drawn = np.array([0.427, 0.314])[:, None] + 0.002 * np.arange(-1, 2)
    np.testing.assert_allclose(kept_share(result), (drawn - 0.01) / (end - 0.01))


def test_training_that_diverges_is_named():
    """It ended with an error that spoke of samples."""
    config = dataclasses.replace(SMOKE, epochs=1, samples=64, learning_rate=1e30)
    with pytest.warns(RuntimeWarning, match="NaN"), pytest.raises(ValueError, match="^learning_r"):
        find("latent_dimensions").run(config)


def test_spaces_are_shared_whatever_the_order_inside():
    swap = np.eye(4)[[1, 0, 2, 3]]
    maps = np.broadcast_to(swap, (3, 3, 2, 4, 4))
    result = made_up(weight_stability=maps, significant=np.tile([2.0, 1.0], (3, 1)))
    shared = overlap(result.data, "weight").isel(seed=0, kind=0)
    np.testing.assert_allclose(shared, [1, 0])


def test_enough_is_the_last_rank_that_loses():
    data = made_up().data
    end = data["test_accuracy"].sel(pair="first").isel(epoch=-1)
    least = min(rank for rank in made_up().config.kept() if rank >= 5)
    assert (enough(data["activation_clipping"], end) == least).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("network", "rnn"), ("units", (8, 7)), ("channels", (8,)), ("epochs", 0), ("ranks", 1)]
    + [("learning_rate", 0.0), ("momentum", 1.0), ("samples", -1), ("draws", 0), ("seeds", 0)],
)
def test_configurations_that_cannot_run(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        dataclasses.replace(SMOKE, **{name: value})
