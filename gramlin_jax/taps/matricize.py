"""A linear site as matrices: inputs (*stack, *rows, in), kernel (*stack, in, out), outputs.

``stack`` are axes of separate kernels (batch axes of a product, groups of a convolution); ``rows``
share one kernel (samples, tokens, pixels). Only the patches of a convolution are computed;
everything else rearranges axes, and can be undone.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jax import lax

from gramlin_jax.taps.compat import CONVOLUTION

if TYPE_CHECKING:
    from jaxtyping import Array

Axes = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """An invertible rearrangement: split axes, transpose, merge groups of axes.

    Attributes:
        native: Shape in the primitive's axes.
        split: Shape after splitting.
        permutation: Order of the split axes.
        merged: Shape after merging.
    """

    native: Axes
    split: Axes
    permutation: Axes
    merged: Axes

    @staticmethod
    def of(shape: Axes, parts: list[Axes], split: Axes | None = None) -> Layout:
        """The layout in which each part, axes of ``split`` (by default ``shape``), is one axis."""
        split = shape if split is None else split
        merged = tuple(math.prod(split[axis] for axis in part) for part in parts)
        return Layout(shape, split, tuple(axis for part in parts for axis in part), merged)

    def apply(self, array: Array) -> Array:
        """From the primitive's axes to ours."""
        return array.reshape(self.split).transpose(self.permutation).reshape(self.merged)

    def undo(self, array: Array) -> Array:
        """From our axes to the primitive's."""
        moved = array.reshape([self.split[axis] for axis in self.permutation])
        return moved.transpose(np.argsort(self.permutation)).reshape(self.native)


@dataclasses.dataclass(frozen=True)
class Matricizer:
    """How the operands of one site become matrices.

    Attributes:
        operand: Index of the operand that is data; the other is the kernel.
        features: What the layer reads, (*stack, *positions, channels).
        kernel: (*stack, in, out).
        outputs: Pre-activations (*stack, *rows, out).
    """

    operand: int
    features: Layout
    kernel: Layout
    outputs: Layout

    def inputs(self, native: Array) -> Array:
        """The rows that the kernel multiplies, (*stack, *rows, in)."""
        return self.features.apply(native)


@dataclasses.dataclass(frozen=True)
class ConvolutionMatricizer(Matricizer):
    """A convolution as a product of patches, (*window, channels) of one group, and a kernel."""

    params: dict[str, Any]
    window: Axes

    def inputs(self, native: Array) -> Array:
        """The patches of each group, (*groups, n, *positions, window·channels)."""
        x, groups = self.params["dimension_numbers"].lhs_spec, self.params["feature_group_count"]
        options = "window_strides", "padding", "lhs_dilation", "rhs_dilation"
        patches = lax.conv_general_dilated_patches(
            native.transpose(x),
            self.window,
            precision=lax.Precision.HIGHEST,  # patches are a convolution with 0 and 1: exact
            **{name: self.params[name] for name in options},
        )
        n, channels, *positions = patches.shape
        size = math.prod(self.window)
        stack = (groups,) if groups > 1 else ()
        split = (n, *stack, channels // (groups * size), size, *positions)
        # Patches arrive as (n, groups·channels·window, *positions), with the window fastest. Flax
        # kernels are (*window, in, out), so the window has to lead the channels.
        first = 1 + len(stack)  # axis of a group's channels, before the window and the positions
        rows = [(0,), *((axis,) for axis in range(first + 2, len(split)))]
        parts = [*([(1,)] if stack else []), *rows, (first + 1, first)]
        return Layout.of(patches.shape, parts, split).apply(patches)


def matricizer(
    primitive: str, params: dict[str, Any], operand: int, shapes: list[Axes], out: Axes
) -> Matricizer | None:
    """The matricizer of an equation, or None if it is no linear layer of a supported form.

    Args:
        primitive: Name of the primitive.
        params: Parameters of the primitive.
        operand: Index of the operand that is data.
        shapes: Shapes of the two operands.
        out: Shape of the result.
    """
    if primitive != CONVOLUTION:
        return _product(params["dimension_numbers"], operand, shapes, out)
    # Data as the kernel, or batch groups, occur in the gradients of a convolution.
    if operand != 0 or params["batch_group_count"] != 1:
        return None
    return _convolution(params, shapes, out)


def _product(numbers: Any, operand: int, shapes: list[Axes], out: Axes) -> Matricizer:
    # The data first: where it is the second operand, every pair is reversed.
    (x, k), (xc, kc), (xb, kb) = (pair[:: 1 - 2 * operand] for pair in (tuple(shapes), *numbers))
    rows = [axis for axis in range(len(x)) if axis not in (*xc, *xb)]
    free = tuple(axis for axis in range(len(k)) if axis not in (*kc, *kb))
    # dot_general returns batch axes, free axes of the first operand, free axes of the second.
    batch, first, last = len(xb), len(xb) + (len(free) if operand else len(rows)), len(out)
    ours, theirs = (range(batch, first), range(first, last))[:: 1 - 2 * operand]
    stack = [(axis,) for axis in range(batch)]
    return Matricizer(
        operand,
        features=Layout.of(x, [*((axis,) for axis in (*xb, *rows)), tuple(xc)]),
        kernel=Layout.of(k, [*((axis,) for axis in kb), tuple(kc), free]),
        outputs=Layout.of(out, [*stack, *((axis,) for axis in ours), tuple(theirs)]),
    )


def _convolution(params: dict[str, Any], shapes: list[Axes], out: Axes) -> Matricizer:
    x, k, z = params["dimension_numbers"]
    groups = params["feature_group_count"]
    return ConvolutionMatricizer(
        0,
        features=_grouped(shapes[0], groups, x[1], [(axis,) for axis in (x[0], *x[2:], x[1])]),
        kernel=_grouped(shapes[1], groups, k[0], [(*k[2:], k[1]), (k[0],)]),
        outputs=_grouped(out, groups, z[1], [(axis,) for axis in (z[0], *z[2:], z[1])]),
        params=params,
        window=tuple(shapes[1][axis] for axis in k[2:]),
    )


def _grouped(shape: Axes, groups: int, channels: int, parts: list[Axes]) -> Layout:
    """The layout of ``parts``, after the groups of the axis ``channels`` if there are several."""
    if groups == 1:
        return Layout.of(shape, parts)
    size = shape[channels]
    split = (*shape[:channels], groups, size // groups, *shape[channels + 1 :])
    moved = [tuple(axis + (axis >= channels) for axis in part) for part in parts]
    return Layout.of(shape, [(channels,), *moved], split)
