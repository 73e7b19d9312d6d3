"""``tap`` and ``find_layers``: every linear layer of any JAX function."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax.taps import compat
from gramlin_jax.taps.interpreter import Shift, Tap, run
from gramlin_jax.taps.layers import Layers, describe
from gramlin_jax.taps.provenance import Provenance, make_plan

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

ARRAY = object()  # stands for an array in a pytree without its arrays


class Program:
    """A function traced at given arguments, with its sites found; runs with taps.

    Attributes:
        layers: Its sites and the coverage of its parameters.
    """

    layers: Layers

    def __init__(self, f: Callable[..., PyTree], params: PyTree, args: tuple, kwargs: dict) -> None:
        arrays, static = partition((params, args, kwargs))

        def flat(*arrays: Any) -> PyTree:
            params, args, kwargs = static.combine(arrays)
            return f(params, *args, **kwargs)

        jaxpr, consts, shape = compat.trace(flat, *arrays)
        self._values, self._tree = arrays, cast("Any", jax.tree.structure(shape))
        if not self._tree.num_leaves:
            raise ValueError(f"f returns {shape!r}: wanted an array, or a pytree with one at least")
        with_paths = jax.tree_util.tree_leaves_with_path(params)
        leaves = [(path, leaf) for path, leaf in with_paths if _is_array(leaf)]
        paths = _names([path for path, _ in leaves])
        if not paths:
            raise ValueError("params holds no array: wanted the parameters as the first argument")
        sources = [Provenance(leaves=frozenset({index})) for index in range(len(paths))]
        sources += [Provenance(data=True)] * (len(arrays) - len(paths))
        self._plan = make_plan(compat.Inner(jaxpr, consts), sources, itertools.count())
        sizes = [np.size(leaf) * jnp.issubdtype(leaf.dtype, jnp.floating) for _, leaf in leaves]
        self.layers, self._numbers = describe(self._plan, paths, sizes)
        if all(leaf.status == "unused" for leaf in self.layers.leaves.values()):
            raise ValueError(
                "params: none of its leaves is used with data. Parameters that f closes over are "
                "constants to it; pass them as its first argument, f(params, *args), and data after"
            )

    def __call__(
        self, perturbations: dict[str, Array], kernel_perturbations: dict[str, Array]
    ) -> tuple[PyTree, dict[str, Tap]]:
        """The function's output at the arguments it was traced with, and its taps."""
        self._check("perturbations", perturbations, "output_shape")
        self._check("kernel_perturbations", kernel_perturbations, "kernel_shape")
        shifts = {
            number: Shift(perturbations.get(name), kernel_perturbations.get(name))
            for name, number in self._numbers.items()
            if name in perturbations or name in kernel_perturbations
        }
        results, taps = run(self._plan, [_typed(value) for value in self._values], shifts)
        named = {name: taps[number] for name, number in self._numbers.items()}
        return jax.tree.unflatten(self._tree, results), named

    def _check(self, argument: str, values: dict[str, Array], shape: str) -> None:
        for name, value in values.items():
            site = self.layers.sites.get(name)
            if site is None or (shape == "kernel_shape" and not site.has_kernel):
                known = ", ".join(self.layers.sites) or "none"
                raise ValueError(f"{argument} names {name!r}: wanted one of the sites {known}")
            if np.shape(value) != getattr(site, shape):
                raise ValueError(
                    f"{argument}[{name!r}] has shape {np.shape(value)}: wanted "
                    f"{getattr(site, shape)}, see find_layers"
                )


def tap(f: Callable[..., PyTree]) -> Callable[..., tuple[PyTree, dict[str, Tap]]]:
    """``f`` with what flows through each of its linear layers z = XK (i inputs, o outputs).

    A linear site is a matrix product or convolution of data with a kernel that is computed from
    parameters alone; the rule covers casts, transposes, scaled and masked weights, einsum,
    attention, low-rank adapters and weight norm, in any framework. The function itself is not
    changed: its output is that of ``f`` to the last bit that compilation leaves alone.

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
        program = Program(f, params, args, kwargs)
        return program(perturbations or {}, kernel_perturbations or {})

    return tapped


def find_layers(
    f: Callable[..., PyTree], params: PyTree, *args: Any, strict: bool = False, **kwargs: Any
) -> Layers:
    """The linear sites of ``f(params, *args)``, and what becomes of every parameter leaf.

    Runs abstractly: nothing is computed, and arguments may be ``jax.ShapeDtypeStruct``. Every leaf
    is a *linear site*, *bias or elementwise*, *unused*, or *unsupported* with the reason: embedding
    lookups and sums of products are linear layers that are not written as such; ``cond``,
    ``while``, ``shard_map`` and custom derivative rules are not entered.

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
    layers = Program(f, params, args, kwargs).layers
    lost = {path: leaf.unsupported for path, leaf in layers.leaves.items() if leaf.unsupported}
    if strict and lost:
        reasons = "; ".join(f"{path}: {', '.join(why)}" for path, why in lost.items())
        raise ValueError(f"params has leaves with uses that are not tapped: {reasons}")
    return layers


def _names(paths: list[Any]) -> list[str]:
    """Key paths as text; an NNX state names its arrays' variables, not their ``value``."""
    if all(path and path[-1] == jax.tree_util.GetAttrKey("value") for path in paths):
        paths = [path[:-1] for path in paths]
    return [jax.tree_util.keystr(path, simple=True, separator="/") or "params" for path in paths]


def _typed(value: Any) -> Any:
    """NumPy's arrays as JAX's, of the types that the trace gave them."""
    return (
        jnp.asarray(value, jax.dtypes.canonicalize_dtype(value.dtype))
        if isinstance(value, (np.ndarray, np.generic))
        else value
    )


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct))


def partition(tree: PyTree) -> tuple[list[Any], Static]:
    """The arrays of a pytree, and all the rest of it, which is hashable if its leaves are."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    return arrays, Static(tuple(ARRAY if _is_array(x) else x for x in leaves), structure)


@dataclasses.dataclass(frozen=True)
class Static:
    """A pytree without its arrays."""

    leaves: tuple[Any, ...]
    structure: Any

    def combine(self, arrays: Iterable[Any]) -> PyTree:
        """The pytree with these arrays in their places."""
        remaining = iter(arrays)
        filled = [next(remaining) if leaf is ARRAY else leaf for leaf in self.leaves]
        return jax.tree.unflatten(self.structure, filled)
