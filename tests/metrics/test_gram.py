import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compilations

import gramlin_jax.metrics.rotation as rotation_module
from gramlin_jax import weight_gram
from gramlin_jax.metrics.gram import gram_only_step, gram_only_step_in_basis, polar_factor
from gramlin_jax.metrics.rotation import first_basis

pytestmark = pytest.mark.runs  # what optimisers compute in each step
POLAR = jax.jit(polar_factor, static_argnames=("method", "tolerance"))
STEP = jax.jit(gram_only_step)
SHAPES = (24, 24), (40, 16), (16, 18), (16, 40)  # square, tall, a little wide, wide
GRAM_ERROR = {"float32": 1e-6, "float64": 1e-12}


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def with_singular_values(values, shape):
    """A matrix of random singular vectors, and its polar factor."""
    u, _, vt = np.linalg.svd(normal(shape), full_matrices=False)
    return (u * values) @ vt, u @ vt


def gram_error(kernel, wanted):
    kernel, wanted = (np.asarray(k, np.float64) for k in (kernel, wanted))
    gram = wanted @ wanted.T
    return np.linalg.norm(kernel @ kernel.T - gram) / np.linalg.norm(gram)


def least_distance(before, after):
    """‖K₁ − K₂Qᵀ‖ at the best Q, where tr(K₁ᵀK₂Qᵀ) is the sum of K₁ᵀK₂'s singular values."""
    cross = np.linalg.svd(before.T @ after, compute_uv=False).sum()
    return max(np.sum(before**2) + np.sum(after**2) - 2 * cross, 0) ** 0.5


def rotation(size, angle):
    """An orthogonal matrix, of about that distance from the identity in every direction."""
    skew = angle * normal((size, size)) / size**0.5
    skew = skew - skew.T
    return np.linalg.solve(np.eye(size) + skew, np.eye(size) - skew)


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


@pytest.mark.parametrize("shape", [(20, 20), (8, 20), (20, 8)])
def test_polar_factor_is_that_of_the_svd(shape):
    with jax.enable_x64(True):
        for condition in 1.5, 1e3, 1e8:
            spectrum = np.geomspace(1 / condition, 1, min(shape))
            a, expected = with_singular_values(spectrum, shape)
            for method in "newton_schulz", "svd":
                r = np.asarray(POLAR(a * 1e30, method=method))
                np.testing.assert_allclose(r, expected, atol=1e-14 * condition + 1e-13)
                small = r if shape[0] < shape[1] else r.T
                np.testing.assert_allclose(small @ small.T, np.eye(min(shape)), atol=1e-14)


def test_polar_factor_keeps_its_type_and_stops_at_its_tolerance():
    a, expected = with_singular_values(np.geomspace(1e-4, 1, 20), (20, 20))
    single = POLAR(a.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.T @ single, np.eye(20), atol=1e-6)
    np.testing.assert_allclose(single, expected, atol=2e-3)  # rounding of a / its least singular
    with jax.enable_x64(True):
        factors = [np.asarray(POLAR(a, tolerance=tolerance)) for tolerance in (0.5, 1e-30)]
    coarse, fine = (np.linalg.norm(np.eye(20) - r.T @ r) for r in factors)
    assert 0.5 > coarse > 1e-6
    assert fine < 1e-14


def test_polar_factor_where_it_is_not_unique():
    with jax.enable_x64(True):
        a, _ = with_singular_values(np.r_[np.linspace(0.1, 1, 9), np.zeros(11)], (20, 20))
        a = a * (np.arange(20) < 17)  # columns of zeros, too
        u, s, vt = np.linalg.svd(a)
        kept = s > 1e-10
        for method in "newton_schulz", "svd":
            r = np.asarray(POLAR(a, method=method))
            np.testing.assert_allclose(r @ vt[kept].T, u[:, kept], atol=1e-13)
            assert np.linalg.norm(r, 2) < 1 + 1e-13
        np.testing.assert_array_equal(POLAR(np.zeros((20, 20))), 0)
        assert np.isnan(POLAR(np.full((20, 20), np.nan))).all()


