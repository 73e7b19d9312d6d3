"""The weight Gram: what a linear map sees of its input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gramlin_jax.checks import check_array
from gramlin_jax.precision import dot, in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@in_float64
def weight_gram(kernel: Float[Array, "i o"]) -> Float[Array, "i i"]:
    """The weight Gram KKᵀ = WᵀW of z = xK + b (i inputs, o outputs).

    Symmetric, positive semi-definite, of rank ≤ min(i, o), and blind to rotations of the outputs:
    K and KQ share it for every orthogonal Q. Of the kernel's own type.

    Args:
        kernel: K (i, o), as in Flax; reshape a convolution's to (height·width·in, out) first.

    Raises:
        ValueError: If ``kernel`` is not a matrix or (outside of transformations) not finite.
        TypeError: If it is not of floating point.

    Source: arXiv 2605.06258, section 3.
    """
    kernel = check_array("kernel", kernel, ("i", "o"))
    return dot(kernel, kernel.T)
