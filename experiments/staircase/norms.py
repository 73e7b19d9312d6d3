"""The network of figure 8, and how far its features and its output are from the target."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gramlin_jax.support.precision import dot, eigh, in_float64
from gramlin_jax.training import Hyper

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Network(nn.Module):
    """Two hidden layers of ``width``, ReLU, no bias; the output is divided by √width."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "n d"]) -> tuple[Float[Array, "n 1"], Float[Array, "n w"]]:
        """Outputs, and the features of the last hidden layer."""

        def dense(units: int, h: Array) -> Array:
            init = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
            return nn.Dense(units, use_bias=False, kernel_init=init)(h)

        h = jax.nn.relu(dense(self.width, jax.nn.relu(dense(self.width, x))))
        return dense(1, h) / self.width**0.5, h


def own_points(data: tuple[Array, Array], hyper: Hyper) -> tuple[Array, Array]:
    """Points (n, d) and targets (n, 1) of a run's seed."""
    x, y = (jnp.take(a, hyper["seed"], axis=1) for a in data)
    return x, y


class LinearFit(NamedTuple):
    """A ridge fit of targets on features.

    Attributes:
        coefficients: (HᵀH + ρ)⁻¹Hᵀy (w, k).
        noise: The share of the norm of pure noise that such a fit leaves, √(tr(I − S)²/n) with
            S = H(HᵀH + ρ)⁻¹Hᵀ: 1 fits nothing, 0 fits any target.
    """

    coefficients: Array
    noise: Array


@in_float64
def linear_fit(
    features: Float[Array, "n w"], targets: Float[Array, "n k"], ridge: float
) -> LinearFit:
    """Ridge regression without intercept, in float64 by an eigendecomposition of HᵀH.

    Args:
        features: H (n, w), any w.
        targets: y (n, k).
        ridge: ρ > 0, added to the eigenvalues of HᵀH.
    """
    h, y = features.astype(jnp.float64), targets.astype(jnp.float64)
    values, vectors = eigh(dot(h.T, h))
    inverse = 1 / (jnp.maximum(values, 0.0) + ridge)  # rounding may bring a 0 below
    coefficients = dot(vectors, inverse[:, None] * dot(vectors.T, dot(h.T, y)))
    n, w = h.shape
    # Eigenvalues of I − S: ridge/(λ + ridge) for each λ of HHᵀ, of which HᵀH has the largest.
    left = jnp.sum((ridge * inverse[-min(n, w) :]) ** 2) + max(n - w, 0)
    return LinearFit(coefficients, jnp.sqrt(left / n))


def norms_measure(
    network: Network, ridge: float, init: Callable[[Array], Any]
) -> Callable[[Any, Hyper, Any], dict[str, Array]]:
    """``measure`` of ``train``: the three norms, and what puts them into proportion.

    Its data are those that are trained on and new ones, as ``points``. Returned are, as
    scalars of float64, ``target_fit`` ‖y − ŷ_OLS‖, ``fit_output`` ‖ŷ_OLS − ŷ‖, ``target_output``
    ‖y − ŷ‖; the first and last on new points as ``new_target_fit`` and ``new_target_output``;
    ``noise_norm``, what the fit would leave of pure noise of y's norm; and ``feature_change``
    ‖H − H₀‖/‖H₀‖, H₀ being the features of ``init(key)``, before training.
    """

    @in_float64
    def measure(params: Any, hyper: Hyper, data: Any) -> dict[str, Array]:
        (x, y), (new_x, new_y) = (own_points(part, hyper) for part in data)
        apply: Any = network.apply
        norm = jnp.linalg.norm
        output, features = apply(params, x)
        new_output, new_features = apply(params, new_x)
        start = apply(init(jax.random.key(hyper["seed"])), x)[1].astype(jnp.float64)
        found = linear_fit(features, y, ridge)
        fitted, new_fitted = (
            dot(h.astype(jnp.float64), found.coefficients) for h in (features, new_features)
        )
        return {
            "target_fit": norm(y - fitted),
            "fit_output": norm(fitted - output),
            "target_output": norm((y - output).astype(jnp.float64)),
            "new_target_fit": norm(new_y - new_fitted),
            "new_target_output": norm((new_y - new_output).astype(jnp.float64)),
            "noise_norm": found.noise * norm(y.astype(jnp.float64)),
            "feature_change": norm(features - start) / norm(start),
        }

    return measure
