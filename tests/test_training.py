import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import torch_params

from gramlin_jax import Moments, moments, noise_floor
from gramlin_jax.models import DNN
from gramlin_jax.training import classification_loss, fit
from gramlin_jax.training.sweeps import choose_execution, grid

MODEL = DNN(8, 2, 3)


def toy(n=50, d=6):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)).astype(np.float32)
    return x, (x @ rng.normal(size=(d, 3))).argmax(1)


def train(data=None, **options):
    data = toy() if data is None else data
    defaults = dict(epochs=3, batch_size=16, progress=False)
    return fit(
        lambda key: MODEL.init(key, data[0][:1]),
        classification_loss(MODEL.apply),
        options.pop("optimizer", optax.sgd(0.1, momentum=0.8)),
        data,
        **{**defaults, **options},
    )


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
            progress=False,
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

    result = fit(
        lambda key: MODEL.init(key, x[:1]),
        recording,
        optimizer,
        data,
        epochs=2,
        batch_size=16,
        progress=False,
    )
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

    options = dict(optimizer=optimizer, measure=lambda params, hyper, data: hyper["learning_rate"])
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


def test_any_optimizer_of_optax():
    for optimizer in (
        optax.lion(1e-3),
        optax.inject_hyperparams(optax.adam)(1e-2),
        optax.contrib.muon(0.02),
        optax.lbfgs(),
        optax.MultiSteps(optax.sgd(0.1), every_k_schedule=2),
    ):
        losses = train(optimizer=optimizer, epochs=5).history["loss"][0]
        assert losses[-1] < losses[0]


def test_measures_metrics_and_moments_at_chosen_epochs():
    x, y = toy()

    def measure(params, hyper, data):
        logits, features = MODEL.apply(params, data[0])
        accuracy = jnp.mean(logits.argmax(1) == data[1])
        return {"moments": moments(features[0]), "accuracy": accuracy}

    result = train(measure=measure, measure_at=(0, 2, 3), sweep=grid(seed=range(2)))
    np.testing.assert_array_equal(result.measured_at, [0, 2, 3])
    m = result.measurements["moments"]
    assert isinstance(m, Moments)
    chex.assert_shape(m.feature_scatter, (2, 3, 8, 8))
    chex.assert_type(m.feature_scatter, np.float64)
    for run in range(2):
        first = MODEL.init(jax.random.key(run), x[:1])
        for params, column in ((first, 0), (result.run(run), 2)):
            expected = moments(MODEL.apply(params, x)[1][0]).feature_scatter
            np.testing.assert_allclose(m.feature_scatter[run, column], expected, rtol=1e-4)
            rows = jax.tree.map(lambda a, r=run, c=column: a[r, c], m)
            np.testing.assert_allclose(noise_floor(rows), 8 / 49, rtol=1e-12)
    floors = jax.vmap(jax.vmap(noise_floor))(m)  # as float64, not as what JAX makes of NumPy's
    np.testing.assert_allclose(floors, 8 / 49, rtol=1e-12)
    first = train(measure=measure, measure_data=(x[:20], y[:20]), measure_at=(0,))
    np.testing.assert_array_equal(first.measurements["moments"].count, [[20]])
    assert train(measure=measure, measure_at=()).measurements is None


def test_one_compilation_for_all_epochs():
    loss = chex.assert_max_traces(classification_loss(MODEL.apply), n=4)
    x, y = toy()
    chex.clear_trace_counter()
    # Shape inference once, the epoch twice (whole and last batch), no more with more epochs.
    fit(
        lambda key: MODEL.init(key, x[:1]),
        loss,
        optax.sgd(0.1),
        (x, y),
        epochs=6,
        batch_size=16,
        progress=False,
    )


def test_same_seed_same_bits():
    a, b = train(sweep=grid(seed=(5,))), train(sweep=grid(seed=(5,)))
    chex.assert_trees_all_equal(a.params, b.params)
    assert not np.array_equal(a.history["loss"], train(sweep=grid(seed=(6,))).history["loss"])


