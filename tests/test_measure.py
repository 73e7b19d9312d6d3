import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counting import compilations
from flax import linen as nn
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh

from gramlin_jax import (
    DIAGNOSTIC,
    METRICS,
    Measurement,
    Metric,
    diagnose,
    find_layers,
    gradient_moments,
    jacobian_moments,
    measure,
    moments,
    neural_collapse,
    noise_floor,
    surrogate,
    tap,
    target_linearity,
)
from gramlin_jax.metrics.layer_sums import EVERYTHING

RNG = np.random.default_rng(0)
X = RNG.normal(size=(203, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, 203)
PARAMS = {
    "in": RNG.normal(size=(4, 6)).astype(np.float32),
    "hidden": RNG.normal(size=(2, 6, 6)).astype(np.float32),
    "out": RNG.normal(size=(6, 3)).astype(np.float32),
    "bias": np.zeros((1, 3), np.float32),
}


def network(params, x):
    h = jnp.tanh(x @ params["in"])
    h, _ = jax.lax.scan(lambda h, kernel: (jnp.tanh(h @ kernel), None), h, params["hidden"])
    return checkpoint_name(h, "last") @ params["out"] + params["bias"]


def cross_entropy(out, y):
    return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()


def squares(out, y):
    return ((out - y) ** 2).mean()


@pytest.fixture(scope="module")
def measured():
    return measure(network, PARAMS, (X, LABELS), loss=cross_entropy, batch_size=64)


def same(a, b, rtol=1e-5):
    assert a.layers == b.layers and a.notes == b.notes
    for layer in a.layers:
        chex.assert_trees_all_close(a[layer], b[layer], rtol=rtol, atol=1e-7)
    np.testing.assert_allclose((a.loss, a.accuracy), (b.loss, b.accuracy), rtol=rtol)


@pytest.mark.long
def test_metrics_are_those_of_the_whole_batch(measured):
    features = np.asarray(jnp.tanh(X @ PARAMS["in"]))
    whole = moments(features, jax.nn.one_hot(LABELS, 3))
    layer = measured["hidden[0]"]
    np.testing.assert_allclose(layer["target_linearity"], target_linearity(whole), rtol=1e-6)
    np.testing.assert_allclose(layer["noise_floor"], noise_floor(whole), rtol=1e-12)
    expected = surrogate(whole, PARAMS["hidden"][0], normalized=True)
    np.testing.assert_allclose(layer["surrogate"], expected, rtol=1e-5)
    gradients = gradient_moments(network, PARAMS, X, loss=lambda out: cross_entropy(out, LABELS))
    expected = np.linalg.norm(gradients["hidden"].kernel_gradient[0])
    np.testing.assert_allclose(layer["gradient_norm"], expected, rtol=1e-5)
    assert 0.9 < layer["virtual_alignment"] <= 1
    out = network(PARAMS, X)
    np.testing.assert_allclose(measured.loss, cross_entropy(out, LABELS), rtol=1e-6)
    np.testing.assert_allclose(measured.accuracy, np.mean(out.argmax(1) == LABELS), rtol=1e-6)
    assert measured.count == 203


def test_layers_of_a_scan_and_named_activations_have_lines_of_their_own(measured):
    assert measured.layers == ("in", "hidden[0]", "hidden[1]", "last", "out")
    lines = str(measured).splitlines()
    assert [line.split()[0] for line in lines[1:6]] == list(measured.layers)
    assert np.isnan(measured["last"]["gradient_norm"])
    assert measured["last"]["target_linearity"] == measured["out"]["target_linearity"]
    assert "bias: bias or elementwise" in measured.coverage


def test_layers_of_one_scan_take_turns():
    """By depth, as a table, a slope over depth and a diagnosis read them: a[0] feeds b[0]."""

    def deep(params, x):
        def block(h, kernels):
            return jnp.tanh(h @ kernels["a"]) @ kernels["b"], None

        def group(h, kernels):
            h, _ = jax.lax.scan(block, h, kernels["inner"])
            return h @ kernels["last"], None

        h, _ = jax.lax.scan(block, x, params["first"])
        h, _ = jax.lax.scan(block, h @ params["between"], params["second"])
        return jax.lax.scan(group, h, params["groups"])[0]

    eye = jnp.eye(4)
    blocks = {"a": jnp.stack([eye] * 2), "b": jnp.stack([eye, 2 * eye])}
    groups = {"inner": jax.tree.map(lambda k: jnp.stack([k] * 2), blocks)}
    groups |= {"last": blocks["a"]}
    params = {"first": blocks, "second": blocks, "between": eye, "groups": groups}
    m = measure(deep, params, (X, X), loss=squares, metrics=["kernel_norm"])
    turns = [f"{name}[{i}]" for i in range(2) for name in ("a", "b")]
    nested = [
        f"groups/{name}"
        for i in range(2)
        for name in [*(f"inner/{x}[{i}, {j}]" for j in range(2) for x in "ab"), f"last[{i}]"]
    ]
    of = lambda scan: [f"{scan}/{layer}" for layer in turns]  # noqa: E731
    assert list(m.layers) == [*of("first"), "between", *of("second"), *nested]
    np.testing.assert_allclose(m["second/b[1]"]["kernel_norm"], 4)


def test_a_kernel_behind_stop_gradient_is_noted():
    stop = jax.lax.stop_gradient

    def network(params, x):
        h = jnp.tanh(x @ stop(params["frozen"]))
        layer = lambda h, k: (jnp.tanh(h @ stop(k)), None)  # noqa: E731
        h, _ = jax.lax.scan(layer, h, params["stack"])
        return h @ (stop(params["w"]) + params["a"] @ params["b"])

    eye = jnp.eye(4)
    params = {"frozen": eye, "w": eye, "stack": jnp.stack([eye] * 2), "a": eye[:, :2], "b": eye[:2]}
    m = measure(network, params, (X, X), loss=squares, metrics=["gradient_norm"])
    assert {layer: note.partition(":")[0] for layer, note in m.notes} == {
        name: f"the gradient of {name} is 0" for name in ("frozen", "stack")
    }
    assert m["frozen"]["gradient_norm"] > 0
    assert not measure(network, params, (X, X), loss=squares, metrics=["kernel_norm"]).notes


def test_a_stack_beside_a_leaf_with_the_name_of_its_first_layer():
    def network(params, x):
        h, _ = jax.lax.scan(lambda h, k: (h @ k, None), x, params["a"])
        return h @ params["a[0]"]

    params = {"a": jnp.stack([jnp.eye(4), 2 * jnp.eye(4)]), "a[0]": 3 * jnp.eye(4)}
    m = measure(network, params, (X, X), loss=squares, metrics=["kernel_norm"])
    found = {layer: metrics["kernel_norm"] for layer, metrics in m.items()}
    assert found == {"a#2[0]": 2, "a#2[1]": 4, "a[0]": 6}


def test_layers_of_a_reversed_scan_begin_with_the_last():
    """The first that is not finite is the last kernel, and what it spoils comes after it."""

    def network(params, x):
        block = lambda h, k: (jnp.tanh(h @ k["a"]) @ k["b"], None)  # noqa: E731
        pair = lambda h, ks: jax.lax.scan(block, h, ks)  # noqa: E731
        return jax.lax.scan(pair, x, params, reverse=True)[0]

    params = {name: jnp.tile(jnp.eye(4), (3, 2, 1, 1)) for name in "ab"}
    params["b"] = params["b"].at[2, 1].set(jnp.nan)
    m = measure(network, params, (X, X), loss=squares, metrics=DIAGNOSTIC)
    assert list(m.layers) == [f"{k}[{i}, {j}]" for i in (2, 1, 0) for j in (0, 1) for k in "ab"]
    assert [(f.layer, f.text) for f in diagnose(m) if f.kind == "not finite"] == [
        ("b[2, 1]", "the kernel is not finite, the first in the network")
    ]


@pytest.mark.long
def test_some_layers_only(measured):
    some = measure(network, PARAMS, (X, LABELS), loss=cross_entropy, batch_size=64, layers=["in"])
    assert some.layers == ("in",) and some.coverage == measured.coverage
    chex.assert_trees_all_close(some["in"], measured["in"], rtol=1e-6)
    both = measure(network, PARAMS, (X, LABELS), loss=cross_entropy, layers=["hidden", "last"])
    assert both.layers == ("hidden[0]", "hidden[1]", "last")


@pytest.mark.long
@pytest.mark.devices
def test_neither_batches_nor_devices_change_a_number(measured):
    mesh = Mesh(np.array(jax.devices()), ("data",))
    options = {"loss": cross_entropy}
    pieces = [(X[a:b], LABELS[a:b]) for a, b in ((0, 72), (72, 131), (131, 203))]
    same(measure(network, PARAMS, (X, LABELS), **options), measured)
    same(measure(network, PARAMS, pieces, **options), measured)
    same(measure(network, PARAMS, (X, LABELS), batch_size=64, mesh=mesh, **options), measured)
    same(measure(network, PARAMS, iter(pieces), mesh=mesh, **options), measured)


def counted(f):
    """``f``, and a list with the sizes of the batches at which it was run."""
    sizes = []

    def wrapped(params, x):
        sizes.append(len(x))
        return f(params, x)

    return wrapped, sizes


@pytest.mark.long
def test_the_function_is_traced_twice_at_first_and_then_never():
    f, sizes = counted(network)
    first = measure(f, PARAMS, (X[:64], LABELS[:64]), loss=cross_entropy)
    assert sizes == [64, 128]  # the second says which axis counts samples
    again = measure(f, PARAMS, (X[:64] + 1, LABELS[:64]), loss=cross_entropy)
    assert len(sizes) == 2 and again.loss != first.loss
    measure(f, PARAMS, (X[:50], LABELS[:50]), loss=cross_entropy, metrics=["kernel_norm"])
    assert sizes[2:] == [50]
    g, sizes = counted(network)
    batches = [(X[:50], LABELS[:50]), (X[:64], LABELS[:64]), (X[:50], LABELS[:50])]
    measure(g, PARAMS, batches, loss=cross_entropy)
    assert sizes == [50, 100, 64]


@pytest.mark.long
def test_a_second_call_compiles_nothing():
    f, _ = counted(network)
    measure(f, PARAMS, (X, LABELS), loss=cross_entropy)
    with compilations() as made:
        measure(f, PARAMS, (X + 1, LABELS), loss=cross_entropy)
    assert not made
    with compilations() as made:  # the counter counts
        jax.jit(lambda x: x + 1.25)(X)
    assert made


@pytest.mark.long
def test_arrays_that_are_closed_over_may_change_between_calls():
    closed = {"shift": jnp.zeros((1, 4))}

    def f(params, x):
        return network(params, x + closed["shift"])

    def g(params, x):
        return network(params, jax.jit(lambda x: x + closed["shift"])(x))

    before = [measure(h, PARAMS, (X, LABELS), loss=cross_entropy).loss for h in (f, g)]
    closed["shift"] = jnp.ones((1, 4))
    with compilations() as made:
        after = measure(f, PARAMS, (X, LABELS), loss=cross_entropy).loss
    assert not made  # the array is an argument of the compiled pass
    expected = float(cross_entropy(network(PARAMS, X + 1), LABELS))
    np.testing.assert_allclose(after, expected, rtol=1e-6)
    assert before[0] == before[1] != after
    inside = measure(g, PARAMS, (X, LABELS), loss=cross_entropy).loss
    np.testing.assert_allclose(inside, expected, rtol=1e-6)


@pytest.mark.long
def test_a_penalty_that_f_returns_is_noted_and_parameters_that_the_loss_does_not_read_are_not():
    def f(params, x):
        return network(params, x), (params["in"] ** 2).sum(), params["out"]

    def loss(output, y):
        return cross_entropy(output[0], y)

    def penalized(output, y):
        return cross_entropy(output[0], y) + 0.1 * output[1]

    def notes(loss):
        options = {"outputs": lambda output: output[0], "metrics": ["gradient_norm"]}
        return measure(f, PARAMS, (X, LABELS), loss=loss, **options).notes

    assert notes(loss) == ()
    ((name, note),) = notes(penalized)
    assert (name, note.partition(",")[0]) == ("loss", "depends on in outside of the layers")


@pytest.mark.long
def test_what_a_loss_reads_may_change_between_calls():
    """Arrays, NumPy's that are written into, what lists and dictionaries hold."""
    factors = np.ones((1, 3), np.float32)
    read = {"beta": 1.0, "weights": [jnp.ones((1, 3))]}

    def loss(out, y):
        return read["beta"] * (out**2 * factors * read["weights"][0]).mean()

    def found():
        return measure(network, PARAMS, (X, LABELS), loss=loss, metrics=["gradient_norm"])

    first = found()
    with compilations() as made:
        assert found().loss == first.loss and not made
    for factor, change in (
        (2, lambda: read.update(beta=2.0)),
        (6, lambda: read["weights"].__setitem__(0, 3 * jnp.ones((1, 3)))),
        (24, lambda: np.multiply(factors, 4, out=factors)),
    ):
        change()
        now = found()
        np.testing.assert_allclose(now.loss, factor * first.loss, rtol=1e-6)
        norms = [m["in"]["gradient_norm"] for m in (now, first)]
        np.testing.assert_allclose(norms[0], factor * norms[1], rtol=1e-5)


@pytest.mark.long
def test_what_a_metric_reads_may_change_between_calls():
    before = [jnp.zeros((4, 6)), 1.0]

    def moved(layer):
        return before[1] * jnp.linalg.norm(jax.nn.relu(layer.kernel - before[0]))

    def found():
        options = {"layers": ["in"], "metrics": {"moved": moved}}
        return measure(network, PARAMS, (X, LABELS), loss=cross_entropy, **options)["in"]["moved"]

    kernel = np.asarray(PARAMS["in"])
    np.testing.assert_allclose(found(), np.linalg.norm(np.maximum(kernel, 0)), rtol=1e-6)
    with compilations() as made:
        found()
    assert not made
    before[:] = jnp.ones(kernel.shape), 3.0
    np.testing.assert_allclose(found(), 3 * np.linalg.norm(np.maximum(kernel - 1, 0)), rtol=1e-6)


@pytest.mark.long
class Settings:
    scale = 1.0

    def __init__(self):
        self.power = 1.0

    def network(self, params, x):
        return self.power * network(params, x)


SCALE = 1.0


def test_python_numbers_that_are_read_may_change_between_calls():
    """A global, a closure, an attribute: what was traced with the old one is not used again."""
    settings, factor = Settings(), 1.0

    def f(params, x):
        return Settings.scale * factor * settings.network(params, x)

    def loss(out, y):
        return SCALE * (out**2).mean()

    def found(f=f):
        return measure(f, PARAMS, (X, LABELS), loss=loss, metrics=["kernel_norm"]).loss

    global SCALE
    first, bound = found(), found(settings.network)
    SCALE = 3.0
    assert found() == pytest.approx(3 * first)
    Settings.scale = 2.0
    assert found() == pytest.approx(12 * first)
    factor = 0.5
    assert found() == pytest.approx(3 * first)
    settings.power = 2.0
    assert found(settings.network) == pytest.approx(12 * bound)


def test_only_the_sums_that_are_needed_are_made():
    def sums(*metrics, **options):
        options = {"loss": cross_entropy, "metrics": metrics, **options}
        return measure(network, PARAMS, (X, LABELS), **options).sums["out"]

    linearity = sums("target_linearity")
    assert linearity.gradients is None and linearity.jacobians is None
    assert sums("gradient_norm").moments is None
    assert sums("gradient_norm").gradients.output_sum is None
    assert sums("virtual_share").gradients.output_sum.shape == (3, 3)
    needs = Metric("", "", frozenset({"features"}), lambda layer: layer.moments.count)
    m = measure(network, PARAMS, (X, LABELS), loss=cross_entropy, metrics={"n": needs})
    assert m["last"] == {"n": 203.0} and m.sums["out"].gradients is None


@pytest.mark.long
def test_jacobians_are_summed_for_a_metric_that_needs_them(tmp_path):
    def trace(layer):
        return layer.jacobians.mean.trace()

    options = {"loss": cross_entropy, "batch_size": 64}
    needs = {"trace": Metric("", "", frozenset({"jacobians"}), trace, "higher")}
    m = measure(network, PARAMS, (X, LABELS), metrics=needs, **options)
    whole = jacobian_moments(network, PARAMS, X)
    for i in range(2):
        expected = np.trace(whole["hidden"].mean[i])
        np.testing.assert_allclose(m[f"hidden[{i}]"]["trace"], expected, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(m.sums["out"].jacobians.mean), np.eye(3), atol=1e-12)
    assert np.isnan(m["last"]["trace"]) and m.sums["in"].moments is None
    m.save(tmp_path / "m.npz")
    chex.assert_trees_all_equal(Measurement.load(tmp_path / "m.npz").sums, m.sums)


@pytest.mark.long
def test_an_nnx_module_that_trains_is_measured_as_it_is():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.norm = nnx.Linear(4, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
            self.drop, self.head = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            return self.head(self.drop(nnx.relu(self.norm(self.first(x)))))

    net = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(net, optax.sgd(0.3), wrt=nnx.Param)
    f, sizes = counted(lambda model, x: model(x))
    losses = []
    for epoch in range(3):
        net.train()
        _, gradients = nnx.value_and_grad(lambda model: cross_entropy(model(X), LABELS))(net)
        optimizer.update(net, gradients)
        net.eval()
        with compilations() as made:
            losses.append(measure(f, net, (X, LABELS), loss=cross_entropy).loss)
        np.testing.assert_allclose(losses[-1], cross_entropy(net(X), LABELS), rtol=1e-6)
        assert epoch == 0 or not made
    assert sizes == [203, 406] and len(set(losses)) == 3


@pytest.mark.long
def test_every_metric_of_the_registry():
    m = measure(network, PARAMS, (X, LABELS), loss=cross_entropy, metrics=tuple(METRICS))
    assert tuple(m["in"]) == tuple(METRICS)
    assert [name for name, value in m["in"].items() if np.isnan(value)] == ["attention_entropy"]
    features = moments(jnp.tanh(X @ PARAMS["in"]), jax.nn.one_hot(LABELS, 3))
    np.testing.assert_allclose(m["hidden[0]"]["nc1"], neural_collapse(features).nc1, rtol=1e-5)
    y = RNG.normal(size=(203, 3)).astype(np.float32)
    assert np.isnan(measure(network, PARAMS, (X, y), loss=squares, metrics=["nc1"])["in"]["nc1"])
    for name, metric in METRICS.items():
        values, (low, high) = np.array([m[layer][name] for layer in m.layers]), metric.range
        assert not ((values < low - 1e-9) | (values > high + 1e-9)).any()  # NaN: not defined
        assert (
            metric.name == name
            and len(metric.head) <= 10
            and metric.needs <= {*EVERYTHING, "jacobians", "sample_gradients"}
        )


def test_saved_and_loaded(measured, tmp_path):
    measured.save(tmp_path / "m.npz")
    loaded = Measurement.load(tmp_path / "m.npz")
    same(loaded, measured, rtol=0)
    assert str(loaded) == str(measured)
    chex.assert_trees_all_equal(loaded.sums, measured.sums)
    assert loaded.to_dict()["layers"]["in"] == measured["in"]
    assert loaded == measured
    for part in ("metrics", "sums", "loss"):
        other = {f: jax.tree.map(lambda a: a + 1.0, getattr(loaded, f)) for f in [part]}
        assert dataclasses.replace(loaded, **other) != measured
    assert dataclasses.replace(loaded, notes=(("a", "b"),)) != measured
    renamed = type(loaded.metrics)((f"{layer}2", v) for layer, v in loaded.metrics.items())
    assert dataclasses.replace(loaded, metrics=renamed) != measured
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(ValueError, match="wanted a saved Measurement"):
        Measurement.load(tmp_path / "other.npz")


def test_it_is_a_mapping_of_layers_and_shows_its_table(measured):
    assert list(measured) == list(measured.layers) and len(measured) == 5
    assert "in" in measured and "inn" not in measured and measured.get("inn") is None
    assert dict(measured) == dict(measured.items()) == measured.metrics
    assert repr(measured) == str(measured) == measured.table()


def test_it_is_a_pytree(measured):
    doubled = jax.tree.map(lambda a: 2 * a, measured)
    assert doubled["in"]["kernel_norm"] == 2 * measured["in"]["kernel_norm"]
    assert doubled.notes == measured.notes and doubled.layers == measured.layers
    assert doubled.table().splitlines()[0].split() == measured.table().splitlines()[0].split()


@pytest.mark.long
def test_a_model_with_batch_statistics_and_dropout():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Conv(4, (3, 3), feature_group_count=2)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(x)).reshape(len(x), -1)
            return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))

    model, images = Model(), RNG.normal(size=(90, 5, 5, 2)).astype(np.float32)
    labels = LABELS[:90]
    variables = model.init(jax.random.key(0), images[:1])

    def f(params, x):
        return model.apply({**variables, "params": params}, x)

    m = measure(f, variables["params"], (images, labels), loss=cross_entropy, width_limit=60)
    assert m.layers == ("Conv_0/kernel", "Dense_0/kernel")
    notes = dict(m.notes)
    assert notes.pop("f").startswith("closes over 2 arrays, of shapes (4), (4): constants to it")
    assert notes == {"Dense_0/kernel": "100 features, projected to 60"}
    flat = moments(images.reshape(90, -1), jax.nn.one_hot(labels, 3))
    np.testing.assert_allclose(
        m["Conv_0/kernel"]["target_linearity"], target_linearity(flat), rtol=1e-6
    )
    pooled = measure(f, variables["params"], (images, labels), loss=cross_entropy, positions="mean")
    mean = moments(images.mean((1, 2)), jax.nn.one_hot(labels, 3))
    np.testing.assert_allclose(
        pooled["Conv_0/kernel"]["target_linearity"], target_linearity(mean), rtol=1e-5
    )


