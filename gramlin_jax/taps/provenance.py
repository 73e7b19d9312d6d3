"""Which values of a jaxpr depend on parameters alone, and where they meet data.

A value is *parameter-only* if it is computed from parameters and constants alone. A **linear site**
is a ``dot_general`` or ``conv_general_dilated`` with exactly one parameter-only operand; the other
depends on data. The analysis walks a jaxpr once and returns a ``Plan`` for the interpreter: which
equations are sites, and which ones to enter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp

from gramlin_jax.taps import attention, compat
from gramlin_jax.taps.axes import sliced, stored_of, transposed
from gramlin_jax.taps.compat import Inner, JaxprEqn
from gramlin_jax.taps.disguises import (
    CONTRACTIONS,
    MULTIPLIED,
    marks_of,
    may_be,
    of_kernels,
    shifted,
    summed_later,
    united,
    unmasked,
)
from gramlin_jax.taps.matricize import matricizer
from gramlin_jax.taps.plan import (
    CONSTANT,
    Beside,
    Call,
    Found,
    Plan,
    Provenance,
    Remat,
    Scan,
    Step,
    Use,
    join,
)
from gramlin_jax.taps.shifted import shifted_sums, sums_over_steps


def make_plan(
    inner: Inner,
    inputs: Sequence[Provenance],
    numbers: Iterator[int],
    carries: Sequence[Any] = (),
    loop: frozenset[int] = frozenset(),
) -> Plan:
    """Analyse a jaxpr whose arguments have these provenances; ``numbers`` are all distinct.

    Of a step of a loop, ``carries`` are the arguments that it returns first.
    """
    jaxpr = inner.jaxpr
    known: dict[Any, Provenance] = dict.fromkeys(jaxpr.constvars, CONSTANT)
    known.update(zip(jaxpr.invars, inputs, strict=True))
    plan, found = Plan(inner, {}, [], [], [], set()), attention.softmaxes(jaxpr)
    convolutions, sums = shifted_sums(jaxpr), sums_over_steps(jaxpr, carries)

    def read(atom: Any) -> Provenance:
        return CONSTANT if compat.is_literal(atom) else known[atom]

    for index, eqn in enumerate(jaxpr.eqns):
        sources = [read(atom) for atom in eqn.invars]
        step, results = _analyse(eqn, sources, plan, numbers)
        if (softmax := found.get(index)) and sources[0].data:
            weights = attention.Weights(next(numbers), (softmax.keys,))
            results = [results[0]._replace(weights=frozenset({weights}))]
            step = _over_keys(softmax, read(softmax.logits), weights.number)
            plan.sites.extend([step] if step else [])
        if step is not None:
            plan.steps[index] = step
        plan.uses.extend(_convolved([read(atom) for atom in convolutions.get(index, ())]))
        plan.uses.extend(_summed_up([read(atom) for atom in sums.get(index, ())], loop))
        known.update(zip(eqn.outvars, results, strict=True))
    plan.outputs.extend(read(atom) for atom in jaxpr.outvars)
    return plan


def _analyse(
    eqn: JaxprEqn, sources: list[Provenance], plan: Plan, numbers: Iterator[int]
) -> tuple[Step | None, list[Provenance]]:
    """The step at an equation and the provenance of its results; extends the plan's lists."""
    if (scan := compat.as_scan(eqn)) is not None:
        return _enter_scan(scan, sources, plan, numbers)
    remat, called = compat.as_remat(eqn), compat.called(eqn)
    if remat is not None:
        entered = make_plan(remat.inner, sources, numbers)
        _take_over(plan, entered, entered.sites)
        return (Remat(entered, remat) if entered.sites else None), entered.outputs
    if called is not None:
        entered = make_plan(called, sources, numbers)
        _take_over(plan, entered, entered.sites)
        return (Call(entered) if entered.sites else None), entered.outputs
    if compat.inner_jaxprs(eqn) and eqn.primitive.name not in compat.ELEMENTWISE:
        inside = _look_inside(eqn, sources, plan, numbers)
        results = _returned(eqn, sources, inside)
        sites = inside[0].sites if eqn.primitive.name == compat.CUSTOM_JVP and inside else []
        if not sites or not all(site.over_keys for site in sites):
            return None, results
        plan.sites.extend(sites)
        pairs = zip(results, inside[0].outputs, strict=True)
        return Beside(inside[0]), [a._replace(made=b.made, weights=b.weights) for a, b in pairs]
    if eqn.primitive.name == compat.BARRIER:  # each result is its operand
        return None, sources
    site = _site(eqn, sources, numbers)
    if site is not None:
        plan.sites.append(site)
    else:
        plan.uses.extend(_uses(eqn, sources))
    plan.uses.extend(Use(of, "summed later", SUMMED) for of in summed_later(eqn, sources))
    plan.mixed.update(attention.mixed(eqn, sources))
    made, weights = attention.passed_on(eqn, sources)
    if site is not None and site.matricizer:
        made = attention.outputs_of(site)
    marks, stored = marks_of(eqn, sources), stored_of(eqn, sources)
    result = join(sources)._replace(marks=marks, stored=stored, made=made, weights=weights)
    if eqn.primitive.name == "stop_gradient":
        result = result._replace(trained=frozenset())
    return site, [result] * len(eqn.outvars)


