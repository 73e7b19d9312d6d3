"""Attention entropy against NumPy's softmax of each model's own queries and keys."""

import contextlib
import functools

import chex
import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from gramlin_jax import METRICS, AttentionMoments, Probe, measure, trace
from gramlin_jax._moments.attention import attention_moments
from gramlin_jax.models.bert import BERT, BertConfig
from gramlin_jax.taps import capture
from gramlin_jax.taps.attention import Spread

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
    logits = np.where(mask, logits / np.sqrt(q.shape[-1]), -1e99)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    seen = np.broadcast_to(mask, p.shape).sum(-1)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
    return np.where(seen > 1, entropy / np.log(np.maximum(seen, 2)), np.nan)


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

    def f(params, x):
        return nnx.merge(graph, params)(x, deterministic=True)

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

    def f(params, x):
        return jax.vmap(lambda x: eqx.combine(params, static)(x, x, x))(x)

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

    def f(params, ids):
        return model.apply(params, ids, ids > 0)[0]

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


# JAX's softmax has a rule for derivatives of its own if asked.
own_rule = getattr(jax, "softmax_custom_jvp", contextlib.nullcontext)


@pytest.mark.parametrize("case, rule", [*((case, False) for case in CASES), (linen, True)])
def test_the_spread_of_a_models_own_queries(case, rule):
    with jax.numpy_rank_promotion("allow"), own_rule(rule):
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


PARAMS = weights(q=8, k=8, v=8, o=3)
PADDED = np.random.default_rng(2).normal(size=(6, T, D)).astype(np.float32)
PADDED[1, 3:], PADDED[4, 1:] = 0, 0
KEPT = (PADDED != 0).any(-1)
LABELS = np.where(KEPT, np.arange(T) % 3, -100)


def decoder(params, x, turned=False):
    """Causal attention of two heads, from tokens to classes; a row of zeros is padding."""
    x = x[:, ::-1] if turned else x
    q, k, v = ((x @ params[name]).reshape(*x.shape[:2], 2, 4) for name in "qkv")
    kept = (x != 0).any(-1)
    mask = jnp.tri(T, dtype=bool)[None] & kept[:, None] & kept[:, :, None]
    logits = jnp.einsum("nqhd,nkhd->nhqk", q, k) / 2
    p = jax.nn.softmax(jnp.where(mask[:, None], logits, -1e9))
    z = jnp.einsum("nhqk,nkhd->nqhd", p, v).reshape(x.shape) @ params["o"]
    return z[:, ::-1] if turned else z


def cross_entropy(logits, y, weights=None):
    counts = (y >= 0) * (1 if weights is None else weights)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(y, 0))
    return (losses * counts).sum() / jnp.maximum(counts.sum(), 1)


def spread_of_decoder(params=PARAMS, turned=False):
    """(n, T, heads), in the order of x."""
    x = PADDED[:, ::-1] if turned else PADDED
    q, k = ((np.float64(x) @ params[name]).reshape(6, T, 2, 4) for name in "qk")
    kept = (x != 0).any(-1)
    mask = CAUSAL & kept[:, None] & kept[:, :, None]
    found = spread(q, k, mask[:, :, None])
    return found[:, ::-1] if turned else found


ENTROPY = {"loss": cross_entropy, "metrics": ["attention_entropy"]}


def test_planted_heads():
    """One that reads all alike, and one of which each query reads a single key."""
    q = PARAMS["q"] * np.repeat([0, 1e4], 4).astype(np.float32)
    m = measure(decoder, PARAMS | {"q": q}, (PADDED, np.abs(LABELS) % 3), **ENTROPY, batch_size=4)
    np.testing.assert_allclose(m["q"]["attention_entropy"], 0.5, atol=1e-6)
    assert all(np.isnan(m[name]["attention_entropy"]) for name in "kvo") and not m.notes
    metric = METRICS["attention_entropy"]
    heads = [metric(head) for head in m.sums["q"].heads(2)]
    np.testing.assert_allclose(heads, [1, 0], atol=1e-6)
    assert all(np.isnan(metric(part)) for part in m.sums["q"].heads(4))
    assert m.sums["q"].moments is None and m.sums["q"].gradients is None
    np.testing.assert_array_equal(
        m.sums["q"].attention.count, (np.maximum(KEPT.sum(1), 1) - 1).sum()
    )


