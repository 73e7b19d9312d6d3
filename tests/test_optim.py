import functools
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import torch_params
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from torch_layout import cnn_params

from gramlin_jax.metrics.gram import gram_only_step
from gramlin_jax.models import CNN, DNN
from gramlin_jax.optim import GramState, _with_steps, gram_only, gram_preserving, is_kernel
from gramlin_jax.training import Checkpoint, classification_loss, fit

pytestmark = pytest.mark.runs

WRAPPERS = gram_only, gram_preserving


def reference_step(before, after):
    """The reference's: ten quintic Newton–Schulz steps, converged or not."""
    x = before.T @ after
    x = x / (jnp.linalg.norm(x) + 1e-8)
    for _ in range(10):
        y = x @ x.T
        x = (15 * x - 10 * y @ x + 3 * y @ (y @ x)) / 8
    return after @ x.T


def reference(inner):
    return _with_steps(inner, is_kernel, lambda k1, k2, basis: (reference_step(k1, k2), basis))


def _inner(state):
    return state.inner if isinstance(state, GramState) else state


def descend(model, optimizer, inner, params, batches):
    """Parameters and losses by step, and the parameters to which ``inner`` alone would step."""
    loss = classification_loss(model.apply)

    def step(state, batch):
        params, moments = state
        (value, _), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch, None, {})
        plain = optax.apply_updates(params, inner.update(gradient, _inner(moments), params)[0])
        updates, moments = optimizer.update(gradient, moments, params)
        after = optax.apply_updates(params, updates)
        return (after, moments), (after, plain, value)

    state = jax.tree.map(jnp.asarray, (params, optimizer.init(params)))
    return jax.device_get(jax.jit(lambda s, b: jax.lax.scan(step, s, b)[1])(state, batches))


@functools.cache
def golden_descent(golden, wrap, dtype="float64"):
    numbers = golden("gramface")
    with jax.enable_x64(dtype == "float64"):
        sgd = optax.sgd(numbers["lr"].astype(dtype), momentum=0.85)
        params = jax.tree.map(lambda a: a.astype(dtype), torch_params(numbers, "init_"))
        batches = numbers["X_batches"].astype(dtype), numbers["t_batches"]
        return numbers, *descend(DNN(16, 2, 4), wrap(sgd), sgd, params, batches)


def gram_error(kernel, wanted):
    """The relative difference of Grams, the greatest over leading axes of steps or runs."""
    grams = [np.float64(k).reshape(*k.shape[:1], -1, k.shape[-1]) for k in (kernel, wanted)]
    kernel, wanted = (k @ k.mT for k in grams)
    norm = np.linalg.norm
    return (norm(kernel - wanted, axis=(1, 2)) / norm(wanted, axis=(1, 2))).max()


def gram_errors(params, plain):
    return {
        name: gram_error(layer["kernel"], plain["params"][name]["kernel"])
        for name, layer in params["params"].items()
    }


def difference(numbers, prefix, params, step):
    """By layer, the greatest difference of a parameter from the golden ones after a step."""
    expected = torch_params(numbers, f"{prefix}_step{step}_")["params"]
    return [
        max(np.abs(layer[name][step - 1] - expected[key][name]).max() for name in layer)
        for key, layer in sorted(params["params"].items())
    ]


@pytest.mark.parametrize(
    ("name", "wrap"), [("identity", lambda inner: inner), ("whiten", reference)]
)
def test_golden(golden, name, wrap):
    """With the reference's own ten steps its trajectory is ours: only convergence differs.

    ``identity`` is plain SGD, so its momentum is of raw gradients.
    """
    numbers, params, _, losses = golden_descent(golden, wrap)
    np.testing.assert_allclose(losses, numbers[f"{name}_f64_losses"], atol=1e-13)
    for step in (1, 5, 20):
        np.testing.assert_allclose(difference(numbers, f"{name}_f64", params, step), 0, atol=1e-13)


