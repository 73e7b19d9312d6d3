"""One streaming pass over the data: every metric of every linear layer."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from gramlin_jax._measure.measurement import METRICS, LayerSums, Measurement, Metric
from gramlin_jax._measure.stream import replicated, stacks
from gramlin_jax._moments.features import Moments, moments
from gramlin_jax._moments.gradients import GradientMoments, reduce_gradients, run_backward
from gramlin_jax.metrics.linearity import undefined_because
from gramlin_jax.support.checks import check_leading_axis
from gramlin_jax.support.precision import in_float64
from gramlin_jax.taps import Layers, Program, Site, Static, partition, tap
from gramlin_jax.taps.rows import sample_axes, samples_first

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class Features(NamedTuple):
    """How a site's features become rows with a target each.

    Attributes:
        axis: The row axis that counts samples.
        width: Columns before any projection.
        rule: ``tokens`` are samples, positions side by side (``flatten``), or their ``mean``.
    """

    axis: int
    width: int
    rule: str


class _Pass(NamedTuple):
    """All that is not an array; hashable, so that a second call finds the compiled function."""

    f: Callable[..., Any]
    static: Static
    loss: Callable[[Any, Any], Any]
    outputs: Callable[[Any], Any] | None
    features: tuple[tuple[str, Features | str], ...] = ()


def measure(
    f: Callable[..., PyTree],
    params: PyTree,
    batches: tuple[PyTree, Array] | Iterable[tuple[PyTree, Array]],
    *,
    loss: Callable[[Any, Array], Array],
    outputs: Callable[[Any], Array] | None = None,
    metrics: Sequence[str] | Mapping[str, Metric] = tuple(METRICS),
    layers: Sequence[str] | None = None,
    learning_rate: float = 0.01,
    batch_size: int = 1024,
    positions: Literal["flatten", "mean"] = "flatten",
    width_limit: int = 1024,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> Measurement:
    """All metrics of all linear layers of ``f(params, x)``, in one pass over the samples.

    Each batch goes forward and backward once and is reduced to sums (``Moments``,
    ``GradientMoments``) in the same compiled function: memory is O(width²) a layer, whatever the
    number of samples. Features are what a layer reads; for an activation that is named by
    ``jax.ad_checkpoint.checkpoint_name``, the activation. A second call with the same functions
    (the same objects) and shapes compiles nothing.

    Args:
        f: ``f(params, x) -> output``, any JAX function, in evaluation mode.
        params: Its parameters, a pytree.
        batches: A pair of arrays (x, y), read in slices of ``batch_size``, or an iterable of such
            pairs. x may be a pytree of arrays (n, ...). y are integer labels (n,), or
            (n, *positions) with a label a token; or real targets (n, ...).
        loss: ``(output, y) -> L``, a scalar, the mean over samples that a training step descends.
        outputs: ``output -> logits`` (n, *positions, classes), needed for integer labels where f
            does not return a single array.
        metrics: Names out of ``METRICS``, or scalar JAX functions of ``LayerSums`` by name.
        layers: Names of those to measure, as ``find_layers`` has them; None: all. Of the others no
            sums are made: a language model's head has one of classes × classes.
        learning_rate: η of the virtual covariance, and of the step that it is compared with.
        batch_size: Samples a slice; only speed and memory depend on it.
        positions: What becomes of shared positions (pixels, tokens) where a sample has one target:
            all side by side, or their mean. With a label a token, tokens are the samples, in the
            order in which the layer reads them.
        width_limit: Wider features are reduced to this width by a seeded random projection, which
            can lower target linearity but not raise it; ``notes`` say where.
        seed: Of that projection.
        mesh: Devices along whose first axis samples are spread; None: where the arrays are.

    Raises:
        ValueError: If there are no samples, batches change their structure, labels are outside of
            the classes, an argument is out of range, or as ``tap``.
        TypeError: If ``batches`` are not pairs.

    Example:
        >>> f = lambda params, x: jnp.tanh(x @ params["in"]) @ params["out"]
        >>> params = {"in": jnp.ones((3, 5)), "out": jnp.ones((5, 2))}
        >>> x, y = jax.random.normal(jax.random.key(0), (50, 3)), jnp.arange(50) % 2
        >>> m = measure(f, params, (x, y), loss=lambda out, y: optax.losses.
        ...     softmax_cross_entropy_with_integer_labels(out, y).mean())
        >>> m.layers, sorted(m["out"])[:2]
        (('in', 'out'), ['adjusted', 'gradient_norm'])
    """
    for name, value in (("batch_size", batch_size), ("width_limit", width_limit)):
        if value < 1:
            raise ValueError(f"{name} is {value}: wanted at least 1")
    if positions not in ("flatten", "mean"):
        raise ValueError(f"positions is {positions!r}: wanted 'flatten' or 'mean'")
    chosen = _chosen(metrics)
    arrays, static = partition(params)
    if mesh is not None:  # axes that the compiler shards by itself, whatever the caller's are
        mesh = Mesh(mesh.devices, mesh.axis_names)
    arrays = replicated(arrays, mesh)
    pieces = stacks(batches, batch_size, mesh)
    first = next(pieces, None)
    if first is None:
        raise ValueError("batches is empty: wanted one pair (x, y) or more")
    x, y = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), first)
    found, features = _plan(_Pass(f, static, loss, outputs), arrays, x, y, positions)
    features = _picked(features, layers)
    settings = _Pass(f, static, loss, outputs, tuple(features.items()))
    features = _check_samples(settings, arrays, jax.tree.map(lambda a: a[0], first[0]))
    settings = settings._replace(features=tuple(features.items()))
    projections = replicated(_projections(features, width_limit, seed), mesh)
    total = None
    for xs, ys in itertools.chain([first], pieces):
        part = _sum(settings, arrays, projections, xs, ys)
        total = part if total is None else _add(total, part)
    kernels = _kernels(settings, arrays, jax.tree.map(lambda a: a[0], first[0]))
    return _finish(found, features, total, kernels, chosen, learning_rate, width_limit)


def _chosen(metrics: Sequence[str] | Mapping[str, Metric]) -> dict[str, Metric]:
    if isinstance(metrics, Mapping):
        return dict(metrics)
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ValueError(f"metrics has {unknown}: wanted names out of {', '.join(METRICS)}")
    return {name: METRICS[name] for name in metrics}


def _picked(
    features: dict[str, Features | str], layers: Sequence[str] | None
) -> dict[str, Features | str]:
    if layers is None:
        return features
    unknown = [name for name in layers if name not in features]
    if unknown or not layers or isinstance(layers, str):
        raise ValueError(f"layers is {layers!r}: wanted names out of {', '.join(features)}")
    return {name: how for name, how in features.items() if name in layers}


def _plan(
    settings: _Pass, arrays: list[Any], x: PyTree, y: Any, positions: str
) -> tuple[Layers, dict[str, Features | str]]:
    """The sites, and for each how its features become rows, or why they cannot."""
    n, traced = check_leading_axis("x", x), []

    def taps(arrays: list[Any], x: PyTree) -> dict[str, Array]:
        program = Program(settings.f, settings.static.combine(arrays), (x,), {})
        traced.append(program.layers)
        return {name: tap.features for name, tap in program({}, {})[1].items()}

    shapes = jax.eval_shape(taps, arrays, x)
    (layers,) = traced
    if not layers.sites:
        raise ValueError(f"f has no linear layer that is tapped:\n{layers}")
    axes = sample_axes(settings.f, settings.static.combine(arrays), (x,), layers)
    tokens = math.prod(y.shape[1:]) if _is_labels(y) else 1
    features: dict[str, Features | str] = {}
    for name, site in layers.sites.items():
        axis, shape = axes[name], shapes[name].shape
        if isinstance(axis, str):
            features[name] = f"features not measured: {axis}"
            continue
        channels = math.prod(site.stack[site.layers :]) * shape[-1]
        each = math.prod(shape) // (math.prod(site.stack[: site.layers]) * n * channels)
        if tokens > 1 and each != tokens:
            features[name] = f"features not measured: {each} positions a sample, {tokens} labels"
        elif tokens > 1:
            features[name] = Features(axis, channels, "tokens")
        else:
            mean = positions == "mean"
            features[name] = Features(axis, channels * (1 if mean else each), positions)
    return layers, features


def _check_samples(settings: _Pass, arrays: list[Any], x: PyTree) -> dict[str, Features | str]:
    """``settings.features``, with a reason for those whose rows do not follow their samples."""
    follow = jax.device_get(_follow_samples(settings, arrays, x))
    reason = (
        "features not measured: they do not follow when samples change places (positions are the "
        "slow index of a merged axis, or f is random)"
    )
    return {name: how if follow.get(name, True) else reason for name, how in settings.features}


@functools.partial(jax.jit, static_argnames="settings")
def _follow_samples(settings: _Pass, arrays: list[Any], x: PyTree) -> dict[str, Array]:
    """By site, whether the rows of all samples move by one as the samples do."""
    n, tapped = check_leading_axis("x", x), tap(settings.f)
    params, moved = settings.static.combine(arrays), (jnp.arange(n) - 1) % n
    here = tapped(params, x)[1]
    there = tapped(params, jax.tree.map(lambda a: jnp.asarray(a)[moved], x))[1]
    layers = Program(settings.f, params, (x,), {}).layers
    follow = {}
    for name, how in settings.features:
        if isinstance(how, Features):
            site = layers.sites[name]
            a, b = (samples_first(t[name].features, site, how.axis, n) for t in (here, there))
            a = jnp.take(a, moved, axis=len(site.stack))
            follow[name] = ~(jnp.abs(a - b).max() > 1e-2 * jnp.abs(a).max())  # NaN is none
    return follow


def _is_labels(y: Any) -> bool:
    return not jnp.issubdtype(y.dtype, jnp.floating)


def _projections(features: Mapping[str, Features | str], limit: int, seed: int) -> dict[str, Array]:
    """Random maps (width, limit) of features that are wider than the limit."""
    maps = {}
    for index, (name, how) in enumerate(features.items()):
        if isinstance(how, Features) and how.width > limit:
            key = jax.random.fold_in(jax.random.key(seed), index)
            maps[name] = jax.random.normal(key, (how.width, limit), jnp.float32) / limit**0.5
    return maps


@functools.partial(jax.jit, static_argnames="settings")
def _sum(
    settings: _Pass, arrays: list[Any], projections: dict[str, Array], xs: PyTree, ys: Array
) -> dict[str, Any]:
    """The sums over a stack of batches (batches, n, ...), in one scan."""

    def step(total: Any, batch: Any) -> tuple[Any, None]:
        return _add(total, _sum_batch(settings, arrays, projections, *batch)), None

    first = jax.tree.map(lambda a: a[0], (xs, ys))
    shapes = jax.eval_shape(lambda: _sum_batch(settings, arrays, projections, *first))
    return lax.scan(step, _zeros(shapes), (xs, ys))[0]


@in_float64
def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


@jax.jit
@in_float64
def _add(a: PyTree, b: PyTree) -> PyTree:
    def of_layer(x: Any, y: Any) -> Any:
        stacked = isinstance(x, Moments) and x.count.ndim
        return jax.vmap(Moments.__add__)(x, y) if stacked else x + y

    return jax.tree.map(of_layer, a, b, is_leaf=lambda leaf: isinstance(leaf, Moments))


def _sum_batch(
    settings: _Pass, arrays: list[Any], projections: dict[str, Array], x: PyTree, y: Array
) -> dict[str, Any]:
    """Everything that is kept of a batch; all of it adds."""
    n = check_leading_axis("x", x)
    program = Program(settings.f, settings.static.combine(arrays), (x,), {})
    passed = run_backward(program, lambda output: settings.loss(output, y))
    targets, correct, inside = _targets(settings, passed.output, y)
    of_features = {
        name: _feature_moments(
            passed.taps[name].features,
            program.layers.sites[name],
            how,
            targets,
            projections.get(name),
        )
        for name, how in settings.features
        if isinstance(how, Features)
    }
    numbers: dict[str, Any] = {"count": n, "labels": y.size if _is_labels(y) else 0}
    numbers |= {"loss": _times(n, passed.loss), "correct": correct, "inside": inside}
    return {
        "numbers": {name: _as_float64(value) for name, value in numbers.items()},
        "moments": of_features,
        "gradients": reduce_gradients(passed, n, {name for name, _ in settings.features}),
    }


@in_float64
def _times(n: int, loss: Array) -> Array:
    return n * loss.astype(jnp.float64)


@in_float64
def _as_float64(value: Any) -> Array:
    return jnp.asarray(value).astype(jnp.float64)


def _targets(settings: _Pass, output: Any, y: Array) -> tuple[Array, Any, Any]:
    """Targets (n, k) or (n, tokens, k), correct predictions, and labels that name a class."""
    if not _is_labels(y):
        return y.reshape(len(y), -1), 0, 0
    logits = output if settings.outputs is None else settings.outputs(output)
    if not isinstance(logits, jax.Array) or logits.shape[:-1] != y.shape:
        raise ValueError(
            f"outputs gives {jax.tree.map(jnp.shape, logits)} for labels y {y.shape}: wanted an "
            f"array ({', '.join(map(str, y.shape))}, classes); name it by outputs=lambda out: …"
        )
    one_hot = jax.nn.one_hot(y, logits.shape[-1], dtype=jnp.float32)
    targets = one_hot.reshape(len(y), -1, logits.shape[-1])
    correct = (logits.argmax(-1) == y).sum()
    inside = ((y >= 0) & (y < logits.shape[-1])).sum()
    return (targets[:, 0] if y.ndim == 1 else targets), correct, inside


def _feature_moments(
    features: Array, site: Site, how: Features, targets: Array, projection: Array | None
) -> Moments:
    """Moments of a site's features, stacked (layers,) where a scan stacks layers."""
    n, stack = len(targets), len(site.stack)
    h = samples_first(features, site, how.axis, n)  # (*layers, *groups, n, positions, channels)
    groups = range(site.layers, stack)
    h = jnp.moveaxis(h, groups, range(-1 - len(groups), -1))
    h = h.reshape(*h.shape[: site.layers + 2], math.prod(h.shape[site.layers + 2 :]))

    def of_layer(h: Array) -> Moments:
        if how.rule == "tokens":
            y, h = targets.reshape(-1, targets.shape[-1]), h.reshape(-1, h.shape[-1])
        else:
            y, h = targets, h.mean(1) if how.rule == "mean" else h.reshape(n, -1)
        if projection is not None:
            h = lax.dot(h, projection.astype(h.dtype), precision="highest")
        return moments(h, y)

    if not site.layers:
        return of_layer(h)
    return jax.vmap(of_layer)(h.reshape(-1, *h.shape[site.layers :]))


