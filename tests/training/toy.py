"""A small classifier to train, and its data as arrays and as batches."""

import jax
import numpy as np
import optax

from gramlin_jax.models import DNN
from gramlin_jax.training import classification_loss, fit

MODEL = DNN(8, 2, 3)


def toy(n=50, d=6):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)).astype(np.float32)
    return x, (x @ rng.normal(size=(d, 3))).argmax(1)


class Slices:
    """Arrays cut into batches in their order, as an epoch without shuffling cuts them."""

    def __init__(self, arrays, size=16):
        self.arrays, self.size, self.passes = arrays, size, 0

    def __iter__(self):
        self.passes += 1
        for start in range(0, len(self.arrays[0]), self.size):
            yield jax.tree.map(lambda a, s=start: a[s : s + self.size], self.arrays)


def init(key, width=6):
    return MODEL.init(key, np.zeros((1, width), np.float32))


def train(data=None, *, loss=None, optimizer=None, hooks=(), width=6, **options):
    """Three epochs in batches of 16, without a word."""
    data = toy() if data is None else data
    if isinstance(data, tuple):
        options = {"batch_size": 16, **options}
    return fit(
        options.pop("init", lambda key: init(key, width)),
        loss or classification_loss(MODEL.apply),
        optimizer or optax.sgd(0.1, momentum=0.8),
        data,
        hooks=hooks,
        **{"epochs": 3, **options},
    )