def test_polar_factor_of_the_paper_s_code_where_that_converged(golden):
    numbers = golden("newtonschulz")
    with jax.enable_x64(True):
        for name in "sq", "psd", "tall", "diag":
            r = np.asarray(POLAR(numbers[name]))
            np.testing.assert_allclose(r, numbers[f"{name}_steps30_f64"], atol=1e-12)
    # Ten steps leave the small singular values small.
    assert abs(r - numbers["diag_steps10_f64"]).max() > 0.4


@pytest.mark.parametrize("method", ["newton_schulz", "svd"])
@pytest.mark.long
def test_polar_factor_under_jit_and_vmap(method):
    a = normal((3, 6, 4)).astype(np.float32)
    r = np.asarray(jax.jit(jax.vmap(lambda x: polar_factor(x, method=method)))(a))
    for x, batched in zip(a, r, strict=True):
        u, _, vt = np.linalg.svd(x, full_matrices=False)
        np.testing.assert_allclose(batched, u @ vt, atol=2e-6)
    np.testing.assert_allclose(polar_factor(x, method=method), batched, atol=1e-6)


def kernel_pairs(shape):
    """Kernels before and after: plain steps and what could go wrong with them."""
    before = normal(shape) / shape[0] ** 0.5
    change = normal(shape, 1) / shape[0] ** 0.5
    low_rank = normal((shape[0], 5)) @ normal((5, shape[1]), 1)
    alive = (np.arange(shape[0]) % 4 > 0)[:, None] * (np.arange(shape[1]) % 3 > 0)
    thin = (normal((shape[0], 1), 2) * normal(shape[1], 3)) / shape[0]
    yield "step", before, before + 1e-2 * change
    yield "small step", before, before + 1e-4 * change
    yield "thin step", before, before + 1e-2 * thin
    yield "far apart", before, change
    yield "low rank", low_rank, low_rank * (1 + 0.01 * normal(shape[1]))
    yield "low rank to full", low_rank, low_rank + 0.1 * change
    yield "dead units", before * alive, (before + 1e-2 * change) * alive
    yield (
        "ill-conditioned",
        *(scale * before * np.geomspace(1e-4, 1, shape[0])[:, None] for scale in (1, 1.1)),
    )
    yield "from zero", 0 * before, change
    yield "to tiny", before, 1e-9 * change


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_step_has_the_gram_and_is_nearest(shape, dtype):
    for name, *kernels in kernel_pairs(shape):
        with jax.enable_x64(True):
            before, after = (k.astype(dtype) for k in kernels)
            step = STEP(before, after)
        assert step.dtype == dtype
        assert gram_error(step, after) < GRAM_ERROR[dtype], name
        before, after, step = (np.asarray(k, np.float64) for k in (before, after, step))
        distance, plain = (np.linalg.norm(k - before) for k in (step, after))
        assert distance <= plain * (1 + 1e-6), name
        noise = 1e-5 * np.linalg.norm(before) if dtype == "float32" else 0
        excess = 1e-3 if dtype == "float32" else 1e-7
        assert distance <= least_distance(before, after) * (1 + excess) + excess * plain + noise, (
            name
        )


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[-1]])
def test_step_is_found_for_every_fresh_kernel_and_under_vmap(shape):
    befores = np.random.default_rng(0).uniform(-1, 1, (100, *shape)).astype(np.float32)
    afters = befores + 3e-3 * normal((100, *shape)).astype(np.float32)
    steps = np.asarray(jax.jit(jax.vmap(gram_only_step))(befores, afters))
    errors = [gram_error(*pair) for pair in zip(steps, afters, strict=True)]
    assert np.max(errors) < 3e-7
    assert np.median(errors) < 6e-8  # that of rounding K' to float32
    for before, after, step in zip(befores, afters, steps, strict=True):
        distance, plain = (np.linalg.norm(k - before) for k in (step, after))
        assert distance < 0.9 * plain
        assert distance < 1.002 * least_distance(*np.float64([before, after]))
    np.testing.assert_allclose(STEP(before, after), step, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.long
def test_steps_led_by_a_basis(shape, dtype):
    """A run: small steps, a large one, a turned kernel (the basis is of no use), zero, small ones.

    Each has the Gram and is nearest; at the end the basis has the eigenvectors of KᵀK.
    """
    sizes = np.repeat([3e-3, 1, 1e-3, 0, 3e-3], [12, 1, 2, 1, 12])
    changes = sizes[:, None, None] * normal((len(sizes), *shape), 1)
    turns = np.tile(np.eye(shape[1]), (len(sizes), 1, 1))
    turns[13] = np.linalg.qr(normal((shape[1],) * 2))[0]

    def advance(state, inputs):
        kernel, basis = state
        change, turn = inputs
        before = kernel @ turn
        step, basis = gram_only_step_in_basis(before, before + change, basis)
        return (step, basis), (before, before + change, step)

    with jax.enable_x64(True):
        start = jnp.asarray(normal(shape), dtype)
        state = start, first_basis(start)
        inputs = changes.astype(dtype), turns.astype(dtype)
        run = jax.jit(lambda *args: jax.lax.scan(advance, *args))
        (kernel, basis), steps = jax.device_get(run(state, inputs))
    excess = 2e-3 if dtype == "float32" else 1e-7
    for size, before, after, step in zip(sizes, *steps, strict=True):
        before, after, step = (np.asarray(k, np.float64) for k in (before, after, step))
        assert gram_error(step, after) < GRAM_ERROR[dtype]
        least = least_distance(before, after)
        assert np.linalg.norm(step - before) <= (1 + excess) * least + 1e-7
        if not size:
            np.testing.assert_array_equal(step, before)
    kernel, basis = (np.asarray(a, np.float64) for a in (kernel, basis))
    product = basis.T @ kernel.T @ kernel @ basis
    np.testing.assert_allclose(basis.T @ basis, np.eye(shape[1]), atol=1e-5)
    np.testing.assert_allclose(product - np.diag(np.diag(product)), 0, atol=1)
    assert np.diag(product).max() > 20


@pytest.mark.parametrize("shape", [(8, 1), (24, 2), (6, 6)])
@pytest.mark.long
def test_turned_back_kernels_led_by_a_basis(shape):
    """K₂ = −K₁, or a column of it: symmetric without any rotation, and not nearest."""
    kernel = normal(shape)
    flips = np.ones(shape[1]), -np.ones(shape[1])
    flips[0][0] = -1
    for flip in flips:
        with jax.enable_x64(True):
            step, _ = gram_only_step_in_basis(kernel, kernel * flip, first_basis(kernel))
        np.testing.assert_allclose(step, kernel, atol=1e-5)


@pytest.mark.long
def test_a_basis_leads(monkeypatch):
    """Small steps, one after the other, without the search that they fall back on."""
    monkeypatch.setattr(rotation_module, "_turn", lambda product: (jnp.nan * product, False))
    with jax.enable_x64(True):
        kernel = jnp.asarray(normal((24, 24)))
        start = basis = first_basis(kernel)
        step = jax.jit(gram_only_step_in_basis)
        for change in 3e-3 * normal((40, 24, 24), 1):
            before, after = kernel, kernel + change
            kernel, basis = step(before, after, basis)
            distance = np.linalg.norm(kernel - before)
            assert distance <= (1 + 1e-6) * least_distance(np.asarray(before), np.asarray(after))
        kept, old = (np.asarray(b.T @ kernel.T @ kernel @ b) for b in (basis, start))
    kept, old = (np.linalg.norm(a - np.diag(np.diag(a))) for a in (kept, old))
    assert kept < 0.1 * old, "it follows the kernel"


@pytest.mark.long
def test_a_basis_is_kept_where_a_step_turns_far():
    """The step is nearest all the same; a tenth of the turn is near, and the basis follows."""
    kernel = normal((24, 24))
    with jax.enable_x64(True):
        basis = first_basis(kernel)
        for angle, far in ((0.2, True), (0.02, False)):
            after = kernel @ rotation(24, angle) + 1e-2 * normal((24, 24), 1)
            step, kept = gram_only_step_in_basis(kernel, after, basis)
            assert (np.linalg.norm(rotation(24, angle) - np.eye(24)) > 0.45) == far
            assert np.array_equal(kept, basis) == far
            assert gram_error(np.asarray(step), after) < 1e-12
            distance = np.linalg.norm(step - kernel)
            assert distance <= (1 + 1e-6) * least_distance(kernel, after)


@pytest.mark.long
def test_steps_led_by_a_basis_that_are_not_finite():
    kernel = jnp.asarray(normal(SHAPES[1]), jnp.float32)
    basis = first_basis(kernel)
    bad = kernel.at[0, 0].set(jnp.nan)
    for before, after in ((kernel, bad), (bad, kernel)):
        step, kept = gram_only_step_in_basis(before, after, basis)
        np.testing.assert_array_equal(step, after)
        np.testing.assert_array_equal(kept, basis)
    np.testing.assert_array_equal(first_basis(bad), np.eye(SHAPES[1][1]))


@pytest.mark.parametrize("shape", SHAPES)
def test_step_without_its_rotation(shape):
    kernel = normal(shape) / shape[0] ** 0.5
    turned = kernel @ rotation(shape[1], 0.1)
    with jax.enable_x64(True):
        np.testing.assert_allclose(STEP(kernel, turned), kernel, atol=1e-8)
        np.testing.assert_array_equal(STEP(kernel, kernel), kernel)
        assert least_distance(kernel, 1.1 * turned) == pytest.approx(0.1 * np.linalg.norm(kernel))
        np.testing.assert_allclose(STEP(kernel, 1.1 * turned), 1.1 * kernel, atol=1e-8)
        single = kernel.astype(np.float32)
        np.testing.assert_array_equal(STEP(single, single), single)
        left = STEP(single, turned.astype(np.float32)) - kernel
    assert np.linalg.norm(left) < 2e-3 * np.linalg.norm(turned - kernel)


def test_step_of_zeros_and_of_numbers_that_are_not_finite():
    kernel = normal(SHAPES[0]).astype(np.float32)
    zeros = np.zeros_like(kernel)
    bad = np.where(np.eye(24) > 0, np.nan, kernel).astype(np.float32)
    with jax.enable_x64(True):
        pairs = [(zeros, zeros), (kernel, zeros), (zeros, kernel)]
        pairs += [(bad, kernel), (kernel, bad)]
        for before, after in pairs:
            np.testing.assert_array_equal(STEP(before, after), after)


@pytest.mark.parametrize("name", ["square", "tall", "wide", "out"])
def test_step_of_the_paper_s_code(golden, name):
    numbers = golden("whitening")
    before, after, ten, exact = (
        numbers[f"{name}_{key}"].T for key in ("W1", "W2", "out_f64", "exact_polar")
    )
    with jax.enable_x64(True):
        step = STEP(before, after)
    np.testing.assert_allclose(step, exact, atol=1e-10)
    assert gram_error(step, after) < 1e-14
    if name == "square":  # where ten fixed steps are too few
        assert gram_error(ten, after) > 1e-4


def test_step_without_jit_and_in_bfloat16_is_computed_in_float32():
    before = jnp.asarray(normal(SHAPES[0]), jnp.bfloat16)
    after = before + jnp.asarray(0.1 * normal(SHAPES[0], 1), jnp.bfloat16)
    step = gram_only_step(before, after)
    expected = STEP(before.astype(jnp.float32), after.astype(jnp.float32))
    assert step.dtype == jnp.bfloat16
    np.testing.assert_allclose(step.astype(jnp.float32), expected, rtol=2**-8)


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0, 0)])
def test_empty_kernels(shape):
    empty = np.ones(shape, np.float32)
    with pytest.raises(ValueError, match=r"a has shape .*: wanted at least one row and one column"):
        polar_factor(empty)
    with pytest.raises(ValueError, match=r"before has shape .*: wanted at least one row"):
        gram_only_step(empty, empty)


