import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import (
    GradientMoments,
    Tap,
    backward,
    feature_learning_sides,
    gradient_moments,
    gram_change,
    input_gradients,
    virtual_alignment,
    virtual_covariance,
    virtual_covariance_of,
    virtual_update,
    weight_gram,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5))
Y = RNG.normal(size=(40, 2))
PARAMS = {"in": RNG.normal(size=(5, 7)), "out": RNG.normal(size=(7, 2))}
RATE = 0.3


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def network(params, x):
    return jnp.tanh(x @ params["in"]) @ params["out"]


def loss(out):
    return ((out - Y) ** 2).mean()


@pytest.fixture(scope="module")
def passed():
    with jax.enable_x64(True):
        return backward(network, PARAMS, X, loss=loss), gradient_moments(
            network, PARAMS, X, loss=loss
        )


@pytest.mark.parametrize("layer", ["in", "out"])
def test_both_forms_are_the_difference_of_two_covariances(passed, layer):
    forward, moments = passed
    tap, delta = forward.taps[layer], forward.output_gradients[layer]
    g = input_gradients(tap.kernel, delta)
    moved = virtual_update(tap.inputs, g, RATE)
    difference = moved.T @ moved - tap.inputs.T @ tap.inputs
    plain = virtual_covariance_of(tap.inputs, g, RATE)
    streamed = virtual_covariance(tap.kernel, moments[layer], RATE)
    np.testing.assert_allclose(plain, difference, rtol=0, atol=1e-13 * np.abs(difference).max())
    np.testing.assert_allclose(streamed, plain, rtol=0, atol=1e-13 * np.abs(plain).max())
    assert np.linalg.matrix_rank(plain) <= 2 * tap.kernel.shape[1]


@pytest.mark.parametrize("layer", ["in", "out"])
def test_a_step_of_gradient_descent_changes_the_gram_by_the_virtual_covariance(passed, layer):
    """ΔGram − VC = η²(∇∇ᵀ − gᵀg), with ∇ from autodiff."""
    forward, moments = passed
    kernel = PARAMS[layer]
    gradient = jax.grad(lambda p: loss(network(p, X)))(PARAMS)[layer]
    g = input_gradients(kernel, forward.output_gradients[layer])
    change = gram_change(kernel, kernel - RATE * gradient)
    residual = change - virtual_covariance(kernel, moments[layer], RATE)
    expected = RATE**2 * (gradient @ gradient.T - g.T @ g)
    np.testing.assert_allclose(residual, expected, rtol=0, atol=1e-12 * np.abs(change).max())


def test_to_first_order_the_two_are_one(passed):
    _, moments = passed
    kernel = PARAMS["in"]
    gaps = []
    for rate in (1e-2, 1e-3, 1e-4):
        change = gram_change(kernel, kernel - rate * moments["in"].kernel_gradient)
        gaps.append(1 - virtual_alignment(change, virtual_covariance(kernel, moments["in"], rate)))
    assert gaps[2] < 1e-6
    np.testing.assert_allclose(gaps[1] / gaps[2], 100, rtol=0.1)  # 1 − cos is of second order


def test_gram_change_keeps_the_digits_of_a_small_step():
    kernel, direction = RNG.normal(size=(5, 7)), RNG.normal(size=(5, 7))
    first_order = kernel @ direction.T + direction @ kernel.T
    change = gram_change(kernel, kernel + 2.0**-40 * direction)
    np.testing.assert_allclose(change * 2.0**40, first_order, rtol=1e-3)
    after = kernel + direction
    plain = weight_gram(after) - weight_gram(kernel)
    np.testing.assert_allclose(gram_change(kernel, after), plain, atol=1e-13)


@pytest.mark.long
def test_stacks_are_mapped_over(passed):
    forward, moments = passed
    twice = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), forward.taps["in"])
    delta = jnp.stack([forward.output_gradients["in"]] * 2)
    left, right = feature_learning_sides(twice, delta)
    np.testing.assert_allclose(left, right, rtol=1e-11)
    np.testing.assert_allclose(left[1], 4 * left[0], rtol=1e-14)
    m = moments["in"]
    stacked = GradientMoments(m.count, *(jnp.stack([a, a]) for a in (m.kernel_sum, m.output_sum)))
    both = virtual_covariance(twice.kernel, stacked, RATE)
    single = virtual_covariance(2 * PARAMS["in"], m, RATE)
    np.testing.assert_allclose(both[1], single, rtol=1e-11)
    assert virtual_alignment(both, both).shape == (2,)


