import jax
import numpy as np
import pytest

from gramlin_jax import weight_gram


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5)])
def test_is_symmetric_of_right_rank_and_blind_to_rotations_of_the_output(shape):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=shape)
    rotation = np.linalg.qr(rng.normal(size=(shape[1],) * 2))[0]
    with jax.enable_x64(True):
        gram, turned = weight_gram(kernel), weight_gram(kernel @ rotation)
    np.testing.assert_allclose(gram, kernel @ kernel.T, atol=1e-14)
    np.testing.assert_allclose(turned, gram, atol=1e-13)
    assert np.linalg.matrix_rank(gram) == min(shape)


def test_under_jit_and_vmap():
    kernels = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    expected = np.stack([weight_gram(kernel) for kernel in kernels])
    np.testing.assert_allclose(jax.jit(jax.vmap(weight_gram))(kernels), expected, rtol=1e-6)


def test_bad_input():
    with pytest.raises(ValueError, match=r"kernel has shape \(3, 3, 2, 4\): wanted \(i, o\)"):
        weight_gram(np.ones((3, 3, 2, 4)))
    with pytest.raises(ValueError, match="kernel has 1 values"):
        weight_gram(np.array([[1.0, np.nan]]))