def _over_keys(softmax: attention.Softmax, logits: Provenance, number: int) -> Found | None:
    """A softmax as what is to be tapped, if it is over keys of the queries of a layer."""
    found = attention.over_keys(softmax, logits.made)
    if found is None:
        return None
    (_, loops, rows, *_), aval = found.queries, softmax.logits.aval
    return Found(number, "div", frozenset(), "", loops, (), rows, found.heads, 0, (),
                 aval.dtype, aval.dtype, {}, compat.varying(aval), None, found)  # fmt: skip


SUMMED = "multiplied with data that are summed later, as a derivative's kernels are"


def _take_over(plan: Plan, entered: Plan, sites: list[Found]) -> None:
    plan.sites.extend(sites)
    plan.uses.extend(entered.uses)
    plan.mixed.update(entered.mixed)


def _enter_scan(
    scan: compat.Scan, sources: list[Provenance], plan: Plan, numbers: Iterator[int]
) -> tuple[Step | None, list[Provenance]]:
    loop = frozenset({next(numbers)})
    # join drops what describes axes, which are those outside the body: of arrays, one is more.
    constants, carries, arrays = scan.split(sources)
    constants = [join([c])._replace(stored=c.stored, marks=c.marks) for c in constants]
    arrays = [
        join([a])._replace(
            loops=a.loops | loop,
            stored=tuple(s._replace(axes=s.axes[1:]) for s in a.stored),
            marks=shifted(a.marks, -1),
        )
        for a in arrays
    ]
    entered = _settle(scan.inner, constants, carries, arrays, loop, numbers)
    # A kernel that changes from step to step makes the steps layers: they join the stack. A fixed
    # kernel is applied to further rows. A named activation goes with the kernels around it.
    layers = any(site.loops & loop for site in entered.sites if site.matricizer)
    stacked = {
        site.number: layers if site.primitive == compat.NAME else bool(site.loops & loop)
        for site in entered.sites
    }
    lifted = [
        dataclasses.replace(
            site,
            stack=(scan.length, *site.stack),
            scans=(*loop, *site.scans),
            backward=(scan.backward, *site.backward),
        )
        if stacked[site.number]
        else dataclasses.replace(site, rows=(scan.length, *site.rows))
        for site in entered.sites
    ]
    _take_over(plan, entered, lifted)
    outputs = [
        join([source])._replace(
            loops=source.loops - loop,
            marks=source.marks if number < len(carries) else shifted(source.marks, 1),
        )
        for number, source in enumerate(entered.outputs)
    ]
    return (Scan(entered, scan, stacked) if lifted else None), outputs


def _settle(
    inner: Inner,
    constants: list[Provenance],
    carries: list[Provenance],
    arrays: list[Provenance],
    loop: frozenset[int],
    numbers: Iterator[int],
) -> Plan:
    """The plan of a loop's body at the fixed point of its carried provenances.

    What one step computes, the next one reads. Provenances only grow from step to step and are
    bounded, so the iteration ends.
    """
    # A carry that the body returns as it came is the same at every step, such as a shared kernel.
    inside = inner.jaxpr.invars[len(constants) : len(constants) + len(carries)]
    kept = [a is b for a, b in zip(inside, inner.jaxpr.outvars[: len(inside)], strict=True)]
    first = carries = [
        join([c])._replace(
            loops=c.loops if keep else c.loops | loop,
            marks=of_kernels(c.marks) | may_be("mixed", atom, c),
        )
        for c, atom, keep in zip(carries, inside, kept, strict=True)
    ]
    while True:
        entered = make_plan(inner, [*constants, *carries, *arrays], numbers, inside, loop)
        after = [join(pair) for pair in zip(carries, entered.outputs, strict=False)]
        marks = [start.marks for start in first]
        if after == [join([c]) for c in carries]:  # else data may still look like parameters
            pairs = zip(carries, entered.outputs, strict=False)
            marks = [united(c.marks | of_kernels(out.marks)) for c, out in pairs]
        after = [a._replace(marks=m) for a, m in zip(after, marks, strict=True)]
        if after == carries:
            return entered
        carries = after


