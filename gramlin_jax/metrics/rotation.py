"""The rotation between two kernels: Q, the polar factor of K₁ᵀK₂, by matrix products.

Everything here returns a *turn*, K₂Qᵀ − K₂ or Q − I. A step turns a kernel little except in a few
directions, so the turn is small and so is its rounding error: in float32, adding a turn to K₂
preserves the Gram 20 times as exactly as multiplying K₂ by Qᵀ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax.support.linalg import dot, eigh, is_positive_definite, norm
from gramlin_jax.support.precision import magnitude

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

T = TypeVar("T")
SHIFT = 128  # in rounding errors of K₁ᵀK₂: directions below it are not rotated
WIDE = 1.5  # outputs per input above which (i, i) matrices are cheaper than (o, o) ones
FAR = 0.45  # ‖Q − I‖ above which a warm-started search fails
STEPS = 8  # limit of a warm-started search; more rarely help


class _Search(NamedTuple):
    """State of the warm-started search, in the basis that it is given."""

    turn: Array  # Q₀ − I of the current guess Q₀
    product: Array  # S = K₁ᵀK₂Q₀ᵀ, symmetric at the solution
    generator: Array  # A, the antisymmetric correction of Q₀
    size: Array  # the length of A
    last: Array  # the length of A one step before
    steps: Array


class _Scaled(NamedTuple):
    """State of the scaled Newton–Schulz iteration."""

    factor: Array  # X, which converges to the polar factor
    probe: Array  # a unit vector that turns towards the lowest singular vector
    floor: Array  # a lower bound of every singular value that began above eps²
    residual: Array  # ‖XXᵀ − I‖ one step before


class _Polish(NamedTuple):
    """State of the final Newton–Schulz steps."""

    turn: Array  # Q − I
    error: Array  # QQᵀ − I


def is_wide(kernel: Float[Array, "i o"]) -> bool:
    """Whether a kernel has so many outputs that the inputs' side is cheaper."""
    return kernel.shape[1] >= WIDE * kernel.shape[0]


@jax.jit  # or its loops are compiled at each call outside of jit
def turned(k1: Float[Array, "i o"], k2: Float[Array, "i o"]) -> Float[Array, "i o"]:
    """K₂Qᵀ − K₂, or zeros where the iteration finds no Q."""
    if is_wide(k1):
        return _turned_wide(k1, k2)
    turn, found = _turn(shifted_product(k1, k2, rounding(k1)))
    return jnp.where(found, dot(k2, turn.T), 0)


def turned_in_basis(
    k1: Float[Array, "i o"], k2: Float[Array, "i o"], basis: Float[Array, "o o"]
) -> tuple[Float[Array, "i o"], Float[Array, "o o"]]:
    """``turned`` with a warm start, in a third of the time, and the basis for the next call.

    For kernels that are not wide. The columns of ``basis`` are the eigenvectors of K₁ᵀK₁, or of the
    Gram of a nearby kernel. In this basis the symmetric positive factor H of K₁ᵀK₂ = HQ is nearly
    diagonal. For a guess Q₀, let S = K₁ᵀK₂Q₀ᵀ and Q = exp(A)Q₀ with A = −Aᵀ. Then

        Aᵢⱼ = (Sᵢⱼ − Sⱼᵢ) / (Sᵢᵢ + Sⱼⱼ)

    solves AH + HA = S − Sᵀ up to the off-diagonal elements of H. One or two such steps are enough
    for most steps of an optimiser. They also give H, whose eigenvectors the basis then follows. The
    first A is about as long as Q − I: where it is ``FAR`` or longer, no search is tried, Q is found
    as in ``turned``, and the basis stays. If the search does not converge or S is not positive
    definite, Q is found in that way too, and for a small rotation the basis is recomputed.
    """
    product = shifted_product(k1, k2, rounding(k1))
    m = dot(basis.T, dot(product, basis))
    root = rounding(m) ** 0.5
    generator = _generator(m)
    finite = jnp.isfinite(m).all()
    near = finite & (jnp.linalg.norm(generator[0]) < FAR)

    def searched() -> tuple[Array, _Search, Array]:
        found, tolerance = _search(m, generator, root)
        # The first order of exp is enough for the last A: _polished restores orthogonality.
        turn, error = _polished(dot(basis, dot(found.turn + found.generator, basis.T)))
        # S is symmetric for every stationary rotation, positive definite for the nearest one only.
        converged = (found.size <= tolerance) & (error < 4 * root)
        return turn, found, converged & _is_positive(_symmetric(found.product))

    nothing = _Search(0 * m, m, *generator, generator[1], jnp.asarray(0))
    turn, found, converged = _if(near, searched, (0 * m, nothing, jnp.zeros_like(finite)))

    def restart() -> tuple[Array, Array]:
        turn, known = _turn(product)
        turn = jnp.where(known, turn, 0)
        return turn, _if(near, lambda: renewed(turn), basis)

    def renewed(turn: Array) -> Array:
        h = _symmetric(dot(product, turn.T) + product)
        followed = _follow(basis, dot(basis.T, dot(h, basis)))
        # If the search missed a small rotation, the basis was too old. A large rotation no basis
        # would have found, so it does not justify an eigendecomposition.
        old = jnp.linalg.norm(turn) < FAR
        return _if(old, lambda: eigh(h)[1].astype(basis.dtype), followed)

    # A search of a single step means that the basis still fits.
    fitted = converged & (found.steps > 1)
    basis = _if(fitted, lambda: _follow(basis, found.product), basis)
    turn, basis = _if(finite & ~converged, restart, (turn, basis))
    return jnp.where(finite, dot(k2, turn.T), 0), basis