@pytest.mark.long
def test_a_label_for_each_token_makes_tokens_samples():
    tokens = RNG.normal(size=(30, 7, 4)).astype(np.float32)
    labels = RNG.integers(0, 3, (30, 7))

    def f(params, x):
        return {"logits": jnp.tanh(x @ params["in"]) @ params["out"] + params["bias"][None]}

    def loss(out, y):
        return cross_entropy(out["logits"], y)

    m = measure(f, PARAMS, (tokens, labels), loss=loss, outputs=lambda out: out["logits"])
    whole = moments(tokens.reshape(-1, 4), jax.nn.one_hot(labels.reshape(-1), 3))
    np.testing.assert_allclose(m["in"]["target_linearity"], target_linearity(whole), rtol=1e-6)
    assert m.count == 30 and 0 < m.accuracy < 1


@pytest.mark.long
def test_real_targets_and_metrics_of_one_s_own():
    y = RNG.normal(size=(203, 3)).astype(np.float32)
    own = {"trace": lambda layer: layer.moments.feature_scatter.trace()}
    m = measure(network, PARAMS, (X, y), loss=squares, metrics=own)
    assert np.isnan(m.accuracy) and "accuracy" not in str(m) and list(m["in"]) == ["trace"]
    np.testing.assert_allclose(m["in"]["trace"], ((X - X.mean(0)) ** 2).sum(), rtol=1e-5)
    some = measure(network, PARAMS, (X, y), loss=squares, metrics=["target_linearity"])
    assert list(some["out"]) == ["target_linearity"]


