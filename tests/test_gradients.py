import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import (
    GradientMoments,
    backward,
    dead_units,
    gradient_moments,
    jacobian_moments,
)
from gramlin_jax._moments.gradients import reduce_gradients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4))
TOKENS = RNG.normal(size=(12, 5, 4))
Y = RNG.normal(size=(12, 3))
PARAMS = {"in": RNG.normal(size=(4, 6)), "bias": RNG.normal(size=6), "out": RNG.normal(size=(6, 3))}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def after(params, z):
    """The network from the first layer's pre-activations on; tokens of a sample mix."""
    h = jnp.tanh(z + params["bias"].reshape((1,) * (z.ndim - 1) + (-1,)))
    return (h if h.ndim == 2 else (h * h.mean(1, keepdims=True)).sum(1)) @ params["out"]


def network(params, x):
    return after(params, x @ params["in"])


def loss_of(y):
    return lambda out: ((out - y) ** 2).sum(-1).mean()


@pytest.mark.parametrize("x", [X, TOKENS], ids=["rows", "tokens"])
def test_gradient_moments_are_those_of_autodiff(x):
    found = jax.jit(lambda p, x: gradient_moments(network, p, x, loss=loss_of(Y)))(PARAMS, x)
    plain = jax.grad(lambda p: loss_of(Y)(network(p, x)))(PARAMS)
    delta = jax.grad(lambda z: loss_of(Y)(after(PARAMS, z)))(x @ PARAMS["in"]).reshape(-1, 6)
    for name in ("in", "out"):
        np.testing.assert_allclose(found[name].kernel_gradient, plain[name], rtol=1e-12)
    np.testing.assert_allclose(found["in"].output_products, delta.T @ delta, rtol=1e-12)
    assert list(found) == ["in", "out"]


def test_moments_are_made_where_they_are_asked_for():
    passed = backward(network, PARAMS, X, loss=loss_of(Y))
    assert list(reduce_gradients(passed, 12, ["out"])) == ["out"]
    assert reduce_gradients(passed, 12, products=False)["in"].output_sum is None


@pytest.mark.long
def test_parts_of_a_batch_add_to_the_whole():
    whole = gradient_moments(network, PARAMS, X, loss=loss_of(Y))
    parts = [
        gradient_moments(network, PARAMS, X[rows], loss=loss_of(Y[rows]))
        for rows in (slice(0, 5), slice(5, 6), slice(6, 12))
    ]
    chex.assert_trees_all_close(
        sum(part["in"] for part in parts), whole["in"], rtol=1e-12, atol=1e-14
    )


@pytest.mark.long
def test_layers_that_a_scan_stacks_have_moments_of_their_own():
    stack = RNG.normal(size=(3, 4, 4))

    def deep(params, x):
        return jax.lax.scan(lambda h, k: (jnp.tanh(h @ k), None), x, params["stack"])[0]

    found = gradient_moments(deep, {"stack": stack}, X, loss=lambda out: (out**2).mean())["stack"]
    plain = jax.grad(lambda k: (deep({"stack": k}, X) ** 2).mean())(stack)
    np.testing.assert_allclose(found.kernel_gradient, plain, rtol=1e-12)
    assert found.output_products.shape == (3, 4, 4)


@pytest.mark.parametrize("dtype, rtol", [(jnp.float32, 1e-5), (jnp.bfloat16, 3e-2)])
@pytest.mark.long
def test_narrow_types_are_kept_in_float64(dtype, rtol):
    params = jax.tree.map(lambda a: jnp.asarray(a, dtype), PARAMS)
    narrow = gradient_moments(network, params, jnp.asarray(X, dtype), loss=loss_of(Y))
    wide = gradient_moments(network, PARAMS, X, loss=loss_of(Y))
    for a, b in zip(jax.tree.leaves(narrow), jax.tree.leaves(wide), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * float(jnp.abs(b).max()))


def test_without_the_flag_moments_are_float64_all_the_same():
    with jax.enable_x64(False):
        x, y = jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32)
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), PARAMS)
        found = jax.jit(lambda p, x: gradient_moments(network, p, x, loss=loss_of(y)))(params, x)
        assert {a.dtype for a in jax.tree.leaves(found)} == {np.dtype("float64")}
        assert found["in"].output_products.dtype == np.dtype("float64")


