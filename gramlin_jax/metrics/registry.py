"""What ``measure`` can compute of a layer: one entry a metric.

To add a metric, write a function of ``LayerSums`` and an entry in ``METRICS``: ``measure`` makes
the sums that the entry needs, the table has a column for it, and nothing else is edited.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gramlin_jax.metrics.ansatz import ansatz_exponent, nfa_correlation
from gramlin_jax.metrics.collapse import neural_collapse
from gramlin_jax.metrics.frames import all_identity, isotropy
from gramlin_jax.metrics.health import (
    attention_entropy,
    dead_units,
    feature_rank,
    frobenius,
    gradient_noise,
    relative_feature_change,
    relative_update,
)
from gramlin_jax.metrics.layer_sums import EVERYTHING, LayerSums, Need
from gramlin_jax.metrics.linearity import (
    noise_floor,
    surrogate,
    target_linearity,
    target_linearity_adjusted,
)
from gramlin_jax.metrics.representation import RepresentationAlignments, representation_alignments
from gramlin_jax.metrics.spectra import spectral_entropy, spectrum, stable_rank
from gramlin_jax.metrics.stationarity import fact
from gramlin_jax.metrics.virtual import expanded, virtual_alignment, virtual_covariance
from gramlin_jax.support.linalg import matmul
from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, Bool

Direction: TypeAlias = Literal["higher", "lower"] | None
# Ranges of values.
EVERY, SHARE, COSINE = (-np.inf, np.inf), (0.0, 1.0), (-1.0, 1.0)
POSITIVE, AT_MOST_1, AT_LEAST_1 = (0.0, np.inf), (-np.inf, 1.0), (1.0, np.inf)


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric of a layer.

    Attributes:
        name: Its key in ``measurement[layer]``.
        head: Column head in the table, ten characters at most.
        needs: What it is computed from; ``measure`` makes the sums for that, and where a layer
            lacks some of it the value is NaN. ``"features"`` are moments; ``"rows"`` moments of the
            very rows that the kernel multiplies; ``"all_rows"`` of all of these, as ΔᵀΔ is, not of
            their means over positions or of one position; ``"classes"`` moments with one-hot
            targets; ``"kernel_gradient"`` ∇_K L; ``"output_gradients"`` ΔᵀΔ;
            ``"sample_gradients"`` Σ ‖∇_K ℓ‖² (name ``"features"`` too); ``"jacobians"`` the moments
            of ∂f/∂z; ``"attention"`` ``AttentionMoments``. A metric that names no needs gets all
            sums but ``"sample_gradients"`` and ``"jacobians"``, and is asked at every layer.
        function: ``LayerSums -> scalar``, a JAX function.
        direction: Which values say more of what the metric is named for; None: neither.
        range: Least and largest value.
    """

    name: str
    head: str
    needs: frozenset[Need]
    function: Callable[[LayerSums], Any]
    direction: Direction = None
    range: tuple[float, float] = EVERY

    @in_float64
    def __call__(self, layer: LayerSums) -> Array:
        """The value at a layer, float64; NaN where the layer lacks what is needed."""
        there = all(layer.has(need) for need in self.needs)
        return jnp.asarray(self.function(layer) if there else np.nan, jnp.float64)


def chosen_metrics(
    metrics: Iterable[str] | Mapping[str, Metric | Callable[[LayerSums], Any]],
) -> tuple[Metric, ...]:
    """The metrics of these names, or entries and plain functions by the names that they get.

    Raises:
        ValueError: If a name is not in ``METRICS``.
        TypeError: If these are no names, and no mapping to metrics or functions.
    """
    if not isinstance(metrics, Mapping):
        if isinstance(metrics, str) or not isinstance(metrics, Iterable):
            raise TypeError(
                f"metrics is {metrics!r}: wanted a list of names, or a mapping from them"
            )
        metrics = tuple(metrics)
        if unknown := [name for name in metrics if name not in METRICS]:
            raise ValueError(f"metrics has {unknown}: wanted names out of {', '.join(METRICS)}")
        return tuple(METRICS[name] for name in metrics)
    for name, metric in metrics.items():
        if not callable(metric):
            kind = type(metric).__name__
            raise TypeError(f"metrics[{name!r}] is a {kind}: wanted a function of LayerSums")
    return tuple(
        dataclasses.replace(metric, name=name)
        if isinstance(metric, Metric)
        else Metric(name, name, frozenset(), metric)
        for name, metric in metrics.items()
    )


def needs_of(metrics: Iterable[Metric]) -> frozenset[Need]:
    """What has to be summed for these metrics."""
    return frozenset[Need]().union(*(metric.needs or EVERYTHING for metric in metrics))


