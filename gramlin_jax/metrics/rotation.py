"""The rotation between two kernels: Q, the polar factor of K₁ᵀK₂, by matrix products.

Everything here returns K₂Qᵀ − K₂ or Q − I, the *turn*. It is small except for few directions, so
its rounding is too: in float32 a Gram is 20 times as exact as that of K₂Qᵀ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax.support.precision import dot, eigh

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

T = TypeVar("T")
SHIFT = 128  # rounding errors of K₁ᵀK₂: a rotation is not sought among directions below them
WIDE = 1.5  # outputs per input from which on it is cheaper to work on the side of the inputs
STEPS = 8  # of the search that a basis leads; more are rarely of use


def is_wide(kernel: Float[Array, "i o"]) -> bool:
    """Whether the rotation is sought on the side of the inputs."""
    return kernel.shape[1] >= WIDE * kernel.shape[0]


def turned(k1: Float[Array, "i o"], k2: Float[Array, "i o"]) -> Float[Array, "i o"]:
    """K₂Qᵀ − K₂, or zeros where Q is not found."""
    if is_wide(k1):
        return _turned_wide(k1, k2)
    turn, found = _turn(_product(k1, k2))
    return jnp.where(found, dot(k2, turn.T), 0)


def turned_in_basis(
    k1: Float[Array, "i o"], k2: Float[Array, "i o"], basis: Float[Array, "o o"]
) -> tuple[Float[Array, "i o"], Float[Array, "o o"]]:
    """The same for kernels that are not wide, in a third of the time, and the basis to go on with.

    ``basis`` has the eigenvectors of K₁ᵀK₁, or of a kernel not far from it, as columns. In it, H of
    K₁ᵀK₂ = HQ (symmetric and positive) is nearly diagonal. So with S = K₁ᵀK₂Q₀ᵀ for a guess Q₀ and
    Q = exp(A)Q₀, A = −Aᵀ,

        Aᵢⱼ = (Sᵢⱼ − Sⱼᵢ) / (Sᵢᵢ + Sⱼⱼ)

    solves AH + HA = S − Sᵀ but for off-diagonal elements. One or two such steps are enough for most
    optimiser's steps. Then H is at hand, too, and the basis follows it. Where steps do not converge
    or S has a negative element on its diagonal (the rotation is large, the basis too old), Q is
    found as by ``turned``, and if it is small the basis anew.
    """
    product = _product(k1, k2)
    m = dot(basis.T, dot(product, basis))
    root = rounding(m) ** 0.5
    first, length = _generator(m)
    tolerance = jnp.clip(length / 30, root / 4, 4 * root)

    def unfinished(state: tuple[Array, ...]) -> Array:
        *_, size, last, steps = state
        return (size > tolerance) & (size < 0.7 * last) & (steps < STEPS)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        turn, _, a, last, _, steps = state
        further = a + dot(a, a) / 2
        return advance(turn + further + dot(further, turn), last, steps + 1)

    def advance(turn: Array, last: Array, steps: Array) -> tuple[Array, ...]:
        s = m + dot(m, turn.T)
        return turn, s, *_generator(s), last, steps

    state = advance(first + dot(first, first) / 2, length, jnp.asarray(1))
    turn, s, a, size, _, steps = lax.while_loop(unfinished, step, state)
    # Of the last step, the first order is enough.
    turn, error = _polished(dot(basis, dot(turn + a, basis.T)))
    finite = jnp.isfinite(m).all()
    # A symmetric S that is not positive belongs to a rotation, but not to the nearest one.
    positive_s = jnp.diag(s).min() > 0
    lost = finite & ~((size <= tolerance) & (error < 4 * root) & positive_s)

    def search() -> tuple[Array, Array]:
        turn, found = _turn(product)
        turn = jnp.where(found, turn, 0)
        h = _symmetric(dot(product, turn.T) + product)
        followed = _follow(basis, dot(basis.T, dot(h, basis)))
        # Only a small rotation is missed for the basis's age; to a large one none would have led.
        old = jnp.linalg.norm(turn) < 0.5
        return turn, _if(old, lambda: eigh(h)[1].astype(basis.dtype), followed)

    basis = _if(finite & ~lost & (steps > 1), lambda: _follow(basis, s), basis)
    turn, basis = _if(lost, search, (turn, basis))
    return jnp.where(finite, dot(k2, turn.T), 0), basis


def first_basis(kernel: Float[Array, "i o"]) -> Float[Array, "o o"]:
    """Eigenvectors of KᵀK, as columns, of the kernel's type; the identity if it is not finite."""
    product = dot(kernel.T, kernel)
    finite = jnp.isfinite(product).all()
    eye = jnp.eye(len(product), dtype=kernel.dtype)
    vectors = eigh(jnp.where(finite, product, eye))[1].astype(kernel.dtype)
    return jnp.where(finite, vectors, eye)


