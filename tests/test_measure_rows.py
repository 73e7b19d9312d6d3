"""What ``measure`` takes for the rows of a layer that reads positions, patches or tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import Measurement, measure
from gramlin_jax.taps.rows import other_places, positions_of

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(30, 4, 3)).astype(np.float32) + 1
Y = RNG.normal(size=(30, 2)).astype(np.float32)
KERNEL = {"k": RNG.normal(size=(3, 2)).astype(np.float32)}
METRICS = ["target_linearity", "surrogate"]


def squares(out, y):
    return ((out - y) ** 2).mean()


def pooled(params, x):
    return (x @ params["k"]).mean(1)


def plain(h, y):
    """Target linearity of rows h (n, d), in float64."""
    h, y = (np.float64(a) - np.mean(a, 0, dtype=float) for a in (h, y))
    residual = y - h @ np.linalg.lstsq(h, y, rcond=None)[0]
    return 1 - (residual**2).sum() / (y**2).sum()


def test_positions_side_by_side_are_not_what_the_kernel_multiplies():
    flat = measure(pooled, KERNEL, (TOKENS, Y), loss=squares, metrics=METRICS)
    assert np.isnan(flat["k"]["surrogate"])
    rows = TOKENS.reshape(30, 12)
    np.testing.assert_allclose(flat["k"]["target_linearity"], plain(rows, Y), rtol=1e-6)


def test_mean_positions_are():
    mean = measure(pooled, KERNEL, (TOKENS, Y), loss=squares, metrics=METRICS, positions="mean")
    h, y = TOKENS.mean(1, dtype=float), Y - Y.mean(0, dtype=float)
    np.testing.assert_allclose(mean.sums["k"].moments.feature_mean, h.mean(0), rtol=1e-6)
    z = h @ KERNEL["k"]
    expected = ((z.T @ y) ** 2).sum() / ((z**2).sum() * (y**2).sum())
    np.testing.assert_allclose(mean["k"]["surrogate"], expected, rtol=1e-5)


ALIGNMENTS = ["rga_before", "rwa_before", "gwa_before", "rga_after", "rwa_after", "gwa_after"]


@pytest.mark.parametrize("positions", ["mean", 0])
def test_features_of_some_rows_are_not_compared_with_gradients_of_all(positions, tmp_path):
    """Of one position a sample, the mean and the first are all rows."""
    options = {"loss": squares, "metrics": ALIGNMENTS}
    several, single = (
        measure(pooled, KERNEL, (x, Y), positions=positions, **options)
        for x in (TOKENS, TOKENS[:, :1])
    )
    assert np.isnan(list(several["k"].values())).all()
    plain = measure(pooled, KERNEL, (TOKENS[:, :1], Y), **options)
    assert single["k"] == plain["k"] and np.isfinite(list(plain["k"].values())).all()
    several.save(tmp_path / "m.npz")
    assert Measurement.load(tmp_path / "m.npz").sums["k"].pooled


def test_labelled_tokens_are_all_rows():
    """Both products by the definition, from the rows of all tokens."""
    y = RNG.normal(size=(30, 4, 2)).astype(np.float32)
    labels = (y[..., 0] > 0).astype(int)

    def loss(out, labels):
        return ((out - jax.nn.one_hot(labels, 2)) ** 2).mean()

    found = measure(
        lambda p, x: x @ p["k"], KERNEL, (TOKENS, labels), loss=loss, metrics=["rga_after"]
    )
    z = TOKENS.reshape(-1, 3).astype(float) @ KERNEL["k"]
    delta = z - np.eye(2)[labels.reshape(-1)]
    one, other = z.T @ z, delta.T @ delta
    expected = (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)
    np.testing.assert_allclose(found["k"]["rga_after"], expected, rtol=1e-5)


def test_a_convolution_does_not_read_its_map():
    """Not even if the map has as many numbers as the window: the rows are patches."""
    images, kernel = TOKENS[:, :3, :, None], {"k": RNG.normal(size=(3, 3, 1, 2))}

    def network(params, x):
        layout = jax.lax.conv_dimension_numbers(x.shape, (3, 3, 1, 2), ("NHWC", "HWIO", "NHWC"))
        k = params["k"].astype(x.dtype)
        z = jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=layout)
        return jnp.tanh(z).mean((1, 2))

    found = measure(network, kernel, (images, Y), loss=squares, metrics=METRICS)
    assert found.sums["k"].kernel.shape == (9, 2), "as wide as the map"
    assert np.isnan(found["k"]["surrogate"])
    rows = images.reshape(30, 9)
    np.testing.assert_allclose(found["k"]["target_linearity"], plain(rows, Y), rtol=1e-6)


def turned(params, x):
    """The features of each sample are those of another one."""
    return jnp.roll(x, 1, axis=0) @ params["k"] if x.ndim == 2 else x[::-1].mean(1) @ params["k"]


def merged(params, x):
    """Time is the slow index of the merged axis."""
    n, time, width = x.shape
    return (x.swapaxes(0, 1).reshape(-1, width) @ params["k"]).reshape(time, n, -1).mean(0)


def test_samples_change_places_as_no_layer_would_put_them():
    for n in range(2, 50):
        to = other_places(n)
        for order in (np.arange(n)[::-1], *(np.roll(np.arange(n), k) for k in range(1, n))):
            assert (to[order] != order[to]).any()


@pytest.mark.parametrize("f", [turned, merged])
@pytest.mark.parametrize("n", [2, 3, 30])
def test_rows_of_other_samples_are_not_measured(f, n):
    for x in (TOKENS[:n], TOKENS[:n, 0]) if f is turned else (TOKENS[:n],):
        found = measure(f, KERNEL, (x, Y[:n]), loss=squares, metrics=METRICS)
        assert "do not follow when samples change places" in dict(found.notes)["k"]
        assert np.isnan(found["k"]["target_linearity"])


def test_a_first_batch_that_shows_too_little():
    """One sample owns all rows, and equal ones cannot be told apart: later batches can be wrong."""
    batches = [(TOKENS[:1], Y[:1]), (TOKENS[1:], Y[1:])]
    with pytest.raises(ValueError, match="first batch has a size of 1, .* rows of k: wanted 3 sam"):
        measure(merged, KERNEL, batches, loss=squares, metrics=METRICS)
    found = measure(pooled, KERNEL, batches, loss=squares, metrics=METRICS)
    expected = plain(TOKENS.reshape(30, 12), Y)
    np.testing.assert_allclose(found["k"]["target_linearity"], expected, rtol=1e-6)
    singles = [(TOKENS[i : i + 1], Y[i : i + 1]) for i in range(30)]
    for f in (merged, pooled):
        found = measure(f, KERNEL, singles, loss=squares, metrics=METRICS)
        np.testing.assert_allclose(found["k"]["target_linearity"], expected, rtol=1e-6)
    dummy = [(np.zeros_like(TOKENS[:9]), Y[:9]), *batches]
    found = measure(merged, KERNEL, dummy, loss=squares, metrics=METRICS)
    assert "no two different samples" in dict(found.notes)["k"]


def test_samples_with_a_large_offset_follow_in_float64():
    with jax.enable_x64(True):
        data = TOKENS[:, 0].astype(float) + 1e8, Y.astype(float)
        kernel = {"k": KERNEL["k"].astype(float)}
        found = measure(lambda p, x: x @ p["k"], kernel, data, loss=squares, metrics=METRICS)
    expected = plain(TOKENS[:, 0], Y)
    np.testing.assert_allclose(found["k"]["target_linearity"], expected, rtol=1e-5)


def test_a_layer_with_other_positions_than_labels_is_not_measured():
    pairs, labels = TOKENS[:, :2], RNG.integers(0, 2, (30, 2))
    params = {**KERNEL, "out": KERNEL["k"]}

    def tagger(params, x):
        return x["pairs"] @ params["out"] + pooled(params, x["tokens"])[:, None]

    def hinge(out, y):
        return jnp.where(y[..., None] == jnp.arange(2)[None, None], 1 - out, 1 + out).mean()

    batch = {"tokens": TOKENS, "pairs": pairs}, labels
    found = measure(tagger, params, batch, loss=hinge, metrics=METRICS)
    assert dict(found.notes) == {"k": "features not measured: 4 positions a sample, 2 labels"}
    assert found.sums["k"].moments is None and found.sums["out"].moments.count == 60


def test_one_hot_rows_of_whole_numbers_are_asked_about():
    rows = np.eye(2, dtype=int)[RNG.integers(0, 2, 30)]
    layer, x = {"out": KERNEL["k"]}, TOKENS[:, 0]
    found = measure(lambda p, x: x @ p["out"], layer, (x, rows), loss=squares, metrics=METRICS)
    (note,) = [text for name, text in found.notes if name == "out"]
    assert "2 labels (are they one-hot rows?" in note
    assert "of one-hot rows" in dict(found.notes)["accuracy"]
    rows[0] = 0, 0
    found = measure(lambda p, x: x @ p["out"], layer, (x, rows), loss=squares, metrics=METRICS)
    assert "accuracy" not in dict(found.notes), "labels of two questions"


def test_padding_does_not_tell_where_tokens_are():
    """Tokens turned round within their lengths: padding stays, and has no say."""
    tokens = np.concatenate([TOKENS, TOKENS[::-1]], 1)[:, :6]
    lengths = RNG.integers(2, 4, 30).astype(np.int32)
    labels = np.where(np.arange(6)[None] < lengths[:, None], RNG.integers(0, 2, (30, 6)), -100)

    def backwards(params, x):
        tokens, lengths = x
        at = jnp.arange(6)[None]
        turned = jnp.where(at < lengths[:, None], lengths[:, None] - 1 - at, at)
        return jnp.take_along_axis(tokens, turned[..., None], axis=1) @ params["k"]

    def loss(out, y):
        return jnp.where(y >= 0, out[..., 0] ** 2, 0).mean()

    data = (tokens, lengths), labels
    found = measure(backwards, KERNEL, data, loss=loss, metrics=METRICS, ignore_label=-100)
    assert "which of their rows belongs to which label is not clear" in dict(found.notes)["k"]


@pytest.mark.parametrize(
    ("changes", "order"),
    [
        (np.eye(3), (0, 1, 2)),
        (np.eye(3)[::-1], (2, 1, 0)),
        (np.eye(3)[::-1] * 0.1 + 0.9, (2, 1, 0)),  # all rows change, one of them most
        (np.full((3, 3), 0.2) + 0.6 * np.eye(3), (0, 1, 2)),
        (np.array([[1, 0, 0], [0, 1, 0], [0.6, 0, 0.4]]), (0, 1, 2)),  # most are in their own
        (np.array([[1, 0.2, 0], [1, 0.2, 0], [0, 0, 1]]), (0, 1, 2)),
        (np.array([[0, 1, 0], [0, 0, 1], [0, 0, 1]]), None),
        (np.full((3, 3), 0.3) + 0.1 * np.eye(3)[::-1], None),  # another order in each sample
        (np.full((3, 3), 0.3) + 0.1 * np.eye(3), None),
    ],
)
def test_the_row_of_a_position_is_the_one_it_changes_most_in_all_samples(changes, order):
    assert positions_of(changes) == order


def test_a_batch_of_another_size_has_the_same_layers():
    def by_size(params, x):
        return x[:, 0] @ params["a" if len(x) == 20 else "b"]

    params = {"a": KERNEL["k"], "b": KERNEL["k"]}
    batches = [(TOKENS[:20], Y[:20]), (TOKENS[20:], Y[20:])]
    with pytest.raises(ValueError, match="f has the layers b for a batch of 10 samples and a for"):
        measure(by_size, params, batches, loss=squares, metrics=["kernel_norm"])
