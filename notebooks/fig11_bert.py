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
# # Figure 11: target linearity in BERT
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/gramlin-jax/gramlin_jax/blob/main/notebooks/fig11_bert.ipynb)
#
#
# Each layer of BERT has a state for each token. How much of the labels is linear in it at initialisation,
# after pre-training, and after each epoch of fine-tuning?
#
# The smallest preset makes a vocabulary and a small BERT from scratch. `checkpoint="FOLDER"` takes one in
# the format of Hugging Face. The texts have to be at hand; where they are missing, the message below says
# where they were looked for and how to get them.

# %%
# Install what is missing. The jax that is there stays, since it fits the accelerator. If pip reports a conflict,
# jax is older than 0.10.1: run `%pip install -U "jax[cuda12]"` (for a TPU "jax[tpu]", for a CPU "jax"), restart the
# session, and run this again.
import importlib.util
import subprocess
import sys
from importlib.metadata import version

needed = ["gramlin-jax[figures,data,text] @ git+https://github.com/gramlin-jax/gramlin_jax"]
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
preset = "smoke"  # a minute; "default": a small BERT, hours on a CPU; "paper": BERT-base

# %%
from gramlin_jax.experiments.registry import find

experiment = find("fig11")
try:
    result = experiment.run(experiment.preset(preset), mesh=mesh)
    print(experiment.table(result))
    display(experiment.plot(result))
except FileNotFoundError as missing:
    print(missing)

# %% [markdown]
# To get the texts: `sst2/train.tsv` and `sst2/dev.tsv` are GLUE's SST-2, and `ud_english_ewt/*.conllu` the
# English Web Treebank of Universal Dependencies. Put both into one folder and set `GRAMLIN_DATA_DIR` to it.
#
# The smallest preset shows what the picture looks like and decides nothing. The documented runs have
# [the numbers and the verdicts](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/findings/fig11.md).
