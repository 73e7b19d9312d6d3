"""``trace``: what a function does with its parameters, found once, without any array."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax.support.calls import noting
from gramlin_jax.support.checks import check_function
from gramlin_jax.support.memory import remembered
from gramlin_jax.support.outside import read_outside
from gramlin_jax.taps import compat
from gramlin_jax.taps.axes import Stored
from gramlin_jax.taps.interpreter import Seen, Shift, Tap, run
from gramlin_jax.taps.layers import Layers, describe, key_names
from gramlin_jax.taps.plan import Plan, Provenance
from gramlin_jax.taps.provenance import make_plan

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A function traced at given shapes: its sites, their coverage, and how to run it with taps.

    It holds no arrays and hashes by identity, so compiled functions can be kept for it. Arrays
    that ``f`` closes over are arguments of the trace, as its parameters and data are. (Those that
    a ``jit`` inside ``f`` closes over stay constants of that ``jit``, as JAX has them.)

    Attributes:
        layers: The linear sites and the coverage of the parameters.
        closed_over: Shapes and types of the arrays that ``f`` closes over.
    """

    layers: Layers
    closed_over: tuple[Any, ...]
    _plan: Plan
    _numbers: dict[str, int]
    _outputs: Any

    def __call__(
        self,
        values: Sequence[Any],
        perturbations: Mapping[str, Array | Seen] | None = None,
        kernel_perturbations: Mapping[str, Array | Seen] | None = None,
        attention: bool = False,
    ) -> tuple[PyTree, dict[str, Tap]]:
        """The function's output and its taps; nothing of ``f`` runs again.

        Args:
            values: The arrays that ``f`` closes over, then those of its arguments, in order.
            perturbations: By site, added to the pre-activations, see ``tap``; or ``Seen``.
            kernel_perturbations: By site, added to the kernels.
            attention: Whether taps of queries hold how their attention spreads.

        Raises:
            ValueError: If a perturbation has an unknown name or a wrong shape.
        """
        outputs, kernels = perturbations or {}, kernel_perturbations or {}
        self._check("perturbations", outputs, "output_shape")
        self._check("kernel_perturbations", kernels, "kernel_shape")
        shifts = {
            number: Shift(outputs.get(name), kernels.get(name))
            for name, number in self._numbers.items()
            if name in outputs or name in kernels
        }
        asked = self.softmaxes if attention else {}
        shifts |= dict.fromkeys(itertools.chain(*asked.values()), Shift())
        results, taps = run(self._plan, [_typed(value) for value in values], shifts)
        named = {name: taps[number] for name, number in self._numbers.items()}
        for name, numbers in asked.items():
            parts = [taps[number] for number in numbers]
            joined = jax.tree.map(lambda *heads: jnp.concatenate(heads, -1), *parts)
            named[name] = named[name]._replace(attention=joined)
        return jax.tree.unflatten(self._outputs, results), named

    @functools.cached_property
    def has_constants(self) -> bool:
        """Whether ``f``, or a ``jit`` inside of it, closes over arrays, which may change."""
        return bool(self.closed_over or compat.inner_constants(self._plan.inner.jaxpr))

    @functools.cached_property
    def output(self) -> PyTree:
        """The shapes of what ``f`` returns."""
        results = [v.aval for v in self._plan.inner.jaxpr.outvars]
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in results]
        return jax.tree.unflatten(self._outputs, shapes)

    @functools.cached_property
    def of_parameters(self) -> dict[int, tuple[str, ...]]:
        """By number of an output that depends on parameters alone, the names of these."""
        names = list(self.layers.leaves)
        return {
            number: tuple(names[leaf] for leaf in sorted(of.leaves))
            for number, of in enumerate(self._plan.outputs)
            if of.parameter_only
        }

    @functools.cached_property
    def softmaxes(self) -> dict[str, list[int]]:
        """By site whose outputs are queries, the numbers of the softmaxes over their keys."""
        names = {number: name for name, number in self._numbers.items()}
        found: dict[str, list[int]] = {}
        for site in self._plan.sites:
            if site.over_keys and site.number in self._plan.mixed:
                found.setdefault(names[site.over_keys.queries.number], []).append(site.number)
        return found

    @functools.cached_property
    def other_softmaxes(self) -> int:
        """How many softmaxes mix features, but are not over keys of the queries of a layer."""
        return len(self._plan.mixed) - sum(map(len, self.softmaxes.values()))

    def same_as(self, other: Traced) -> bool:
        """Whether running one is running the other: the same equations and constants."""
        ours, theirs = self._plan.inner.jaxpr, other._plan.inner.jaxpr
        constants = [compat.inner_constants(jaxpr) for jaxpr in (ours, theirs)]
        return (
            self._outputs == other._outputs
            and len(constants[0]) == len(constants[1])
            and all(a is b for a, b in zip(*constants, strict=True))
            and str(ours) == str(theirs)
        )

    def _check(self, argument: str, values: Mapping[str, Array | Seen], shape: str) -> None:
        for name, value in values.items():
            site = self.layers.sites.get(name)
            if site is None or (shape == "kernel_shape" and not site.has_kernel):
                known = ", ".join(self.layers.sites) or "none"
                raise ValueError(f"{argument} names {name!r}: wanted one of the sites {known}")
            given = np.shape(value.zeros if isinstance(value, Seen) else value)
            if given != getattr(site, shape):
                raise ValueError(
                    f"{argument}[{name!r}] has shape {given}: wanted "
                    f"{getattr(site, shape)}, see find_layers"
                )