def test_full_batch_keeps_the_order():
    x, y = toy()
    result = train(batch_size=None, optimizer=optax.sgd(0.1), epochs=1)
    params = MODEL.init(jax.random.key(0), x[:1])
    gradient = jax.grad(lambda p: classification_loss(MODEL.apply)(p, (x, y), None, {})[0])(params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    chex.assert_trees_all_close(result.run(0), expected, rtol=1e-5, atol=1e-7)


def test_choice_of_execution():
    assert choose_execution(10**3, 20) == "vmap"
    assert choose_execution(10**9, 1) == "map"
    if jax.default_backend() == "cpu":
        assert choose_execution(10**7, 20) == "map"


SCRIPT = """
import sys, time
sys.path[:0] = {path!r}
import jax
from test_training import train, MODEL, toy
from gramlin_jax import moments
from gramlin_jax.training import grid

def measure(params, hyper, data):
    return moments(MODEL.apply(params, data[0])[1][1])

result = train(epochs=40, sweep=grid(seed=range(3)), measure=measure, measure_at=(0, 13, 40),
               directory=sys.argv[1], save_interval=float(sys.argv[2]))
print("finished")
"""


def run_script(directory, interval, kill_at=None):
    """Train in a process of its own, which is killed once checkpoint ``kill_at`` is there."""
    script = SCRIPT.format(path=[str(Path(__file__).parent), str(Path(__file__).parents[1])])
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(directory), str(interval)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while kill_at is not None and process.poll() is None:
        steps = [
            int(p.name) for p in Path(directory).glob("checkpoints/[0-9]*") if p.name.isdigit()
        ]
        if max(steps, default=0) >= kill_at:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    output, _ = process.communicate(timeout=120)
    assert ("finished" in output) == (kill_at is None), output


def test_a_killed_run_goes_on_and_ends_bitwise_the_same(tmp_path):
    def measure(params, hyper, data):
        return moments(MODEL.apply(params, data[0])[1][1])

    options = dict(epochs=40, sweep=grid(seed=range(3)), measure=measure, measure_at=(0, 13, 40))
    whole = train(**options)
    run_script(tmp_path / "run", 0, kill_at=15)
    resumed = train(directory=str(tmp_path / "run"), **options)
    chex.assert_trees_all_equal(resumed.params, whole.params)
    chex.assert_trees_all_equal(resumed.opt_state, whole.opt_state)
    chex.assert_trees_all_equal(resumed.history, whole.history)
    chex.assert_trees_all_equal(resumed.measurements, whole.measurements)
    again = train(directory=str(tmp_path / "run"), **options)
    chex.assert_trees_all_equal(again.params, whole.params)


def snapshot(folder):
    return {str(p): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


# Orbax leaves reads under way behind when one of them fails; they end in a closed event loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_named_and_left_alone(tmp_path):
    train(directory=str(tmp_path), save_interval=0)
    good = train(directory=str(tmp_path), save_interval=0)
    newest = tmp_path / "checkpoints" / "3"
    for file in newest.rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match="checkpoint .*3 is truncated or damaged.*move it away"):
        train(directory=str(tmp_path))
    assert snapshot(tmp_path) == before
    shutil.rmtree(newest)  # the remedy that the message names
    chex.assert_trees_all_equal(train(directory=str(tmp_path)).params, good.params)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (dict(epochs=4), "epochs"),
        (dict(batch_size=10), "batch_size"),
        (dict(sweep=grid(seed=(1,))), "sweep.seed"),
        (dict(optimizer=optax.adam(0.1)), "arrays..state.opt_state"),
        (dict(data=toy(d=5)), "data"),
        (dict(data=toy(n=60)), "data"),
        (dict(data=(-toy()[0], toy()[1])), "data"),
    ],
)
def test_a_folder_of_another_run_is_left_alone(tmp_path, change, name):
    train(directory=str(tmp_path))
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=f"another configuration: its {name}.* is"):
        train(directory=str(tmp_path), **change)
    assert snapshot(tmp_path) == before


def test_a_folder_without_its_configuration_is_left_alone(tmp_path):
    train(directory=str(tmp_path))
    (tmp_path / "config.json").unlink()
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match="holds files but no config.json"):
        train(directory=str(tmp_path), sweep=grid(seed=(5,)))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_reported(label):
    x, y = toy()
    y[7] = label
    with pytest.warns(RuntimeWarning, match="loss of run 0 is NaN.*labels out of range"):
        assert np.isnan(train((x, y), epochs=1).history["loss"]).all()


def test_divergence_is_reported():
    with pytest.warns(RuntimeWarning, match="run 1 is NaN or infinite from epoch"):
        result = train(
            optimizer=lambda hyper: optax.sgd(hyper["learning_rate"]),
            sweep=grid(learning_rate=(0.1, 1e30)),
            epochs=4,
        )
    assert np.isfinite(result.history["loss"][0]).all()
    assert not np.isfinite(result.history["loss"][1]).all()


X, Y = toy()
BAD = [
    (dict(data=(X, Y[:-1])), "data holds arrays of shapes.*same number of samples"),
    (dict(data=(X[:0], Y[:0])), "data holds arrays.*at least one"),
    (dict(data=(np.where(X > 2, np.nan, X), Y)), r"data\[0\] has .* NaN or infinite"),
    (dict(epochs=0), "epochs is 0"),
    (dict(batch_size=0), "batch_size is 0"),
    (dict(sweep={"seed": [1, 2], "learning_rate": [0.1]}), "sweep has shapes"),
    (dict(sweep={"learning_rate": 0.1}), "sweep has shapes"),
    (dict(sweep={"seed": [0.5]}), "seed of dtype float64: wanted integers"),
    (dict(sweep={"seed": [1, 2**32]}), "seed 4294967296: wanted below"),
    (dict(measure=lambda p, h, d: 0.0, measure_at=(0, 4)), r"measure_at is \[0, 4\].* 0 to 3"),
    (dict(execution="pmap"), "execution is 'pmap'"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        train(**options)


def test_a_loss_that_is_not_scalar():
    for loss in (lambda p, b, k, h: (jnp.ones(3), {}), lambda p, b, k, h: jnp.float32(0)):
        with pytest.raises(ValueError, match="loss returned shapes"):
            fit(lambda key: {"w": jnp.ones(2)}, loss, optax.sgd(1.0), toy(), epochs=1)


def test_inputs_of_the_wrong_type():
    x, y = toy()
    with pytest.raises(TypeError, match="x has dtype uint8.*divide pixels by 255"):
        train(((x > 0).astype(np.uint8), y))
    with pytest.raises(TypeError, match=r"labels are float32\[16, 3\]: wanted integers"):
        train((x, np.eye(3, dtype=np.float32)[y]))


def test_grid():
    sweep = grid(learning_rate=(0.1, 0.01), seed=range(2))
    assert sweep["learning_rate"].tolist() == [0.1, 0.1, 0.01, 0.01]
    assert sweep["seed"].tolist() == [0, 1, 0, 1] and sweep["seed"].dtype.kind == "i"
    with pytest.raises(ValueError, match="seed has no values"):
        grid(seed=())
