"""Training with the Gram alone and with all but the Gram, beside the optimiser itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.classification import layer_sums
from gramlin_jax import heldout_target_linearity, noise_floor, target_linearity, weight_gram
from gramlin_jax.optim import gram_only, gram_preserving

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array

ARMS: Mapping[str, Callable[[Any], optax.GradientTransformation]] = {
    "original": lambda inner: inner,
    "gram_only": gram_only,
    "gram_preserving": gram_preserving,
}
"""What each arm makes of the optimiser."""


def scores(model: Any) -> Callable[[Any, Any, Any], dict[str, Array]]:
    """``measure`` of ``fit``: losses and accuracies () on its data, a pair of train and test."""

    def measure(params: Any, hyper: Any, data: Any) -> dict[str, Array]:
        del hyper
        network: Any = _Reading(model, lambda features: [])
        sums = {
            split: layer_sums(network, params, pair)
            for split, pair in zip(("train", "test"), data, strict=True)
        }
        return {
            f"{split}_{name}": sums[split][name] for split in sums for name in ("loss", "accuracy")
        }

    return measure


def layer_measures(model: Any, projection: int) -> Callable[[Any, Any, Any], dict[str, Array]]:
    """What hidden layers know of the labels, and how far the Grams are from where they started.

    Args:
        model: Flax module with outputs ``out``; ``apply`` returns logits and hidden features.
        projection: A layer's features, flattened, are projected to as many by a Gaussian matrix
            where they are more, always by the same one.

    Returns:
        A jitted function of parameters, those at the start, and data, a pair of train and test.
        It returns ``target_linearity``, ``heldout`` and ``noise_floor`` (hidden layers,) and
        ``gram_change`` ‖KKᵀ − K₀K₀ᵀ‖/‖K₀K₀ᵀ‖ (kernels,), K₀ being the kernel at the start.
    """

    @jax.jit
    def measure(params: Any, start: Any, data: Any) -> dict[str, Array]:
        matrices = _projections(model, params, data[0][0][:1], projection)
        network: Any = _Reading(model, lambda features: _project(features, matrices))
        on_train, on_test = (layer_sums(network, params, split)["moments"] for split in data)
        pairs = list(zip(on_train, on_test, strict=True))
        grams = list(zip(_grams(start), _grams(params), strict=True))
        norm = jnp.linalg.norm
        return {
            "target_linearity": jnp.stack([target_linearity(m) for m in on_train]),
            "heldout": jnp.stack([heldout_target_linearity(a, b) for a, b in pairs]),
            "noise_floor": jnp.stack([noise_floor(m) for m in on_train]),
            "gram_change": jnp.stack([norm(b - a) / norm(a) for a, b in grams]),
        }

    return measure


@dataclasses.dataclass(frozen=True)
class _Reading:
    """``model`` with what ``read`` makes of its features."""

    model: Any
    read: Callable[[list[Array]], list[Array]]

    @property
    def out(self) -> int:
        return self.model.out

    def apply(self, params: Any, x: Array) -> tuple[Array, list[Array]]:
        logits, features = self.model.apply(params, x)
        return logits, self.read(features)


def _project(features: list[Array], matrices: list[Array | None]) -> list[Array]:
    flat = [h.reshape(len(h), -1) for h in features]
    return [h if p is None else h @ p for h, p in zip(flat, matrices, strict=True)]


def _projections(model: Any, params: Any, x: Array, limit: int) -> list[Array | None]:
    """By layer, a Gaussian matrix from its flattened features to ``limit``; None where it fits."""
    widths = [int(np.prod(h.shape[1:])) for h in jax.eval_shape(model.apply, params, x)[1]]
    keys = jax.random.split(jax.random.key(0), len(widths))
    return [
        jax.random.normal(key, (width, limit)) / width**0.5 if width > limit else None
        for key, width in zip(keys, widths, strict=True)
    ]


def _grams(params: Any) -> list[Array]:
    """The Gram of every kernel, from input to output; a convolution's over its patches."""

    def place(item: tuple[str, Any]) -> tuple[str, int]:
        kind, number = item[0].rsplit("_", 1)
        return kind, int(number)

    kernels = (layer["kernel"] for _, layer in sorted(params["params"].items(), key=place))
    return [weight_gram(k.reshape(-1, k.shape[-1])) for k in kernels]


@dataclasses.dataclass(frozen=True)
class Paired:
    """The mean of paired differences and what a t-test says of it.

    Attributes:
        mean: Of the differences.
        low: Lower end of the mean's 95 % confidence interval.
        high: Its upper end.
        p: Probability of a mean as far from 0, were it 0.
    """

    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.interval}, p {self.p:.2g}"

    @property
    def interval(self) -> str:
        """The mean with its interval, as a person reads them."""
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def paired(a: np.ndarray, b: np.ndarray) -> Paired:
    """Compare ``a`` with ``b``, of the same seeds (s,): the differences a − b, s ≥ 2."""
    a, b = (np.asarray(values, float) for values in (a, b))
    difference = a - b
    mean = float(difference.mean())
    if not np.ptp(difference):  # no deviation: the test divides by it
        return Paired(mean, mean, mean, float(mean == 0))
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    return Paired(mean, float(interval.low), float(interval.high), float(test.pvalue))
