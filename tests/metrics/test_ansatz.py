"""The ansatz, its isotropic form, its rivals and their nulls, against NumPy and theorems."""

import dataclasses

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from counting import compilations
from scipy import stats

from gramlin_jax import (
    GradientMoments,
    JacobianMoments,
    agop,
    alignment_null,
    ansatz_exponent,
    debiased_isotropy,
    fact,
    fact_null,
    gradient_moments,
    isotropy,
    jacobian_moments,
    ky_fan_ratio,
    moments,
    nfa_correlation,
    replaced_kernel,
    representation_alignments,
    rotation_null,
    singular_overlaps,
    stationarity_identities,
)
from gramlin_jax.support.precision import in_float64

KEY = jax.random.key(0)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def semidefinite(d, rank=None, seed=0):
    a = draw(d, rank or d, seed=seed)
    return a @ a.T


def cosine(a, b):
    a, b = (np.asarray(m, np.longdouble).reshape(-1) for m in (a, b))
    return float((a @ b) / np.sqrt((a @ a) * (b @ b)))


KERNEL, J = draw(7, 5), semidefinite(5, seed=1)
WIDE, J_WIDE = draw(4, 6, seed=2), semidefinite(6, seed=3)
PAIRS = (KERNEL, J), (WIDE, J_WIDE)


def power_of(matrix, power):
    values, vectors = np.linalg.eigh(matrix)
    values = np.where(values > 1e-12 * values.max(), values, 0)
    return (vectors * values**power) @ vectors.T


@in_float64
def test_the_agop_is_that_of_each_samples_jacobian():
    """At both layers of a network, by autodiff in the layer's input."""
    params = {"in": draw(4, 6), "out": draw(6, 3, seed=1)}
    x = draw(9, 4, seed=2)
    found = jacobian_moments(lambda p, x: jnp.tanh(x @ p["in"]) ** 2 @ p["out"], params, x)
    of_x = jax.vmap(jax.jacrev(lambda x: jnp.tanh(x @ params["in"]) ** 2 @ params["out"]))(x)
    expected = np.einsum("nci,ncj->ij", of_x, of_x) / 9
    np.testing.assert_allclose(agop(params["in"], found["in"].mean), expected, rtol=1e-12)
    last = agop(params["out"], found["out"].mean)
    np.testing.assert_allclose(last, params["out"] @ params["out"].T, rtol=1e-12)


@pytest.mark.parametrize(("kernel", "j"), PAIRS)
def test_the_correlation_is_numpys(kernel, j):
    gram, matrix = kernel @ kernel.T, kernel @ j @ kernel.T
    init = draw(*kernel.shape, seed=9)
    step = kernel - init
    for found, a, b in (
        (nfa_correlation(kernel, j), gram, matrix),
        (nfa_correlation(kernel, j, power=0.5), gram, power_of(matrix, 0.5)),
        (nfa_correlation(kernel, j, power=2.0), gram, matrix @ matrix),
        (nfa_correlation(kernel, j, kernel_init=init), step @ step.T, step @ j @ step.T),
    ):
        assert float(found) == pytest.approx(cosine(a, b), abs=1e-12)
    for power in (1.0, 0.5):
        found = nfa_correlation(kernel, j, power=power, kind="pearson")
        expected = np.corrcoef(gram.reshape(-1), power_of(matrix, power).reshape(-1))[0, 1]
        assert float(found) == pytest.approx(expected, abs=1e-10)
    one_input = nfa_correlation(kernel[:1], j, kind="pearson")
    assert np.isnan(one_input)  # a single entry
    scaled = nfa_correlation(kernel * 2.0**-400, j * 2.0**300)
    assert float(scaled) == float(nfa_correlation(kernel, j))


