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
# # Figure 8: a staircase function, from rich to lazy
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/gramlin-jax/gramlin_jax/blob/main/notebooks/fig08_staircase.ipynb)
#
#
# Networks of growing width learn $y = x_1x_2x_3x_4 + x_1x_2x_3 + x_1x_2 + x_1$. Their outputs are divided by
# $\sqrt w$, with $w$ the width, so that wide networks should be lazy: their features should hardly move, and the ridge fit of
# $y$ on them should not improve.

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

experiment = find("fig08")
result = experiment.run(experiment.preset(preset), mesh=mesh)
print(experiment.table(result))

# %%
experiment.plot(result)

# %% [markdown]
# The smallest preset, above, shows what the picture looks like and decides nothing. In the
# documented runs the fit to the training points improves less in wide networks, in most seeds. But no width is lazy,
# and with as many features as points any target is fitted: [the numbers and the verdicts](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/findings/fig08.md).
