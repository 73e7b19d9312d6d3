"""Attention: which softmaxes are over keys, which layer makes their queries, how they spread.

A *softmax* divides an exponential by its own sum over one axis. It is attention if

* that axis, the *keys*, is not one of a layer's outputs, as classes and experts are;
* its logits are of *queries*: the outputs of a layer, with one softmax to each row and head (of
  the first layer, where several are added or joined, as adapters are);
* its weights are contracted over the keys with what the network computed, the *values*.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from gramlin_jax.support.precision import widened
from gramlin_jax.taps import compat
from gramlin_jax.taps.axes import NONE, Along, along
from gramlin_jax.taps.compat import Jaxpr, JaxprEqn

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from gramlin_jax.taps.plan import Found, Provenance

Axes = tuple[int, ...]


class Spread(NamedTuple):
    """How the attention of each query spreads over the keys.

    Attributes:
        entropy: −Σ p ln p of the weights p of each query, row by row and head by head.
        keys: How many keys a query sees: those that no mask hides from it.
    """

    entropy: Float[Array, "*stack_and_rows heads"]
    keys: Float[Array, "*stack_and_rows heads"]


class Softmax(NamedTuple):
    """A softmax in a jaxpr: the variable that holds its logits, and the axis of its sum."""

    logits: Any
    keys: int


class Outputs(NamedTuple):
    """Where the outputs of a layer lie in a value that is computed from them.

    Attributes:
        number: Of the site.
        loops: Of its kernel.
        shape: Of the site's rows.
        rows, columns: Axes of the value along the rows and the outputs of the site, in its order.
    """

    number: int
    loops: frozenset[int]
    shape: Axes
    rows: Axes
    columns: Axes


class Weights(NamedTuple):
    """Where the keys of a softmax, with this number, lie in what is computed from its weights."""

    number: int
    keys: Axes


class OverKeys(NamedTuple):
    """A softmax over keys.

    Attributes:
        softmax: Its place.
        queries: The layer that makes them.
        heads: How many softmaxes there are for each of its rows.
    """

    softmax: Softmax
    queries: Outputs
    heads: int


# What leaves a value what it is, and what a sum is guarded with before something is divided by it.
SAME_VALUES = {"convert_element_type", "stop_gradient", "copy", "reduce_precision", compat.NAME}
GUARDS = {"max", "add"}


def softmaxes(jaxpr: Jaxpr) -> dict[int, Softmax]:
    """The softmaxes of a jaxpr, by the index of the equation that divides."""
    made = {variable: eqn for eqn in jaxpr.eqns for variable in eqn.outvars}
    divisions = [(i, eqn) for i, eqn in enumerate(jaxpr.eqns) if eqn.primitive.name == "div"]
    found = ((index, _softmax(eqn, made)) for index, eqn in divisions)
    return {index: softmax for index, softmax in found if softmax is not None}


def _softmax(division: JaxprEqn, made: dict[Any, JaxprEqn]) -> Softmax | None:
    above, below = division.invars
    exponential, _ = _maker(above, made, SAME_VALUES)
    total, lies = _maker(below, made, SAME_VALUES | compat.MOVES | GUARDS)
    if exponential is None or total is None or len(total.params.get("axes", ())) != 1:
        return None
    if (exponential.primitive.name, total.primitive.name) != ("exp", "reduce_sum"):
        return None
    shape, (keys,) = exponential.outvars[0].aval.shape, total.params["axes"]
    own = _maker(total.invars[0], made, SAME_VALUES)[0] is exponential
    if not own or len(lies) != len(shape):
        return None
    kept = [axis for axis in range(len(shape)) if axis != keys]
    for axis, of in enumerate(lies):  # each sum divides what was summed
        if shape[axis] > 1 and {kept[i] for i in of} != {axis} - {keys}:
            return None
    (logits,) = exponential.invars
    shifted, _ = _maker(logits, made, SAME_VALUES)
    if shifted is not None and shifted.primitive.name == "sub":  # logits less their largest
        unshifted = shifted.invars[0]
        logits = unshifted if unshifted.aval.shape == shape else logits
    return Softmax(logits, int(keys))


def _maker(
    atom: Any, made: dict[Any, JaxprEqn], through: set[str] | frozenset[str]
) -> tuple[JaxprEqn | None, Along]:
    """What makes a value, before equations of these names; how the value's axes lie along its."""
    lies: Along = tuple(frozenset({axis}) for axis in range(atom.aval.ndim))
    while not compat.is_literal(atom) and (eqn := made.get(atom)) is not None:
        if eqn.primitive.name not in through:
            return eqn, lies
        step = along(eqn, 0)
        if step is None:
            break
        lies = tuple(NONE.union(*(step[axis] for axis in of)) for of in lies)
        atom = eqn.invars[0]
    return None, lies


