"""``LayerSums``: all that a metric of one layer sees, and what a metric may need of it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from gramlin_jax.support.array_fields import ArrayFields
from gramlin_jax.support.precision import in_float64

Need: TypeAlias = Literal[
    "features",
    "rows",
    "all_rows",
    "classes",
    "kernel",
    "kernel_gradient",
    "output_gradients",
    "sample_gradients",
    "jacobians",
    "attention",
]
# What a plain function gets. A Jacobian costs one backward pass for each output, and gradients of
# samples the square of the positions.
EVERYTHING: frozenset[Need] = frozenset(get_args(Need)) - {"jacobians", "sample_gradients"}
# What the rows of the features are needed for, and what samples have to be told apart for.
OF_FEATURES: frozenset[Need] = frozenset({"features", "rows", "all_rows", "classes"})
OF_GRADIENTS: frozenset[Need] = frozenset(
    {"kernel_gradient", "output_gradients", "sample_gradients"}
)
OF_SAMPLES: frozenset[Need] = OF_FEATURES | {"jacobians"}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LayerSums(ArrayFields):
    """All that a metric of one layer sees; a part that no metric needs is None.

    Attributes:
        moments: ``Moments`` of the features that the layer reads, with the targets; None where
            samples cannot be told apart (``measure`` notes why).
        kernel: The effective kernel K (i, o), or (groups, i, o); None for a named activation.
        gradients: ``GradientMoments``, ∇_K L and ΔᵀΔ; None for a named activation.
        jacobians: ``JacobianMoments`` of the outputs; None for a named activation.
        learning_rate: η.
        reads_rows: Whether the kernel multiplies the features as they are in ``moments``: not so
            for patches, projections and positions side by side.
        pooled: Whether the rows of ``moments`` are means over positions or one position's, where
            the kernel multiplies those of all positions.
        classes: Whether the targets are one-hot rows of labels.
        fixed_jacobian: Whether ∂f/∂z is the same whatever the network learns, as at the last
            linear layer.
        attention: ``AttentionMoments``, where the outputs are the queries of a softmax over keys.
    """

    moments: Any
    kernel: Any
    gradients: Any
    jacobians: Any
    learning_rate: float
    reads_rows: bool = dataclasses.field(default=False, metadata={"static": True})
    classes: bool = dataclasses.field(default=False, metadata={"static": True})
    fixed_jacobian: bool = dataclasses.field(default=False, metadata={"static": True})
    attention: Any = None
    pooled: bool = dataclasses.field(default=False, metadata={"static": True})

    def has(self, need: Need) -> bool:
        """Whether a metric of this need is defined here."""
        rows = self.moments is not None and self.reads_rows
        return {
            "features": self.moments is not None,
            "rows": rows,
            "all_rows": rows and not self.pooled,
            "classes": self.moments is not None and self.classes,
            "kernel": self.kernel is not None,
            "kernel_gradient": self.gradients is not None,
            "output_gradients": getattr(self.gradients, "output_sum", None) is not None,
            "sample_gradients": getattr(self.gradients, "square_sum", None) is not None,
            "jacobians": self.jacobians is not None,
            "attention": self.attention is not None,
        }[need]

    @in_float64
    def heads(self, number: int) -> list[LayerSums]:
        """Each attention head of a query, key or value by itself: o/number neighbouring outputs.

        All heads read the same features. What a sum over outputs alone can give is lost: the
        squares of ``JacobianMoments`` are NaN, those of single samples' gradients None. The layer
        of the queries keeps the attention of each head.

        Args:
            number: Of heads, a divisor of o.

        Returns:
            Sums with kernels (i, o/number), in order.

        Raises:
            ValueError: If there is no kernel, it has groups, or ``number`` does not divide o.

        Example:
            >>> params = {"query": jnp.eye(4)}
            >>> f, loss = lambda p, x: x @ p["query"], lambda z, y: ((z - y) ** 2).mean()
            >>> m = measure(f, params, (jnp.eye(4), jnp.ones((4, 4))), loss=loss)
            >>> [float(METRICS["kernel_norm"](head)) ** 2 for head in m.sums["query"].heads(2)]
            [2.0000000000000004, 2.0000000000000004]
        """
        shape = None if self.kernel is None else jnp.shape(self.kernel)
        if shape is None or len(shape) != 2 or number < 1 or shape[1] % number:
            raise ValueError(f"number is {number}, kernel {shape}: wanted a divisor of o of (i, o)")
        size = shape[1] // number
        parts = [self._outputs(slice(at, at + size)) for at in range(0, shape[1], size)]
        pairs = zip(parts, _split(self.attention, number), strict=True)
        return [dataclasses.replace(part, attention=attention) for part, attention in pairs]

    def _outputs(self, part: slice) -> LayerSums:
        gradients, jacobians = self.gradients, self.jacobians
        if gradients is not None:
            of_output = gradients.output_sum
            gradients = dataclasses.replace(
                gradients,
                kernel_sum=gradients.kernel_sum[:, part],
                output_sum=None if of_output is None else of_output[part, part],
                square_sum=None,
            )
        if jacobians is not None:
            jacobians = dataclasses.replace(
                jacobians,
                products=jacobians.products[part, part],
                squares=jnp.full_like(jacobians.squares, jnp.nan),
            )
        kernel = self.kernel[:, part]
        return dataclasses.replace(self, kernel=kernel, gradients=gradients, jacobians=jacobians)


def _split(attention: Any, number: int) -> list[Any]:
    """Sums of neighbouring heads; None where these are not a multiple of ``number``."""
    heads = 0 if attention is None else attention.count.shape[-1]
    size, left = divmod(heads, number)
    if left or not size:
        return [None] * number
    parts = (slice(at, at + size) for at in range(0, heads, size))
    return [jax.tree.map(lambda a: a[part], attention) for part in parts]  # noqa: B023
