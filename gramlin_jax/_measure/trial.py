"""What the first batch shows of the user's functions: is the loss a mean, what is constant?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from gramlin_jax._measure.batch import Losses, score
from gramlin_jax._measure.stream import Batch
from gramlin_jax.support.memory import remembered
from gramlin_jax.taps import Traced

if TYPE_CHECKING:
    from jaxtyping import Array


@remembered
def try_loss(
    traced: Traced, twice: Traced | None, losses: Losses
) -> Callable[[list[Any], Batch], tuple[Array, Array, Array, dict[str, Any]]]:
    """A batch's loss, what it is by its halves and by the batch twice, and counts of its labels.

    Each half stands twice in a batch of the same size, so that it needs no trace of its own. A sum
    over samples differs in the batch twice, a loss that mixes samples in the halves.
    """

    def value(program: Traced, held: list[Any], batch: Batch) -> tuple[Array, Array, Any]:
        output, _ = program([*held, *jax.tree.leaves(batch.x)])
        scored = score(losses, output, batch)
        return (losses.of(output, batch), *jax.tree.map(_narrow, (scored.weight, scored.numbers)))

    def compare(held: list[Any], batch: Batch) -> tuple[Array, Array, Array, dict[str, Any]]:
        n = len(batch.labels)
        half, odd = jnp.arange(n // 2), jnp.arange(n - n % 2, n)
        rows = [jnp.arange(n), *(jnp.concatenate([h, h, odd]) for h in (half, half + n // 2))]
        parts = jax.tree.map(lambda a: a[jnp.stack(rows)], batch)
        each, weights, numbers = jax.lax.map(lambda part: value(traced, held, part), parts)
        halves = (each * weights)[1:].sum() / weights[1:].sum()
        whole, numbers = each[0], {name: counts[0] for name, counts in numbers.items()}
        if twice is None:
            return whole, halves, whole, numbers
        double = jax.tree.map(lambda a: jnp.concatenate([a, a]), batch)
        return whole, halves, value(twice, held, double)[0], numbers

    return jax.jit(compare)


def _narrow(value: Any) -> Array:
    return jnp.asarray(value, jnp.float32)


def not_a_mean(whole: float, halves: float, double: float) -> str:
    """A note on a loss that is not the mean over samples; empty if it is, or is not finite."""
    slack = 1e-3 * abs(whole) + 1e-6
    if not (abs(halves - whole) > slack or abs(double - whole) > slack):
        return ""
    return (
        f"is not a mean over samples: {whole:.4g} on the first batch, {halves:.4g} by its halves, "
        f"{double:.4g} on it twice; numbers below depend on the batch size (a sum, samples that "
        "see each other, batch statistics in training mode, or a random f)"
    )


def constants(traced: Traced) -> str:
    """A note on the arrays that ``f`` closes over; empty if there are none."""
    shapes = [f"({', '.join(map(str, a.shape))})" for a in traced.closed_over]
    if not shapes:
        return ""
    listed = ", ".join(shapes[:4]) + (", …" if len(shapes) > 4 else "")
    return (
        f"closes over {len(shapes)} arrays, of shapes {listed}: constants to it; pass as "
        "parameters what is trained or measured"
    )
