"""Weights, masks, positions, and what users pass: each against the plain numbers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from gramlin_jax import measure, moments, target_linearity

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(32, 6, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, (32, 6))
X, Y = TOKENS[:, 0], LABELS[:, 0]
PARAMS = {
    "in": RNG.normal(size=(4, 5)).astype(np.float32),
    "out": RNG.normal(size=(5, 3)).astype(np.float32),
}


def network(params, x):
    return jnp.tanh(x @ params["in"]) @ params["out"]


def cross_entropy(out, y):
    return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()


def linearity(h, y, weights=None):
    m = moments(jnp.asarray(h), jax.nn.one_hot(y, 3), weights=weights)
    return float(np.asarray(target_linearity(m)))


def weighted(out, y, weights):
    losses = optax.softmax_cross_entropy_with_integer_labels(out, y)
    return (losses * weights).sum() / weights.sum()


def ignoring(out, y):
    losses = optax.softmax_cross_entropy_with_integer_labels(out, jnp.maximum(y, 0))
    return (losses * (y != -100)).sum() / (y != -100).sum()


def summary(m):
    return {"loss": m.loss, "accuracy": m.accuracy, **{k: dict(m[k]) for k in m.layers}}


# Weights and masks


def test_numbers_of_a_weighted_mean_do_not_depend_on_the_batches():
    weights = RNG.uniform(0.1, 2, LABELS.shape).astype(np.float32)
    weights[:8] *= 10
    weights[20] = 0
    whole = measure(network, PARAMS, (TOKENS, LABELS, weights), loss=weighted)
    parts = measure(network, PARAMS, (TOKENS, LABELS, weights), loss=weighted, batch_size=8)
    chex.assert_trees_all_close(summary(parts), summary(whole), rtol=1e-4)
    expected = linearity(TOKENS.reshape(-1, 4), LABELS.reshape(-1), weights.reshape(-1))
    np.testing.assert_allclose(whole["in"]["target_linearity"], expected, rtol=1e-5)
    logits = network(PARAMS, TOKENS)
    np.testing.assert_allclose(whole.loss, weighted(logits, LABELS, weights), rtol=1e-5)
    gradient = jax.grad(lambda p: weighted(network(p, TOKENS), LABELS, weights))(PARAMS)
    norm = np.linalg.norm(gradient["in"])
    np.testing.assert_allclose(whole["in"]["gradient_norm"], norm, rtol=1e-5)
    right = np.average(logits.argmax(-1) == LABELS, weights=weights)
    np.testing.assert_allclose(whole.accuracy, right, rtol=1e-5)
    assert not whole.notes and not parts.notes


def test_ignored_labels_count_nowhere():
    labels = np.where(RNG.uniform(size=LABELS.shape) < 0.3, -100, LABELS)
    labels[:4, 1:] = -100
    options = {"loss": ignoring, "ignore_label": -100}
    whole = measure(network, PARAMS, (TOKENS, labels), **options)
    parts = measure(network, PARAMS, (TOKENS, labels), batch_size=4, **options)
    chex.assert_trees_all_close(summary(parts), summary(whole), rtol=1e-4)
    kept = labels != -100
    expected = linearity(TOKENS[kept], labels[kept])
    np.testing.assert_allclose(whole["in"]["target_linearity"], expected, rtol=1e-5)
    right = (network(PARAMS, TOKENS).argmax(-1) == labels)[kept].mean()
    np.testing.assert_allclose(whole.accuracy, right, rtol=1e-6)
    with pytest.raises(ValueError, match=r"y has \d+ labels of 192 that name none"):
        measure(network, PARAMS, (TOKENS, labels), loss=ignoring)


def test_weights_of_samples_and_a_function_of_the_batch():
    weights = RNG.integers(0, 3, 32).astype(np.float32)
    triple = measure(network, PARAMS, (X, Y, weights), loss=weighted)
    repeated = np.repeat(np.arange(32), weights.astype(int))
    expected = measure(network, PARAMS, (X[repeated], Y[repeated]), loss=cross_entropy)
    np.testing.assert_allclose(triple.loss, expected.loss, rtol=1e-5)
    for metric in ("target_linearity", "gradient_norm"):
        np.testing.assert_allclose(triple["in"][metric], expected["in"][metric], rtol=1e-4)
    batches = [{"x": X, "y": Y, "mask": weights}]
    named = measure(
        network,
        PARAMS,
        batches,
        loss=lambda out, batch: weighted(out, batch["y"], batch["mask"]),
        inputs=lambda batch: batch["x"],
        targets=lambda batch: batch["y"],
        weights=lambda batch: batch["mask"],
    )
    chex.assert_trees_all_close(summary(named), summary(triple), rtol=1e-6)


NO_MEANS = {
    "a sum": lambda out, y: optax.softmax_cross_entropy_with_integer_labels(out, y).sum(),
    "contrastive": lambda out, y: -jnp.diag(jax.nn.log_softmax(out @ out.T)).mean() + 0 * y.sum(),
}


def test_losses_that_are_no_means_are_noted_in_large_batches():
    """There halves of shuffled samples are alike, and the losses of both are that of the whole."""
    x = np.random.default_rng(1).normal(size=(512, 2, 4)).astype(np.float32)
    y = np.random.default_rng(2).integers(0, 3, (512, 2))
    y[::2, 1] = -100

    def neighbours(params, x):
        return network(params, 0.7 * x + 0.3 * jnp.roll(x, 1, axis=0))

    def noted(loss, f=network, y=y[:, 0], **options):
        data = (x if y.ndim == 2 and len(y[0]) == 2 else x[:, 0], y)
        m = measure(f, PARAMS, data, loss=loss, metrics=["kernel_norm"], batch_size=512, **options)
        return "loss" in dict(m.notes)

    real = jax.nn.one_hot(y[:, 0], 3)
    assert noted(lambda out, y: weighted(out, y, jnp.array([1.0, 1.1, 1.2])[y]))
    assert noted(cross_entropy, f=neighbours)
    assert noted(lambda out, y: jnp.sqrt(squares(out, y)), y=real)
    assert not noted(cross_entropy) and not noted(squares, y=real)
    assert not noted(ignoring, y=y, ignore_label=-100)


@pytest.mark.parametrize("loss", NO_MEANS.values(), ids=NO_MEANS)
def test_a_loss_that_is_no_mean_is_noted(loss):
    for rows in (32, 31):
        notes = dict(measure(network, PARAMS, (X[:rows], Y[:rows]), loss=loss).notes)
        assert "not a mean over samples" in notes["loss"]
        mean = measure(network, PARAMS, (X[:rows], Y[:rows]), loss=cross_entropy)
        assert not mean.notes


def test_a_mean_in_half_precision_is_one():
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), PARAMS)
    for seed in range(10):
        x = np.random.default_rng(seed).normal(size=X.shape)
        notes = measure(network, half, (x.astype(jnp.bfloat16), Y), loss=cross_entropy).notes
        assert "loss" not in dict(notes), notes
    notes = measure(network, half, (X, Y), loss=NO_MEANS["a sum"]).notes
    assert "not a mean" in dict(notes)["loss"]


def test_batch_statistics_in_training_mode_are_noted():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=False, use_scale=False)(nn.Dense(5)(x))
            return nn.Dense(3)(nn.relu(x))

    variables = Model().init(jax.random.key(0), X)

    def f(params, x):
        return Model().apply(variables | {"params": params}, x, mutable=["batch_stats"])[0]

    notes = dict(measure(f, variables["params"], (X * 10, Y), loss=cross_entropy).notes)
    assert "batch statistics in training mode" in notes["loss"]


# Positions


def test_tokens_that_are_read_in_another_order_meet_their_own_labels():
    order = np.array([5, 4, 3, 2, 1, 0])

    def reversed_tokens(params, x):
        return network(params, x[:, ::-1])[:, ::-1]

    plain = measure(network, PARAMS, (TOKENS, LABELS), loss=cross_entropy)
    turned = measure(reversed_tokens, PARAMS, (TOKENS, LABELS), loss=cross_entropy)
    for layer in ("in", "out"):
        for metric in ("target_linearity", "gradient_norm"):
            np.testing.assert_allclose(turned[layer][metric], plain[layer][metric], rtol=1e-5)
    wrong = linearity(TOKENS[:, order].reshape(-1, 4), LABELS.reshape(-1))
    assert abs(wrong - plain["in"]["target_linearity"]) > 1e-3 and not turned.notes


def test_rows_that_mix_all_positions_are_not_measured():
    def mixed(params, x):
        h = jnp.tanh(x @ params["in"])
        return (0 * h + h.mean(1, keepdims=True)) @ params["out"]

    m = measure(mixed, PARAMS, (TOKENS, LABELS), loss=cross_entropy)
    assert np.isnan(m["out"]["target_linearity"]) and m["out"]["gradient_norm"] > 0
    assert "which of their rows belongs to which label" in dict(m.notes)["out"]
    assert m["in"]["target_linearity"] > 0


def test_a_bidirectional_tagger_has_one_number_for_the_tokens_that_both_cells_read():
    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, x):
            cells = nn.RNN(nn.GRUCell(5)), nn.RNN(nn.GRUCell(5))
            return nn.Dense(3)(nn.Bidirectional(*cells)(x))

    model = Tagger()
    params = model.init(jax.random.key(0), TOKENS)
    m = measure(model.apply, params, (TOKENS, LABELS), loss=cross_entropy)
    reads = [name for name in m.layers if name.endswith("ir/kernel")]
    expected = linearity(TOKENS.reshape(-1, 4), LABELS.reshape(-1))
    assert len(reads) == 2
    for name in reads:
        np.testing.assert_allclose(m[name]["target_linearity"], expected, rtol=1e-4)


def test_an_ordinary_transformer_is_measured_everywhere():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
            return x + nn.Dense(8)(nn.gelu(nn.Dense(16)(nn.LayerNorm()(x))))

    class Model(nn.Module):
        @nn.compact
        def __call__(self, ids):
            x = nn.Embed(11, 8)(ids) + nn.Embed(12, 8)(jnp.arange(12)[None])
            return nn.Dense(3)(Block()(x))

    ids, labels = RNG.integers(0, 11, (16, 12)), RNG.integers(0, 3, (16, 12))
    model = Model()
    params = model.init(jax.random.key(0), ids)
    m = measure(model.apply, params, (ids, labels), loss=cross_entropy)
    assert not m.notes and all(0 < m[name]["target_linearity"] < 1 for name in m.layers)


def test_no_column_hides_a_wrong_order_behind_a_larger_one():
    x = RNG.normal(size=(64, 5, 4)).astype(np.float32)
    x[..., 0] = 1000

    def time_major(params, x):
        merged = x.swapaxes(0, 1).reshape(-1, 4) @ params["in"]
        return merged.reshape(5, -1, 5).mean(0) @ params["out"]

    m = measure(time_major, PARAMS, (x, RNG.integers(0, 3, 64)), loss=cross_entropy)
    assert "do not follow" in dict(m.notes)["in"]


def test_one_position_stands_for_a_sample():
    def f(params, x):
        return network(params, x)[:, 2]

    m = measure(f, PARAMS, (TOKENS, Y), loss=cross_entropy, positions=2)
    np.testing.assert_allclose(m["in"]["target_linearity"], linearity(TOKENS[:, 2], Y), rtol=1e-5)
    none = measure(f, PARAMS, (TOKENS, Y), loss=cross_entropy, positions=6)
    assert "6 positions a sample, none of the number 6" in dict(none.notes)["in"]


# What users pass


@pytest.mark.parametrize("kind", ["list", "frame", "loader", "float64"])
def test_other_kinds_of_arrays(kind):
    pandas = pytest.importorskip("pandas")

    class Tensor:
        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            return self.array

    batches = {
        "list": (X.tolist(), Y.tolist()),
        "frame": (pandas.DataFrame(X), pandas.Series(Y)),
        "loader": [(Tensor(X[:20]), Tensor(Y[:20])), [Tensor(X[20:]), Tensor(Y[20:])]],
        "float64": (X.astype(np.float64), Y.astype(np.int8)),
    }[kind]
    expected = measure(network, PARAMS, (X, Y), loss=cross_entropy)
    found = measure(network, PARAMS, batches, loss=cross_entropy)
    chex.assert_trees_all_close(summary(found), summary(expected), rtol=1e-5)


@pytest.mark.parametrize("shape", [(32,), (32, 1)])
@pytest.mark.parametrize("dtype", [bool, int])
def test_one_logit_is_that_of_the_second_of_two_classes(shape, dtype):
    labels = (Y == 1).astype(dtype)

    def f(params, x):
        return network(params, x)[:, :1].reshape(shape)

    def loss(out, y):
        return optax.sigmoid_binary_cross_entropy(out.reshape(-1), y.astype(jnp.float32)).mean()

    m = measure(f, PARAMS, (X, labels), loss=loss)
    expected = target_linearity(moments(jnp.asarray(X), jnp.asarray(labels, jnp.float32)[:, None]))
    np.testing.assert_allclose(m["in"]["target_linearity"], np.asarray(expected), rtol=1e-5)
    right = (np.asarray(f(PARAMS, X)).reshape(-1) > 0) == labels
    np.testing.assert_allclose(m.accuracy, right.mean())


def test_batches_of_several_lengths():
    def loss(out, y):
        return cross_entropy(out, y)

    batches = [(TOKENS[:16], LABELS[:16]), (TOKENS[16:, :3], LABELS[16:, :3])]
    m = measure(network, PARAMS, batches, loss=loss)
    rows = np.concatenate([TOKENS[:16].reshape(-1, 4), TOKENS[16:, :3].reshape(-1, 4)])
    labels = np.concatenate([LABELS[:16].reshape(-1), LABELS[16:, :3].reshape(-1)])
    np.testing.assert_allclose(m["in"]["target_linearity"], linearity(rows, labels), rtol=1e-5)
    pooled = [(TOKENS[:16], Y[:16]), (TOKENS[16:, :3], Y[16:])]

    def pool(params, x):
        return network(params, x).mean(1)

    m = measure(pool, PARAMS, pooled, loss=loss, positions="mean")
    rows = np.concatenate([TOKENS[:16].mean(1), TOKENS[16:, :3].mean(1)])
    np.testing.assert_allclose(m["in"]["target_linearity"], linearity(rows, Y), rtol=1e-5)
    with pytest.raises(ValueError, match=r"of different widths \(in: 24 and 12"):
        measure(pool, PARAMS, pooled, loss=loss)


def test_float64_targets_keep_their_digits_and_inputs_are_not_cut():
    targets = (X @ PARAMS["in"]).astype(np.float64)
    expected = measure(lambda p, x: x @ p["in"], PARAMS, (X, targets), loss=squares)
    offset = measure(lambda p, x: x @ p["in"], PARAMS, (X, targets + 1e8), loss=squares)
    assert offset["in"]["target_linearity"] == pytest.approx(1, abs=1e-6)
    assert expected["in"]["target_linearity"] == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="x of batches has a column of mean .* float32 holds"):
        measure(network, PARAMS, (X.astype(float) + 1e8, Y), loss=cross_entropy)


def squares(out, y):
    return ((out - y) ** 2).mean()


def test_what_cannot_be_read_is_said_in_one_line():
    def call(batches, **options):
        measure(network, PARAMS, batches, **{"loss": cross_entropy, **options})

    with pytest.raises(TypeError, match="batches is a dict: wanted a pair of arrays"):
        call({"x": X, "y": Y})
    with pytest.raises(TypeError, match=r"batches\[0\] is a dict: wanted pairs .* inputs="):
        call([{"x": X, "y": Y}])
    with pytest.raises(ValueError, match="y of batches is a tuple: wanted an array .* a list"):
        call(((X, Y), (X, Y)))
    with pytest.raises(ValueError, match="y of batches is a dict: wanted an array"):
        call((X, {"labels": Y}))
    with pytest.raises(ValueError, match=r"x of batches\['key'\] is a scalar"):
        call(({"x": X, "key": jax.random.key(0)}, Y))
    with pytest.raises(TypeError, match="x of batches is a ndarray of str32: wanted arrays of num"):
        call((np.array(["a"] * 32), Y))
    with pytest.raises(ValueError, match="weights of batches has shape .3,.: wanted .32,."):
        call((X, Y, np.ones(3)))
    with pytest.raises(ValueError, match="weights of batches has negative, inf"):
        call((X, Y, -np.ones(32)))
    with pytest.raises(ValueError, match="outputs gives dict for labels .32,.: wanted an array"):
        measure(lambda p, x: {"a": network(p, x)}, PARAMS, (X, Y),
                loss=lambda out, y: cross_entropy(out["a"], y))  # fmt: skip


def test_what_would_be_cut_or_dropped_is_refused():
    """Labels that wrap, imaginary parts, masks, and weights beyond float32: no number without."""

    def call(y=Y, weights=None, x=X, **options):
        data = (x, y) if weights is None else (x, y, weights)
        with np.errstate(over="ignore"):
            measure(network, PARAMS, data, **{"loss": cross_entropy, **options})

    with pytest.raises(ValueError, match="y of batches has the value 42949672.*int32 holds"):
        call(Y.astype(np.int64) + 2**32)
    with pytest.raises(ValueError, match="y of batches is of complex128: wanted labels, or real"):
        call(Y + 1j)
    masked = np.ma.masked_array(X, mask=np.arange(X.size).reshape(X.shape) % 7 == 0)
    with pytest.raises(ValueError, match="x of batches has masked entries: .* weights of 0"):
        call(x=masked)
    with pytest.raises(ValueError, match="weights of batches has negative, infinite or NaN"):
        call(weights=np.where(Y == 0, np.inf, 1))
    with pytest.raises(ValueError, match="weights of batches has entries that float32 takes for 0"):
        call(weights=np.full(32, 1e-50))
    with pytest.raises(ValueError, match="weights of batches is of complex128: wanted real"):
        call(weights=np.ones(32) + 1j)
    with pytest.raises(TypeError, match="x of batches is a ndarray of .*: wanted arrays of num"):
        call(x=X.astype(np.longdouble))
    one_hot = np.eye(3)[Y]
    with pytest.raises(ValueError, match=r"weights of batches has shape .32, 3.: wanted .32,.,"):
        call(one_hot, np.ones((32, 3)), loss=squares)
    with pytest.raises(ValueError, match="ignore_label is -100 where targets are real numbers"):
        call(one_hot, ignore_label=-100, loss=squares)
    with pytest.raises(
        ValueError, match=r"for labels .32, 1.: .* labels of other axes by targets="
    ):
        call(Y[:, None], loss=lambda out, y: cross_entropy(out, y[:, 0]))
    with pytest.raises(TypeError, match=r"^batches\[0\]\[.name.\] is a str of str"):
        call_of = {"loss": lambda out, batch: cross_entropy(out, batch["y"])}
        batch = {"x": X, "y": Y, "name": "train"}
        measure(network, PARAMS, [batch], inputs=lambda b: b["x"], **call_of)


def test_masks_and_numbers_of_any_kind():
    """Weights of bool; lists and tuples of NumPy's numbers, of which a loader makes batches."""
    real, mask = np.eye(3, dtype=np.float32)[Y], Y > 0

    def loss(out, y, weights):
        return (((out - y) ** 2).mean(1) * weights).sum() / weights.sum()

    found = measure(network, PARAMS, (X, real, mask), loss=loss, metrics=["target_linearity"])
    expected = target_linearity(moments(jnp.asarray(X[mask]), jnp.asarray(real[mask])))
    np.testing.assert_allclose(found["in"]["target_linearity"], np.asarray(expected), rtol=1e-5)
    rows = [tuple(row) for row in X]
    m = measure(network, PARAMS, (rows, tuple(Y)), loss=cross_entropy, metrics=["target_linearity"])
    np.testing.assert_allclose(m["in"]["target_linearity"], linearity(X, Y), rtol=1e-5)
