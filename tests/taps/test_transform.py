import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from gramlin_jax import Layers, find_layers, tap

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
PARAMS = {"in": np.ones((3, 5), np.float32), "out": np.ones((5, 2), np.float32)}


def network(params, x, scale=1.0):
    return checkpoint_name(jnp.tanh(x @ params["in"]), "hidden") @ params["out"] * scale


def test_perturbations_of_pre_activations_kernels_and_named_activations():
    step = np.full((7, 5), 0.1, np.float32)
    z, _ = tap(network)(PARAMS, X, perturbations={"in": step})
    np.testing.assert_allclose(z, jnp.tanh(X @ PARAMS["in"] + step) @ PARAMS["out"], rtol=1e-6)
    h, taps = tap(network)(PARAMS, X, perturbations={"hidden": step})
    np.testing.assert_allclose(h, (jnp.tanh(X @ PARAMS["in"]) + step) @ PARAMS["out"], rtol=1e-6)
    np.testing.assert_allclose(taps["hidden"].features, taps["out"].inputs)
    shift = {"out": PARAMS["out"]}
    k, taps = tap(network)(PARAMS, X, kernel_perturbations=shift)
    np.testing.assert_allclose(k, 2 * network(PARAMS, X), rtol=1e-6)
    np.testing.assert_allclose(taps["out"].kernel, 2 * PARAMS["out"])


def test_a_perturbation_does_not_change_the_type_of_the_network():
    params, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), (PARAMS, X))
    out, taps = tap(network)(params, x, perturbations={"in": jnp.zeros((7, 5), jnp.float32)})
    types = out.dtype, taps["out"].inputs.dtype, taps["out"].outputs.dtype
    assert set(types) == {jnp.dtype("bfloat16")}


def test_arguments_that_are_no_arrays_are_constants():
    out, _ = tap(network)(PARAMS, X, scale=2.0)
    np.testing.assert_allclose(out, 2 * network(PARAMS, X), rtol=1e-6)
    out, _ = tap(lambda p, x, mode: network(p, x) if mode == "eval" else 0 * x)(PARAMS, X, "eval")
    assert out.shape == (7, 2)
    params = {**PARAMS, "activation": jnp.tanh}
    found = find_layers(lambda p, x: p["activation"](x @ p["in"]), params, X)
    assert list(found.leaves) == ["in", "out"]


def test_no_leaf_or_site_takes_the_name_of_another():
    def f(params, x):
        h = checkpoint_name(jnp.tanh(x @ params["w"]), "out")
        h = jnp.tanh(h @ params["w"]) @ params["w#2"]
        h, _ = jax.lax.scan(lambda h, k: (jnp.tanh(h @ k), None), h, params["s"])
        return h @ params["s[0]"] @ params["a"]["b"] @ params["a/b"] @ params["out"]

    eye = jnp.eye(3)
    params = {name: eye for name in ("w", "w#2", "s[0]", "out", "a/b")}
    params |= {"s": jnp.stack([eye] * 2), "a": {"b": eye}}
    layers = find_layers(f, params, X)
    assert {name: "".join(site.leaves) for name, site in layers.sites.items()} == {
        **{name: name for name in ("w", "w#2", "s[0]", "out", "['a']['b']", "['a/b']")},
        **{"w#3": "w", "s#2": "s", "out#2": ""},  # the last is the named activation
    }
    assert len(layers.leaves) == len(params)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    assert [layers.select(path, eye) for path in paths] == [
        jax.tree_util.keystr(path) != "['s']" for path in paths
    ]


def test_nothing_is_computed_to_find_layers():
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (PARAMS, X))
    layers = find_layers(network, *shapes)
    assert isinstance(layers, Layers)
    assert str(layers).splitlines() == [
        "in: linear site (3, 5), 7 rows",
        "out: linear site (5, 2), 7 rows",
        "hidden: named activation, 7 rows of 5",
        "2 linear sites of 2 leaves; 2 leaves in all, 0 with a use that is not tapped",
    ]
    assert {name: zero.shape for name, zero in layers.zeros().items()} == {
        "in": (7, 5),
        "hidden": (7, 5),
        "out": (7, 2),
    }


def test_one_trace_per_shape():
    f = chex.assert_max_traces(network, n=2)
    step = jax.jit(tap(f))
    for factor in range(3):
        step(PARAMS, factor * X)
    step(PARAMS, X[:4])


def test_unused_patches_cost_nothing():
    """Under jit the patches of a convolution are made only where they are asked for."""

    def conv(params, x):
        return jax.lax.conv_general_dilated(x, params["k"], (1, 1), "SAME")

    params, x = {"k": jnp.ones((4, 2, 5, 5))}, jnp.ones((8, 2, 16, 16))
    kernels = jax.jit(lambda p, x: tap(conv)(p, x)[1]["k"].kernel).lower(params, x).compile()
    assert "convolution" not in kernels.as_text()


def test_bad_input():
    tapped = tap(network)
    with pytest.raises(ValueError, match="perturbations names 'hiden': wanted one of the sites in"):
        tapped(PARAMS, X, perturbations={"hiden": np.zeros((7, 5))})
    with pytest.raises(ValueError, match=r"perturbations\['in'\] has shape .5, 7.: wanted .7, 5."):
        tapped(PARAMS, X, perturbations={"in": np.zeros((5, 7))})
    with pytest.raises(ValueError, match="kernel_perturbations names 'hidden'"):
        tapped(PARAMS, X, kernel_perturbations={"hidden": np.zeros((3, 5))})
    with pytest.raises(ValueError, match="f returns None: wanted an array"):
        tap(lambda p, x: None)(PARAMS, X)
    with pytest.raises(ValueError, match="params holds no array"):
        tap(lambda p, x: x)({}, X)
    with pytest.raises(ValueError, match="parameters that f closes over are constants"):
        tap(lambda p, x: x @ PARAMS["in"])(PARAMS, X)
    with pytest.raises(TypeError, match=r"f takes .x.: wanted f.params, x.*for a module lambda"):
        tap(lambda x: x @ PARAMS["in"])(PARAMS, X)
    with pytest.raises(TypeError, match="dot_general requires"):  # f's own error
        tap(lambda p, x: x @ p["in"].T)(PARAMS, X)
    with pytest.raises(ValueError, match="table: embedding lookup"):
        find_layers(lambda p, i: p["table"][i], {"table": X}, np.arange(3), strict=True)
