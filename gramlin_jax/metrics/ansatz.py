"""The neural feature ansatz WᵀW ∝ AGOP^α, and what it says in singular directions.

At a layer z = XK, W = Kᵀ, the average gradient outer product of the outputs f with respect to the
layer's input is AGOP = K J Kᵀ, J = (1/n) Σᵢ Σ_c δδᵀ with δ = ∂f_c/∂z (``jacobian_moments``). The
loss does not occur in it. With W = VSUᵀ the ansatz with exponent α says that J ∝ S^(2/α − 2) on
range(W) in the basis V: isotropy is the case α = 1.

Shapes: i inputs, o outputs. Map over stack axes of kernels (groups, heads) with ``jax.vmap``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import jax.numpy as jnp
from jax import lax

from gramlin_jax.metrics.cosines import cosine
from gramlin_jax.metrics.singular import (
    Singular,
    check_jacobian,
    descending,
    distinct,
    in_singular_basis,
)
from gramlin_jax.support.checks import (
    check_array,
    check_count,
    check_known,
    check_positive,
    check_same_shape,
)
from gramlin_jax.support.linalg import dot, rank_tolerance
from gramlin_jax.support.precision import concrete, in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class AnsatzExponent(NamedTuple):
    """Result of ``ansatz_exponent``: float64 scalars.

    Attributes:
        alpha: α = 1/(1 + β).
        beta: β of vᵀJv ∝ s^(2β) over the singular directions v of range(W).
        determination: R² of the fit of ln vᵀJv, in [0, 1]; NaN for equal vᵀJv, as of J ∝ I.
    """

    alpha: Float[Array, ""]
    beta: Float[Array, ""]
    determination: Float[Array, ""]


@in_float64
def agop(kernel: Float[Array, "i o"], jacobian: Float[Array, "o o"]) -> Float[Array, "i i"]:
    """The average gradient outer product at a layer's input, K J Kᵀ.

    Args:
        kernel: K (i, o).
        jacobian: J (o, o), ``jacobian_moments(...)[name].mean``.

    Returns:
        (i, i), float64.

    Raises:
        ValueError: If the shapes do not match or J is not symmetric.
        TypeError: If an argument is not floating point.

    Source: arXiv 2212.13881, equation 2; by the chain rule at the pre-activations.

    Example:
        >>> agop(jnp.array([[1.0], [2.0]]), jnp.array([[3.0]])).tolist()
        [[3.0, 6.0], [6.0, 12.0]]
    """
    kernel = check_array("kernel", kernel, ("i", "o")).astype(jnp.float64)
    return dot(dot(kernel, check_jacobian(jacobian, kernel.shape[1])), kernel.T)


@in_float64
def nfa_correlation(
    kernel: Float[Array, "i o"],
    jacobian: Float[Array, "o o"],
    *,
    power: float = 1.0,
    kind: Literal["cosine", "pearson"] = "cosine",
    kernel_init: Float[Array, "i o"] | None = None,
) -> Float[Array, ""]:
    """Correlation of KKᵀ = WᵀW with AGOP^power.

    The cosine is in [0, 1]: both matrices are positive semi-definite, so a random pair has a
    positive one; compare ``rotation_null``. It is 1 for J ∝ I.

    Args:
        kernel: K (i, o).
        jacobian: J (o, o).
        power: Exponent > 0 of the AGOP: ½ for convolutions and transformers in the literature, 1/L
            at the first of L balanced linear layers, where the cosine is 1.
        kind: ``"cosine"`` of the matrices, or ``"pearson"`` of their entries.
        kernel_init: K₀ (i, o), the kernel before training: K − K₀ takes the place of K.

    Returns:
        A float64 scalar; NaN where K (or K − K₀) or AGOP is zero, where o = 1 and both sides are
        multiples of one matrix, or ``"pearson"`` of matrices whose entries are all equal.

    Raises:
        ValueError: If shapes do not match, J is not symmetric, ``power`` ≤ 0, or ``kind`` unknown.
        TypeError: If an argument is not floating point.

    Source: arXiv 2212.13881; ``kernel_init``: arXiv 2402.05271 (centred).

    Example:
        >>> float(nfa_correlation(jnp.diag(jnp.array([1.0, 2])), jnp.eye(2)))
        1.0
    """
    check_positive("power", power)
    power = check_known("power", power)
    if kind not in ("cosine", "pearson"):
        raise ValueError(f"kind is {kind!r}: wanted 'cosine' or 'pearson'")
    if kernel_init is not None:
        kernel = check_array("kernel", kernel, ("i", "o"))
        init = check_array("kernel_init", kernel_init, ("i", "o"))
        check_same_shape("kernel_init", init, "kernel", kernel)
        kernel = kernel.astype(jnp.float64) - init.astype(jnp.float64)
    of = in_singular_basis(kernel, jacobian)
    matrix = of.agop if power == 1 else _power(of.agop, power)
    if kind == "pearson":
        other = agop(of.kernel, jacobian) if power == 1 else _at_inputs(of, matrix)
        found = _pearson(dot(of.kernel, of.kernel.T), other)
    else:
        gram = of.gram
        found = (gram * matrix).sum() / jnp.sqrt((gram**2).sum() * (matrix**2).sum())
    return concrete(jnp.where(of.kernel.shape[1] > 1, found, jnp.nan))


@in_float64
def ansatz_exponent(kernel: Float[Array, "i o"], jacobian: Float[Array, "o o"]) -> AnsatzExponent:
    """The exponent α with which WᵀW ∝ AGOP^α fits best, direction by direction.

    On range(W) the ansatz says vᵀJv ∝ s^(2β), β = 1/α − 1, for the singular values s and left
    singular vectors v of W. β is the least-squares slope of ln vᵀJv on ln s². α = 1 is isotropy,
    and 1/L the exponent of the first of L balanced linear layers. Directions with equal singular
    values, whose basis is arbitrary, all get the mean of their vᵀJv. A vᵀJv below the precision of
    J, 1e-7 of its largest eigenvalue for gradients in float32, is noise: take float64 there.

    Args:
        kernel: K (i, o).
        jacobian: J (o, o).

    Returns:
        α, β and R² of the fit; NaN where range(W) has fewer than two directions, all singular
        values are equal, or J vanishes on a direction up to rounding.

    Raises:
        ValueError: If shapes do not match or J is not symmetric.
        TypeError: If an argument is not floating point.

    Source: the note on arXiv 2212.13881, with an exponent.

    Example:
        >>> s = jnp.array([3.0, 2, 1])
        >>> fit = ansatz_exponent(jnp.diag(s), jnp.diag(s**2))
        >>> round(float(fit.alpha), 9), round(float(fit.determination), 9)
        (0.5, 1.0)
    """
    of = in_singular_basis(kernel, jacobian)
    inside = of.inside > 0
    x = jnp.log(jnp.where(inside, of.squares, 1))
    captured = jnp.where(
        of.captured > rank_tolerance(len(x)) * lax.stop_gradient(of.captured).max(), of.captured, 0
    )
    y = jnp.where(inside, jnp.log(jnp.where(inside, captured, 1)), 0)
    rank = of.inside.sum()
    x, y = ((a - a.sum() / rank) * of.inside for a in (x, y))
    varies, moves = ((a**2).sum() > 1e-20 * rank for a in (x, y))  # rounding alone makes 1e-30
    beta = (x * y).sum() / jnp.where(varies, (x**2).sum(), jnp.nan)
    both = (x**2).sum() * (y**2).sum()
    determination = (x * y).sum() ** 2 / jnp.where(both > 0, both, 1)
    determination = jnp.where(varies & moves, determination, jnp.nan)
    return AnsatzExponent(*map(concrete, (1 / (1 + beta), beta, determination)))


@in_float64
def ky_fan_ratio(
    kernel: Float[Array, "i o"], jacobian: Float[Array, "o o"], rank: int
) -> Float[Array, ""]:
    """Variance of the gradients that the leading right singular vectors of W capture.

    Σ_{j ≤ rank} u_jᵀ AGOP u_j over its optimum, the sum of the AGOP's largest eigenvalues (Ky Fan).
    In [0, 1]; 1 where the ansatz holds with any exponent. Unlike single vectors it needs no gaps
    between singular values: of equal ones across the cut it takes the mean over all bases.

    Args:
        kernel: K (i, o).
        jacobian: J (o, o).
        rank: Number of vectors, in [1, min(i, o)].

    Returns:
        A float64 scalar; NaN where the AGOP is zero.

    Raises:
        ValueError: If shapes do not match, J is not symmetric, or ``rank`` is out of range.
        TypeError: If an argument is not floating point.

    Source: the note on arXiv 2212.13881; Ky Fan (1949).

    Example:
        >>> kernel = jnp.diag(jnp.array([2.0, 1]))
        >>> round(float(ky_fan_ratio(kernel, jnp.diag(jnp.array([1.0, 8])), 1)), 9)
        0.5
    """
    check_count("rank", rank)
    of = in_singular_basis(kernel, jacobian)
    if rank > min(of.kernel.shape):
        raise ValueError(f"rank is {rank}: wanted at most {min(of.kernel.shape)}")
    turned = dot(of.kernel, of.vectors)  # of which the Gram is diag(S²)
    found = of.mean_of_equals((dot(turned.T, turned) * of.jacobian).sum(0))[:rank].sum()
    return concrete(found / descending(of.agop)[0][:rank].sum())


@in_float64
def singular_overlaps(
    kernel: Float[Array, "i o"], jacobian: Float[Array, "o o"]
) -> Float[Array, "o"]:
    """|cosine| of each right singular vector of W with the AGOP's eigenvector of the same rank.

    In [0, 1]; 1 where the ansatz holds. About √(2/(πr)) for random vectors in the range of Wᵀ, with
    r the rank of W. Vectors of equal eigenvalues are arbitrary. Those of close eigenvalues are off
    by the error of J relative to the gap: 0.01 at a gap of 1e-5 of the largest, for J of float32
    gradients. ``ky_fan_ratio`` needs no gaps.

    Args:
        kernel: K (i, o).
        jacobian: J (o, o).

    Returns:
        (o,), float64, by descending singular value; NaN beyond the rank of W or of the AGOP, and
        where an eigenvalue of WᵀW or of the AGOP equals its neighbour, up to rounding in float64.

    Raises:
        ValueError: If shapes do not match or J is not symmetric.
        TypeError: If an argument is not floating point.

    Source: the note on arXiv 2212.13881.

    Example:
        >>> singular_overlaps(jnp.diag(jnp.array([2.0, 1])), jnp.diag(jnp.array([1.0, 8]))).tolist()
        [0.0, 0.0]
        >>> singular_overlaps(jnp.diag(jnp.array([2.0, 1])), jnp.diag(jnp.array([1.0, 0]))).tolist()
        [1.0, nan]
    """
    of = in_singular_basis(kernel, jacobian)
    values, vectors = descending(of.agop)
    determined = distinct(of.squares) & distinct(values)
    own = descending(of.gram)[1]  # unit vectors, which move with the kernel
    return concrete(jnp.where(determined, abs((own * vectors).sum(0)), jnp.nan))


def _power(matrix: Array, power: float) -> Array:
    """A positive semi-definite matrix to a power, in some unit."""
    values, vectors = descending(matrix)
    unit = lax.stop_gradient(values)[0]
    logs = jnp.log(jnp.where(values > 0, values / unit, 1))
    powers = jnp.where(values > 0, jnp.exp(power * logs), 0)
    return dot(vectors * powers[None], vectors.T)


def _at_inputs(of: Singular, matrix: Array) -> Array:
    """A matrix in the basis U of the inputs as (i, i)."""
    basis = dot(of.kernel, of.factor)
    return dot(dot(basis, matrix), basis.T)


def _pearson(a: Array, b: Array) -> Array:
    """Of the entries of two matrices; NaN where those of one are equal up to rounding."""
    away = [m - m.mean() for m in (a, b)]
    vary = [
        abs(m).max() > rank_tolerance(len(a)) * abs(n).max()
        for m, n in zip(*lax.stop_gradient((away, [a, b])), strict=True)
    ]
    return jnp.where(vary[0] & vary[1], cosine(*away), jnp.nan)