def trace(f: Callable[..., PyTree], params: PyTree, *args: Any, **kwargs: Any) -> Traced:
    """The linear sites of ``f(params, *args)``, its coverage and its equations, in one trace.

    ``f`` runs once, abstractly. All of this package's transforms go through it.

    Args:
        f: ``f(params, *args, **kwargs) -> pytree of arrays``, see ``tap``.
        params: Parameters; all other arguments are data.
        args: Arrays, or their shapes as ``jax.ShapeDtypeStruct``, and constants.
        kwargs: As ``args``.

    Returns:
        A ``Traced``, which holds no arrays and hashes by identity.

    Raises:
        ValueError: If ``f`` returns no array, ``params`` holds none, or none of it meets data.

    Example:
        >>> f = lambda params, x: jnp.tanh(x @ params["in"]) @ params["out"]
        >>> params = {"in": jnp.ones((3, 5)), "out": jnp.ones((5, 2))}
        >>> traced = trace(f, params, jax.ShapeDtypeStruct((7, 3), jnp.float32))
        >>> [(name, site.kernel_shape) for name, site in traced.layers.sites.items()]
        [('in', (3, 5)), ('out', (5, 2))]
    """
    return capture(f, params, args, kwargs)[0]


def capture(
    f: Callable[..., PyTree], params: PyTree, args: tuple, kwargs: dict | None = None
) -> tuple[Traced, list[Any]]:
    """``trace``, and the values to run it with: arrays closed over, parameters, then data."""
    _check_network(f)
    leaves, structure = jax.tree.flatten((params, args, kwargs or {}))
    arrays = [leaf for leaf in leaves if is_array(leaf)]

    def flat(*arrays: Any) -> PyTree:
        given = iter(arrays)
        filled = [next(given) if is_array(leaf) else leaf for leaf in leaves]
        params, args, kwargs = jax.tree.unflatten(structure, filled)
        return _called(f, params, args, kwargs)

    jaxpr, constants, shape = compat.trace(flat, *arrays)
    outputs: Any = jax.tree.structure(shape)
    if not outputs.num_leaves:
        raise ValueError(f"f returns {shape!r}: wanted an array, or a pytree with one at least")
    with_paths = jax.tree_util.tree_leaves_with_path(params)
    named = [(path, leaf) for path, leaf in with_paths if is_array(leaf)]
    if not named:
        raise ValueError("params holds no array: wanted the parameters as the first argument")
    sources = [Provenance()] * len(constants)
    sources += [
        Provenance(
            leaves=frozenset({index}),
            stored=(Stored.whole(index, np.shape(leaf)),),
            trained=frozenset({index}),
        )
        for index, (_, leaf) in enumerate(named)
    ]
    sources += [Provenance(data=True)] * (len(arrays) - len(named))
    plan = make_plan(compat.Inner(jaxpr, []), sources, itertools.count())
    sizes = [np.size(leaf) * jnp.issubdtype(leaf.dtype, jnp.floating) for _, leaf in named]
    layers, numbers = describe(plan, _names([path for path, _ in named]), sizes)
    if all(leaf.status == "unused" for leaf in layers.leaves.values()):
        raise ValueError(
            "params has no leaf that is used with data: wanted f(params, *args), parameters first "
            "and data after; parameters that f closes over are constants to it"
        )
    closed_over = tuple(jax.typeof(constant) for constant in constants)
    return Traced(layers, closed_over, plan, numbers, outputs), [*constants, *arrays]


