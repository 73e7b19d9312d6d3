"""What alignments are by chance: one side turned by random rotations, all else kept.

The neural feature ansatz does not say where W is among all kernels with its singular values.
Turning J by Haar rotations of the pre-activations tells whether a correlation says anything of it.
Calls with the same key share their rotations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gramlin_jax._moments.gradients import GradientMoments, check_gradients
from gramlin_jax.metrics.cosines import cosine
from gramlin_jax.metrics.singular import check_jacobian, descending, in_singular_basis
from gramlin_jax.support.checks import check_array, check_count, check_filled, check_same_shape
from gramlin_jax.support.linalg import dot, root
from gramlin_jax.support.precision import concrete, in_float64, magnitude

if TYPE_CHECKING:
    from jaxtyping import Array, Float

SAMPLES = 199


class Null(NamedTuple):
    """An alignment beside what it is under random rotations: float64 scalars.

    Attributes:
        value: The alignment.
        mean: Its mean under rotations.
        deviation: Its standard deviation.
        p: (1 + number of rotations with at least this value)/(1 + number of rotations).
    """

    value: Float[Array, ""]
    mean: Float[Array, ""]
    deviation: Float[Array, ""]
    p: Float[Array, ""]


@in_float64
def rotation_null(
    key: Array, kernel: Float[Array, "i o"], jacobian: Float[Array, "o o"], samples: int = SAMPLES
) -> Null:
    """The cosine of KKᵀ with the AGOP, and what it is with QJQᵀ for J, Q Haar on the outputs.

    Args:
        key: Of the rotations.
        kernel: K (i, o).
        jacobian: J (o, o).
        samples: Number of rotations.

    Returns:
        Value, mean, deviation and one-sided p-value; NaN where ``nfa_correlation`` is.

    Raises:
        ValueError: If shapes do not match, J is not symmetric or ``samples`` < 2.
        TypeError: If an argument is not floating point.

    Source: the note on arXiv 2212.13881 asks whether another W would do.

    Example:
        >>> null = rotation_null(jax.random.key(0), jnp.diag(jnp.arange(1.0, 9)), jnp.eye(8))
        >>> round(float(null.value), 6), round(float(null.mean), 6), float(null.p)
        (1.0, 1.0, 1.0)
    """
    of = in_singular_basis(kernel, jacobian)
    values = descending(check_jacobian(jacobian, of.kernel.shape[1]))[0]
    values = values / values[0]

    value = jnp.where(of.kernel.shape[1] > 1, cosine(of.gram, of.agop), jnp.nan)
    return _null(value, _draws(key, len(values), samples, _ansatz, of.squares, values))


@in_float64
def alignment_null(
    key: Array, a: Float[Array, "d d"], b: Float[Array, "d d"], samples: int = SAMPLES
) -> Null:
    """The cosine of two positive semi-definite matrices, and with QBQᵀ for B, Q Haar.

    Args:
        key: Of the rotations.
        a: A (d, d), such as E[hhᵀ].
        b: B (d, d).
        samples: Number of rotations.

    Returns:
        Value, mean, deviation and one-sided p-value; NaN where a matrix is zero.

    Raises:
        ValueError: If the shapes differ, a matrix is not symmetric or ``samples`` < 2.
        TypeError: If a matrix is not floating point.

    Example:
        >>> a = jnp.diag(jnp.arange(1.0, 9))
        >>> null = alignment_null(jax.random.key(0), a, a)
        >>> float(null.value), float(null.p)
        (1.0, 0.005)
    """
    check_same_shape("b", b, "a", a)
    matrices = (check_jacobian(m, name=name) for name, m in (("a", a), ("b", b)))
    a_values, b_values = (descending(m / magnitude(m))[0] for m in matrices)
    a_values, b_values = (values / jnp.linalg.norm(values) for values in (a_values, b_values))
    return _null(cosine(a, b), _draws(key, len(a_values), samples, _spectra, a_values, b_values))


@in_float64
def fact_null(
    key: Array, kernel: Float[Array, "i o"], gradients: GradientMoments, samples: int = SAMPLES
) -> Null:
    """The cosine of ``fact``, and what it is with ΔQ for the gradients Δ, Q Haar on the outputs.

    Args:
        key: Of the rotations.
        kernel: K (i, o).
        gradients: Gradient moments of the same layer.
        samples: Number of rotations.

    Returns:
        Value, mean (about 0), deviation and one-sided p-value; NaN where kernel or gradient is 0.

    Raises:
        ValueError: If shapes do not match or ``samples`` < 2.
        TypeError: If the kernel is not floating point, or ``gradients`` are no gradient moments.

    Source: arXiv 2507.05644, for the value.

    Example:
        >>> m = gradient_moments(lambda p, x: x @ p["w"], {"w": jnp.eye(3)}, jnp.eye(3),
        ...     loss=lambda z: -jnp.trace(z))
        >>> null = fact_null(jax.random.key(0), jnp.eye(3), m["w"])
        >>> round(float(null.value), 6), abs(float(null.mean)) < 0.2
        (1.0, True)
    """
    kernel = check_array("kernel", kernel, ("i", "o")).astype(jnp.float64)
    check_filled("kernel", kernel)
    check_gradients(gradients)
    gradient = jnp.asarray(gradients.kernel_gradient, jnp.float64)
    check_same_shape("kernel", kernel, "gradients.kernel_gradient", gradient)
    kernel, gradient = (a / jnp.abs(lax.stop_gradient(a)).max() for a in (kernel, gradient))
    gram = dot(kernel.T, kernel)
    # ⟨KKᵀ, KQ∇ᵀ⟩ = ⟨G∙Kᵀ∇, Q⟩ and ‖KQ∇ᵀ‖² = ⟨Q∙∇ᵀ∇, GQ⟩, all (o, o).
    cross, squares = -dot(gram, dot(kernel.T, gradient)), dot(gradient.T, gradient)
    parts = cross, squares, gram
    draws = _draws(key, kernel.shape[1], samples, _fact, *parts)
    return _null(_fact(jnp.eye(kernel.shape[1]), *parts), draws)


@in_float64
def replaced_kernel(key: Array, kernel: Float[Array, "i o"], how: str) -> Float[Array, "i o"]:
    """Another kernel in the place of K that shares something with it.

    Args:
        key: Of the draw.
        kernel: K (i, o).
        how: ``"rotated"`` is KQ, Q Haar on the outputs, of the same KKᵀ; ``"spectrum"`` PKQ, both
            Haar, of the same singular values; ``"permuted"`` has the entries of K in random order.

    Returns:
        (i, o), in the kernel's type.

    Raises:
        ValueError: If ``kernel`` is no matrix or ``how`` is unknown.
        TypeError: If it is not floating point.

    Example:
        >>> k = replaced_kernel(jax.random.key(0), jnp.diag(jnp.array([2.0, 1])), "rotated")
        >>> (k @ k.T).round(5).tolist()
        [[4.0, 0.0], [0.0, 1.0]]
    """
    kernel = check_array("kernel", kernel, ("i", "o"))
    if how not in ("rotated", "spectrum", "permuted"):
        raise ValueError(f"how is {how!r}: wanted 'rotated', 'spectrum' or 'permuted'")
    if how == "permuted":
        return concrete(jax.random.permutation(key, kernel.reshape(-1)).reshape(kernel.shape))
    left, right = jax.random.split(key)
    turned = dot(kernel.astype(jnp.float64), haar(right, kernel.shape[1]))
    if how == "spectrum":
        turned = dot(haar(left, kernel.shape[0]), turned)
    return concrete(turned.astype(kernel.dtype))


@in_float64
def haar(key: Array, size: int) -> Float[Array, "size size"]:
    """A random rotation or reflection of Haar measure; a loop under ``vmap``, see ``eigh``."""
    # Draws of 64 bits cannot be compiled where the global flag allows 32 only.
    normal = jax.random.normal(key, (size, size), jnp.float32)
    return _orthogonalised(normal.astype(jnp.float64))


@jax.custom_batching.sequential_vmap
@in_float64
def _orthogonalised(a: Array) -> Array:
    q, r = jnp.linalg.qr(a)
    return q * jnp.sign(jnp.diagonal(r))[None]


def _ansatz(q: Array, squares: Array, values: Array) -> Array:
    j, s = dot(q * values[None], q.T), root(squares)
    return cosine(jnp.eye(len(s)) * squares[None], s[:, None] * j * s[None])


def _spectra(q: Array, a: Array, b: Array) -> Array:
    return dot(dot(a, q**2), b)


def _fact(q: Array, cross: Array, squares: Array, gram: Array) -> Array:
    norm = jnp.linalg.norm(gram)
    return (cross * q).sum() / (norm * jnp.sqrt((dot(q, squares) * dot(gram, q)).sum()))


def _draws(
    key: Array, size: int, samples: int, function: Callable[..., Array], *parts: Array
) -> Array:
    """``function`` of Haar rotations (samples,), one after another."""
    return _drawn(key, size, check_count("samples", samples, 2), function, *parts)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _drawn(
    key: Array, size: int, samples: int, function: Callable[..., Array], *parts: Array
) -> Array:
    keys = jax.random.split(key, samples)
    return lax.map(lambda k: function(haar(k, size), *parts), keys)


def _null(value: Array, draws: Array) -> Null:
    # Draws that are equal but for rounding count as at least as large.
    p = (1 + (draws >= value - 1e-12).sum()) / (1 + len(draws))
    found = value, draws.mean(), draws.std(ddof=1), jnp.where(jnp.isnan(value), jnp.nan, p)
    return Null(*map(concrete, found))
