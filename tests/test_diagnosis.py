"""Faults planted in a healthy network are found where they are, and healthy ones have none."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.ad_checkpoint import checkpoint_name

from gramlin_jax import (
    DIAGNOSTIC,
    GradientMoments,
    LayerSums,
    Measurement,
    Records,
    diagnose,
    measure,
)
from gramlin_jax.data import load

pytestmark = pytest.mark.runs

WIDTH, N = 24, 400
DIGITS = load("digits", "train")
X, Y = DIGITS.x.reshape(len(DIGITS.x), -1), DIGITS.y
TRAIN, TEST = (X[:N], Y[:N]), (X[N : 2 * N], Y[N : 2 * N])


def start(key, width=WIDTH, inputs=64, outputs=10):
    """Kernels, and switches by which faults are planted: each multiplies what a layer makes."""
    keys = jax.random.split(key, 5)
    sizes = {"in": (inputs, width), "hidden": (width, width), "branch": (width, width)}
    sizes |= {"out": (width, outputs), "extra": (width, outputs)}
    kernels = {
        name: jax.random.normal(k, size) * (2 / size[0]) ** 0.5
        for k, (name, size) in zip(keys, sizes.items(), strict=True)
    }
    switches = {"noise": 0.0, "divisor": 1.0, "branched": 1.0, "root": 1e-6, "reached": 1.0}
    biases = {"bias": jnp.zeros(width), "later": jnp.zeros(width)}
    return {**kernels, **biases, **{k: jnp.float32(v) for k, v in switches.items()}}


def network(params, x):
    h = jax.nn.relu(x @ params["in"] + params["bias"][None])
    noise = jnp.sin(1e6 * h.sum(1, keepdims=True) * jnp.arange(1.0, h.shape[1] + 1)[None])
    h = (1 - params["noise"]) * h + params["noise"] * noise
    z = h @ params["hidden"] + params["later"][None]
    h = jax.nn.relu(z / params["divisor"])
    h = h + jnp.sqrt(params["root"] * (1 + z**2))
    h = h + params["branched"] * jnp.tanh(h @ params["branch"])
    return h @ params["out"] + params["reached"] * (h @ params["extra"])


def cross_entropy(out, y):
    return optax.losses.softmax_cross_entropy_with_integer_labels(out, y).mean()


@functools.partial(jax.jit, static_argnames="steps")
def trained(params, x, y, key, steps=300):
    """By SGD on batches of 64, the switches left alone."""
    fixed = {name: value for name, value in params.items() if jnp.ndim(value) == 0}

    def step(params, key):
        rows = jax.random.randint(key, (64,), 0, len(x))
        gradients = jax.grad(lambda p: cross_entropy(network({**p, **fixed}, x[rows]), y[rows]))(
            params
        )
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), None

    free = {name: value for name, value in params.items() if name not in fixed}
    return {**jax.lax.scan(step, free, jax.random.split(key, steps))[0], **fixed}


def measured(params, data=TRAIN, metrics=DIAGNOSTIC):
    return measure(network, params, data, loss=cross_entropy, metrics=metrics, learning_rate=0.1)


@pytest.fixture(scope="module")
def healthy():
    return trained(start(jax.random.key(0)), *TRAIN, jax.random.key(1))


def kinds(diagnosis):
    return {(finding.kind, finding.layer) for finding in diagnosis}


def one_direction(params):
    """Kernel of rank 1 on non-negative features, so that the activation changes nothing."""
    away = jnp.outer(jnp.ones(WIDTH), jnp.arange(1.0, WIDTH + 1)) / WIDTH**2
    return {**params, "hidden": away, "branched": jnp.float32(0)}


FAULTS = {
    "noise": (lambda p: {**p, "noise": jnp.float32(1)}, "at its noise floor", "hidden"),
    "rank": (one_direction, "collapsed rank", "branch"),
    "exploding": (
        lambda p: {**p, "out": 1e-3 * p["out"], "extra": 1e-3 * p["extra"]},
        "exploding update",
        "out",
    ),
    "vanishing": (lambda p: {**p, "branched": jnp.float32(1e-9)}, "vanishing update", "branch"),
    "dead": (
        lambda p: {**p, "bias": p["bias"].at[: 3 * WIDTH // 4].set(-1e3)},
        "dead units",
        "in",
    ),
    "unreached": (
        lambda p: {**p, "reached": jnp.float32(0)},
        "not reached by the loss",
        "extra",
    ),
    "all dead": (lambda p: {**p, "bias": p["bias"] - 1e3}, "not reached by the loss", "in"),
    "division": (lambda p: {**p, "divisor": jnp.float32(0)}, "not finite", "branch"),
    "root": (lambda p: {**p, "root": jnp.float32(0)}, "not finite", "hidden"),
    "weight": (
        lambda p: {**p, "branch": p["branch"].at[0, 0].set(jnp.inf)},
        "not finite",
        "branch",
    ),
}


def test_nothing_is_wrong_with_a_healthy_network(healthy):
    diagnosis = diagnose(measured(healthy), heldout=measured(healthy, TEST))
    assert not diagnosis.findings and not diagnosis.unchecked
    assert repr(diagnosis) == "nothing is wrong"


def test_features_that_can_have_one_direction_are_not_collapsed(tmp_path):
    """A scalar input; and a sample, whose target has no direction: -1 was less than it can be."""
    params, x = start(jax.random.key(0), inputs=1), np.linspace(-1, 1, 100, dtype=np.float32)
    labels = np.digitize(x, [-0.5, 0.0, 0.5])
    for rows in (slice(None), slice(1)):
        m = measured(params, (x[rows, None], labels[rows]))
        assert "collapsed rank" not in {kind for kind, _ in kinds(diagnose(m))}
    records = Records(tmp_path / "layers.jsonl")
    records.append(0, measured(params, (x[:, None], labels), metrics=DIAGNOSTIC))
    assert records[0]["in"]["width"] == 1 and records[0]["in"]["feature_rank"] == 1
    kept = diagnose(Records.load(records.path))
    assert "collapsed rank" not in {kind for kind, _ in kinds(kept)}
    scores = measured(params, (x[:1, None], labels[:1]), metrics=["target_rank"])
    assert scores["in"]["target_rank"] == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_where_it_is(healthy, fault):
    plant, kind, layer = FAULTS[fault]
    diagnosis = diagnose(measured(plant(healthy)))
    assert (kind, layer) in kinds(diagnosis)
    assert f"{kind}: " in repr(diagnosis) and f'<td style="text-align: left">{layer}<' in (
        diagnosis._repr_html_()
    )
    first = next(finding for finding in diagnosis if finding.kind == kind)
    assert first.layer == layer and first.step is None  # what is wrong behind it comes after it
    plain = json.loads(diagnosis.to_json())["findings"]
    assert len(plain) == len(diagnosis) and plain[0]["null"] == diagnosis.findings[0].null


def test_a_network_that_memorises(tmp_path):
    """Random labels; files of records hold no sums, so that held-out samples are fitted anew."""
    rng = np.random.default_rng(0)
    labels, unseen = rng.integers(0, 10, (2, N)).astype(np.int32)
    params, key = start(jax.random.key(2)), jax.random.key(3)
    files = [Records(tmp_path / f"{name}.jsonl") for name in ("own", "other")]
    series = {}, {}
    for step in range(3):
        for kept, file, data in zip(
            series, files, ((TRAIN[0], labels), (TEST[0], unseen)), strict=True
        ):
            kept[step] = measured(params, data)
            file.append(step, kept[step])
        params = trained(params, TRAIN[0], labels, jax.random.fold_in(key, step), steps=3000)
    for own, other in (series, [Records.load(file.path) for file in files]):
        found = [f for f in diagnose(own, heldout=other) if f.kind == "memorisation"]
        assert {f.layer for f in found} >= {"out"} and found[0].step == 2
        assert found[-1].value < 0.1 and found[-1].null > 0.3
        assert not [f for f in diagnose(own, heldout=own) if f.kind == "memorisation"]


def test_an_exploding_update_says_at_which_learning_rate(healthy):
    """The step is one of plain descent: Adam's may be fine, and the finding says of which it is."""
    planted = FAULTS["exploding"][0](healthy)
    found = [f for f in diagnose(measured(planted)) if f.kind == "exploding update"]
    assert found and all("a plain gradient step at learning_rate=0.1" in f.text for f in found)
    by_numbers = diagnose(by_hand(a={"relative_update": 2.0})).findings[0].text
    assert "a plain gradient step relative to the kernel" in by_numbers