@pytest.mark.parametrize("x", [X, TOKENS], ids=["rows", "tokens"])
def test_jacobian_moments_are_those_of_single_samples(x):
    found = jax.jit(lambda p, x: jacobian_moments(network, p, x))(PARAMS, x)["in"]
    single = jax.vmap(jax.jacrev(lambda z: after(PARAMS, z[None])[0]))(x @ PARAMS["in"])
    grams = [sum(np.outer(row, row) for row in one.reshape(-1, 6)) for one in single]
    np.testing.assert_allclose(found.mean, np.mean(grams, 0), rtol=1e-11)
    np.testing.assert_allclose(found.squares, sum((g**2).sum() for g in grams), rtol=1e-11)


@pytest.mark.long
def test_jacobian_moments_by_chunks_and_by_parts():
    whole = jacobian_moments(network, PARAMS, TOKENS)
    chunked = jacobian_moments(network, PARAMS, TOKENS, chunk=2)
    parts = [jacobian_moments(network, PARAMS, TOKENS[i : i + 4]) for i in (0, 4, 8)]
    chex.assert_trees_all_close(chunked, whole, rtol=1e-12, atol=1e-14)
    added = {name: sum(part[name] for part in parts) for name in whole}
    chex.assert_trees_all_close(added, whole, rtol=1e-12, atol=1e-14)


@pytest.mark.long
def test_random_probes_estimate_the_jacobian_without_bias():
    exact = jacobian_moments(network, PARAMS, X)["in"]
    probe = jax.jit(lambda key: jacobian_moments(network, PARAMS, X, probes=3, key=key)["in"])
    estimates = jax.vmap(lambda key: probe(key).mean)(jax.random.split(jax.random.key(0), 1600))
    error = estimates.std(0) / 40
    assert np.all(np.abs(estimates.mean(0) - exact.mean) < 5 * error)
    assert np.all(error < 0.05 * np.abs(exact.mean).max())


def test_outputs_selects_what_is_differentiated():
    def two(params, x):
        return {"logits": network(params, x), "other": x}

    found = jacobian_moments(two, PARAMS, X, outputs=lambda out: out["logits"])
    chex.assert_trees_all_close(found, jacobian_moments(network, PARAMS, X), rtol=1e-12)


def test_one_trace_per_shape():
    f = chex.assert_max_traces(network, n=1)
    step = jax.jit(lambda p, x, y: gradient_moments(f, p, x, loss=loss_of(y)))
    for seed in range(3):
        step(PARAMS, X + seed, Y)


def test_no_gradient_of_a_single_sample_leaves_the_jit():
    n = 500
    x, y = jnp.ones((n, 4)), jnp.ones((n, 3))
    step = jax.jit(lambda p, x, y: gradient_moments(network, p, x, loss=loss_of(y)))
    leaves = jax.tree.leaves(jax.eval_shape(step, PARAMS, x, y))
    assert all(n not in leaf.shape for leaf in leaves)
    assert step.lower(PARAMS, x, y).compile().memory_analysis().output_size_in_bytes < 4000


def test_backward_is_the_plain_pass():
    passed = backward(network, PARAMS, X, loss=loss_of(Y))
    np.testing.assert_allclose(passed.output, network(PARAMS, X), rtol=1e-14)
    np.testing.assert_allclose(passed.loss, loss_of(Y)(network(PARAMS, X)), rtol=1e-14)