def test_where_the_reference_converges_and_where_not(golden):
    """The first layer nearly, the last one to rounding; the square one by far not.

    There it drives the smallest singular values to zero, which the optimiser's step does not.
    """
    numbers, ours, ours_plain, _ = golden_descent(golden, gram_only)
    _, theirs, theirs_plain, _ = golden_descent(golden, reference)
    assert max(gram_errors(ours, ours_plain).values()) < 1e-14
    first, square, last = gram_errors(theirs, theirs_plain).values()
    assert first < 1e-8 and 5e-4 < square < 1e-3 and last < 1e-14

    first, square, last = difference(numbers, "whiten_f64", ours, 1)
    assert first < 1e-8 and 5e-3 < square < 6e-3 and last < 1e-10
    assert 0.01 < max(difference(numbers, "whiten_f64", ours, 20)) < 0.02

    square = ours["params"]["Dense_1"]["kernel"][-1]
    for kernel, low, high in (
        (numbers["whiten_f64_step20_layers_1_weight"], 0, 1e-11),
        (numbers["identity_f64_step20_layers_1_weight"], 0.05, 0.1),
        (square, 0.03, 0.1),
    ):
        smallest = np.linalg.svd(kernel)[1][-2:]
        assert low <= smallest.min() and smallest.max() < high


def test_golden_float32(golden):
    """After one step the optimiser's kernels are the golden ones of plain SGD."""
    numbers, params, plain, _ = golden_descent(golden, gram_only, "float32")
    assert max(gram_errors(params, plain).values()) < 1e-6
    first, _, last = difference(numbers, "whiten_f32", params, 1)
    assert first < 5e-6 and last < 1e-6
    theirs, sgd = (
        numbers[f"{name}_f32_step1_layers_1_weight"].T for name in ("whiten", "identity")
    )
    assert gram_error(theirs[None], sgd[None]) > 5e-4


def test_golden_convolutions(golden):
    """Where the reference converges everywhere: as matrices (in·height·width, out)."""
    numbers = golden("gramface")
    batches = numbers["cnn_X"].transpose(0, 1, 3, 4, 2), numbers["cnn_t"]
    with jax.enable_x64(True):
        sgd = optax.sgd(0.05, momentum=0.95)
        start = cnn_params(numbers, "cnn_init_")
        model = CNN(4, channels=4, depth=2, pool_after=(0,))
        params, plain, losses = descend(model, gram_only(sgd), sgd, start, batches)
    np.testing.assert_allclose(losses, numbers["cnn_losses"], atol=1e-12)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[-1], b, atol=1e-12),
        params,
        cnn_params(numbers, "cnn_final_"),
    )
    assert max(gram_errors(params, plain).values()) < 1e-14


@pytest.fixture(scope="module")
def problem():
    """Parameters and gradients of a convolution, tall as a matrix, a wide and a square layer."""
    rng = np.random.default_rng(0)
    shapes = {"conv": (3, 3, 2, 8), "wide": (4, 20), "square": (12, 12)}

    def draw(scale):
        layers = {
            name: {"kernel": rng.normal(size=shape), "bias": rng.normal(size=shape[-1])}
            for name, shape in shapes.items()
        }
        return jax.tree.map(lambda a: jnp.asarray(scale * a, jnp.float32), layers)

    return draw(0.3), draw(0.1)


def take(optimizer, params, gradients, state=None):
    """The parameters after a step, and the state."""
    state = optimizer.init(params) if state is None else state
    updates, state = optimizer.update(gradients, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, gradients)
    return optax.apply_updates(params, updates), state


def distance(a, b):
    return np.linalg.norm(np.float64(a) - np.float64(b))


INNERS = {
    "sgd": optax.sgd(0.3, momentum=0.9, nesterov=True),
    "adam": optax.adam(optax.linear_schedule(0.05, 0.01, 3)),
    "adamw": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.05, weight_decay=0.1)),
    "muon": optax.contrib.muon(0.05),
}