def test_nan_is_reported_not_hidden():
    x = X.copy()
    x[5, 1] = np.nan
    m = measure(network, PARAMS, (x, LABELS), loss=cross_entropy)
    assert np.isnan(m.loss) and all(np.isnan(m[layer]["target_linearity"]) for layer in m.layers)
    assert "NaN or infinity" in dict(m.notes)["in"]


def test_bad_input():
    def call(batches=(X, LABELS), f=network, params=PARAMS, loss=cross_entropy, **options):
        measure(f, params, batches, loss=loss, **options)

    with pytest.raises(ValueError, match="batches is empty"):
        call([])
    with pytest.raises(ValueError, match="batches holds .*at least one"):
        call((X[:0], LABELS[:0]))
    with pytest.raises(ValueError, match="batches holds .*same number of samples"):
        call((X, LABELS[:3]))
    with pytest.raises(TypeError, match="wanted pairs"):
        call([X])
    with pytest.raises(ValueError, match=r"x of other shapes, \[\(3,\)\], .* f fails"):
        call([(X, LABELS), (X[:, :3], LABELS)])
    with pytest.raises(ValueError, match="y has 203 labels of 203 that name none of the classes"):
        call((X, LABELS + 3))
    with pytest.raises(ValueError, match="outputs gives .*name it by outputs="):
        call(f=lambda p, x: (network(p, x), x), loss=lambda out, y: cross_entropy(out[0], y))
    with pytest.raises(ValueError, match="loss returns .*wanted a scalar"):
        call(loss=optax.softmax_cross_entropy_with_integer_labels)
    with pytest.raises(TypeError, match="loss returns a dict: wanted a scalar of floating point"):
        call(loss=lambda out, y: {"loss": cross_entropy(out, y)})
    with pytest.raises(ValueError, match="metrics has .'nc7'.: wanted names out of"):
        call(metrics=["nc7"])
    for layers in (["hiden"], [], "in"):
        with pytest.raises(ValueError, match="layers is .*: wanted names out of in, hidden, last"):
            call(layers=layers)
    with pytest.raises(ValueError, match="batch_size is 0"):
        call(batch_size=0)
    with pytest.raises(ValueError, match="width_limit is 0"):
        call(width_limit=0)
    with pytest.raises(ValueError, match="positions is 'max': wanted"):
        call(positions="max")
    wrong = {"batch_size": 8.0, "width_limit": None, "probes": 1.5, "seed": "0"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name} is .*: wanted an integer"):
            call(**{name: value})
    for label in ("a", -100.5):
        with pytest.raises(TypeError, match=f"ignore_label is {label!r}: wanted an integer"):
            call(ignore_label=label)
    with pytest.raises(ValueError, match="positions is True: wanted"):
        call(positions=True)
    for name, value in {"loss": None, "outputs": "logits", "weights": np.ones(8)}.items():
        with pytest.raises(TypeError, match=f"{name} is a .*: wanted a function, as lambda"):
            call(**{name: value})
    with pytest.raises(TypeError, match=r"mesh is a int, 3: wanted a jax.sharding.Mesh"):
        call(mesh=3)
    with pytest.raises(TypeError, match="learning_rate is a function, .*: wanted a number"):
        call(learning_rate=lambda step: 0.1)
    with pytest.raises(ValueError, match="learning_rate is nan: wanted a finite number"):
        call(learning_rate=np.nan)
    with pytest.raises(TypeError, match="layers is a generator: wanted a list of names"):
        call(layers=(name for name in ["in"]))
    with pytest.raises(TypeError, match="metrics is 'nfa': wanted a list of names, or a mapping"):
        call(metrics="nfa")
    with pytest.raises(TypeError, match="metrics.'a'. is a str: wanted a function of LayerSums"):
        call(metrics={"a": "nfa"})
    with pytest.raises(ValueError, match="params is traced, as under jit: wanted real arrays, out"):
        jax.grad(lambda params: call(params=params))(PARAMS)
    with pytest.raises(ValueError, match="x of batches is traced, as under jit: wanted real"):
        jax.jit(lambda x: call((x, LABELS)))(X)
    deleted = jnp.asarray(X)
    deleted.delete()
    with pytest.raises(ValueError, match="x of batches was deleted, as what is donated"):
        call((deleted, LABELS))
    with pytest.raises(ValueError, match="params was deleted, as what is donated to a step: want"):
        call(params={**PARAMS, "in": deleted})
    with pytest.raises(ValueError, match="params has no leaf that is used with data"):
        call(f=lambda p, x: network(PARAMS, x))
    with pytest.raises(ValueError, match="f has no linear layer"):
        call(params={"bias": np.ones((1, 4), np.float32)}, f=lambda p, x: (x + p["bias"])[:, :3])
    with pytest.raises(KeyError, match="wanted one of in, hidden"):
        measure(network, PARAMS, (X, LABELS), loss=cross_entropy)["hiden"]


