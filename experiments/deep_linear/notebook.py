"""Train a deep linear network on data, and on covariances alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax import moments
from gramlin_jax.deep_linear import covariance_step
from gramlin_jax.support.linalg import dot
from gramlin_jax.support.precision import in_float64

from . import Config

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Kernels: TypeAlias = "list[Any]"


def whitened(images: Float[np.ndarray, "n pixels"], columns: int) -> Float[np.ndarray, "n d"]:
    """Principal components of the images with the greatest variances, scaled to variance 1.

    Raises:
        ValueError: If the images have no variance in so many directions.
    """
    x = images - images.mean(0, dtype=float)
    variances, directions = np.linalg.eigh(x.T @ x / len(x))
    rank = int((variances > 1e-10 * variances[-1]).sum())
    if columns > rank:
        raise ValueError(f"columns is {columns}: wanted at most {rank}, the rank of the images")
    return x @ (directions[:, : -columns - 1 : -1] / np.sqrt(variances[: -columns - 1 : -1]))


def unit_kernels(seed: int, widths: Sequence[int]) -> list[np.ndarray]:
    """Kernels (in, out) whose columns, the weights of a unit each, are random of norm 1."""
    rng = np.random.default_rng(seed)
    drawn = [rng.standard_normal(shape) for shape in zip(widths, widths[1:], strict=False)]
    return [kernel / np.linalg.norm(kernel, axis=0) for kernel in drawn]


def hand_gradients(kernels: Kernels, x: Array, y: Array) -> Kernels:
    """Gradients of ‖xK₁K₂ − y‖² by the chain rule, written out."""
    first, second = kernels
    hidden = dot(x, first)
    delta = 2 * (dot(hidden, second) - y)
    return [dot(x.T, dot(delta, second.T)), dot(hidden.T, delta)]


def squares(kernels: Kernels, x: Array, y: Array) -> Array:
    """‖xK₁…K_L − y‖², layer by layer."""
    return ((functools.reduce(dot, kernels, x) - y) ** 2).sum()


class Data(NamedTuple):
    """Inputs x (n, d), targets y (n, k), and their second moments XᵀX/n and XᵀY/n."""

    x: Any
    y: Any
    cxx: Any
    cxy: Any


@in_float64
def data_of(x: np.ndarray, y: np.ndarray) -> Data:
    """``Data`` from inputs and targets, with one pass over them."""
    m = moments(jnp.asarray(x), jnp.asarray(y))
    scaled = (np.asarray(sums) / len(x) for sums in (m.feature_products, m.cross_products))
    return Data(x, y, *scaled)


def by_hand(kernels: Kernels, data: Data, rate: Array) -> Kernels:
    """A step on the sum of squares of two layers, with the hand-written gradients."""
    gradients = hand_gradients(kernels, data.x, data.y)
    return [k - rate * g for k, g in zip(kernels, gradients, strict=True)]


def by_autodiff(kernels: Kernels, data: Data, rate: Array) -> Kernels:
    """A step on the sum of squares, by automatic differentiation."""
    gradients = jax.grad(squares)(kernels, data.x, data.y)
    return [k - rate * g for k, g in zip(kernels, gradients, strict=True)]


def by_covariances(kernels: Kernels, data: Data, rate: Array) -> Kernels:
    """The same step from covariances. Its loss has 1/2n, so its learning rate is 2n times that."""
    return covariance_step(kernels, data.cxx, data.cxy, 2 * len(data.x) * rate)


def one_after_another(kernels: Kernels, data: Data, rate: Array) -> Kernels:
    """The notebook's version: each layer already sees the new weights of those before it."""
    kernels = list(kernels)
    for layer in range(len(kernels)):
        kernels[layer] = by_covariances(kernels, data, rate)[layer]
    return kernels


@in_float64
@functools.partial(jax.jit, static_argnames=("step", "steps"))
def followed(
    kernels: Kernels, data: Data, rate: float, step: Callable[..., Kernels], steps: int
) -> tuple[Kernels, Array, Array]:
    """Train by ``step``: the kernels; mean of squares and accuracy before and after each step."""

    def scores(kernels: Kernels) -> tuple[Array, Array]:
        outputs = dot(data.x, functools.reduce(dot, kernels))
        right = outputs.argmax(1) == data.y.argmax(1)
        return ((outputs - data.y) ** 2).mean(), right.mean(dtype=jnp.float64)

    def one(kernels: Kernels, _: None) -> tuple[Kernels, tuple[Array, Array]]:
        return step(kernels, data, rate), scores(kernels)

    kernels, along = lax.scan(one, kernels, length=steps)
    loss, accuracy = (jnp.append(a, b) for a, b in zip(along, scores(kernels), strict=True))
    return kernels, loss, accuracy


def run_notebook(config: Config, data: Data) -> dict[str, np.ndarray]:
    """The arrays of the first two parts, with a first axis of seeds.

    Raises:
        ValueError: If a loss grows or is not finite.
    """
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(config.seeds):
        for name, value in _seed(config, data, seed).items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def _seed(config: Config, data: Data, seed: int) -> dict[str, np.ndarray]:
    inputs, outputs = data.cxy.shape
    rate, steps = config.learning_rate, config.steps
    kernels = unit_kernels(seed, (inputs, config.hidden, outputs))
    trained, loss, accuracy = followed(kernels, data, rate, by_hand, steps)
    check_descent(loss, "learning_rate", rate)
    errors = [gradient_error(k, data) for k in (kernels, trained)]
    found = {"loss": loss, "accuracy": accuracy, "gradient_error": max(errors)}
    found["covariance_loss"] = followed(kernels, data, rate, by_covariances, steps)[1]
    names = "sequential_loss", "sequential_accuracy"
    found |= zip(names, followed(kernels, data, rate, one_after_another, steps)[1:], strict=True)
    differences = []
    for depth in config.depths:
        hidden = [config.hidden] * (depth - 1)
        kernels = unit_kernels(seed, (inputs, *hidden, outputs))
        ends = [
            followed(kernels, data, rate, step, steps)[0] for step in (by_autodiff, by_covariances)
        ]
        differences.append(difference(*ends))
    return jax.tree.map(np.asarray, {**found, "training_error": np.array(differences)})


@in_float64
def gradient_error(kernels: Kernels, data: Data) -> float:
    """``difference`` of the hand-written gradients from automatic differentiation."""
    expected = jax.jit(jax.grad(squares))(kernels, data.x, data.y)
    return difference(jax.jit(hand_gradients)(kernels, data.x, data.y), expected)


def difference(a: Kernels, b: Kernels) -> float:
    """Largest distance of two lists of matrices, relative to the norm of the second."""
    pairs = zip(map(np.asarray, a), map(np.asarray, b), strict=True)
    return max(float(np.linalg.norm(x - y) / np.linalg.norm(y)) for x, y in pairs)


def check_descent(loss: Array, name: str, rate: float) -> None:
    """Raise ``ValueError`` if a loss ends above its beginning, or not finite."""
    first, last = (float(value) for value in np.asarray(loss)[[0, -1]])
    if not last <= first:
        raise ValueError(
            f"{name} is {rate}: wanted a smaller one; training diverges, the loss goes from "
            f"{first:.4g} to {last:.4g}"
        )
