"""The network of figure 8, and how far its features and its output are from the target."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gramlin_jax import moments
from gramlin_jax.metrics import LeastSquares, least_squares
from gramlin_jax.support.linalg import dot
from gramlin_jax.support.precision import in_float64
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


@in_float64
def noise_left(fit: LeastSquares, n: int) -> Float[Array, ""]:
    """The share of the norm of pure noise that a ridge fit leaves: √(tr(I − S)²/n).

    S = H(HᵀH + ρI)⁻¹Hᵀ for features H (n, w), with any w. At 1 the fit explains nothing, at 0 it
    fits any target.

    Args:
        fit: The fit, without intercept.
        n: The number of points.
    """
    w = len(fit.shrinkage)
    # The n eigenvalues of S are the largest shrinkages, or all of them and zeros.
    left = jnp.sum((1 - fit.shrinkage[-min(n, w) :]) ** 2) + max(n - w, 0)
    return jnp.sqrt(left / n)


def norms_measure(
    network: Network, ridge: float, init: Callable[[Array], Any]
) -> Callable[[Any, Hyper, Any], dict[str, Array]]:
    """``measure`` of ``train``: the three norms, and what puts them into proportion.

    Its data are a pair, training points and new ones, as ``points`` gives them. It returns float64
    scalars: ``target_fit`` ‖y − ŷ_OLS‖, ``fit_output`` ‖ŷ_OLS − ŷ‖ and ``target_output`` ‖y − ŷ‖;
    the first and the last on new points as ``new_target_fit`` and ``new_target_output``;
    ``noise_norm``, what the fit would leave of pure noise with y's norm; and ``feature_change``
    ‖H − H₀‖/‖H₀‖, where H₀ are the features before training, those of ``init(key)``.
    """

    @in_float64
    def measure(params: Any, hyper: Hyper, data: Any) -> dict[str, Array]:
        (x, y), (new_x, new_y) = (own_points(part, hyper) for part in data)
        apply: Any = network.apply
        norm = jnp.linalg.norm
        output, features = apply(params, x)
        new_output, new_features = apply(params, new_x)
        start = apply(init(jax.random.key(hyper["seed"])), x)[1].astype(jnp.float64)
        fit = least_squares(moments(features, y), intercept=False, ridge=ridge)
        fitted, new_fitted = (
            dot(h.astype(jnp.float64), fit.coefficients) for h in (features, new_features)
        )
        return {
            "target_fit": norm(y - fitted),
            "fit_output": norm(fitted - output),
            "target_output": norm((y - output).astype(jnp.float64)),
            "new_target_fit": norm(new_y - new_fitted),
            "new_target_output": norm((new_y - new_output).astype(jnp.float64)),
            "noise_norm": noise_left(fit, len(x)) * norm(y.astype(jnp.float64)),
            "feature_change": norm(features - start) / norm(start),
        }

    return measure
