"""Where a loss depends on parameters outside of layers, so that ∇_K L is not the whole gradient."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from gramlin_jax._measure.batch import Losses
from gramlin_jax._measure.stream import Batch
from gramlin_jax.taps import Layers, Traced, compat
from gramlin_jax.taps.plan import CONSTANT, Provenance
from gramlin_jax.taps.provenance import make_plan

if TYPE_CHECKING:
    from jaxtyping import Array


def penalties(traced: Traced, losses: Losses, batch: Batch) -> str:
    """A note on outputs of parameters alone that the loss reads; empty if there are none."""
    if not traced.of_parameters:
        return ""
    jaxpr, constants, _ = compat.trace(
        lambda output, batch: losses.of(output, batch), traced.output, batch
    )
    outputs, others = len(jax.tree.leaves(traced.output)), len(jax.tree.leaves(batch))
    sources = [CONSTANT] * len(constants) + [Provenance(data=True)] * (outputs + others)
    for number in traced.of_parameters:
        sources[len(constants) + number] = Provenance(leaves=frozenset({number}))
    (of,) = make_plan(compat.Inner(jaxpr, []), sources, itertools.count()).outputs
    read = {name: None for number in sorted(of.leaves) for name in traced.of_parameters[number]}
    if not read:
        return ""
    return (
        f"depends on {', '.join(read)} outside of the layers, too, by what f returns of parameters "
        "alone: gradients are those through the layers"
    )


def stopped(layers: Layers, names: Sequence[str]) -> dict[str, str]:
    """Notes on those of these layers whose kernels no parameter learns from."""
    return {
        name: f"the gradient of {', '.join(layers.sites[name].leaves)} is 0: it is stopped; "
        "‖∇L‖, and what is made of it, is that of the kernel as it stands"
        for name in names
        if layers.sites[name].stopped
    }


def beside_kernels(
    layers: Layers,
    whole: Mapping[str, Array],
    through: Mapping[str, Array],
    kernels: Mapping[str, Array],
) -> dict[str, str]:
    """Notes on layers whose ∇_K L is not the gradient of the parameters that they are made of.

    Args:
        layers: Of the loss.
        whole: By leaf, its gradient.
        through: By leaf, what of it flows through kernels.
        kernels: By site, ∇_K L.
    """
    notes = {}
    for name, gradient in kernels.items():
        leaves = [leaf for leaf in layers.sites[name].leaves if leaf in whole]
        if any(layers.leaves[leaf].unsupported for leaf in leaves):  # of which coverage speaks
            continue
        all_of, part = ([of[leaf] for leaf in leaves] for of in (whole, through))
        here, there, made_of = _norm(gradient), _norm(*all_of), ", ".join(leaves)
        if leaves and here > 0 and there == 0:
            notes[name] = f"‖∇L‖ is {here:.4g}, but the gradient of {made_of} is 0: it is stopped"
        elif _norm(*map(operator.sub, all_of, part)) > 1e-3 * there:
            notes[name] = (
                f"‖∇L‖ is of what flows through the layer: {here:.4g}; the loss depends on "
                f"{made_of} elsewhere, too, whose gradient has the norm {there:.4g}"
            )
    return notes


def _norm(*arrays: Any) -> float:
    return math.hypot(*(np.linalg.norm(np.asarray(a, np.float64)) for a in arrays))