def balanced(layers, seed=0):
    """Kernels of a deep linear network with KₗᵀKₗ = Kₗ₊₁Kₗ₊₁ᵀ, and its singular values."""
    s = np.array([2.0, 1.3, 0.7, 0.4])
    bases = [stats.ortho_group.rvs(4, random_state=seed + i) for i in range(layers + 1)]
    return [(a * s) @ b.T for a, b in zip(bases, bases[1:], strict=False)]


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_balanced_linear_networks_have_the_exponent_one_over_depth(layers):
    """Layer l of L reads ∂f/∂z = K_{l+1}⋯K_L, of singular values s^(L−l): α = 1/(L − l + 1)."""
    kernels = balanced(layers)
    after = np.eye(4)
    for left, kernel in enumerate(reversed(kernels), 1):
        j = after @ after.T
        alpha = 1 / left
        assert float(nfa_correlation(kernel, j, power=alpha)) == pytest.approx(1, abs=1e-10)
        found = ansatz_exponent(kernel, j)
        assert float(found.alpha) == pytest.approx(alpha, abs=1e-9)
        if left > 1:
            assert float(found.determination) == pytest.approx(1, abs=1e-9)
            assert float(isotropy(j, kernel).cosine) < 0.9
            assert float(nfa_correlation(kernel, j)) < 1 - 1e-3
        np.testing.assert_allclose(singular_overlaps(kernel, j), 1, atol=1e-7)
        assert float(ky_fan_ratio(kernel, j, 2)) == pytest.approx(1, abs=1e-9)
        after = kernel @ after


@in_float64
def test_a_step_from_small_weights_obeys_the_ansatz():
    """The change of the first kernel tends to u aᵀ, and J to aaᵀ: both sides to ‖a‖⁴ uuᵀ."""
    x, y = draw(20, 5), draw(20, 1, seed=1)

    def correlation(size):
        params = {"in": size * draw(5, 6, seed=2), "out": size * draw(6, 1, seed=3)}
        f = lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"]  # noqa: E731
        gradient = jax.grad(lambda p: ((f(p, x) - y) ** 2).mean())(params)
        after = {**params, "in": params["in"] - 0.1 * gradient["in"]}
        j = jacobian_moments(f, after, x)["in"].mean
        return float(nfa_correlation(after["in"], j, kernel_init=params["in"]))

    gaps = [1 - correlation(size) for size in (0.3, 0.03, 0.003)]
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 1e-6


def test_isotropy_has_its_bounds_and_its_range():
    assert float(isotropy(3 * np.eye(5)).cosine) == pytest.approx(1, abs=1e-12)
    one = isotropy(np.outer(np.arange(5.0), np.arange(5.0)))
    np.testing.assert_allclose(one, [5**-0.5, 0.8**0.5, 0, 5, 5], atol=1e-7)
    # W of rank 3 in 5 outputs: on its range alone J is a multiple of the identity.
    v = np.linalg.qr(draw(5, 5))[0]
    kernel = draw(7, 3) @ v[:, :3].T
    j = v @ np.diag([2.0, 2, 2, 9, 1]) @ v.T
    np.testing.assert_allclose(isotropy(j, kernel), [1, 0, 1, 1, 3], atol=1e-7)
    assert float(isotropy(j).cosine) < 0.9
    values = np.linalg.eigvalsh(J)
    found = isotropy(J)
    assert float(found.cosine) == pytest.approx(cosine(J, np.eye(5)), abs=1e-12)
    np.testing.assert_allclose([found.lower, found.upper], values[[0, -1]] / values.mean())


@pytest.mark.parametrize("away", [1e-3, 1e-8, 1e-13])
def test_the_distance_near_a_tight_frame_keeps_its_digits(away):
    values = 1 + away * np.array([0, 1, 0, -0.25])
    with mpmath.workdps(40):
        exact = [mpmath.mpf(value) for value in values]
        share = sum(map(mpmath.sqrt, exact)) ** 2 / (4 * sum(exact))
        expected = float(mpmath.sqrt(1 - share))
    found = isotropy(np.diag(values)).distance
    assert float(found) == pytest.approx(expected, rel=1e-12 + 1e-15 / away, abs=0)


def test_the_distance_is_that_of_the_nearest_tight_frame():
    rows = draw(40, 5) * [1, 2, 3, 4, 5]
    u, s, vt = np.linalg.svd(rows, full_matrices=False)
    nearest = s.mean() * u @ vt
    distance = np.linalg.norm(rows - nearest) / np.linalg.norm(rows)
    assert float(isotropy(rows.T @ rows / 40).distance) == pytest.approx(distance, abs=1e-10)
    for seed in range(20):  # no other tight frame is nearer
        q = np.linalg.qr(u @ vt + 0.1 * draw(40, 5, seed=seed))[0]
        best = (rows * q).sum() / 5  # its best frame constant
        assert np.linalg.norm(rows - best * q) / np.linalg.norm(rows) > distance


