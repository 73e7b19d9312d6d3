"""What the first batch shows of the user's functions: is the loss a mean, what is constant?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from gramlin_jax._measure.batch import Losses, class_logits, label_weights, score
from gramlin_jax._measure.stream import Batch, is_labels
from gramlin_jax._moments.gradients import scalar_loss
from gramlin_jax.support.memory import remembered
from gramlin_jax.taps import Traced

if TYPE_CHECKING:
    from jaxtyping import Array


class Parts(NamedTuple):
    """What the loss is on the first batch, and on others that are made of its samples.

    A mean is the same on ``whole`` and ``halves``, and on ``alone`` and ``among``.

    Attributes:
        whole: On the batch.
        halves: Mean over its halves, each of which stands twice in a batch of the same size: the
            samples that fit well and the others, which show where a loss weighs them.
        alone: On a batch of a single sample, again and again.
        among: On a batch of another size of the same sample.
        numbers: Counts of the batch's labels, see ``score``.
    """

    whole: Any
    halves: Any
    alone: Any
    among: Any
    numbers: dict[str, Any]


@remembered
def try_loss(
    traced: Traced, other: tuple[Traced, int] | None, losses: Losses
) -> Callable[[list[Any], Batch], Parts]:
    """The loss of a batch and of others made of it, at the sizes where ``f`` is traced."""

    def value(program: Traced, held: list[Any], batch: Batch) -> tuple[Any, ...]:
        output, _ = program([*held, *jax.tree.leaves(batch.x)])
        scored = score(losses, output, batch)
        loss = scalar_loss(losses.of(output, batch))
        numbers = jax.tree.map(_narrow, (scored.weight, scored.numbers))
        return (loss, *numbers, _misfit(losses, output, batch))

    def compare(held: list[Any], batch: Batch) -> Parts:
        n = len(batch.labels)
        half, odd = jnp.arange(n // 2), jnp.arange(n - n % 2, n)
        heaviest = jnp.zeros(n, int) + _heaviest(losses, batch)
        halves = [jnp.concatenate([h, h, odd]) for h in (half, half + n // 2)]
        rows, by_fit = jnp.stack([jnp.arange(n), *halves, heaviest]), jnp.array([0, 1, 1, 0]) > 0

        def step(order: Array, part: tuple[Array, Array]) -> tuple[Array, Any]:
            rows, by_fit = part
            taken = jnp.where(by_fit, order[rows], rows)
            *found, misfit = value(traced, held, jax.tree.map(lambda a: a[taken], batch))
            return jnp.where(by_fit, order, misfit.argsort()), found

        each, weights, numbers = jax.lax.scan(step, jnp.arange(n), (rows, by_fit))[1]
        mean = (each * weights)[1:3].sum() / weights[1:3].sum()
        among = each[3]
        if other is not None:
            program, size = other
            same = jax.tree.map(lambda a: a[jnp.zeros(size, int) + heaviest[0]], batch)
            among = value(program, held, same)[0]
        counts = {name: count[0] for name, count in numbers.items()}
        return Parts(each[0], mean, each[3], among, counts)

    return jax.jit(compare)


def _misfit(losses: Losses, output: Any, batch: Batch) -> Array:
    """By sample, how far off the output is, as the usual losses have it, or Σ targets."""
    labels, n = batch.labels, len(batch.labels)
    if is_labels(labels):
        logits = class_logits(losses.outputs, output, labels)
        places = jnp.maximum(labels.astype(jnp.int32), 0)[..., None]
        off = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, places, -1)[..., 0]
        return _narrow(off * (label_weights(losses.ignore_label, batch) > 0)).reshape(n, -1).sum(1)
    made = losses.outputs(output) if losses.outputs else output
    alike = isinstance(made, jax.Array) and made.size == labels.size
    off = _narrow(labels).reshape(n, -1)
    return ((_narrow(made).reshape(n, -1) - off) ** 2 if alike else off).sum(1)


def _heaviest(losses: Losses, batch: Batch) -> Array:
    """A sample that counts: that of the most weight."""
    weights = label_weights(losses.ignore_label, batch)
    over = tuple(range(1, weights.ndim))
    return weights.sum(over).argmax()


def _narrow(value: Any) -> Array:
    return jnp.asarray(value, jnp.float32)


def not_a_mean(parts: Parts) -> str:
    """A note on a loss that is not a mean over samples; empty if it is, or is not finite."""
    tolerance = max(1e-3, 4 * float(jnp.finfo(parts.whole.dtype).eps))
    whole, halves, alone, among = map(float, parts[:4])

    def differ(a: float, b: float) -> bool:  # NaN does not
        return abs(a - b) > tolerance * abs(a) + 1e-6

    if not (differ(whole, halves) or differ(alone, among)):
        return ""
    return (
        f"is not a mean over samples: {whole:.4g} on the first batch, {halves:.4g} by its halves; "
        f"{alone:.4g} and {among:.4g} on one sample in batches of two sizes. Numbers depend on the "
        "batch size (a sum, weights of classes, samples that see each other, a random f, or "
        "dropout and batch statistics in training mode: evaluate, as by net.eval())"
    )


@remembered
def try_twice(traced: Traced, twice: Traced) -> Callable[[list[Any], Any], tuple[Array, Array]]:
    """The loss, first of what is traced, of a batch and of one that holds each sample twice."""

    def both(held: list[Any], x: Any) -> tuple[Array, Array]:
        again = jax.tree.map(lambda a: jnp.concatenate([a, a]), x)
        once, other = traced([*held, *jax.tree.leaves(x)]), twice([*held, *jax.tree.leaves(again)])
        return once[0][0], other[0][0]

    return jax.jit(both)


def a_sum(once: float, twice: float) -> str:
    """A note on a loss that doubles with the samples; dropout may change a mean, but not so."""
    if not 1.8 * abs(once) < abs(twice) < 2.2 * abs(once):
        return ""
    return (
        f"is a sum over samples: {once:.4g} on the first batch, {twice:.4g} on one that holds each "
        "of its samples twice. Numbers of gradients depend on the batch size: take the mean"
    )


@remembered
def try_weights(
    traced: Traced, ignored: int | None
) -> Callable[[list[Any], Batch], tuple[Array, ...]]:
    """The loss of a batch of two samples in turns, and of each alone; then their weights.

    The two are those of the most and of the least weight.
    """

    def compare(held: list[Any], batch: Batch) -> tuple[Array, ...]:
        n = len(batch.labels)
        weights = label_weights(ignored, batch).reshape(n, -1).sum(1)
        most, least = weights.argmax(), weights.argmin()
        half = jnp.arange(n) < n // 2

        def loss(index: Array) -> Array:
            x = jax.tree.map(lambda a: a[index], batch.x)
            return _narrow(traced([*held, *jax.tree.leaves(x)])[0][0])

        alone = [loss(jnp.full(n, at)) for at in (most, least)]
        return loss(jnp.where(half, most, least)), *alone, weights[most], weights[least]

    return jax.jit(compare)


def not_weighted(n: int, both: float, one: float, other: float, w: float, v: float) -> str:
    """A note on a loss Σwℓ/n in the place of Σwℓ/Σw, from what ``try_weights`` returns."""
    many, few, other = n // 2 * w, (n - n // 2) * v, other if v else 0.0
    if not many or w == v:
        return ""
    weighted = (many * one + few * other) / (many + few)
    plain = (n // 2 * one + (n - n // 2) * other) / n
    apart = abs(weighted - plain)
    if not (abs(both - plain) < 0.1 * apart and apart > 0.05 * abs(plain)):  # NaN says nothing
        return ""
    return (
        f"is not the weighted mean Σwℓ/Σw: {both:.4g} on two samples in turns, where that is "
        f"{weighted:.4g}. Numbers over batches of other weights are off: divide by Σw, not by n"
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
