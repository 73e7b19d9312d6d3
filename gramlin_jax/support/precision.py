"""Float64 and full-precision products for one function, whatever the global flags."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax.support.checks import is_traced

if TYPE_CHECKING:
    from jaxtyping import Array, Float

PRECISION = "jax_default_matmul_precision"
P = ParamSpec("P")
R = TypeVar("R")


def with_nan(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function``, whose NaN is an answer, where JAX looks for NaN in the rest too."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.debug_nans(False), jax.debug_infs(False):
            return function(*args, **kwargs)

    return wrapped


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` with 64-bit types enabled and matmul precision ``"highest"``.

    Works inside ``jit``, ``vmap`` and ``scan``, and leaves the rest of the program unchanged. Its
    NaN is an answer, see ``with_nan``.
    """

    @functools.wraps(function)
    @with_nan
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        promotion = jax.numpy_dtype_promotion("standard")
        with jax.enable_x64(True), jax.default_matmul_precision("highest"), promotion:
            args, kwargs = jax.tree.map(_settled, (args, kwargs))
            return function(*args, **kwargs)

    return wrapped


def in_full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function``, and the network in it, with matmul precision ``"highest"``.

    By default a GPU rounds the factors of float32 products to 10 bits, and a TPU to 7. Where the
    user has set ``jax_default_matmul_precision``, that holds.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        chosen = getattr(jax.config, PRECISION)
        with jax.default_matmul_precision(chosen or "highest"):
            return function(*args, **kwargs)

    return wrapped


def with_promotion(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` with JAX's standard promotion of types, be it strict for the rest."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return wrapped


def _settled(value: Any) -> Any:
    """``value`` in the type that it holds.

    When ``vmap`` maps over a NumPy array of float64, the tracer claims float32 but holds float64,
    and the two would clash in compiled code. A copy where there is float64 makes them agree; under
    ``jit`` it costs nothing.
    """
    return jnp.array(value, copy=True) if is_traced(value) else value


def concrete(value: Array) -> Array:
    """``value`` as NumPy's outside transformations.

    Arithmetic with it stays in float64; JAX would cut the result to float32 by its global flag.
    """
    return value if is_traced(value) else cast("Array", np.asarray(value)[()])


@with_promotion
def widened(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """``a`` in float32 or wider: half precision is converted, other types are kept."""
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def magnitude(a: Float[Array, "..."], axis: int | tuple[int, ...] | None = None) -> Array:
    """The power of two at or below the largest |a|, or 1 where that is 0 or not finite.

    Division by it is exact, and squares of the quotient neither overflow nor vanish. Its inverse is
    a normal number too, because XLA may multiply by that.

    Args:
        a: Any array of floating point.
        axis: Over which to take the largest, kept with length 1; None: all, a scalar.
    """
    # A step function of a. The derivative of max fails where jit is inside of grad, in float32.
    largest = abs(lax.stop_gradient(a)).max(axis, keepdims=axis is not None)
    usable = (largest > 0) & jnp.isfinite(largest)
    info = jnp.finfo(a.dtype)
    # Without its mantissa's bits. JAX's own frexp is expanded where float64 may be switched off.
    kind = np.dtype(f"uint{info.bits}")
    exponent = np.array(((1 << info.nexp) - 1) << info.nmant, kind)
    bits = lax.bitcast_convert_type(jnp.where(usable, largest, 1), kind)
    power = lax.bitcast_convert_type(bits & exponent, a.dtype)
    least = float(info.tiny)
    return jnp.clip(power, least, 1 / least)