def test_errors_of_f_and_loss_say_what_these_were_called_with():
    def noted(call):
        with pytest.raises((TypeError, ValueError)) as raised:
            call()
        return [note for note in raised.value.__notes__ if "called" in note]

    (note,) = noted(lambda: measure(network, PARAMS, (X[:, :3], LABELS), loss=cross_entropy))
    assert note == "f was called with params: dict of 4 arrays; x: float32 (203, 3)"
    (note,) = noted(lambda: measure(network, PARAMS, (X, LABELS), loss=lambda out: out.mean()))
    assert note == "loss was called with output: float32 (203, 3); y: int32 (203,)"
    (note,) = noted(lambda: find_layers(lambda p, x, k: p @ x + k, None, X, 3))
    assert note == "f was called with params: None; args[0]: float32 (203, 4); args[1]: 3"


def test_what_is_no_function_of_parameters_is_refused():
    module = nn.Dense(3)
    variables = module.init(jax.random.key(0), X)
    for call in (
        lambda f: find_layers(f, variables, X),
        lambda f: tap(f)(variables, X),
        lambda f: measure(f, variables, (X, LABELS), loss=cross_entropy),
        lambda f: gradient_moments(f, variables, X, loss=jnp.mean),
        lambda f: jacobian_moments(f, variables, X),
    ):
        with pytest.raises(TypeError, match="f is a Dense, a Linen module: wanted .*, f.apply"):
            call(module)
        with pytest.raises(TypeError, match="f is a dict: wanted a function"):
            call(variables)


