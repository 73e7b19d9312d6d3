"""Checks of user input, from static shapes wherever these suffice."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


def is_traced(value: Any) -> bool:
    """Whether ``value`` is abstract, as under ``jit`` or ``vmap``, so its numbers are unknown."""
    return isinstance(value, jax.core.Tracer)


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise ``ValueError`` if a number is known and below ``least``."""
    # Comparisons of JAX's own numbers are traced under jit, even where the numbers are known.
    if not (is_traced(value) or np.asarray(value) >= least):  # NaN included
        raise ValueError(f"{name} is {value}: wanted at least {least}")


def check_count(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an integer; raise ``ValueError`` if it is none, or below ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}: wanted an integer, at least {least}") from None
    check_at_least(name, number, least)
    return number


def check_integer(name: str, value: Any) -> int:
    """``value`` as an integer; raise ``TypeError`` if it is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}: wanted an integer") from None


def check_number(name: str, value: Any) -> float | None:
    """A single real number; None where it is traced.

    Raises:
        ValueError: If it is none, or known and not finite.
    """
    try:
        finite = is_traced(value) or np.isfinite(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}: wanted a number") from None
    if shape := np.shape(value):
        raise ValueError(f"{name} has shape {shape}: wanted a number; use jax.vmap over it")
    if np.iscomplexobj(value):
        raise ValueError(f"{name} is {value}: wanted a real number")
    if not finite:
        raise ValueError(f"{name} is {value}: wanted a finite number")
    return None if is_traced(value) else float(value)


def check_positive(name: str, value: Any) -> None:
    """Raise ``ValueError`` if something is not a single number, or known and not above 0."""
    known = check_number(name, value)
    if known is not None and not known > 0:
        raise ValueError(f"{name} is {value}: wanted a positive number")


def check_known(name: str, value: Any) -> float:
    """A single number on which the program itself depends.

    Raises:
        ValueError: If it is none, not finite or traced.
    """
    known = check_number(name, value)
    if known is None:
        raise ValueError(f"{name} is traced, as under jit: wanted a Python number")
    return known


def check_finite_number(name: str, value: Any) -> float:
    """A real number that is finite.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not finite.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise TypeError(f"{name} is a {kind}, {value!r}: wanted a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}: wanted a finite number")
    return number