@pytest.mark.parametrize("turned", [False, True])
def test_queries_count_as_their_labels_do(turned, tmp_path):
    """In batches of two sizes. Whatever turns the tokens round, a query belongs to its token."""
    counts = (LABELS >= 0) * np.arange(1, 7)[:, None].astype(np.float32)
    counts[0, 2] = 0
    f = functools.partial(decoder, turned=turned)
    batches = [(PADDED[at], LABELS[at], counts[at]) for at in (slice(0, 4), slice(4, 6))]
    m = measure(f, PARAMS, batches, **ENTROPY, ignore_label=-100)
    found = spread_of_decoder(turned=turned)
    weights = counts[..., None] * ~np.isnan(found)
    wanted = (weights * np.nan_to_num(found)).sum((0, 1)) / weights.sum((0, 1))
    np.testing.assert_allclose(m.sums["q"].attention.entropy, wanted, rtol=1e-6)
    np.testing.assert_allclose(m["q"]["attention_entropy"], wanted.mean(), rtol=1e-6)
    m.save(tmp_path / "m.npz")
    again = type(m).load(tmp_path / "m.npz").sums["q"].attention
    np.testing.assert_array_equal(again.entropy, m.sums["q"].attention.entropy)


def test_a_probe_sums_the_same_and_changes_nothing():
    def loss_fn(params, batch):
        logits = decoder(params, batch[0])
        return cross_entropy(logits, batch[1]), logits

    batch = PADDED, LABELS
    probe = Probe(loss_fn, lambda batch: batch[1], has_aux=True, ignore_label=-100, every=1,
                  metrics=["attention_entropy"])  # fmt: skip
    result, gradients, state = jax.jit(probe.value_and_grad)(
        PARAMS, batch, probe.init(PARAMS, batch)
    )
    plain = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(PARAMS, batch)
    chex.assert_trees_all_equal((result, gradients), plain)
    found = spread_of_decoder()
    np.testing.assert_allclose(
        probe.read(state)["q"]["attention_entropy"], np.nanmean(found), rtol=1e-6
    )


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.MultiHeadDotProductAttention(2, name="a")(nn.LayerNorm()(x)), None


@pytest.mark.parametrize("shared", [False, True])
def test_layers_that_a_scan_stacks(shared):
    """Each by itself; or the steps as further queries where they share their kernels."""
    axes = {"variable_broadcast": "params"} if shared else {"variable_axes": {"params": 0}}
    scanned = nn.scan(nn.remat(Block), split_rngs={"params": not shared}, length=3, **axes)()
    params = jax.tree.map(lambda a: a + 0.1, scanned.init(jax.random.key(0), X, None))

    def f(params, x):
        return scanned.apply(params, x, None)[0]

    traced, values = capture(f, params, (X,))
    taps = jax.jit(lambda values: traced(values)[1])(values)
    names = [f"params/a/{name}" for name in ("query", "key")]
    z = [taps[f"{name}/kernel"].outputs for name in names]
    biases = [bias_of(params, f"{name}/kernel").reshape(-1, 1, 1, D) for name in names]
    q, k = ((a + b).reshape(3 * N, T, 2, -1) for a, b in zip(z, biases, strict=True))
    wanted = spread(q, k).reshape(3, -1).mean(1)
    m = measure(f, params, (X, np.zeros((N, T, D), np.float32)), **ENTROPY | {"loss": squares})
    found = [m[name]["attention_entropy"] for name in m if "query" in name]
    np.testing.assert_allclose(found, [wanted.mean()] if shared else wanted, rtol=1e-6)


def squares(z, y):
    return ((z - y) ** 2).mean()


def experts(params, x):
    temperature = jnp.exp((x @ params["s"])[..., 0])
    gate = jax.nn.softmax((x @ params["q"]) / temperature[..., None])
    return jnp.einsum("nte,ntde->ntd", gate, (x @ params["k"]).reshape(N, T, 8, 8)) @ params["o"].T


def pooled(params, x):
    p = jax.nn.softmax((x @ params["s"])[..., 0])
    return jnp.einsum("nt,ntd->nd", p, x @ params["v"])


def contrasts(params, x):
    q, k = ((x @ params[name]).mean(1) for name in "qk")
    return jax.nn.softmax(q @ k.T)


