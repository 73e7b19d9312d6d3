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
# # Watch your training
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/gramlin-jax/gramlin_jax/blob/main/notebooks/watch_your_training.ipynb)
#
#
# A `Probe` takes the place of `jax.value_and_grad` in a training step. Loss and gradients stay the same;
# every fourth step, the sums that the metrics need come from the same backward pass. Each measurement is of the last
# five batches watched (`window=5`), and `Records` keeps the measurements by step.

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
from pathlib import Path
from tempfile import mkdtemp

import optax
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from gramlin_jax import Probe, Records
from gramlin_jax.data import load

digits = load("digits")
n = jax.device_count() * (256 // jax.device_count())
spread = NamedSharding(mesh, PartitionSpec("data"))
batches = [
    jax.device_put({"x": digits.flat[i : i + n], "y": digits.y[i : i + n]}, spread)
    for i in range(0, 5 * n, n)
]

# %% [markdown]
# A network, a loss and an optimiser, as you have them:

# %%
net = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(64), nn.relu, nn.Dense(10)])
cross_entropy = optax.softmax_cross_entropy_with_integer_labels
loss = lambda params, batch: (
    cross_entropy(logits := net.apply(params, batch["x"]), batch["y"]).mean(),
    logits,
)
optimizer = optax.adam(3e-3)
replicated = NamedSharding(mesh, PartitionSpec())
params = jax.device_put(net.init(jax.random.key(0), digits.flat[:1]), replicated)
opt_state = optimizer.init(params)

# %% [markdown]
# The probe: one line before the loop, one in the step.

# %%
probe = Probe(loss, lambda batch: batch["y"], has_aux=True, every=4, window=5)
state = probe.init(params, batches[0])
watched = jax.jit(probe.value_and_grad)
update = jax.jit(optimizer.update)

records = Records(Path(mkdtemp()) / "layers.jsonl")
for step in range(300):
    (value, _), gradients, state = watched(params, batches[step % 5], state)
    updates, opt_state = update(gradients, opt_state, params)
    params = optax.apply_updates(params, updates)
    if step % 25 == 24:
        records.append(step, probe.read(state))
print(probe.read(state))

# %%
records.plot("target_linearity")

# %% [markdown]
# Each curve is a layer, beside what pure noise would give. The first layer reads the images, which do
# not change. In a loop of your own, jit the whole step:
# [complete loops for NNX, Linen, Equinox and Optax](https://github.com/gramlin-jax/gramlin_jax/blob/main/docs/watching.md).
