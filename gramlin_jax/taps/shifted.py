"""Layers written as sums of products, each with its slice of a parameter: in turn, or in a loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gramlin_jax.taps import compat
from gramlin_jax.taps.compat import Jaxpr, JaxprEqn


class Part(NamedTuple):
    """A value as slices and shifts of another variable, in order; none, if it is all of that."""

    of: Any
    moves: tuple[Any, ...]


Products = tuple[tuple[Part, Part], ...]

# Equations after which an entry is where it was, and those after which it is elsewhere, or gone.
STAYS = (compat.MOVES - {"slice", "rev"}) | {"convert_element_type", "reduce_precision", "copy"}
SHIFTS = frozenset({"slice", "rev", "pad", "split"})
# A sum of fewer may be a mixture of two values, each with a scale of its own.
FEWEST = 3


def shifted_sums(jaxpr: Jaxpr) -> dict[int, tuple[Any, Any]]:
    """The two variables of which a sum holds products of parts, by the sum's equation.

    No part occurs twice, so that this is a convolution if one is data and the other a parameter.
    """
    made = {variable: eqn for eqn in jaxpr.eqns for variable in eqn.outvars}
    products: dict[Any, Products] = {}
    found = {}
    for index, eqn in enumerate(jaxpr.eqns):
        name = eqn.primitive.name
        held = [products.get(atom, ()) for atom in eqn.invars if not compat.is_literal(atom)]
        if name == "mul" and len(held) == 2:
            first, second = (_part(atom, made) for atom in eqn.invars)
            if first.moves or second.moves:  # else a gate: residual streams are sums of many
                products[eqn.outvars[0]] = ((first, second),)
        elif name in {"add", "sub", "add_any", "neg", "convert_element_type"}:
            products[eqn.outvars[0]] = summed = sum(held, ())
            if (pair := _pair(summed)) is not None:
                found[index] = pair
    return found


def sums_over_steps(jaxpr: Jaxpr, carries: Sequence[Any]) -> dict[int, tuple[Any, Any]]:
    """The two factors of what each step of a loop adds to a carry, by the equation that adds.

    They do not depend on this carry: what layers add to a residual stream is no such sum.

    Args:
        jaxpr: Of a step; its first results are the carries after it.
        carries: Its variables for those before it.
    """
    found = {}
    for carry, after in zip(carries, jaxpr.outvars, strict=False):
        depend: set[Any] = {carry}
        products: dict[Any, tuple[Any, Any]] = {}
        for index, eqn in enumerate(jaxpr.eqns):
            name = eqn.primitive.name
            read = [atom for atom in eqn.invars if not compat.is_literal(atom)]
            held = [products[atom] for atom in read if atom in products]
            if name in {"add", "add_any"} and carry in read and held and eqn.outvars[0] is after:
                found[index] = held[0]
            elif depend.intersection(read):
                depend.update(eqn.outvars)
            elif name == "mul" and len(read) == 2:
                products[eqn.outvars[0]] = (read[0], read[1])
            elif held and name in STAYS | {"neg"}:
                products[eqn.outvars[0]] = held[0]
    return found


def _part(atom: Any, made: dict[Any, JaxprEqn]) -> Part:
    moves: list[Any] = []
    while (eqn := made.get(atom)) is not None:
        if not eqn.invars or compat.is_literal(eqn.invars[0]):  # positions, or a constant
            break
        if _shifts(eqn):
            moves.append((str(eqn.params), eqn.outvars.index(atom)))
        elif eqn.primitive.name not in STAYS:
            break
        atom = eqn.invars[0]
    return Part(atom, tuple(moves))


def _shifts(eqn: JaxprEqn) -> bool:
    """Whether an equation slices or shifts its first operand, if only as ``jnp.roll`` does."""
    inner = compat.called(eqn)
    if inner is None:
        return eqn.primitive.name in SHIFTS
    names = {each.primitive.name for each in inner.jaxpr.eqns}
    return names <= STAYS | SHIFTS | {"concatenate"}


def _pair(products: Products) -> tuple[Any, Any] | None:
    """The two variables of enough products, in which each part of both is another one."""
    pairs: dict[tuple[Any, Any], list[tuple[Part, Part]]] = {}
    for product in products:
        pairs.setdefault((product[0].of, product[1].of), []).append(product)
    for pair, of in pairs.items():
        if min(len(set(parts)) for parts in zip(*of, strict=True)) >= FEWEST:
            return pair
    return None
