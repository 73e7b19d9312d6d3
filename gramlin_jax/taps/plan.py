"""What the analysis of a jaxpr finds, see ``provenance``: a ``Plan`` for the interpreter."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from gramlin_jax.taps import attention, compat
from gramlin_jax.taps.axes import Stored
from gramlin_jax.taps.compat import Inner
from gramlin_jax.taps.disguises import Leaves, Marks
from gramlin_jax.taps.matricize import Matricizer

Axes = tuple[int, ...]


class Provenance(NamedTuple):
    """Where a value comes from.

    Attributes:
        leaves: Numbers of the parameter leaves that it is computed from.
        data: Whether it also depends on data.
        loops: Numbers of the scans in which it may change from step to step.
        marks: What parameters did to data in it, see ``disguises``.
        stored: Which axes of a parameter lie along its own, see ``axes``.
        trained: Numbers of the leaves that gradients reach from it, none behind ``stop_gradient``.
        made, weights: Where outputs of layers, and keys of softmaxes, lie in it, see ``attention``.
    """

    leaves: Leaves = frozenset()
    data: bool = False
    loops: frozenset[int] = frozenset()
    marks: Marks = frozenset()
    stored: tuple[Stored, ...] = ()
    trained: Leaves = frozenset()
    made: frozenset[attention.Outputs] = frozenset()
    weights: frozenset[attention.Weights] = frozenset()

    @property
    def parameter_only(self) -> bool:
        """Whether it depends on parameters, but not on data."""
        return bool(self.leaves) and not self.data


CONSTANT = Provenance()


def join(provenances: Sequence[Provenance]) -> Provenance:
    """The provenance of a value that is computed from all of these.

    What describes axes does not survive in general.
    """
    return Provenance(
        frozenset().union(*(p.leaves for p in provenances)),
        any(p.data for p in provenances),
        frozenset().union(*(p.loops for p in provenances)),
        trained=frozenset().union(*(p.trained for p in provenances)),
    )


Status = Literal["bias or elementwise", "summed later", "lookup", "unsupported"]


class Use(NamedTuple):
    """A place where parameter leaves meet data, or where what they made of data is summed."""

    leaves: Leaves
    status: Status
    detail: str


@dataclasses.dataclass(frozen=True)
class Found:
    """A linear site, a named activation or a softmax, in the axes of the enclosing jaxpr.

    Attributes:
        number: Unique, in the order of the computation.
        primitive: ``dot_general``, ``conv_general_dilated``; ``name`` or ``div`` for the others.
        leaves: Parameter leaves that the kernel is computed from.
        name: Name of a named activation.
        loops: Scans in which the kernel changes from step to step.
        stack, rows, fan_in, fan_out: Sizes, see ``matricize``; a named activation has no fan_out.
        scans: Numbers of those scans whose steps are the leading axes of the stack.
        backward: Whether each of these begins with its last step.
        dtype: Type of the pre-activations, or of the named activation.
        kernel_dtype: Type of the kernel.
        transposed: By leaf, whether it is stored (…, out, in), see ``axes.transposed``.
        varying: Axes of an enclosing ``shard_map`` over which the outputs differ.
        matricizer: How operands become matrices; None for the others.
        over_keys: Of a softmax over keys, whose loops and rows are those of its queries.
        sliced: Leaves of which the kernel lacks an axis, see ``axes.sliced``.
        stopped: Whether gradients of the kernel reach no leaf.
    """

    number: int
    primitive: str
    leaves: Leaves
    name: str
    loops: frozenset[int]
    stack: Axes
    rows: Axes
    fan_in: int
    fan_out: int
    scans: tuple[int, ...]
    dtype: Any
    kernel_dtype: Any
    transposed: dict[int, bool | None]
    varying: frozenset[str]
    matricizer: Matricizer | None
    over_keys: attention.OverKeys | None = None
    sliced: Leaves = frozenset()
    backward: tuple[bool, ...] = ()
    stopped: bool = False


class Call(NamedTuple):
    """An equation whose jaxpr is evaluated in place."""

    plan: Plan


class Remat(NamedTuple):
    """An equation whose jaxpr is evaluated under ``jax.checkpoint``."""

    plan: Plan
    parts: compat.Remat


class Scan(NamedTuple):
    """A scan to re-issue; ``stacked``, by site number: whether each step has its own kernel."""

    plan: Plan
    parts: compat.Scan
    stacked: dict[int, bool]


class Beside(NamedTuple):
    """An equation with a rule of its own for derivatives, which stays; its jaxpr has softmaxes."""

    plan: Plan


Step = Found | Call | Remat | Scan | Beside


@dataclasses.dataclass(frozen=True)
class Plan:
    """A jaxpr, and what to do at its equations.

    Attributes:
        inner: The jaxpr and its constants.
        steps: What to do, by index of the equation; the others are evaluated unchanged.
        sites: All sites at any depth, in the axes of this jaxpr.
        outputs: Provenance of the results.
        uses: Where parameter leaves meet data.
        mixed: Numbers of the softmaxes whose weights meet values.
    """

    inner: Inner
    steps: dict[int, Step]
    sites: list[Found]
    outputs: list[Provenance]
    uses: list[Use]
    mixed: set[int]
