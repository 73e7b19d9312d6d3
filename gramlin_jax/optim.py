"""Steps split in two: what an optimiser's step does to each layer's Gram, and what it does not.

The step K₁ → K₂ of any optimiser is the Gram-only step K₁ → K′ and a rotation, K₂ = K′Q, with Q
the polar factor of K₁ᵀK₂. ``gram_only`` takes the first and leaves the second out, though the
network's output depends on it; ``gram_preserving`` takes the second, K₁ → K₁Q.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from gramlin_jax.metrics.gram import gram_only_step, gram_only_step_in_basis, whole
from gramlin_jax.metrics.rotation import first_basis, is_wide
from gramlin_jax.support.precision import widened

if TYPE_CHECKING:
    from jaxtyping import Array

Select: TypeAlias = "Callable[[tuple[Any, ...], Array], bool]"
Step: TypeAlias = "Callable[[Array, Array, Array | None], tuple[Array, Array | None]]"
KERNELS = "kernel", "w"


class GramState(NamedTuple):
    """State of ``gram_only`` and ``gram_preserving``.

    Attributes:
        inner: The inner optimiser's.
        bases: A tree like the parameters. Of a kernel (in, out), what leads the search for its next
            step's rotation: about the eigenvectors of KᵀK (out, out). ``optax.MaskedNode()`` of
            other leaves, and of kernels with many more outputs than inputs, which do not need it.
    """

    inner: optax.OptState
    bases: Any


class _Stepped(NamedTuple):
    update: Array | None
    basis: Array | optax.MaskedNode


def is_kernel(path: tuple[Any, ...], leaf: Array) -> bool:
    """Whether a leaf is, by its name, a kernel with the outputs on its last axis.

    Those named ``kernel`` (Linen, NNX) or ``w`` (Haiku) with two axes or more. Equinox's and
    PyTorch's weights (out, in) are not. Four and five axes are taken as a convolution's: leave
    stacks of layers and an attention's kernels out by a ``select`` of your own.

    Args:
        path: Its key path, as from ``jax.tree_util.tree_leaves_with_path``.
        leaf: An array, or its shape and type.

    Raises:
        ValueError: If it is so named and has three axes. Then the name does not tell a convolution
            (width, in, out) from an attention's (in, heads, out) or a stack of layers.
    """
    names = [str(getattr(key, "key", getattr(key, "name", None))) for key in path]
    if names[-1:] == ["value"]:  # of an nnx.Param
        names.pop()
    if not names or names[-1] not in KERNELS or leaf.ndim < 2:
        return False
    if leaf.ndim == 3:
        raise ValueError(
            f"params{jax.tree_util.keystr(path)} has shape {leaf.shape}: pass select=… to take it "
            "as a convolution's (width, in, out) or to leave it out"
        )
    return True


def gram_only(
    inner: optax.GradientTransformation, *, select: Select = is_kernel
) -> optax.GradientTransformationExtraArgs:
    """An optimiser that changes the kernels' Grams as ``inner`` would, and nothing else of them.

    Where ``inner`` takes a kernel from K₁ to K₂, this takes it to K′, the kernel of K₂'s Gram
    K₂K₂ᵀ that is nearest to K₁: see ``gram_only_step``. Other leaves, biases among them, take
    ``inner``'s step. ``inner`` sees plain gradients, at the parameters where they were taken: its
    momentum is not projected. It has to be the whole optimiser, learning rate included, since
    Q is that of the whole step.

    A kernel is a matrix (in, out), all its axes but the last being inputs: (height·width·in, out)
    of a convolution, with one Gram for all groups of a grouped one.

    The state is ``inner``'s and, for each kernel, a basis from which the next step's rotation is
    found in a third of the time. Parameters with an axis of runs or layers need a ``jax.vmap`` over
    it; sharded ones need nothing.

    Where the step or one of the kernels is zero, or the step is not finite, ``inner``'s is taken
    as it is; nothing raises, under ``jit`` or not.

    Args:
        inner: Any Optax optimiser.
        select: ``(path, leaf) -> bool``, which leaves are kernels with the outputs on their last
            axis; see ``is_kernel``.

    Raises:
        ValueError: From ``init``, if nothing is selected, or a leaf that is not of two to five
            axes. From ``update``, if it is not passed ``params``.
        TypeError: From ``init``, if a selected leaf is not of floating point.

    Example:
        >>> optimizer = gram_only(optax.sgd(0.1, momentum=0.85))
        >>> params = {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}
        >>> turn = {"kernel": jnp.array([[0.0, 1.0], [-1.0, 0.0]]), "bias": jnp.ones(2)}
        >>> updates, state = optimizer.update(turn, optimizer.init(params), params)

    Source: arXiv 2605.06258, section 3 (figures 2 and 6).
    """
    return _with_steps(inner, select, _gram_only_step)


def gram_preserving(
    inner: optax.GradientTransformation, *, select: Select = is_kernel
) -> optax.GradientTransformationExtraArgs:
    """The complement: an optimiser that rotates the kernels as ``inner`` would, and no more.

    Where ``inner`` takes a kernel from K₁ to K₂, this takes it to K₁Q, of K₁'s Gram and nearest to
    K₂. A step without rotation is no step, and a kernel of zeros stays. All else is as in
    ``gram_only``: where the step is not finite it is ``inner``'s, so that divergence shows.

    Args:
        inner: Any Optax optimiser.
        select: ``(path, leaf) -> bool``, which leaves are kernels; see ``is_kernel``.

    Raises:
        ValueError: As ``gram_only``.
        TypeError: As ``gram_only``.
    """
    return _with_steps(inner, select, _gram_preserving_step)


def _gram_only_step(before: Array, after: Array, basis: Array | None) -> tuple[Array, Array | None]:
    if basis is None:
        return gram_only_step(before, after), None
    return gram_only_step_in_basis(before, after, basis)


def _gram_preserving_step(
    before: Array, after: Array, basis: Array | None
) -> tuple[Array, Array | None]:
    """The kernel with ``before``'s Gram that is nearest to ``after``."""
    return _gram_only_step(after, before, basis)


