import functools
import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gramlin_jax import Moments, accumulate, moments, target_linearity
from gramlin_jax._moments.additive import ROWS
from gramlin_jax._moments.features import class_moments


def draw(n, d=6, k=2, seed=0, dtype=np.float32):
    """Features away from 0 and of different scales, and targets."""
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(n, d)) * np.logspace(-1, 1, d) + 5
    return h.astype(dtype), rng.normal(size=(n, k)).astype(dtype)


def plain(h, y, w=None):
    """The definition, in float64 and one go."""
    h, y = h.astype(np.float64), y.astype(np.float64)
    w = np.ones(len(h)) if w is None else w.astype(np.float64)
    mean_h, mean_y = w @ h / w.sum(), w @ y / w.sum()
    hc, yc = h - mean_h, y - mean_y
    by_class = (w * (hc**2).sum(1)) @ y
    return Moments(w.sum(), mean_h, mean_y, (hc.T * w) @ hc, (hc.T * w) @ yc, w @ yc**2, by_class)


def close(a, b, rtol=1e-13):
    def check(x, y):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * max(1.0, np.abs(y).max()))

    jax.tree.map(check, jax.tree.map(np.asarray, a), jax.tree.map(np.asarray, b))


@pytest.mark.parametrize("n", [1, 2, 50, ROWS, 2 * ROWS + 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.bfloat16, np.float16])
def test_are_the_definition_in_float64(n, dtype):
    h, y = draw(n, dtype=dtype)
    m = moments(h, y)
    chex.assert_tree_all_finite(m)
    chex.assert_type(jax.tree.leaves(m), np.float64)
    chex.assert_shape(
        [m.count, m.feature_mean, m.target_mean, m.feature_scatter, m.cross_scatter],
        [(), (6,), (2,), (6, 6), (6, 2)],
    )
    close(m, plain(h, y))


def test_uncentred_blocks():
    h, y = draw(300, dtype=np.float64)
    m = moments(h, y)
    close(m.feature_products, h.T @ h)
    close(m.cross_products, h.T @ y)
    close(m.target_products, (y**2).sum(0))


def test_without_targets():
    h, _ = draw(30)
    m = moments(h)
    chex.assert_shape([m.cross_scatter, m.target_mean], [(6, 0), (0,)])
    close(m.feature_scatter, moments(h, h).feature_scatter)


def test_float64_survives_far_from_zero():
    """Uncentred float64 sums would lose all digits of this variance."""
    h = np.linspace(0, 1, 1000)[:, None] + 1e8
    scatter = np.asarray(moments(h).feature_scatter)
    np.testing.assert_allclose(scatter, 1000 * np.var(h), rtol=1e-7)


@pytest.mark.parametrize("sizes", [(100,), (1, 99), (33, 33, 34), (1,) * 100])
def test_a_batch_is_the_sum_of_its_parts(sizes):
    h, y = draw(100)
    cuts = np.cumsum(sizes)[:-1]
    parts = [moments(*part) for part in zip(np.split(h, cuts), np.split(y, cuts), strict=True)]
    close(functools.reduce(operator.add, parts), moments(h, y))
    close(functools.reduce(operator.add, parts[::-1]), moments(h, y))


def test_zeros_are_neutral():
    m, zero = moments(*draw(20)), Moments.zeros(6, 2)
    chex.assert_trees_all_equal(m + zero, m, zero + m)
    chex.assert_trees_all_equal(zero + zero, zero)


def test_update_is_addition():
    a, b = draw(20), draw(31, seed=1)
    chex.assert_trees_all_equal(moments(*a).update(*b), moments(*a) + moments(*b))


@pytest.mark.long
def test_weights_are_repetitions():
    h, y = draw(5000)
    w = np.random.default_rng(1).integers(0, 4, 5000)
    close(moments(h, y, weights=w.astype(np.float32)), moments(h.repeat(w, 0), y.repeat(w, 0)))
    mask = (w > 0).astype(np.float32)
    close(moments(h, y, weights=mask), moments(h[w > 0], y[w > 0]))
    chex.assert_trees_all_equal(moments(h, y, weights=0 * mask), Moments.zeros(6, 2))


