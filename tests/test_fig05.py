import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import vae
from experiments.runs import perform
from experiments.shared.results import Result, label
from experiments.vae.claims import at_best_epoch
from experiments.vae.compute import random_pairs, two_images
from experiments.vae.interpolation import claims
from experiments.vae.interpolation.correlations import correlations
from experiments.vae.measures import ACTIVE, interpolation, vae_measures
from gramlin_jax.models import VAE

pytestmark = pytest.mark.runs

SMOKE = vae.PRESETS["smoke"]


def test_the_runs_of_figure_10_are_taken(smoke_vae):
    trained, other = smoke_vae
    folder = trained.parent.parent / "fig05_vae_interpolation" / trained.name
    result, _ = perform("fig05_vae_interpolation", SMOKE, folder)
    assert not (folder / "training").exists()
    assert result.data.identical(other.data)
    for name in ("figure.png", "scatter.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert len(str(claims.table(result)).splitlines()) == 2 + len(SMOKE.betas)
    assert len(claims.check(result)) == 6


@dataclasses.dataclass(frozen=True)
class Squaring:
    """As an autoencoder: μ = (a, b), decoded as sigmoid of logits (a, b²)."""

    def apply(self, params, x, method):
        del params
        if method == "encode":
            return x, x
        decoded = x**2 if x.ndim == 2 else jnp.stack([x[..., 0], x[..., 1] ** 2], -1)
        return jnp.log(decoded / (1 - decoded))


def test_interpolation_of_a_known_decoder():
    """The first pixel is decoded without error; the second, squared, is nowhere on its line."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 0.9, (2, 300, 2)).astype(np.float32)  # more pairs than go at a time
    ours = jax.jit(lambda pairs: interpolation(Squaring(), None, pairs, 5))((a, b))
    weights = np.linspace(1, 0, 5)[:, None]
    line = weights * a[:, 1] + (1 - weights) * b[:, 1]
    np.testing.assert_allclose(ours["frame_error"], ((line**2 - line) ** 2).mean(1) / 2, rtol=1e-4)
    chord = weights * a[:, 1] ** 2 + (1 - weights) * b[:, 1] ** 2
    ends = ((a[:, 0] - b[:, 0]) ** 2 + (a[:, 1] ** 2 - b[:, 1] ** 2) ** 2).sum()
    bend = ((line**2 - chord) ** 2).sum() / 5 / ends
    np.testing.assert_allclose(ours["bend"], bend, rtol=1e-4)


def made_up(linearity, error, reconstruction, bend):
    """A result of two β and three seeds with the given curves (β, epochs)."""
    noise = 1e-3 * np.arange(3)[:, None]
    made = {
        "target_linearity": linearity,
        "reconstruction_error": reconstruction,
        "bend": bend,
        "loss": np.array([[3, 2, 1.5, 1.2, 1]] * 2),
        "active": np.ones((2, 5)),
    }
    made = {name: np.asarray(curves, float)[:, None] + noise for name, curves in made.items()}
    made["frame_error"] = np.repeat((np.asarray(error)[:, None] + noise)[..., None], 3, -1)
    return labelled({**made, "epochs": range(5)}, seeds=3)


def labelled(arrays, **settings):
    config = dataclasses.replace(SMOKE, **settings)
    return Result(config, label(arrays, vae.DIMENSIONS, vae.coordinates(config)), {})


def test_check_can_find_each_claim_false():
    linearity = np.array([[0.2, 0.5, 0.6, 0.7, 0.9], [0.2, 0.4, 0.45, 0.55, 0.65]])
    error, noise = 1 - linearity, np.array([[5, 3, 4, 1, 2], [2, 5, 1, 4, 3.0]])

    def verdicts(*arguments):
        return [claim.holds for claim in claims.check(made_up(linearity, *arguments))]

    assert verdicts(error, noise, error) == [True] * 6
    assert verdicts(-error, noise, error) == [False, False, False, False, False, True]
    assert verdicts(error, error, error)[4] is None, "the reconstruction error is all there is"
    assert verdicts(error, noise, -error)[5] is False
    one = error.copy()
    one[1, 1:] = one[1, :0:-1]
    assert verdicts(one, noise, error)[:3] == [False, True, False], "one β"
    low = error.copy()
    low[:, 0] = 0
    assert verdicts(low, noise, error)[2] is True, "the untrained network does not count"
    ends = made_up(linearity, error, noise, error)
    ends.data["frame_error"][..., [0, 2]] = 1 + ends.data["target_linearity"]
    assert [claim.holds for claim in claims.check(ends)][2:5] == [False, False, True], "middle"
    lost = error.copy()
    lost[0, 3] = np.nan
    assert verdicts(lost, noise, error)[2:5] == [None, None, None], "not defined at one epoch"


def test_correlations_are_of_trained_epochs_over_all_beta():
    """Against ranks by hand; the code of the second β has collapsed in one seed."""
    rng = np.random.default_rng(0)
    shape = 3, 2, 4  # β, seeds, epochs
    names = "target_linearity", "reconstruction_error", "bend", "loss"
    made = {name: rng.uniform(size=shape) for name in names}
    made |= {"frame_error": rng.uniform(size=(*shape, 5)), "active": np.ones(shape)}
    made["active"][1, 0] = 0
    data = labelled({**made, "epochs": range(4)}, betas=(0.1, 1.0, 10.0), frames=5).data

    def ranks(values, betas):
        return [stats.rankdata(values[betas, seed, 1:]) for seed in range(2)]

    def pearson(a, b):
        return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])

    def given(a, b, c):
        ab, ac, bc = pearson(a, b), pearson(a, c), pearson(b, c)
        return (ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2))

    error, middle = made["frame_error"].mean(-1), made["frame_error"][..., 2]
    values = made["target_linearity"], error, middle, made["reconstruction_error"], made["bend"]
    a, b, m, c, d = (ranks(v, [0, 1, 2]) for v in values)
    expected = {
        "error": pearson(a, b),
        "given": given(a, b, c),
        "middle": given(a, m, c),
        "used": pearson(*(ranks(v, [0, 2]) for v in values[:2])),
        "bend": pearson(a, d),
        "reconstruction": pearson(c, b),
    }
    found = correlations(data)
    assert found.keys() == expected.keys()
    for name, seeds in expected.items():
        np.testing.assert_allclose(found[name], seeds, err_msg=name)
    data["active"][:] = 0
    assert np.isnan(correlations(data)["used"]).all()


def test_the_table_is_of_the_best_epoch():
    linearity = np.array([[0.2, 0.5, 0.6, 0.7, 0.9], [0.2, 0.4, 0.45, 0.55, 0.65]])
    result = made_up(linearity, 1 - linearity, 1 - linearity, linearity)
    frames = result.data["frame_error"]
    frames[..., 0], frames[..., 2] = 0.25, 0.75
    row = str(claims.table(result)).splitlines()[2]
    # 0.1 + 0.001 seed in the middle, 0.367 + 0.001/3 seed over the frames
    assert row.split() == "0.05 0.901 ± 0.001 0.367 ± 0.0003 0.5 ± 0 0.101 ± 0.001".split() + [
        *("0.901", "±", "0.001")
    ]


def test_two_images():
    labels = np.array([2, 0, 1, 0])
    assert two_images(labels, (1, 0)) == (2, 1) and two_images(labels, (0, 0)) == (1, 3)
    with pytest.raises(ValueError, match=r"classes is \(1, 1\): there are 1 .* class 1, wanted 2"):
        two_images(labels, (1, 1))
    with pytest.raises(ValueError, match=r"0 images of class 5, wanted 1; choose among \[0, 1, 2"):
        two_images(labels, (0, 5))


def test_pairs_are_of_different_images():
    first, second = random_pairs(5, 400)
    assert (first != second).all()
    for places in (first, second):
        assert set(places) == set(range(5))


def test_the_best_epoch_is_that_of_the_lowest_test_loss():
    arrays = {"loss": [[[3.0, 1, 2], [2, 3, 1.5]]] * 2, "epochs": [0, 10, 20]}
    arrays |= {"kl": np.arange(12.0).reshape(2, 2, 3)}
    best = at_best_epoch(labelled(arrays).data)
    np.testing.assert_array_equal(best["kl"], [[1, 5], [7, 11]])
    np.testing.assert_array_equal(best["epoch"], [[10, 20], [10, 20]])


def test_measures_against_plain_numpy():
    """Target linearity is that of the train images, held-out is scored on the test ones."""
    rng = np.random.default_rng(0)
    model = VAE(pixels=6, width=5, depth=1, latent=2)
    train, test = (rng.uniform(0.1, 0.9, (n, 6)).astype(np.float32) for n in (40, 30))
    noise = rng.normal(size=(30, 2)).astype(np.float32)
    params = model.init(jax.random.key(0), train[:1], noise[:1])
    data = {"train": train, "test": test, "noise": noise, "pairs": (test[:4], test[4:8])}
    data |= {"row": test[:2], "shown": test[:3]}
    measured = jax.jit(vae_measures(model, 3))(params, {"beta": jnp.float32(0.5)}, data)
    codes = [np.float64(model.apply(params, x, method="encode")[0]) for x in (train, test)]
    design = [np.column_stack([code, np.ones(len(code))]) for code in codes]
    fit = np.linalg.lstsq(design[0], train, rcond=None)[0]
    for name, h, x in (("target_linearity", design[0], train), ("heldout", design[1], test)):
        expected = 1 - ((x - h @ fit) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
        np.testing.assert_allclose(measured[name], expected, rtol=1e-5)
    decoded = jax.nn.sigmoid(model.apply(params, codes[1].astype(np.float32), method="decode"))
    np.testing.assert_allclose(
        measured["reconstruction_error"], ((decoded - test) ** 2).mean(), rtol=1e-5
    )
    assert measured["active"] == (codes[1].var(0) > ACTIVE).sum()