def _generator(s: Array) -> tuple[Array, Array]:
    """A, and its length: by what it moves a kernel, relative to the longest of its directions."""
    diagonal = jnp.diag(s)[:, None]
    both = diagonal + diagonal.T
    a = (s - s.T) / both
    return a, jnp.sqrt((a**2 * both).sum() / both.max())


def _follow(basis: Array, h: Array) -> Array:
    """The basis turned towards the eigenvectors of BHBᵀ, by Jacobi's rotations all at once.

    Those among nearly equal eigenvalues are left small: any basis of theirs will do.
    """
    h = _symmetric(h)
    diagonal = jnp.diag(h)[:, None]
    gap, both = diagonal.T - diagonal, diagonal.T + diagonal
    rotation = h * gap / (gap**2 + (both / 10) ** 2)
    rotation = rotation / jnp.maximum(1, 2 * jnp.linalg.norm(rotation))
    basis = basis + dot(basis, rotation + dot(rotation, rotation) / 2)
    return basis - dot(basis, dot(basis.T, basis) - jnp.eye(len(h), dtype=h.dtype)) / 2


def _if(needed: Bool[Array, ""], make: Callable[[], T], otherwise: T) -> T:
    """``make()`` if it is needed. Under ``vmap``, it is not run where no one needs it."""

    def once(state: tuple[Array, T]) -> tuple[Array, T]:
        return jnp.zeros_like(state[0]), make()

    return lax.while_loop(lambda state: state[0], once, (needed, otherwise))[1]


def _product(k1: Array, k2: Array) -> Array:
    """K₁ᵀK₂, scaled, with a shift that makes it regular."""
    product = dot(k1.T, k2)
    eye = jnp.eye(len(product), dtype=product.dtype)
    return product / positive(jnp.linalg.norm(product)) + SHIFT * rounding(k1) * eye


def _turn(product: Array) -> tuple[Array, Array]:
    """Q − I, and whether it is one."""
    tolerance = (2 * rounding(product)) ** 0.5
    eye = jnp.eye(len(product), dtype=product.dtype)
    turn, error = _polished(newton_schulz(product, tolerance) - eye)
    return turn, error < 3 * tolerance


def _polished(turn: Array) -> tuple[Array, Array]:
    """Q − I for the orthogonal Q that is nearest to I + turn, and how far that is from one.

    By Newton–Schulz steps on Q − I, which square ‖QQᵀ − I‖; mostly by one.
    """

    def inexact(state: tuple[Array, Array]) -> Array:
        size = jnp.linalg.norm(state[1])
        return (size > 2 * rounding(turn) ** 0.5) & (size < 0.5)

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        turn, error = state
        turn = turn - (error + dot(error, turn)) / 2
        return turn, _error(turn)

    first = _error(turn)
    turn, error = lax.while_loop(inexact, step, (turn, first))
    return turn - (error + dot(error, turn)) / 2, jnp.linalg.norm(first)


def _error(turn: Array) -> Array:
    """QQᵀ − I of Q = I + turn."""
    return turn + turn.T + dot(turn, turn.T)


def _symmetric(a: Array) -> Array:
    return (a + a.T) / 2