def test_debiasing_takes_the_bias_away():
    """Isotropic gradients in k = 12, of N = 10 samples: cos² has the mean 1, not 1/(1 + k/N)."""
    g = draw(4000, 10, 12)
    products, squares = np.einsum("rni,rnj->rij", g, g), ((g**2).sum(2) ** 2).sum(1)
    with jax.enable_x64(True):
        sums = JacobianMoments(*map(jnp.asarray, (np.full(4000, 10.0), products, squares)))
        debiased = np.asarray(jax.jit(jax.vmap(debiased_isotropy))(sums).cosine_squared)
    pairs = [np.einsum("i,j,ij", np.ones(10), np.ones(10), (a @ a.T) ** 2) for a in g[:3]]
    expected = [  # a loop over the pairs of different samples
        (np.trace(p) / 10) ** 2 / (12 * (pair - q) / 90)
        for p, pair, q in zip(products, pairs, squares, strict=False)
    ]
    np.testing.assert_allclose(debiased[:3], expected, rtol=1e-10)
    trace = np.trace(products, axis1=1, axis2=2)
    plain = (trace**2 / (12 * (products**2).sum((1, 2)))).mean()
    assert plain == pytest.approx(1 / (1 + 12 / 10), rel=0.1)
    inverse = 1 / debiased  # t₂ is unbiased; the trace hardly varies
    assert inverse.mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("kernel", "j"), PAIRS)
def test_singular_vectors_are_compared_in_the_inputs_space(kernel, j):
    u = np.linalg.svd(kernel, full_matrices=False)[0]
    matrix = kernel @ j @ kernel.T
    values, vectors = (a[..., ::-1] for a in np.linalg.eigh(matrix))
    rank = min(kernel.shape)
    overlaps = abs((u * vectors[:, :rank]).sum(0))
    found = singular_overlaps(kernel, j)
    np.testing.assert_allclose(found[:rank], overlaps, atol=1e-9)
    assert np.isnan(found[rank:]).all()
    for k in range(1, rank + 1):
        ratio = np.trace(u[:, :k].T @ matrix @ u[:, :k]) / values[:k].sum()
        assert float(ky_fan_ratio(kernel, j, k)) == pytest.approx(ratio, abs=1e-10)
    exponent = ansatz_exponent(kernel, j)
    s, v = np.linalg.svd(kernel.T, full_matrices=False)[1::-1]
    fit = stats.linregress(np.log(s**2), np.log(np.diag(v.T @ j @ v)))
    np.testing.assert_allclose(exponent.beta, fit.slope, rtol=1e-8)
    np.testing.assert_allclose(exponent.alpha, 1 / (1 + fit.slope), rtol=1e-8)
    np.testing.assert_allclose(exponent.determination, fit.rvalue**2, rtol=1e-8)


S, A = np.arange(5.0, 0, -1), np.array([10.0, 4, 3, 2, 1])


@pytest.mark.parametrize(
    ("s", "a", "arbitrary"),
    [
        (S, A, []),
        (S * [1, 1, 0, 1, 1] + [0, 0, 4, 0, 0], A, [1, 2]),  # W has 4 twice
        (S, A * [1, 1, 0, 1, 1] + [0, 0, 4, 0, 0], [1, 2]),  # the AGOP has
        (S, A * [1, 1, 1, 0, 0], [3, 4]),
        (S, A * [1, 1, 1, 1, 0], [4]),
        (S * [1, 1, 1, 0, 0], A * [1, 1, 1, 0, 0], [3, 4]),
    ],
)
def test_overlaps_are_nan_where_rounding_decides_on_a_vector(s, a, arbitrary):
    """A vector is arbitrary if a perturbation of 1e-12 turns it."""
    u, v = (stats.ortho_group.rvs(n, random_state=n) for n in (6, 5))
    kernel, rank = u[:, :5] * s @ v.T, int((s > 0).sum())
    q = stats.ortho_group.rvs(rank, random_state=1)  # from the vectors of WᵀW to the AGOP's
    root = v[:, :rank] @ (q / s[:rank, None] * np.sqrt(a[:rank]))
    found = np.asarray(singular_overlaps(kernel, root @ root.T))

    def vectors(matrix, seed):
        noise = draw(6, 6, seed=seed)
        return np.linalg.eigh(matrix + 1e-12 * (noise + noise.T))[1][:, ::-1][:, :5]

    matrix = kernel @ root @ root.T @ kernel.T
    one, two = (
        abs((vectors(kernel @ kernel.T, seed) * vectors(matrix, seed + 1)).sum(0))
        for seed in (20, 22)
    )
    turned = abs(one - two) > 1e-6
    assert np.flatnonzero(turned).tolist() == arbitrary
    np.testing.assert_array_equal(np.isnan(found), turned)
    np.testing.assert_allclose(found[~turned], one[~turned], atol=1e-9)