def test_values_that_stop_being_finite_are_found_at_their_step(healthy):
    lost = measured({**healthy, "hidden": healthy["hidden"].at[0, 0].set(jnp.nan)})
    diagnosis = diagnose({0: measured(healthy), 10: lost, 20: lost})
    first, *others = [(f.kind, f.layer, f.step) for f in diagnosis]
    assert first == ("not finite", "hidden", 10)
    assert "not finite" not in {kind for kind, *_ in others}


@pytest.mark.parametrize("scanned", [False, True])
def test_named_activations_have_no_kernel_that_could_be_lost(scanned, tmp_path):
    """Also where only numbers are left of what was measured, as in Records."""

    def named(params, x):
        def layer(h, kernel):
            return jnp.tanh(checkpoint_name(h, "stream") @ kernel), None

        h, kernels = x @ params["in"], params["stack"]
        h = jax.lax.scan(layer, h, kernels)[0] if scanned else layer(h, kernels[1])[0]
        return h @ params["out"]

    params = {"in": jnp.eye(64, 9), "out": jnp.ones((9, 10)), "stack": jnp.ones((2, 9, 9))}
    params["stack"] = params["stack"].at[1, 0, 0].set(jnp.nan)
    lost = measure(named, params, TRAIN, loss=cross_entropy, metrics=DIAGNOSTIC)
    records = Records(tmp_path / "log.jsonl")
    records.append(0, lost)
    for watched in (lost, records):
        (layer,) = [f.layer for f in diagnose(watched) if f.kind == "not finite"]
        assert layer == ("stack[1]" if scanned else "stack")


