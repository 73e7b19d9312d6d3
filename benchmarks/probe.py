"""What a probe adds to a training step: every tenth step watched, none watched, all watched.

The step decides by ``cond`` whether it watches, or is compiled twice: ``watch`` is then static.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common import CLASSES, print_table
from gramlin_jax import Probe
from gramlin_jax.models import CNN, DNN

if TYPE_CHECKING:
    from jaxtyping import Array

STEPS = 10  # of a turn, the first of which is watched in "every 10th"
VOCABULARY = 256


def run(
    dnns: Sequence[tuple[int, int]],
    convolutions: tuple[int, int],
    gpt: tuple[int, int, int],
    rounds: int,
) -> None:
    """Print the time of a step of SGD with momentum, and that with a probe relative to it.

    Args:
        dnns: Width and samples of each network of four hidden layers on 784 inputs.
        convolutions: Channels and samples of the convolutional network on 28×28 images.
        gpt: Width, tokens and samples of the transformer of two blocks.
        rounds: In which the forms take turns.
    """
    rows = []
    for name, f, example in _networks(dnns, convolutions, gpt):
        turns, megabytes = _turns(f, example)
        for turn in turns.values():
            turn()  # compiles
        times: dict[str, list[tuple[float, float]]] = {form: [] for form in turns}
        for _ in range(rounds):
            for form, turn in turns.items():
                times[form].append(_clocked(turn))
        wall, processor = (
            {form: np.array([pair[i] for pair in pairs]) for form, pairs in times.items()}
            for i in (0, 1)
        )
        cells, forms = [f"{1e3 * np.median(wall['plain']) / STEPS:.2f}"], list(turns)[1:]
        for form in forms:
            ratios = (clock[form] / clock["plain"] for clock in (wall, processor))
            cells += [f"{np.median(ratio):.2f}" for ratio in ratios]
        rows.append([name, *cells, f"{megabytes:.1f}"])
    print_table(
        f"A training step with a probe, relative to one without, medians of {rounds} rounds of 10 "
        "steps; 'cpu' is the processor's time (targets: 1.10 every 10th, 1.01 unwatched)",
        ["network", "plain ms", *(name for form in forms for name in (form, "cpu")), "state MB"],
        rows,
    )


class Example(NamedTuple):
    """A batch, and parameters."""

    params: Any
    x: Array
    y: Array


def _networks(
    dnns: Sequence[tuple[int, int]], convolutions: tuple[int, int], gpt: tuple[int, int, int]
) -> list[tuple[str, Callable[[Any, Any], Array], Example]]:
    key, rng = jax.random.key(0), np.random.default_rng(0)
    found = []
    for width, n in dnns:
        model, x = DNN(width, 4, CLASSES), rng.standard_normal((n, 784), np.float32)
        example = Example(model.init(key, x[:1]), x, rng.integers(0, CLASSES, n))
        found.append((f"DNN 4×{width}, batch {n}", lambda p, x, m=model: m.apply(p, x)[0], example))
    channels, n = convolutions
    cnn, x = CNN(channels, 3, CLASSES), rng.standard_normal((n, 28, 28, 1), np.float32)
    example = Example(cnn.init(key, x[:1]), x, rng.integers(0, CLASSES, n))
    found.append((f"CNN 3×{channels}, batch {n}", lambda p, x: cnn.apply(p, x)[0], example))
    width, tokens, n = gpt
    model, ids = GPT(width), rng.integers(0, VOCABULARY, (n, tokens + 1))
    example = Example(model.init(key, ids[:1, :-1]), ids[:, :-1], ids[:, 1:])
    found.append((f"GPT 2×{width}, {n} × {tokens} tokens", model.apply, example))
    return found


class GPT(nn.Module):
    """Two blocks of causal attention and a perceptron, each after a layer norm."""

    width: int

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        """Logits (n, tokens, vocabulary) of the next tokens."""
        h = nn.Embed(VOCABULARY, self.width)(ids)
        shape = ids.shape[1], self.width
        h = h + self.param("positions", nn.initializers.normal(0.02), shape)[None]
        mask = nn.make_causal_mask(ids)
        for _ in range(2):
            h = h + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(h), mask=mask)
            h = h + nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(h))))
        return nn.Dense(VOCABULARY)(nn.LayerNorm()(h))


def _turns(
    f: Callable[[Any, Any], Array], example: Example
) -> tuple[dict[str, Callable[[], None]], float]:
    """By form, ten steps that go on from the ten before; and the megabytes of the probe's state."""
    optimizer = optax.sgd(1e-3, momentum=0.8)

    def loss_fn(params: Any, batch: tuple[Array, Array]) -> tuple[Array, Array]:
        logits = f(params, batch[0])
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch[1])
        return losses.mean(), logits

    probe = Probe(loss_fn, lambda batch: batch[1], has_aux=True)
    batch = jax.tree.map(jnp.asarray, (example.x, example.y))

    def plain(params: Any, opt_state: Any, batch: Any) -> Any:
        (loss, _), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params, batch)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    def watched(params: Any, opt_state: Any, state: Any, batch: Any, watch: Any) -> Any:
        (loss, _), gradient, state = probe.value_and_grad(params, batch, state, watch=watch)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state), loss

    steps = {
        "plain": jax.jit(plain, donate_argnums=(0, 1)),
        "cond": jax.jit(watched, donate_argnums=(0, 1, 2)),
        "static": jax.jit(watched, donate_argnums=(0, 1, 2), static_argnums=4),
    }
    zero = probe.init(example.params, batch)

    def turn(step: str, which: Sequence[bool] = ()) -> Callable[[], None]:
        params = jax.tree.map(lambda a: jnp.array(a, copy=True), example.params)
        carry = [params, optimizer.init(params)]
        if which:
            carry += [jax.tree.map(lambda a: a.copy(), zero)]

        def ten() -> None:
            for i in range(STEPS):
                carry[:], loss = steps[step](*carry, batch, *which[i : i + 1])
            jax.block_until_ready((carry, loss))

        return ten

    tenth, never = [True] + [False] * 9, [False] * 10
    forms = {
        "plain": turn("plain"),
        "10th": turn("cond", tenth),
        "unwatched": turn("cond", never),
        "10th, static": turn("static", tenth),
        "unwatched, static": turn("static", never),
        "all": turn("cond", [True] * 10),
    }
    return forms, sum(leaf.nbytes for leaf in jax.tree.leaves(zero)) / 1e6


def _clocked(turn: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the wall, and of the processor."""
    start = time.perf_counter(), time.process_time()
    turn()
    return time.perf_counter() - start[0], time.process_time() - start[1]
