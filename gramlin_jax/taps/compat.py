"""How this package reads jaxprs: the only file that knows JAX's names of equations and their parts.

Equations are evaluated through ``jax.core.eval_jaxpr``, one at a time, which keeps their contexts,
name stacks and custom rules as JAX itself would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

# JAX gives these no types that a checker can read.
Jaxpr: TypeAlias = Any
JaxprEqn: TypeAlias = Any

DOT, CONVOLUTION, NAME = "dot_general", "conv_general_dilated", "name"
CUSTOM_JVP = "custom_jvp_call"
CUSTOM_RULES = frozenset({CUSTOM_JVP, "custom_vjp_call"})
BARRIER = "optimization_barrier"

# Primitives that combine a parameter with data value by value, or put the two side by side.
ELEMENTWISE = frozenset(
    "add sub mul div rem pow max min atan2 nextafter clamp select_n concatenate pad add_any "
    "dynamic_update_slice scatter scatter-add scatter-sub scatter-mul scatter-min scatter-max "
    "and or xor not eq ne lt le gt ge eq_to lt_to le_to complex copy".split()
)
# Those, and others, after which a kernel is still a kernel: an array of the same axes.
SAME_AXES = ELEMENTWISE | {"neg", "convert_element_type", "reduce_precision", "stop_gradient"}
# Those, and others, whose results have the axes of their operands.
KEPT_AXES = SAME_AXES | set(
    "rev slice dynamic_slice split abs sign round floor ceil exp exp2 expm1 log log1p sqrt rsqrt "
    "cbrt square integer_pow tile tanh logistic erf sin cos is_finite cumsum sort name "
    "sharding_constraint".split()
)
# Primitives that move the axes of an array, and nothing else.
MOVES = frozenset({"transpose", "broadcast_in_dim", "squeeze", "reshape", "rev", "slice"})
# Primitives that read a parameter at places which data choose.
LOOKUPS = frozenset({"gather", "dynamic_slice"})


def is_literal(atom: Any) -> bool:
    """Whether an argument of an equation is a constant written into it."""
    return isinstance(atom, core.Literal)


def varying(aval: Any) -> frozenset[str]:
    """Axes of a ``shard_map`` over which a value varies."""
    kind = aval.manual_axis_type
    return frozenset() if kind is None else frozenset(kind.varying)


def zeros(shape: Sequence[int], dtype: Any, varying: frozenset[str]) -> Any:
    """Zeros that vary over these axes of a ``shard_map``: else their gradient is a ``psum``."""
    z = jnp.zeros(shape, dtype)
    return lax.pcast(z, tuple(varying), to="varying") if varying else z


def trace(function: Callable[..., Any], *args: Any) -> tuple[Jaxpr, list[Any], Any]:
    """The jaxpr of ``function``, the arrays that it closes over, and the shapes of its result.

    The arrays closed over are the first arguments of the jaxpr, which has no constants.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    inner = closed.jaxpr
    inputs = [*inner.constvars, *inner.invars]
    source = core.DebugInfo("trace", "f", None, None)
    jaxpr = core.Jaxpr((), inputs, inner.outvars, inner.eqns, inner.effects, source)
    return jaxpr, closed.consts, shape


def settings() -> tuple[Any, ...]:
    """What a trace depends on besides the function and its arguments."""
    names = "jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion"
    return *(getattr(jax.config, name) for name in names), jax.sharding.get_abstract_mesh()


def type_of(array: Any) -> Any:
    """What a trace sees of an array, or of a ``jax.ShapeDtypeStruct``; hashable."""
    return array if isinstance(array, jax.ShapeDtypeStruct) else jax.typeof(array)


def evaluate(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """The results of one equation, untouched."""
    inputs = {v: x for v, x in zip(eqn.invars, values, strict=True) if not is_literal(v)}
    source = core.DebugInfo("tap", eqn.primitive.name, None, None)
    alone = core.Jaxpr((), list(inputs), eqn.outvars, [eqn], eqn.effects, source)
    return jax.core.eval_jaxpr(alone, (), *inputs.values())


class Inner(NamedTuple):
    """A jaxpr inside an equation, with its constants."""

    jaxpr: Jaxpr
    consts: list[Any]


def inner_jaxprs(eqn: JaxprEqn) -> list[Inner]:
    """All jaxprs among an equation's parameters."""
    found = []
    for value in eqn.params.values():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, core.ClosedJaxpr):
                found.append(Inner(part.jaxpr, part.consts))
            elif isinstance(part, core.Jaxpr):
                found.append(Inner(part, []))
    return found


