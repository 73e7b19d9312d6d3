import jax
import numpy as np
import pytest

from gramlin_jax.data import label_noise, noisy_labels

LABELS = np.arange(4000) % 10
NOISE = label_noise(len(LABELS), 10)
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


def test_noise_is_nested_and_of_the_share():
    replaced = [np.asarray(noisy_labels(LABELS, NOISE, share)) for share in SHARES]
    np.testing.assert_array_equal(replaced[0], LABELS)
    np.testing.assert_array_equal(replaced[-1], NOISE.replacements)
    for share, labels in zip(SHARES, replaced, strict=True):
        assert np.count_nonzero(NOISE.ranks < np.float32(share)) == round(share * len(LABELS))
        assert labels.min() >= 0 and labels.max() <= 9
    for less, more in zip(replaced, replaced[1:], strict=False):
        changed = less != LABELS
        np.testing.assert_array_equal(more[changed], less[changed])


def test_replacements_are_uniform_and_independent_of_labels():
    pairs = np.zeros((10, 10))
    np.add.at(pairs, (LABELS, NOISE.replacements), 1)
    expected = len(LABELS) / 100
    assert ((pairs - expected) ** 2 / expected).sum() < 150  # chi-squared with 99 degrees


def test_one_program_serves_all_shares():
    many = jax.jit(jax.vmap(noisy_labels, (None, None, 0)))
    labels = many(LABELS, NOISE, np.float32(SHARES))
    for share, row in zip(SHARES, labels, strict=True):
        np.testing.assert_array_equal(row, noisy_labels(LABELS, NOISE, share))


def test_a_batch_is_a_selection():
    rows = np.array([5, 17, 3])
    batch = jax.tree.map(lambda a: a[rows], NOISE)
    np.testing.assert_array_equal(
        noisy_labels(LABELS[rows], batch, 0.5), noisy_labels(LABELS, NOISE, 0.5)[rows]
    )


def test_seeds_differ():
    again, other = label_noise(50, 10), label_noise(50, 10, seed=1)
    first = label_noise(50, 10)
    np.testing.assert_array_equal(first.ranks, again.ranks)
    assert (first.ranks != other.ranks).any() and (first.replacements != other.replacements).any()


def test_labels_of_any_integer_type_under_strict_promotion():
    noise, labels = label_noise(20, 5), np.arange(20) % 5
    with jax.numpy_dtype_promotion("strict"):
        for dtype in ("uint8", "int16", "int32"):
            replaced = noisy_labels(labels.astype(dtype), noise, 0.3)
            wanted = np.where(noise.ranks < np.float32(0.3), noise.replacements, labels)
            np.testing.assert_array_equal(replaced, wanted)


def test_bad_input():
    for share in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"share is .*: wanted a share between 0 and 1"):
            noisy_labels(LABELS, NOISE, share)
    for share, wanted in ((float("nan"), "nan: wanted a finite"), ("0.5", "'0.5': wanted a")):
        with pytest.raises(ValueError, match=f"share is {wanted} number"):
            noisy_labels(LABELS, NOISE, share)
    with pytest.raises(ValueError, match=r"labels has shape \(3,\) and noise \(4000,\)"):
        noisy_labels(LABELS[:3], NOISE, 0.5)
    with pytest.raises(TypeError, match="labels has dtype float32: wanted integers"):
        noisy_labels(np.float32(LABELS), NOISE, 0.5)
    with pytest.raises(ValueError, match="n is 0: wanted at least 1"):
        label_noise(0, 10)
    with pytest.raises(ValueError, match="num_classes is 1: wanted at least 2"):
        label_noise(5, 1)