def test_bad_input_of_the_polar_factor_and_the_step():
    square = np.ones((3, 3))
    with pytest.raises(ValueError, match=r"a has shape \(3,\): wanted \(m, n\)"):
        polar_factor(np.ones(3))
    with pytest.raises(TypeError, match="a has dtype int32: wanted floating point"):
        polar_factor(np.ones((3, 3), np.int32))
    with pytest.raises(ValueError, match="method is 'qr': wanted 'newton_schulz' or 'svd'"):
        polar_factor(square, method="qr")
    with pytest.raises(ValueError, match=r"tolerance is 0.0: wanted a positive number"):
        polar_factor(square, tolerance=0.0)
    with pytest.raises(ValueError, match=r"tolerance is '1e-6': wanted a number"):
        polar_factor(square, tolerance="1e-6")
    with pytest.raises(ValueError, match=r"after has shape \(4, 3\): wanted \(3, 3\)"):
        gram_only_step(square, np.ones((4, 3)))
    with pytest.raises(ValueError, match="before has 1 values"):
        gram_only_step(np.array([[np.inf]]), np.ones((1, 1)))
    with pytest.raises(TypeError, match="after has dtype int64: wanted floating point"):
        gram_only_step(square, np.ones((3, 3), np.int64))


@pytest.mark.parametrize("scale", [1e37, 1e9, 1e-12])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_does_not_depend_on_scale(shape, scale):
    """A power of two scales kernel and step exactly."""
    scale = np.float32(2.0 ** np.round(np.log2(scale)))
    k1 = normal(shape).astype(np.float32)
    k2 = (k1 @ rotation(shape[1], 0.1) + 0.01 * normal(shape, 1)).astype(np.float32)
    expected = np.asarray(STEP(k1, k2))
    np.testing.assert_array_equal(STEP(k1 * scale, k2 * scale), expected * scale)
    if shape[1] < 1.5 * shape[0]:
        basis = first_basis(k1)
        np.testing.assert_array_equal(first_basis(k1 * scale), basis)
        one, _ = gram_only_step_in_basis(k1, k2, basis)
        scaled, _ = gram_only_step_in_basis(k1 * scale, k2 * scale, basis)
        np.testing.assert_array_equal(scaled, one * scale)


