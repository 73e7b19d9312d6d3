import functools
from collections import Counter

import chex
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gramlin_jax import METRICS, Metric, Probe, measure, moments, target_linearity
from gramlin_jax._measure.forgetting import merged, remember, start
from gramlin_jax.metrics.registry import DEFAULT

pytestmark = pytest.mark.runs

RNG = np.random.default_rng(0)
N, BATCH = 64, 16
X = RNG.normal(size=(N, 4)).astype(np.float32)
Y = RNG.integers(0, 3, N)
PARAMS = {
    "in": RNG.normal(size=(4, 6)).astype(np.float32),
    "hidden": RNG.normal(size=(2, 6, 6)).astype(np.float32),
    "out": RNG.normal(size=(6, 3)).astype(np.float32),
    "bias": np.zeros((1, 3), np.float32),
}


def network(params, x):
    h = jnp.tanh(x @ params["in"])
    h, _ = jax.lax.scan(lambda h, kernel: (jnp.tanh(h @ kernel), None), h, params["hidden"])
    return h @ params["out"] + params["bias"]


def cross_entropy(out, y):
    return optax.losses.softmax_cross_entropy_with_integer_labels(out, y).mean()


def loss_fn(params, batch):
    out = network(params, batch["x"])
    return cross_entropy(out, batch["y"]), out


def labels(batch):
    return batch["y"]


def batch_at(i, size=BATCH):
    return {"x": jnp.asarray(X[i * size : (i + 1) * size]), "y": Y[i * size : (i + 1) * size]}


