"""Options of ``measure`` that change what a metric reads: the seed of projections, stacks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import Probe, measure

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 12)).astype(np.float32)
Y = RNG.normal(size=(60, 2)).astype(np.float32)


def squares(out, y):
    return ((out - y) ** 2).mean()


def test_the_seed_decides_the_projection():
    params = {"k": jnp.asarray(RNG.normal(size=(12, 2)).astype(np.float32))}

    network, metrics = (lambda p, x: x @ p["k"]), ["target_linearity"]

    def linearity(**options):
        found = measure(network, params, (X, Y), loss=squares, metrics=metrics, **options)
        return found["k"]["target_linearity"]

    whole = linearity()
    projected = [linearity(width_limit=3, seed=seed) for seed in (0, 1, 2, 1)]
    assert projected[1] == projected[3], "the same seed, the same projection"
    assert len(set(projected)) == 3, "another seed, another projection"
    assert all(0 < value < whole for value in projected), "a projection only loses"


def test_each_layer_has_a_projection_of_its_own():
    """Two layers that read the same features know the same of the targets, until projected."""
    params = {name: jnp.asarray(RNG.normal(size=(12, 2)).astype(np.float32)) for name in "ab"}

    def linearity(**options):
        options |= {"loss": squares, "metrics": ["target_linearity"]}
        found = measure(lambda p, x: x @ p["a"] + x @ p["b"], params, (X, Y), **options)
        return [found[name]["target_linearity"] for name in "ab"]

    whole, projected = linearity(), linearity(width_limit=3)
    assert whole[0] == whole[1] and abs(projected[0] - projected[1]) > 1e-3


def test_features_beyond_the_limit_alone_are_projected():
    params = {"k": jnp.asarray(RNG.normal(size=(12, 2)).astype(np.float32))}
    whole, limited, projected = (
        measure(lambda p, x: x @ p["k"], params, (X, Y), loss=squares, width_limit=limit)
        for limit in (1024, 12, 11)
    )
    assert limited.notes == () and limited["k"] == whole["k"]
    assert dict(projected.notes) == {"k": "12 features, projected to 11"}
    assert np.isnan(projected["k"]["surrogate"]), "the kernel does not multiply the projection"


def test_a_stack_of_kernels_does_not_read_the_features_side_by_side():
    """Even of one kernel: the features of all kernels are one row, of a kernel they are a block."""
    params = {"one": jnp.asarray(RNG.normal(size=(1, 12, 2)).astype(np.float32))}

    def heads(params, x):
        return jnp.einsum("nhi,hio->nho", x[:, None], params["one"])[:, 0]

    found = measure(heads, params, (X, Y), loss=squares)
    assert found.sums["one"].kernel.shape == (1, 12, 2) and not found.sums["one"].reads_rows
    assert np.isnan(found["one"]["surrogate"])
    h, y = (a.astype(float) - a.mean(0, dtype=float) for a in (X, Y))
    residual = y - h @ np.linalg.lstsq(h, y, rcond=None)[0]
    plain = 1 - (residual**2).sum() / (y**2).sum()
    np.testing.assert_allclose(found["one"]["target_linearity"], plain, rtol=1e-6)


def test_layers_of_a_scan_read_rows():
    """A stack of layers is not a stack of kernels: each has the surrogate of its own features."""
    params = {"deep": jnp.asarray(RNG.normal(size=(2, 12, 12)).astype(np.float32))}

    def scanned(params, x):
        return jax.lax.scan(lambda h, k: (jnp.tanh(h @ k), None), x, params["deep"])[0][:, :2]

    found = measure(scanned, params, (X, Y), loss=squares)
    h, y = X.astype(float), Y - Y.mean(0, dtype=float)
    for layer, kernel in enumerate(np.asarray(params["deep"], float)):
        z = h @ kernel
        plain = ((z.T @ y) ** 2).sum() / ((z**2).sum() * (y**2).sum())
        np.testing.assert_allclose(found[f"deep[{layer}]"]["surrogate"], plain, rtol=1e-5)
        h = np.tanh(z)


@pytest.mark.parametrize("strict", [jax.debug_nans(True), jax.numpy_dtype_promotion("strict")])
def test_strict_settings_of_jax_are_for_the_user_s_code(strict):
    """NaN says that a metric is not defined, as here that of a single class."""
    params = {"in": np.eye(3, 4, dtype=np.float32), "out": np.ones((4, 2), np.float32)}
    x, y = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32), np.zeros(9, int)

    def f(params, x):
        return jnp.tanh(x @ params["in"]) @ params["out"]

    def loss_fn(params, batch):
        out = f(params, batch[0])
        return (out**2).mean(), out

    probe = Probe(loss_fn, lambda batch: batch[1], has_aux=True, every=1)
    with strict:
        m = measure(f, params, (x, y), loss=lambda out, y: (out**2).mean())
        state = probe.value_and_grad(params, (x, y), probe.init(params, (x, y)))[-1]
        watched = probe.read(state)
    assert "none of the 2 target columns varies" in dict(m.notes)["in"]
    assert np.isnan(m["in"]["target_linearity"]) and m["in"]["gradient_norm"] > 0
    np.testing.assert_allclose(watched["in"]["gradient_norm"], m["in"]["gradient_norm"], rtol=1e-5)
