"""``measure`` on published models: what is found, and numbers equal to the model's own."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published import MODELS, int8_matmuls, made

from gramlin_jax import backward, feature_learning_sides, find_layers, measure, tap

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def _as_users_run_it():
    with jax.numpy_rank_promotion("allow"):
        yield


# The tests of a model are one worker's: it compiles what they share once.
EACH = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in MODELS]


@pytest.fixture(scope="module", params=EACH)
def model(request):
    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made(MODELS[request.param])


@pytest.fixture(scope="module")
def measurements(model):
    """With all samples in one batch, and in two."""
    options = {"loss": model.loss, "outputs": model.outputs, "ignore_label": -100}
    with jax.numpy_rank_promotion("allow"):
        return [
            measure(
                *(model.f, model.params, (model.x, model.y)),
                **options,
                positions="mean",
                batch_size=len(model.y) // parts,
            )
            for parts in (1, 2)
        ]


def split(params):
    """The leaves that have gradients, and the parameters as a function of these."""
    leaves, tree = jax.tree.flatten(params)
    is_float = [hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jnp.floating) for a in leaves]
    given = [leaf for leaf, yes in zip(leaves, is_float, strict=True) if yes]

    def rebuild(given):
        given = iter(given)
        filled = [next(given) if y else leaf for leaf, y in zip(leaves, is_float, strict=True)]
        return jax.tree.unflatten(tree, filled)

    return given, rebuild


@pytest.fixture(scope="module")
def own(model, measurements):
    """The model's own loss and gradients, and what ``measure`` has of these, in one program."""
    leaves, rebuild = split(model.params)
    gradients = {
        name: np.asarray(sums.gradients.kernel_gradient, np.float32)
        for name, sums in measurements[1].sums.items()
    }

    @jax.jit
    def compare(leaves, gradients, x):
        def loss(leaves):
            return model.loss(model.f(rebuild(leaves), x), model.y)

        def kernels(leaves):
            return {name: t.kernel for name, t in tap(model.f)(rebuild(leaves), x)[1].items()}

        _, pull_back = jax.vjp(kernels, leaves)
        passed = backward(model.f, rebuild(leaves), x, loss=lambda out: model.loss(out, model.y))
        sides = {
            name: (
                t.kernel @ gradients[name].mT,
                feature_learning_sides(t, passed.output_gradients[name])[1],
            )
            for name, t in passed.taps.items()
        }
        return *jax.value_and_grad(loss)(leaves), pull_back(gradients)[0], sides

    with jax.numpy_rank_promotion("allow"):
        return jax.device_get(compare(leaves, gradients, model.x))


def names_of(params):
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]


def close(a, b, rtol):
    """Equal, relative to the largest number."""
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(a).max(), np.abs(b).max()))


def test_coverage(model):
    layers = find_layers(model.f, model.params, model.x)
    assert sorted(layers.sites) == sorted(model.sites)
    stored = {name for name, site in layers.sites.items() if site.transposed}
    assert stored == set(model.transposed)
    for name, leaf in layers.leaves.items():
        assert bool(leaf.unsupported) == (name in model.lost), name
        if name in model.lost:
            assert model.lost[name] in str(leaf)
        elif not any(name in site.leaves for site in layers.sites.values()):
            assert leaf.status == "bias or elementwise", name
            assert not name.endswith(("kernel", "/w")), name


def test_loss_is_the_models_own(measurements, own):
    for measurement in measurements:
        np.testing.assert_allclose(measurement.loss, own[0], rtol=1e-5)


def test_gradients_are_the_models_own(model, own):
    """∇_K L of the sites, pulled back to the leaves, are the gradients of these."""
    leaves, _ = split(model.params)
    names = [
        name
        for name, leaf in zip(names_of(model.params), jax.tree.leaves(model.params), strict=True)
        if any(leaf is other for other in leaves)
    ]
    gradients = dict(zip(names, zip(own[1], own[2], strict=True), strict=True))
    for name in set(model.sites) - set(model.lost):
        close(*gradients[name], 1e-4)
        assert np.abs(gradients[name][0]).max() > 1e-6


def test_feature_learning_equation(model, own):
    assert set(own[3]) == set(model.sites)
    for left, right in own[3].values():
        close(left, right, 1e-4)


def test_numbers_do_not_depend_on_the_batch_size(model, measurements):
    one, two = measurements
    assert sorted(one.layers) == sorted(model.sites)
    notes = [name for name, note in one.notes if "features not measured" in note]
    assert sorted(notes) == sorted(model.skipped)
    assert one.notes == two.notes
    assert one.accuracy == pytest.approx(two.accuracy, rel=1e-6)
    for name in one.layers:
        for metric, value in one[name].items():
            np.testing.assert_allclose(two[name][metric], value, rtol=2e-3, err_msg=metric)


def test_a_model_of_integers_alone_has_no_site():
    model = made(int8_matmuls)
    layers = find_layers(model.f, model.params, model.x)
    assert not layers.sites
    for name, reason in model.lost.items():
        assert reason in str(layers.leaves[name])
    with pytest.raises(ValueError, match="no linear layer that is tapped"):
        measure(model.f, model.params, (model.x, model.y), loss=model.loss)
