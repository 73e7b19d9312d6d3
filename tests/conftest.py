"""All tests run on eight devices of the CPU, without implicit promotion of ranks."""

from pathlib import Path

import jax
import numpy as np
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)  # most of the time is compilation

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden():
    """Loads ``tests/golden/NAME.npz`` as a dict."""

    def load(name):
        with np.load(GOLDEN / f"{name}.npz") as file:
            return {key: file[key] for key in file.files}

    return load


def torch_params(numbers, prefix=""):
    """Linen parameters of a DNN from arrays ``{prefix}layers_{i}_weight`` (out, in) and bias."""
    layers = {}
    while (key := f"{prefix}layers_{len(layers)}_weight") in numbers:
        layer = {"kernel": numbers[key].T}
        if (bias := key.replace("weight", "bias")) in numbers:
            layer["bias"] = numbers[bias]
        layers[f"Dense_{len(layers)}"] = layer
    return {"params": layers}


@pytest.fixture(scope="session")
def smoke_vae(tmp_path_factory):
    """The folder of a finished smoke run of figure 10, and its result; figure 5 goes beside it."""
    from experiments import vae
    from experiments.runs import perform

    name = "fig10_vae_target_linearity"
    folder = tmp_path_factory.mktemp("vae") / name / "run"
    return folder, perform(name, vae.PRESETS["smoke"], folder)[0]
