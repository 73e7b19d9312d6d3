"""``measure``: one streaming pass over the data, every metric of every linear layer."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
from jax.sharding import Mesh

from gramlin_jax._measure.batch import Losses, refuse_unknown, scoring, summing
from gramlin_jax._measure.beside import penalties, stopped
from gramlin_jax._measure.finish import measured
from gramlin_jax._measure.forecast import forecast
from gramlin_jax._measure.measurement import Measurement
from gramlin_jax._measure.plan import (
    Options,
    check_options,
    first_of,
    for_size,
    inner_shapes,
    is_of,
    make_plan,
    plan_for,
    projections_of,
)
from gramlin_jax._measure.stream import Batch, Reader, shown, stacks
from gramlin_jax._measure.tracing import Tracing, program
from gramlin_jax._measure.trial import constants, not_a_mean, try_loss
from gramlin_jax._moments.additive import accumulate
from gramlin_jax.metrics.layer_sums import OF_GRADIENTS, LayerSums
from gramlin_jax.metrics.registry import DEFAULT, Metric, chosen_metrics, needs_of
from gramlin_jax.support.checks import check_concrete, check_count, check_function
from gramlin_jax.support.devices import on_host, placed, placement
from gramlin_jax.support.memory import remembered
from gramlin_jax.support.precision import in_full_precision, widened, with_promotion
from gramlin_jax.taps import Traced

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


@with_promotion
@in_full_precision
def measure(
    f: Callable[..., PyTree],
    params: PyTree,
    batches: tuple[PyTree, ...] | Iterable[Any],
    *,
    loss: Callable[..., Array],
    inputs: Callable[[Any], PyTree] | None = None,
    outputs: Callable[[Any], Array] | None = None,
    targets: Callable[[Any], Array] | None = None,
    weights: Callable[[Any], Array] | None = None,
    ignore_label: int | None = None,
    metrics: Sequence[str] | Mapping[str, Metric | Callable[[LayerSums], Any]] = DEFAULT,
    layers: Sequence[str] | None = None,
    learning_rate: float = 0.01,
    batch_size: int = 1024,
    positions: Literal["flatten", "mean"] | int = "flatten",
    width_limit: int = 1024,
    probes: int | None = None,
    seed: int = 0,
    mesh: Mesh | None = None,
    data_axes: str | tuple[str, ...] | None = None,
    dry_run: bool = False,
    progress: bool = True,
) -> Measurement:
    """All metrics of all linear layers of ``f(params, x)``, in one pass over the samples.

    Each batch goes forward and backward once and is reduced to sums (``Moments``,
    ``GradientMoments``) in the same compiled function: memory is O(width²) per layer, whatever the
    number of samples. A layer's features are its inputs; the features of an activation named by
    ``jax.ad_checkpoint.checkpoint_name`` are the activation itself.

    Products of float32 stay float32 on accelerators too, also inside ``f``, so that all devices
    give the same numbers. Within ``jax.default_matmul_precision("default")`` a GPU or TPU rounds
    their factors, as it does in training: that is faster, and can change a gradient's norm by a
    percent.

    The first call traces ``f`` twice; a batch of another size traces it once more. A later call
    with the same ``f`` and shapes neither traces nor compiles it again, as long as the Python
    numbers that ``f`` reads from around it are the same. If ``f`` closes over arrays, each call
    traces it, to see their present values. Each call also traces ``loss`` and ``outputs``, and
    compiles anew where these have changed.

    Args:
        f: ``f(params, x) -> output``, any JAX function, in evaluation mode.
        params: Its parameters, a pytree.
        batches: A tuple of arrays, a pair (x, y) or a triple (x, y, weights), read in slices of
            ``batch_size``; or an iterable of such pairs or triples, or with ``inputs`` of
            anything. Arrays may be NumPy's, JAX's, tensors, frames or lists of numbers; x a pytree
            of arrays (n, ...). y holds integer labels (n,), or (n, *positions) with one label per
            token; or real targets (n, ...). Batches may differ in size, and in length where
            ``positions`` is not ``"flatten"``.
        loss: ``(output, y) -> L``, a scalar, the mean over samples that a training step descends;
            or ``(output, y, weights) -> L``, the mean over weights. With ``inputs``, y is the
            whole batch.
        inputs: ``batch -> x``, where a batch is no tuple.
        outputs: ``output -> logits`` (n, *positions, classes), needed for integer labels where f
            does not return a single array. One logit is that of class 1 of two.
        targets: ``batch -> labels or real targets``, where y is something else.
        weights: ``batch -> weights`` (n,) or (n, *positions) ≥ 0, how often a sample or a label
            counts in loss, accuracy and moments; 0 masks padding.
        ignore_label: Labels of this value do not count (−100 by Hugging Face's convention).
        metrics: Names from ``METRICS``; or a mapping from names to ``Metric`` entries, which say
            what they need, or to scalar JAX functions of ``LayerSums``, which get all sums. Only
            the sums that are needed are made.
        layers: Names of the layers to measure, as ``find_layers`` lists them; None: all. For the
            others no sums are made: a language model's head would need (classes, classes).
        learning_rate: η of the virtual covariance, and of the step that it is compared with.
        batch_size: Samples per slice; only speed and memory depend on it.
        positions: What becomes of shared positions (pixels, tokens) where a sample has one target:
            ``"flatten"`` puts them side by side, ``"mean"`` averages them, an integer picks one.
            With a label per token, tokens are the samples; which row is which token is tried out
            on the first batch, and where that is not clear the features are not measured.
        width_limit: Wider features are reduced to this width by a random projection, which can
            lower target linearity but not raise it; ``notes`` say where.
        probes: How many random combinations of the outputs stand for them in metrics of Jacobians,
            at one backward pass each, see ``jacobian_moments``; None: all outputs.
        seed: Seed of that projection, and of the probes.
        mesh: Devices, over which samples are spread; None: those on which the parameters lie.
            Parameters that lie on its devices stay as they are. A mesh may span processes: then
            each passes NumPy arrays of its own samples, as many as every other, or JAX arrays of
            all, and sums that are spread over processes stay there.
        data_axes: Names of the mesh's axes along which samples are spread; None: the first.
        dry_run: Return a ``Forecast`` instead: layers, sums, bytes and floating-point operations.
            Nothing of ``f`` runs; the first batch is read for its shapes.
        progress: Show a bar of batches on standard error, in passes of more than ten seconds.

    Raises:
        ValueError: If there are no samples, batches differ in structure, processes hold different
            numbers of samples, a label names no class, inputs are float64 numbers that float32
            does not resolve, an argument is out of range, or as ``tap``.
        TypeError: If ``batches`` does not hold pairs or triples of arrays, or an argument is of
            another kind.

    Source: arXiv 2605.06258, sections 3 and 4.

    Example:
        >>> f = lambda params, x: jnp.tanh(x @ params["in"]) @ params["out"]
        >>> params = {"in": jnp.ones((3, 5)), "out": jnp.ones((5, 2))}
        >>> x, y = jax.random.normal(jax.random.key(0), (50, 3)), jnp.arange(50) % 2
        >>> m = measure(f, params, (x, y), loss=lambda out, y: optax.losses.
        ...     softmax_cross_entropy_with_integer_labels(out, y).mean())
        >>> m.layers, sorted(m["out"])[:2]
        (('in', 'out'), ['adjusted', 'gradient_norm'])
    """
    check_concrete("params", params, "outside of what is compiled or differentiated")
    check_function("f", f, "lambda params, x: …")
    check_function("loss", loss, "lambda output, y: …")
    if outputs is not None:
        check_function("outputs", outputs, "lambda output: …")
    for name, given in {"inputs": inputs, "targets": targets, "weights": weights}.items():
        if given is not None:
            check_function(name, given, "lambda batch: …")
    check_options(layers, learning_rate, positions, width_limit, ignore_label)
    check_count("batch_size", batch_size)
    check_count("probes", 1 if probes is None else probes)
    seed = check_count("seed", seed, 0)
    chosen = chosen_metrics(metrics)
    needs, where = needs_of(chosen), placement(mesh, data_axes, params)
    losses = Losses(loss, outputs, ignore_label)
    pieces = stacks(batches, Reader(inputs, targets, weights), batch_size, where)
    first = next(pieces, None)
    if first is None:
        raise ValueError("batches is empty: wanted one batch or more")
    tracing = Tracing(f, params, where)
    options = Options(
        layers, needs, positions, width_limit, outputs, ignore_label, tried=not dry_run
    )
    plan = make_plan(tracing, options, first)
    if dry_run:
        samples = len(jax.tree.leaves(batches)[0]) if isinstance(batches, tuple) else None
        return forecast(tracing, plan, losses, needs, probes, first, samples)  # type: ignore[return-value]
    scored = program(functools.partial(scoring, losses), plan.traced.output, first_of(first))
    losses = losses._replace(program=scored)
    plans = {inner_shapes(first): plan}
    projections = placed(projections_of(plan, seed), where)
    remarks = _tried(tracing, losses, first)
    if OF_GRADIENTS & needs:
        remarks |= stopped(plan.traced.layers, plan.names)

    def of_stack(stack: Batch) -> Any:
        shapes = inner_shapes(stack)
        size = stack.labels.shape[1]
        if not is_of(plans.get(shapes), size):
            plans[shapes] = plan_for(plan, tracing, options, stack)
        here, held = tracing.at(stack.x)
        own = for_size(plans[shapes], here, size)
        rows, axes = tuple(own.rows.items()), tuple(own.axes.items())
        sums = summing(here, losses, own.names, rows, axes, needs, probes)
        return sums(held, projections, next(keys), stack)

    keys = (jax.random.fold_in(jax.random.key(seed), number) for number in itertools.count())
    total = accumulate(of_stack, shown(itertools.chain([first], pieces), progress))
    total["kernel"] = _kernels(plan.traced)(tracing.at(first.x)[1], first_of(first).x)
    total = on_host(total)  # float64, and on no device
    refuse_unknown(total["numbers"])
    return measured(plan, total, chosen, learning_rate, remarks)


def _tried(tracing: Tracing, losses: Losses, stack: Batch) -> dict[str, str]:
    """What the first batch shows of the user's functions; refuses labels that name no class."""
    batch, (traced, held) = first_of(stack), tracing.at(stack.x)
    parts = jax.device_get(try_loss(traced, tracing.other(batch.x), losses)(held, batch))
    refuse_unknown(parts.numbers)
    notes = not_a_mean(parts), penalties(traced, losses, batch)
    return {"f": constants(traced), "loss": "; it ".join(filter(None, notes))}


@remembered
def _kernels(traced: Traced) -> Callable[..., dict[str, Array]]:
    """The effective kernels, float32 at least; nothing that depends on x is computed."""

    def kernels(held: list[Any], x: PyTree) -> dict[str, Array]:
        taps = traced([*held, *jax.tree.leaves(x)])[1]
        return {name: widened(tap.kernel) for name, tap in taps.items() if tap.kernel is not None}

    return jax.jit(kernels)
