"""What is measured of a pair of networks: spectra, clipping, alignment, stability, resampling."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax import Moments, accumulate
from gramlin_jax.metrics.similarity import (
    alignment,
    alignment_r2,
    cka,
    eigenvector_stability,
    heldout_alignment,
    procrustes,
)
from gramlin_jax.metrics.spectra import (
    marchenko_pastur_edges,
    significant_components,
    spectrum,
)
from gramlin_jax.rainbow import Layer, apply, as_matrix, clip, hidden_features, resample
from gramlin_jax.training import hits

from . import SHOWN, VARIANTS, Config

if TYPE_CHECKING:
    from jaxtyping import Array

Network = list[Layer]


@jax.jit
def accuracy(network: Network, data: tuple[Array, Array]) -> Array:
    """Share of correct answers, in one pass."""
    correct: Array = accumulate(
        lambda batch: jnp.sum(hits(apply(network, batch[0])[0], batch[1])), data, batch_size=1000
    )
    return correct / len(data[1])


@functools.partial(jax.jit, static_argnames="index")
def accuracies(network: Network, index: int, kernels: Array, data: tuple[Array, Array]) -> Array:
    """Accuracy with each kernel (r, ...) in the place of a layer's, all in one ``vmap``."""

    def sums(batch: tuple[Array, Array]) -> Array:
        x, labels = batch
        x = [x, *hidden_features(network[:index], x)][-1]  # the same for all

        def correct(kernel: Array) -> Array:
            tail = [dataclasses.replace(network[index], kernel=kernel), *network[index + 1 :]]
            return jnp.sum(hits(apply(tail, x)[0], labels))

        return jax.vmap(correct)(kernels)

    total: Array = accumulate(sums, data, batch_size=250)
    return total / len(data[1])


def activation_clipped(layer: Layer, basis: Array, ranks: np.ndarray) -> Array:
    """Kernels (r, ...) that read the first directions of a basis (c, c) of channels alone."""
    channels, outputs = len(basis), layer.kernel.shape[-1]
    places = as_matrix(layer).reshape(-1, channels, outputs)
    rows = places.swapaxes(0, 1).reshape(channels, -1)
    clipped = jax.vmap(lambda rank: clip(rows, basis, rank))(jnp.asarray(ranks))
    clipped = clipped.reshape(len(ranks), channels, -1, outputs).swapaxes(1, 2)
    return clipped.reshape(len(ranks), *layer.kernel.shape)


def weight_clipped(layer: Layer, ranks: np.ndarray) -> Array:
    """Kernels (r, ...) of the largest singular values alone."""
    matrix = as_matrix(layer)
    basis = jnp.asarray(np.linalg.svd(matrix, full_matrices=False)[0])
    clipped = jax.vmap(lambda rank: clip(matrix, basis, rank))(jnp.asarray(ranks))
    return clipped.reshape(len(ranks), *layer.kernel.shape)


def clipping(
    config: Config, network: Network, scatters: list[np.ndarray], data: tuple[Array, Array]
) -> dict[str, np.ndarray]:
    """Test accuracy by layer and number of kept components, and with the learned ones alone."""
    ranks = config.kept()
    found: dict[str, list[Any]] = {
        name: [] for name in ("activation_clipping", "weight_clipping", "learned_alone")
    }
    for index, scatter in enumerate(scatters):
        basis = jnp.asarray(np.linalg.eigh(scatter)[1][:, ::-1], jnp.float32)
        kernels = activation_clipped(network[index + 1], basis, ranks)
        values = accuracies(network, index + 1, kernels, data)
        found["activation_clipping"].append(np.where(ranks <= len(basis), values, np.nan))
        matrix = as_matrix(network[index])
        learned = int(significant_components(matrix).number)
        kernels = weight_clipped(network[index], np.append(ranks, learned))
        *values, alone = accuracies(network, index, kernels, data)
        found["weight_clipping"].append(np.where(ranks <= min(matrix.shape), values, np.nan))
        found["learned_alone"].append(alone)
    return {name: np.array(values, float) for name, values in found.items()}


def weight_spectra(config: Config, trained: Network, start: Network) -> dict[str, np.ndarray]:
    """Eigenvalues of KKᵀ/o after and before training, and how many stand out from noise."""
    width, found = max(config.widths), {}
    for prefix, network in (("weight", trained), ("initial", start)):
        kernels = [as_matrix(layer) for layer in network[:-1]]
        spectra = [padded(spectrum(kernel), width) for kernel in kernels]
        found[f"{prefix}_spectrum"] = np.stack(spectra)
        counts = [significant_components(kernel) for kernel in kernels]
        name = "significant" if prefix == "weight" else "initial_significant"
        found[name] = np.array([float(count.number) for count in counts])
        if prefix == "weight":
            found["threshold"] = np.array([float(count.threshold) for count in counts])
        else:  # uniform entries in ±1/√i
            shapes = [kernel.shape for kernel in kernels]
            edges = [marchenko_pastur_edges(o, i, 1 / (3 * i))[1] for i, o in shapes]
            found["noise_edge"] = np.array(edges, float)
    return found


