# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Deep linear networks and their exact curves
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/gramlin-jax/gramlin_jax/blob/main/notebooks/deep_linear.ipynb)
#
#
# A deep linear network learns the modes of the covariance between inputs and targets one by one. With two
# balanced layers the strength of a mode follows $u(t) = s / (1 + (s/u_0 - 1)\,e^{-2st/\tau})$, with $s$ its strength in
# the data, $u_0$ its strength at the start, and $\tau$ the inverse learning rate, if $t$ counts steps. The covariances
# suffice for training: the samples need not be seen.

# %%
# Install what is missing. The jax that is there stays, since it fits the accelerator. If pip reports a conflict,
# jax is older than 0.10.1: run `%pip install -U "jax[cuda12]"` (for a TPU "jax[tpu]", for a CPU "jax"), restart the
# session, and run this again.
import importlib.util
import subprocess
import sys
from importlib.metadata import version

needed = ["gramlin-jax[figures] @ git+https://github.com/gramlin-jax/gramlin_jax"]
found = importlib.util.find_spec("gramlin_jax")  # a clone in this folder has no origin
if found is None or found.origin is None:
    there = [name for name in ("jax", "jaxlib") if importlib.util.find_spec(name)]
    kept = [f"{name}=={version(name)}" for name in there]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *needed, *kept], check=True)

# %matplotlib inline
import jax

mesh = jax.sharding.Mesh(jax.devices(), "data")  # every CPU, GPU or TPU that JAX finds
print(jax.default_backend(), jax.device_count())

# %%
preset = "smoke"  # seconds; "default": minutes; "paper": the data and sizes of the paper

# %%
from gramlin_jax.experiments.registry import find

experiment = find("deep_linear")
result = experiment.run(experiment.preset(preset), mesh=mesh)
print(experiment.table(result))

# %%
experiment.plot(result)

# %% [markdown]
# Measured modes follow the curves up to the order of the learning rate:
# [the numbers](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/deep_linear.md). The curves are functions of the library:

# %%
import numpy as np

from gramlin_jax import half_time, mode_strength

at = half_time(0.25, 1e-3)
print(f"half strength at t = {at:.2f}:", np.round(mode_strength(at, 0.25, 1e-3), 6))
