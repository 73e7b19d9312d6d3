import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import MODEL, init, toy, train

from gramlin_jax.training import WarnOfDivergence, classification_loss, hits


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_reported(label):
    x, y = toy()
    y[7] = label
    with pytest.warns(RuntimeWarning, match="loss of run 0 is NaN.*labels out of range"):
        assert np.isnan(train((x, y), epochs=1, hooks=[WarnOfDivergence()]).history["loss"]).all()


def test_inputs_of_the_wrong_type():
    x, y = toy()
    with pytest.raises(TypeError, match="x has dtype uint8.*divide pixels by 255"):
        train(((x > 0).astype(np.uint8), y))
    with pytest.raises(TypeError, match=r"labels are float32\[16, 3\]: wanted integers"):
        train((x, np.eye(3, dtype=np.float32)[y]))


X, Y = toy(2)


@pytest.mark.parametrize(
    "batch", [{"x": X, "y": Y}, (X, Y, Y), X, [(X, Y), (X, Y)], [(X, Y)] * 3], ids=str
)
def test_batches_of_another_form_are_named(batch):
    loss = classification_loss(MODEL.apply)
    with pytest.raises(TypeError, match=r"batch has shapes .*: wanted a pair of arrays \(x, lab"):
        loss(init(jax.random.key(0)), batch, None, {})


@pytest.mark.parametrize("n", [16, 2])  # two rows of logits unpack as if they were a pair
def test_logits_alone_are_refused(n):
    x, y = toy(n)
    loss = classification_loss(lambda params, x: MODEL.apply(params, x)[0])
    with pytest.raises(TypeError, match=rf"apply returned shapes \({n}, 3\): wanted \(logits"):
        loss(init(jax.random.key(0)), (x, y), None, {})


def test_features_before_logits_are_refused():
    loss = classification_loss(lambda params, x: MODEL.apply(params, x)[::-1])
    with pytest.raises(TypeError, match=r"wanted \(logits \(n, C\), features\)"):
        loss(init(jax.random.key(0)), toy(), None, {})


def test_one_hot_labels_have_no_hits():
    with pytest.raises(ValueError, match=r"labels has shape \(3, 3\) and logits without classes"):
        hits(jnp.eye(3), jnp.eye(3))


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_strict_promotion_of_types(dtype):
    x, y = toy()
    plain = train((x, y.astype(dtype)), epochs=1)
    with jax.numpy_dtype_promotion("strict"):
        strict = train((x, y.astype(dtype)), epochs=1)
    assert strict.history["accuracy"] == plain.history["accuracy"]