@pytest.mark.parametrize("method", ["newton_schulz", "svd"])
@pytest.mark.parametrize("scale", [1e38, 2e-38, 1e-38, 1e-39])
def test_polar_factor_at_the_ends_of_float32(method, scale):
    """Below 1.2e-38 numbers are subnormal: 1e-39 has six bits fewer."""
    a = (rotation(6, 1.0) @ np.diag([1, 0.9, 0.8, 0.7, 0.6, 0.5]) * scale).astype(np.float32)
    u, _, vt = np.linalg.svd(a.astype(np.float64) / scale)
    np.testing.assert_allclose(polar_factor(a, method=method), u @ vt, atol=2e-6)


@pytest.mark.parametrize("tilt", [0.0, 0.03])
@pytest.mark.parametrize(
    ("before", "after"),
    [(np.eye(2), [[1, 2], [2, 1]]), (np.diag([1, 0.02]), np.diag([1, -0.02]))],
)
def test_a_positive_diagonal_is_not_a_positive_matrix(before, after, tilt):
    """Stationary rotations that are not the nearest: K₁ᵀK₂ is symmetric and indefinite."""
    before, after = np.float32(before), np.float32(after)
    basis = np.float32([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    found, _ = gram_only_step_in_basis(before, after, basis)
    distance = np.linalg.norm(found - before)
    np.testing.assert_allclose(distance, least_distance(before, after), atol=1e-4)


@pytest.mark.parametrize("shape", [(6, 5), (5, 9)])
def test_a_second_call_outside_of_jit_compiles_nothing(shape):
    for seed in (0, 1):
        k1, k2 = normal(shape, seed), normal(shape, seed + 2)
        with compilations() as made:
            polar_factor(k1, tolerance=0.1**seed)
            gram_only_step(k1, k2)
    assert not made