def singular_vectors(config: Config, layer: Layer, shape: Sequence[int]) -> dict[str, np.ndarray]:
    """The leading components of the first layer: project (as images), scale, embed."""
    u, s, vt = np.linalg.svd(np.asarray(as_matrix(layer)), full_matrices=False)
    u = u[:, :SHOWN]
    if config.network == "wavelets":
        u = np.asarray(layer.filters).reshape(-1, len(u)) @ u
    side = shape[0] if config.network == "mlp" else config.size
    return {"project": u.T.reshape(-1, side, side), "scale": s[:SHOWN], "embed": vt[:SHOWN]}


def activation_scatters(m: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Uncentred second moments of the features of both networks."""
    assert m.pair is not None
    count, mean = float(m.count), np.asarray(m.target_mean)
    second = np.asarray(m.pair.target_scatter) / count + np.outer(mean, mean)
    return np.asarray(m.feature_products) / count, second


def alignments(on_train: list[Moments], on_test: list[Moments]) -> dict[str, np.ndarray]:
    """``alignment`` (layer, split, centring), ``cka``, ``debiased_cka`` and ``alignment_r2``."""
    cosines = [
        [
            [float(alignment(m, centred=centred)) for centred in (False, True)],
            [float(heldout_alignment(m, t, centred=centred)) for centred in (False, True)],
        ]
        for m, t in zip(on_train, on_test, strict=True)
    ]
    return {
        "alignment": np.array(cosines),
        "cka": np.array([float(cka(m)) for m in on_train]),
        "debiased_cka": np.array([float(cka(m, debiased=True)) for m in on_train]),
        "alignment_r2": np.array([float(alignment_r2(m)) for m in on_train]),
    }


def stability(
    config: Config, first: Network, second: Network, on_train: list[Moments], *, null: bool
) -> dict[str, np.ndarray]:
    """Maps of |cosines| between eigenvectors of activations, and of weights, (layer, i, j).

    Weights are aligned by the layer before. Those of the first layer read the same data, and are
    turned at random where ``null``.
    """
    found: dict[str, list[np.ndarray]] = {"activation_stability": [], "weight_stability": []}
    inputs = as_matrix(first[0]).shape[0]
    noise = np.random.default_rng(0).standard_normal((inputs, inputs))
    turn = np.linalg.qr(noise)[0] if null else np.eye(inputs)
    for index, m in enumerate(on_train):
        kernels = [np.asarray(as_matrix(net[index]), float) for net in (first, second)]
        places = np.kron(np.eye(len(kernels[0]) // len(turn)), turn)
        limit = min(config.components, *kernels[0].shape)
        grams = [kernel @ kernel.T for kernel in kernels]
        shown = eigenvector_stability(grams[0], grams[1], places, limit)
        found["weight_stability"].append(padded(shown, config.components))
        turn = np.asarray(procrustes(m, centred=False))
        limit = min(config.components, len(turn))
        one, other = activation_scatters(m)
        shown = eigenvector_stability(one, other, turn, limit)
        found["activation_stability"].append(padded(shown, config.components))
    return {name: np.stack(maps) for name, maps in found.items()}


def resampled(
    config: Config, seed: int, first: Network, second: Network, train: Array, test: Any
) -> np.ndarray:
    """Test accuracy of drawn networks (variant, draw)."""
    options: dict[str, dict[str, Any]] = {
        "all layers": {},
        "layer 1": {"layers": (0,)},
        "layer 2": {"layers": (1,)},
        "twice as wide": {"widths": {i: 2 * width for i, width in enumerate(config.widths)}},
        "two networks": {"others": [second]},
    }
    keys = [jax.random.fold_in(jax.random.key(seed), draw) for draw in range(config.draws)]
    return np.array(
        [
            [float(accuracy(resample(key, first, train, **options[variant]), test)) for key in keys]
            for variant in VARIANTS
        ]
    )


def padded(values: Any, length: int) -> np.ndarray:
    """Values with NaN behind them, up to ``length`` along each axis."""
    values = np.asarray(values, float)[tuple(slice(length) for _ in np.shape(values))]
    return np.pad(values, [(0, length - size) for size in values.shape], constant_values=np.nan)
