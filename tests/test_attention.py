"""Attention entropy against NumPy's softmax of each model's own queries and keys."""

import functools

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from gramlin_jax import METRICS, Probe, measure, trace
from gramlin_jax.models.bert import BERT, BertConfig
from gramlin_jax.taps import capture

N, T, D = 3, 5, 8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, T, D)).astype(np.float32)
CAUSAL = np.tril(np.ones((T, T), bool))


def weights(**sizes):
    rng = np.random.default_rng(1)
    return {k: rng.normal(size=(D, size)).astype(np.float32) for k, size in sizes.items()}


def spread(q, k, mask=True):
    """Entropy over its largest value, in the order of the queries; NaN where one key is seen."""
    logits = np.einsum("nqhd,nkhd->nqhk", np.float64(q), np.float64(k))
    logits = np.where(mask, logits / np.sqrt(q.shape[-1]), -np.inf)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    seen = np.broadcast_to(mask, p.shape).sum(-1)
    with np.errstate(all="ignore"):
        entropy = -np.where(p > 0, p * np.log(p), 0).sum(-1) / np.log(seen)
    return np.where(seen > 1, entropy, np.nan)


def of_heads(taps, name, heads, bias):
    return (np.asarray(taps[name].outputs) + bias).reshape(N, T, heads, -1)


def linen():
    model = nn.MultiHeadDotProductAttention(2, dropout_rate=0.3, name="a")
    mask = nn.make_causal_mask(X[..., 0])
    params = model.init(jax.random.key(0), X, mask=mask, deterministic=True)
    rngs = {"dropout": jax.random.key(1)}
    f = functools.partial(model.apply, mask=mask, deterministic=False, rngs=rngs)
    return f, params, X, "params/query/kernel", "params/key/kernel", 2, CAUSAL[:, None]


def flax_nnx():
    graph, params = nnx.split(nnx.MultiHeadAttention(2, D, decode=False, rngs=nnx.Rngs(0)))
    f = lambda params, x: nnx.merge(graph, params)(x, deterministic=True)
    return f, params, X, "query/kernel", "key/kernel", 2, True


def haiku():
    def network(x):
        init = hk.initializers.VarianceScaling(1.0)
        return hk.MultiHeadAttention(2, 4, w_init=init)(x, x, x, jnp.asarray(CAUSAL)[None, None])

    f = hk.without_apply_rng(hk.transform(network))
    names = (f"multi_head_attention/{name}/w" for name in ("query", "key"))
    return f.apply, f.init(jax.random.key(0), X), X, *names, 2, CAUSAL[:, None]


def equinox():
    module = eqx.nn.MultiheadAttention(2, D, key=jax.random.key(0))
    params, static = eqx.partition(module, eqx.is_array)
    f = lambda params, x: jax.vmap(lambda x: eqx.combine(params, static)(x, x, x))(x)
    return f, params, X, "query_proj/weight", "key_proj/weight", 2, True


def grouped():
    """Four heads of queries, two of keys; JAX's own attention."""

    def f(params, x):
        q, k, v = (x @ params[name] for name in "qkv")
        q, k, v = q.reshape(N, T, 4, 3), k.reshape(N, T, 2, 3), v.reshape(N, T, 2, 3)
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="xla")
        return mixed.reshape(N, T, 12) @ params["o"].T

    return f, weights(q=12, k=6, v=6, o=12), X, "q", "k", 2, CAUSAL[:, None]


def by_hand():
    """No shift by the largest logit, a guarded sum, weights that move before they mix."""

    def f(params, x):
        q, k, v = (x.reshape(-1, D) @ params[name] for name in "qkv")
        q, k, v = (a.reshape(N, T, 2, 4).swapaxes(1, 2) for a in (q, k, v))
        e = jnp.exp(q @ k.swapaxes(2, 3) / 2)
        p = e / (e.sum(-1) + 1e-9)[..., None]
        return jnp.einsum("nqhk,nhkd->nqhd", p.swapaxes(1, 2), v).reshape(N, T, D) @ params["o"]

    return f, weights(q=8, k=8, v=8, o=8), X, "q", "k", 2, True


def project_bert():
    """Keys at padding are hidden."""
    config = BertConfig(vocab_size=9, hidden_size=D, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=4)  # fmt: skip
    model, ids = BERT(config), np.random.default_rng(0).integers(1, 9, (N, T))
    ids[0, 3:] = 0
    params = model.init(jax.random.key(0), ids)
    params = jax.tree.map(lambda a: 9 * a, params)
    f = lambda params, ids: model.apply(params, ids, ids > 0)[0]
    names = (f"params/layer_0/attention/{name}/kernel" for name in ("query", "key"))
    return f, params, ids, *names, 2, (ids > 0)[:, None, None]


CASES = [linen, flax_nnx, haiku, equinox, grouped, by_hand, project_bert]


def bias_of(params, name):
    """Of the layer of a kernel; 0 where there is none."""
    *path, last = name.split("/")
    bias = "/".join([*path, {"kernel": "bias", "w": "b"}.get(last, "none")])
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = [jax.tree_util.keystr(at, simple=True, separator="/") for at, _ in leaves]
    return sum(np.ravel(a) for name, (_, a) in zip(names, leaves, strict=True)
               if name.removesuffix("/value") == bias)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("own_rule", [False, True])
def test_the_spread_of_a_models_own_queries(case, own_rule):
    """``own_rule``: JAX's softmax with derivatives of its own, as it will be by default."""
    if own_rule and case is not linen:
        pytest.skip("the same softmax")
    with jax.numpy_rank_promotion("allow"), jax.softmax_custom_jvp(own_rule):
        f, params, x, query, key, heads, mask = case()
        params = jax.tree.map(lambda a: a + 0.1, params)  # else biases are 0
        traced, values = capture(f, params, (x,))
        output, taps = jax.jit(lambda values: traced(values, attention=True))(values)
        np.testing.assert_allclose(output, jax.jit(f)(params, x), rtol=1e-6, atol=1e-6)
    assert traced.other_softmaxes == 0 and list(traced.softmaxes) == [query]
    k = of_heads(taps, key, heads, bias_of(params, key))
    q = of_heads(taps, query, taps[query].outputs.shape[-1] // k.shape[-1], bias_of(params, query))
    wanted = spread(q, np.repeat(k, q.shape[2] // k.shape[2], 2), mask)
    found = taps[query].attention
    assert found.entropy.shape == (*traced.layers.sites[query].rows, q.shape[2])
    found = np.where(found.keys > 1, found.entropy / np.log(np.maximum(found.keys, 2)), np.nan)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=2e-6)
    assert np.nanmax(wanted) - np.nanmin(wanted) > 0.05