def _site(eqn: JaxprEqn, sources: list[Provenance], numbers: Iterator[int]) -> Found | None:
    """The equation as a linear site or named activation, or None."""
    name = eqn.primitive.name
    if name not in (compat.NAME, compat.DOT, compat.CONVOLUTION):
        return None
    aval = eqn.outvars[0].aval
    if not jnp.issubdtype(aval.dtype, jnp.floating):
        return None
    if name == compat.NAME and sources[0].data and aval.shape:
        *rows, width = aval.shape
        label, dtype = eqn.params["name"], aval.dtype
        return Found(next(numbers), name, frozenset(), label, sources[0].loops, (), tuple(rows),
                     width, 0, (), dtype, dtype, {}, compat.varying(aval), None)  # fmt: skip
    if name == compat.NAME:
        return None
    # Two parameter-only operands merge kernels (LoRA's A @ B), which a later equation applies.
    if [source.parameter_only for source in sources].count(True) != 1:
        return None
    operand = int(sources[0].parameter_only)
    weight = sources[1 - operand]
    shapes = [atom.aval.shape for atom in eqn.invars]
    shape = matricizer(name, eqn.params, operand, shapes, aval.shape)
    if not sources[operand].data or shape is None:
        return None
    *stack, fan_in, fan_out = shape.kernel.merged
    rows = shape.outputs.merged[len(stack) : -1]
    kernel_dtype, varying = eqn.invars[1 - operand].aval.dtype, compat.varying(aval)
    if not jnp.issubdtype(kernel_dtype, jnp.floating):
        return None
    return Found(next(numbers), name, weight.leaves, "", weight.loops, tuple(stack), rows,
                 fan_in, fan_out, (), aval.dtype, kernel_dtype,
                 transposed(eqn, 1 - operand, weight.stored), varying, shape,
                 sliced=sliced(weight.stored), stopped=not weight.trained)  # fmt: skip


def _uses(eqn: JaxprEqn, sources: list[Provenance]) -> Iterator[Use]:
    """Where an equation other than a site combines parameters with data."""
    name = eqn.primitive.name
    for leaves, reason in unmasked(eqn, sources):
        yield Use(leaves, "unsupported", reason)
    if not any(source.data for source in sources):
        return
    for index, source in enumerate(sources):
        if source.parameter_only and name in compat.ELEMENTWISE:
            yield Use(source.leaves, "bias or elementwise", name)
        elif source.parameter_only and name in compat.LOOKUPS and index == 0:
            yield Use(source.leaves, "lookup", f"embedding lookup ({name})")
        elif source.parameter_only:
            yield Use(source.leaves, "unsupported", _why_no_site(eqn, index))


def _convolved(pair: list[Provenance]) -> Iterator[Use]:
    """The use of the parameter, if one of the two is data and the other a parameter."""
    if any(source.data for source in pair):
        reason = "products of slices that are summed: use a convolution or a matmul"
        yield from (Use(p.leaves, "unsupported", reason) for p in pair if p.parameter_only)


def _summed_up(pair: list[Provenance], loop: frozenset[int]) -> Iterator[Use]:
    """The use of the parameter, if each step adds its own slice of it times data."""
    if any(source.data for source in pair):
        own = (p for p in pair if p.parameter_only and p.loops & loop)
        yield from (Use(p.leaves, "unsupported", MULTIPLIED) for p in own)


def _why_no_site(eqn: JaxprEqn, index: int) -> str:
    """What an equation of a parameter, its operand of this index, and data is."""
    name, dtype = eqn.primitive.name, eqn.invars[index].aval.dtype
    if name in CONTRACTIONS and not jnp.issubdtype(dtype, jnp.floating):
        return f"{CONTRACTIONS[name]} of {dtype} numbers: only real floating point is tapped"
    return f"{name} of it and data"


def _returned(eqn: JaxprEqn, sources: list[Provenance], inside: list[Plan]) -> list[Provenance]:
    """What an equation that is not entered returns: parameters among it are as data chose them."""
    if eqn.primitive.name in compat.CUSTOM_RULES and inside:  # none is made inside for the outside
        return [r._replace(made=frozenset(), weights=frozenset()) for r in inside[0].outputs]
    results = [join(sources)] * len(eqn.outvars)
    parts: list[Sequence[Provenance]] = [()] * len(results)
    if eqn.primitive.name == "while":
        parts = [[source] for source in sources[len(sources) - len(results) :]]
    if eqn.primitive.name == "cond" and inside:
        parts = list(zip(*(plan.outputs for plan in inside), strict=True))
        results = [join([sources[0], *branches]) for branches in parts]
    marks = [
        united(mark for part in of for mark in part.marks | may_be("gathered", atom, part))
        for atom, of in zip(eqn.outvars, parts, strict=True)
    ]
    return [r._replace(marks=m if r.data else r.marks) for r, m in zip(results, marks, strict=True)]


def _look_inside(
    eqn: JaxprEqn, sources: list[Provenance], plan: Plan, numbers: Iterator[int]
) -> list[Plan]:
    """Plans of an equation that is not entered, where linear sites are not tapped."""
    name, found = eqn.primitive.name, []
    if not any(source.data for source in sources):
        return []
    for inner, arguments, carried in compat.inner_arguments(eqn, sources):
        if arguments is None:
            leaves = join([source for source in sources if source.parameter_only]).leaves
            if leaves:
                reason = f"inside {name}, which is not looked into"
                plan.uses.append(Use(leaves, "unsupported", reason))
            continue
        start = len(arguments) - carried
        constants, carries = arguments[:start], arguments[start:]
        loop = frozenset({next(numbers)})
        entered = _settle(inner, constants, carries, [], loop, numbers)
        reason = f"linear layer inside {name}: not entered"
        linear = [site.leaves for site in entered.sites if site.leaves]
        plan.uses.extend(Use(leaves, "unsupported", reason) for leaves in linear)
        _take_over(plan, entered, [])
        found.append(entered)
    return found
