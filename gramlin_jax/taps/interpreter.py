"""Evaluating a jaxpr with taps: what flows through its linear sites, and a way to shift it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from gramlin_jax.taps import compat
from gramlin_jax.taps.attention import Spread, spread
from gramlin_jax.taps.plan import Beside, Call, Found, Plan, Remat, Scan

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Tap(NamedTuple):
    """What flows through a linear site z = xK: a pytree.

    ``stack`` axes are separate kernels (layers stacked by a scan, groups of a convolution), ``row``
    axes share a kernel (samples, tokens, pixels, time).

    Attributes:
        features: What the layer reads (*stack, *positions, channels); for a convolution the map,
            else the same as ``inputs``. For a named activation the activation.
        inputs: X (*stack, *rows, in), for a convolution its patches (*window, channels).
        kernel: The effective kernel K (*stack, in, out).
        outputs: The pre-activations XK (*stack, *rows, out), before any bias.
        attention: Of the softmaxes over keys of which the outputs are the queries, if asked for.
    """

    features: Float[Array, "*stack_and_positions channels"]
    inputs: Float[Array, "*stack_and_rows i"] | None = None
    kernel: Float[Array, "*stack i o"] | None = None
    outputs: Float[Array, "*stack_and_rows o"] | None = None
    attention: Spread | None = None


class Seen(NamedTuple):
    """Zeros to put in the place of a shift: the value stays, their gradient is the value's.

    A sum with zeros is the same number, but compilers fuse it with the product before it, and then
    round otherwise.
    """

    zeros: Array


class Shift(NamedTuple):
    """What is added at a site: to the pre-activations (or named activation), to the kernel.

    One without either asks for the tap of a softmax.
    """

    outputs: Any = None
    kernel: Any = None


Taps = dict[int, Any]  # a Tap, or the Spread of a softmax
Shifts = dict[int, Shift]


def run(plan: Plan, values: Sequence[Any], shifts: Shifts) -> tuple[list[Any], Taps]:
    """The results of a planned jaxpr, and the taps of its sites by number."""
    jaxpr, consts = plan.inner
    known = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, values, strict=True))
    taps: Taps = {}

    def read(atom: Any) -> Any:
        return atom.val if compat.is_literal(atom) else known[atom]

    for index, eqn in enumerate(jaxpr.eqns):
        operands, step = [read(atom) for atom in eqn.invars], plan.steps.get(index)
        if step is None:
            known.update(zip(eqn.outvars, compat.evaluate(eqn, operands), strict=True))
            continue
        if isinstance(step, Found) and step.over_keys:
            results, found = compat.evaluate(eqn, operands), {}
            if step.number in shifts:
                logits = read(step.over_keys.softmax.logits)
                found = {step.number: spread(step.over_keys, results[0], logits)}
        elif isinstance(step, Found):
            results, found = _run_site(step, eqn, operands, shifts)
        elif isinstance(step, Call):
            results, found = run(step.plan, operands, shifts)
        elif isinstance(step, Beside):
            results, again = compat.evaluate(eqn, operands), jax.lax.stop_gradient(operands)
            found = run(step.plan, again, shifts)[1] if _of(step.plan.sites, shifts) else {}
        elif isinstance(step, Remat):
            results, found = _run_remat(step, operands, shifts)
        else:
            results, found = _run_scan(step, operands, shifts)
        taps.update(found)
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars], taps


def _run_site(
    site: Found, eqn: compat.JaxprEqn, operands: list[Any], shifts: Shifts
) -> tuple[list[Any], Taps]:
    shift, shape = shifts.get(site.number, Shift()), site.matricizer
    if shape is not None and shift.kernel is not None:
        weight = 1 - shape.operand
        operands[weight] = _shifted(operands[weight], shift.kernel, shape.kernel.undo)
    (result,) = compat.evaluate(eqn, operands)
    if shape is None:
        result = result if shift.outputs is None else _shifted(result, shift.outputs)
        return [result], {site.number: Tap(result)}
    if shift.outputs is not None:
        result = _shifted(result, shift.outputs, shape.outputs.undo)
    data, kernel = operands[shape.operand], operands[1 - shape.operand]
    tap = Tap(
        features=shape.features.apply(data),
        inputs=shape.inputs(data),
        kernel=shape.kernel.apply(kernel),
        outputs=shape.outputs.apply(result),
    )
    return [result], {site.number: tap}


def _shifted(
    value: Array, shift: Array | Seen, undo: Callable[[Array], Array] = lambda shift: shift
) -> Array:
    """The sum in the value's own type: a shift does not change what the network computes in."""
    if isinstance(shift, Seen):
        return _seen(value, undo(shift.zeros).astype(value.dtype))
    return value + undo(shift).astype(value.dtype)


