"""How isotropic the gradients at pre-activations are: how near they come to a tight frame.

The neural feature ansatz WᵀW ∝ K J Kᵀ says, where W is invertible, that J ∝ I: the gradients
δ = ∂f_c/∂z of all samples and outputs are a tight frame. There are two distances from that: one
of the frame operator J, and one of the matrix of gradients itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp

from gramlin_jax._moments.jacobians import JacobianMoments
from gramlin_jax.metrics.singular import check_jacobian, descending, in_singular_basis
from gramlin_jax.support.checks import check_kind, is_traced
from gramlin_jax.support.linalg import diagonal, entry, root
from gramlin_jax.support.precision import concrete, in_float64, magnitude

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


class Isotropy(NamedTuple):
    """Result of ``isotropy``: float64 scalars.

    Attributes:
        cosine: tr J/(√k‖J‖), of the frame operator with I, in [1/√k, 1]; 1 for a tight frame.
        distance: Relative L2 distance of the matrix of gradients from the nearest tight frame,
            √(1 − (tr √J)²/(k tr J)), in [0, √(1 − 1/k)]; 0 for a tight frame.
        lower: Frame bound k λ_min/tr J, in [0, 1].
        upper: Frame bound k λ_max/tr J, in [1, k].
        dimension: k.
    """

    cosine: Float[Array, ""]
    distance: Float[Array, ""]
    lower: Float[Array, ""]
    upper: Float[Array, ""]
    dimension: Float[Array, ""]


class DebiasedIsotropy(NamedTuple):
    """Result of ``debiased_isotropy``: float64 scalars.

    Attributes:
        cosine_squared: Estimate of cos²(E[J], I); above 1 or negative by chance.
        samples: N, the number of samples that it is from.
    """

    cosine_squared: Float[Array, ""]
    samples: Float[Array, ""]


@in_float64
def isotropy(jacobian: Float[Array, "o o"], kernel: Float[Array, "i o"] | None = None) -> Isotropy:
    """How near the gradients at the pre-activations are to a tight frame.

    Args:
        jacobian: J (o, o), ``jacobian_moments(...)[name].mean``.
        kernel: K (i, o): on range(W) alone, where the ansatz has something to say. None: on the
            whole space, k = o.

    Returns:
        Cosine, distance, frame bounds and dimension; NaN where J is zero there, or k is below 2.
        Under transformations all are NaN for a kernel of NaN.

    Raises:
        ValueError: If shapes do not match or J is not symmetric.
        TypeError: If an argument is not floating point.

    Source: the note on arXiv 2212.13881; ``distance``: the nearest tight frame is the polar factor
        of the gradients times the mean of their singular values.

    Example:
        >>> found = isotropy(jnp.diag(jnp.array([1.0, 3])))
        >>> round(float(found.cosine), 6), float(found.lower), float(found.upper)
        (0.894427, 0.5, 1.5)
    """
    if kernel is None:
        jacobian = check_jacobian(jacobian)
        matrix, k = jacobian / magnitude(jacobian), jnp.float64(len(jacobian))
    else:
        of = in_singular_basis(kernel, jacobian)
        matrix, k = of.jacobian, of.inside.sum()
    values = descending(matrix)[0]  # not computed under jit where the cosine alone is read
    total, defined = diagonal(matrix).sum(), k > 1
    # Near a tight frame 1 − (tr √J)²/(k tr J) would cancel: it is the variance of the roots.
    roots = root(values)
    away = jnp.where(jnp.arange(len(values)) < k, roots - roots.sum() / k, 0)
    found = (
        total / jnp.sqrt(k * (matrix**2).sum()),
        root((away**2).sum() / total),
        k * entry(values, k - 1) / total,
        k * values[0] / total,
    )
    bounds = (jnp.where(defined, a, jnp.nan) for a in found)
    return Isotropy(*map(concrete, (*bounds, k)))


@in_float64
def all_identity(m: JacobianMoments) -> Bool[Array, ""]:
    """Whether every sample has Gᵢ = I, as at the last linear layer, where ∂f/∂z = I."""
    o = jnp.shape(m.products)[-1]
    jacobian = jnp.asarray(m.mean, jnp.float64)
    squares = jnp.asarray(m.squares, jnp.float64) / m.count
    exact = abs(jacobian - jnp.broadcast_to(jnp.eye(o), jacobian.shape)).max() < 1e-9
    return exact & (abs(squares - o).max() < 1e-9 * o)


@in_float64
def debiased_isotropy(m: JacobianMoments) -> DebiasedIsotropy:
    """cos²(J, I) without the bias of few samples.

    The cosine of N samples' J is too low: cos² by a factor of about 1/(1 + k/N) for isotropic
    gradients of one output. Here
    cos² = (tr J)²/(k t₂), where t₂ = (N² tr J² − Σᵢ‖Gᵢ‖²)/(N(N − 1)) leaves out the pairs of a
    sample with itself. It is right for random probes too.

    Args:
        m: Jacobian moments of one layer, with ``squares``.

    Returns:
        cos² and N.

    Raises:
        ValueError: If the moments are stacked, or (outside transformations) of fewer than two
            samples; else NaN.
        TypeError: If ``m`` is no Jacobian moments.

    Source: the U-statistic of tr E[G]².

    Example:
        >>> g = np.random.default_rng(0).normal(size=(50, 30))
        >>> m = JacobianMoments(np.float64(50), g.T @ g, np.sum((g**2).sum(1) ** 2))
        >>> float(isotropy(m.mean).cosine) ** 2 < 0.7
        True
        >>> float(debiased_isotropy(m).cosine_squared) > 0.9
        True
    """
    check_kind("m", m, JacobianMoments, "jacobian_moments(...)[name]")
    if jnp.ndim(m.products) != 2:
        raise ValueError(
            f"m is stacked (products {jnp.shape(m.products)}): map over it with jax.vmap"
        )
    n = jnp.asarray(m.count, jnp.float64)
    if not is_traced(n) and not float(n) > 1:
        raise ValueError(f"m has {float(n):g} samples: wanted at least 2 to debias")
    unit = magnitude(jnp.asarray(m.products, jnp.float64))
    products, squares = jnp.asarray(m.products) / unit, jnp.asarray(m.squares) / unit / unit
    pairs = ((products**2).sum() - squares) / (n * (n - 1))
    ratio = (diagonal(products).sum() / n) ** 2 / (len(products) * pairs)
    return DebiasedIsotropy(concrete(jnp.where(n > 1, ratio, jnp.nan)), concrete(n))