BATCHES = [batch_at(i) for i in range(N // BATCH)]
STACK = jax.tree.map(lambda *leaves: jnp.stack(leaves), *BATCHES)


def assert_same_bits(a, b):
    """Leaf by leaf the same bytes, the sign of 0 included."""
    chex.assert_trees_all_equal_structs(a, b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


# All sums but ΔᵀΔ, and nothing that takes long to compile.
QUICK = {
    "count": Metric("count", "count", frozenset({"features"}), lambda layer: layer.moments.count),
    "gradient_norm": METRICS["gradient_norm"],
    "gradient_noise": METRICS["gradient_noise"],
    "kernel_norm": METRICS["kernel_norm"],
}


def assert_measured(found, rows, metrics=QUICK):
    """Equal to ``measure`` on these samples, to 1e-6, and so are the sums."""
    options = {"loss": cross_entropy, "batch_size": BATCH, "metrics": metrics}
    whole = measure(network, PARAMS, (X[rows], Y[rows]), **options)
    assert found.layers == whole.layers
    chex.assert_trees_all_close(found.sums, whole.sums, rtol=1e-6, atol=1e-5)  # sums reach 8
    for name, value in whole.scalars().items():
        np.testing.assert_allclose(found.scalars()[name], value, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def watched():
    """A probe that watches every second step of four, and what each step returned."""
    probe = Probe(loss_fn, labels, has_aux=True, every=2)
    state = probe.init(PARAMS, BATCHES[0])
    step = jax.jit(probe.value_and_grad)
    results = []
    for batch in BATCHES:
        result, gradients, state = step(PARAMS, batch, state)
        results.append((result, gradients))
    return probe, state, results


@pytest.mark.parametrize(
    ("reduce", "noted"),
    [(jnp.sum, True), (jnp.mean, False), (lambda each: each.sum() / BATCH, True)]
    + [(lambda each: each.mean() + 1, False), (lambda each: jnp.nan * each.sum(), False)],
)
def test_a_loss_that_is_a_sum_is_noted(reduce, noted):
    def summed(params, batch):
        out = network(params, batch["x"])
        each = optax.losses.softmax_cross_entropy_with_integer_labels(out, batch["y"])
        return reduce(each), out

    probe = Probe(summed, labels, has_aux=True, every=1)
    state = probe.init(PARAMS, BATCHES[0])
    state = probe.value_and_grad(PARAMS, BATCHES[0], state)[-1]
    notes = [text for name, text in probe.read(state).notes if name == "loss"]
    assert len(notes) == noted
    if noted:
        once, twice = (reduce_of(reduce, size) for size in (1, 2))
        assert f"{once:.4g} on the first batch, {twice:.4g} on one that holds each" in notes[0]


def reduce_of(reduce, times):
    out = np.asarray(network(PARAMS, BATCHES[0]["x"]), float)
    each = np.log(np.exp(out).sum(1)) - out[np.arange(BATCH), BATCHES[0]["y"]]
    return float(reduce(jnp.asarray(np.tile(each, times))))


def penalty(params):
    return 0.1 * (params["in"] ** 2).sum()


def stopped(params):
    return {**params, "in": jax.lax.stop_gradient(params["in"])}


def normed(params):
    return {**params, "in": params["in"] / jnp.linalg.norm(params["in"], axis=0, keepdims=True)}


BESIDE = {
    "penalty": (lambda p, b: loss_fn(p, b)[0] + penalty(p), "the loss depends on in elsewhere"),
    "stopped": (lambda p, b: loss_fn(stopped(p), b)[0], "the gradient of in is 0"),
    "small penalty": (lambda p, b: loss_fn(p, b)[0] + 1e-9 * penalty(p), ""),
    "norm of weights": (lambda p, b: loss_fn(normed(p), b)[0], ""),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_gradients_of_parameters_that_are_not_those_of_the_layer_are_noted(kind):
    loss, note = BESIDE[kind]
    options = {"targets": lambda batch: jax.nn.one_hot(labels(batch), 3), "layers": ["in"]}
    probe = Probe(loss, **options, metrics=["gradient_norm"])
    params, batch = PARAMS, batch_at(0)
    state = probe.value_and_grad(params, batch, probe.init(params, batch))[2]
    m = probe.read(state)
    gradient = np.linalg.norm(jax.grad(loss)(params, batch)["in"])
    same = np.isclose(m["in"]["gradient_norm"], gradient, rtol=1e-3)
    assert same == (kind == "small penalty") or kind == "norm of weights"
    assert [name for name, _ in m.notes] == (["in"] if note else [])
    assert all(note in text for _, text in m.notes)
    if kind == "penalty":
        assert f"norm {gradient:.4g}" in m.notes[0][1]


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("by", ["weight", "number"])
def test_weights_that_count_otherwise_in_the_loss_are_noted(by, ignore):
    """Σwℓ/n in the place of Σwℓ/Σw, with weights, or with labels that do not count."""
    batch, n = batch_at(0), BATCH
    weights = (np.arange(n) % 3 > 0).astype(np.float32) * (1 if ignore else np.arange(1, n + 1))
    given = {"ignore_label": -1} if ignore else {"weights": lambda batch: batch["w"]}
    batch |= {"w": weights, "y": np.where(weights > 0, batch["y"], -1 if ignore else 0)}

    def loss_fn(params, batch):
        out = network(params, batch["x"])
        of = optax.losses.softmax_cross_entropy_with_integer_labels
        losses = of(out, jnp.maximum(batch["y"], 0)) * batch["w"]
        return losses.sum() / (batch["w"].sum() if by == "weight" else len(out)), out

    probe = Probe(loss_fn, labels, has_aux=True, metrics=["gradient_norm"], **given)
    state = probe.value_and_grad(PARAMS, batch, probe.init(PARAMS, batch))[2]
    notes = [note for _, note in probe.read(state).notes]
    assert len(notes) == (by == "number")
    assert all(note.startswith("is not the weighted mean") for note in notes)


def test_dropout_is_no_sum():
    def dropped(params, batch, key):
        keep = jax.random.bernoulli(key, 0.5, (len(batch["x"]), 6))
        out = (jnp.tanh(batch["x"] @ params["in"]) * keep) @ params["out"]
        return cross_entropy(out, batch["y"]), out

    probe = Probe(dropped, labels, has_aux=True, every=1)
    key = jax.random.key(0)
    state = probe.init(PARAMS, BATCHES[0], key)
    state = probe.value_and_grad(PARAMS, BATCHES[0], state, key)[-1]
    assert "loss" not in dict(probe.read(state).notes)


def test_losses_and_gradients_are_the_same_bits(watched):
    plain = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    for batch, result in zip(BATCHES, watched[2], strict=True):
        assert_same_bits(result, plain(PARAMS, batch))


def test_it_reads_what_measure_measures_on_the_same_samples(watched):
    probe, state, _ = watched
    assert int(state.step) == 4 and int(state.watched) == 2
    assert_measured(probe.read(state), np.r_[0:16, 32:48], DEFAULT)


def test_jacobians_are_those_of_the_logits():
    """The last linear layer, where J says nothing, is told from others behind the loss too."""
    probe = Probe(loss_fn, labels, has_aux=True, every=1, metrics=["nfa"])
    state = probe.init(PARAMS, BATCHES[0])
    found = probe.read(jax.jit(probe.value_and_grad)(PARAMS, BATCHES[0], state)[2])
    assert_measured(found, slice(BATCH), ["nfa"])
    assert np.isnan(found["out"]["nfa"]) and np.isfinite(found["in"]["nfa"])


def test_the_state_is_a_pytree_of_arrays_that_a_checkpoint_keeps(watched, tmp_path):
    probe, state, _ = watched
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        with jax.enable_x64(True):
            again = checkpointer.restore(tmp_path / "state", state)
        cut = checkpointer.restore(tmp_path / "state", state)
    assert_same_bits(again, state)
    assert probe.read(again).metrics == probe.read(state).metrics
    with pytest.raises(
        ValueError, match=r"small .* float32: wanted .* float64, .*jax.enable_x64\(True"
    ):
        probe.read(cut)


def test_a_state_that_is_restored_as_numpy_arrays(watched):
    probe, state, _ = watched
    with jax.enable_x64(True):
        again = serialization.from_bytes(state, serialization.to_bytes(state))
        moved = jax.tree.map(jnp.asarray, again)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(again))
    step = jax.jit(probe.value_and_grad)
    with pytest.raises(ValueError, match=r"call jax.tree.map\(jnp.asarray, state\) there"):
        step(PARAMS, BATCHES[0], again)
    expected = step(PARAMS, BATCHES[0], state)[2]
    assert_same_bits(step(PARAMS, BATCHES[0], moved)[2], expected)
    found = probe.value_and_grad(PARAMS, BATCHES[0], again)[2]
    chex.assert_trees_all_equal_dtypes(found, expected)
    assert probe.read(again).metrics == probe.read(state).metrics


def test_a_window_in_a_scan_over_steps_with_a_donated_state():
    probe = Probe(loss_fn, labels, has_aux=True, every=1, window=2, metrics=QUICK)
    state = probe.init(PARAMS, BATCHES[0])

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(state):
        def step(state, batch):
            (loss, _), _, state = probe.value_and_grad(PARAMS, batch, state)
            return state, loss

        return jax.lax.scan(step, state, STACK)

    state, losses = epoch(state)
    np.testing.assert_allclose(losses[1], loss_fn(PARAMS, BATCHES[1])[0], rtol=1e-6)
    assert_measured(probe.read(state), np.r_[32:64])


@pytest.mark.parametrize("decay", (None, 0.5))
def test_sums_fade(decay):
    """Each batch counts ``decay`` times as much as the next: the same as weights of the samples."""
    h = RNG.normal(size=(3, 8, 2)) + 5
    parts = [moments(x, x[:, :1]) for x in h]
    shapes = jax.eval_shape(lambda: {"m": parts[0], "n": jnp.float32(0)})
    kept = start(shapes, None)
    for i, part in enumerate(parts):
        kept = remember(kept, {"m": part, "n": jnp.float32(8)}, jnp.int32(i), None, decay)
    weights = np.repeat((decay or 1.0) ** np.arange(2, -1, -1), 8)
    rows = h.reshape(-1, 2)
    expected = moments(rows, rows[:, :1], weights=weights)
    chex.assert_trees_all_close(merged(kept, shapes, None)["m"], expected, rtol=1e-12)
    np.testing.assert_allclose(merged(kept, shapes, None)["n"], weights.sum())


def test_the_noise_floor_of_fading_batches():
    """Noise gets p Σw²/(Σw)² from p features, by weighted least squares as NumPy has it."""
    options = {"decay": 0.7, "metrics": ["target_linearity", "noise_floor"]}
    probe = Probe(loss_fn, labels, has_aux=True, every=1, **options)
    state, step = probe.init(PARAMS, BATCHES[0]), jax.jit(probe.value_and_grad)
    for batch in BATCHES:
        state = step(PARAMS, batch, state)[2]
    m, w = probe.read(state), np.repeat(0.7 ** np.arange(3, -1, -1), BATCH)
    equal = w.sum() ** 2 / (w**2).sum()
    np.testing.assert_allclose([m.count, m["in"]["noise_floor"]], [equal, 4 / (equal - 1)])
    x, y = (np.sqrt(w)[:, None] * (a - w @ a / w.sum()) for a in (np.float64(X), np.eye(3)[Y]))
    left = y - x @ np.linalg.lstsq(x, y)[0]
    found = m["in"]["target_linearity"]
    np.testing.assert_allclose(found, 1 - (left**2).sum() / (y**2).sum(), rtol=1e-6)


@pytest.mark.parametrize("window", (None, 2))
def test_large_and_small_sums_keep_their_places(window):
    """Sums in one array and by themselves come back in the order in which they went in."""
    parts = [
        {"a": np.full(2, i), "b": np.full((64, 64), 10.0 * i), "c": np.arange(3.0) * i, "d": 1.0}
        for i in (1.0, 2.0, 4.0)
    ]
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, parts[0]))
    kept = start(shapes, window)
    assert [leaf.ndim for leaf in jax.tree.leaves(kept)] == [2 + bool(window), 1 + bool(window)]
    for i, part in enumerate(parts):
        kept = remember(kept, jax.tree.map(jnp.asarray, part), jnp.int32(i), window, None)
    total = 7 if window is None else 6
    expected = {"a": total * np.ones(2), "b": np.full((64, 64), 10.0 * total)}
    expected |= {"c": total * np.arange(3.0), "d": 3.0 if window is None else 2.0}
    chex.assert_trees_all_equal(jax.tree.map(np.float64, merged(kept, shapes, window)), expected)


@pytest.mark.devices
def test_each_device_of_a_shard_map_watches_its_samples():
    probe = Probe(loss_fn, labels, has_aux=True, every=2, axis_name="data", metrics=QUICK)
    state = probe.init(PARAMS, BATCHES[0])
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))

    def mapped(function, outputs):
        rows = {"x": P("data"), "y": P("data")}
        specs = {"mesh": mesh, "in_specs": (P(), rows, P()), "out_specs": outputs}
        return jax.jit(jax.shard_map(function, **specs))

    def step(params, batch, state):
        (loss, _), gradients, state = probe.value_and_grad(params, batch, state)
        return jax.lax.pmean((loss, gradients), "data"), state

    def plain(params, batch, state):
        (loss, _), gradients = jax.value_and_grad(loss_fn, has_aux=True)(params, batch)
        return jax.lax.pmean((loss, gradients), "data"), state

    step, plain = mapped(step, (P(), P())), mapped(plain, (P(), P()))
    for batch in BATCHES[:3]:
        result, state = step(PARAMS, batch, state)
    assert_same_bits(result, plain(PARAMS, batch, state)[0])
    assert_measured(probe.read(state), np.r_[0:16, 32:48])


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.devices
def test_a_batch_cut_over_devices(kind):
    """Along explicit axes JAX wants each product's sharding named, which no sum of ours does."""
    probe = Probe(loss_fn, labels, has_aux=True, every=1, metrics=QUICK)
    state = probe.init(PARAMS, BATCHES[0])
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType[kind],))
    params = jax.device_put(PARAMS, NamedSharding(mesh, P()))
    batch = jax.device_put(BATCHES[0], NamedSharding(mesh, P("data")))
    step = jax.jit(probe.value_and_grad)
    if kind == "Explicit":
        with pytest.raises(ValueError, match="batch is cut along the explicit axis 'data' of a"):
            step(params, batch, state)
        return
    *_, state = step(params, batch, state)
    assert_measured(probe.read(state), np.r_[0:16])