def test_bad_input():
    with pytest.raises(ValueError, match="loss returns .* of shape .12,.: wanted a scalar"):
        gradient_moments(network, PARAMS, X, loss=lambda out: out.sum(-1))
    with pytest.raises(ValueError, match="loss returns int.*wanted a scalar of floating point"):
        gradient_moments(network, PARAMS, X, loss=lambda out: jnp.int32(1))
    with pytest.raises(ValueError, match="args.0. holds arrays of shapes .*at least one"):
        gradient_moments(network, PARAMS, X[:0], loss=loss_of(Y[:0]))
    with pytest.raises(ValueError, match="args.0. holds arrays"):
        gradient_moments(lambda p: p["in"], PARAMS, loss=lambda out: out.sum())
    for options in ({"chunk": 0}, {"probes": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} is 0: wanted at least 1"):
            jacobian_moments(network, PARAMS, X, **options)
    with pytest.raises(ValueError, match="key is None: wanted a jax.random.key"):
        jacobian_moments(network, PARAMS, X, probes=2)
    with pytest.raises(ValueError, match="probes is 4: wanted at most 3, the number of outputs"):
        jacobian_moments(network, PARAMS, X, probes=4, key=jax.random.key(0))
    with pytest.raises(ValueError, match="outputs has shape .3,.: wanted .12, ...."):
        jacobian_moments(network, PARAMS, X, outputs=lambda out: out.sum(0))
    for outputs, kind in (
        (lambda out: out.argmax(-1), "has dtype int"),
        (lambda out: out * 1j, "has dtype complex"),
        (lambda out: {"logits": out}, "is of dict"),
    ):
        with pytest.raises(TypeError, match=f"outputs {kind}.*: wanted .*floating point"):
            jacobian_moments(network, PARAMS, X, outputs=outputs)
    one, other = (
        gradient_moments(network, PARAMS, X, loss=loss_of(Y))[name] for name in ("in", "out")
    )
    with pytest.raises(ValueError, match="do not add: kernel_sum has shape .4, 6. in one and"):
        one + other
    with pytest.raises(TypeError):
        one + jacobian_moments(network, PARAMS, X)["in"]
    assert isinstance(sum([one, one]), GradientMoments)


def test_samples_that_cannot_be_told_apart():
    def micro(params, x):  # two halves of the batch, one after the other
        return jax.lax.map(lambda half: network(params, half), x.reshape(2, 6, 4)).reshape(12, 3)

    with pytest.raises(ValueError, match="samples is not clear"):
        jacobian_moments(micro, PARAMS, X)

    def tied(params, x):  # as many tokens as samples, and no other batch size
        return network(params, x.reshape(12, 12, 4))

    with pytest.raises(ValueError, match=r"rows \(12, 12\) counts the 12 samples is not clear"):
        jacobian_moments(tied, PARAMS, RNG.normal(size=(12, 12, 4)))

    def halves(params, x):
        size = len(x) // 2
        return jax.lax.map(lambda half: network(params, half), x.reshape(2, size, 4)).reshape(-1, 3)

    with pytest.raises(ValueError, match="split the batch of 12 samples"):
        jacobian_moments(halves, PARAMS, X)


@pytest.mark.long
@pytest.mark.devices
def test_inside_of_shard_map_each_device_has_its_own_and_psum_merges():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def deep(params, x):
        def step(h, _):
            return jnp.tanh(h @ params["square"]), None

        return jax.lax.scan(step, x, None, length=2)[0] @ params["out"]

    params = {"square": RNG.normal(size=(4, 4)), "out": RNG.normal(size=(4, 3))}

    def parts(params, x, y):
        gradients = gradient_moments(deep, params, x, loss=loss_of(y))
        jacobians = jacobian_moments(deep, params, x)
        return jax.tree.map(
            lambda m: m.psum("data"), (gradients, jacobians), is_leaf=lambda m: hasattr(m, "psum")
        )

    specs = {"in_specs": (spec(), spec("data"), spec("data")), "out_specs": spec()}
    merged = jax.jit(jax.shard_map(parts, mesh=mesh, **specs))(params, X, Y)
    whole = (
        gradient_moments(deep, params, X, loss=loss_of(Y)),
        jacobian_moments(deep, params, X),
    )
    chex.assert_trees_all_close(merged, whole, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("scale", [2.0**-90, 2.0**90])
def test_gradients_whose_squares_leave_float32(scale):
    """Scaled by a power of two, all sums scale exactly."""
    with jax.enable_x64(False):
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), PARAMS)
        x = jnp.asarray(X, jnp.float32)
        unit = gradient_moments(network, params, x, loss=lambda out: out.sum())
        scaled = gradient_moments(network, params, x, loss=lambda out: (scale * out).sum())
        chex.assert_trees_all_equal(
            {name: m.output_products for name, m in scaled.items()},
            {name: scale**2 * np.asarray(m.output_products) for name, m in unit.items()},
        )
        unit = jacobian_moments(network, params, x)
        scaled = jacobian_moments(network, params, x, outputs=lambda out: scale * out)
        for name, m in scaled.items():
            np.testing.assert_array_equal(m.mean, scale**2 * np.asarray(unit[name].mean))
            np.testing.assert_array_equal(m.squares, scale**4 * np.asarray(unit[name].squares))


def test_units_of_small_gradients_are_not_dead():
    """Their squares leave float32 beside those of the others; a power of two scales exactly."""
    scales = np.float32([1, 2.0**-40, 2.0**-80])
    params, x = {"w": np.float32(PARAMS["in"][:, :3])}, np.float32(X)

    def sums(scale):
        found = gradient_moments(
            lambda p, x: jnp.tanh(x @ p["w"]) * scale[None], params, x, loss=jnp.sum
        )
        return found["w"]

    with jax.enable_x64(False):
        unit, scaled = sums(np.ones(3, np.float32)), sums(scales)
        expected = np.outer(scales.astype(float), scales) * np.asarray(unit.output_products)
        np.testing.assert_array_equal(scaled.output_products, expected)
        assert dead_units(scaled) == 0