def _turned_wide(k1: Array, k2: Array) -> Array:
    """The same for many outputs, where Q = UᵀWV: of U, V (i, o), whose rows span K₁'s and K₂'s.

    W (i, i) is the polar factor of UK₁ᵀK₂Vᵀ. No matrix is (o, o).
    """
    eps = rounding(k1)
    # The shifts complete the rows where a kernel has not the rank: V's by any, U's by V's.
    v = jnp.eye(k2.shape[0], k2.shape[1], dtype=k2.dtype)
    v = newton_schulz(k2 / positive(abs(k2).max()) + 4 * eps * v, 2 * eps)
    u = newton_schulz(k1 / positive(abs(k1).max()) + 4 * eps * v, 2 * eps)
    weight = dot(k2, v.T)
    product = dot(dot(u, k1.T), weight)
    product = product / positive(jnp.linalg.norm(product))
    w = newton_schulz(product + SHIFT * eps * dot(u, v.T), 2 * eps)
    v, weight = dot(w, v), dot(weight, w.T)  # K₂ = weight·V
    turn = u - v
    error = dot(turn, (v + turn / 2).T)
    error = dot(weight, error + error.T)  # weight·(UUᵀ − VVᵀ)
    found = jnp.linalg.norm(error) < 3 * (2 * eps) ** 0.5 * jnp.linalg.norm(weight)
    return jnp.where(found, dot(weight, turn) - dot(error, u) / 2, 0)


def newton_schulz(a: Array, tolerance: float) -> Array:
    """Polar factor R of a wide or square matrix of moderate size, ‖RRᵀ − I‖ < tolerance.

    A step maps every singular value σ in [low, 1] to ½√ρσ(3 − ρσ²) ≤ 1, the cubic that raises the
    lowest most: by up to √27/2 with two matrix products. Higher degrees gain no more by as many.
    """
    eps = rounding(a)
    eye = jnp.eye(a.shape[0], dtype=a.dtype)

    def unfinished(state: tuple[Array, ...]) -> Array:
        *_, floor, residual = state  # that of the step before: ¾ of its square is left
        return (0.75 * residual**2 > tolerance) & (floor < 1 - 4 * eps)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        return advance(dot(state[0], state[0].T), *state)

    def advance(y: Array, x: Array, probe: Array, floor: Array, _: Array) -> tuple[Array, ...]:
        residual = jnp.linalg.norm(y - eye)
        # The probe turns towards the lowest singular vector, which all steps share; its quotient
        # is above σ², its root mostly too, and too high a guess for `low` costs more than too
        # low a one. `floor`, below every σ that began above eps², ends the iteration where a is
        # singular. With low = 0, the highest σ would fall to 0 and lose their digits.
        image = dot(y, probe)
        quotient = jnp.maximum(dot(probe, image), 0)
        low = jnp.maximum(jnp.maximum(floor, quotient**1.5), 0.05)
        low = jnp.where(residual < 0.5, 1, low)
        rho = 3 / (1 + low + low**2)
        x = dot(jnp.sqrt(rho) / 2 * (3 * eye - rho * y), x)
        floor = jnp.sqrt(rho) / 2 * floor * (3 - rho * floor**2)
        probe = probe - image
        return x, probe / positive(jnp.linalg.norm(probe)), floor, residual

    y = dot(a, a.T)
    scale = positive(jnp.linalg.norm(y))  # at least the highest σ²
    probe = np.random.default_rng(0).standard_normal(a.shape[0])
    probe = probe / np.linalg.norm(probe)
    start = (jnp.asarray(value, a.dtype) for value in (probe, eps**2, jnp.inf))
    first = advance(y / scale, a / jnp.sqrt(scale), *start)
    return lax.while_loop(unfinished, step, first)[0]


def positive(number: Array) -> Array:
    """``number``, or 1 where it is 0: to divide by."""
    return jnp.where(number == 0, 1, number)


def rounding(a: Array) -> float:
    """The relative distance of neighbouring numbers of a's type."""
    return float(jnp.finfo(a.dtype).eps)