def outputs_of(site: Found) -> frozenset[Outputs]:
    """Where a site's outputs lie in its result; not told for stacks of kernels."""
    if site.stack or site.matricizer is None:
        return frozenset()
    axes, rows = site.matricizer.outputs.permutation, len(site.rows)
    return frozenset({Outputs(site.number, site.loops, site.rows, axes[:rows], axes[rows:])})


def passed_on(
    eqn: JaxprEqn, sources: Sequence[Provenance]
) -> tuple[frozenset[Outputs], frozenset[Weights]]:
    """Where outputs of layers, and keys of softmaxes, lie in the results of an equation."""
    made: set[Outputs] = set()
    weights: set[Weights] = set()
    for index, source in enumerate(sources):
        lies = along(eqn, index) if eqn.outvars and (source.made or source.weights) else None
        if lies is None:
            continue
        moved = [(o, _moved(o.rows, lies), _moved(o.columns, lies)) for o in source.made]
        made |= {o._replace(rows=rows, columns=columns) for o, rows, columns in moved if rows}
        weights |= {w._replace(keys=at) for w in source.weights if (at := _moved(w.keys, lies))}
    return frozenset(made), frozenset(weights)


def _moved(axes: Axes, lies: Along) -> Axes:
    """The axes of a result along these of an operand, in their order."""
    return tuple(dict.fromkeys(new for old in axes for new, of in enumerate(lies) if old in of))


def mixed(eqn: JaxprEqn, sources: Sequence[Provenance]) -> Iterator[int]:
    """Softmaxes whose weights an equation contracts over the keys with what was computed."""
    if eqn.primitive.name != compat.DOT or not all(source.data for source in sources):
        return
    contracted = eqn.params["dimension_numbers"][0]
    for source, values, over in zip(sources, sources[::-1], contracted, strict=True):
        if values.leaves:
            yield from (w.number for w in source.weights if set(w.keys) <= set(over))


def over_keys(softmax: Softmax, made: frozenset[Outputs]) -> OverKeys | None:
    """The softmax as one over keys, if its logits are of the queries of a layer.

    Args:
        softmax: In a jaxpr.
        made: The layers' outputs in its logits.
    """
    shape, keys = softmax.logits.aval.shape, softmax.keys
    if any(keys in o.columns for o in made) and not any(keys in o.rows for o in made):
        return None  # classes, or experts
    found = []
    for outputs in made:
        axes = [*outputs.rows, *outputs.columns, keys]
        rows, heads = (math.prod(shape[a] for a in of) for of in (outputs.rows, outputs.columns))
        one_each = rows * heads * shape[keys] == math.prod(shape)
        if one_each and rows == math.prod(outputs.shape) and len(set(axes)) == len(axes):
            found.append(OverKeys(softmax, outputs, heads))
    first = min((each.queries.number for each in found), default=None)
    found = [each for each in found if each.queries.number == first]
    return found[0] if len(found) == 1 else None


# Masks put −1e9, −1e30 or the least number of the type into the logits.
HIDDEN = -1e8


def spread(found: OverKeys, weights: Array, logits: Array) -> Spread:
    """Entropy and number of keys of each query, (*rows, heads), in float32 at least."""
    (softmax, queries, heads), info = found, jnp.finfo(logits.dtype)
    p, logits = widened(lax.stop_gradient(weights)), lax.stop_gradient(logits)
    total = p.sum(softmax.keys)  # 1 but for the rounding of the weights
    products = jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0).sum(softmax.keys)
    seen = ~(logits <= max(HIDDEN, float(info.min) / 2))  # NaN is seen, and shown
    order = [*queries.rows, *queries.columns]
    order += [axis for axis in range(p.ndim) if axis not in (*order, softmax.keys)]
    order = [axis - (axis > softmax.keys) for axis in order]

    def by_row(array: Array) -> Array:
        return array.transpose(order).reshape(*queries.shape, heads)

    entropy = jnp.log(total) - products / total
    return Spread(by_row(entropy), by_row(seen.sum(softmax.keys).astype(p.dtype)))