@pytest.mark.parametrize("inner", INNERS.values(), ids=INNERS)
def test_splits_the_step_of_any_optimiser(problem, inner):
    """K' has the Gram of K₂ and K" that of K₁; ‖K' − K₁‖ = ‖K" − K₂‖ < ‖K₂ − K₁‖.

    The other leaves, and the state, are those of the optimiser alone.
    """
    before, gradients = problem
    optimizers = inner, gram_only(inner), gram_preserving(inner)
    steps = [take(optimizer, before, gradients) for optimizer in optimizers]
    (plain, gram, turned), states = zip(*steps, strict=True)
    chex.assert_trees_all_equal(states[0], *(state.inner for state in states[1:]))
    for name in before:
        k1, k2, k, q = (p[name]["kernel"] for p in (before, plain, gram, turned))
        assert gram_error(k[None], k2[None]) < 1e-6
        assert gram_error(q[None], k1[None]) < 1e-6
        np.testing.assert_allclose(distance(k, k1), distance(q, k2), rtol=1e-3)
        assert 0 < distance(k, k1) < distance(k2, k1)
        np.testing.assert_array_equal(gram[name]["bias"], plain[name]["bias"])
        np.testing.assert_array_equal(turned[name]["bias"], plain[name]["bias"])


def test_a_rotation_is_no_gram_only_step(problem):
    before, _ = problem
    rng = np.random.default_rng(0)
    turned = {}
    for name in ("conv", "square"):
        kernel = before[name]["kernel"]
        skew = 0.05 * rng.normal(size=(kernel.shape[-1],) * 2)
        skew, eye = skew - skew.T, np.eye(len(skew))
        rotation = np.linalg.solve(eye + skew, eye - skew).astype(np.float32)
        turned[name] = {"kernel": kernel @ rotation}
    before = {name: {"kernel": before[name]["kernel"]} for name in turned}
    gradients = jax.tree.map(lambda a, b: a - b, before, turned)
    for wrap, expected in ((gram_only, before), (gram_preserving, turned)):
        after, _ = take(wrap(optax.sgd(1.0)), before, gradients)
        chex.assert_trees_all_close(after, expected, atol=1e-4)


def test_selects(problem):
    """By a function of path and leaf; by default by the names that Linen, NNX and Haiku use."""
    params, gradients = problem
    only = gram_only(
        optax.sgd(0.1), select=lambda path, leaf: path[0].key == "square" and leaf.ndim == 2
    )
    after, _ = take(only, params, gradients)
    plain, _ = take(optax.sgd(0.1), params, gradients)
    assert distance(after["square"]["kernel"], plain["square"]["kernel"]) > 1e-3
    del after["square"], plain["square"]
    chex.assert_trees_all_equal(after, plain)

    tree = {
        "linen": {"kernel": np.ones((2, 3)), "bias": np.ones(3), "scale": np.ones(3)},
        "haiku": {"w": np.ones((3, 3, 1, 2)), "b": np.ones(2)},
        "equinox": {"weight": np.ones((2, 3))},
        "nnx": nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param),
    }
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    selected = [jax.tree_util.keystr(path) for path, leaf in leaves if is_kernel(path, leaf)]
    assert selected == ["['haiku']['w']", "['linen']['kernel']", "['nnx']['kernel'].value"]


def test_masked_leaves_and_missing_gradients(problem):
    """As in a part of the network that another optimiser trains, or nothing does."""
    params, gradients = problem
    labels = {name: "free" if name == "wide" else "gram" for name in params}
    parts = {"free": optax.sgd(0.1), "gram": gram_only(optax.sgd(0.1))}
    after, _ = take(optax.partition(parts, labels), params, gradients)
    whole, _ = take(gram_only(optax.sgd(0.1)), params, gradients)
    plain, _ = take(optax.sgd(0.1), params, gradients)
    expected = {**whole, "wide": plain["wide"]}
    chex.assert_trees_all_equal(after, expected)

    optimizer = gram_only(optax.sgd(0.1))
    updates, _ = optimizer.update({**gradients, "square": None}, optimizer.init(params), params)
    assert updates["square"] is None