def test_equal_singular_values_count_by_their_mean():
    """Any basis of their directions has the same mean of vᵀJv."""
    u, v = (stats.ortho_group.rvs(5, random_state=seed) for seed in (1, 2))
    s, j = np.array([3.0, 2, 2, 2, 1]), semidefinite(5)
    kernel, captured = u * s @ v.T, np.diag(v.T @ j @ v)
    captured = np.array([captured[0], *[captured[1:4].mean()] * 3, captured[4]])
    best = np.linalg.eigvalsh(kernel @ j @ kernel.T)[::-1]
    for rank in range(1, 6):
        ratio = (s**2 * captured)[:rank].sum() / best[:rank].sum()
        assert float(ky_fan_ratio(kernel, j, rank)) == pytest.approx(ratio, abs=1e-10)
    fit = stats.linregress(np.log(s**2), np.log(captured))
    assert float(ansatz_exponent(kernel, j).beta) == pytest.approx(fit.slope, rel=1e-8)
    assert float(ansatz_exponent(kernel, j).determination) == pytest.approx(fit.rvalue**2)


def test_the_null_of_an_alignment_has_the_moments_of_haar_measure():
    """E⟨A, QBQᵀ⟩ = tr A tr B/d, and its variance is 2‖A₀‖²‖B₀‖²/((d − 1)(d + 2)), traceless."""
    a, b = np.diag([5.0, 2, 1, 1, 0, 0]), semidefinite(6)
    null = alignment_null(KEY, a, b, 2000)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    without = [m - np.trace(m) / 6 * np.eye(6) for m in (a, b)]
    variance = 2 / (5 * 8) * np.prod([np.linalg.norm(m) ** 2 for m in without])
    mean, deviation = np.trace(a) * np.trace(b) / 6 / norms, variance**0.5 / norms
    assert float(null.value) == pytest.approx(cosine(a, b), abs=1e-12)
    assert float(null.mean) == pytest.approx(mean, abs=4 * deviation / 2000**0.5)
    assert float(null.deviation) == pytest.approx(deviation, rel=0.1)
    assert float(alignment_null(KEY, b, b, 99).p) == 0.01


def test_the_null_of_the_ansatz_turns_the_jacobian():
    kernel, j = draw(6, 6) * np.arange(1, 7), semidefinite(6, 2)
    null = rotation_null(KEY, kernel, j, 500)
    turns = stats.ortho_group.rvs(6, size=500, random_state=1)
    expected = [float(cosine(kernel @ kernel.T, kernel @ (q @ j @ q.T) @ kernel.T)) for q in turns]
    error = np.std(expected) * (2 / 500) ** 0.5
    assert float(null.value) == pytest.approx(float(nfa_correlation(kernel, j)), abs=1e-12)
    assert float(null.mean) == pytest.approx(np.mean(expected), abs=4 * error)
    assert float(null.deviation) == pytest.approx(np.std(expected), rel=0.2)
    share = np.mean(np.array(expected) >= float(null.value))
    assert float(null.p) == pytest.approx(share, abs=0.1)
    assert float(rotation_null(KEY, np.eye(6), j, 9).p) == 1  # all are the same


def gradients_of(kernel_gradient, n=1.0, outputs=None):
    return GradientMoments(np.float64(n), n * kernel_gradient, outputs)


def test_the_null_of_fact_turns_the_gradients():
    kernel, gradient = draw(7, 5), draw(7, 5, seed=1)
    null = fact_null(KEY, kernel, gradients_of(gradient), 500)
    turns = stats.ortho_group.rvs(5, size=500, random_state=1)
    expected = [cosine(kernel @ kernel.T, -kernel @ (gradient @ q).T) for q in turns]
    assert float(null.value) == pytest.approx(
        float(fact(kernel, gradients_of(gradient), 0.3).cosine), abs=1e-12
    )
    assert float(null.value) == pytest.approx(cosine(kernel @ kernel.T, -kernel @ gradient.T))
    assert float(null.mean) == pytest.approx(0, abs=4 * np.std(expected) / 500**0.5)
    assert float(null.deviation) == pytest.approx(np.std(expected), rel=0.15)
    assert float(fact_null(KEY, kernel, gradients_of(-kernel), 99).p) == 0.01


