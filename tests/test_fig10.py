import dataclasses
import json

import numpy as np
import pytest

from experiments import vae
from experiments.runs import perform
from experiments.shared import training
from experiments.shared.results import Result, label
from experiments.vae import compute
from experiments.vae.linearity import claims

pytestmark = pytest.mark.runs

SMOKE = vae.PRESETS["smoke"]


def test_smoke_run(smoke_vae):
    folder, result = smoke_vae
    config, data = result.config, result.data
    assert dict(data.sizes) == {
        "beta": len(config.betas),
        "seed": config.seeds,
        "epoch": config.measurements,
        "frame": config.frames,
        "pixel": 64,
        "image": vae.SHOWN,
        "end": 2,
        "axis": 3,
    }
    assert set(data.data_vars) == set(vae.DIMENSIONS)
    assert data["beta"].values.tolist() == list(config.betas)
    assert data["epoch"].values.tolist() == [0, 2, 4]
    assert all(np.isfinite(values).all() for values in data.data_vars.values())
    loss = data["loss"]
    assert (loss.isel(epoch=-1) < loss.isel(epoch=0)).all()
    np.testing.assert_allclose(loss, data["reconstruction"] + data["beta"] * data["kl"], rtol=1e-5)
    assert json.loads((folder / "summary.json").read_text())["claims"] == []
    assert len(claims.check(result)) == 5
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(str(claims.table(result)).splitlines()) == 2 + len(config.betas)


def made_up(linearity, surrogate=None, active=0):
    """A result of three β and two seeds with the given curves, of (β, epochs)."""
    linearity = np.repeat(np.array(linearity, float)[:, None], 2, 1)
    surrogates = linearity if surrogate is None else np.array(surrogate)[:, None] + 0 * linearity
    falling = np.broadcast_to([3.0, 2.0, 1.0], linearity.shape)
    made = {"target_linearity": linearity, "surrogate": surrogates, "loss": falling}
    made |= {"reconstruction_error": falling, "active": np.broadcast_to(active, falling.shape)}
    config = dataclasses.replace(SMOKE, betas=(0.1, 1.0, 10.0))
    made |= {"epochs": range(falling.shape[-1])}
    return Result(config, label(made, vae.DIMENSIONS, vae.coordinates(config)), {})


def verdicts(*arguments, **options):
    return [claim.holds for claim in claims.check(made_up(*arguments, **options))]


def test_check_can_find_each_claim_false():
    growing = np.array([[0.5, 0.8, 0.9], [0.5, 0.7, 0.8], [0.5, 0.6, 0.7]])
    collapsing = growing[:, ::-1] - [[0], [0.1], [0.2]]
    assert verdicts(growing) == [True, True, True, True, False]
    assert verdicts(growing[::-1]) == [True, False, True, True, False], "larger β is higher"
    assert verdicts(collapsing) == [False, True, False, True, True]
    assert verdicts(collapsing, active=1)[4] is None, "no run collapses"
    assert verdicts([[0.5, 0.6, 0.5]] * 3)[4] is False, "they end where they began"
    assert verdicts(growing, -growing)[3] is False, "the surrogate falls"
    assert verdicts(growing, 0 * growing)[3] is None, "the surrogate stays"
    lost = np.where([[0, 1, 0], [0, 0, 0], [0, 0, 0]], np.nan, growing)
    assert verdicts(lost) == [True, True, None, None, False], "not defined at one epoch"


def test_runs_that_collapse_are_counted():
    """Of the first two β the code is used, in one seed of the second only."""
    result = made_up([[0.5, 0.8, 0.9], [0.5, 0.5, 0.4], [0.5, 0.6, 0.7]])
    active = result.data["active"].copy()
    active[0], active[1, 0] = 1, 1
    collapse = claims.check(dataclasses.replace(result, data=result.data.assign(active=active)))[4]
    assert collapse.holds is False
    assert collapse.evidence == (
        "3 of 6 runs collapse, 1 of them below their start; target linearity 0.4 to 0.7"
    )


def test_the_table_is_of_the_best_epoch():
    result = made_up([[0.5, 0.8, 0.9], [0.6, 0.5, 0.4], [0.7, 0.6, 0.7]])
    loss = np.array([[[3.0, 1, 2], [3, 2, 1]]] * 3)
    more = {
        "loss": (("beta", "seed", "epoch"), loss),
        "noise_floor": 0.25 + 0 * result.data["loss"],
    }
    more |= dict.fromkeys(("heldout", "kl", "surrogate_share"), result.data["loss"])
    text = str(claims.table(dataclasses.replace(result, data=result.data.assign(more))))
    first, _, *rows = text.splitlines()
    assert first == "Target linearity before training 0.5 ± 0, noise floor 0.250."
    assert [row.split()[:7] for row in rows] == [
        "0.1 1.5 ± 0.7 0.85 ± 0.07".split(),
        "1 1.5 ± 0.7 0.45 ± 0.07".split(),
        "10 1.5 ± 0.7 0.65 ± 0.07".split(),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("depth", 0), ("latent", 0), ("batch_size", 0), ("epochs", 0), ("pairs", 0)]
    + [("measurements", 2), ("seeds", 1), ("frames", 1), ("frames", 4), ("samples", -1)]
    + [("learning_rate", 0.0), ("learning_rate", float("nan"))]
    + [("classes", classes) for classes in ((3,), (3, 3), (1, 2, 3))]
    + [("betas", betas) for betas in ((1.0,), (1.0, 0.1), (1.0, 1.0), (-0.1, 1.0))],
)
def test_configurations_that_cannot_run(name, value):
    with pytest.raises(ValueError, match=f"^{name} (is|has a value that is) "):
        dataclasses.replace(SMOKE, **{name: value})


def test_a_folder_of_another_latent_size(smoke_vae):
    folder, _ = smoke_vae
    other = dataclasses.replace(SMOKE, latent=5)
    with pytest.raises(ValueError, match="its latent is 4, wanted 5"):
        perform("fig10_vae_target_linearity", other, folder)


def test_pixels_out_of_range(monkeypatch):
    digits = training.load("digits")
    bright = dataclasses.replace(digits, x=255 * digits.x)
    monkeypatch.setattr(training, "load", lambda *_, **__: bright)
    with pytest.raises(ValueError, match=r"digits train has values from 0 to 255: wanted .*\[0, 1"):
        compute.run(SMOKE)
