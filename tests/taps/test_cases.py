"""Every case of ``cases.py`` against what JAX itself says of the function.

The oracle knows nothing of layers: with Δ at all sites, the gradients XᵀΔ pulled back from the
kernels to the parameters add up to ``jax.grad`` of the function as it stands.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, LINEAR, Lost

from gramlin_jax import (
    GradientMoments,
    feature_learning_sides,
    find_layers,
    gram_change,
    input_gradients,
    tap,
    virtual_covariance,
)

each_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])

# They take seconds to compile.
# What `make quick` compiles; the analysis of all cases is quick by itself.
QUICK = "mlp", "residual", "remat", "scan_over_layers", "recurrent", "bfloat16", "weight_norm"
QUICK += "transposed_kernel", "linen_mlp", "conv_2d", "conv_grouped", "names", "tied_embedding"


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def split(params):
    """The arrays among the leaves, by name, and the parameters as a function of these."""
    leaves, tree = jax.tree.flatten_with_path(params)
    # The variables of an NNX state hold their array as ``value``.
    named = {
        jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value"): leaf
        for path, leaf in leaves
    }
    arrays = {name: leaf for name, leaf in named.items() if isinstance(leaf, jax.Array)}
    return arrays, lambda arrays: jax.tree.unflatten(tree, (named | arrays).values())


def status_of(case, leaf):
    status = case.leaves.get(leaf, LINEAR)
    return status.status if isinstance(status, Lost) else status


def lost(case):
    return {name: status for name, status in case.leaves.items() if isinstance(status, Lost)}


def close(actual, expected, rtol):
    """Equal, relative to the largest number."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    bound = rtol * np.abs(expected).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


@each_case
def test_what_is_found(case):
    f, params, args = case.build()
    layers = find_layers(f, params, *args)
    assert list(layers.sites) == [site.name for site in case.sites]
    for expected in case.sites:
        site = layers.sites[expected.name]
        assert site.primitive == expected.primitive
        if site.primitive != "name":
            assert (site.stack, site.rows, site.fan_in, site.fan_out) == expected[2:], site.name
            shape = split(params)[0][site.leaves[0]].shape
            if site.transposed is not None and len(shape) == 2:
                stored = (site.fan_out, site.fan_in) if site.transposed else site.kernel_shape
                assert shape == stored
    statuses = {name: leaf.status for name, leaf in layers.leaves.items()}
    assert statuses == {name: status_of(case, name) for name in split(params)[0]}
    reported = {name: leaf for name, leaf in layers.leaves.items() if leaf.unsupported}
    assert set(reported) == set(lost(case))
    for name, status in lost(case).items():
        assert re.search(status.reason, str(reported[name]))


@pytest.mark.long
@each_case
def test_strict(case):
    f, params, args = case.build()
    if not lost(case):
        find_layers(f, params, *args, strict=True)
        return
    with pytest.raises(ValueError, match="not tapped") as error:
        find_layers(f, params, *args, strict=True)
    assert all(f"{name}: " in str(error.value) for name in lost(case))


def loss(out):
    """A smooth function of all outputs, each of another weight."""
    weights = np.random.default_rng(1).normal(size=out.shape)
    return jnp.sum(weights * out + out.astype(weights.dtype) ** 2 / 2)


def matrices(array, t):
    """(*stack, *rows, width) as (*stack, all rows, width)."""
    return array.reshape(*t.kernel.shape[:-2], -1, array.shape[-1])


def leaf_of(site):
    return site.split("#")[0]


RATE = 0.1


def feature_learning(t, delta, kernel_gradient):
    """What has to be equal: K∇ᵀ, by autodiff and by XᵀΔ, and gᵀX; ΔGram − VC and its value."""
    kernel, delta, gradient = (a.astype(float) for a in (t.kernel, delta, kernel_gradient))
    g = matrices(input_gradients(kernel, delta), t)
    products = matrices(delta, t).mT @ matrices(delta, t)
    virtual = virtual_covariance(kernel, GradientMoments(1.0, gradient, products), RATE)
    change = gram_change(kernel, kernel - RATE * gradient)
    sides = kernel @ gradient.mT, *feature_learning_sides(t, delta)
    return sides, (change - virtual, RATE**2 * (gradient @ gradient.mT - g.mT @ g)), change