def test_replaced_kernels_keep_what_they_say():
    kernel = draw(5, 4)
    found = {how: replaced_kernel(KEY, kernel, how) for how in ("rotated", "spectrum", "permuted")}
    gram = kernel @ kernel.T
    np.testing.assert_allclose(found["rotated"] @ found["rotated"].T, gram, atol=1e-12)
    values = [np.linalg.svd(k, compute_uv=False) for k in (found["spectrum"], kernel)]
    np.testing.assert_allclose(*values, rtol=1e-12)
    assert np.array_equal(np.sort(found["permuted"], None), np.sort(kernel, None))
    for how, other in found.items():
        assert not np.allclose(other, kernel)
        assert how == "rotated" or not np.allclose(other @ other.T, gram)


LAMBDA = 0.02


@pytest.fixture(scope="module")
def trained():
    """A network at init, at a stationary point of L + (λ/2)‖params‖², and after AdamW with λ."""
    x, y = draw(20, 3), draw(20, 2, seed=1)
    f = lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"]  # noqa: E731
    with jax.enable_x64(True):
        start = {"in": jnp.asarray(draw(3, 4, seed=2)), "out": jnp.asarray(draw(4, 2, seed=3))}
        flat, unravel = jax.flatten_util.ravel_pytree(start)

        def plain(p):
            return ((f(unravel(p), x) - y) ** 2).mean()

        def whole(p):
            return plain(p) + LAMBDA / 2 * (p**2).sum()

        def fitted(optimizer, loss, steps):
            def step(carry, _):
                p, state = carry
                updates, state = optimizer.update(jax.grad(loss)(p), state, p)
                return (optax.apply_updates(p, updates), state), None

            return jax.lax.scan(step, (flat, optimizer.init(flat)), None, steps)[0][0]

        @jax.jit
        def run():
            point = fitted(optax.sgd(0.3), whole, 4000)
            newton = lambda _, p: p - jnp.linalg.solve(jax.hessian(whole)(p), jax.grad(whole)(p))  # noqa: E731
            rate = optax.cosine_decay_schedule(0.01, 2000)
            other = fitted(optax.adamw(rate, weight_decay=LAMBDA), plain, 2000)
            return jax.lax.fori_loop(0, 4, newton, point), other

        points = [start, *map(unravel, run())]
        return [
            (p, gradient_moments(f, p, x, loss=lambda out: ((out - y) ** 2).mean())) for p in points
        ]


def residuals(point, decay):
    params, gradients = point
    return {
        name: stationarity_identities(kernel, gradients[name], decay)
        for name, kernel in params.items()
    }


def test_the_identities_hold_where_training_rests(trained):
    for found in residuals(trained[1], LAMBDA).values():
        assert max(found.input_residual, found.output_residual) < 1e-10
        np.testing.assert_allclose([found.input_cosine, found.output_cosine], 1, atol=1e-12)
    params, gradients = trained[1]
    assert np.abs(np.asarray(params["in"])).max() > 0.1
    sides = fact(params["in"], gradients["in"], LAMBDA)
    np.testing.assert_allclose(sides.predicted, sides.gram, rtol=1e-8, atol=1e-10)


def test_they_fail_elsewhere(trained):
    for found in residuals(trained[1], 2 * LAMBDA).values():  # half of it is missing
        np.testing.assert_allclose([found.input_residual, found.output_residual], 0.5, atol=1e-9)
    for point in (trained[0], trained[2]):  # at init, and under decoupled weight decay
        for found in residuals(point, LAMBDA).values():
            assert min(found.input_residual, found.output_residual) > 0.05