def test_features_that_do_not_follow_their_samples_are_not_measured():
    """A merged axis with samples as the fast index has the size of the good one."""
    tokens = RNG.normal(size=(30, 7, 4)).astype(np.float32)

    def time_major(params, x):
        merged = x.swapaxes(0, 1).reshape(-1, 4) @ params["in"]
        return merged.reshape(7, -1, 6).mean(0) @ params["out"]

    m = measure(time_major, PARAMS, (tokens, LABELS[:30]), loss=cross_entropy)
    assert np.isnan(m["in"]["target_linearity"]) and m["in"]["gradient_norm"] > 0
    assert "do not follow" in dict(m.notes)["in"]
    assert "out" not in dict(m.notes)


@pytest.mark.long
def test_the_surrogate_is_not_of_projected_features():
    tokens = RNG.normal(size=(30, 7, 4)).astype(np.float32)

    def f(params, x):
        return jnp.tanh(x @ params["in"]).mean(1) @ params["out"]

    m = measure(f, PARAMS, (tokens, LABELS[:30]), loss=cross_entropy, width_limit=4)
    assert np.isnan(m["in"]["surrogate"])


@pytest.mark.long
@pytest.mark.devices
def test_explicit_mesh_and_data_in_several_stacks(measured, monkeypatch):
    monkeypatch.setattr("gramlin_jax._measure.stream.STACK_BYTES", 2000)
    mesh = jax.make_mesh((8,), ("data",))
    same(measure(network, PARAMS, (X, LABELS), loss=cross_entropy, mesh=mesh), measured)