def _search(m: Array, start: tuple[Array, Array], root: float) -> tuple[_Search, Array]:
    """The rotation of M = K₁ᵀK₂ in a basis where H is nearly diagonal, and its tolerance."""
    first, length = start
    # The error after a step is of second order in A: for A below √eps it is rounding.
    tolerance = jnp.clip(length / 30, root / 4, 4 * root)

    def unfinished(state: _Search) -> Array:
        shrinking = state.size < 0.7 * state.last
        return (state.size > tolerance) & shrinking & (state.steps < STEPS)

    def step(state: _Search) -> _Search:
        a = state.generator
        further = a + dot(a, a) / 2  # exp(A) − I, to second order
        turn = state.turn + further + dot(further, state.turn)
        return advance(turn, state.size, state.steps + 1)

    def advance(turn: Array, last: Array, steps: Array) -> _Search:
        product = m + dot(m, turn.T)
        return _Search(turn, product, *_generator(product), last, steps)

    state = advance(first + dot(first, first) / 2, length, jnp.asarray(1))
    return lax.while_loop(unfinished, step, state), tolerance


def first_basis(kernel: Float[Array, "i o"]) -> Float[Array, "o o"]:
    """Eigenvectors of KᵀK as columns, in the kernel's type; the identity if K is not finite."""
    kernel = kernel / magnitude(kernel)
    product = dot(kernel.T, kernel)
    finite = jnp.isfinite(product).all()
    eye = jnp.eye(len(product), dtype=kernel.dtype)
    vectors = eigh(jnp.where(finite, product, eye))[1].astype(kernel.dtype)
    return jnp.where(finite, vectors, eye)


def _generator(s: Array) -> tuple[Array, Array]:
    """A, and its length: how far exp(A) moves a kernel, relative to its largest singular value."""
    diagonal = jnp.diag(s)[:, None]
    both = diagonal + diagonal.T
    a = (s - s.T) / both
    return a, jnp.sqrt((a**2 * both).sum() / both.max())


def _is_positive(h: Array) -> Array:
    """Whether a symmetric matrix is positive definite, without factors where it is nearly diagonal.

    Scaled to a unit diagonal, I + E with ‖E‖ < 1 is positive definite.
    """
    diagonal = jnp.diag(h)
    possible = diagonal.min() > 0
    scale = lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1))
    scaled = h * scale[:, None] * scale[None]
    near = jnp.linalg.norm(scaled - jnp.eye(len(h), dtype=h.dtype)) < 0.9
    return possible & _if(possible & ~near, lambda: is_positive_definite(scaled), near)


