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
# # Figures 2 and 6: learning with the Gram alone
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/gramlin-jax/gramlin_jax/blob/main/notebooks/fig02_gram_only.ipynb)
#
#
# A step $K_1 \to K_2$ changes the weight Gram $KK^\top$ and rotates the outputs. Keep only the first part:
# the kernel $K_2 Q^\top$, with $Q$ the polar factor of $K_1^\top K_2$, has the Gram of $K_2$ and lies as
# near to $K_1$ as it can. Does a network trained by such steps learn as well?
#
# *SGD* takes whole steps, *Gram-only* the first part, *Gram-preserving* the rotation alone.

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

experiment = find("fig02")
result = experiment.run(experiment.preset(preset), mesh=mesh)
print(experiment.table(result))

# %%
experiment.plot(result)

# %% [markdown]
# Figure 6 asks the same of a convolutional network.

# %%
experiment = find("fig06")
result = experiment.run(experiment.preset(preset), mesh=mesh)
print(experiment.table(result))

# %%
experiment.plot(result)

# %% [markdown]
# The smallest preset, above, shows what the picture looks like and decides nothing. In the
# documented runs Gram-only steps come close to SGD: [the numbers and the verdicts](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/findings/fig02.md) of figure 2, and [the numbers and the verdicts](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/findings/fig06.md) of figure 6.
