"""A user's loss and its arguments as a pure function of pytrees; NNX modules are taken apart."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Call(NamedTuple):
    """A loss with the arguments of one call.

    Attributes:
        loss: ``(params, batch, *rest) -> (loss, (aux, changed))``, pure.
        params: What is differentiated.
        rest: Further arguments, pytrees.
        update: Gives the user's modules what the loss ``changed`` in them.
        gradients: Those of ``params``, in the containers that hold the user's modules.
    """

    loss: Callable[..., tuple[Any, tuple[Any, Any]]]
    params: Any
    rest: tuple[Any, ...]
    update: Callable[[Any], None]
    gradients: Callable[[Any], Any]


def as_function(loss: Callable[..., tuple[Any, Any]], params: Any, rest: tuple[Any, ...]) -> Call:
    """A call of ``loss(params, batch, *rest)``, which returns ``(loss, aux)``.

    Of NNX modules the variables of type ``nnx.Param`` are the parameters. What the loss changes
    in the modules and in ``rest``, such as batch statistics and the counts of ``nnx.Rngs``, is
    written back by ``update``.
    """
    nnx: Any = sys.modules.get("flax.nnx")  # or there is no module of it

    def is_module(value: Any) -> bool:
        return nnx is not None and isinstance(value, nnx.Module)

    leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_module)
    if not any(is_module(leaf) for _, leaf in leaves):

        def unchanged(*args: Any) -> tuple[Any, tuple[Any, Any]]:
            value, aux = loss(*args)
            return value, (aux, None)

        return Call(unchanged, params, rest, lambda changed: None, lambda gradients: gradients)
    outside = {_keys(path) for path, leaf in leaves if not is_module(leaf)}
    trained = nnx.Any(nnx.Param, lambda path, _: tuple(path) in outside)
    graph, of_model, others = nnx.split(params, trained, ...)
    around, of_rest = nnx.split(rest)

    def pure(of_model: Any, batch: Any, others: Any, of_rest: Any) -> tuple[Any, tuple[Any, Any]]:
        model = nnx.merge(graph, of_model, others, copy=True)
        others_now = nnx.merge(around, of_rest, copy=True)
        value, aux = loss(model, batch, *others_now)
        changed = nnx.split(model, trained, ...)[2], nnx.state(others_now)
        return value, (aux, changed)

    def update(changed: Any) -> None:
        nnx.update(params, changed[0])
        nnx.update(rest, changed[1])

    def gradients(found: Any) -> Any:
        def of(path: Any, _: Any) -> Any:
            none = nnx.State({})
            return functools.reduce(lambda state, key: state.get(key, none), _keys(path), found)

        return jax.tree_util.tree_map_with_path(of, params, is_leaf=is_module)

    return Call(pure, of_model, (others, of_rest), update, gradients)


def _keys(path: Any) -> tuple[Any, ...]:
    """The indices, keys and names on the way to a leaf, as NNX has them."""
    return tuple(next(v for k in KINDS if (v := getattr(key, k, None)) is not None) for key in path)


KINDS = "idx", "key", "name"