@functools.partial(jax.jit, static_argnames="settings")
def _kernels(settings: _Pass, arrays: list[Any], x: PyTree) -> dict[str, Array]:
    """The effective kernels, float32 at least; nothing that depends on x is computed."""
    program = Program(settings.f, settings.static.combine(arrays), (x,), {})
    kernels = {name: tap.kernel for name, tap in program({}, {})[1].items()}
    return {
        name: kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
        for name, kernel in kernels.items()
        if kernel is not None and name in dict(settings.features)
    }


def _finish(
    layers: Layers,
    features: Mapping[str, Features | str],
    total: Any,
    kernels: dict[str, Array],
    metrics: dict[str, Metric],
    learning_rate: float,
    width_limit: int,
) -> Measurement:
    """Metrics of each layer, those that a scan stacks by themselves, from all sums."""
    total, kernels = jax.device_get((total, kernels))  # float64, and of no device
    numbers = {name: float(value) for name, value in total["numbers"].items()}
    if numbers["inside"] != numbers["labels"]:
        raise ValueError(
            f"y has {numbers['labels'] - numbers['inside']:.0f} labels of {numbers['labels']:.0f} "
            "that name none of the classes of the outputs: wanted 0 to classes - 1"
        )
    sums: dict[str, LayerSums] = {}
    notes: list[tuple[str, str]] = []
    for name, how in features.items():
        site = layers.sites[name]
        note = _note(how, width_limit)
        parts = total["moments"].get(name), kernels.get(name), total["gradients"].get(name)
        for label, part in _unstacked(name, site, *parts):
            sums[label] = LayerSums(*part, learning_rate, _reads_rows(site, how, width_limit))
            notes += [(label, note)] if note else []
    chosen = tuple(metrics.items())
    values = {label: jax.device_get(_evaluate(layer, chosen)) for label, layer in sums.items()}
    for label, value in values.items():
        if np.isnan(value.get("target_linearity", 0)) and sums[label].moments is not None:
            reason = undefined_because(sums[label].moments)
            notes.append((label, f"target linearity is not defined: {reason}"))
    return Measurement(
        metrics={label: {k: float(v[k]) for k in metrics} for label, v in values.items()},
        sums=sums,
        loss=numbers["loss"] / numbers["count"],
        accuracy=numbers["correct"] / numbers["labels"] if numbers["labels"] else math.nan,
        count=numbers["count"],
        notes=tuple(notes),
        coverage=str(layers),
    )