class Net(nn.Module):
    """Half precision, dropout and batch statistics."""

    @nn.compact
    def __call__(self, x, train):
        h = nn.relu(nn.Dense(8, dtype=jnp.bfloat16)(x))
        h = nn.BatchNorm(use_running_average=not train)(h.astype(jnp.float32))
        return nn.Dense(3, dtype=jnp.bfloat16)(nn.Dropout(0.5, deterministic=not train)(h))


def test_dropout_batch_statistics_half_precision_and_accumulation_train_as_without():
    net, optimizer = Net(), optax.MultiSteps(optax.adam(0.1), 2)
    variables = net.init(jax.random.key(0), X[:1], False)

    def loss_fn(params, batch, statistics, key):
        out, changed = net.apply(
            {"params": params, "batch_stats": statistics},
            *(batch["x"], True),
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return cross_entropy(out.astype(jnp.float32), batch["y"]), (out, changed["batch_stats"])

    options = {"outputs": lambda aux: aux[0], "metrics": QUICK}
    probe = Probe(loss_fn, labels, has_aux=True, every=3, **options)

    def train(watch, state):
        def step(carry, batch):
            params, statistics, opt_state, state, key = carry
            key, own = jax.random.split(key)
            if watch:
                (loss, (_, statistics)), gradients, state = probe.value_and_grad(
                    params, batch, state, statistics, own
                )
            else:
                (loss, (_, statistics)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
                    params, batch, statistics, own
                )
            updates, opt_state = optimizer.update(gradients, opt_state, params)
            return (optax.apply_updates(params, updates), statistics, opt_state, state, key), loss

        params = variables["params"]
        carry = (params, variables["batch_stats"], optimizer.init(params), state, jax.random.key(1))
        carry, losses = jax.lax.scan(step, carry, STACK)
        return carry[:2], losses, carry[3]

    start = variables["params"], BATCHES[0], variables["batch_stats"], jax.random.key(0)
    state = probe.init(*start)
    train = jax.jit(train, static_argnums=0)
    *with_probe, state = train(True, state)
    *without, _ = train(False, None)
    assert_same_bits(with_probe, without)
    m = probe.read(state)
    assert m.layers == ("Dense_0/kernel", "Dense_1/kernel") and m.count == 2 * BATCH
    expected = moments(np.concatenate([X[:16], X[48:]]), jax.nn.one_hot(np.r_[Y[:16], Y[48:]], 3))
    found = m.sums["Dense_0/kernel"].moments
    np.testing.assert_allclose(found.feature_scatter, expected.feature_scatter, rtol=0.05)
    assert not m.notes and m["Dense_1/kernel"]["count"] == 2 * BATCH  # behind the dropout


class Module(nnx.Module):
    def __init__(self, rngs):
        self.first, self.norm = nnx.Linear(4, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.drop, self.head = nnx.Dropout(0.5), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x, rngs):
        return self.head(self.drop(nnx.relu(self.norm(self.first(x))), rngs=rngs))


def test_an_nnx_module_trains_as_without():
    def loss_fn(model, batch, rngs):
        out = model(batch["x"], rngs)
        return cross_entropy(out, batch["y"]), out

    probe = Probe(loss_fn, labels, has_aux=True, every=2, metrics=QUICK)
    trained = []
    for watch in (False, True):
        model, rngs = Module(nnx.Rngs(0)), nnx.Rngs(dropout=1)
        optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        state = probe.init(model, BATCHES[0], rngs) if watch else None

        @nnx.jit
        def step(model, optimizer, rngs, batch, state, watch=watch):
            if watch:
                _, gradients, state = probe.value_and_grad(model, batch, state, rngs)
            else:
                grad = nnx.value_and_grad(loss_fn, has_aux=True)
                _, gradients = grad(model, batch, rngs)
            optimizer.update(model, gradients)
            return state

        for batch in BATCHES[:3]:
            state = step(model, optimizer, rngs, batch, state)
        trained.append(nnx.to_pure_dict(nnx.state((model, rngs.dropout.count))))
    assert_same_bits(*trained)
    m = probe.read(state)
    assert m.layers == ("first/kernel", "head/kernel") and m.count == 2 * BATCH


def test_nnx_modules_in_a_container_train_as_without():
    """Their batch statistics and counts are written back, and an array among them is trained."""

    def loss_fn(held, batch, rngs):
        out = held["scale"] * held["nets"][0](batch["x"], rngs)
        return cross_entropy(out, batch["y"]), out

    probe = Probe(loss_fn, labels, has_aux=True, every=2, metrics=QUICK)
    results = []
    for watch in (False, True):
        rngs = nnx.Rngs(dropout=1)
        held = {"nets": [Module(nnx.Rngs(0)), nnx.Dropout(0.1)], "scale": jnp.ones(())}
        state = probe.init(held, BATCHES[0], rngs) if watch else None
        plain = nnx.value_and_grad(loss_fn, has_aux=True)
        for batch in BATCHES[:2]:
            if watch:
                *result, state = probe.value_and_grad(held, batch, state, rngs)
            else:
                result = list(plain(held, batch, rngs))
        of_modules = nnx.to_pure_dict(nnx.state((held["nets"], rngs.dropout.count)))
        results.append((result, of_modules))
    chex.assert_trees_all_equal_structs(*results)
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-7)  # compiled, and not
    assert len(probe.read(state)) == 2