def test_under_vmap(problem):
    """Steps of different lengths, which converge at different times, as one after another."""
    params, gradients = problem
    optimizer = gram_only(optax.sgd(0.2))
    scales = np.float32([0, 1, 3])
    stacked = jax.tree.map(lambda g: scales.reshape(-1, *[1] * g.ndim) * g[None], gradients)
    together = jax.vmap(lambda g: take(optimizer, params, g)[0])(stacked)
    for i in range(len(scales)):
        alone, _ = take(optimizer, params, jax.tree.map(lambda g, i=i: g[i], stacked))
        chex.assert_trees_all_close(jax.tree.map(lambda a, i=i: a[i], together), alone, atol=2e-6)


@pytest.mark.parametrize(
    ("axes", "kind"),
    [
        (("in", None), "Explicit"),
        ((None, "out"), "Auto"),
        (("in", "out"), "Auto"),
        (("in", "out"), "Explicit"),
    ],
)
@pytest.mark.devices
def test_sharded(problem, axes, kind):
    params, gradients = ({"kernel": tree["square"]["kernel"]} for tree in problem)
    mesh = jax.make_mesh((4, 2), ("in", "out"), axis_types=(AxisType[kind],) * 2)
    split = jax.device_put((params, gradients), NamedSharding(mesh, PartitionSpec(*axes)))
    optimizer = gram_only(optax.sgd(0.2))
    sharded, _ = take(optimizer, *split)
    assert len(sharded["kernel"].sharding.device_set) == 8
    if kind == "Explicit":
        assert sharded["kernel"].sharding.spec == PartitionSpec(*axes)
        gram_only_step(split[0]["kernel"], sharded["kernel"])  # alone it takes them, too
    alone, _ = take(optimizer, params, gradients)
    chex.assert_trees_all_close(jax.device_get(sharded), alone, atol=2e-6)


def train(execution, hooks=()):
    x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    model = DNN(8, 1, 3)
    return fit(
        lambda key: model.init(key, x[:1]),
        classification_loss(model.apply),
        lambda hyper: gram_only(optax.adam(hyper["learning_rate"])),
        (x, np.arange(64) % 3),
        epochs=3,
        batch_size=32,
        sweep={"learning_rate": [0.01, 0.1]},
        execution=execution,
        hooks=hooks,
    )


@pytest.mark.runs
def test_in_a_sweep(tmp_path):
    """Vmapped and mapped runs agree, at each learning rate; a run goes on from its checkpoint."""
    mapped = train("map", [Checkpoint(tmp_path, interval=0)])
    np.testing.assert_allclose(train("vmap").history["loss"], mapped.history["loss"], rtol=1e-5)
    slow, fast = mapped.history["loss"]
    assert fast[-1] < slow[-1] < slow[0]
    bases = mapped.opt_state.bases["params"]
    assert [bases[f"Dense_{i}"]["kernel"].shape for i in range(2)] == [(2, 8, 8), (2, 3, 3)]
    assert bases["Dense_0"]["bias"] == optax.MaskedNode()
    shutil.rmtree(tmp_path / "checkpoints" / "3")
    again = train("map", [Checkpoint(tmp_path)])
    chex.assert_trees_all_equal(again.opt_state, mapped.opt_state)
    chex.assert_trees_all_equal(again.params, mapped.params)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: optax.MultiSteps(inner, 2).gradient_transformation(),
        lambda inner: optax.masked(inner, True),
        lambda inner: optax.apply_if_finite(inner, 3),
        lambda inner: optax.chain(optax.clip_by_global_norm(1e6), inner),
        lambda inner: optax.inject_hyperparams(lambda rate: gram_only(optax.sgd(rate)))(rate=0.1),
    ],
    ids=["multi_steps", "masked", "apply_if_finite", "chain", "inject_hyperparams"],
)
def test_inside_of_other_transformations(problem, wrap):
    params, gradients = problem
    expected, _ = take(gram_only(optax.sgd(0.1)), params, gradients)
    optimizer = wrap(gram_only(optax.sgd(0.1)))
    state = optimizer.init(params)
    for _ in range(2 if "MultiSteps" in type(state).__name__ else 1):
        updates, state = jax.jit(optimizer.update)(gradients, state, params)
    chex.assert_trees_all_close(optax.apply_updates(params, updates), expected, atol=1e-5)


