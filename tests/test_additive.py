"""What all sums share: a protocol, and the one loop over batches."""

import dataclasses
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import (
    Additive,
    GradientMoments,
    JacobianMoments,
    Moments,
    accumulate,
    gradient_moments,
    jacobian_moments,
    moments,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 20, 4)) + 5
Y = RNG.normal(size=(3, 20, 2))
PARAMS = {"w": RNG.normal(size=(4, 2))}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def network(params, x):
    return jnp.tanh(x @ params["w"])


def gradients(x, y):
    return gradient_moments(network, PARAMS, x, loss=lambda out: ((out - y) ** 2).mean())["w"]


def jacobians(x, y):
    del y
    return jacobian_moments(network, PARAMS, x)["w"]


KINDS = {
    "features": (moments, Moments.zeros(4, 2)),
    "gradients": (gradients, GradientMoments.zeros(4, 2)),
    "jacobians": (jacobians, JacobianMoments.zeros(2)),
}
each_kind = pytest.mark.parametrize("make, zeros", KINDS.values(), ids=KINDS)


@each_kind
def test_parts_add_to_the_whole_however_they_are_added(make, zeros):
    whole = make(X.reshape(60, 4), Y.reshape(60, 2))
    parts = [make(x, y) for x, y in zip(X, Y, strict=True)]
    stacked = jax.vmap(make)(X, Y)
    assert isinstance(whole, Additive)
    for merged in (
        sum(parts),
        parts[0] + (parts[1] + parts[2]),
        stacked.sum(),
        jax.vmap(lambda m: m.psum("part"), axis_name="part", out_axes=None)(stacked),
        accumulate(lambda batch: make(*batch), (X, Y), batch_size=None),
        accumulate(lambda batch: make(*batch), zip(X, Y, strict=True)),
        accumulate(lambda b: make(*b), (X.reshape(60, 4), Y.reshape(60, 2)), batch_size=25),
    ):
        chex.assert_trees_all_close(merged, whole, rtol=1e-11, atol=1e-11)
    chex.assert_trees_all_equal(whole + zeros, whole)
    chex.assert_trees_all_equal(zeros + whole, whole)


@each_kind
def test_equality_is_one_truth_value(make, zeros):
    """NumPy's arrays are as JAX's and NaN is NaN; one digit, one shape or one class is enough."""
    m = make(X[0], Y[0])
    leaves, form = jax.tree.flatten(m)
    assert m == jax.tree.map(np.array, m) and zeros == zeros + zeros and m not in [zeros]
    for i, leaf in enumerate(leaves):
        for changed in (np.nextafter(leaf, np.inf), leaf[None]):
            assert m != jax.tree.unflatten(form, [*leaves[:i], changed, *leaves[i + 1 :]])
    nan = jax.tree.map(lambda a: jnp.nan * a, m)
    assert nan == nan + nan and m != nan and m != 3 and m != tuple(leaves)


def test_random_keys_are_compared_by_their_numbers():
    """An optimiser's state in ``Fit`` may hold some."""
    key, zeros = jax.random.key, Moments.zeros(1, 1)
    first, again, other = (dataclasses.replace(zeros, count=key(seed)) for seed in (0, 0, 1))
    assert first == again and first != other and first != zeros


@each_kind
def test_they_are_shown_in_a_line(make, zeros):
    """With types and shapes in the place of arrays, also of what is traced or was deleted."""
    m = make(X[0], Y[0])
    name, shape = type(m).__name__, jax.tree.leaves(m)[1].shape
    assert repr(m).startswith(f"{name}(count=20.0, ") and f"=float64 {shape}" in repr(m)
    assert "\n" not in repr(m) and len(repr(m)) < 400 and repr(zeros).startswith(f"{name}(")
    traced = []
    jax.jit(lambda m: traced.append(repr(m)))(m)
    deleted = jax.tree.map(jnp.copy, m)
    jax.tree.map(lambda a: a.delete(), deleted)
    for text in (*traced, repr(deleted)):
        assert text == re.sub(r"=[\d.e-]+", "=float64 ()", repr(m))


@each_kind
def test_stacked_sums_add_one_by_one_and_sum_over_any_axis(make, zeros):
    stacked = jax.vmap(make)(X, Y)
    twice = stacked + stacked
    for i in range(3):
        one = jax.tree.map(lambda a: a[i], twice)  # noqa: B023
        part = make(X[i], Y[i])
        chex.assert_trees_all_close(one, part + part, rtol=1e-11)
    square = jax.tree.map(lambda a: jnp.stack([a, a], 1), stacked)  # (3, 2)
    chex.assert_trees_all_close(square.sum(1), twice, rtol=1e-11)
    chex.assert_trees_all_close(square.sum(0).sum(), square.sum(1).sum(), rtol=1e-11, atol=1e-11)
    # The last stack axis, not the last one of each array.
    chex.assert_trees_all_equal(square.sum(-1), square.sum(1))
    chex.assert_trees_all_equal(stacked.sum(-1), stacked.sum(0))
    for sums, axis in ((square, 2), (stacked, -2), (make(X[0], Y[0]), 0)):
        with pytest.raises(ValueError, match=f"axis is {axis}: wanted one of the . stack axes"):
            sums.sum(axis)