def measured(case, f, rebuild):
    """All that is compared, as one function of arrays: a case is compiled once."""
    tapped = tap(f)

    def kernels(arrays, *args):
        out, taps = tapped(rebuild(arrays), *args)
        linear = {name: t for name, t in taps.items() if t.kernel is not None}
        return {name: t.kernel for name, t in linear.items()}, (out, taps, linear)

    def perturbed(shifts, arrays, *args):
        perturbations, of_kernels = shifts
        options = {"perturbations": perturbations, "kernel_perturbations": of_kernels}
        out, _ = tapped(rebuild(arrays), *args, **options)
        return loss(out), out

    def gradients(linear, pull_back, arrays, *args):
        zeros = (
            {name: jnp.zeros_like(t.outputs) for name, t in linear.items()},
            {name: jnp.zeros_like(t.kernel) for name, t in linear.items()},
        )
        (deltas, of_kernels), out = jax.grad(perturbed, has_aux=True)(zeros, arrays, *args)
        products, learning = {}, {}
        for name, t in linear.items():
            learning[name] = feature_learning(t, deltas[name], of_kernels[name])
            x, delta = matrices(t.inputs, t), matrices(deltas[name], t)
            products[name] = (x.mT @ delta).astype(t.kernel.dtype)
        (pulled_back,) = pull_back(products)
        found = {"perturbed": out, "of kernels": of_kernels, "products": products}
        return found | {"pulled back": pulled_back, "learning": learning}

    def plain(arrays, *args):
        """The function and its gradients as it stands."""
        out = f(rebuild(arrays), *args)
        return loss(out), out

    def shifted_kernels(linear, arrays, *args):
        shifts = {name: jnp.cos(jnp.arange(a.size)).reshape(a.shape) for name, a in arrays.items()}
        shifts = {name: shifts[name] for name in map(leaf_of, linear)}
        moved = arrays | {name: arrays[name] + shift for name, shift in shifts.items()}
        of_sites = {n: shifts[leaf_of(n)].reshape(t.kernel.shape) for n, t in linear.items()}
        return {
            "shifted": tapped(rebuild(arrays), *args, kernel_perturbations=of_sites)[0],
            "plain shifted": plain(moved, *args)[1],
        }

    def everything(arrays, *args):
        if not case.differentiable:
            _, (out, taps, _) = kernels(arrays, *args)
            return {"out": out, "plain out": plain(arrays, *args)[1], "taps": taps}
        _, pull_back, (out, taps, linear) = jax.vjp(
            lambda arrays: kernels(arrays, *args), arrays, has_aux=True
        )
        of_leaves, plain_out = jax.grad(plain, has_aux=True)(arrays, *args)
        found = {"out": out, "plain out": plain_out, "taps": taps, "of leaves": of_leaves}
        found |= gradients(linear, pull_back, arrays, *args)
        if case.direct and not case.partial:
            found |= shifted_kernels(linear, arrays, *args)
        return found

    return everything


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.long] * (case.name not in QUICK))
        for case in CASES
    ],
)
def test_taps_against_the_function_itself(case):
    f, params, args = case.build()
    arrays, rebuild = split(params)
    found = jax.device_get(jax.jit(measured(case, f, rebuild))(arrays, *args))
    rounding = case.rtol / 1e3
    assert found["out"].dtype == found["plain out"].dtype
    close(found["out"], found["plain out"], rounding)
    taps = found["taps"]
    assert set(taps) == {site.name for site in case.sites}
    for site in case.sites:
        t = taps[site.name]
        if site.primitive == "name":
            assert t.features is not None
            assert (t.inputs, t.kernel, t.outputs) == (None, None, None)
            continue
        assert t.inputs.shape == (*site.stack, *site.rows, site.fan_in)
        assert t.kernel.shape == (*site.stack, site.fan_in, site.fan_out)
        assert t.outputs.shape == (*site.stack, *site.rows, site.fan_out)
        x, kernel, z = (np.asarray(a, np.float64) for a in (t.inputs, t.kernel, t.outputs))
        close(matrices(x, t) @ kernel, matrices(z, t), case.rtol)
        if case.direct:
            np.testing.assert_array_equal(
                t.kernel, arrays[leaf_of(site.name)].reshape(kernel.shape)
            )
    if "shifted" in found:
        close(found["shifted"], found["plain shifted"], case.rtol)
    if case.differentiable:
        close(found["perturbed"], found["plain out"], rounding)
        for sides, (residual, expected), change in found["learning"].values():
            close(sides[0], sides[2], 1e-12 if case.rtol == 1e-10 else case.rtol)
            close(sides[1], sides[2], 1e-12)
            bound = 1e-12 * np.abs(change).max()
            np.testing.assert_allclose(residual, expected, rtol=0, atol=bound)
        for name, product in found["products"].items():
            close(found["of kernels"][name], product, case.rtol)
        for name, gradient in found["of leaves"].items():
            if status_of(case, name) == LINEAR and name not in {*lost(case), *case.partial}:
                close(found["pulled back"][name], gradient, case.rtol)


def some(*names):
    cases = {case.name: case for case in CASES}
    return pytest.mark.parametrize("case", [cases[name] for name in names], ids=names)


@pytest.mark.long
@some("recurrent", "scan_over_rematerialised_layers", "conv_grouped", "cond")
def test_vmap_over_parameters(case):
    f, params, args = case.build()
    pair = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    batched = jax.jit(jax.vmap(tap(f), in_axes=(0, *[None] * len(args))))(pair, *args)
    for i in (0, 1):
        alone = jax.jit(tap(f))(jax.tree.map(lambda a, i=i: a[i], pair), *args)
        jax.tree.map(lambda b, a, i=i: close(b[i], a, 1e-13), batched, alone)


@some("scan_over_layers", "conv_grouped", "linen_cnn_with_batch_norm")
@pytest.mark.devices
def test_samples_on_eight_devices(case):
    f, params, (x,) = case.build()
    x = jnp.concatenate([x * i for i in range(1, 9)])
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    found = jax.jit(tap(f))(params, jax.device_put(x, sharding))
    assert not found[0].sharding.is_fully_replicated
    jax.tree.map(lambda a, b: close(a, b, 1e-13), found, jax.jit(tap(f))(params, x))
