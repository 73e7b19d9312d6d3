"""What ``measure`` holds of models at their published sizes; nothing is computed, nothing drawn.

Projections of all layers as dense maps (width, 1024) would take 40 GiB and more.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from published import made

from gramlin_jax._measure.batch import Losses, summing
from gramlin_jax._measure.plan import Plan, projections_of
from gramlin_jax._measure.stream import Batch
from gramlin_jax._measure.tracing import Tracing
from gramlin_jax.metrics.layer_sums import OF_FEATURES
from gramlin_jax.metrics.registry import DEFAULT, chosen_metrics, needs_of
from gramlin_jax.support.devices import Placement
from gramlin_jax.taps.rows import find_rows

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("default")]
N, CLASSES, LIMIT = 32, 1000, 1024
GIB = 2**30
Shape = jax.ShapeDtypeStruct


def bert_base():
    from transformers import BertConfig, FlaxBertForSequenceClassification

    model = FlaxBertForSequenceClassification(BertConfig(), _do_init=False)
    params = jax.eval_shape(lambda key: model.init_weights(key, (1, 128)), jax.random.key(0))
    tokens = Shape((N, 128), jnp.int32)
    x = {"input_ids": tokens, "attention_mask": tokens}
    return lambda params, x: model(**x, params=params).logits, params, x


def vit_base():
    from transformers import FlaxViTForImageClassification, ViTConfig

    model = FlaxViTForImageClassification(ViTConfig(num_labels=CLASSES), _do_init=False)
    shape = 1, 224, 224, 3
    params = jax.eval_shape(lambda key: model.init_weights(key, shape), jax.random.key(0))
    x = Shape((N, 3, 224, 224), jnp.float32)
    return lambda params, x: model(x, params=params).logits, params, x


def resnet_50():
    import haiku as hk

    network = hk.transform_with_state(
        lambda x, is_training: hk.nets.ResNet50(CLASSES)(x, is_training)
    )
    x = Shape((N, 224, 224, 3), jnp.float32)
    init = functools.partial(network.init, is_training=True)
    params, state = jax.eval_shape(init, jax.random.key(0), x)
    state = jax.tree.map(lambda a: np.ones(a.shape, a.dtype), state)
    return lambda params, x: network.apply(params, state, None, x, False)[0], params, x


def loss(logits, labels):
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def size(tree):
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def held(traced_at, metrics):
    """Bytes of the projections and of all sums, and those of dense projections."""
    tracing, traced, values, x, axes = traced_at
    needs = needs_of(chosen_metrics(metrics))
    taps = jax.eval_shape(lambda v, x: traced([*v, *jax.tree.leaves(x)])[1], values, x)
    shapes = {name: tap.features.shape for name, tap in taps.items()}
    rows = find_rows(traced, axes, shapes, N, 1, "flatten")[0] if needs & OF_FEATURES else {}
    names = tuple(traced.layers.sites)
    plan = Plan(traced, N, names, axes, rows, {}, LIMIT, True)
    projections = jax.eval_shape(lambda: projections_of(plan, 0))
    stack = Batch(
        jax.tree.map(lambda a: Shape((1, *a.shape), a.dtype), x), Shape((1, N), int), None, None
    )
    losses, rows_of = Losses(loss, None, None), tuple(rows.items())
    program = summing(traced, losses, names, rows_of, (), needs, probes=None)
    sums = jax.eval_shape(program, values, projections, jax.random.key(0), stack)
    dense = sum(4 * LIMIT * how.width for how in rows.values() if how.width > LIMIT)
    return size(projections), size(sums), dense


@pytest.mark.parametrize(
    ("build", "sites", "sums", "gradients"),
    [
        pytest.param(build, *row, marks=pytest.mark.xdist_group(build.__name__))
        for build, *row in (
            (bert_base, 74, 2.4, 0.65),
            (resnet_50, 54, 1.3, 0.2),
            (vit_base, 74, 3.0, 0.65),
        )
    ],
)
def test_sums_at_published_sizes(build, sites, sums, gradients):
    with jax.numpy_rank_promotion("allow"):
        f, params, x = made(build)
        tracing = Tracing(f, params, Placement(None))
        stack = jax.tree.map(lambda a: Shape((1, *a.shape), a.dtype), x)
        traced, values = tracing.at(stack)
        assert len(traced.layers.sites) == sites
        axes, skipped = tracing.sample_axes(traced, x, N)
        assert not skipped
        of_features, of_all, dense = held((tracing, traced, values, x, axes), DEFAULT)
        assert dense > 40 * GIB
        assert of_features < 0.13 * GIB
        assert of_all < sums * GIB
        of_features, of_all, _ = held((tracing, traced, values, x, axes), ["gradient_norm"])
        assert of_features == 0
        assert of_all < gradients * GIB
