"""How the change of each layer's outputs in training depends on the width of the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gramlin_jax._measure.tables import cell, text_table
from gramlin_jax._moments.gradients import scalar_loss
from gramlin_jax.support.array_fields import ArrayFields
from gramlin_jax.support.checks import check_count
from gramlin_jax.support.precision import in_full_precision
from gramlin_jax.taps import tap

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree

TOLERANCE = 0.25  # of an exponent: half of √width, the least that theory has beside 0


@dataclasses.dataclass(frozen=True, eq=False)
class CoordinateCheck(ArrayFields):
    """Result of ``coordinate_check``; ``print`` shows the verdicts.

    Attributes:
        widths: Of the networks.
        changes: By layer, the change of an output coordinate (widths, seeds), root mean square.
        exponents: By layer, the exponent α of change ∝ width^α, and the ends of its interval.
    """

    widths: tuple[int, ...]
    changes: dict[str, Float[np.ndarray, "widths seeds"]]
    exponents: dict[str, tuple[float, float, float]]

    @property
    def verdicts(self) -> dict[str, str]:
        """By layer: ``"stable"``, ``"grows"``, ``"shrinks"`` or ``"undecided"``."""
        return {layer: _verdict(*ends) for layer, ends in self.exponents.items()}

    def __repr__(self) -> str:
        rows = [
            [
                layer,
                *map(cell, self.changes[layer].mean(1)),
                _interval(*self.exponents[layer]),
                text,
            ]
            for layer, text in self.verdicts.items()
        ]
        return text_table(["layer", *map(str, self.widths), "exponent", "verdict"], rows)


@in_full_precision  # of small differences
def coordinate_check(
    constructor: Callable[[int, Array], tuple[Callable[..., Any], PyTree, Any]],
    widths: Sequence[int],
    batch: tuple[Array, Array],
    loss: Callable[[Any, Any], Array],
    *,
    steps: int = 3,
    seeds: int = 5,
) -> CoordinateCheck:
    """Whether each layer's outputs change as much in wide networks as in narrow ones.

    Networks of each width train on one batch. The root mean square of z_t − z₀ over all
    coordinates of a layer's outputs z = XK is fitted by width^α. Under the maximal update
    parametrisation α = 0 at every layer. The interval of α is that of least squares over widths
    and seeds, at 95 %; a layer is stable if it lies within ±0.25, and grows or shrinks if it lies
    beyond.

    Args:
        constructor: ``(width, key) -> (f, params, optimizer)``, with ``f(params, x) -> output``
            and an Optax optimiser, whose learning rates may depend on the width. It is traced.
        widths: Two or more.
        batch: x and y.
        loss: ``(output, y) -> L``.
        steps: Of training.
        seeds: Networks of each width.

    Raises:
        ValueError: If there are fewer than two widths, a width, ``steps`` or ``seeds`` < 1,
            widths × seeds < 3, ``batch`` is no pair, ``constructor`` gives no triple, the loss is
            not a scalar, or the layers have other names at another width.

    Source: Yang et al., Tensor Programs V (arXiv 2203.03466), appendix D.1.

    Example:
        >>> def constructor(width, key):
        ...     params = {"w": jax.random.normal(key, (4, width)), "out": jnp.zeros((width, 1))}
        ...     f = lambda params, x: jnp.tanh(x @ params["w"]) @ (params["out"] / width)
        ...     return f, params, optax.sgd(0.1 * width)
        >>> batch = jax.random.normal(jax.random.key(0), (8, 4)), jnp.ones((8, 1))
        >>> check = coordinate_check(constructor, (16, 64, 256), batch,
        ...     lambda out, y: ((out - y) ** 2).mean())
        >>> check.verdicts["out"]
        'stable'
    """
    widths = tuple(widths) if np.iterable(widths) else (widths,)
    _check(widths, steps, seeds)
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        size = f" of {len(batch)}" if np.iterable(batch) else ""
        raise ValueError(f"batch is a {type(batch).__name__}{size}: wanted a pair (x, y)")
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    found = [_changes(constructor, width, batch, loss, steps)(keys) for width in widths]
    if len({tuple(each) for each in found}) > 1:
        names = [", ".join(each) for each in found]
        raise ValueError(f"constructor gives the layers {names}: wanted the same at each width")
    changes = {layer: np.stack([np.float64(each[layer]) for each in found]) for layer in found[0]}
    logs = np.repeat(np.log(widths), seeds)
    exponents = {layer: _slope(logs, values) for layer, values in changes.items()}
    return CoordinateCheck(widths, changes, exponents)


def _check(widths: Sequence[int], steps: int, seeds: int) -> None:
    check_count("steps", steps)
    check_count("seeds", seeds)
    for width in widths:
        check_count("widths", width)
    if len(set(widths)) < 2 or len(widths) * seeds < 3:
        raise ValueError(
            f"widths is {widths}, with {seeds} seeds: wanted two widths, three runs in all"
        )


def _changes(
    constructor: Callable[..., Any], width: int, batch: Any, loss: Callable[..., Any], steps: int
) -> Callable[[Array], dict[str, Array]]:
    x, y = batch

    def run(key: Array) -> dict[str, Array]:
        made = constructor(width, key)
        if not isinstance(made, tuple | list) or len(made) != 3:
            kind = type(made).__name__
            raise ValueError(f"constructor gives a {kind}: wanted (f, params, optimizer)")
        f, first, optimizer = made

        def step(carry: Any, _: None) -> tuple[Any, None]:
            params, state = carry
            gradient = jax.grad(lambda p: scalar_loss(loss(f(p, x), y)))(params)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        (last, _), _ = jax.lax.scan(step, (first, optimizer.init(first)), length=steps)
        before, after = (tap(f)(params, x)[1] for params in (first, last))
        outputs = [{name: each.outputs for name, each in taps.items()} for taps in (before, after)]
        linear = [name for name, value in outputs[0].items() if value is not None]
        return {name: _rms(outputs[1][name], outputs[0][name]) for name in linear}

    return jax.jit(jax.vmap(run))


def _rms(after: Any, before: Any) -> Array:
    return jnp.sqrt(((after - before).astype(jnp.float32) ** 2).mean())


def _slope(logs: np.ndarray, changes: np.ndarray) -> tuple[float, float, float]:
    if not (np.isfinite(changes) & (changes > 0)).all():  # it diverged, or did not move
        return np.nan, np.nan, np.nan
    from scipy import stats  # takes long to import

    fit = stats.linregress(logs, np.log(changes).ravel())
    away = float(stats.t.ppf(0.975, changes.size - 2) * fit.stderr)
    return float(fit.slope), float(fit.slope) - away, float(fit.slope) + away


def _verdict(_: float, low: float, high: float) -> str:
    if low > TOLERANCE:
        return "grows"
    if high < -TOLERANCE:
        return "shrinks"
    return "stable" if -TOLERANCE < low and high < TOLERANCE else "undecided"


def _interval(slope: float, low: float, high: float) -> str:
    return f"{slope:.2f} [{low:.2f}, {high:.2f}]"
