"""The loss of a training step and its gradients: as JAX has them, and with what flows by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from gramlin_jax._moments.gradients import Backward
from gramlin_jax.taps import Traced
from gramlin_jax.taps.interpreter import Seen
from gramlin_jax.taps.traced import is_array

if TYPE_CHECKING:
    from jaxtyping import Array


def value_and_grad(call: Any, batch: Any) -> Any:
    """``((loss, aux), gradients)``, as JAX has them; None for leaves that are not trained."""
    leaves, structure = jax.tree.flatten(call.params)
    places = _trained(leaves)

    def objective(trained: list[Any]) -> tuple[Array, Any]:
        here = _replaced(leaves, places, trained)
        loss, aux = call.loss(jax.tree.unflatten(structure, here), batch, *call.rest)
        return loss, aux

    grad = jax.value_and_grad(objective, has_aux=True)
    value, gradients = grad([leaves[i] for i in places])
    return value, _gradients(call.params, gradients)


def value_and_grad_with_taps(
    call: Any, traced: Traced, values: list[Any], names: list[str], attention: bool
) -> tuple[Any, Backward]:
    """The same from the trace, and what flows through its layers.

    Args:
        call: The loss and its arguments.
        traced: The loss at these arguments.
        values: To run it with.
        names: Sites whose gradients are wanted.
        attention: Whether taps hold how queries attend.
    """
    places = _places(traced, jax.tree.leaves(call.params))
    zeros = traced.layers.zeros(), traced.layers.kernel_zeros()
    shifts = tuple({name: Seen(of_sites[name]) for name in names} for of_sites in zeros)

    def objective(trained: list[Any], shifts: Any) -> tuple[Array, Any]:
        here, (outputs, kernels) = _replaced(values, places, trained), shifts
        (loss, aux), taps = traced(here, outputs, kernels, attention)
        return loss, (aux, taps)

    grad = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
    (loss, (aux, taps)), (gradients, deltas) = grad([values[i] for i in places], shifts)
    result = (loss, aux), _gradients(call.params, gradients)
    seen = ({name: delta.zeros for name, delta in of_sites.items()} for of_sites in deltas)
    return result, Backward(loss, (loss, aux), taps, *seen)


def gradients_and_through_kernels(
    call: Any, traced: Traced, values: list[Any]
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """By leaf: its gradient, and what of it flows through kernels; by site: its ∇_K L.

    The second is the kernels' gradients, pulled back from kernels to what they are computed from.
    """
    leaves = jax.tree.leaves(call.params)
    trained, places = _trained(leaves), _places(traced, leaves)
    names = [name for name, site in traced.layers.sites.items() if site.has_kernel]

    def kernels(trained: list[Any]) -> dict[str, Any]:
        taps = traced(_replaced(values, places, trained))[1]
        return {name: taps[name].kernel for name in names}

    result, passed = value_and_grad_with_taps(call, traced, values, names, False)
    _, pull = jax.vjp(kernels, [values[i] for i in places])
    through: list[Any] = _replaced([None] * len(leaves), trained, pull(passed.kernel_gradients)[0])
    whole: list[Any] = jax.tree.leaves(result[1], is_leaf=lambda leaf: leaf is None)
    paths = list(traced.layers.leaves)  # of arrays; before them are those closed over
    known = [
        (paths[at - len(traced.closed_over)], i) for at, i in zip(places, trained, strict=True)
    ]
    by_leaf = [{name: of_leaves[i] for name, i in known} for of_leaves in (whole, through)]
    return by_leaf[0], by_leaf[1], passed.kernel_gradients


def _trained(leaves: list[Any]) -> list[int]:
    """Which leaves are arrays of floating point."""
    return [
        i
        for i, leaf in enumerate(leaves)
        if is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]


def _places(traced: Traced, leaves: list[Any]) -> list[int]:
    """Where these leaves are among the values that a trace is run with."""
    arrays = [i for i, leaf in enumerate(leaves) if is_array(leaf)]
    return [len(traced.closed_over) + arrays.index(i) for i in _trained(leaves)]


def _replaced(values: list[Any], places: list[int], new: list[Any]) -> list[Any]:
    values = list(values)
    for place, value in zip(places, new, strict=True):
        values[place] = value
    return values


def _gradients(params: Any, gradients: list[Any]) -> Any:
    leaves, structure = jax.tree.flatten(params)
    places = _trained(leaves)
    return jax.tree.unflatten(structure, _replaced([None] * len(leaves), places, gradients))