def test_an_equinox_module_has_the_gradients_of_its_filtered_transform():
    model = eqx.nn.MLP(4, 3, 8, 1, key=jax.random.key(0))

    def loss_fn(model, batch):
        return cross_entropy(jax.vmap(model)(batch["x"]), batch["y"])

    def one_hot(batch):
        return jax.nn.one_hot(batch["y"], 3)

    probe = Probe(loss_fn, one_hot, every=1, metrics=QUICK)
    state = probe.init(model, BATCHES[0])
    step = eqx.filter_jit(probe.value_and_grad)
    *result, state = step(model, BATCHES[0], state)
    plain = eqx.filter_jit(eqx.filter_value_and_grad(loss_fn))
    assert_same_bits(tuple(result), plain(model, BATCHES[0]))
    m = probe.read(state)
    assert m.layers == ("layers/0/weight", "layers/1/weight") and np.isnan(m.accuracy)
    expected = moments(X[:16], jax.nn.one_hot(Y[:16], 3)).feature_scatter
    np.testing.assert_allclose(m.sums["layers/0/weight"].moments.feature_scatter, expected)


def test_the_caller_says_which_steps_are_watched():
    probe = Probe(loss_fn, labels, has_aux=True, metrics=["gradient_norm"], layers=["in"])
    state = probe.init(PARAMS, BATCHES[0])
    step = jax.jit(
        lambda state, watch: probe.value_and_grad(PARAMS, BATCHES[1], state, watch=watch)
    )
    for watch in (False, True, True):
        (_, gradients, state) = step(state, watch)
    assert int(state.step) == 3 and int(state.watched) == 2 and not state.kernels
    norm = probe.read(state)["in"]["gradient_norm"]
    np.testing.assert_allclose(norm, np.linalg.norm(gradients["in"]), rtol=1e-6)