def _follow(basis: Array, h: Array) -> Array:
    """The basis B turned towards the eigenvectors of BHBᵀ, by all Jacobi rotations at once."""
    h = _symmetric(h)
    diagonal = jnp.diag(h)[:, None]
    gap, both = diagonal.T - diagonal, diagonal.T + diagonal
    # To first order the angles are h/gap. The second term of the divisor keeps them small between
    # nearly equal eigenvalues, where any basis will do.
    rotation = h * gap / (gap**2 + (both / 10) ** 2)
    # Angles that are applied together have to be small together.
    rotation = rotation / jnp.maximum(1, 2 * jnp.linalg.norm(rotation))
    basis = basis + dot(basis, rotation + dot(rotation, rotation) / 2)
    # A Newton–Schulz step, so that rounding does not accumulate over a training run.
    return basis - dot(basis, dot(basis.T, basis) - jnp.eye(len(h), dtype=h.dtype)) / 2


def _if(needed: Bool[Array, ""], make: Callable[[], T], otherwise: T) -> T:
    """``make()`` if needed, else ``otherwise``.

    ``vmap`` turns ``lax.cond`` into a ``select`` that always runs both branches. A loop of at most
    one step runs only if a member of the batch needs it.
    """

    def once(state: tuple[Array, T]) -> tuple[Array, T]:
        return jnp.zeros_like(state[0]), make()

    return lax.while_loop(lambda state: state[0], once, (needed, otherwise))[1]


def shifted_product(k1: Array, k2: Array, eps: float) -> Array:
    """K₁ᵀK₂, scaled to norm 1 and shifted by ``SHIFT`` eps·I, so that it is not singular."""
    product = dot(k1.T, k2)
    eye = jnp.eye(len(product), dtype=product.dtype)
    return product / positive(norm(product)) + SHIFT * eps * eye


def _turn(product: Array) -> tuple[Array, Array]:
    """Q − I for the polar factor Q, and whether Q is orthogonal."""
    tolerance = (2 * rounding(product)) ** 0.5
    eye = jnp.eye(len(product), dtype=product.dtype)
    turn, error = _polished(newton_schulz(product, tolerance) - eye)
    return turn, error < 3 * tolerance


def _polished(turn: Array) -> tuple[Array, Array]:
    """Q − I for the orthogonal Q nearest to I + turn, and how far I + turn is from orthogonal.

    Newton–Schulz steps on Q − I square the error ‖QQᵀ − I‖; one is usually enough.
    """

    def inexact(state: _Polish) -> Array:
        size = jnp.linalg.norm(state.error)
        return (size > 2 * rounding(turn) ** 0.5) & (size < 0.5)  # above 0.5 it may diverge

    def corrected(state: _Polish) -> Array:
        # Q − (QQᵀ − I)Q/2, written for Q − I, so that rounding is relative to the turn, not to I.
        return state.turn - (state.error + dot(state.error, state.turn)) / 2

    def step(state: _Polish) -> _Polish:
        turn = corrected(state)
        return _Polish(turn, _error(turn))

    first = _error(turn)
    last = lax.while_loop(inexact, step, _Polish(turn, first))
    return corrected(last), jnp.linalg.norm(first)


def _error(turn: Array) -> Array:
    """QQᵀ − I for Q = I + turn, without cancellation."""
    return turn + turn.T + dot(turn, turn.T)


def _symmetric(a: Array) -> Array:
    return (a + a.T) / 2


