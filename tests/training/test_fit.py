import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import torch_params
from counting import compilations
from toy import MODEL, Slices, toy, train

from gramlin_jax.models import DNN
from gramlin_jax.training import Hook, Measure, classification_loss, fit, grid


def golden_fit(golden, optimizer, **options):
    """Training of the reference's network, from its initial weights and in its order."""
    numbers = golden("train_eval")
    model = DNN(16, 2, 4)
    with jax.enable_x64(True):
        start = jax.tree.map(jnp.asarray, torch_params(numbers, "init_"))
        result = fit(
            lambda key: start,
            classification_loss(model.apply),
            optimizer,
            (numbers["X"], numbers["targets"]),
            shuffle=False,
            hooks=(),
            **options,
        )
        loss, _ = classification_loss(model.apply)(
            result.run(0), (numbers["X"], numbers["targets"]), jax.random.key(0), {}
        )
    return numbers, result, float(loss)


def assert_parameters(numbers, prefix, params, atol=1e-9):
    expected = torch_params(numbers, prefix)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), params, expected)


def test_golden_sgd(golden):
    optimizer = optax.sgd(0.05, momentum=0.8)
    numbers, result, loss = golden_fit(golden, optimizer, epochs=3, batch_size=32)
    recorded = np.c_[result.history["loss"][0], result.history["accuracy"][0]]
    np.testing.assert_allclose(recorded, numbers["train_loss_acc"], atol=1e-7)
    np.testing.assert_allclose(recorded[:, 0], numbers["train_loss_acc"][:, 0], atol=1e-9)
    assert_parameters(numbers, "sgd_final_", result.run(0))
    np.testing.assert_allclose(loss, numbers["evaluate_loss_true"], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [("adam", optax.adam(1e-3)), ("adamw", optax.adamw(1e-3, b2=0.98, weight_decay=0.5))],
)
def test_golden_adam(golden, name, optimizer):
    numbers, result, _ = golden_fit(golden, optimizer, epochs=10)
    np.testing.assert_allclose(result.history["loss"][0], numbers[f"{name}_losses"], atol=1e-9)
    assert_parameters(numbers, f"{name}_final_", result.run(0))