def check_kind(name: str, value: Any, kind: type, example: str) -> None:
    """Raise ``TypeError`` if something is not of a class; ``example`` says where it comes from."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}: wanted {kind.__name__}, {example}")


def check_function(name: str, value: Any, example: str) -> None:
    """Raise ``TypeError`` if something cannot be called."""
    if not callable(value):
        kind = type(value).__name__
        raise TypeError(f"{name} is a {kind}: wanted a function, as {example}")


def check_concrete(name: str, tree: PyTree, instead: str) -> None:
    """Refuse arrays without numbers; ``instead`` says where to call what needs them.

    Raises:
        ValueError: If an array is traced, or was deleted.
    """
    for leaf in jax.tree.leaves(tree):
        if is_traced(leaf):
            raise ValueError(f"{name} is traced, as under jit: wanted real arrays, {instead}")
        if isinstance(leaf, jax.Array) and leaf.is_deleted():
            raise ValueError(
                f"{name} was deleted, as what is donated to a step: wanted what the step returned"
            )


def check_numbers(name: str, value: Any, wanted: str = "real numbers") -> Array:
    """``value`` as an array of real numbers, of any type and shape.

    Raises:
        TypeError: If it is no array, or complex.
        ValueError: If it has masked entries.
    """
    if np.ma.is_masked(value):
        raise ValueError(
            f"{name} has masked entries: wanted plain arrays; drop those, or fill them"
        )
    try:
        array = jnp.asarray(np.asarray(value) if np.ma.isMaskedArray(value) else value)
    except (TypeError, ValueError) as error:
        if isinstance(value, jax.Array):  # JAX's own errors
            raise
        kind = getattr(value, "dtype", type(value).__name__)
        raise TypeError(
            f"{name} is of {kind}: wanted an array of {wanted}, as JAX has it"
        ) from error
    if jnp.iscomplexobj(array):
        raise TypeError(
            f"{name} has dtype {array.dtype}: wanted {wanted}; take real and imaginary parts apart"
        )
    return array


def check_floating(name: str, value: Any) -> Array:
    """``value`` as a floating-point array of any shape.

    Raises:
        TypeError: If it is no array, or not floating point.
        ValueError: If it has masked entries.
    """
    array = check_numbers(name, value, "floating point")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        hint = "jax.nn.one_hot(labels, num_classes)" if name == "targets" else "astype('float32')"
        raise TypeError(f"{name} has dtype {array.dtype}: wanted floating point; use {hint}")
    return array


def check_array(name: str, value: Any, axes: tuple[str, ...]) -> Array:
    """``value`` as a floating-point array with the named axes.

    Raises:
        TypeError: As ``check_floating``.
        ValueError: If it has a different number of axes, or is concrete and not finite.
    """
    array = check_floating(name, value)
    wanted = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
    if array.ndim != len(axes):
        raise ValueError(
            f"{name} has shape {array.shape}: wanted {wanted}; reshape or pool to "
            f"{len(axes)} axes, or use jax.vmap over the others"
        )
    if not is_traced(array):
        check_finite(name, array)
    return array


def check_leading_axis(name: str, tree: PyTree) -> int:
    """The number of samples: the length of the first axis, which all arrays of ``tree`` share.

    Raises:
        ValueError: If there is no array, or the lengths differ or are 0.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
    if not shapes or any(not shape for shape in shapes):
        raise ValueError(
            f"{name} holds arrays of shapes {shapes}: wanted at least one array (n, ...)"
        )
    sizes = {shape[0] for shape in shapes}
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(
            f"{name} holds arrays of shapes {shapes}: wanted the same number of samples, at least "
            "one, on the first axis of each"
        )
    return sizes.pop()


def check_finite(name: str, tree: PyTree) -> None:
    """Raise ``ValueError`` if a floating-point array of ``tree`` holds NaN or infinity."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        with jax.ensure_compile_time_eval():  # constants of a traced function are concrete
            array = jnp.asarray(leaf)
            real = jnp.issubdtype(array.dtype, jnp.floating)
            bad = int((~jnp.isfinite(array)).sum()) if real else 0
        if bad:
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} has {bad} values out of {array.size} that are "
                "NaN or infinite: wanted finite ones; drop those samples"
            )


def check_matrices(name: str, value: Any) -> Array:
    """``value`` as a floating-point matrix (i, o), or a stack of them (*stack, i, o).

    Raises:
        TypeError: If it is not floating point.
        ValueError: If it has fewer than two axes.
    """
    array = check_floating(name, value)
    if array.ndim < 2:
        raise ValueError(f"{name} has shape {array.shape}: wanted (i, o), or (*stack, i, o)")
    return check_array(name, array, (*["stack"] * (array.ndim - 2), "i", "o"))


def check_filled(name: str, array: Array) -> None:
    """Raise ``ValueError`` if an array has an empty axis."""
    if not array.size:
        raise ValueError(f"{name} has shape {array.shape}: wanted no empty axis")


def check_orthonormal(name: str, array: Array) -> None:
    """Raise ``ValueError`` if the columns of a concrete matrix (i, r) are not orthonormal.

    To 0.001, or four machine epsilons of half precision.
    """
    if is_traced(array):
        return
    columns = np.asarray(array, np.float64)
    off = abs(columns.T @ columns - np.eye(columns.shape[1])).max(initial=0)
    if off > max(1e-3, 4 * float(jnp.finfo(array.dtype).eps)):
        raise ValueError(
            f"{name} has columns whose products are up to {off:.2g} off 0 and 1: wanted "
            "orthonormal columns"
        )


def check_same_shape(name: str, value: Any, other: str, reference: Any) -> None:
    """Raise ``ValueError`` if two arrays differ in shape."""
    if np.shape(value) != np.shape(reference):  # of lists, too
        raise ValueError(
            f"{name} has shape {np.shape(value)} and {other} {np.shape(reference)}: wanted the "
            "same shape"
        )
