"""``measure`` on meshes: the same numbers as on one device, and nothing is copied about."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gramlin_jax import measure
from gramlin_jax._measure.tracing import Tracing
from gramlin_jax.support.devices import placement

pytestmark = pytest.mark.devices

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 8)).astype(np.float32)
LABELS = RNG.integers(0, 3, 96)
PARAMS = {
    "in": RNG.normal(size=(8, 16)).astype(np.float32),
    "out": RNG.normal(size=(16, 3)).astype(np.float32),
}
KINDS = {"explicit": AxisType.Explicit, "auto": AxisType.Auto}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def network(params, x):
    return jnp.tanh(x @ params["in"]) @ params["out"]


def loss(out, y):
    return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()


def sharded(kind):
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(kind, kind))
    spec = {"in": P(None, "model"), "out": P("model", None)}
    return mesh, {k: jax.device_put(v, NamedSharding(mesh, spec[k])) for k, v in PARAMS.items()}


@each_kind
@pytest.mark.parametrize("axes", [None, "data", ("data", "model")])
def test_sharded_parameters_give_the_numbers_of_one_device(kind, axes):
    mesh, params = sharded(kind)
    expected = measure(network, PARAMS, (X, LABELS), loss=loss)
    for given in (mesh, None):
        if given is None and axes is not None:
            continue
        m = measure(network, params, (X, LABELS), loss=loss, mesh=given, data_axes=axes)
        for layer in expected:
            chex.assert_trees_all_close(m[layer], expected[layer], rtol=1e-5, atol=1e-6)
    spread = jax.device_put(X, NamedSharding(mesh, P("data")))
    m = measure(network, params, (spread, LABELS), loss=loss)
    chex.assert_trees_all_close(m["in"], expected["in"], rtol=1e-5, atol=1e-6)


@each_kind
def test_parameters_stay_as_they_lie(kind):
    mesh, params = sharded(kind)
    tracing = Tracing(network, params, placement(mesh, None, params))
    _, held = tracing.at(jnp.zeros((1, 96, 8)))
    for array in held:
        assert len(array.addressable_shards) == 8
        assert all(shard.data.size == array.size // 4 for shard in array.addressable_shards)
    (whole,) = Tracing(network, PARAMS, placement(mesh, None, PARAMS)).at(jnp.zeros((1, 96, 8)))[1][
        :1
    ]
    assert whole.sharding.is_fully_replicated


def test_bad_axes():
    mesh = Mesh(np.array(jax.devices()), ("data",))
    with pytest.raises(ValueError, match="data_axes has .'rows'.: wanted axes out of"):
        measure(network, PARAMS, (X, LABELS), loss=loss, mesh=mesh, data_axes="rows")
    with pytest.raises(ValueError, match="data_axes is 'data' and there is no mesh"):
        measure(network, PARAMS, (X, LABELS), loss=loss, data_axes="data")
