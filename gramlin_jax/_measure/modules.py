"""A user's loss and its arguments as a pure function of pytrees; NNX modules are taken apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple


class Call(NamedTuple):
    """A loss with the arguments of one call.

    Attributes:
        loss: ``(params, batch, *rest) -> (loss, aux)``, pure.
        params: What is differentiated.
        rest: Further arguments, pytrees.
        done: ``aux -> aux`` of the user's loss; it gives modules the state that they have after
            the call.
    """

    loss: Callable[..., tuple[Any, Any]]
    params: Any
    rest: tuple[Any, ...]
    done: Callable[[Any], Any]


def as_function(loss: Callable[..., tuple[Any, Any]], params: Any, rest: tuple[Any, ...]) -> Call:
    """A call of ``loss(params, batch, *rest)``.

    Of an NNX module the variables of type ``nnx.Param`` are the parameters. What the loss changes
    in the module and in ``rest``, such as batch statistics and the counts of ``nnx.Rngs``, is
    returned with aux, and written back by ``done``.
    """
    nnx: Any = sys.modules.get("flax.nnx")  # or there is no module of it
    if nnx is None or not isinstance(params, nnx.Module):
        return Call(loss, params, rest, lambda aux: aux)
    graph, of_model, others = nnx.split(params, nnx.Param, ...)
    around, of_rest = nnx.split(rest)

    def pure(of_model: Any, batch: Any, others: Any, of_rest: Any) -> tuple[Any, Any]:
        model, others_now = nnx.merge(graph, of_model, others), nnx.merge(around, of_rest)
        value, aux = loss(model, batch, *others_now)
        _, _, after = nnx.split(model, nnx.Param, ...)
        return value, (aux, after, nnx.state(others_now))

    def done(aux: Any) -> Any:
        aux, after, of_rest = aux
        nnx.update(params, after)
        nnx.update(rest, of_rest)
        return aux

    return Call(pure, of_model, (others, of_rest), done)