def test_a_static_choice_leaves_steps_that_are_not_watched_plain():
    probe = Probe(loss_fn, labels, has_aux=True, metrics=QUICK, every=3)
    zero, plain = probe.init(PARAMS, BATCHES[0]), jax.value_and_grad(loss_fn, has_aux=True)

    def step(params, batch, state, watch):
        return probe.value_and_grad(params, batch, state, watch=watch)

    def operations(f, *args):
        traced = jax.make_jaxpr(f)(PARAMS, BATCHES[0], *args)
        found = Counter(str(equation.primitive) for equation in traced.eqns)
        del found["copy"]  # what only the check of the state sees
        return found

    unwatched, watched = (functools.partial(step, watch=watch) for watch in (False, True))
    counted = Counter({"add": 1})  # to the step's number
    assert operations(unwatched, zero) == operations(plain) + counted
    assert operations(watched, zero)["cond"] == 0
    states = []
    for compiled in (jax.jit(step), jax.jit(step, static_argnums=3)):
        state = zero
        for batch, watch in zip(BATCHES, (True, False, np.True_), strict=False):
            *result, state = compiled(PARAMS, batch, state, watch)
            assert_same_bits(tuple(result), jax.jit(plain)(PARAMS, batch))
        states.append(state)
    assert int(states[0].step) == 3 and int(states[0].watched) == 2
    assert_same_bits(*states)


