"""``tap`` and ``find_layers``: every linear layer of any JAX function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gramlin_jax.taps.interpreter import Tap
from gramlin_jax.taps.layers import Layers
from gramlin_jax.taps.traced import capture, trace

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


def tap(f: Callable[..., PyTree]) -> Callable[..., tuple[PyTree, dict[str, Tap]]]:
    """``f`` with what flows through each of its linear layers z = XK (i inputs, o outputs).

    A linear site is a matrix product or convolution of data with a kernel that is computed from
    parameters alone; the rule covers casts, transposes, scaled and masked weights, einsum,
    attention, low-rank adapters and weight norm, in any framework. The function itself is not
    changed: its output is the same, bit for bit where compilation does not reorder it.

    The result is ``tapped(params, *args, perturbations=None, kernel_perturbations=None, **kwargs)
    -> (output, taps)``. It is a JAX function: ``jit``, ``vmap``, ``grad`` and sharding work, and
    under ``jit`` what is not used of the taps costs nothing, the patches of convolutions above all.

    Args:
        f: ``f(params, *args, **kwargs) -> pytree of arrays``. Leaves of the arguments that are no
            arrays (Python numbers, strings, functions) are constants.

    Returns:
        A function of which

        * ``params`` is a pytree of parameters (a dict, an NNX state, an Equinox module, …); all
          other arguments are data;
        * ``perturbations`` maps names of sites to arrays of the shape of ``outputs`` that are added
          to the pre-activations, so that their gradient at zero is Δ = ∂L/∂z;
        * ``kernel_perturbations`` maps names to arrays (*stack, i, o) that are added to the
          kernels: their gradient is ∇_K L = XᵀΔ;
        * ``taps`` maps each site's name, the key path of its parameter leaf, to a ``Tap``, and
          the names given by ``jax.ad_checkpoint.checkpoint_name`` to one that has features only.

    Raises:
        ValueError: (the tapped function) if ``f`` returns no array, no parameter meets data, or a
            perturbation has an unknown name or a wrong shape.

    Source: arXiv 2605.06258, section 2; the rule is this package's own.

    Example:
        >>> def f(params, x):
        ...     return jnp.tanh(x @ params["in"] + params["bias"]) @ params["out"]
        >>> params = {"in": jnp.ones((3, 5)), "bias": jnp.zeros((1, 5)), "out": jnp.ones((5, 2))}
        >>> output, taps = jax.jit(tap(f))(params, jnp.ones((7, 3)))
        >>> {name: t.inputs.shape for name, t in taps.items()}
        {'in': (7, 3), 'out': (7, 5)}
    """

    @functools.wraps(f)
    def tapped(
        params: PyTree,
        *args: Any,
        perturbations: dict[str, Array] | None = None,
        kernel_perturbations: dict[str, Array] | None = None,
        **kwargs: Any,
    ) -> tuple[PyTree, dict[str, Tap]]:
        traced, values = capture(f, params, args, kwargs)
        return traced(values, perturbations, kernel_perturbations)

    return tapped


def find_layers(
    f: Callable[..., PyTree], params: PyTree, *args: Any, strict: bool = False, **kwargs: Any
) -> Layers:
    """The linear sites of ``f(params, *args)``, and what becomes of every parameter leaf.

    Runs abstractly: nothing is computed, and arguments may be ``jax.ShapeDtypeStruct``. Every leaf
    is a *linear site*, *bias or elementwise*, *unused*, or *unsupported* with the reason: embedding
    lookups, sums of products, convolutions by FFT and gathered experts are linear layers that are
    not written as such; complex and integer kernels have no sites; ``cond``, ``while``,
    ``shard_map`` and custom derivative rules are not entered. A linear site is *incomplete* where
    other uses of its leaf are unsupported, or scale data that are summed later.

    Args:
        f: As for ``tap``.
        params: As for ``tap``.
        args: As for ``tap``.
        strict: Raise if any use of a parameter is unsupported.
        kwargs: As for ``tap``.

    Raises:
        ValueError: As ``tap``, and under ``strict``.

    Example:
        >>> print(find_layers(lambda p, x: x @ p["w"] + p["b"],
        ...                   {"w": jnp.ones((3, 5)), "b": jnp.ones((1, 5))}, jnp.ones((7, 3))))
        b: bias or elementwise (add)
        w: linear site (3, 5), 7 rows
        1 linear sites of 1 leaves; 2 leaves in all, 0 with a use that is not tapped
    """
    layers = trace(f, params, *args, **kwargs).layers
    lost = {path: leaf.unsupported for path, leaf in layers.leaves.items() if leaf.unsupported}
    if strict and lost:
        reasons = "; ".join(f"{path}: {', '.join(why)}" for path, why in lost.items())
        raise ValueError(f"params has leaves with uses that are not tapped: {reasons}")
    return layers