def test_gradients_that_are_lost_are_found_where_kernels_were_not_summed():
    """As in a probe whose metrics are of gradients: it called every layer finite."""
    gradients = GradientMoments(np.float64(1), np.full((1, 1), np.nan), None)
    sums = {"a": LayerSums(None, None, gradients, None, 0.1)}
    lost = dataclasses.replace(by_hand(np.nan, a={"gradient_norm": np.nan}), sums=sums)
    assert kinds(diagnose(lost)) == {("not finite", "a")}


def test_steps_of_any_integers_are_written_as_json():
    diagnosis = diagnose({np.int64(5): by_hand(a={}), np.int32(7): by_hand(a={"dead_units": 0.9})})
    assert json.loads(diagnosis.to_json())["findings"][0]["step"] == 7


def by_hand(loss=1.0, **layers):
    """A measurement without sums; what is not given is healthy."""
    healthy = {"target_linearity": 0.5, "noise_floor": 0.1, "rows": 101.0, "target_rank": 9.0}
    healthy |= {"gradient_norm": 1.0, "kernel_norm": 1.0, "relative_update": 1e-3}
    healthy |= {"dead_units": 0.1, "feature_rank": 5.0}
    metrics = {layer: {**healthy, **values} for layer, values in layers.items()}
    return Measurement(metrics, {}, loss, np.nan, 101.0, (), "all")


def test_where_the_limits_are():
    """Chance: √(2 · 0.1 · 0.9/102) = 0.0420 is the deviation of target linearity at this floor."""
    layers = [f"layer {i}" for i in range(4)]
    cases = (
        ("at its noise floor", {"target_linearity": 0.183}, {"target_linearity": 0.185}),
        ("collapsed rank", {"feature_rank": 1.49}, {"feature_rank": 1.51}),
        ("exploding update", {"relative_update": 1.01}, {"relative_update": 0.99}),
        ("vanishing update", {"relative_update": 0.99e-8}, {"relative_update": 1.01e-8}),
        ("dead units", {"dead_units": 0.51}, {"dead_units": 0.5}),
        ("not reached by the loss", {"gradient_norm": 0.0}, {"gradient_norm": 1e-300}),
    )
    for kind, wrong, right in cases:
        for values, expected in ((wrong, {(kind, layers[2])}), (right, set())):
            found = by_hand(**{layer: values if layer == layers[2] else {} for layer in layers})
            assert kinds(diagnose(found)) == expected, (kind, values)
    converged = {layer: {"gradient_norm": 0.0} for layer in layers}
    assert not diagnose(by_hand(0.0, **converged)).findings
    assert len(diagnose(by_hand(1.0, **converged))) == 4
    two_classes = {"target_rank": 1.0, "feature_rank": 1.0}  # they need one direction
    assert not diagnose(by_hand(a=two_classes, b={})).findings