@jax.custom_vjp
def _seen(value: Array, zeros: Array) -> Array:
    """The value, whose gradient ``zeros`` has, too."""
    del zeros
    return value


_seen.defvjp(lambda value, zeros: (value, None), lambda _, gradient: (gradient, gradient))


def _of(sites: list[Found], shifts: Shifts) -> Shifts:
    return {site.number: shifts[site.number] for site in sites if site.number in shifts}


def _run_remat(step: Remat, operands: list[Any], shifts: Shifts) -> tuple[list[Any], Taps]:
    inside = _of(step.plan.sites, shifts)
    return step.parts.call(lambda *args: run(step.plan, *args), operands, inside)


def _run_scan(step: Scan, operands: list[Any], shifts: Shifts) -> tuple[list[Any], Taps]:
    """The scan with shifts as further arrays to run over, and taps as further results.

    A kernel that is the same at each step travels as a carry: no copy for each step is kept.
    """
    plan, parts, stacked = step
    constants, carries, arrays = parts.split(operands)
    shared = [site for site in plan.sites if site.matricizer and not stacked[site.number]]
    kernels = {
        site.number: compat.zeros(
            (*site.stack, site.fan_in, site.fan_out), site.kernel_dtype, site.varying
        )
        for site in shared
    }
    each, fixed = _split_shifts(step, _of(plan.sites, shifts))

    def body(carry: Any, xs: Any) -> Any:
        carries, _ = carry
        arrays, each = xs
        inside = {number: Shift(*map(_either, each[number], fixed[number])) for number in each}
        results, taps = run(plan, [*constants, *carries, *arrays], inside)
        kernels = {site.number: taps[site.number].kernel for site in shared}
        ys = {n: tap._replace(kernel=None) if n in kernels else tap for n, tap in taps.items()}
        carries, outputs = results[: parts.carries], results[parts.carries :]
        return (carries, kernels), (outputs, ys)

    (carries, kernels), (outputs, taps) = parts.call(body, (carries, kernels), (arrays, each))
    for site in plan.sites:
        if not stacked[site.number] and site.number in taps:  # steps are rows, after the stack
            move = functools.partial(jnp.moveaxis, source=0, destination=len(site.stack))
            taps[site.number] = jax.tree.map(move, taps[site.number])
        if site.number in kernels:
            taps[site.number] = taps[site.number]._replace(kernel=kernels[site.number])
    return [*carries, *outputs], taps


def _split_shifts(step: Scan, shifts: Shifts) -> tuple[Shifts, Shifts]:
    """Shifts with an entry for each step, on the first axis, and those that all steps share."""
    each, fixed = {}, {}
    for site in step.plan.sites:
        if site.number in shifts:
            outputs, kernel = shifts[site.number]
            if step.stacked[site.number]:
                each[site.number], fixed[site.number] = Shift(outputs, kernel), Shift()
            else:
                at = len(site.stack)
                outputs = jax.tree.map(lambda a: jnp.moveaxis(a, at, 0), outputs)  # noqa: B023
                each[site.number], fixed[site.number] = Shift(outputs), Shift(None, kernel)
    return each, fixed


def _either(a: Any, b: Any) -> Any:
    return b if a is None else a
