"""What is measured of every hidden layer of a network, for and against the ansatz."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from gramlin_jax import (
    GradientMoments,
    JacobianMoments,
    Moments,
    agop,
    alignment_null,
    ansatz_exponent,
    debiased_isotropy,
    fact_null,
    gradient_moments,
    isotropy,
    jacobian_moments,
    ky_fan_ratio,
    moments,
    nfa_correlation,
    replaced_kernel,
    rotation_null,
    significant_components,
    singular_overlaps,
    spectrum,
    stable_rank,
    stationarity_identities,
)
from gramlin_jax.metrics.representation import representation_matrices
from gramlin_jax.metrics.spectra import SMALLEST
from gramlin_jax.support.precision import in_float64
from gramlin_jax.training import over_runs

from . import DIRECTIONS, REPLACEMENTS
from .influence import influences
from .networks import apply, batch_loss, inputs_of_layers

if TYPE_CHECKING:
    from jaxtyping import Array


class Layer(NamedTuple):
    """What is measured of one hidden layer of a network.

    Attributes:
        start: Its kernel (i, o) before training.
        kernel: Its kernel.
        features: Moments of what it reads.
        gradients: Gradient moments of the training loss.
        jacobians: Jacobian moments of the outputs.
        after_activation: Σ ∇f∇fᵀ/n at the activations in the place of the pre-activations.
        replaced: Other kernels in its place (replacement, i, o).
        of_replaced: J of the network with each of them (replacement, o, o).
        influences: See ``influences``.
    """

    start: Array
    kernel: Array
    features: Moments
    gradients: GradientMoments
    jacobians: JacobianMoments
    after_activation: Array
    replaced: Array
    of_replaced: Array
    influences: dict[str, Array]


@functools.cache
def network_sums(activation: str, loss: str, probed: int, mesh: Mesh | None) -> Callable[..., Any]:
    """The compiled pass over the data of all networks of a setting, spread over a mesh.

    Returns:
        ``(start, params, others, seed, x, y) -> (layers, scores)``: the first four have an axis of
        networks; ``others`` are the parameters of which ``other`` takes a kernel.
    """

    def f(params: Any, x: Array) -> Array:
        return apply(params, x, activation)

    def sums(start: Any, params: Any, others: Any, seed: Array, x: Array, y: Array) -> Any:
        kernels = _replacements(params, others, seed)
        jacobians = _jacobians(f, params, kernels, x[:probed])
        own = {name: jax.tree.map(lambda a: a[0], of) for name, of in jacobians.items()}
        gradients = gradient_moments(f, params, x, loss=lambda out: batch_loss(loss, out, y))
        layers = []
        for number, h in enumerate(inputs_of_layers(params, x, activation), 1):
            name, following = str(number), str(number + 1)
            first = 1 + (number - 1) * len(REPLACEMENTS)
            layers.append(
                Layer(
                    start[name],
                    params[name],
                    moments(h),
                    gradients[name],
                    own[name],
                    agop(params[following], own[following].mean),
                    kernels[name],
                    jacobians[name].mean[first : first + len(REPLACEMENTS)],
                    influences(params, number, x[:probed], own[name].mean, activation),
                )
            )
        outputs = f(params, x)
        right = (outputs.argmax(-1) == y.argmax(-1)).mean() if y.shape[1] > 1 else jnp.nan
        return layers, {"loss": batch_loss(loss, outputs, y), "accuracy": right}

    return in_float64(jax.jit(over_runs(sums, execution="vmap", shared=(4, 5), mesh=mesh)))


@functools.cache
def layer_measures(rotations: int, mesh: Mesh | None) -> Callable[..., dict[str, Array]]:
    """The compiled measures of one layer of all networks; layers of one shape share the program.

    Returns:
        ``(layer, weight_decay) -> arrays``, all with a first axis of networks.
    """

    def measure(layer: Layer, weight_decay: Array) -> dict[str, Array]:
        after = layer.after_activation
        return {
            **_forms(jax.random.key(0), rotations, layer),  # the same rotations for all networks
            **_of_ansatz(layer),
            **_stationary(layer, weight_decay),
            **_spectra(layer),
            **layer.influences,
            "nfa_without_derivative": nfa_correlation(layer.kernel, after),
            "isotropy_after_activation": isotropy(after).cosine,
            "replaced": jax.vmap(nfa_correlation)(layer.replaced, layer.of_replaced),
        }

    return in_float64(jax.jit(over_runs(measure, execution="vmap", mesh=mesh)))


def _replacements(params: Any, others: Any, seed: Array) -> dict[str, Array]:
    """By hidden layer, the kernels that take its kernel's place (replacement, i, o)."""
    key = jax.random.fold_in(jax.random.key(1), seed)
    return {
        str(layer): jnp.stack(
            [
                others[name] if how == "other" else replaced_kernel(key, params[name], how)
                for how in REPLACEMENTS
            ]
        )
        for layer in range(1, len(params))
        for name in [str(layer)]
    }