def test_a_head_that_starts_at_zero_is_no_fault():
    """Until it has moved, no gradient comes through it."""
    params = start(jax.random.key(0))
    params = {**params, "out": 0 * params["out"], "extra": 0 * params["extra"]}
    diagnosis = diagnose(measured(params))
    reason = "of in, hidden, branch, before a kernel of zeros: measure again after a step"
    assert not diagnosis.findings
    assert ("not reached by the loss", reason) in diagnosis.unchecked
    moved = diagnose(measured(trained(params, *TRAIN, jax.random.key(1), steps=1)))
    assert not [f for f in moved if f.kind == "not reached by the loss"]
    assert "not reached by the loss" not in dict(moved.unchecked)


def test_what_a_kernel_of_zeros_does_not_explain():
    """Layers behind it; and all, where it has no gradient itself."""
    still, zero = {"gradient_norm": 0.0}, {"kernel_norm": 0.0}
    found = diagnose(by_hand(a=still, b=zero, c=still, d={}))
    assert kinds(found) == {("not reached by the loss", "c")}
    assert len(diagnose(by_hand(a=still, b={**zero, **still}, d={}))) == 2


def test_layers_whose_noise_floor_is_full_are_said_to_be_unchecked():
    high = {"target_linearity": 0.92, "noise_floor": 0.91}
    diagnosis = diagnose(by_hand(a={}, b=high, c=high))
    assert not diagnosis.findings
    reason = "of b, c, whose noise floor is above 0.9: take more samples"
    assert ("at its noise floor", reason) in diagnosis.unchecked
    assert f"not checked: at its noise floor, {reason}" in repr(diagnosis)


def test_the_last_layer_is_that_of_the_network():
    """And not of those that can be told: inputs may be at chance, as those of a parity are."""
    noise, full = {"target_linearity": 0.1}, {"target_linearity": 0.95, "noise_floor": 0.92}
    assert not diagnose(by_hand(a=noise, b=full)).findings
    assert kinds(diagnose(by_hand(a=noise, b=noise))) == {("at its noise floor", "b")}


def test_a_fall_on_held_out_samples_is_memorisation():
    """From 0.5 to 0.2 of 1000 samples, while that of training samples rises."""

    def series(*values):
        return {
            step: by_hand(a={"target_linearity": value, "rows": 1000.0})
            for step, value in enumerate(values)
        }

    rises, falls, stays = series(0.4, 0.6, 0.9), series(0.3, 0.5, 0.2), series(0.6, 0.6, 0.6)
    (finding,) = diagnose(rises, heldout=falls)
    assert finding.kind == "memorisation" and finding.step == 2
    np.testing.assert_allclose([finding.value, finding.null], [0.1 / 0.9, 0.8 / 0.9])
    assert len(diagnose(rises, heldout=series(0.2, 0.5, 0.22))) == 1  # since its best
    assert not diagnose(stays, heldout=falls).findings
    assert not diagnose(rises, heldout=series(0.3, 0.5, 0.45)).findings

    blank = by_hand(a={"target_linearity": np.nan})  # as of a step that had other metrics
    for own, other in (({-1: blank}, {-1: falls[0]}), ({-1: rises[0]}, {-1: blank})):
        found = diagnose({**own, **rises}, heldout={**other, **falls})
        assert found.findings == (finding,) and not found.unchecked

    later = {**rises, 3: rises[2]}
    assert [f.step for f in diagnose(later, heldout=falls)] == [2]  # the last that both have


def test_memorisation_that_cannot_be_looked_for_is_said():
    values, known = {"target_linearity": 0.9, "rows": 1000.0}, by_hand(a={"target_linearity": 0.9})
    linearity = dataclasses.replace(known, metrics={"a": {"target_linearity": 0.9}})
    for watched, heldout, reason in (
        ({1: known}, {2: known}, "steps that watched and heldout both have"),
        ({1: known}, known, "steps that watched and heldout both have"),
        ({0: known, 9: known}, known, "steps that watched and heldout both have"),
        (known, {0: known, 9: known}, "steps that watched and heldout both have"),
        (known, by_hand(b=values), "layers that watched and heldout both have"),
        (known, linearity, "noise_floor, rows of some layer"),
        (linearity, known, "noise_floor, rows of some layer"),
    ):
        assert reason in dict(diagnose(watched, heldout=heldout).unchecked)["memorisation"]
    assert "memorisation" not in dict(diagnose(known, heldout=known).unchecked)