def test_float32_without_the_flag_is_right_to_its_rounding(passed):
    _, wide = passed
    exact = virtual_covariance(PARAMS["in"], wide["in"], RATE)
    with jax.enable_x64(False):
        params, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (PARAMS, X))

        @jax.jit
        def step(params, x):
            m = gradient_moments(network, params, x, loss=lambda o: ((o - Y) ** 2).mean())
            return virtual_covariance(params["in"], m["in"], RATE)

        narrow = step(params, x)
        assert narrow.dtype == np.dtype("float64")
        mapped = jax.vmap(lambda k: virtual_covariance(k, wide["in"], RATE))(params["in"][None])
    np.testing.assert_allclose(narrow, exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    np.testing.assert_allclose(mapped[0], exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_alignment_is_a_cosine():
    a = RNG.normal(size=(4, 4))
    assert abs(virtual_alignment(a, 1e-200 * a) - 1) < 1e-14
    assert abs(virtual_alignment(a, -3 * a) + 1) < 1e-14
    assert jnp.isnan(virtual_alignment(a, 0 * a))
    assert jnp.isnan(virtual_alignment(a, jnp.full((4, 4), jnp.nan)))


def test_bad_input(passed):
    forward, moments = passed
    tap, delta = forward.taps["in"], forward.output_gradients["in"]
    with pytest.raises(ValueError, match="input_gradients.*same shape"):
        virtual_update(X, X[:, :2], RATE)
    with pytest.raises(ValueError, match="input_gradients.*same shape"):
        virtual_covariance_of(X, X[:3], RATE)
    with pytest.raises(ValueError, match=r"output_gradients has shape \(\) and kernel"):
        input_gradients(tap.kernel, 1.0)
    with pytest.raises(ValueError, match="output_gradients has shape .40, 2.*wanted"):
        feature_learning_sides(tap, forward.output_gradients["out"])
    with pytest.raises(TypeError, match="output_gradients has dtype int"):
        feature_learning_sides(tap, jnp.ones((40, 7), int))
    with pytest.raises(ValueError, match="tap has no kernel.*: wanted the tap of a linear site"):
        feature_learning_sides(Tap(X), delta)
    with pytest.raises(ValueError, match="kernel has shape .7, 2. and gradients.kernel_gradient"):
        virtual_covariance(PARAMS["out"], moments["in"], RATE)
    with pytest.raises(ValueError, match="before has shape .* and after"):
        gram_change(PARAMS["in"], PARAMS["out"])
    with pytest.raises(ValueError, match="kernel has shape .5,.: wanted"):
        input_gradients(jnp.ones(5), delta)
    with pytest.raises(TypeError, match="inputs has dtype int.*wanted floating point"):
        virtual_update(jnp.ones((2, 2), int), jnp.ones((2, 2), int), RATE)  # 0.1 as an integer is 0
    with pytest.raises(TypeError, match="input_gradients has dtype int.*wanted floating point"):
        virtual_covariance_of(X, jnp.ones(X.shape, int), RATE)
    with pytest.raises(TypeError, match="output_gradients has dtype int"):
        input_gradients(jnp.eye(2), jnp.ones((3, 2), int))
    for call in (virtual_update, virtual_covariance_of):
        with pytest.raises(ValueError, match="learning_rate has shape .5,.: wanted a number"):
            call(X, X, np.full(X.shape[1], 0.1))
        with pytest.raises(ValueError, match="inputs has shape ..: wanted"):
            call(1.0, 1.0, RATE)
        with pytest.raises(ValueError, match="learning_rate is 'a': wanted a number"):
            call(X, X, "a")
        with pytest.raises(ValueError, match="learning_rate is nan: wanted a finite number"):
            call(X, X, jnp.nan)
    with pytest.raises(ValueError, match="learning_rate has shape .*: wanted a number"):
        virtual_covariance(PARAMS["in"], moments["in"], np.ones(2))
    with pytest.raises(ValueError, match="gram_change has shape .2,.: wanted .i, i."):
        virtual_alignment(jnp.ones(2), jnp.ones(2))
    with pytest.raises(TypeError, match="before has dtype int"):
        gram_change(jnp.ones((2, 2), int), jnp.ones((2, 2), int))


def test_the_square_of_a_small_learning_rate_is_taken_in_float64():
    x, g = np.eye(2, dtype=np.float32), 1e20 * np.eye(2, dtype=np.float32)
    rate = np.float32(1e-25)
    expected = -2 * np.float64(rate) * 1e20 + np.float64(rate) ** 2 * 1e40
    for call in (virtual_covariance_of, jax.jit(virtual_covariance_of)):
        np.testing.assert_allclose(np.diagonal(call(x, g, rate)), expected, rtol=1e-6)
    large = np.float32(1e25)
    value = virtual_covariance_of(x, np.eye(2, dtype=np.float32) * 1e-10, large)[0, 0]
    np.testing.assert_allclose(value, 1e30, rtol=1e-6)


@pytest.mark.parametrize(("x", "g", "rate"), [(0.01, 6e4, 1e-8), (-6e4, -6e4, 2.0), (0, 1, 3e-3)])
def test_a_step_in_half_precision_is_rounded_once(x, g, rate):
    x, g = np.float16([[x]]), np.float16([[g]])
    found = virtual_update(x, g, rate)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, np.float16(x.astype(float) - rate * g.astype(float)))
