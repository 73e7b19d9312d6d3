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
# $\mathrm{TL} = 1 - \lVert Y - \hat Y\rVert^2 / \lVert Y - \bar Y\rVert^2$, with $Y$ the targets, $\bar Y$ their
# mean, and $\hat Y$ their least-squares fit from the features.
# Does it grow with training in every layer, and with depth?
#
# The table goes from before training to after it, ± one standard deviation of the seeds. *Adjusted* is target
# linearity corrected for its *noise floor*, which it would reach by chance; noise has 0. *Held out* is on test samples.
# The *surrogate* is the paper's trace, which needs no fit.

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
# The smallest preset, above, shows what the picture looks like and decides nothing. In the
# documented runs all layers start alike, and training orders them by depth: [the numbers and the verdicts](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/findings/fig04.md) of figure 4, and [the numbers and the verdicts](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/findings/fig09.md)
# of figure 9.
