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
# # Figures 4 and 9: target linearity as a network trains
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/gramlin-jax/gramlin_jax/blob/main/notebooks/fig04_target_linearity.ipynb)
#
#
# Target linearity is the share of the targets that is linear in a layer's features,
# $\mathrm{TL} = 1 - \lVert Y - \hat Y\rVert^2 / \lVert Y - \bar Y\rVert^2$, with $\hat Y$ the least-squares fit.
# Does it grow with training in every layer, and with depth?

# %%
# Install what is missing. The jax that is there stays, since it fits the accelerator; if it is too
# old, pip says so: then upgrade it as its installation guide says, restart, and run this again.
import importlib.util
import subprocess
import sys
from importlib.metadata import version

needed = ["gramlin-jax[figures] @ git+https://github.com/gramlin-jax/gramlin_jax"]
if importlib.util.find_spec("gramlin_jax") is None:
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

experiment = find("fig04")
result = experiment.run(experiment.preset(preset), mesh=mesh)
print(experiment.table(result))

# %%
experiment.plot(result)

# %% [markdown]
# Figure 9 trains with Adam.

# %%
experiment = find("fig09")
result = experiment.run(experiment.preset(preset), mesh=mesh)
print(experiment.table(result))

# %%
experiment.plot(result)

# %% [markdown]
# All layers start alike, and training orders them by depth: [the numbers and the verdicts](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/findings/fig04.md) of figure 4, and [the numbers and the verdicts](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/findings/fig09.md)
# of figure 9. This notebook runs the smallest preset, which shows the picture and decides nothing.
