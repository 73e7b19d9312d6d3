"""Linear layers that are not written as such: what parameters did to data, and what follows.

A value that is computed from data keeps *marks* of the parameters in it. A product of a parameter
and data that is summed over one of the parameter's axes is a linear layer in disguise; so are a
spectrum that is filtered and transformed back, and kernels that data choose or scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gramlin_jax.taps import compat
from gramlin_jax.taps.axes import along, running, varying
from gramlin_jax.taps.compat import JaxprEqn

if TYPE_CHECKING:
    from gramlin_jax.taps.plan import Provenance

Leaves = frozenset[int]
Kind = Literal["product", "masked", "scaled", "mixed", "gathered", "spectrum", "filtered"]


class Mark(NamedTuple):
    """What is known of the parameters in a value that depends on data.

    Attributes:
        kind: ``product``: the value is a parameter times data; ``masked``: and times further data,
            in which there is no parameter. ``scaled``: such a product is in it, ``mixed``: any
            elementwise combination, ``gathered``: what data chose of a parameter. ``spectrum``: it
            is a Fourier transform of data; ``filtered``: one times a parameter.
        axes: Along which the parameter varies, or the transform ran.
        leaves: Of the parameter.
    """

    kind: Kind
    axes: frozenset[int]
    leaves: Leaves


Marks = frozenset[Mark]


def marks_of(eqn: JaxprEqn, sources: Sequence[Provenance]) -> Marks:
    """The marks of what an equation computes from values of these provenances."""
    if not eqn.outvars or not any(source.data for source in sources):
        return frozenset()
    return united([*_kept(eqn, sources), *_made(eqn, sources)])


def united(marks: Iterable[Mark]) -> Marks:
    """Those of one kind along the same axes as one, of all their leaves."""
    leaves: dict[tuple[Kind, frozenset[int]], Leaves] = {}
    for kind, axes, of in marks:
        leaves[kind, axes] = leaves.get((kind, axes), frozenset()) | of
    return frozenset(Mark(*key, of) for key, of in leaves.items())


def shifted(marks: Marks, by: int) -> Marks:
    """The marks where a scan takes the first axis, -1, or puts one before the others, 1."""
    axes = ((mark, frozenset(axis + by for axis in mark.axes)) for mark in marks)
    return united(mark._replace(axes=moved - {-1}) for mark, moved in axes)


def of_kernels(marks: Marks) -> Marks:
    """Those of values that may be kernels."""
    return frozenset(mark for mark in marks if mark.kind in REASONS)


def may_be(kind: Kind, atom: Any, source: Provenance) -> Marks:
    """The mark of a value that may be this parameter, or another value; none, if it is none."""
    mark = Mark(kind, running(atom, source), source.leaves)
    return frozenset({mark} if source.parameter_only else ())


def _kept(eqn: JaxprEqn, sources: Sequence[Provenance]) -> Iterator[Mark]:
    """Marks of the operands that the result still has, with their axes moved along."""
    name = eqn.primitive.name
    if name not in compat.SAME_AXES | compat.MOVES:
        return
    for index, source in enumerate(sources):
        moved = along(eqn, index) if source.marks else None
        if moved is None:
            continue
        product = _product_after(eqn, sources, index)
        for mark in source.marks:
            axes = frozenset(i for i, a in enumerate(moved) if a & mark.axes)
            if mark.kind not in ("product", "masked"):
                yield mark._replace(axes=axes)
            elif product is not None:
                yield Mark("masked" if mark.kind == "masked" else product, axes, mark.leaves)


# Equations after which a product is still one. Slices and reshapes may mix a norm's scale with
# positions.
UNARY = (compat.SAME_AXES - compat.ELEMENTWISE) | (compat.MOVES - {"slice", "reshape"})
# Those of several operands that are linear in the first one, or in the others.
LINEAR = {("div", True), ("select_n", False)}


def _product_after(
    eqn: JaxprEqn, sources: Sequence[Provenance], index: int
) -> Literal["product", "masked"] | None:
    """What a product, the operand of this index, is after an equation; None if it is none."""
    name = eqn.primitive.name
    if not (name in UNARY or name == "mul" or (name, index == 0) in LINEAR):
        return None
    beside = [source for i, source in enumerate(sources) if i != index and source.data]
    if any(source.leaves for source in beside):  # a gate, or the product itself, squared
        return None
    return "masked" if beside else "product"


def _made(eqn: JaxprEqn, sources: Sequence[Provenance]) -> Iterator[Mark]:
    """Marks that begin at this equation."""
    name = eqn.primitive.name
    if name == "fft":
        yield Mark("spectrum", _transformed(eqn), frozenset())
    if name in compat.LOOKUPS and sources[0].parameter_only:
        axes = varying(eqn.outvars[0])
        if name == "gather":
            axes &= set(eqn.params["dimension_numbers"].offset_dims)
        yield Mark("gathered", axes, sources[0].leaves)
    if name not in compat.SAME_AXES:
        return
    weights = [
        (source.leaves, running(atom, source))
        for source, atom in zip(sources, eqn.invars, strict=True)
        if source.parameter_only
    ]
    for leaves, axes in weights:
        yield Mark("mixed", axes, leaves)
        if name == "mul":
            yield Mark("product", axes, leaves)
            yield Mark("scaled", axes, leaves)
            if any(mark.kind == "spectrum" for source in sources for mark in source.marks):
                yield Mark("filtered", axes, leaves)


def _transformed(eqn: JaxprEqn) -> frozenset[int]:
    ndim = len(eqn.outvars[0].aval.shape)
    return frozenset(range(ndim - len(eqn.params["fft_lengths"]), ndim))


MULTIPLIED = "multiplied with data and summed: use a matmul"


def unmasked(eqn: JaxprEqn, sources: Sequence[Provenance]) -> Iterator[tuple[Leaves, str]]:
    """Parameters of which an equation completes a linear layer in disguise, and what it is."""
    name = eqn.primitive.name
    for source, over in zip(sources, _sums(eqn, sources), strict=False):
        summed = _with_axes(source.marks, "product", over)
        # A mask may follow the scale of a norm: of masked ones only matrices are kernels.
        masked = [mark for mark in source.marks if mark.kind == "masked" and mark.axes - {*over}]
        summed += _with_axes(frozenset(masked), "masked", over)
        yield from ((of, MULTIPLIED) for of in summed)
    if name == "fft":
        filtered = _with_axes(sources[0].marks, "filtered", _transformed(eqn))
        yield from ((of, "convolution by FFT") for of in filtered)
    if name in CONTRACTIONS and all(source.data for source in sources):
        yield from _hidden_kernels(eqn, sources)


def _sums(eqn: JaxprEqn, sources: Sequence[Provenance]) -> Sequence[Iterable[int]]:
    """By operand, the axes that an equation sums over, with fixed weights at most."""
    name, params = eqn.primitive.name, eqn.params
    if name == "reduce_sum":
        return (params["axes"],)
    if name == "cumsum":
        return ((params["axis"],),)
    if name == "reduce_window_sum":
        return ([axis for axis, size in enumerate(params["window_dimensions"]) if size > 1],)
    if name == "scatter-add":  # as a sum over segments; its updates are the last operand
        kept = params["dimension_numbers"].update_window_dims
        return (), (), set(range(eqn.invars[2].aval.ndim)) - {*kept}
    if name != compat.DOT:
        return ()
    contracted, batched = params["dimension_numbers"]
    return [
        over
        if _is_vector(eqn.invars[1 - i], sources[1 - i], contracted[1 - i] + batched[1 - i])
        else ()
        for i, over in enumerate(contracted)
    ]


def _is_vector(atom: Any, source: Provenance, axes: Iterable[int]) -> bool:
    """Whether an operand of a matmul is constant, and varies along no axis but these."""
    return not source.data and not source.leaves and varying(atom) <= set(axes)


def summed_later(eqn: JaxprEqn, sources: Sequence[Provenance]) -> Iterator[Leaves]:
    """Parameters that scale data over which an equation sums, as those before a matmul do.

    This is what the scale of a norm does too: it is a linear use only of what is a kernel
    elsewhere, such as a derivative's of a network within the network.
    """
    name, params = eqn.primitive.name, eqn.params
    axes: Sequence[Iterable[int]] = ()
    if name == "reduce_sum":
        axes = (params["axes"],)
    elif name == compat.DOT:
        axes = params["dimension_numbers"][0]
    elif name == compat.CONVOLUTION:
        numbers = params["dimension_numbers"]
        axes = ((numbers.lhs_spec[1],), (numbers.rhs_spec[1],))
    for source, over in zip(sources, axes, strict=False):
        yield from _with_axes(source.marks, "scaled", over)


def _with_axes(marks: Marks, kind: Kind, axes: Iterable[int]) -> list[Leaves]:
    over = frozenset(axes)
    return [mark.leaves for mark in marks if mark.kind == kind and mark.axes & over]


CHOSEN = "kernels that data choose, as gathered experts are"


REASONS = {"mixed": "kernel of a {} that depends on data", "gathered": CHOSEN}
CONTRACTIONS = {compat.DOT: "matmul", compat.CONVOLUTION: "convolution"}


def _hidden_kernels(eqn: JaxprEqn, sources: Sequence[Provenance]) -> Iterator[tuple[Leaves, str]]:
    """Kernels that met data before the matmul or convolution, such as gated or normalised ones.

    The operand is a kernel, not features plus a bias, if its parameters vary both along a
    contracted axis and along one that the result keeps.
    """
    name, axes = eqn.primitive.name, eqn.params["dimension_numbers"]
    if name == compat.CONVOLUTION:
        axes = ((), axes.rhs_spec[1:]), ((), ())  # a kernel is the second operand
    for source, over, batch in zip(sources, *axes, strict=True):
        for kind, lies, leaves in source.marks:
            if kind in REASONS and lies & set(over) and lies - {*over, *batch}:
                yield leaves, REASONS[kind].format(CONTRACTIONS[name])
