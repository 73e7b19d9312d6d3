"""Rainbow networks: clip the kernels of a trained network, or draw new ones of their covariances.

A rainbow network has Gaussian weights, independent from unit to unit, whose covariance in each
layer is that of a trained network's, in the coordinates of the layer before. Hidden layers of two
networks differ by a rotation A, found from their features (``procrustes``), so a drawn layer reads
its inputs through the rotation of the layer before.

Shapes: a layer reads c channels at p places (c inputs at one place in a dense layer, height·width
places in a convolution), so its kernel is a matrix (p·c, o) with the channels inside.

Source: Guth, Ménard, Rochette and Mallat, A rainbow in deep network black boxes (2023).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax._moments.additive import accumulate
from gramlin_jax._moments.features import Moments, moments
from gramlin_jax.metrics.gram import polar_factor
from gramlin_jax.support.array_fields import ArrayFields
from gramlin_jax.support.checks import (
    check_array,
    check_count,
    check_filled,
    check_kind,
    check_numbers,
    check_orthonormal,
    is_traced,
)
from gramlin_jax.support.linalg import diagonal, dot
from gramlin_jax.support.precision import in_float64, in_full_precision, widened

if TYPE_CHECKING:
    from jaxtyping import Array, Float

BATCH = 1024  # samples at a time
EPSILON = 1e-5  # is added to the variance in a batch norm, as by Flax and PyTorch


class BatchNorm(NamedTuple):
    """Batch norm of o units as it is applied: (z − mean)/√(variance + 1e-5) · scale + offset."""

    mean: Float[Array, "o"]
    variance: Float[Array, "o"]
    scale: Float[Array, "o"]
    offset: Float[Array, "o"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["kernel", "bias", "norm", "filters"],
    meta_fields=["stride"],
)
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Layer(ArrayFields):
    """A dense layer or a convolution without padding, as a pytree.

    Attributes:
        kernel: (i, o) of a dense layer, which flattens what it reads; (h, w, c, o) of a
            convolution; (f·c, o), the maps of channels, where there are ``filters``.
        bias: (o,) or None.
        norm: The batch norm that follows, or None.
        filters: Spatial filters (h, w, f), each applied to every channel; the kernel mixes what
            they give at each position. Constants, such as wavelets: they have no gradient. None:
            the kernel is learnt as it is.
        stride: Of a convolution, in both directions.
    """

    kernel: Array
    bias: Array | None = None
    norm: BatchNorm | None = None
    filters: Array | None = None
    stride: int = 1


Network: TypeAlias = "Sequence[Layer]"
"""Layers, each followed by a ReLU but the last, the classifier."""


@in_float64
def clip(kernel: Float[Array, "i o"], basis: Float[Array, "i r"], rank: int) -> Float[Array, "i o"]:
    """The kernel read through the first directions of a basis alone: B_rB_rᵀK.

    With eigenvectors of the features' second moment as basis, features lose Σ_{j>r} λ_j of their
    mean square. With the eigenvectors of KKᵀ the kernel does, Σ_{j>r} σ_j²: its best approximation
    of that rank.

    Args:
        kernel: K (i, o).
        basis: B (i, r), orthonormal columns in the order in which they are kept.
        rank: Columns to keep, from 0 to r. May be traced: ``jax.vmap`` over ranks.

    Raises:
        ValueError: If shapes do not match, ``rank`` is no integer from 0 to the width, or (outside
            transformations) the columns of the basis are not orthonormal to 0.001.
        TypeError: If an array is not floating point.

    Source: Guth et al. (2023).

    Example:
        >>> clip(jnp.ones((3, 2)), jnp.eye(3), 1).tolist()
        [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    kernel = check_array("kernel", kernel, ("i", "o"))
    basis = check_array("basis", basis, ("i", "r"))
    if basis.shape[0] != kernel.shape[0]:
        raise ValueError(f"basis has {basis.shape[0]} rows: wanted {kernel.shape[0]}, as kernel")
    check_orthonormal("basis", basis)
    if not is_traced(rank) and check_count("rank", rank, 0) > basis.shape[1]:
        raise ValueError(f"rank is {rank}: wanted 0 to {basis.shape[1]}, the width")
    wide = jnp.promote_types(kernel.dtype, basis.dtype)
    basis = jnp.where(jnp.arange(basis.shape[1])[None] < rank, basis, 0).astype(wide)
    return dot(basis, dot(basis.T, kernel.astype(wide))).astype(kernel.dtype)


@in_float64
def sample_kernel(
    key: Array, kernel: Float[Array, "i o"], width: int | None = None
) -> Float[Array, "i width"]:
    """A Gaussian kernel of the trained covariance: KG/√o, G standard normal (o, width).

    The weights of each unit, a column, are independent draws with covariance KKᵀ/o = WᵀW/o, so the
    mean of K'K'ᵀ/width is that of the trained kernel. Kernels of several networks side by side,
    (i, o₁ + o₂ + …), give the average of their covariances.

    Args:
        key: Of ``jax.random``.
        kernel: K (i, o).
        width: Units to draw; None: o.

    Returns:
        (i, width), in the kernel's type.

    Raises:
        ValueError: If ``kernel`` is no matrix, or ``width`` < 1.
        TypeError: If it is not floating point.

    Source: Guth et al. (2023), section 2.

    Example:
        >>> kernel = jnp.diag(jnp.array([2.0, 0.0]))
        >>> drawn = sample_kernel(jax.random.key(0), kernel, 5000)
        >>> bool(jnp.allclose(drawn @ drawn.T / 5000, kernel @ kernel.T / 2, atol=0.2))
        True
    """
    kernel = check_array("kernel", kernel, ("i", "o"))
    check_filled("kernel", kernel)
    outputs = kernel.shape[1]
    width = outputs if width is None else width
    check_count("width", width)
    # For float64 see ``nulls.haar``; draws in half precision have another mean than 0.
    normal = jax.random.normal(key, (outputs, width), jnp.float32)
    wide = widened(kernel)
    drawn = dot(wide, normal.astype(wide.dtype)) / np.sqrt(outputs).astype(wide.dtype)
    return drawn.astype(kernel.dtype)


def as_matrix(layer: Layer) -> Float[Array, "i o"]:
    """The kernel as a matrix (p·c, o), the channels inside."""
    return layer.kernel.reshape(-1, layer.kernel.shape[-1])


def read(layer: Layer, x: Float[Array, "n ..."]) -> Float[Array, "n ... i"]:
    """The rows that a layer's kernel matrix multiplies: (n, i), or (n, height, width, i)."""
    if layer.filters is not None:
        height, width, filters = layer.filters.shape
        patches = _patches(x, (height, width), layer.stride)
        fixed = jax.lax.stop_gradient(layer.filters).reshape(-1, filters)
        mixed = jnp.einsum("nhwpc,pf->nhwfc", patches, fixed)
        return mixed.reshape(*mixed.shape[:3], -1)
    if layer.kernel.ndim == 4:
        patches = _patches(x, layer.kernel.shape[:2], layer.stride)
        return patches.reshape(*patches.shape[:3], -1)
    return x.reshape(len(x), -1)


def pre_activations(layer: Layer, x: Array) -> Array:
    """What a layer computes before its ReLU: xK + b, normalised if it has a batch norm."""
    rows, kernel = read(layer, x), as_matrix(layer)
    if rows.shape[-1] != len(kernel):
        raise ValueError(
            f"x has shape {x.shape}, of which a layer reads {rows.shape[-1]} inputs at a time: "
            f"wanted {len(kernel)}, as its kernel {layer.kernel.shape}"
        )
    z = rows @ kernel
    shape = (1,) * (z.ndim - 1) + (-1,)
    if layer.bias is not None:
        z = z + layer.bias.reshape(shape)
    if layer.norm is None:
        return z
    mean, variance, scale, offset = (values.reshape(shape) for values in layer.norm)
    return (z - mean) * jax.lax.rsqrt(variance + EPSILON) * scale + offset


def apply(network: Network, x: Float[Array, "n ..."]) -> tuple[Array, list[Array]]:
    """The logits (n, C), and the features of each hidden layer, (n, c) or (n, height, width, c).

    Args:
        network: Layers, the classifier last.
        x: Inputs (n, d), or images (n, height, width, channels).

    Raises:
        ValueError: If x, or what a layer gives, is not what the next layer reads.
        TypeError: If ``network`` is no list of layers, or x no array.

    Example:
        >>> network = [Layer(jnp.eye(2)), Layer(jnp.ones((2, 1)))]
        >>> logits, features = apply(network, jnp.array([[1.0, -1.0]]))
        >>> logits.tolist(), features[0].tolist()
        ([[1.0]], [[1.0, 0.0]])
    """
    _check_network("network", network)
    x = check_numbers("x", x)
    features = hidden_features(network[:-1], x)
    return pre_activations(network[-1], features[-1] if features else x), features


def hidden_features(layers: Sequence[Layer], x: Array) -> list[Array]:
    """The features after each of these layers, all of which have a ReLU."""
    features = []
    for layer in layers:
        x = jax.nn.relu(pre_activations(layer, x))
        features.append(x)
    return features


def as_rows(features: Float[Array, "n ... c"]) -> Float[Array, "rows c"]:
    """Positions of a convolution as further samples."""
    return features.reshape(-1, features.shape[-1])


@in_full_precision
def pair_moments(
    first: Network,
    second: Network,
    inputs: Float[Array, "n ..."],
    second_inputs: Float[Array, "n ..."] | None = None,
) -> list[Moments]:
    """Moments of each hidden layer's features of two networks, in one pass over the inputs.

    Channels are columns, and positions of a convolution are further samples. See ``procrustes``,
    ``alignment`` and ``cka``.

    Args:
        first: Its features are the features of the moments.
        second: Its features are the targets.
        inputs: (n, ...).
        second_inputs: What the second network reads, sample by sample; None: the same. Other
            samples give the null of an alignment.

    Raises:
        ValueError: If the networks have different depths, or the samples different numbers.
        TypeError: If one is no list of layers.

    Example:
        >>> network = [Layer(jnp.eye(3)), Layer(jnp.ones((3, 1)))]
        >>> (m,) = pair_moments(network, network, jax.random.normal(jax.random.key(0), (20, 3)))
        >>> m.cross_scatter.shape
        (3, 3)
    """
    _check_network("first", first)
    _check_network("second", second)
    if len(first) != len(second):
        raise ValueError(f"second has {len(second)} layers: wanted {len(first)}, as first")
    second_inputs = inputs if second_inputs is None else second_inputs
    if len(second_inputs) != len(inputs):
        raise ValueError(
            f"second_inputs has {len(second_inputs)} samples: wanted {len(inputs)}, as inputs"
        )
    return _pair_moments(list(first), list(second), inputs, second_inputs)


@jax.jit
def _pair_moments(
    first: list[Layer], second: list[Layer], inputs: Array, second_inputs: Array
) -> list[Moments]:
    def sums(batch: tuple[Array, Array]) -> list[Moments]:
        pairs = zip((first, second), batch, strict=True)
        layers = zip(*(hidden_features(layers[:-1], x) for layers, x in pairs), strict=True)
        return [moments(as_rows(a), as_rows(b), pair=True) for a, b in layers]

    return accumulate(sums, (inputs, second_inputs), batch_size=BATCH)


@in_float64
@functools.partial(jax.jit, static_argnames="centred")
def _rotation(
    first: list[Layer], second: list[Layer], inputs: Array, centred: bool
) -> Float[Array, "d k"]:
    """``procrustes`` of the last features of two stacks of hidden layers.

    From the cross moment alone: the scatter of many drawn units would be much larger.
    """

    def sums(x: Array) -> tuple[Array, ...]:
        stacks = (as_rows(hidden_features(layers, x)[-1]) for layers in (first, second))
        a, b = (rows.astype(jnp.float64) for rows in stacks)
        return dot(a.T, b), a.sum(0), b.sum(0), jnp.float64(len(a))

    cross, a, b, count = accumulate(sums, inputs, batch_size=BATCH)
    if centred:
        cross = cross - a[:, None] * b[None] / count
    return polar_factor(cross, method="svd").astype(second[-1].kernel.dtype)


@in_full_precision
def resample(
    key: Array,
    network: Network,
    inputs: Float[Array, "n ..."],
    *,
    layers: Collection[int] | None = None,
    widths: Mapping[int, int] | None = None,
    others: Sequence[Network] = (),
    centred: bool = False,
) -> list[Layer]:
    """Draw a rainbow network: hidden layers with the trained covariances, aligned one by one.

    Layer l is drawn by ``sample_kernel``, with the bias as the weight of a constant input, and
    reads its inputs through the rotation A of the layer before: the drawn features times A come
    nearest to the trained ones on ``inputs``. A batch norm has its mean and variance recomputed on
    them; each drawn unit takes the scale and offset of a random trained one. The classifier is the
    trained one, read through the last rotation.

    Args:
        key: Of ``jax.random``.
        network: The trained layers, the classifier last.
        inputs: (n, ...) on which features are aligned, usually training samples.
        layers: Hidden layers to draw, from 0; the others keep their trained kernels. None: all.
        widths: By layer, units to draw there; by default as many as in the trained network.
        others: Further trained networks of that architecture, whose covariances are averaged with
            the first's, after their features are aligned with its own.
        centred: Whether features are centred before they are aligned.

    Returns:
        The drawn network; ``inputs`` decide it together with the key.

    Raises:
        ValueError: If there is no layer, one is not hidden, ``widths`` names one that is not drawn,
            or ``others`` are of another architecture.
        TypeError: If a network is no list of layers, or ``layers`` and ``widths`` are no list of
            numbers and no mapping.

    Source: Guth et al. (2023), section 2 and its algorithm, with further choices.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (100, 4))
        >>> network = [Layer(jnp.eye(4)), Layer(jnp.ones((4, 2)))]
        >>> drawn = resample(jax.random.key(1), network, x, widths={0: 8})
        >>> [layer.kernel.shape for layer in drawn]
        [(4, 8), (8, 2)]
    """
    _check_kinds(network, layers, widths, others)
    hidden = range(len(network) - 1)
    chosen = set(hidden if layers is None else layers)
    widths = dict(widths or {})
    _check_choice(network, chosen, widths, others)
    turns = [_turns(network, other, inputs, centred) for other in others]
    drawn: list[Layer] = []
    turn = None
    for index in hidden:
        trained, key_here = network[index], jax.random.fold_in(key, index)
        if index in chosen:
            pairs = zip(others, turns, strict=True)
            pool = [trained, *(_read_through(other[index], t[index]) for other, t in pairs)]
            trained = _drawn(key_here, trained, pool, widths.get(index))
        drawn.append(_read_through(trained, turn))
        if trained.norm is not None:
            drawn[-1] = _normalised(drawn, inputs)
        turn = _rotation(drawn, list(network[: index + 1]), inputs, centred)
    return [*drawn, _read_through(network[-1], turn)]


def _turns(network: Network, other: Network, inputs: Array, centred: bool) -> list[Array | None]:
    """For each hidden layer of another network, the rotation of the first's inputs into its own."""
    stacks = ([list(layers[:end]) for layers in (network, other)] for end in range(1, len(network)))
    return [None, *(_rotation(*pair, inputs, centred) for pair in stacks)]


def _drawn(key: Array, trained: Layer, pool: list[Layer], width: int | None) -> Layer:
    """A layer of Gaussian units in the trained coordinates, of the average covariance."""
    outputs = as_matrix(trained).shape[1]
    keys = jax.random.split(key)
    width = outputs if width is None else width
    rows = [as_matrix(layer) for layer in pool]
    if trained.bias is not None:
        biases = [cast("Array", one.bias)[None] for one in pool]
        rows = [jnp.concatenate(pair) for pair in zip(rows, biases, strict=True)]
    kernel, bias = sample_kernel(keys[0], jnp.concatenate(rows, 1), width), None
    if trained.bias is not None:
        kernel, bias = kernel[:-1], kernel[-1]
    norm = trained.norm
    if norm is not None:
        units = jax.random.randint(keys[1], (width,), 0, outputs, jnp.int32)
        norm = BatchNorm(*(values[units] for values in norm))
    kernel = kernel.reshape(*trained.kernel.shape[:-1], width)
    return dataclasses.replace(trained, kernel=kernel, bias=bias, norm=norm)


def _read_through(layer: Layer, turn: Array | None) -> Layer:
    """The layer for other features x of which xA are those that it was made for."""
    if turn is None:
        return layer
    new, old = turn.shape
    at_places = layer.kernel.reshape(-1, old, layer.kernel.shape[-1])
    kernel = jnp.einsum("dc,pco->pdo", turn, at_places, precision="highest")
    if layer.kernel.ndim == 4:
        shape = (*layer.kernel.shape[:2], new, layer.kernel.shape[-1])
    else:
        shape = (kernel.shape[0] * new, layer.kernel.shape[-1])
    return dataclasses.replace(layer, kernel=kernel.reshape(shape))


def _normalised(layers: list[Layer], inputs: Array) -> Layer:
    """The last of some layers, with the mean and variance of its pre-activations on the inputs."""
    layer = layers[-1]
    assert layer.norm is not None
    m = _output_moments([*layers[:-1], dataclasses.replace(layer, norm=None)], inputs)
    mean, variance = (a.astype(layer.kernel.dtype) for a in _mean_and_variance(m))
    norm = layer.norm._replace(mean=mean, variance=variance)
    return dataclasses.replace(layer, norm=norm)


@in_float64
def _mean_and_variance(m: Moments) -> tuple[Array, Array]:
    return m.feature_mean, diagonal(m.feature_scatter) / m.count


@jax.jit
def _output_moments(layers: list[Layer], inputs: Array) -> Moments:
    return accumulate(lambda x: moments(as_rows(apply(layers, x)[0])), inputs, batch_size=BATCH)


def _patches(x: Array, size: Sequence[int], stride: int) -> Array:
    """Patches (n, height, width, p, c) of images, without padding.

    As slices side by side: XLA's gradient of a convolution in a scan is slow on a CPU, see
    ``models/cnn.py``.
    """
    height, width = ((x.shape[axis] - size[axis - 1]) // stride + 1 for axis in (1, 2))
    if min(height, width) < 1:
        raise ValueError(f"x has shape {x.shape}: wanted images of at least {tuple(size)} pixels")
    shifted = [
        x[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
        for i in range(size[0])
        for j in range(size[1])
    ]
    return jnp.stack(shifted, -2)


def _check_network(name: str, network: Any) -> None:
    """Raise ``TypeError`` if something is no list of layers."""
    if not isinstance(network, Sequence):
        raise TypeError(f"{name} is a {type(network).__name__}: wanted a list of Layer")
    for index, layer in enumerate(network):
        check_kind(f"{name}[{index}]", layer, Layer, "Layer(kernel, bias)")


def _check_kinds(network: Any, layers: Any, widths: Any, others: Any) -> None:
    """Raise ``TypeError`` if an argument of ``resample`` is of another kind."""
    _check_network("network", network)
    if not (layers is None or isinstance(layers, Collection)):
        raise TypeError(f"layers is {layers!r}: wanted a list of hidden layers, from 0")
    if not (widths is None or isinstance(widths, Mapping)):
        raise TypeError(f"widths is {widths!r}: wanted units by layer, as {{0: 64}}")
    for index, other in enumerate(others):
        _check_network(f"others[{index}]", other)


def _check_choice(
    network: Network, chosen: set[int], widths: dict[int, int], others: Sequence[Network]
) -> None:
    if not network:
        raise ValueError("network has no layer: wanted its layers, the classifier last")
    hidden = set(range(len(network) - 1))
    if not chosen <= hidden:
        raise ValueError(f"layers is {sorted(chosen)}: wanted some of {sorted(hidden)}, the hidden")
    if not set(widths) <= chosen:
        raise ValueError(f"widths is of layers {sorted(widths)}: wanted some of {sorted(chosen)}")
    wanted = _architecture(network)
    for other in others:
        if (found := _architecture(other)) != wanted:
            raise ValueError(f"others has the layers {found}: wanted {wanted}, as network")


def _architecture(network: Network) -> str:
    """Shape and stride of each layer, and which parts it has beside its kernel."""

    def described(layer: Layer) -> str:
        parts = [part for part in ("bias", "norm", "filters") if getattr(layer, part) is not None]
        parts += [f"stride {layer.stride}"] * (layer.stride != 1)
        return f"{layer.kernel.shape}{' with ' * bool(parts)}{' and '.join(parts)}"

    return ", ".join(map(described, network))