def inner_constants(jaxpr: Jaxpr) -> list[Any]:
    """The arrays that calls inside of a jaxpr close over, at any depth."""
    inner = [found for eqn in jaxpr.eqns for found in inner_jaxprs(eqn)]
    return [a for j in inner for a in (*j.consts, *inner_constants(j.jaxpr))]


def called(eqn: JaxprEqn) -> Inner | None:
    """The jaxpr that an equation merely calls: ``jit`` and its kin, whatever they are named.

    A call has one jaxpr, whose arguments are the equation's, of the same shapes, and no rule of
    its own for derivatives or batching.
    """
    name, inner = eqn.primitive.name, inner_jaxprs(eqn)
    if len(inner) != 1 or name.startswith(("custom_", "remat", "checkpoint", "shard_map")):
        return None
    jaxpr = inner[0].jaxpr
    same = all(
        [v.aval.shape for v in outside] == [v.aval.shape for v in inside]
        for outside, inside in ((eqn.invars, jaxpr.invars), (eqn.outvars, jaxpr.outvars))
    )
    return inner[0] if same and name not in ("scan", "while", "cond") else None


class Remat(NamedTuple):
    """A rematerialised call."""

    inner: Inner
    prevent_cse: bool
    policy: Any

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """``function(*args)`` rematerialised in the same way."""
        wrapped = jax.checkpoint(function, prevent_cse=self.prevent_cse, policy=self.policy)
        return wrapped(*args)


def as_remat(eqn: JaxprEqn) -> Remat | None:
    """The parts of ``jax.checkpoint``, if that is what the equation is."""
    if not eqn.primitive.name.startswith(("remat", "checkpoint")):
        return None
    return Remat(inner_jaxprs(eqn)[0], eqn.params["prevent_cse"], eqn.params["policy"])


class Scan(NamedTuple):
    """A scan: its arguments are constants, then carries, then arrays that it runs over."""

    inner: Inner
    constants: int
    carries: int
    length: int
    options: dict[str, Any]

    @property
    def backward(self) -> bool:
        """Whether it begins with its last step."""
        return bool(self.options["reverse"])

    def split(self, values: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Arguments as constants, carries, and what is run over."""
        end = self.constants + self.carries
        return (
            list(values[: self.constants]),
            list(values[self.constants : end]),
            list(values[end:]),
        )

    def call(self, body: Callable[..., Any], carry: Any, xs: Any) -> Any:
        """``lax.scan`` of the same length, direction and unrolling."""
        return lax.scan(body, carry, xs, length=self.length, **self.options)


def as_scan(eqn: JaxprEqn) -> Scan | None:
    """The parts of ``lax.scan``, if that is what the equation is."""
    if eqn.primitive.name != "scan":
        return None
    params = eqn.params
    options = {
        key: params[key] for key in ("reverse", "unroll", "_split_transpose") if key in params
    }
    return Scan(inner_jaxprs(eqn)[0], *_scan_sizes(params), params["length"], options)


def _scan_sizes(params: dict[str, Any]) -> tuple[int, int]:
    """How many arguments of a scan are constants, and how many carries."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carries, _ = params["ft_in"].unpack()  # since JAX 0.11
    return len(list(constants)), len(list(carries))


def inner_arguments(
    eqn: JaxprEqn, values: Sequence[Any]
) -> list[tuple[Inner, list[Any] | None, int]]:
    """Each jaxpr of an equation that is not entered, with the arguments that it gets.

    None for the arguments where how they are passed on is not known; and how many of the last
    arguments are carried, that is come back as results.
    """
    name, inner = eqn.primitive.name, inner_jaxprs(eqn)
    if name == "cond":
        return [(branch, list(values[1:]), 0) for branch in inner]
    if name == "while":
        tests, bodies = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        carry = list(values[tests + bodies :])
        parts = {
            "cond_jaxpr": ([*values[:tests], *carry], 0),
            "body_jaxpr": ([*values[tests : tests + bodies], *carry], len(carry)),
        }
        order = [parts[key] for key in eqn.params if key in parts]
        return [(j, *part) for j, part in zip(inner, order, strict=True)]
    fits = [len(j.jaxpr.invars) == len(values) for j in inner]
    return [(j, list(values) if fit else None, 0) for j, fit in zip(inner, fits, strict=True)]