def test_the_state_maps_as_the_parameters_do(problem):
    params, _ = problem
    optimizer = gram_only(optax.adam(0.1))
    state = optimizer.init(params)
    doubled = optax.tree_map_params(optimizer, lambda a: 2 * a, state)
    chex.assert_trees_all_close(doubled.bases, jax.tree.map(lambda a: 2 * a, state.bases))
    assert doubled.inner[0].count == state.inner[0].count


def test_wider_updates_than_kernels(problem):
    params, gradients = problem
    expected, _ = take(gram_only(optax.sgd(0.1)), params, gradients)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), gradients)
        optimizer = gram_only(optax.sgd(np.float64(0.1)))
        updates, state = optimizer.update(wide, optimizer.init(params), params)
        after = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(after, expected, atol=1e-4)
    chex.assert_type(jax.tree.leaves(state.bases), jnp.float32)


def test_narrow_types(problem):
    """Computed in float32."""
    params, gradients = jax.tree.map(lambda a: a.astype("bfloat16"), problem)
    after, _ = take(gram_only(optax.sgd(0.1)), params, gradients)
    chex.assert_type(jax.tree.leaves(after), "bfloat16")
    wide = jax.tree.map(jnp.float32, (params, gradients))
    exact, _ = take(gram_only(optax.sgd(0.1)), *wide)
    chex.assert_trees_all_close(jax.tree.map(jnp.float32, after), exact, atol=0.01)
    with jax.numpy_dtype_promotion("strict"):
        strict, _ = take(gram_only(optax.sgd(0.1)), params, gradients)
    chex.assert_trees_all_equal(strict, after)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_kernels_without_full_rank(rank):
    """The Gram is exact whatever the rank; zeros take the optimiser's step, or stay zeros."""
    rng = np.random.default_rng(0)
    params = {"kernel": np.float32(rng.normal(size=(8, rank)) @ rng.normal(size=(rank, 6)))}
    gradients = {"kernel": np.float32(rng.normal(size=(8, 6)))}
    params, gradients = jax.tree.map(jnp.asarray, (params, gradients))
    sgd = optax.sgd(0.01)
    k1, k2, k, q = (
        take(o, params, gradients)[0]["kernel"] if o else params["kernel"]
        for o in (None, sgd, gram_only(sgd), gram_preserving(sgd))
    )
    assert distance(k, k1) <= distance(k2, k1)
    assert gram_error(k[None], k2[None]) < 1e-6
    if rank:
        assert gram_error(q[None], k1[None]) < 1e-6
    else:
        np.testing.assert_array_equal(k, k2)
        np.testing.assert_array_equal(q, k1)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_steps_that_are_zero_or_not_finite(problem, wrap):
    params, gradients = problem
    optimizer = wrap(optax.sgd(0.1))
    zero, _ = take(optimizer, params, jax.tree.map(jnp.zeros_like, gradients))
    chex.assert_trees_all_equal(zero, params)
    good, _ = take(optimizer, params, gradients)
    for bad in (np.nan, np.inf):
        broken = {
            **gradients,
            "conv": jax.tree.map(lambda g, b=bad: g.at[0].set(b), gradients["conv"]),
        }
        after, _ = take(optimizer, params, broken)
        plain, _ = take(optax.sgd(0.1), params, broken)
        chex.assert_trees_all_equal(after["conv"], plain["conv"])
        chex.assert_trees_all_equal(after["square"], good["square"])


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_bad_input(problem, wrap):
    params, gradients = problem
    sgd = optax.sgd(0.1)
    optimizer = wrap(sgd)
    with pytest.raises(
        ValueError, match=r"params is None: wanted update\(gradients, state, params"
    ):
        optimizer.update(gradients, optimizer.init(params))
    with pytest.raises(
        ValueError, match=r"no kernel among \['a'\], \['b'\]: wanted at least one; use select"
    ):
        optimizer.init({"a": jnp.ones((2, 2)), "b": jnp.ones(3)})
    with pytest.raises(
        ValueError,
        match=r"params\['kernel'\] has shape \(2, 3, 4\): wanted 2, 4 or 5 axes; use select",
    ):
        optimizer.init({"kernel": jnp.ones((2, 3, 4))})
    everything = wrap(sgd, select=lambda path, leaf: True)
    for shape in ((), (3,), (0, 3), (1,) * 6):
        with pytest.raises(ValueError, match=r"params\['a'\] has shape .* wanted a matrix"):
            everything.init({"a": jnp.ones(shape)})
    with pytest.raises(TypeError, match=r"params\['kernel'\] has dtype int32: wanted floating"):
        optimizer.init({"kernel": jnp.ones((2, 3), int)})