def test_the_six_alignments_are_numpys():
    h, kernel, delta = draw(30, 6) + 1, draw(6, 4, seed=1), draw(30, 4, seed=2) * np.arange(1, 5)
    m = moments(h)
    gradients = gradients_of(h.T @ delta, 30, 30**2 * delta.T @ delta)
    g, z = delta @ kernel.T, h @ kernel
    before = h.T @ h, g.T @ g, kernel @ kernel.T
    after = z.T @ z, delta.T @ delta, kernel.T @ kernel
    expected = [cosine(a, b) for a, b, c in (before, after) for a, b in ((a, b), (a, c), (b, c))]
    np.testing.assert_allclose(representation_alignments(m, kernel, gradients), expected)
    other = dataclasses.replace(gradients, output_sum=1e-9 * gradients.output_sum)
    np.testing.assert_allclose(representation_alignments(m, 1e9 * kernel, other), expected)


def test_nothing_is_nan():
    assert np.isnan(nfa_correlation(np.zeros((3, 2)), np.eye(2)))
    assert np.isnan(nfa_correlation(np.ones((3, 2)), np.zeros((2, 2))))
    assert np.isnan(nfa_correlation(np.ones((3, 1)), np.ones((1, 1))))
    assert np.isnan(rotation_null(KEY, np.ones((3, 1)), np.ones((1, 1)), 9).p)
    assert np.isnan(ansatz_exponent(np.eye(3), semidefinite(3)).alpha)  # equal singular values
    assert np.isnan(ansatz_exponent(np.ones((3, 2)), np.eye(2)).alpha)  # rank one
    assert np.isnan(ansatz_exponent(np.diag([2.0, 1]), np.diag([1, 1e-15])).alpha)  # rounding
    assert np.isnan(isotropy(np.ones((1, 1))).cosine) and np.isnan(isotropy(np.zeros((2, 2)))[0])
    of_nan = jax.jit(isotropy)(np.eye(2), np.full((3, 2), np.nan))  # as of a run that diverged
    assert np.isnan(jnp.stack(of_nan)).all()
    assert np.isnan(ky_fan_ratio(np.ones((3, 2)), np.zeros((2, 2)), 1))
    assert np.isnan(fact(np.zeros((2, 2)), gradients_of(np.ones((2, 2))), 0.1).cosine)


def test_all_work_under_jit_and_vmap():
    kernels, js = np.float32(draw(3, 6, 5)), np.stack([semidefinite(5, seed=s) for s in range(3)])

    def all_of(kernel, j):
        gradients = GradientMoments(jnp.float32(1), kernel, None)
        return (
            nfa_correlation(kernel, j, power=0.5),
            rotation_null(KEY, kernel, j, 5).value,
            fact_null(KEY, kernel, gradients, 5).value,
            isotropy(j, kernel).cosine,
            ansatz_exponent(kernel, j).beta,
            ky_fan_ratio(kernel, j, 2),
            singular_overlaps(kernel, j),
            replaced_kernel(KEY, kernel, "spectrum"),
        )

    js = np.float32(js)
    together = jax.jit(jax.vmap(all_of))(kernels, js)
    alone = all_of(kernels[1], js[1])
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(found[1], expected, rtol=1e-5, atol=1e-6)