def _check_network(f: Any) -> None:
    """Refuse what is no function, and a Linen module, whose function is its ``apply``."""
    check_function("f", f, "lambda params, x: …")
    linen = sys.modules.get("flax.linen")  # who has a module of it has imported it
    if linen is not None and isinstance(f, linen.Module):
        raise TypeError(f"f is a {type(f).__name__}, a Linen module: wanted its function, f.apply")


def _called(f: Callable[..., PyTree], params: PyTree, args: tuple, kwargs: dict) -> PyTree:
    """``f(params, *args, **kwargs)``; an error that says what ``f`` takes, if that is not this."""
    given = {f"args[{i}]" if len(args) > 1 else "x": x for i, x in enumerate(args)} | kwargs
    try:
        with noting("f", **{"params": params, **given}):
            return f(params, *args, **kwargs)
    except TypeError as error:
        if (takes := _other_signature(f, params, args, kwargs)) is None:
            raise
        raise TypeError(
            f"f takes {takes}: wanted f(params, x), a function of the parameters and the data; "
            "for a module lambda net, x: net(x)"
        ) from error


def _other_signature(f: Any, params: PyTree, args: tuple, kwargs: dict) -> str | None:
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # it has none
        return None
    try:
        signature.bind(params, *args, **kwargs)
    except TypeError:
        return f"({', '.join(signature.parameters)})"
    return None


def recall(f: Callable[..., PyTree], params: PyTree, args: tuple) -> tuple[Traced, list[Any]]:
    """``capture`` from memory, where ``f`` was traced at the same shapes before.

    A function that closes over arrays is traced anew each time, since those may have changed; the
    trace of before is returned for it if it is the same but for their values. Not for use inside
    of another trace, of which the memory would keep values.
    """
    leaves, structure = jax.tree.flatten((params, args, {}))
    types = tuple(compat.type_of(leaf) if is_array(leaf) else leaf for leaf in leaves)
    found = _memory(f, read_outside(f), structure, types, compat.settings())
    if found and not found[0].has_constants:
        return found[0], [leaf for leaf in leaves if is_array(leaf)]
    traced, values = capture(f, params, args)
    if not (found and found[0].same_as(traced)):
        found[:] = [traced]
    return found[0], values


@remembered
def _memory(*key: Any) -> list[Traced]:
    """A place for the trace of this function at these shapes, empty at first."""
    del key
    return []


def _names(paths: list[Any]) -> list[str]:
    """Key paths as text; an NNX state names its arrays' variables, not their ``value``."""
    if all(path and path[-1] == jax.tree_util.GetAttrKey("value") for path in paths):
        paths = [path[:-1] for path in paths]
    return key_names(paths)


def _typed(value: Any) -> Any:
    """NumPy's arrays as JAX's, of the types that the trace gave them."""
    return (
        jnp.asarray(value, jax.dtypes.canonicalize_dtype(value.dtype))
        if isinstance(value, (np.ndarray, np.generic))
        else value
    )


def is_array(leaf: Any) -> bool:
    """Whether a leaf of an argument is an array, not a constant of the trace."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct))
