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
# # Measure your own model
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/gramlin-jax/gramlin_jax/blob/main/notebooks/measure_your_own_model.ipynb)
#
#
# `measure` makes one pass over your data and gives every metric of every linear layer. It needs a function
# `f(params, x)`, its parameters, batches and the loss. Five lines for each framework; put your model in the
# place of these.

# %%
# Install what is missing. The jax that is there stays, since it fits the accelerator. If pip reports a conflict,
# jax is older than 0.10.1: run `%pip install -U "jax[cuda12]"` (for a TPU "jax[tpu]", for a CPU "jax"), restart the
# session, and run this again.
import importlib.util
import subprocess
import sys
from importlib.metadata import version

needed = ["gramlin-jax[figures] @ git+https://github.com/gramlin-jax/gramlin_jax", "equinox"]
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
import optax

from gramlin_jax import measure
from gramlin_jax.data import load

digits = load("digits")  # yours: arrays, or any iterable of pairs (x, y)
batches = digits.flat, digits.y
loss = lambda logits, y: optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

# %% [markdown]
# ## Flax Linen

# %%
from flax import linen as nn

linen = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(10)])  # yours
variables = linen.init(jax.random.key(0), digits.flat[:1])
print(measure(linen.apply, variables, batches, loss=loss, mesh=mesh))

# %% [markdown]
# ## Flax NNX
#
# A model is its own parameters. `eval()` puts dropout and batch statistics in evaluation mode.

# %%
from flax import nnx

rngs = nnx.Rngs(0)
model = nnx.Sequential(
    nnx.Linear(64, 32, rngs=rngs), nnx.relu, nnx.Linear(32, 10, rngs=rngs)
)  # yours
model.eval()
print(measure(lambda model, x: model(x), model, batches, loss=loss, mesh=mesh))

# %% [markdown]
# ## Equinox

# %%
import equinox as eqx

mlp = eqx.nn.MLP(64, 10, 32, 1, key=jax.random.key(0))  # yours
print(measure(lambda model, x: jax.vmap(model)(x), mlp, batches, loss=loss, mesh=mesh))

# %% [markdown]
# ## What the columns mean
#
# - `TL` is target linearity of the features that a layer reads, between 0 and 1, and `floor` the value expected of
#   noise. `adj. TL` corrects TL for that: noise has 0.
# - `surrogate` says how much of the layer's output points along the target, between 0 and 1.
# - `‖K‖` and `‖∇L‖` are the norms of the kernel and of its gradient.
# - `VC/Gram` is how far a step of gradient descent moves the Gram $KK^\top$, and `cos(ΔG,VC)` how well the paper's
#   virtual covariance predicts the direction: 1 if the theory holds.
#
# [How to read each metric](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/metrics.md) explains them all.
# Here are two metrics of a single layer, with NC1 of neural collapse (the variance within classes relative to that
# between them), and what each parameter is used for; the rows are those of one batch:

# %%
metrics = ["target_linearity", "nc1"]
m = measure(linen.apply, variables, batches, loss=loss, metrics=metrics, mesh=mesh)
print(m["params/layers_2/kernel"])
print(m.coverage)
