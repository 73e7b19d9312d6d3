import dataclasses
import json

import numpy as np
import pytest

from experiments import vae
from experiments.runs import perform
from experiments.shared import training
from experiments.shared.results import Result
from experiments.vae import compute
from experiments.vae.linearity import claims

SMOKE = vae.PRESETS["smoke"]


def test_smoke_run(smoke_vae):
    folder, result = smoke_vae
    config, arrays = result.config, result.arrays
    runs = len(config.betas), config.seeds, config.measurements
    scalars = ("target_linearity", "heldout", "noise_floor", "surrogate", "surrogate_share")
    scalars += ("loss", "reconstruction", "kl", "reconstruction_error", "active", "bend")
    assert {name: values.shape for name, values in arrays.items()} == {
        **dict.fromkeys(scalars, runs),
        "frame_error": (*runs, config.frames),
        "decoded_row": (*runs, config.frames, 64),
        "decoded": (*runs, vae.SHOWN, 64),
        "epochs": (config.measurements,),
        "row": (2, 64),
        "shown": (vae.SHOWN, 64),
        "image_shape": (3,),
    }
    assert all(np.isfinite(values).all() for values in arrays.values())
    assert (arrays["loss"][..., -1] < arrays["loss"][..., 0]).all()
    beta = np.array(config.betas)[:, None, None]
    total = arrays["reconstruction"] + beta * arrays["kl"]
    np.testing.assert_allclose(arrays["loss"], total, rtol=1e-5)
    assert len(json.loads((folder / "summary.json").read_text())["claims"]) == 5
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(claims.table(result).splitlines()) == 2 + len(config.betas)


def made_up(linearity, surrogate=None, active=0):
    """A result of three β and two seeds with the given curves, of (β, epochs)."""
    linearity = np.repeat(np.array(linearity, float)[:, None], 2, 1)
    surrogates = linearity if surrogate is None else np.array(surrogate)[:, None] + 0 * linearity
    falling = np.broadcast_to([3.0, 2.0, 1.0], linearity.shape)
    arrays = {"target_linearity": linearity, "surrogate": surrogates, "loss": falling}
    arrays |= {"reconstruction_error": falling, "active": np.full(linearity.shape, active)}
    return Result(dataclasses.replace(SMOKE, betas=(0.1, 1.0, 10.0)), arrays, {})


def verdicts(*arguments, **options):
    return [claim.holds for claim in claims.check(made_up(*arguments, **options))]


def test_check_can_find_each_claim_false():
    growing = np.array([[0.5, 0.8, 0.9], [0.5, 0.7, 0.8], [0.5, 0.6, 0.7]])
    collapsing = growing[:, ::-1] - [[0], [0.1], [0.2]]
    assert verdicts(growing) == [True, True, True, True, False]
    assert verdicts(growing[::-1]) == [True, False, True, True, False], "larger β is higher"
    assert verdicts(collapsing) == [False, True, False, True, True]
    assert verdicts(collapsing, active=1)[4] is None, "no run collapses"
    assert verdicts(growing, -growing)[3] is False, "the surrogate falls"
    assert verdicts(growing, 0 * growing)[3] is False, "the surrogate stays"


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