SYMMETRIC, LOPSIDED = np.eye(2), np.triu(np.ones((2, 2)))
SUMS = JacobianMoments(np.float64(1), SYMMETRIC, np.float64(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: agop(np.ones((3, 2)), np.eye(3)), r"jacobian has shape \(3, 3\): wanted \(2, 2\)"),
        (lambda: agop(np.ones((3, 2)), LOPSIDED), "jacobian is not symmetric"),
        (lambda: isotropy(-np.eye(2)), "jacobian has a negative diagonal"),
        (lambda: isotropy(np.ones((2, 3))), r"jacobian has shape \(2, 3\): wanted a square matrix"),
        (lambda: isotropy(np.eye(3), np.ones((3, 2))), r"wanted \(2, 2\), as the kernel has 2"),
        (lambda: rotation_null(KEY, np.ones((3, 2)), np.eye(3)), r"jacobian has shape \(3, 3\)"),
        (lambda: ansatz_exponent(np.ones((3, 2)), LOPSIDED), "jacobian is not symmetric"),
        (lambda: ky_fan_ratio(np.ones((3, 2)), LOPSIDED, 1), "jacobian is not symmetric"),
        (lambda: singular_overlaps(np.ones((3, 2)), np.eye(3)), r"jacobian has shape \(3, 3\)"),
        (lambda: alignment_null(KEY, LOPSIDED, SYMMETRIC), "a is not symmetric: wanted a second"),
        (lambda: alignment_null(KEY, SYMMETRIC, LOPSIDED), "b is not symmetric: wanted a second"),
        (lambda: nfa_correlation(np.ones((3, 2)), SYMMETRIC, power=0), "power is 0: wanted a pos"),
        (
            lambda: nfa_correlation(np.ones((3, 2)), SYMMETRIC, power=[0.5, 1]),
            r"power has shape \(2,\): wanted a number",
        ),
        (lambda: nfa_correlation(np.ones((3, 2)), SYMMETRIC, power=-0.5), "power is -0.5: wanted"),
        (lambda: nfa_correlation(np.ones((3, 2)), SYMMETRIC, kind="x"), "kind is 'x'"),
        (
            lambda: nfa_correlation(np.ones((3, 2)), SYMMETRIC, kernel_init=np.ones((2, 2))),
            "kernel_init has shape",
        ),
        (lambda: ky_fan_ratio(np.ones((3, 2)), SYMMETRIC, 3), "rank is 3: wanted at most 2"),
        (lambda: ky_fan_ratio(np.ones((3, 2)), SYMMETRIC, 0), "rank is 0: wanted at least 1"),
        (lambda: ky_fan_ratio(np.ones((3, 2)), SYMMETRIC, 1.5), "rank is 1.5: wanted an integer"),
        (lambda: ky_fan_ratio([[1.0, 2.0]], SYMMETRIC, 2), "rank is 2: wanted at most 1"),
        (lambda: agop(np.ones((3, 0)), np.ones((0, 0))), r"jacobian has shape \(0, 0\): wanted no"),
        (
            lambda: isotropy(SYMMETRIC, np.ones((0, 2))),
            r"kernel has shape \(0, 2\): wanted no empty",
        ),
        (lambda: debiased_isotropy(JacobianMoments.zeros(2)), "m has 0 samples: wanted at least 2"),
        (lambda: debiased_isotropy(SUMS), "m has 1 samples: wanted at least 2 to debias"),
        (lambda: debiased_isotropy(JacobianMoments.zeros(2, (3,))), "m is stacked"),
        (lambda: rotation_null(KEY, np.ones((3, 2)), SYMMETRIC, 1), "samples is 1"),
        (
            lambda: alignment_null(KEY, SYMMETRIC, SYMMETRIC, 9.5),
            "samples is 9.5: wanted an integer",
        ),
        (
            lambda: fact(np.ones((2, 2)), gradients_of(np.ones((2, 2))), np.ones(2)),
            r"weight_decay has shape \(2,\): wanted a number; use jax.vmap",
        ),
        (lambda: alignment_null(KEY, np.eye(2), np.eye(3)), "b has shape"),
        (lambda: replaced_kernel(KEY, np.ones((3, 2)), "x"), "how is 'x'"),
        (
            lambda: fact(np.ones((2, 2)), gradients_of(np.ones((2, 2))), 0.0),
            "weight_decay is 0.0: wanted a positive number",
        ),
        (
            lambda: stationarity_identities(np.ones((2, 2)), gradients_of(np.ones((2, 2))), -0.1),
            "weight_decay is -0.1: wanted a positive number",
        ),
        (
            lambda: stationarity_identities(np.ones((2, 3)), gradients_of(np.ones((2, 2))), 0.1),
            "kernel has shape",
        ),
        (
            lambda: representation_alignments(
                moments(draw(5, 3)), np.ones((2, 2)), gradients_of(np.ones((2, 2)), 1, np.eye(2))
            ),
            "wanted those of one layer",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_nulls_outside_of_jit_are_compiled_once():
    for seed in (0, 1):
        kernel, key = np.random.default_rng(seed).normal(size=(5, 4)), jax.random.key(seed)
        j = kernel.T @ kernel
        sums = GradientMoments(np.float64(1), kernel, None)
        with compilations() as made:
            rotation_null(key, kernel, j, 3)
            alignment_null(key, j, j, 3)
            fact_null(key, kernel, sums, 3)
    assert not made


def test_an_isotropic_jacobian_has_an_exponent_but_no_determination():
    """R² of equal values is 0/0, of which rounding made any number."""
    for seed in range(3):
        kernel = np.random.default_rng(seed).normal(size=(6, 4))
        fit = ansatz_exponent(kernel, 0.3 * np.eye(4))
        assert float(fit.alpha) == pytest.approx(1, abs=1e-12)
        assert np.isnan(fit.determination)