def _jacobians(f: Any, params: Any, kernels: dict[str, Array], x: Array) -> Any:
    """``JacobianMoments`` by layer of the network, and of it with each kernel replaced."""
    # Along trailing singular vectors vᵀJv falls to 1e-10 of the largest: float32 would be noise.
    params, kernels, x = jax.tree.map(lambda a: a.astype(jnp.float64), (params, kernels, x))
    variants = [params]
    for name, others in kernels.items():
        variants += [{**params, name: kernel} for kernel in others]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *variants)
    return jax.lax.map(lambda p: jacobian_moments(f, p, x), stacked)


def _forms(key: Array, rotations: int, layer: Layer) -> dict[str, Array]:
    """Each of ``FORMS`` with its rotation null, (form,)."""
    kernel, gradients = layer.kernel, layer.gradients
    nulls = [
        rotation_null(key, kernel, layer.jacobians.mean, rotations),
        fact_null(key, kernel, gradients, rotations),
    ]
    for h, g, w in representation_matrices(layer.features, kernel, gradients):
        nulls += [alignment_null(key, *pair, rotations) for pair in ((h, g), (h, w), (g, w))]
    columns = [jnp.stack(column) for column in zip(*nulls, strict=True)]
    return dict(zip(("alignment", "null_mean", "null_deviation", "p"), columns, strict=True))


def _of_ansatz(layer: Layer) -> dict[str, Any]:
    """The ansatz in its other forms, and isotropy."""
    kernel, j = layer.kernel, layer.jacobians.mean
    whole, of_range = isotropy(j), isotropy(j, kernel)
    fitted = ansatz_exponent(kernel, j)
    overlaps = singular_overlaps(kernel, j)[:DIRECTIONS]
    missing = DIRECTIONS - len(overlaps)
    return {
        "nfa_half": nfa_correlation(kernel, j, power=0.5),
        "nfa_pearson": nfa_correlation(kernel, j, kind="pearson"),
        "nfa_centred": nfa_correlation(kernel, j, kernel_init=layer.start),
        "isotropy": whole.cosine,
        "range_isotropy": of_range.cosine,
        "debiased_isotropy": debiased_isotropy(layer.jacobians).cosine_squared,
        "tight_frame": whole.distance,
        "lower_bound": whole.lower,
        "upper_bound": whole.upper,
        "rank": of_range.dimension,
        "exponent": fitted.alpha,
        "determination": fitted.determination,
        "ky_fan": ky_fan_ratio(kernel, j, min(DIRECTIONS, *kernel.shape)),
        "overlap": jnp.pad(overlaps, (0, missing), constant_values=jnp.nan),
    }


def _stationary(layer: Layer, decay: Array) -> dict[str, Any]:
    """The identities of a stationary point; without weight decay there are no residuals."""
    positive = jnp.where(decay > 0, decay, 1)
    found = stationarity_identities(layer.kernel, layer.gradients, positive)
    residuals = found.input_residual, found.output_residual
    names = "input_residual", "output_residual"
    of_decay = {n: jnp.where(decay > 0, r, jnp.nan) for n, r in zip(names, residuals, strict=True)}
    return {**of_decay, "output_fact": found.output_cosine}


def _spectra(layer: Layer) -> dict[str, Any]:
    """The directions that a kernel and its change use, and those that stand out from noise."""
    found: Any = [jnp.nan, jnp.nan]
    if min(layer.kernel.shape) >= SMALLEST:
        changes = layer.kernel, layer.kernel - layer.start
        found = [significant_components(kernel).number for kernel in changes]
    return {
        "stable_rank": stable_rank(spectrum(layer.kernel)),
        "components": found[0],
        "update_components": found[1],
    }