OF_J: tuple[Need, ...] = ("kernel", "jacobians")
VIRTUAL: tuple[Need, ...] = ("kernel", "kernel_gradient", "output_gradients")


def _virtual(layer: LayerSums) -> Array:
    return virtual_covariance(layer.kernel, layer.gradients, layer.learning_rate)


def _virtual_share(layer: LayerSums) -> Array:
    kernel = jnp.asarray(layer.kernel, jnp.float64)
    return frobenius(_virtual(layer)) / frobenius(matmul(kernel, jnp.swapaxes(kernel, -1, -2)))


def _virtual_alignment(layer: LayerSums) -> Array:
    """For one step of gradient descent. Groups of a convolution are blocks of one Gram."""
    kernel, gradient = jnp.asarray(layer.kernel, jnp.float64), layer.gradients.kernel_gradient
    transposed = jnp.swapaxes(gradient, -1, -2)
    products = matmul(kernel, transposed), matmul(gradient, transposed)
    change = expanded(*products, layer.learning_rate).reshape(-1, kernel.shape[-2])
    return virtual_alignment(change, _virtual(layer).reshape(change.shape))


def _over_stack(function: Callable[..., Any], *parts: Any) -> Array:
    """The mean of a metric of matrices over groups of a convolution or heads, if there are any."""
    for _ in range(jnp.ndim(parts[0]) - 2):
        function = jax.vmap(function)
    return jnp.mean(function(*parts))


def _fact(layer: LayerSums) -> Array:
    """The cosine needs no weight decay: that is a factor of one side."""

    def of_one(kernel: Array, kernel_sum: Array) -> Array:
        gradients = dataclasses.replace(layer.gradients, kernel_sum=kernel_sum, output_sum=None)
        return fact(kernel, gradients, 1.0).cosine

    return _over_stack(of_one, layer.kernel, layer.gradients.kernel_sum)


def _alignment(name: str) -> Callable[[LayerSums], Any]:
    def of(layer: LayerSums) -> Any:
        found = representation_alignments(layer.moments, layer.kernel, layer.gradients)
        return getattr(found, name)

    return of


def _width(layer: LayerSums) -> Array:
    mean = layer.moments.feature_mean
    return jnp.asarray(mean.shape[-1], mean.dtype)


def _target_rank(layer: LayerSums) -> Array:
    """Directions of the targets at most: columns that vary, which sum to 1 for labels."""
    squares = layer.moments.target_scatter
    rank = jnp.maximum((squares > 0).sum() - layer.classes, 0)
    return jnp.where(jnp.isnan(squares).any(), jnp.nan, rank)


def _of_jacobians(function: Callable[[Array, Array], Any]) -> Callable[[LayerSums], Any]:
    """A metric of kernel and J; NaN where J is the same whatever the network learns."""

    def of(layer: LayerSums) -> Array:
        value = _over_stack(function, layer.kernel, layer.jacobians.mean)
        return jnp.where(_says_nothing(layer), jnp.nan, value)

    return of


def _says_nothing(layer: LayerSums) -> Bool[Array, ""]:
    """Whether J is the same whatever is learnt."""
    # The last of the layers that a scan stacks is known by its J alone.
    return layer.fixed_jacobian | all_identity(layer.jacobians)


def no_ansatz_because(layer: LayerSums) -> str:
    """Why the neural feature ansatz means nothing at a layer; empty where it does."""
    if layer.kernel is None or layer.jacobians is None:
        return ""
    if np.shape(layer.kernel)[-1] == 1:
        return "the layer has one output, so both sides are multiples of one matrix"
    if _says_nothing(layer):
        return "the layer is the last linear one, where J is the same whatever it learns"
    part = "layer" if np.ndim(layer.kernel) == 2 else "layer, or one of its groups or heads"
    if not np.any(layer.kernel, (-2, -1)).all():
        return f"the kernel of the {part} is zero"
    if not np.any(layer.jacobians.products, (-2, -1)).all():
        return f"the outputs do not depend on the {part}"
    return ""


def _entry(
    name: str,
    head: str,
    needs: Iterable[Need],
    function: Callable[[LayerSums], Any],
    range: tuple[float, float] = EVERY,
    direction: Direction = None,
) -> tuple[str, Metric]:
    return name, Metric(name, head, frozenset(needs), function, direction, range)