@pytest.mark.parametrize("wrap", [gram_only, gram_preserving])
@pytest.mark.parametrize("shape", [(12, 12), (3, 3, 8, 2), (20, 4)])  # compiled for ``problem``
def test_transposed_kernels(wrap, shape):
    """The step of the transposed kernel, transposed."""
    rng = np.random.default_rng(0)
    kernel, gradient = rng.normal(size=(2, *shape)).astype(np.float32)

    def stepped(kernel, gradient, how):
        optimizer = wrap(optax.sgd(0.1), select=lambda path, leaf: how)
        params = {"kernel": jnp.asarray(kernel)}
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = optimizer.update({"kernel": jnp.asarray(gradient)}, state, params)
            params = optax.apply_updates(params, updates)
        return np.asarray(params["kernel"])

    expected = stepped(kernel.swapaxes(-1, -2), gradient.swapaxes(-1, -2), True)
    found = stepped(kernel, gradient, "transposed")
    np.testing.assert_allclose(found, expected.swapaxes(-1, -2), atol=1e-6)
    if shape == (12, 12):
        assert abs(found - stepped(kernel, gradient, True)).max() > 1e-3


def test_outputs_that_are_not_those_of_the_bias():
    """As of Hugging Face's GPT-2, whose kernels are (out, in)."""
    params = {
        "dense": {"kernel": jnp.ones((4, 6)), "bias": jnp.ones(6)},
        "c_attn": {"kernel": jnp.ones((12, 4)), "bias": jnp.ones(12)},
    }
    with pytest.raises(
        ValueError, match=r"\['c_attn'\]\['kernel'\] has shape \(12, 4\) and its bias"
    ):
        gram_only(optax.sgd(0.1)).init(params)

    def select(path, leaf):
        return leaf.ndim == 2 and ("transposed" if path[0].key == "c_attn" else True)

    assert gram_only(optax.sgd(0.1), select=select).init(params).bases["dense"] is not None
    with pytest.raises(ValueError, match="select returns 'other' for params"):
        gram_only(optax.sgd(0.1), select=lambda path, leaf: "other").init(params)


def test_schedule_free_goes_outside():
    params = {"kernel": jnp.ones((4, 4))}
    inner = optax.contrib.schedule_free_sgd(0.1)
    with pytest.raises(ValueError, match="inner is schedule-free"):
        gram_only(inner).init(params)
    with pytest.raises(ValueError, match="inner is schedule-free"):
        gram_only(optax.chain(optax.clip(1.0), inner)).init(params)
    optax.contrib.schedule_free(gram_only(optax.sgd(0.1)), 0.1).init(params)


def test_lookahead_goes_outside():
    """Around ``gram_only``, the slow and the fast parameters meet after each period."""
    with pytest.raises(ValueError, match=r"inner is lookahead, .* lookahead\(gram_only"):
        kernel = {"kernel": jnp.ones((4, 4))}
        gram_only(optax.lookahead(optax.sgd(0.1), 2, 0.5)).init(kernel)
    both = optax.LookaheadParams.init_synced({"kernel": jnp.eye(4) + 0.1})
    outside = optax.lookahead(gram_only(optax.sgd(0.3)), 2, 0.5)
    state = outside.init(both)
    for seed in range(2):
        gradient = {"kernel": jax.random.normal(jax.random.key(seed), (4, 4))}
        updates, state = outside.update(gradient, state, both)
        both = optax.apply_updates(both, updates)
    np.testing.assert_allclose(both.fast["kernel"], both.slow["kernel"], atol=1e-5)