def _with_steps(
    inner: optax.GradientTransformation,
    select: Select,
    step: Step,
) -> optax.GradientTransformationExtraArgs:
    """``inner`` with ``step`` (before, after) in place of the selected kernels' own."""
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> optax.OptState:
        def basis(path: tuple[Any, ...], leaf: Array) -> Array | optax.MaskedNode:
            if not select(path, leaf):
                return optax.MaskedNode()
            _check_kernel(f"params{jax.tree_util.keystr(path)}", leaf)
            matrix = _matrix(leaf)
            return optax.MaskedNode() if is_wide(matrix) else first_basis(matrix)

        leaves = jax.tree_util.tree_leaves_with_path(params)
        if leaves and not any(select(path, leaf) for path, leaf in leaves):
            names = ", ".join(jax.tree_util.keystr(path) for path, _ in leaves)
            raise ValueError(
                f"params has no kernel among {names}: pass select=… for kernels with the outputs "
                "on the last axis"
            )
        return GramState(inner.init(params), jax.tree_util.tree_map_with_path(basis, params))

    def update(
        updates: optax.Updates,
        state: GramState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        if params is None:
            raise ValueError("params is None: wanted update(gradients, state, params)")
        updates, inner_state = inner.update(updates, state.inner, params, **extra)

        def stepped(path: tuple[Any, ...], update: Array | None, leaf: Array, basis: Any) -> Any:
            if update is None or not select(path, leaf):
                return _Stepped(update, basis)
            led = None if isinstance(basis, optax.MaskedNode) else basis
            update, led = _step(update, leaf, led, step)
            return _Stepped(update, basis if led is None else led)

        both = jax.tree_util.tree_map_with_path(
            stepped, updates, params, state.bases, is_leaf=lambda leaf: leaf is None
        )
        updates = _of_each(lambda pair: pair.update, both)
        bases = _of_each(lambda pair: pair.basis, both)
        return updates, GramState(inner_state, bases)

    return optax.GradientTransformationExtraArgs(init, update)


def _of_each(part: Callable[[_Stepped], Any], both: Any) -> Any:
    return jax.tree.map(part, both, is_leaf=lambda leaf: isinstance(leaf, _Stepped))


def _check_kernel(name: str, leaf: Array) -> None:
    if not 2 <= leaf.ndim <= 5 or 0 in leaf.shape:
        raise ValueError(
            f"{name} has shape {leaf.shape}: wanted a matrix (in, out) or a convolution's kernel "
            "(…, in, out); pass select=… to leave it out"
        )
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {leaf.dtype}: wanted floating point")


@functools.partial(jax.jit, static_argnames="step")  # compiled, it does not raise at NaN
def _step(
    update: Array, kernel: Array, basis: Array | None, step: Step
) -> tuple[Array, Array | None]:
    spread = jax.typeof(update).sharding
    update, kernel = whole(update), whole(kernel)
    matrix = _matrix(kernel)
    before = matrix.astype(jnp.promote_types(matrix.dtype, update.dtype))
    change = update.astype(before.dtype).reshape(before.shape)
    led = None if basis is None else basis.astype(before.dtype)
    after, led = step(before, before + change, led)
    stepped = (after - before).reshape(update.shape).astype(update.dtype)
    basis = None if basis is None or led is None else led.astype(basis.dtype)
    stepped = jnp.where(jnp.isfinite(change).all(), stepped, update)
    if jax.typeof(stepped).sharding != spread:
        stepped = jax.sharding.reshard(stepped, spread)
    return stepped, basis


def _matrix(kernel: Array) -> Array:
    """The kernel as a matrix (inputs, outputs), in float32 or wider."""
    return widened(whole(kernel)).reshape(-1, kernel.shape[-1])
