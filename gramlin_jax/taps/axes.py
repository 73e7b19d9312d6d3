"""Which axes of an operand run along the axes of what an equation computes from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gramlin_jax.taps import compat
from gramlin_jax.taps.compat import JaxprEqn

if TYPE_CHECKING:
    from gramlin_jax.taps.plan import Provenance

Along = tuple[frozenset[int], ...]

NONE: frozenset[int] = frozenset()


def varying(atom: Any) -> frozenset[int]:
    """Axes along which a value may vary: those longer than 1."""
    return frozenset(axis for axis, size in enumerate(atom.aval.shape) if size > 1)


def along(eqn: JaxprEqn, index: int) -> Along | None:
    """For each axis of the result, the axes of an operand that run along it; None if unknown.

    Axes of a product lie along those that it keeps.

    Args:
        eqn: An equation.
        index: Of the operand.
    """
    name, params = eqn.primitive.name, eqn.params
    shape, out = (v.aval.shape for v in (eqn.invars[index], eqn.outvars[0]))
    each = [frozenset({axis}) for axis in range(len(shape))]
    if name in compat.KEPT_AXES:
        return tuple(each) if len(shape) == len(out) else (NONE,) * len(out)
    if name == compat.DOT:
        return _of_product(params["dimension_numbers"], index, each, len(out))
    if index:
        return None
    if name == "transpose":
        return tuple(each[axis] for axis in params["permutation"])
    if name == "broadcast_in_dim":
        to = dict(zip(params["broadcast_dimensions"], each, strict=True))
        return tuple(to.get(axis, NONE) for axis in range(len(out)))
    if name == "reshape":
        order = params["dimensions"] or range(len(shape))  # others are those of a transposition
        moved = _reshaped([shape[axis] for axis in order], out)
        return moved and tuple(frozenset(order[i] for i in of) for of in moved)
    if name == "gather":
        return _of_gather(params["dimension_numbers"], each, len(out))
    removed = params.get("dimensions" if name == "squeeze" else "axes")
    if name == "squeeze" or name.startswith("reduce_") and removed is not None:
        return tuple(a for axis, a in enumerate(each) if axis not in removed)
    return None


def _of_product(numbers: Any, index: int, each: list[frozenset[int]], ndim: int) -> Along:
    contracted, batched = (pair[index] for pair in numbers)
    free = [a for axis, a in enumerate(each) if axis not in (*contracted, *batched)]
    others = [NONE] * (ndim - len(batched) - len(free))
    kept = [*others, *free] if index else [*free, *others]
    return tuple([each[axis] for axis in batched] + kept)


def _of_gather(numbers: Any, each: list[frozenset[int]], ndim: int) -> Along:
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    of_slices = iter([a for axis, a in enumerate(each) if axis not in gone])
    chosen = frozenset(numbers.collapsed_slice_dims)
    return tuple(next(of_slices) if axis in numbers.offset_dims else chosen for axis in range(ndim))


def _reshaped(before: Sequence[int], after: Sequence[int]) -> Along | None:
    """Axes split and merged, group by group of equal size."""
    if 0 in before:
        return None
    result: list[frozenset[int]] = []
    start, stop, sizes = 0, 0, [1, 1]
    for size in after:
        sizes[1] *= size
        while sizes[0] < sizes[1]:
            sizes[0] *= before[stop]
            stop += 1
        group = frozenset(axis for axis in range(start, stop) if before[axis] > 1)
        result.append(group if size > 1 else NONE)
        if sizes[0] == sizes[1]:  # else what was split goes on along the next axis
            start = stop
    return tuple(result)


class Stored(NamedTuple):
    """How a parameter lies in a value that is computed from parameters.

    Attributes:
        leaf: Its number.
        shape: Of the parameter.
        axes: For each axis of the value, those of the parameter that run along it.
    """

    leaf: int
    shape: tuple[int, ...]
    axes: Along

    @staticmethod
    def whole(leaf: int, shape: tuple[int, ...]) -> Stored:
        """Of the parameter itself."""
        return Stored(leaf, shape, tuple(frozenset({axis}) for axis in range(len(shape))))


def stored_of(eqn: JaxprEqn, sources: Sequence[Provenance]) -> tuple[Stored, ...]:
    """How parameters lie in the results of an equation, for those of which this is known."""
    found: dict[int, Stored] = {}
    if not eqn.outvars or any(source.data for source in sources):
        return ()
    for index, source in enumerate(sources):
        if not source.stored or (lies := along(eqn, index)) is None:
            continue
        for leaf, shape, axes in source.stored:
            moved = tuple(NONE.union(*(axes[axis] for axis in a)) for a in lies)
            other = found.get(leaf, Stored(leaf, shape, (NONE,) * len(moved)))
            both = tuple(a | b for a, b in zip(moved, other.axes, strict=True))
            found[leaf] = Stored(leaf, shape, both)
    return tuple(found.values())


def transposed(eqn: JaxprEqn, index: int, stored: Sequence[Stored]) -> dict[int, bool | None]:
    """By leaf, whether a site's kernel, operand ``index``, is stored (…, out, in).

    False where it is stored (…, in, out); None where its outputs are on several axes, or not on
    one of the last two.
    """
    if eqn.primitive.name == compat.DOT:
        contracted, batched = (pair[index] for pair in eqn.params["dimension_numbers"])
        of_inputs = set(contracted)
        of_outputs = set(range(eqn.invars[index].aval.ndim)) - {*contracted, *batched}
    else:
        out, *others = eqn.params["dimension_numbers"].rhs_spec
        of_inputs, of_outputs = set(others), {out}
    result: dict[int, bool | None] = {}
    for leaf, shape, axes in stored:
        ndim = len(shape)
        ins, outs = (NONE.union(*(axes[i] for i in of)) for of in (of_inputs, of_outputs))
        last = {frozenset({ndim - 1}): False, frozenset({ndim - 2}): True}.get(outs)
        clear = not ins & outs and (last is False or ndim - 1 in ins)
        result[leaf] = last if clear else None
    return result


def running(atom: Any, source: Provenance) -> frozenset[int]:
    """Axes along which parameters run in a value; where this is not known, all that may vary."""
    if {of.leaf for of in source.stored} != source.leaves:
        return varying(atom)
    return varying(atom) & {
        axis
        for _, shape, axes in source.stored
        for axis, of in enumerate(axes)
        if any(shape[each] > 1 for each in of)
    }


def sliced(stored: Sequence[Stored]) -> frozenset[int]:
    """Leaves with an axis that no axis of the value runs along, as of ``w[0]`` the first."""
    return frozenset(
        leaf
        for leaf, shape, axes in stored
        if any(size > 1 and axis not in NONE.union(*axes) for axis, size in enumerate(shape))
    )