def _turned_wide(k1: Array, k2: Array) -> Array:
    """K₂Qᵀ − K₂ for many outputs, with no (o, o) matrix, or zeros where no Q is found.

    On the row spaces of the kernels, Q = UᵀWV. The rows of U, V (i, o) are orthonormal bases of the
    rows of K₁ and K₂, and W (i, i) is the polar factor of UK₁ᵀK₂Vᵀ.
    """
    eps = rounding(k1)
    # Where a kernel lacks rank, the shift completes its rows: V's arbitrarily, U's by those of V,
    # so that Q is the identity on them.
    v = jnp.eye(k2.shape[0], k2.shape[1], dtype=k2.dtype)
    v = newton_schulz(k2 / positive(abs(k2).max()) + 4 * eps * v, 2 * eps)
    u = newton_schulz(k1 / positive(abs(k1).max()) + 4 * eps * v, 2 * eps)
    weight = dot(k2, v.T)
    product = dot(dot(u, k1.T), weight)
    product = product / positive(jnp.linalg.norm(product))
    w = newton_schulz(product + SHIFT * eps * dot(u, v.T), 2 * eps)
    v, weight = dot(w, v), dot(weight, w.T)  # V ← WV; still K₂ = weight·V, and now K₂Qᵀ = weight·U
    turn = u - v
    # UUᵀ − VVᵀ from U − V: subtracting two products that are both nearly I would leave only noise.
    error = dot(turn, (v + turn / 2).T)
    error = dot(weight, error + error.T)  # weight·(UUᵀ − VVᵀ)
    found = jnp.linalg.norm(error) < 3 * (2 * eps) ** 0.5 * jnp.linalg.norm(weight)
    # The second term is a Newton–Schulz step, which gives U the Gram of V instead of I.
    return jnp.where(found, dot(weight, turn) - dot(error, u) / 2, 0)


@jax.jit  # as ``turned``
def newton_schulz(a: Array, tolerance: float) -> Array:
    """Polar factor R of a wide or square matrix of moderate scale, ‖RRᵀ − I‖ < tolerance.

    A step maps every singular value σ in [low, 1] to ½√ρσ(3 − ρσ²) ≤ 1, the cubic that raises the
    lowest one most: by up to a factor √27/2, with two matrix products. Polynomials of higher degree
    gain no more per product.
    """
    eps = rounding(a)
    eye = jnp.eye(a.shape[0], dtype=a.dtype)

    def unfinished(state: _Scaled) -> Array:
        # The residual is from before the last step, which leaves ¾ of its square.
        return (0.75 * state.residual**2 > tolerance) & (state.floor < 1 - 4 * eps)

    def step(state: _Scaled) -> _Scaled:
        return advance(dot(state.factor, state.factor.T), state.factor, state.probe, state.floor)

    def advance(y: Array, x: Array, probe: Array, floor: Array) -> _Scaled:
        residual = jnp.linalg.norm(y - eye)
        # All steps share their singular vectors, so a power iteration on I − Y turns the probe
        # towards the lowest one. Its Rayleigh quotient overestimates the lowest σ². Guessing `low`
        # too high costs more than too low, hence the power 1.5 instead of the root.
        # `floor` ends the iteration where a is singular. The bound 0.05 keeps `low` from 0, where
        # the largest σ would be mapped to 0 and lose their digits.
        image = dot(y, probe)
        quotient = jnp.maximum(dot(probe, image), 0)
        low = jnp.maximum(jnp.maximum(floor, quotient**1.5), 0.05)
        low = jnp.where(residual < 0.5, 1, low)  # plain Newton–Schulz, which converges from here
        rho = 3 / (1 + low + low**2)
        x = dot(jnp.sqrt(rho) / 2 * (3 * eye - rho * y), x)
        floor = jnp.sqrt(rho) / 2 * floor * (3 - rho * floor**2)
        probe = probe - image
        return _Scaled(x, probe / positive(jnp.linalg.norm(probe)), floor, residual)

    y = dot(a, a.T)
    scale = positive(jnp.linalg.norm(y))  # at least the largest σ²
    probe = np.random.default_rng(0).standard_normal(a.shape[0])
    probe = probe / np.linalg.norm(probe)
    start = (jnp.asarray(value, a.dtype) for value in (probe, eps**2))
    first = advance(y / scale, a / jnp.sqrt(scale), *start)
    return lax.while_loop(unfinished, step, first).factor


def positive(number: Array) -> Array:
    """``number``, or 1 where it is 0: a safe divisor."""
    return jnp.where(number == 0, 1, number)


def rounding(a: Array) -> float:
    """Machine epsilon of a's type."""
    return float(jnp.finfo(a.dtype).eps)