@pytest.mark.parametrize("kind", [bool, np.int32])
def test_weights_of_any_kind_count_as_in_measure(kind):
    weights = (np.arange(BATCH) % 3 > 0).astype(kind)

    def squares(out, y):
        return ((out - y) ** 2).mean()

    def loss_fn(params, batch):
        return squares(network(params, batch["x"]), batch["real"])

    real = X[:BATCH, :3]
    batch = {**BATCHES[0], "real": real, "weights": weights}
    options = {"weights": lambda batch: batch["weights"], "metrics": ["target_linearity"]}
    probe = Probe(loss_fn, lambda batch: batch["real"], every=1, **options)
    state = probe.init(PARAMS, batch)
    m = probe.read(jax.jit(probe.value_and_grad)(PARAMS, batch, state)[2])
    kept = weights > 0
    expected = target_linearity(moments(X[:BATCH][kept], real[kept]))
    np.testing.assert_allclose(m["in"]["target_linearity"], expected, rtol=1e-6)


def test_what_is_refused_and_why(watched):
    probe, state, _ = watched
    for options, message in (
        ({"every": 0}, "every is 0: wanted at least 1"),
        ({"every": 2**31}, "every is 2147483648: wanted at most 2147483647"),
        ({"seed": 1.5}, "seed is 1.5: wanted an integer"),
        ({"window": 0}, "window is 0: wanted at least 1"),
        ({"decay": 1.0}, "decay is 1.0: wanted a number between 0 and 1"),
        ({"decay": 0.5, "window": 2}, "window is 2 and decay 0.5: wanted one of them"),
        ({"metrics": ["nc9"]}, r"metrics has \['nc9'\]: wanted names"),
    ):
        with pytest.raises(ValueError, match=message):
            Probe(loss_fn, labels, **options)
    with pytest.raises(TypeError, match="ignore_label is 'x': wanted an integer"):
        Probe(loss_fn, labels, ignore_label="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no layers yet: wanted probe.init\(params"):
        Probe(loss_fn, labels, has_aux=True).value_and_grad(PARAMS, BATCHES[0], state)
    with pytest.raises(ValueError, match="returns a pair: wanted a scalar, or has_aux=True"):
        Probe(loss_fn, labels).init(PARAMS, BATCHES[0])
    scalar = lambda params, batch: loss_fn(params, batch)[0]  # noqa: E731
    with pytest.raises(ValueError, match="returns no pair: wanted .* or has_aux=False"):
        Probe(scalar, labels, has_aux=True).init(PARAMS, BATCHES[0])
    with pytest.raises(ValueError, match="no aux where targets are labels: wanted .loss, logits."):
        Probe(scalar, labels).init(PARAMS, BATCHES[0])
    with pytest.raises(TypeError, match="targets is a ndarray: wanted a function"):
        Probe(loss_fn, np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"state is a dict: wanted .*\(params, batch, state\)"):
        probe.value_and_grad(PARAMS, state, BATCHES[0])
    each = Probe(lambda params, batch: network(params, batch["x"]), labels)
    with pytest.raises(ValueError, match=r"loss_fn returns float32 of shape \(16, 3\): wanted"):
        each.init(PARAMS, BATCHES[0])
    with pytest.raises(TypeError, match="loss_fn returns a dict: wanted a scalar of floating"):
        Probe(lambda params, batch: {"loss": scalar(params, batch)}, labels).init(
            PARAMS, BATCHES[0]
        )
    with pytest.raises(
        ValueError, match="params is traced, as under jit: wanted real arrays, before"
    ):
        jax.jit(probe.init)(PARAMS, BATCHES[0])
    other = jax.tree.map(lambda leaf: leaf[..., :1] if leaf.ndim else leaf, state)
    with pytest.raises(ValueError, match=r"state holds .*in \(4, 1\).*: wanted .*in \(4, 6\)"):
        probe.value_and_grad(PARAMS, BATCHES[0], other)
    several = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), state)
    with pytest.raises(ValueError, match=r"state is of \(2,\) runs: wanted one; take each by"):
        probe.read(several)
    empty = state._replace(watched=jnp.zeros((), jnp.int32))
    with pytest.raises(ValueError, match="state has watched 0 batches: wanted one at least"):
        probe.read(empty)
    with pytest.raises(ValueError, match="batch holds 0 samples: wanted one at least"):
        probe.value_and_grad(PARAMS, jax.tree.map(lambda a: a[:0], BATCHES[0]), state)
    donated = probe.init(PARAMS, BATCHES[0])
    jax.tree.map(lambda leaf: leaf.delete(), donated)
    with pytest.raises(ValueError, match="state was deleted, as what is donated to a step"):
        probe.read(donated)
    with pytest.raises(ValueError, match="state is traced, as under jit: wanted real arrays"):
        jax.jit(probe.read)(state)
    over_devices = lambda params, batch: jax.lax.pmean(scalar(params, batch), "data")  # noqa: E731
    with pytest.raises(ValueError, match="mesh's axis, .* wanted the loss of a device's own"):
        Probe(over_devices, labels, axis_name="data").init(PARAMS, BATCHES[0])
    for watch in (np.array([True]), "yes", 2):
        with pytest.raises(ValueError, match="watch is .*: wanted one boolean"):
            probe.value_and_grad(PARAMS, BATCHES[0], state, watch=watch)
    of_devices = Probe(loss_fn, labels, has_aux=True, axis_name="data", metrics=["kernel_norm"])
    with pytest.raises(ValueError, match="axis_name is 'data', which is no axis here: wanted"):
        of_devices.value_and_grad(PARAMS, BATCHES[0], of_devices.init(PARAMS, BATCHES[0]))
    wrong = {**BATCHES[0], "y": BATCHES[0]["y"] + 2}
    _, _, state = probe.value_and_grad(PARAMS, wrong, state, watch=True)
    with pytest.raises(ValueError, match="labels of 48 that name none of the classes"):
        probe.read(state)