# What tells whether a layer can learn.
HEALTH = (
    _entry(
        "relative_update",
        "‖ΔK‖/‖K‖",
        ["kernel", "kernel_gradient"],
        lambda layer: relative_update(layer.kernel, layer.gradients, layer.learning_rate),
        POSITIVE,
    ),
    _entry(
        "relative_feature_change",
        "‖Δz‖/‖z‖",
        ["rows", "kernel", "kernel_gradient"],
        lambda layer: relative_feature_change(
            layer.moments, layer.kernel, layer.gradients, layer.learning_rate
        ),
        POSITIVE,
    ),
    _entry(
        "dead_units",
        "dead",
        ["output_gradients"],
        lambda layer: dead_units(layer.gradients),
        SHARE,
        "higher",
    ),
    _entry(
        "gradient_noise",
        "noise ∇L",
        ["features", "kernel_gradient", "sample_gradients"],
        lambda layer: gradient_noise(layer.gradients),
        POSITIVE,
        "higher",
    ),
    _entry(
        "feature_rank",
        "rank H",
        ["features"],
        lambda layer: feature_rank(layer.moments),
        POSITIVE,
        "higher",
    ),
    _entry("rows", "rows", ["features"], lambda layer: layer.moments.count, POSITIVE),
    _entry("width", "width", ["features"], _width, POSITIVE),
    _entry("target_rank", "rank Y", ["features"], _target_rank, POSITIVE),
    _entry(
        "stable_rank",
        "s. rank K",
        ["kernel"],
        lambda layer: _over_stack(lambda k: stable_rank(spectrum(k)), layer.kernel),
        AT_LEAST_1,
        "higher",
    ),
    _entry(
        "spectral_entropy",
        "entropy K",
        ["kernel"],
        lambda layer: _over_stack(lambda k: spectral_entropy(spectrum(k)), layer.kernel),
        SHARE,
        "higher",
    ),
    _entry(
        "attention_entropy",
        "entropy QK",
        ["attention"],
        lambda layer: attention_entropy(layer.attention),
        SHARE,
        "higher",
    ),
)

METRICS: dict[str, Metric] = dict(
    (
        _entry(
            "target_linearity",
            "TL",
            ["features"],
            lambda layer: target_linearity(layer.moments),
            SHARE,
            "higher",
        ),
        _entry(
            "adjusted",
            "adj. TL",
            ["features"],
            lambda layer: target_linearity_adjusted(layer.moments),
            AT_MOST_1,
            "higher",
        ),
        _entry(
            "noise_floor", "floor", ["features"], lambda layer: noise_floor(layer.moments), SHARE
        ),
        _entry(
            "surrogate",
            "surrogate",
            ["rows", "kernel"],
            lambda layer: surrogate(layer.moments, layer.kernel, normalized=True),
            SHARE,
            "higher",
        ),
        _entry("kernel_norm", "‖K‖", ["kernel"], lambda layer: frobenius(layer.kernel), POSITIVE),
        _entry(
            "gradient_norm",
            "‖∇L‖",
            ["kernel_gradient"],
            lambda layer: frobenius(layer.gradients.kernel_gradient),
            POSITIVE,
        ),
        _entry("virtual_share", "VC/Gram", VIRTUAL, _virtual_share, POSITIVE),
        _entry("virtual_alignment", "cos(ΔG,VC)", VIRTUAL, _virtual_alignment, COSINE, "higher"),
        _entry(
            "nc1",
            "NC1",
            ["classes"],
            lambda layer: neural_collapse(layer.moments).nc1,
            POSITIVE,
            "lower",
        ),
        *HEALTH,
        _entry("fact", "FACT", ["kernel", "kernel_gradient"], _fact, COSINE, "higher"),
        *(
            _entry(
                name,
                f"{name[:3].upper()} {name[4:]}",
                ["all_rows", "kernel", "kernel_gradient", "output_gradients"],
                _alignment(name),
                SHARE,
                "higher",
            )
            for name in RepresentationAlignments._fields
        ),
        _entry("nfa", "NFA", OF_J, _of_jacobians(nfa_correlation), SHARE, "higher"),
        _entry(
            "isotropy",
            "isotropy",
            OF_J,
            _of_jacobians(lambda kernel, j: isotropy(j).cosine),
            SHARE,
            "higher",
        ),
        _entry(
            "range_isotropy",
            "iso. range",
            OF_J,
            _of_jacobians(lambda kernel, j: isotropy(j, kernel).cosine),
            SHARE,
            "higher",
        ),
        _entry(
            "ansatz_exponent",
            "exponent",
            OF_J,
            _of_jacobians(lambda kernel, j: ansatz_exponent(kernel, j).alpha),
        ),
    )
)

# What ``measure`` computes unless told otherwise: the entries before NC1.
DEFAULT = tuple(itertools.takewhile(lambda name: name != "nc1", METRICS))
# What ``diagnose`` reads.
DIAGNOSTIC = (
    *("target_linearity", "noise_floor", "rows", "gradient_norm", "kernel_norm"),
    *("relative_update", "dead_units", "feature_rank", "target_rank", "width"),
)