def test_layers_without_a_number_are_said_to_be_unchecked():
    """Where features were not measured, or a kernel is zero; an activation has none."""
    lost = dict.fromkeys(["rows", "target_linearity", "feature_rank", "relative_update"], np.nan)
    m = dataclasses.replace(by_hand(a={}, b=lost, c=lost), coverage="c: named activation")
    diagnosis = diagnose(m)
    assert not diagnosis.findings and diagnosis.unchecked[:-1] == (
        ("at its noise floor", "of b, c, without a finite target_linearity or noise_floor or rows"),
        ("collapsed rank", "of b, c, without a finite feature_rank or target_rank"),
        ("exploding update", "of b, without a finite relative_update"),
        ("vanishing update", "of b, without a finite relative_update"),
    )


def test_layers_whose_memorisation_cannot_be_looked_for_are_said():
    """Few held-out samples leave no room above the noise floor: "nothing is wrong" it said."""
    known = {"target_linearity": 0.9, "rows": 1000.0}
    few = {"target_linearity": 0.92, "noise_floor": 0.91, "rows": 100.0}
    diagnosis = diagnose(by_hand(a=known, b=known, c=known), heldout=by_hand(a=known, b=few))
    (reason,) = [reason for kind, reason in diagnosis.unchecked if kind == "memorisation"]
    assert reason.startswith("of b, c, whose target linearity is unknown, or its noise floor above")


def test_what_cannot_be_checked_is_said(healthy):
    only = measured(healthy, metrics=["kernel_norm"])
    diagnosis = diagnose(only)
    assert not diagnosis.findings
    assert dict(diagnosis.unchecked).keys() >= {"dead units", "collapsed rank", "memorisation"}
    assert "not checked: dead units, which needs dead_units" in repr(diagnosis)
    without_products = diagnose(measured(healthy, metrics=["gradient_norm"]))
    assert {"dead units", "collapsed rank"} <= dict(without_products.unchecked).keys()
    with pytest.raises(ValueError, match="watched holds 0 measurements: wanted one at least"):
        diagnose({})


RUNS = 20


def blobs(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, 2 * N).astype(np.int32)
    return (3 * rng.normal(size=(10, 64))[y] / 8 + rng.normal(size=(2 * N, 64)) / 4), y


def linear(seed):
    """Labels of a random linear map; deviations of the inputs fall as those of images do."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * N, 64)) * 3 / np.arange(1, 65)
    return x, (x @ rng.normal(size=(64, 10))).argmax(1).astype(np.int32)


def digits(seed):
    rows = np.random.default_rng(seed).permutation(len(X))[: 2 * N]
    return X[rows], Y[rows]


@pytest.mark.parametrize(
    ("data", "width"),
    [(digits, 12), (blobs, 12), (digits, WIDTH), (blobs, WIDTH), (linear, WIDTH)],
)
def test_healthy_runs_raise_no_alarm(data, width):
    """Twenty seeds each, a hundred runs in all, before training and after."""
    keys = jax.vmap(jax.random.key)(jnp.arange(RUNS))
    sets = [data(seed) for seed in range(RUNS)]
    x, y = (np.stack([s[i] for s in sets]) for i in (0, 1))
    x = x.astype(np.float32)
    first = jax.vmap(lambda key: start(key, width))(keys)
    last = jax.vmap(trained)(first, x[:, :N], y[:, :N], keys)
    for run in range(RUNS):
        own, other = {}, {}
        for step, params in enumerate((first, last)):
            params = {name: leaf[run] for name, leaf in params.items()}
            for series, rows in ((own, slice(N)), (other, slice(N, None))):
                series[step] = measured(params, (x[run, rows], y[run, rows]))
        assert own[1].loss < own[0].loss
        diagnosis = diagnose(own, heldout=other)
        assert not diagnosis.findings and not diagnosis.unchecked, f"run {run}\n{diagnosis}"