def test_a_state_of_another_window_is_refused():
    options = {"has_aux": True, "metrics": ["kernel_norm"]}
    probes = [Probe(loss_fn, labels, window=window, **options) for window in (None, 3, 4)]
    states = [probe.init(PARAMS, BATCHES[0]) for probe in probes]
    for i, j in ((1, 2), (0, 1), (1, 0)):
        given, wanted = probes[i].window, probes[j].window
        with pytest.raises(ValueError, match=f"window={given}: wanted window={wanted}, as this"):
            probes[j].value_and_grad(PARAMS, BATCHES[0], states[i])


def test_a_state_of_another_decay_is_refused():
    options = {"has_aux": True, "metrics": ["kernel_norm"]}
    probes = [Probe(loss_fn, labels, decay=decay, **options) for decay in (None, 0.3, 0.9)]
    states = [
        probe.value_and_grad(PARAMS, BATCHES[0], probe.init(PARAMS, BATCHES[0]))[2]
        for probe in probes
    ]
    for i, j in ((1, 2), (0, 1), (1, 0)):
        given, wanted = probes[i].decay, probes[j].decay
        with pytest.raises(ValueError, match=f"decay={given}: wanted decay={wanted}, as this"):
            probes[j].read(states[i])
    assert all(probe.read(s).count == BATCH for probe, s in zip(probes, states, strict=True))


def test_samples_of_another_shape_and_labels_beyond_32_bits_are_refused():
    def loss_fn(params, batch):
        out = jnp.tanh(batch["x"] @ params["in"]).mean(1) @ params["out"]
        return cross_entropy(out, batch["y"]), out

    short, long = ({"x": RNG.normal(size=(8, n, 4)), "y": np.arange(8) % 3} for n in (2, 3))
    probe = Probe(loss_fn, labels, has_aux=True, every=1, metrics=QUICK)
    state = probe.init(PARAMS, short)
    with pytest.raises(ValueError, match=r"in/feature_mean: \(12,\) and \(8,\)\): wanted posi"):
        jax.jit(probe.value_and_grad)(PARAMS, long, state)
    with jax.enable_x64(True):
        wrong = {**short, "y": short["y"] + 2**32}
        state = probe.value_and_grad(PARAMS, wrong, probe.init(PARAMS, short))[2]
        with pytest.raises(ValueError, match="8 labels of 8 that name none of the classes"):
            probe.read(state)


