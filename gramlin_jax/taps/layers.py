"""What taps find in a function: its linear sites, and what becomes of every parameter leaf."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import jax

from gramlin_jax.taps import compat
from gramlin_jax.taps.disguises import CHOSEN
from gramlin_jax.taps.plan import Plan

if TYPE_CHECKING:
    from jaxtyping import Array


@dataclasses.dataclass(frozen=True)
class Site:
    """A linear site z = xK, or a named activation.

    Attributes:
        name: Key path of the parameter leaf, with ``#2``, ``#3`` for its further uses; or the name
            given by ``checkpoint_name``.
        primitive: ``dot_general``, ``conv_general_dilated``, or ``name`` for a named activation.
        leaves: Key paths of all parameter leaves that the kernel is computed from.
        stack: Axes of separate kernels: layers stacked by a scan, groups, batches of a product.
        rows: Axes that share a kernel: samples, tokens, pixels, time.
        fan_in: Columns of the inputs.
        fan_out: Columns of the outputs; 0 for a named activation.
        layers: How many of the stack's axes, its first, are steps of scans: layers by themselves.
        dtype: Of the outputs, or of the named activation.
        kernel_dtype: Of the kernel.
        transposed: Whether the parameter that names the site is stored with the outputs on its last
            axis but one, (…, out, in), not on the last, (…, in, out); None where on neither.
        sliced: Whether the kernel lacks an axis of this parameter, as ``w[0]`` the first of w.
        varying: Axes of a surrounding ``shard_map`` over which the outputs differ.
        scans: Numbers of these scans: the layers of sites of one scan take turns.
        backward: Whether each of these scans begins with its last step.
        stopped: Whether gradients of the kernel reach no parameter, as behind ``stop_gradient``.
    """

    name: str
    primitive: str
    leaves: tuple[str, ...]
    stack: tuple[int, ...]
    rows: tuple[int, ...]
    fan_in: int
    fan_out: int
    layers: int
    dtype: Any
    kernel_dtype: Any
    transposed: bool | None = None
    sliced: bool = False
    varying: frozenset[str] = frozenset()
    scans: tuple[int, ...] = ()
    backward: tuple[bool, ...] = ()
    stopped: bool = False

    @property
    def has_kernel(self) -> bool:
        """Whether this is a linear site, not a named activation."""
        return self.primitive != "name"

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of the pre-activations (*stack, *rows, out), or of the named activation."""
        return (*self.stack, *self.rows, self.fan_out if self.has_kernel else self.fan_in)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """(*stack, in, out)."""
        return (*self.stack, self.fan_in, self.fan_out)

    def __str__(self) -> str:
        stack = "".join(f"{size} × " for size in self.stack)
        rows = " × ".join(map(str, self.rows)) or "1"
        if not self.has_kernel:
            return f"named activation, {stack}{rows} rows of {self.fan_in}"
        kind = "" if self.primitive == "dot_general" else ", convolution"
        return f"{stack}({self.fan_in}, {self.fan_out}), {rows} rows{kind}"


@dataclasses.dataclass(frozen=True)
class Leaf:
    """What becomes of a parameter leaf.

    Attributes:
        status: ``linear site``, ``bias or elementwise``, ``unused`` or ``unsupported``; the first
            wins where a leaf is used in several ways.
        detail: The sites and their sizes, or the operations.
        unsupported: Why uses of it are not tapped, for those that are not.
    """

    status: str
    detail: str
    unsupported: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.status == "unsupported":
            return f"unsupported, because: {'; '.join(self.unsupported)}"
        lost = f"; incomplete, because: {'; '.join(self.unsupported)}" if self.unsupported else ""
        return f"{self.status} {self.detail}{lost}"


@dataclasses.dataclass(frozen=True)
class Layers:
    """The linear sites of a function, in order, and the coverage of its parameters.

    Prints as a tree.

    Attributes:
        sites: By name.
        leaves: By key path, every parameter leaf.
    """

    sites: dict[str, Site]
    leaves: dict[str, Leaf]

    def zeros(self) -> dict[str, Array]:
        """Perturbations of zero, by site, shaped as the pre-activations."""
        return {
            name: compat.zeros(site.output_shape, site.dtype, site.varying)
            for name, site in self.sites.items()
        }

    def kernel_zeros(self) -> dict[str, Array]:
        """Kernel perturbations of zero, by linear site."""
        return {
            name: compat.zeros(site.kernel_shape, site.kernel_dtype, site.varying)
            for name, site in self.sites.items()
            if site.has_kernel
        }

    def select(self, path: tuple[Any, ...], leaf: Any) -> bool | Literal["transposed"]:
        """Which leaves are kernels, and how they are stored: ``select`` of ``optim.gram_only``.

        A kernel is a leaf whose every use is a linear site of its own, with the outputs on the
        last axis, True, or on the axis before, ``"transposed"``. Stacks of layers, scanned or
        indexed as ``w[0]`` and ``w[1]``, and leaves with outputs on several axes, such as
        attention's (in, heads, out), are left out.

        Args:
            path: Key path of the leaf.
            leaf: An array; not looked at.

        Example:
            >>> from gramlin_jax import find_layers
            >>> from gramlin_jax.optim import gram_only
            >>> params = {"w": jnp.ones((3, 3)), "b": jnp.ones((1, 3))}  # (out, in), as GPT-2's
            >>> layers = find_layers(lambda p, x: x @ p["w"].T + p["b"], params, jnp.ones((7, 3)))
            >>> layers.sites["w"].transposed
            True
            >>> optimizer = gram_only(optax.sgd(0.1), select=layers.select)
        """
        del leaf
        names = jax.tree_util.keystr(path), key_name(path), key_name(path).removesuffix("/value")
        of_leaf = self.leaves[name := next((n for n in names if n in self.leaves), names[1])]
        sites = [site for site in self.sites.values() if name in site.leaves]
        if of_leaf.unsupported or not sites or any(site.leaves != (name,) for site in sites):
            return False
        if len(sites) > 1 and any(site.sliced for site in sites):
            return False
        if any(site.layers or site.stack and site.primitive == compat.DOT for site in sites):
            return False
        if all(site.transposed is False for site in sites):
            return True
        return "transposed" if all(site.transposed for site in sites) else False

    def __str__(self) -> str:
        lines: list[str] = []
        above: list[str] = []
        for path, leaf in self.leaves.items():
            *parents, name = path.split("/")
            shared = 0
            while shared < min(len(above), len(parents)) and above[shared] == parents[shared]:
                shared += 1
            lines += [f"{'  ' * i}{parents[i]}/" for i in range(shared, len(parents))]
            lines.append("  " * len(parents) + f"{name}: {leaf}")
            above = parents
        lines += [f"{s.name}: {s}" for s in self.sites.values() if not s.has_kernel]
        linear = sum(leaf.status == "linear site" for leaf in self.leaves.values())
        lost = sum(bool(leaf.unsupported) for leaf in self.leaves.values())
        sites = sum(site.has_kernel for site in self.sites.values())
        lines.append(
            f"{sites} linear sites of {linear} leaves; {len(self.leaves)} leaves in all, "
            f"{lost} with a use that is not tapped"
        )
        return "\n".join(lines)


