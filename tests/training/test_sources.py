import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy import Slices, toy, train

from gramlin_jax.training import Measure, grid


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "uint8", "bool"])
def test_means_over_many_batches_in_any_type(dtype):
    """In bfloat16 a share of 1/500 would be rounded away; unsigned differences would wrap."""

    def loss(params, batch, key, hyper):
        value = batch.sum().astype(dtype)
        return value.astype(float), {"value": value}

    ones = np.repeat([True, False, True], 400)
    f = train(lambda epoch: ones[:, None], loss=loss, optimizer=optax.sgd(0.0), epochs=1)
    np.testing.assert_allclose(f.history["value"], 2 / 3, rtol=4e-3)


def test_a_callable_is_told_the_epoch():
    told = []

    def batches(epoch):
        told.append(epoch)
        return [(np.full((4, 6), epoch, np.float32), np.zeros(4, int))]

    def loss(params, batch, key, hyper):
        return params["params"]["Dense_0"]["bias"].sum(), {"x": batch[0].mean()}

    assert train(batches, loss=loss).history["x"].tolist() == [[0, 1, 2]]
    assert told == [0, 0, 1, 2]  # once to see whether it starts anew


class Renewed:
    """Gives a new generator each time, over batches that can be read once."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def __iter__(self):
        return (batch for batch in self.batches)


def test_no_batch_is_lost_of_what_can_be_read_once():
    def loss(params, batch, key, hyper):
        return params["params"]["Dense_0"]["bias"].sum(), {"x": batch[0].mean()}

    batches = [(np.full((4, 6), i, np.float32), np.zeros(4, int)) for i in range(3)]
    history = train(Renewed(batches), loss=loss, epochs=1).history
    assert history["x"].tolist() == [[1]]  # of 0, 1 and 2
    with pytest.raises(ValueError, match="data has no batch in epoch 1"):
        train(Renewed(batches), loss=loss, epochs=2)


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


def plus(offset):
    return (X + np.float64(offset), Y)


def wide_labels(change):
    labels = Y.astype(np.int64)
    labels[5] += change
    return X, labels


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (wide_labels(2**40 + 9), r"\[1\] has the value 10995116277\d+: wanted integers that int32"),
        (
            wide_labels(-(2**40)),
            r"\[1\] has the value -10995116277.*: wanted integers that int32 holds",
        ),
        (plus(1e8), r"\[0\] has a column of mean 1e\+08 and standard deviation [01].*: wanted"),
        (plus(1e39), r"\[0\] has the value 1e\+39: wanted numbers that float32 holds"),
        ((X * np.float64(1e-60), Y), ".*: wanted differences that float32 holds"),
    ],
)
def test_data_that_would_change_are_refused(data, message):
    def mean(params, hyper, data):
        return data[0].mean()

    for name, given, hooks in [
        ("data", data, ()),
        ("a batch of data", Slices(data, 50), ()),
        ("Measure.data", (X, Y), [Measure(mean, data)]),
    ]:
        with pytest.raises(ValueError, match=f"{name}{message}"):
            train(given, hooks=hooks)


@pytest.mark.parametrize("kind", [str, object, "datetime64[s]"])
def test_data_that_are_no_numbers_are_named(kind):
    data = X, Y.astype(kind)
    for name, given in (("data", data), ("a batch of data", Slices(data, 50))):
        with pytest.raises(TypeError, match=rf"{name}\[1\] has dtype .*: wanted numbers"):
            train(given)


def test_data_that_are_only_rounded_are_taken():
    constant = np.full((50, 1), 0.1)  # rounding moves it, but it has no differences
    noisy = constant + 1e-17 * np.arange(50)[:, None]
    x = np.concatenate([X[:, :2] + 1000, X[:, :2] * np.float64(1e-30), constant, noisy], axis=1)
    assert x.dtype == np.float64
    assert np.isfinite(train((x, Y.astype(np.uint64))).history["loss"]).all()


def test_a_time_of_day_keeps_its_steps_or_is_refused():
    clock = (1.7e9 + 1e-3 * np.arange(50.0))[:, None]
    with pytest.raises(ValueError, match="column of mean 1.7e"):
        train((clock, Y), width=1)
