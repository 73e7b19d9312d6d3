import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy import Slices, toy, train

from gramlin_jax.training import grid


@pytest.mark.parametrize("execution", ["vmap", "map"])
@pytest.mark.parametrize("wrap", [Slices, lambda data: lambda epoch: Slices(data)])
def test_batches_are_the_arrays_in_their_order(execution, wrap):
    """The same parameters, metrics and random numbers, the shorter last batch included."""

    def loss(params, batch, key, hyper):
        x, y = batch
        noise = params @ jax.random.normal(key, (6,))
        metrics = {"mean": x.mean(), "first label": y[0]}
        return ((x - params[None]) ** 2).mean() + 0.1 * noise, metrics

    options = dict(loss=loss, init=lambda key: jax.random.normal(key, (6,)))
    options |= dict(sweep=grid(seed=range(3)), execution=execution, optimizer=optax.adam(0.1))
    arrays = train(toy(), shuffle=False, **options)
    batches = train(wrap(toy()), **options)
    chex.assert_trees_all_close(batches.params, arrays.params, rtol=1e-6)
    chex.assert_trees_all_close(batches.opt_state, arrays.opt_state, rtol=1e-5)
    assert batches.history.keys() == arrays.history.keys() == {"loss", "mean", "first label"}
    for name, values in batches.history.items():
        np.testing.assert_allclose(values, arrays.history[name], rtol=1e-5)
    x, y = toy()
    np.testing.assert_allclose(batches.history["mean"], np.full((3, 3), x.mean()), rtol=1e-4)
    wanted = np.average(y[::16], weights=[16, 16, 16, 2])  # a fraction, though labels are integers
    np.testing.assert_allclose(batches.history["first label"], np.full((3, 3), wanted), rtol=1e-5)


def test_a_callable_is_told_the_epoch():
    told = []

    def batches(epoch):
        told.append(epoch)
        return [(np.full((4, 6), epoch, np.float32), np.zeros(4, int))]

    def loss(params, batch, key, hyper):
        return params["params"]["Dense_0"]["bias"].sum(), {"x": batch[0].mean()}

    assert train(batches, loss=loss).history["x"].tolist() == [[0, 1, 2]]
    assert told == [0, 0, 1, 2]  # once for the shapes


class Stored:
    """Gives the same iterator each time."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def __iter__(self):
        return self.batches


X, Y = toy()
ONCE = iter(Slices((X, Y)))


@pytest.mark.parametrize(
    "data", [iter(Slices((X, Y))), Stored(Slices((X, Y))), lambda epoch: ONCE, map(abs, [X])]
)
def test_what_can_be_read_once_is_refused(data):
    with pytest.raises(ValueError, match="can be read once: wanted an iterable that starts anew"):
        train(data, loss=lambda params, batch, key, hyper: (jnp.zeros(()), {}), epochs=1)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (lambda epoch: [], {}, "data has no batch in epoch 0: wanted at least one"),
        (lambda epoch: [(X, Y)] * (epoch < 2), {}, "data has no batch in epoch 2"),
        (Slices((X, Y)), dict(batch_size=16), "batch_size is 16 where data yields batches"),
        (lambda epoch: [(np.nan * X, Y)], {}, r"first batch of data\[0\] has 300 values .* NaN"),
        (lambda epoch: [(X, Y[:2])], {}, "a batch of data holds.*same number"),
        (object(), {}, "data has type object: wanted arrays"),
    ],
)
def test_bad_batches(data, options, message):
    with pytest.raises(ValueError, match=message):
        train(data, **options)