def test_is_the_plain_loop():
    """The scan against a loop over batches in Python, shuffled, the shorter last batch kept."""
    x, y = toy()
    data = (x, y, np.arange(len(x)))
    loss, optimizer = classification_loss(MODEL.apply), optax.adam(0.01)
    seen = []

    def recording(params, batch, key, hyper):
        jax.debug.callback(lambda rows: seen.append(np.array(rows)), batch[2], ordered=True)
        return loss(params, batch[:2], key, hyper)

    result = train(data, loss=recording, optimizer=optimizer, epochs=2)
    jax.effects_barrier()
    assert [len(rows) for rows in seen] == [16, 16, 16, 2] * 2
    for epoch in (seen[:4], seen[4:]):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), np.arange(50))
    assert not np.array_equal(np.concatenate(seen[:4]), np.concatenate(seen[4:]))

    params = MODEL.init(jax.random.key(0), x[:1])
    state, losses = optimizer.init(params), []
    for rows in seen:
        value, gradient = jax.value_and_grad(lambda p, r=rows: loss(p, (x[r], y[r]), None, {})[0])(
            params
        )
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(float(value) * len(rows) / 50)
    np.testing.assert_allclose(
        result.history["loss"][0], [sum(losses[:4]), sum(losses[4:])], rtol=1e-5
    )
    chex.assert_trees_all_close(result.run(0), params, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("execution", ["vmap", "map"])
def test_a_sweep_is_its_single_runs(execution):
    sweep = grid(learning_rate=(0.01, 0.1), weight_decay=(0.0, 0.1), seed=(3, 4))

    def optimizer(hyper):
        return optax.adamw(hyper["learning_rate"], weight_decay=hyper["weight_decay"])

    hooks = [Measure(lambda params, hyper, data: hyper["learning_rate"])]
    options = dict(optimizer=optimizer, hooks=hooks)
    together = train(sweep=sweep, execution=execution, **options)
    chex.assert_shape(together.history["loss"], (8, 3))
    np.testing.assert_allclose(
        together.measurements, together.sweep["learning_rate"][:, None] + np.zeros(4)
    )
    for i in (0, 3, 7):
        alone = train(sweep={name: values[i : i + 1] for name, values in sweep.items()}, **options)
        chex.assert_trees_all_close(alone.run(0), together.run(i), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(alone.history["loss"][0], together.history["loss"][i], rtol=1e-4)
    assert not np.allclose(together.history["loss"][0], together.history["loss"][1])
    chex.assert_trees_all_equal(together.run(-1), together.run(7))
    for i in (8, -9):  # JAX gives the nearest one
        with pytest.raises(IndexError, match=f"i is {i}: wanted a run from 0 to 7"):
            together.run(i)


def test_any_optimizer_of_optax():
    for optimizer in (
        optax.inject_hyperparams(optax.adam)(1e-2),
        optax.contrib.muon(0.02),
        optax.lbfgs(),
        optax.MultiSteps(optax.sgd(0.1), every_k_schedule=2),
    ):
        losses = train(optimizer=optimizer, epochs=5).history["loss"][0]
        assert losses[-1] < losses[0]


def test_full_batch_keeps_the_order():
    x, y = toy()
    result = train(batch_size=None, optimizer=optax.sgd(0.1), epochs=1)
    params = MODEL.init(jax.random.key(0), x[:1])
    gradient = jax.grad(lambda p: classification_loss(MODEL.apply)(p, (x, y), None, {})[0])(params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    chex.assert_trees_all_close(result.run(0), expected, rtol=1e-5, atol=1e-7)


def test_same_seed_same_bits():
    a, b = train(sweep=grid(seed=(5,))), train(sweep=grid(seed=(5,)))
    chex.assert_trees_all_equal(a.params, b.params)
    assert not np.array_equal(a.history["loss"], train(sweep=grid(seed=(6,))).history["loss"])


def test_one_compilation_for_all_epochs():
    loss = chex.assert_max_traces(classification_loss(MODEL.apply), n=3)
    chex.clear_trace_counter()
    # Shape inference once, the epoch twice (whole and last batch), no more with more epochs.
    train(loss=loss, epochs=6)


@pytest.mark.parametrize("optimizer", [optax.sgd(0.01, momentum=0.8), optax.lbfgs()])
@pytest.mark.parametrize("data", [np.arange(8.0), lambda epoch: [np.arange(8.0)]])
def test_one_compilation_for_parameters_that_are_pythons_numbers(optimizer, data):
    def loss(params, batch, key, hyper):
        return jnp.mean((params["slope"] * batch - batch) ** 2), {}

    made = []
    for epochs in (1, 1, 3):
        with compilations() as programs:
            options = dict(init=lambda key: {"slope": 0.5}, batch_size=None, epochs=epochs)
            fitted = train(data, loss=loss, optimizer=optimizer, **options)
        made.append(len(programs))
    assert made[2] == made[1] and fitted.params["slope"].dtype == jnp.float32


def test_one_compilation_for_each_shape_of_a_batch():
    loss = chex.assert_max_traces(classification_loss(MODEL.apply), n=3)
    chex.clear_trace_counter()
    train(Slices(toy()), loss=loss, epochs=6, sweep=grid(seed=range(2)))


X, Y = toy()
BAD = [
    (dict(data=(X, Y[:-1])), "data holds arrays of shapes.*same number of samples"),
    (dict(data=(X[:0], Y[:0])), "data holds arrays.*at least one"),
    (dict(data=(np.where(X > 2, np.nan, X), Y)), r"data\[0\] has .* NaN or infinite"),
    (dict(epochs=0), "epochs is 0"),
    (dict(epochs=2.5), "epochs is 2.5: wanted an integer"),
    (dict(batch_size=0), "batch_size is 0"),
    (dict(batch_size=2.5), "batch_size is 2.5: wanted an integer"),
    (dict(sweep={"seed": [1, 2], "learning_rate": [0.1]}), "sweep has shapes"),
    (dict(sweep={"learning_rate": 0.1}), "sweep has shapes"),
    (dict(sweep={"seed": [0.5]}), "seed of dtype float64: wanted integers"),
    (dict(sweep={"seed": [1, 2**32]}), "seed.*has the value 4294967296: wanted integers"),
    (dict(execution="pmap"), "execution is 'pmap'"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        train(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hooks": Hook()}, "hooks is <.*>: wanted a list of hooks"),
        ({"hooks": [Hook]}, "hooks is .*: wanted a list of hooks"),
        ({"optimizer": "sgd"}, "optimizer gives 'sgd': wanted one of Optax's"),
        ({"optimizer": lambda hyper: None}, "optimizer gives None: wanted one of Optax's"),
        ({"init": {"kernel": X}}, "init is a dict: wanted a function, as lambda key: params"),
        ({"loss": "squared"}, "loss is a str: wanted a function"),
        ({"hooks": [Measure(None)]}, "Measure.function is a NoneType: wanted a function"),
        ({"sweep": [("seed", 0)]}, "sweep is a list: wanted values by name, as grid"),
    ],
)
def test_what_is_of_another_kind(options, message):
    with pytest.raises(TypeError, match=message):
        train(**options)


@pytest.mark.parametrize(
    "value",
    [
        jnp.float32(0),
        (jnp.ones(3), {}),
        (jnp.float32(0), None),
        (jnp.float32(0), [jnp.float32(0)]),
        (jnp.float32(0), {"by class": jnp.ones(3)}),
    ],
)
def test_a_loss_that_is_not_scalar(value):
    with pytest.raises(
        ValueError, match=r"loss returned shapes .*wanted \(scalar, dict of scalars"
    ):
        train(loss=lambda p, b, k, h: value)


def test_a_metric_cannot_take_the_name_of_the_loss():
    """It was replaced by the loss without a word."""
    with pytest.raises(ValueError, match="^loss returned a metric 'loss': wanted another name"):
        train(loss=lambda p, b, k, h: (jnp.float32(0), {"loss": jnp.float32(1)}))