@pytest.mark.parametrize("position", [5, -5])
def test_a_position_that_shorter_samples_have_not_is_refused(position):
    """JAX takes the nearest one."""

    def loss_fn(params, batch):
        out = jnp.tanh(batch["x"] @ params["in"]).mean(1) @ params["out"]
        return cross_entropy(out, batch["y"]), out

    probe = Probe(loss_fn, labels, has_aux=True, every=1, positions=position, metrics=QUICK)
    long, short = ({"x": jnp.asarray(X[: 16 * t].reshape(16, t, 4)), "y": Y[:16]} for t in (4, 2))
    long = jax.tree.map(lambda a: jnp.concatenate([a, a], 1) if a.ndim == 3 else a, long)
    state = probe.value_and_grad(PARAMS, long, probe.init(PARAMS, long))[2]
    with pytest.raises(ValueError, match=f"positions is {position} for samples of 2 positions"):
        probe.value_and_grad(PARAMS, short, state)


def test_labels_of_other_lengths_need_rows_in_their_order():
    """Rows that stand in another order were found for one length."""

    def loss_fn(params, batch):
        hidden = jnp.tanh(batch["x"][:, ::-1] @ params["in"])
        out = (hidden @ params["out"])[:, ::-1]
        return cross_entropy(out, batch["y"]), out

    probe = Probe(loss_fn, labels, has_aux=True, every=1, metrics=QUICK, layers=["in"])
    long, short = ({"x": X.reshape(-1, t, 4), "y": Y.reshape(-1, t)} for t in (4, 2))
    state = probe.init(PARAMS, long)
    with pytest.raises(ValueError, match="holds samples of 2 positions, the first one of 4, whose"):
        probe.value_and_grad(PARAMS, short, state)


def test_a_first_batch_that_is_not_finite_is_refused():
    """No feature was measured in the whole run, since none follows a sample that is NaN."""
    probe = Probe(loss_fn, labels, has_aux=True, every=1, metrics=QUICK)
    batch = {**BATCHES[0], "x": BATCHES[0]["x"].at[3, 2].set(jnp.nan)}
    with pytest.raises(ValueError, match="batch holds NaN or infinity: wanted finite values"):
        probe.init(PARAMS, batch)
    params = {**PARAMS, "in": np.full_like(PARAMS["in"], np.inf)}
    with pytest.raises(ValueError, match="params holds NaN"):
        probe.init(params, BATCHES[0])
    state = probe.init(PARAMS, BATCHES[0])  # later ones are measured, as NaN
    state = probe.value_and_grad(PARAMS, batch, state)[2]
    m = probe.read(state)
    assert np.isnan(m["in"]["gradient_norm"]) and m["in"]["count"] == BATCH


def test_a_layer_without_samples_needs_no_finite_numbers():
    """By its shapes it has none: a mask of infinity was refused, a function no array to look at."""

    def loss_fn(params, batch):
        pooled = params["function"](batch["x"].mean(0, keepdims=True) @ params["pooled"])
        out = (jnp.tanh(batch["x"] @ params["in"]) + params["scale"] * pooled) @ params["out"]
        return cross_entropy(out, batch["y"]), out

    params = {**PARAMS, "pooled": PARAMS["in"], "function": jnp.tanh, "scale": 1.0}
    batch = {**BATCHES[0], "mask": jnp.full(BATCH, -jnp.inf)}
    probe = Probe(loss_fn, labels, has_aux=True, every=1, metrics=QUICK)
    state = probe.value_and_grad(params, batch, probe.init(params, batch))[2]
    m = probe.read(state)
    assert np.isnan(m["pooled"]["count"]) and m["in"]["count"] == BATCH


@pytest.mark.devices
def test_init_under_an_explicit_mesh_says_what_it_wants():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    probe = Probe(loss_fn, labels, has_aux=True, every=1, metrics=QUICK)
    with jax.set_mesh(mesh):
        batch = jax.device_put(BATCHES[0], NamedSharding(mesh, P("data")))
        with pytest.raises(ValueError, match="batch is cut along the explicit axis 'data'"):
            probe.init(PARAMS, batch)


def test_rows_that_do_not_answer_their_samples_are_not_measured():
    """Positions are the slow index of a merged axis: row i is not of sample i."""

    def loss_fn(params, batch):
        rows = batch["x"].reshape(BATCH, 2, 2).swapaxes(0, 1).reshape(2 * BATCH, 2)
        out = (rows @ params["in"]).reshape(2, BATCH, -1).sum(0) @ params["out"]
        return cross_entropy(out, batch["y"]), out

    params = {"in": PARAMS["in"][:2], "out": PARAMS["out"]}
    probe = Probe(loss_fn, labels, has_aux=True, every=1, metrics=QUICK)
    _, _, state = probe.value_and_grad(params, BATCHES[0], probe.init(params, BATCHES[0]))
    m = probe.read(state)
    assert np.isnan(m["in"]["count"]) and m["out"]["count"] == BATCH
    (note,) = m.notes
    assert note[0] == "in" and "features not measured" in note[1]