def _reads_rows(site: Site, how: Features | str, width_limit: int) -> bool:
    """Whether the kernel multiplies the features as they were measured."""
    dense = site.primitive == "dot_general" and len(site.stack) == site.layers
    return dense and isinstance(how, Features) and site.fan_in == how.width <= width_limit


def _note(features: Features | str, width_limit: int) -> str:
    if isinstance(features, str):
        return features
    wider = features.width > width_limit
    return f"{features.width} features, projected to {width_limit}" if wider else ""


def _unstacked(
    name: str, site: Site, moments: Any, kernel: Any, gradients: Any
) -> Iterator[tuple[str, tuple[Any, Any, Any]]]:
    """The layers that a scan stacks, one by one."""
    shape = site.stack[: site.layers]
    if not shape:
        yield name, (moments, kernel, gradients)
        return
    for flat, index in enumerate(np.ndindex(shape)):
        label = f"{name}[{', '.join(map(str, index))}]"
        of_layer = jax.tree.map(lambda a: a[flat], moments)  # noqa: B023
        if kernel is None:
            yield label, (of_layer, None, None)
            continue
        blocks = gradients.kernel_sum[index], gradients.output_sum[index]
        yield label, (of_layer, kernel[index], GradientMoments(gradients.count, *blocks))


@in_float64
@functools.partial(jax.jit, static_argnames="metrics")
def _evaluate(layer: LayerSums, metrics: tuple[tuple[str, Metric], ...]) -> dict[str, Array]:
    """All metrics of a layer in one program, which layers of one shape share."""
    return {name: jnp.asarray(metric(layer), jnp.float64) for name, metric in metrics}
