"""A user's loss and its arguments as a pure function of pytrees; NNX modules are taken apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple


class Call(NamedTuple):
    """A loss with the arguments of one call.

    Attributes:
        loss: ``(params, batch, *rest) -> (loss, (aux, changed))``, pure.
        params: What is differentiated.
        rest: Further arguments, pytrees.
        update: Gives the user's modules what the loss ``changed`` in them.
    """

    loss: Callable[..., tuple[Any, tuple[Any, Any]]]
    params: Any
    rest: tuple[Any, ...]
    update: Callable[[Any], None]


def as_function(loss: Callable[..., tuple[Any, Any]], params: Any, rest: tuple[Any, ...]) -> Call:
    """A call of ``loss(params, batch, *rest)``, which returns ``(loss, aux)``.

    Of an NNX module the variables of type ``nnx.Param`` are the parameters. What the loss changes
    in the module and in ``rest``, such as batch statistics and the counts of ``nnx.Rngs``, is
    written back by ``update``.
    """
    nnx: Any = sys.modules.get("flax.nnx")  # or there is no module of it
    if nnx is None or not isinstance(params, nnx.Module):

        def unchanged(*args: Any) -> tuple[Any, tuple[Any, Any]]:
            value, aux = loss(*args)
            return value, (aux, None)

        return Call(unchanged, params, rest, lambda changed: None)
    graph, of_model, others = nnx.split(params, nnx.Param, ...)
    around, of_rest = nnx.split(rest)

    def pure(of_model: Any, batch: Any, others: Any, of_rest: Any) -> tuple[Any, tuple[Any, Any]]:
        model = nnx.merge(graph, of_model, others, copy=True)
        others_now = nnx.merge(around, of_rest, copy=True)
        value, aux = loss(model, batch, *others_now)
        changed = nnx.split(model, nnx.Param, ...)[2], nnx.state(others_now)
        return value, (aux, changed)

    def update(changed: Any) -> None:
        nnx.update(params, changed[0])
        nnx.update(rest, changed[1])

    return Call(pure, of_model, (others, of_rest), update)