def not_own_sum(params, x):
    """The sums of other queries: no softmax."""
    q, k, v = (x @ params[name] for name in "qkv")
    e = jnp.exp(q @ k.swapaxes(1, 2) / 100)
    return e / e.sum(2)[:, None] @ v


def elsewhere(params, x):
    """The axis that is summed is not the one that mixes."""
    q, k, v = (x @ params[name] for name in "qkv")
    return jax.nn.softmax(q @ k.swapaxes(1, 2) / 100).swapaxes(1, 2) @ v


def points(params, x):
    """What is mixed no layer has computed: it may be the targets."""
    q, k = (x @ params[name] for name in "qk")
    return jax.nn.softmax(q @ k.swapaxes(1, 2) / 100) @ x


NO_ATTENTION = {experts: 1, pooled: 1, contrasts: 0, not_own_sum: 0, elsewhere: 0, points: 0}


@pytest.mark.parametrize("f", NO_ATTENTION)
def test_what_is_no_attention(f):
    traced = trace(f, weights(q=8, k=64 if f is experts else 8, v=8, s=1, o=8), X)
    assert traced.softmaxes == {} and traced.other_softmaxes == NO_ATTENTION[f]


def test_queries_of_two_softmaxes():
    """Their heads stand side by side."""

    def f(params, x):
        q, k, v = (x @ params[name] for name in "qkv")
        keys = k.swapaxes(1, 2)
        return jax.nn.softmax(q @ keys) @ v - jax.nn.softmax(q @ jnp.tanh(keys)) @ v

    traced, values = capture(f, PARAMS, (X,))
    taps = jax.eval_shape(lambda values: traced(values, attention=True)[1], values)
    assert taps["q"].attention.entropy.shape == (N, T, 2)


def test_queries_of_two_layers():
    """A kernel and its adapter: the row of the first layer has them."""

    def f(params, x):
        q = x @ params["q"] + (x @ params["down"]) @ params["v"][:2]
        return jax.nn.softmax(q @ (x @ params["k"]).swapaxes(1, 2)) @ (x @ params["v"])

    traced = trace(f, weights(q=8, k=8, v=8, down=2), X)
    assert list(traced.softmaxes) == ["q"] and traced.other_softmaxes == 0


def test_a_note_says_what_is_not_measured():
    params = weights(s=1, v=8)
    y = np.zeros((N, 8), np.float32)
    m = measure(pooled, params, (X, y), **ENTROPY | {"loss": squares})
    assert [note for _, note in m.notes] == [
        "attention not measured: 1 softmaxes mix features, but not over keys of queries that a "
        "layer makes",
        "attention not measured: no layer makes queries of a softmax over keys",
    ]


def test_what_is_not_asked_for_is_not_computed():
    traced, values = capture(decoder, PARAMS, (PADDED,))
    plain, asked = (
        str(jax.make_jaxpr(lambda v: traced(v, attention=ask))(values))  # noqa: B023
        for ask in (False, True)
    )
    assert " log " not in plain and " log " in asked


def test_half_precision_stays_in_range():
    """Three weights of 1/3 in bfloat16 sum to 1.002."""
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), PARAMS | {"q": 0 * PARAMS["q"]})
    traced, values = capture(decoder, params, (jnp.asarray(PADDED, jnp.bfloat16),))
    found = traced(values, attention=True)[1]["q"].attention
    np.testing.assert_allclose(found.entropy[0, :, 0], np.log(np.arange(1, T + 1)), rtol=1e-6)
    m = attention_moments(found._replace(entropy=found.entropy * 1.001), (0, 1))
    assert m.entropy.dtype == np.float64
    np.testing.assert_array_equal(m.entropy, 1)


def test_not_a_number_is_shown_but_where_it_does_not_count():
    entropy, keys = jnp.array([[np.nan], [1.0]]), jnp.full((2, 1), 3.0)
    assert np.isnan(attention_moments(Spread(entropy, keys), (0,)).entropy[0])
    for seen, counts in ((jnp.array([[1.0], [3.0]]), None), (keys, jnp.array([[0.0], [2.0]]))):
        m = attention_moments(Spread(entropy, seen), (0,), counts)
        np.testing.assert_allclose(m.entropy, 1 / np.log(3))
    none = attention_moments(Spread(entropy, keys * 0), (0,))
    assert np.isnan(METRICS["attention_entropy"].function(Layer(none)))


class Layer:
    def __init__(self, attention: AttentionMoments):
        self.attention = attention
