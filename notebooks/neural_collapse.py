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
# # Neural collapse beside target linearity
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/gramlin-jax/gramlin_jax/blob/main/notebooks/neural_collapse.ipynb)
#
#
# Once every training sample is classified correctly, the features of a class may collapse to their mean (NC1),
# the means to a simplex (NC2), the classifier to the means (NC3). For balanced one-hot targets target
# linearity measures the same as a share: $\mathrm{TL} = \operatorname{tr}(\Sigma_T^{-1}\Sigma_B)/(C - 1)$,
# with $C$ classes, $\Sigma_T$ the covariance of the features and $\Sigma_B$ that of the class means.

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

experiment = find("neural_collapse")
result = experiment.run(experiment.preset(preset), mesh=mesh)
print(experiment.table(result))

# %%
experiment.plot(result)

# %% [markdown]
# The smallest preset, above, shows what the picture looks like and decides nothing. In the
# documented runs the link is exact in every layer at every epoch. With the squared error the network collapses, with
# cross-entropy this one does not: [the numbers and the verdicts](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/findings/neural_collapse.md).