TRANSFORMATIONS = {
    "jit": jax.jit,
    "vmap": lambda f: (
        lambda *a: jax.tree.map(lambda x: x[1], jax.vmap(f)(*(jnp.stack([x, x]) for x in a)))
    ),
    "jit of vmap of jit": lambda f: (
        lambda *a: jax.tree.map(
            lambda x: x[1], jax.jit(jax.vmap(jax.jit(f)))(*(jnp.stack([x, x]) for x in a))
        )
    ),
    "map": lambda f: (
        lambda *a: jax.tree.map(
            lambda x: x[0], jax.lax.map(lambda b: f(*b), tuple(x[None] for x in a))
        )
    ),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize("n", [40, ROWS + 8])
@pytest.mark.long
def test_transformations_keep_float64(name, n):
    """Outside of ``enable_x64``: what JAX traces again later must not fall back to float32."""

    def both(h, y):
        m = moments(h, y)
        return m, m + m, m.update(h, y), m.feature_products, m.cross_products, m.target_products

    h, y = draw(n)
    expected = both(h, y)
    chex.assert_type(jax.tree.leaves(expected), np.float64)
    result = TRANSFORMATIONS[name](both)(h, y)
    chex.assert_type(jax.tree.leaves(result), np.float64)
    close(result, expected)


@pytest.mark.parametrize("transformation", [lambda f: f, jax.jit])
@pytest.mark.long
def test_inside_a_scan(transformation):
    h, y = draw(60)

    def total(h, y):
        batches = h.reshape(6, 10, 6), y.reshape(6, 10, 2)
        return jax.lax.scan(lambda m, b: (m.update(*b), None), Moments.zeros(6, 2), batches)[0]

    close(transformation(total)(h, y), moments(h, y))


def test_one_compilation_per_shape(caplog):
    """Without a ``jit`` of the user's."""

    def compilations(n, seed):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING"):
            target_linearity(moments(*draw(n, seed=seed)) + moments(*draw(n, seed=seed + 1)))
        return sum("Finished XLA compilation" in record.message for record in caplog.records)

    assert compilations(53, 0) > 0
    assert compilations(53, 2) == 0


@pytest.mark.parametrize("n", [25, ROWS + 8])
@pytest.mark.long
@pytest.mark.devices
def test_sharded_by_psum_equals_unsharded(n):
    h, y = draw(8 * n)
    mesh = Mesh(jax.devices(), ("data",))
    assert mesh.size == 8
    spec = PartitionSpec("data")
    per_device = {
        "at once": lambda h, y: moments(h, y).psum("data"),
        "streamed": lambda h, y: accumulate(
            lambda batch: moments(*batch), (h, y), batch_size=1000
        ).psum("data"),
        "metric": lambda h, y: target_linearity(moments(h, y).psum("data")),
    }
    expected = moments(h, y)
    for name, f in per_device.items():
        f = jax.shard_map(f, mesh=mesh, in_specs=(spec, spec), out_specs=PartitionSpec())
        for g in (f, jax.jit(f)) if n < 100 else (jax.jit(f),):
            result = g(h, y)
            chex.assert_type(jax.tree.leaves(result), np.float64)
            close(result, target_linearity(expected) if name == "metric" else expected, 1e-12)


@pytest.mark.devices
def test_sharded_arguments_equal_unsharded():
    h, y = draw(8 * 25)
    sharding = NamedSharding(Mesh(jax.devices(), ("data",)), PartitionSpec("data"))
    close(jax.jit(moments)(*jax.device_put((h, y), sharding)), moments(h, y))


@pytest.mark.long
@pytest.mark.devices
def test_psum_with_an_empty_shard():
    h, y = draw(80)
    w = np.repeat([1, 0], 40).astype(np.float32)
    parts = [a.reshape(8, 10, *a.shape[1:]) for a in (h, y, w)]
    total = jax.vmap(lambda h, y, w: moments(h, y, weights=w).psum("i"), axis_name="i")(*parts)
    close(jax.tree.map(lambda a: a[3], total), moments(h[:40], y[:40]))


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
@pytest.mark.long
def test_accumulate_streams(batch_size):
    h, y = draw(100)

    def sums(batch):
        h, y = batch
        return {"moments": [moments(jnp.maximum(h, 0), y)], "positive": jnp.sum(y > 0)}

    for f in (accumulate, jax.jit(accumulate, static_argnums=0, static_argnames="batch_size")):
        total = f(sums, (h, y), batch_size=batch_size)
        close(total["moments"][0], moments(jnp.maximum(h, 0), y))
        assert total["positive"] == (y > 0).sum()


@pytest.mark.parametrize("batch_size", [7, 30, 100])
def test_accumulate_keeps_float64(batch_size):
    """Of NumPy arrays too, without the flag: float32 would lose this variance."""
    h, y = draw(100, dtype=np.float64)
    h = h * 1e-3 + 1e4
    total = accumulate(lambda batch: moments(*batch), (h, y), batch_size=batch_size)
    close(total, moments(h, y), 1e-9)


def test_sum_of_a_list():
    parts = [moments(*draw(10, seed=seed)) for seed in range(3)]
    chex.assert_trees_all_equal(sum(parts), parts[0] + parts[1] + parts[2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(features=np.ones((3, 2), int)), TypeError, "features has dtype int.*astype"),
        (
            dict(features=[[1.0], [2.0, 3.0]]),
            TypeError,
            "features is of list: wanted an array of fl",
        ),
        (dict(features=None), TypeError, "features is of NoneType: wanted an array of floating"),
        (dict(features=np.ones((3, 2), object)), TypeError, "features is of object: wanted an arr"),
        (dict(targets=np.ones((3, 2), np.longdouble)), TypeError, "targets is of float128: wanted"),
        (dict(features=np.ones(3)), ValueError, r"features has shape \(3,\): wanted \(n, d\)"),
        (dict(features=np.ones((3, 2, 2))), ValueError, "features has shape.*pool"),
        (dict(features=np.ones((0, 2))), ValueError, "features has shape.*leave an empty batch"),
        (dict(features=np.ones((2, 0))), ValueError, "features has shape.*one column"),
        (dict(targets=np.ones((4, 2))), ValueError, "targets has 4 rows and features has 3"),
        (dict(targets=np.array([0, 1, 1])), TypeError, "targets has dtype int.*one_hot"),
        (dict(targets=np.ones(3)), ValueError, r"targets has shape \(3,\)"),
        (dict(weights=np.ones(2)), ValueError, "weights has 2 rows"),
        (dict(weights=np.array([1, -1.0, 0])), ValueError, "weights has negative"),
        (dict(features=np.array([[np.nan], [1], [1]])), ValueError, "features has 1 values"),
        (dict(targets=np.array([[np.inf], [1], [1]])), ValueError, "targets has 1 values"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        moments(**{"features": np.ones((3, 2)), **arguments})


@pytest.mark.long
def test_widths_that_do_not_add():
    with pytest.raises(ValueError, match=r"target_mean has shape \(2,\) in one and \(3,\)"):
        moments(*draw(5)) + moments(*draw(5, k=3))
    with pytest.raises(TypeError):
        moments(*draw(5)) + 1


def test_nan_under_jit_is_carried_on():
    h, y = draw(10)
    h[3, 2] = np.nan
    m = jax.jit(moments)(h, y)
    assert np.isnan(m.feature_scatter).any()
    assert np.isnan((m + moments(y @ np.ones((2, 6), np.float32), y)).feature_scatter).any()


def test_numpys_moments_that_jit_cuts_to_float32_do_not_add():
    """The sum with others would be of float64, and metrics would take it for one."""
    m = moments(*draw(10))
    cut = jax.tree.map(np.asarray, m)
    with jax.enable_x64(False), pytest.raises(TypeError, match="one side of . is of float32: want"):
        jax.jit(lambda other: m + other)(cut)
    assert m + cut == m + m


def test_negative_weights_under_jit_are_nan():
    """Which weights there are is known there alone; they were counted."""
    m = jax.jit(moments)(*draw(10), weights=jnp.asarray([1.0] * 9 + [-1]))
    assert all(np.isnan(a).all() for a in jax.tree.leaves(m))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((), "data holds arrays of shapes"),
        ((np.ones((3, 2)), np.ones((4, 2))), "same number of samples"),
        ((np.ones((0, 2)),), "at least one"),
    ],
)
def test_accumulate_bad_data(data, message):
    with pytest.raises(ValueError, match=message):
        accumulate(lambda batch: batch[0].sum(), data)


def test_accumulate_bad_batch_size():
    with pytest.raises(ValueError, match="batch_size is 0"):
        accumulate(lambda batch: batch.sum(), np.ones((3, 2)), batch_size=0)
    with pytest.raises(ValueError, match="batch_size is 1.5: wanted an integer"):
        accumulate(lambda batch: batch.sum(), np.ones((3, 2)), batch_size=1.5)


def test_constants_of_a_compiled_function():
    """Arrays that a jitted function closes over are concrete, and are checked as such."""
    h, y, w = jnp.ones((5, 3)), jnp.ones((5, 2)), jnp.arange(5.0)
    assert float(jax.jit(lambda h: moments(h, y, weights=w))(h).count) == 10
    bad = y * jnp.nan
    with pytest.raises(ValueError, match="targets.* NaN or infinite"):
        jax.jit(lambda h: moments(h, bad))(h)


@pytest.mark.parametrize("scale", [1e-136, 1e149])
def test_float64_at_its_ends(scale):
    h, y = draw(50, dtype=np.float64)
    h = h / 100
    assert abs(target_linearity(moments(h * scale, y)) - target_linearity(moments(h, y))) < 1e-12


@pytest.mark.parametrize("scale", [1e-160, 1e155])
@pytest.mark.long
def test_squares_that_leave_float64_are_an_error(scale):
    h, y = draw(500, dtype=np.float64)
    with pytest.raises(ValueError, match=r"features varies by less than 1e-140 or more than"):
        moments(h * scale, y)
    with pytest.raises(ValueError, match=r"targets varies .* in columns \[1\]: wanted"):
        moments(h, y * [1, scale])
    with jax.enable_x64(True):
        m = jax.jit(moments)(h * scale, y)
    with pytest.warns(RuntimeWarning, match="or their squares leave float64"):
        assert np.isnan(target_linearity(m))


def test_small_constants_are_in_range():
    assert float(moments(np.full((50, 1), 1e-160)).feature_scatter[0, 0]) == 0


def test_vmap_does_not_cut_numpys_float64():
    pairs = [draw(50, seed=seed, dtype=np.float64) for seed in (0, 1)]
    h, y = (np.stack(a) + 1e8 for a in zip(*pairs, strict=True))
    with jax.enable_x64(False):
        stacked = jax.vmap(moments)(h, y)
        second = jax.tree.map(lambda a: a[1], stacked)
        close(second, moments(h[1], y[1]))


@pytest.mark.parametrize("labels", ([0, 2, 2, 0, 4, 2], [1] * 6, [3, -1, 5, 0, 0, 3]))
def test_sums_by_class_are_those_of_one_hot_targets(labels):
    """Classes without samples, one class alone, and labels of no class among them."""
    h = np.random.default_rng(0).normal(size=(6, 3)) + 1e6
    h[:, 2] = 0.1
    h[0], w = 1e20, np.array([0, 1, 2, 0.5, 3, 1])  # a masked sample, far away
    with jax.enable_x64(True):
        rows, of_rows, weights = map(jnp.asarray, (h, labels, w))
        found = jax.device_get(class_moments(rows, of_rows, 5, weights=weights))
    y = (np.array(labels)[:, None] == np.arange(5)).astype(np.longdouble)
    rows = h.astype(np.longdouble)
    counted = (w * y.sum(1)).sum()  # unknown labels are refused later, and only must not leak
    h_centred = rows - (w[:, None] * rows).sum(0) / w.sum()
    y_mean = (w[:, None] * y).sum(0) / counted
    cross = (w[:, None] * h_centred).T @ (y - y.sum(1, keepdims=True) * y_mean)
    tolerance = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(found.target_mean, y_mean, **tolerance)
    np.testing.assert_allclose(found.cross_scatter, cross, **tolerance)
    np.testing.assert_allclose(found.target_scatter, counted * y_mean * (1 - y_mean), **tolerance)
    lengths = (h_centred**2).sum(1)
    np.testing.assert_allclose(found.class_scatter, (w * lengths) @ y, **tolerance)
    np.testing.assert_allclose(
        found.feature_scatter, (w[:, None] * h_centred).T @ h_centred, **tolerance
    )
    assert found.feature_mean[2] == 0.1 and not np.any(found.feature_scatter[2])
    if len(set(labels)) == 1:
        assert not np.any(found.cross_scatter) and not np.any(found.target_scatter)