def key_name(path: tuple[Any, ...]) -> str:
    """A key path as text, as the leaves are named."""
    return jax.tree_util.keystr(path, simple=True, separator="/") or "params"


def key_names(paths: list[tuple[Any, ...]]) -> list[str]:
    """Key paths as text, as Python writes them, ``['a']['b']``, where others have the same name."""
    names = [key_name(path) for path in paths]
    counts = collections.Counter(names)
    pairs = zip(paths, names, strict=True)
    return [name if counts[name] == 1 else jax.tree_util.keystr(path) for path, name in pairs]


def describe(plan: Plan, paths: list[str], sizes: list[int]) -> tuple[Layers, dict[str, int]]:
    """The report on a plan, and its sites' numbers by name.

    Args:
        plan: Of the whole function.
        paths: Key path of each parameter leaf.
        sizes: Its number of entries: the largest leaf of a kernel names the site.
    """
    sites: dict[str, Site] = {}
    numbers: dict[str, int] = {}
    scans: dict[int, int] = {}
    of_leaf: list[list[str]] = [[] for _ in paths]
    for found in plan.sites:
        if found.over_keys:
            continue
        largest = sorted(found.leaves, key=lambda index: (-sizes[index], index))
        own = paths[largest[0]] if largest else None
        name = _free_name(own or found.name, bool(found.scans), [*sites, *{*paths} - {own}])
        numbers[name] = found.number
        sites[name] = Site(
            name,
            found.primitive,
            tuple(paths[index] for index in largest),
            *(found.stack, found.rows, found.fan_in, found.fan_out, len(found.scans)),
            *(found.dtype, found.kernel_dtype),
            found.transposed.get(largest[0]) if largest else None,
            bool(largest) and largest[0] in found.sliced,
            found.varying,
            tuple(scans.setdefault(scan, len(scans)) for scan in found.scans),
            found.backward,
            found.stopped,
        )
        for index in largest:
            of_leaf[index].append(name)
    mixed = frozenset().union(*(p.leaves for p in plan.outputs if p.data))
    alone = frozenset().union(*(p.leaves for p in plan.outputs if not p.data))
    uses = [[use for use in plan.uses if index in use.leaves] for index in range(len(paths))]
    leaves = {
        path: _leaf(
            [sites[name] for name in of_leaf[index]],
            uses[index],
            path,
            index in mixed,
            index in alone,
        )
        for index, path in enumerate(paths)
    }
    return Layers(sites, leaves), numbers


def _free_name(name: str, stacked: bool, taken: list[str]) -> str:
    """The name, with a number where it is taken; layers of a stack are called ``name[0]``, ...."""
    count, free = 1, name
    while free in taken or stacked and any(other.startswith(f"{free}[") for other in taken):
        count += 1
        free = f"{name}#{count}"
    return free


def _leaf(sites: list[Site], uses: list[Any], path: str, mixed: bool, alone: bool) -> Leaf:
    lost = {"unsupported", "lookup"}
    if sites:  # the scale of a norm, which is no kernel anywhere, scales what is summed as well
        lost |= {"summed later"}
    if any(use.detail == CHOSEN for use in uses):
        lost -= {"lookup"}
    reasons = tuple(dict.fromkeys(use.detail for use in uses if use.status in lost))
    elementwise = dict.fromkeys(use.detail for use in uses if use.status == "bias or elementwise")
    used = ", ".join(elementwise) or "among data"  # as a first state, or one side of a choice
    if sites:
        detail = "; ".join(str(s) if s.name == path else f"{s.name} {s}" for s in sites)
        return Leaf("linear site", detail + (f"; {used}" if elementwise else ""), reasons)
    if reasons:
        return Leaf("unsupported", "", reasons)
    if elementwise or mixed:
        return Leaf("bias or elementwise", f"({used})")
    return Leaf("unused", f"(no data meet it{' in f, which returns it' if alone else ''})")