@each_kind
def test_a_scaled_sum_counts_each_sample_so_often(make, zeros):
    m = make(X[0], Y[0])
    chex.assert_trees_all_close(m.scaled(2), m + m, rtol=1e-12, atol=1e-12)
    assert m.scaled(0) + m == m and jax.jit(lambda m, f: m.scaled(f))(m, 2.0) == m.scaled(2.0)
    with pytest.raises(ValueError, match="factor is -1.0: wanted at least 0"):
        m.scaled(-1.0)
    with pytest.raises(ValueError, match=r"factor has shape \(2,\): wanted a number; use jax.vmap"):
        m.scaled(jnp.ones(2))


def test_properties_of_stacked_sums():
    stacked, single = jax.vmap(moments)(X, Y), moments(X[1], Y[1])
    for name in ("feature_products", "cross_products", "target_products"):
        chex.assert_trees_all_close(getattr(stacked, name)[1], getattr(single, name), rtol=1e-12)
    np.testing.assert_allclose(single.feature_products, X[1].T @ X[1], rtol=1e-12)
    stacked = jax.vmap(gradients)(X, Y)
    for name in ("kernel_gradient", "output_products"):
        chex.assert_trees_all_close(
            getattr(stacked, name)[1], getattr(gradients(X[1], Y[1]), name), rtol=1e-12
        )
    means = jax.vmap(jacobians)(X, Y).mean
    chex.assert_trees_all_close(means[1], jacobians(X[1], Y[1]).mean, rtol=1e-12)
    assert Moments.zeros(4, 2, stack=(3,)).cross_scatter.shape == (3, 4, 2)


def test_the_function_is_compiled_once_whatever_the_number_of_batches():
    traced = []

    def count(batch):
        traced.append(len(batch))
        return batch.sum()

    run = jax.jit(lambda x: accumulate(count, x, batch_size=10))
    np.testing.assert_allclose(run(jnp.arange(40.0)), 780)
    assert set(traced) == {10} and len(traced) <= 2
    traced.clear()
    np.testing.assert_allclose(run(jnp.arange(41.0)), 820)
    assert set(traced) == {10, 1}


def test_bad_input():
    with pytest.raises(ValueError, match="data is an empty iterator: wanted at least one batch"):
        accumulate(moments, iter([]))
    with pytest.raises(ValueError, match="batch_size is 0: wanted at least 1"):
        accumulate(moments, X[0], batch_size=0)
    with pytest.raises(ValueError, match="Moments do not add: feature_mean has shape .4,. in one"):
        moments(X[0]) + moments(X[0][:, :3])
    with pytest.raises(ValueError, match="output_sum is None: wanted it among the needs"):
        _ = GradientMoments(jnp.ones(()), jnp.ones((4, 2)), None).output_products
    with pytest.raises(TypeError):
        moments(X[0]) + gradients(X[0], Y[0])
    with pytest.raises(TypeError):
        1 + moments(X[0])


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16, np.uint8, bool])
@pytest.mark.parametrize("batch_size", [None, 1, 500, 1500])
def test_what_a_function_returns_in_a_few_bits_is_added_up_in_32(kind, batch_size):
    """A sum of ones stood still at 256 in bfloat16, at 2048 in float16, and went round in uint8."""
    batches = iter(np.ones((3000, 1))) if batch_size is None else np.ones(3000)
    total = accumulate(lambda x: x[0].astype(kind), batches, batch_size=batch_size)
    count = 3000 if batch_size is None else 3000 // batch_size
    wide = np.float32 if np.dtype(kind).kind in "fV" else np.int32
    assert int(total) == count and total.dtype == wide


def test_starts_of_batches_beyond_2_to_the_31():
    """From the traced program alone: the starts that it computes, and their type."""

    def f(x):
        return accumulate(lambda rows: rows.sum(dtype=jnp.int32), x, batch_size=2**30)

    with jax.enable_x64(False):
        traced = jax.make_jaxpr(f)(jax.ShapeDtypeStruct((5 * 2**30 + 3,), np.int8))
    body = next(e for e in traced.eqns if e.primitive.name == "scan").params["jaxpr"].jaxpr
    (cut,) = [i for i, e in enumerate(body.eqns) if e.primitive.name == "dynamic_slice"]
    start = body.eqns[cut].invars[1]
    assert start.aval.dtype == np.int64
    upto = body.replace(eqns=body.eqns[:cut], outvars=[start])
    with jax.enable_x64(True):
        arguments = [np.zeros(v.aval.shape, v.aval.dtype) for v in body.invars if v.aval.size < 9]
        assert len(arguments) == len(body.invars) - 1  # all but the data, of which no row is read
        data = body.invars[0]
        assert data.aval.size > 9
        (value,) = jax.core.eval_jaxpr(upto, (), None, *arguments[:-1], np.int32(4))
    assert int(value) == 4 * 2**30
