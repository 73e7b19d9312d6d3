"""A kernel and the Jacobians behind it in the kernel's own singular directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax.support.checks import check_array, check_filled, is_traced
from gramlin_jax.support.linalg import diagonal, dot, eigh, inverse_root, rank_tolerance
from gramlin_jax.support.precision import in_float64, magnitude

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


class Singular(NamedTuple):
    """W = Kᵀ = VSUᵀ and J in the basis V of the outputs; range(W) are the directions with S > 0.

    All scales are relative: K and J are divided by powers of two.

    Attributes:
        squares: S², descending (o,); 0 beyond the rank.
        vectors: V (o, o), left singular vectors of W as columns.
        factor: F = VS⁻¹ (o, o), of which U = KF, with the derivative of ``inverse_root``.
        jacobian: VᵀJV (o, o), 0 outside of range(W).
        inside: Whether a direction is in range(W), 1 or 0 (o,); NaN for a kernel of NaN.
        kernel: K in these units.
    """

    squares: Float[Array, "o"]
    vectors: Float[Array, "o o"]
    factor: Float[Array, "o o"]
    jacobian: Float[Array, "o o"]
    inside: Float[Array, "o"]
    kernel: Float[Array, "i o"]

    @property
    def roots(self) -> Float[Array, "o o"]:
        """UᵀKV = diag(S); off the diagonal it has a derivative, as U and V turn differently."""
        moving = dot(self.factor.T, dot(dot(self.kernel.T, self.kernel), self.vectors))
        moving = moving * self.inside[None]
        return lax.stop_gradient(jnp.diag(jnp.sqrt(self.squares)) - moving) + moving

    @property
    def gram(self) -> Float[Array, "o o"]:
        """KKᵀ in the basis U of the inputs, diag(S²)."""
        return dot(self.roots, self.roots.T)

    @property
    def agop(self) -> Float[Array, "o o"]:
        """The AGOP K J Kᵀ in the basis U of the inputs, S(VᵀJV)S."""
        return dot(dot(self.roots, self.jacobian), self.roots.T)

    @property
    def captured(self) -> Float[Array, "o"]:
        """vᵀJv of each direction, and the mean of it over directions with equal S²."""
        return self.mean_of_equals(diagonal(self.jacobian))

    def mean_of_equals(self, values: Float[Array, "o"]) -> Float[Array, "o"]:
        """Means over directions with equal S².

        The basis of such directions is arbitrary, and so are their single values, but not the mean.
        """
        gaps = self.squares[:-1] - self.squares[1:]
        number = jnp.cumsum(gaps > rank_tolerance(max(self.kernel.shape)) * self.squares[0])
        number = jnp.concatenate([jnp.zeros(1, number.dtype), number])
        equal = (number[:, None] == number[None]).astype(jnp.float64)
        return dot(equal, values) / equal.sum(1)


@in_float64
def in_singular_basis(kernel: Float[Array, "i o"], jacobian: Float[Array, "o o"]) -> Singular:
    """K and J, checked, in the singular directions of K.

    Directions whose S² is below max(64, i, o)·2⁻⁵² of the largest are outside of range(W).

    Raises:
        ValueError: If ``kernel`` is no matrix, or ``jacobian`` not as ``check_jacobian`` wants it.
        TypeError: If one is not floating point.
    """
    kernel = check_array("kernel", kernel, ("i", "o")).astype(jnp.float64)
    check_filled("kernel", kernel)
    jacobian = check_jacobian(jacobian, kernel.shape[1])
    kernel, jacobian = kernel / magnitude(kernel), jacobian / magnitude(jacobian)
    gram = dot(kernel.T, kernel)
    squares, vectors = (a[..., ::-1] for a in eigh(gram))
    inside = (squares > rank_tolerance(max(kernel.shape)) * squares[0]).astype(jnp.float64)
    inside = jnp.where(jnp.isnan(squares), jnp.nan, inside)  # a kernel of NaN has no rank
    turned = dot(dot(vectors.T, jacobian), vectors) * inside[:, None] * inside[None]
    squares = squares * inside
    factor = inverse_root(gram, *lax.stop_gradient((squares, vectors)))
    return Singular(squares, vectors, factor, (turned + turned.T) / 2, inside, kernel)


@in_float64
def check_jacobian(
    jacobian: Any, size: int | None = None, name: str = "jacobian"
) -> Float[Array, "o o"]:
    """A second moment, such as J, in float64.

    Args:
        jacobian: The matrix.
        size: Number of outputs of the kernel that it belongs to; None: any.
        name: Of the argument.

    Raises:
        ValueError: If it is not (size, size) or (outside transformations) not finite, symmetric and
            positive semi-definite on its diagonal.
        TypeError: If it is not floating point.
    """
    jacobian = check_array(name, jacobian, ("o", "o")).astype(jnp.float64)
    check_filled(name, jacobian)
    if size is None and jacobian.shape[0] != jacobian.shape[1]:
        raise ValueError(f"{name} has shape {jacobian.shape}: wanted a square matrix")
    if size is not None and jacobian.shape != (size, size):
        raise ValueError(
            f"{name} has shape {jacobian.shape}: wanted ({size}, {size}), as the kernel has "
            f"{size} outputs"
        )
    if not is_traced(jacobian):
        array = np.asarray(jacobian)
        if abs(array - array.T).max() > 1e-6 * abs(array).max():
            raise ValueError(f"{name} is not symmetric: wanted a second moment, as J = Σ δδᵀ/n")
        if (np.diagonal(array) < 0).any():
            raise ValueError(
                f"{name} has a negative diagonal: wanted a second moment, as J = Σ δδᵀ/n"
            )
    return jacobian


def descending(matrix: Float[Array, "o o"]) -> tuple[Float[Array, "o"], Float[Array, "o o"]]:
    """Eigenvalues ≥ 0, descending, and eigenvectors of a positive semi-definite matrix."""
    values, vectors = (a[..., ::-1] for a in eigh(matrix))
    return jnp.where(values > rank_tolerance(len(values)) * values[0], values, 0), vectors


def distinct(values: Float[Array, "o"]) -> Bool[Array, "o"]:
    """Which descending eigenvalues determine their vector: those that are not 0 nor repeated.

    Up to ``rank_tolerance``. The other vectors are an arbitrary basis, as rounding has it.
    """
    values = lax.stop_gradient(values)
    gaps = jnp.concatenate([values[:1], values[:-1] - values[1:], values[-1:]])
    return jnp.minimum(gaps[:-1], gaps[1:]) > rank_tolerance(len(values)) * values[0]
