"""Optimisers that take only the part of a step that changes each Gram, or only the rest.

The step K₁ → K₂ of any optimiser is a Gram-only step K₁ → K′ followed by a rotation, K₂ = K′Q, with
Q the polar factor of K₁ᵀK₂. ``gram_only`` takes the first and omits the rotation, although the
network's output depends on it. ``gram_preserving`` takes only the rotation, K₁ → K₁Q.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from gramlin_jax.metrics.gram import gram_only_step, gram_only_step_in_basis, whole
from gramlin_jax.metrics.rotation import first_basis, is_wide
from gramlin_jax.support.precision import widened, with_promotion

if TYPE_CHECKING:
    from jaxtyping import Array

Selected: TypeAlias = bool | Literal["transposed"]
Select: TypeAlias = "Callable[[tuple[Any, ...], Array], Selected]"
Step: TypeAlias = "Callable[[Array, Array, Array | None], tuple[Array, Array | None]]"
KERNELS = "kernel", "w"
BIASES = "bias", "b"


class GramState(NamedTuple):
    """State of ``gram_only`` and ``gram_preserving``.

    Attributes:
        inner: State of the inner optimiser.
        bases: A tree like the parameters. For a kernel (in, out), a warm start for the next
            rotation: approximately the eigenvectors of KᵀK (out, out). ``optax.MaskedNode()`` for
            other leaves, and for kernels with many more outputs than inputs, which need none.
    """

    inner: optax.OptState
    bases: Any


class _Stepped(NamedTuple):
    update: Array | None
    basis: Array | optax.MaskedNode


def is_kernel(path: tuple[Any, ...], leaf: Array) -> bool:
    """Whether the name of a leaf says that it is a kernel with the outputs on its last axis.

    True for leaves named ``kernel`` (Linen, NNX) or ``w`` (Haiku) with two or more axes; false for
    the weights (out, in) of Equinox and PyTorch. Four and five axes are assumed to be a
    convolution's: exclude stacks of layers and attention kernels with a ``select`` of your own. A
    name does not say that a layer stores its kernel transposed, as Hugging Face's GPT-2 and
    ``nn.ConvTranspose(transpose_kernel=True)`` do: a ``select`` of your own says "transposed".

    Args:
        path: Key path of the leaf, as from ``jax.tree_util.tree_leaves_with_path``.
        leaf: An array, or its shape and type.

    Raises:
        ValueError: If a leaf of that name has three axes: it may be a convolution (width, in, out),
            an attention kernel (in, heads, out) or a stack of layers.

    Example:
        >>> paths = jax.tree_util.tree_leaves_with_path({"kernel": jnp.eye(2), "bias": jnp.ones(2)})
        >>> {jax.tree_util.keystr(path): is_kernel(path, leaf) for path, leaf in paths}
        {"['bias']": False, "['kernel']": True}
    """
    if _name(path) not in KERNELS or leaf.ndim < 2:
        return False
    if leaf.ndim == 3:
        raise ValueError(
            f"params{jax.tree_util.keystr(path)} has shape {leaf.shape}: wanted 2, 4 or 5 axes; "
            "use select=… to take it as a convolution's (width, in, out) or to leave it out"
        )
    return True


def _name(path: tuple[Any, ...]) -> str | None:
    """The last name of a key path, without the ``value`` of an nnx.Param."""
    names = [str(getattr(key, "key", getattr(key, "name", None))) for key in path]
    return next((name for name in reversed(names) if name != "value"), None)


def gram_only(
    inner: optax.GradientTransformation, *, select: Select = is_kernel
) -> optax.GradientTransformationExtraArgs:
    """An optimiser that changes the Gram of each kernel as ``inner`` would, without the rotation.

    If ``inner`` moves a kernel from K₁ to K₂, this moves it to K′, the kernel nearest to K₁ with
    the Gram K₂K₂ᵀ: see ``gram_only_step``. Other leaves, such as biases, take the step of
    ``inner``. ``inner`` receives plain gradients at the actual parameters, and its momentum is not
    projected. It has to be the whole optimiser, learning rate included, because Q depends on the
    whole step. An optimiser that has two sets of parameters, such as
    ``optax.contrib.schedule_free`` and ``optax.lookahead``, goes outside:
    ``schedule_free(gram_only(sgd), rate)``.

    A kernel is read as a matrix (in, out), with all axes but the last as inputs: a convolution's is
    (height·width·in, out), with a single Gram for all groups.

    Besides the state of ``inner``, each kernel has a basis as a warm start, which finds the next
    rotation in a third of the time. Parameters with an axis of runs or layers need a ``jax.vmap``
    over it; sharded parameters need nothing.

    If the step or a kernel is zero, or the step is not finite, the step of ``inner`` is taken
    unchanged. Nothing raises, with or without ``jit``.

    Args:
        inner: Any Optax optimiser.
        select: ``(path, leaf) -> True``, a kernel with the outputs on its last axis;
            ``"transposed"``, with the outputs on the axis before (…, out, in); or ``False``. The
            names decide, see ``is_kernel``, or the network: ``find_layers(f, params, x).select``.

    Raises:
        ValueError: From ``init``, if no leaf is selected, or one that does not have two to five
            axes, whose outputs are not as many as its bias has, or if ``inner`` is schedule-free or
            lookahead. From ``update``, if ``params`` is None.
        TypeError: From ``init``, if a selected leaf is not floating point.

    Source: arXiv 2605.06258, section 3 (figures 2 and 6).

    Example:
        >>> optimizer = gram_only(optax.sgd(0.1, momentum=0.85))
        >>> params = {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}
        >>> turn = {"kernel": jnp.array([[0.0, 1.0], [-1.0, 0.0]]), "bias": jnp.ones(2)}
        >>> updates, state = optimizer.update(turn, optimizer.init(params), params)
        >>> bool(abs(updates["kernel"][0, 1]) < 1e-4)  # the step of SGD has −0.1 there
        True
    """
    return _with_steps(inner, select, _gram_only_step)


def gram_preserving(
    inner: optax.GradientTransformation, *, select: Select = is_kernel
) -> optax.GradientTransformationExtraArgs:
    """An optimiser that rotates each kernel as ``inner`` would, and preserves its Gram.

    If ``inner`` moves a kernel from K₁ to K₂, this moves it to K₁Q, the kernel nearest to K₂ with
    the Gram of K₁. A step without rotation has no effect, and a kernel of zeros stays zero.
    Otherwise it is like ``gram_only``: a step that is not finite is taken unchanged, so divergence
    remains visible.

    Args:
        inner: Any Optax optimiser.
        select: Which leaves are kernels, as for ``gram_only``.

    Raises:
        ValueError: As ``gram_only``.
        TypeError: As ``gram_only``.

    Source: the complement of ``gram_only``.

    Example:
        >>> optimizer = gram_preserving(optax.sgd(0.1))
        >>> params = {"kernel": jnp.eye(2)}
        >>> updates, _ = optimizer.update({"kernel": -jnp.eye(2)}, optimizer.init(params), params)
        >>> bool(abs(updates["kernel"]).max() < 1e-6)  # SGD would scale the kernel, not rotate it
        True
    """
    return _with_steps(inner, select, _gram_preserving_step)


def _gram_only_step(before: Array, after: Array, basis: Array | None) -> tuple[Array, Array | None]:
    if basis is None:
        return gram_only_step(before, after), None
    return gram_only_step_in_basis(before, after, basis)


def _gram_preserving_step(
    before: Array, after: Array, basis: Array | None
) -> tuple[Array, Array | None]:
    """The kernel nearest to ``after`` that has the Gram of ``before``."""
    return _gram_only_step(after, before, basis)


def _with_steps(
    inner: optax.GradientTransformation,
    select: Select,
    step: Step,
) -> optax.GradientTransformationExtraArgs:
    """``inner``, with the steps of selected kernels replaced by ``step(before, after, basis)``."""
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> optax.OptState:
        def basis(path: tuple[Any, ...], leaf: Array) -> Array | optax.MaskedNode:
            how = select(path, leaf)
            if not how:
                return optax.MaskedNode()
            _check_kernel(f"params{jax.tree_util.keystr(path)}", leaf, how)
            _check_bias(path, leaf, how, leaves)
            matrix = _matrix(leaf, how)
            return optax.MaskedNode() if is_wide(matrix) else first_basis(matrix)

        leaves = jax.tree_util.tree_leaves_with_path(params)
        if leaves and not any(select(path, leaf) for path, leaf in leaves):
            names = ", ".join(jax.tree_util.keystr(path) for path, _ in leaves)
            raise ValueError(
                f"params has no kernel among {names}: wanted at least one; use select=… for "
                "kernels with the outputs on the last axis"
            )
        state = inner.init(params)
        _check_trajectory(state)
        return GramState(state, jax.tree_util.tree_map_with_path(basis, params))

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
            if update is None or not (how := select(path, leaf)):
                return _Stepped(update, basis)
            start = None if isinstance(basis, optax.MaskedNode) else basis
            update, following = _step(update, leaf, start, step, how)
            return _Stepped(update, basis if following is None else following)

        both = jax.tree_util.tree_map_with_path(
            stepped, updates, params, state.bases, is_leaf=lambda leaf: leaf is None
        )
        updates = _of_each(lambda pair: pair.update, both)
        bases = _of_each(lambda pair: pair.basis, both)
        return updates, GramState(inner_state, bases)

    return optax.GradientTransformationExtraArgs(init, update)


def _of_each(part: Callable[[_Stepped], Any], both: Any) -> Any:
    return jax.tree.map(part, both, is_leaf=lambda leaf: isinstance(leaf, _Stepped))


def _check_kernel(name: str, leaf: Array, how: Selected) -> None:
    if isinstance(how, str) and how != "transposed":
        raise ValueError(f"select returns {how!r} for {name}: wanted True, False or 'transposed'")
    if not 2 <= leaf.ndim <= 5 or 0 in leaf.shape:
        raise ValueError(
            f"{name} has shape {leaf.shape}: wanted a matrix (in, out) or a convolution's kernel "
            "(…, in, out); use select=… to leave it out"
        )
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {leaf.dtype}: wanted floating point")


def _check_bias(
    path: tuple[Any, ...], leaf: Array, how: Selected, leaves: Sequence[tuple[Any, Array]]
) -> None:
    """Check that a kernel has as many outputs as the bias of its layer, where it has one."""
    depth = len(path) - (1 if _name(path[-1:]) else 2)  # of the layer
    outputs = leaf.shape[-2 if how == "transposed" else -1]
    for other, bias in leaves:
        beside = len(other) == len(path) and other[:depth] == path[:depth]
        if beside and _name(other) in BIASES and bias.ndim == 1 and bias.shape[0] != outputs:
            raise ValueError(
                f"params{jax.tree_util.keystr(path)} has shape {leaf.shape} and its bias "
                f"{bias.shape}: wanted {outputs} outputs in both; use select=… to say "
                "'transposed' of kernels (…, out, in)"
            )


def _check_trajectory(state: optax.OptState) -> None:
    """Check that the inner optimiser has no other parameters than ``gram_only`` changes."""
    kinds = optax.contrib.ScheduleFreeState, optax.LookaheadState
    found = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kinds))
    if any(isinstance(node, kinds[0]) for node in found):
        raise ValueError(
            "inner is schedule-free, whose evaluation parameters are of its own steps: wanted "
            "schedule_free(gram_only(…), …)"
        )
    if any(isinstance(node, kinds[1]) for node in found):
        raise ValueError(
            "inner is lookahead, whose slow parameters meet the fast ones after its own steps: "
            "wanted lookahead(gram_only(…), …)"
        )


@functools.partial(
    jax.jit, static_argnames=("step", "how")
)  # under jit, NaN passes the checks of input
@with_promotion
def _step(
    update: Array, kernel: Array, basis: Array | None, step: Step, how: Selected
) -> tuple[Array, Array | None]:
    spread = jax.typeof(update).sharding
    update, kernel = whole(update), whole(kernel)
    matrix = _matrix(kernel, how)
    before = matrix.astype(jnp.promote_types(matrix.dtype, update.dtype))
    change = _oriented(update, how).astype(before.dtype).reshape(before.shape)
    start = None if basis is None else basis.astype(before.dtype)
    after, following = step(before, before + change, start)
    stepped = (after - before).reshape(_oriented(update, how).shape).astype(update.dtype)
    stepped = _oriented(stepped, how)
    basis = None if basis is None or following is None else following.astype(basis.dtype)
    stepped = jnp.where(jnp.isfinite(change).all(), stepped, update)
    if jax.typeof(stepped).sharding != spread:
        stepped = jax.sharding.reshard(stepped, spread)
    return stepped, basis


def _oriented(kernel: Array, how: Selected) -> Array:
    """(…, inputs, outputs) for (…, outputs, inputs), and the other way round."""
    return jnp.swapaxes(kernel, -1, -2) if how == "transposed" else kernel


def _matrix(kernel: Array, how: Selected) -> Array:
    """The kernel as a matrix (inputs, outputs), in float32 or wider."""
    kernel = _oriented(widened(whole(kernel)), how)
    return kernel.reshape(-1, kernel.shape[-1])
