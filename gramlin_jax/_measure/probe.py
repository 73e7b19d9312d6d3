"""``Probe``: the sums of ``measure``, taken from the backward pass of a training step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax._measure.batch import Losses, Summed, reduced, refuse_unknown
from gramlin_jax._measure.beside import beside_kernels
from gramlin_jax._measure.finish import measured
from gramlin_jax._measure.forgetting import check_memory, merged, remember, start
from gramlin_jax._measure.forms import check_sums, form_of, misfit
from gramlin_jax._measure.measurement import Measurement
from gramlin_jax._measure.modules import as_function
from gramlin_jax._measure.plan import (
    TRIED,
    Options,
    Plan,
    check_options,
    first_of,
    for_size,
    make_plan,
    projections_of,
)
from gramlin_jax._measure.stream import Batch, Reader, stacks
from gramlin_jax._measure.tracing import Tracing
from gramlin_jax._measure.training_step import (
    gradients_and_through_kernels,
    value_and_grad,
    value_and_grad_with_taps,
)
from gramlin_jax._measure.trial import a_sum, not_weighted, try_twice, try_weights
from gramlin_jax._moments.additive import Additive
from gramlin_jax._moments.gradients import scalar_loss
from gramlin_jax._moments.projection import Projection
from gramlin_jax.metrics.layer_sums import OF_GRADIENTS, LayerSums
from gramlin_jax.metrics.registry import DEFAULT, Metric, chosen_metrics, needs_of
from gramlin_jax.support.checks import check_concrete, check_count, check_function
from gramlin_jax.support.devices import check_automatic, check_axis, placed, placement
from gramlin_jax.support.precision import in_float64, widened, with_promotion
from gramlin_jax.taps import Tap
from gramlin_jax.taps.traced import capture, is_array

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, PyTree


LAST_STEP = 2**31 - 1  # which a state counts in 32 bits


class ProbeState(NamedTuple):
    """What a ``Probe`` has seen: a pytree of arrays, O(width²) a layer.

    Attributes:
        step: Calls of ``value_and_grad`` so far.
        watched: How many of them were watched.
        sums: Of the watched batches, float64, small ones end to end in one array; with a window
            each has a first axis (window,).
        kernels: Effective kernels by layer, at the last batch that was watched.
        decay: Of the probe; 1 without one.
    """

    step: Int[Array, ""]
    watched: Int[Array, ""]
    sums: Any
    kernels: dict[str, Array]
    decay: Float[Array, ""]


class _Prepared(NamedTuple):
    """What ``init`` found out: the layers, and the shapes of the sums and of the state."""

    plan: Plan
    projections: dict[str, Projection]
    shapes: PyTree
    form: dict[str, Any]
    remarks: dict[str, str]


@dataclasses.dataclass
class Probe:
    """Watch the layers in the training step itself: its own backward pass fills the sums.

    ``value_and_grad`` takes the place of ``jax.value_and_grad(loss_fn)``: the same loss and
    gradients, and a state with the sums of ``measure`` over the batches that are watched. Every
    ``every``-th call is watched, by ``lax.cond``; the others do what they did. It works under
    ``jit``, in ``scan`` and ``shard_map``, with micro-batches and rematerialisation.

    Pass parameters and batches as they are trained: the features are those of the training mode,
    with dropout and batch statistics as they are there.

    Donate the state, ``jax.jit(step, donate_argnums=...)``: else each step copies it.

    Attributes:
        loss_fn: ``(params, batch, *rest) -> L``, a scalar that is a mean over the samples of the
            batch; or ``(L, aux)`` with ``has_aux``. ``params`` may be an NNX module or an
            Equinox one, or hold some; ``batch`` is a pytree of arrays (n, ...); ``rest`` is what
            else the loss needs: dropout keys, batch statistics, an NNX ``Rngs``.
        targets: ``batch -> labels or real targets``, see ``measure``.
        has_aux: Whether ``loss_fn`` returns a pair.
        outputs: ``aux -> logits``, needed for integer labels where aux is not the logits.
        weights: ``batch -> weights``, see ``measure``.
        ignore_label: Labels of this value do not count.
        every: Watch one call in ``every``, starting with the first.
        window: Keep the last ``window`` watched batches, at that many times the memory; None: all.
        decay: Multiply the weight of earlier batches by this at each watched one, 0 < decay < 1;
            ``count`` is then how many samples of equal weight have the same noise floor. None: all
            batches keep their weight.
        metrics: As for ``measure``.
        layers: As for ``measure``.
        learning_rate: As for ``measure``.
        positions: As for ``measure``.
        width_limit: As for ``measure``, but 256: a watched step costs the square of it.
        seed: As for ``measure``.
        axis_name: Of the mesh, inside ``shard_map``: sums are over all of its devices.

    Raises:
        ValueError: If a number is out of range, or both ``window`` and ``decay`` are given.
        TypeError: If ``targets``, ``outputs`` or ``weights`` is no function.

    Example:
        >>> def loss_fn(params, batch):
        ...     logits = jnp.tanh(batch["x"] @ params["in"]) @ params["out"]
        ...     losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
        ...     return losses.mean(), logits
        >>> probe = Probe(loss_fn, targets=lambda batch: batch["y"], has_aux=True, every=10)
        >>> @jax.jit
        ... def step(params, batch, state):
        ...     (loss, logits), grads, state = probe.value_and_grad(params, batch, state)
        ...     return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), state
        >>> params = {"in": jnp.ones((3, 5)), "out": jnp.ones((5, 2))}
        >>> batch = {"x": jax.random.normal(jax.random.key(0), (8, 3)), "y": jnp.arange(8) % 2}
        >>> state = probe.init(params, batch)
        >>> for _ in range(20):
        ...     params, state = step(params, batch, state)
        >>> m = probe.read(state)
        >>> m.layers, m.count
        (('in', 'out'), 16.0)
    """

    loss_fn: Callable[..., Any]
    targets: Callable[[Any], Any]
    _: dataclasses.KW_ONLY
    has_aux: bool = False
    outputs: Callable[[Any], Any] | None = None
    weights: Callable[[Any], Any] | None = None
    ignore_label: int | None = None
    every: int = 10
    window: int | None = None
    decay: float | None = None
    metrics: Sequence[str] | Mapping[str, Metric | Callable[[LayerSums], Any]] = DEFAULT
    layers: Sequence[str] | None = None
    learning_rate: float = 0.01
    positions: Literal["flatten", "mean"] | int = "flatten"
    width_limit: int = 256
    seed: int = 0
    axis_name: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("loss_fn", "targets", "outputs", "weights"):
            given = getattr(self, name)
            if given is not None or name in ("loss_fn", "targets"):
                check_function(name, given, 'lambda batch: batch["y"]')
        if check_count("every", self.every) > LAST_STEP:
            raise ValueError(f"every is {self.every}: wanted at most {LAST_STEP}")
        check_count("seed", self.seed, 0)
        check_options(
            self.layers, self.learning_rate, self.positions, self.width_limit, self.ignore_label
        )
        check_memory(self.window, self.decay)
        self._chosen = chosen_metrics(self.metrics)
        self._needs = needs_of(self._chosen)
        self._prepared: _Prepared | None = None

    @with_promotion
    def init(self, params: PyTree, batch: PyTree, *rest: Any) -> ProbeState:
        """The state before training, and what the probe has to know of the layers.

        Call it with a real batch, outside of ``jit``, also before a state is restored from a
        checkpoint. It tries out which features belong to which sample, whether the loss is a sum
        over samples, and whether it depends on kernels outside of the layers, as by a penalty. The
        notes of ``read`` then say so. How weights count in the loss is tried out where they differ
        within this batch.

        Raises:
            ValueError: If the arguments are traced, or hold NaN where features were lost by it, the
                loss is not a scalar, an array is cut along an explicit axis of the mesh that is
                set, or as ``measure``.
            TypeError: As ``measure``.
        """
        for name, tree in (("params", params), ("batch", batch)):
            check_concrete(name, tree, "before the training step is compiled")
        if not jax.sharding.get_abstract_mesh().empty:  # else arrays are moved off explicit axes
            check_automatic("params", params)
            check_automatic("batch", batch)
        call = as_function(self._pair, params, rest)
        where = placement(None, None, call.params)
        reader = Reader(lambda batch: batch, self.targets, self.weights)
        stack = next(stacks([batch], reader, 1, where))
        tracing = Tracing(lambda p, x: call.loss(p, x, *call.rest), call.params, where)
        wanted = self.layers, self._needs, self.positions, self.width_limit
        options = Options(*wanted, self._logits, self.ignore_label, random=True)
        try:
            plan = make_plan(tracing, options, stack)
        except NameError as error:
            if "axis name" not in str(error):
                raise
            raise ValueError(
                f"loss_fn takes a mean or sum over a mesh's axis, which init has not ({error}): "
                "wanted the loss of a device's own samples; take the mean over devices of what "
                "value_and_grad returns"
            ) from error
        tried = set(TRIED) & set(plan.skipped.values())
        if tried and (name := _not_finite(params=call.params, batch=stack.x)):
            raise ValueError(
                f"{name} holds NaN or infinity: wanted finite values in init, which tries out "
                "which features belong to which sample"
            )
        projections = placed(projections_of(plan, self.seed), where)
        remarks = {"loss": _summed(tracing, stack) or self._unweighted(tracing, stack)}
        if OF_GRADIENTS & self._needs:
            notes = _beside_kernels(call, tracing, stack)
            remarks |= {name: note for name, note in notes.items() if name in plan.names}
        self._prepared = _Prepared(plan, projections, None, {}, remarks)
        _, sums, kernels = jax.eval_shape(lambda: self._watch(call, batch, axis_name=None))
        zero = jnp.zeros((), jnp.int32)
        state = ProbeState(
            zero,
            zero + 0,
            start(sums, self.window),
            jax.tree.map(lambda k: jnp.zeros(k.shape, k.dtype), kernels),
            jnp.float32(self.decay or 1),
        )
        self._prepared = self._prepared._replace(shapes=sums, form=form_of(state))
        return state

    def value_and_grad(
        self,
        params: PyTree,
        batch: PyTree,
        state: ProbeState,
        *rest: Any,
        watch: bool | Bool[Array, ""] | None = None,
    ) -> tuple[Any, PyTree, ProbeState]:
        """The loss, its gradients, and the state after this call.

        Args:
            params: As for ``loss_fn``. Leaves that are no arrays of floating point have None for
                a gradient.
            batch: As for ``loss_fn``.
            state: From ``init`` or the call before.
            rest: As for ``loss_fn``.
            watch: Whether to watch this call; None: every ``every``-th. Python's True or False, as
                from a static argument, needs no ``cond``: the step is compiled once with the probe
                and once without.

        Returns:
            What ``jax.value_and_grad(loss_fn, has_aux=has_aux)`` returns, and the new state.

        Raises:
            ValueError: If ``init`` was not called, the state is that of another model or probe,
                the loss is not a scalar, the batch is not like that of ``init``, an array is
                cut along an explicit axis of a mesh, or ``axis_name`` is no axis here.
            TypeError: If the state is no ``ProbeState``.
        """
        self._check(state)
        state = _on_devices(state)
        check_automatic("params", params)
        check_automatic("batch", batch)
        kind = getattr(watch, "dtype", type(watch))
        if watch is not None and (np.shape(watch) or not np.issubdtype(kind, np.bool_)):
            raise ValueError(f"watch is {watch!r}: wanted one boolean")
        if self.axis_name is not None:
            check_axis(self.axis_name)
        call = as_function(self._pair, params, rest)
        if watch is None:
            watch = self.every == 1 or state.step % self.every == 0

        def plain(state: ProbeState) -> tuple[Any, ProbeState]:
            return value_and_grad(call, batch), state

        def watching(state: ProbeState) -> tuple[Any, ProbeState]:
            result, sums, kernels = self._watch(call, batch, axis_name=self.axis_name)
            check_sums(sums, self._prepared.shapes)  # type: ignore[union-attr]
            sums = remember(state.sums, sums, state.watched, self.window, self.decay)
            return result, state._replace(watched=state.watched + 1, sums=sums, kernels=kernels)

        if isinstance(watch, bool | np.bool_):
            result, state = (watching if watch else plain)(state)
        else:
            result, state = lax.cond(jnp.asarray(watch), watching, plain, state)
        (loss, (aux, changed)), gradients = result
        call.update(changed)
        state = state._replace(step=state.step + 1)
        return (loss, aux) if self.has_aux else loss, call.gradients(gradients), state

    def read(self, state: ProbeState) -> Measurement:
        """The metrics of all layers, as ``measure`` gives them of the watched samples.

        Kernels are those of the last watched batch, and the other sums are of all that are kept.

        Raises:
            ValueError: If nothing was watched yet, a label names no class, the state is traced,
                was donated or is of another ``decay``, or as ``value_and_grad``.
        """
        check_concrete("state", state, "outside of what is compiled")
        plan, _, shapes, _, remarks = self._check(state)
        if (decay := float(state.decay)) != np.float32(self.decay or 1):
            given = None if decay == 1 else f"{decay:.6g}"
            raise ValueError(
                f"state has decay={given}: wanted decay={self.decay}, as this probe has"
            )
        if not (watched := int(state.watched)):
            raise ValueError("state has watched 0 batches: wanted one at least")
        sums = merged(state.sums, shapes, self.window, self.decay, watched)
        total = jax.device_get({**sums, "kernel": state.kernels})
        refuse_unknown(total["numbers"])
        return measured(plan, total, self._chosen, self.learning_rate, remarks)

    def _unweighted(self, tracing: Tracing, stack: Batch) -> str:
        """A note on a loss in which weights do not count as they do here."""
        if self.weights is None and self.ignore_label is None:
            return ""
        batch, (traced, held) = first_of(stack), tracing.at(stack.x)
        found = try_weights(traced, self.ignore_label)(held, batch)
        return not_weighted(len(batch.labels), *map(float, found))

    def _pair(self, params: Any, batch: Any, *rest: Any) -> tuple[Any, Any]:
        """The loss, and aux, which is None where there is none."""
        value = self.loss_fn(params, batch, *rest)
        is_pair = isinstance(value, tuple | list) and len(value) == 2
        if is_pair != self.has_aux:
            wanted = "a scalar, or has_aux=True"
            if self.has_aux:
                wanted = "a pair (loss, aux), or has_aux=False"
            raise ValueError(f"loss_fn returns {'a' if is_pair else 'no'} pair: wanted {wanted}")
        loss, aux = value if self.has_aux else (value, None)
        return scalar_loss(loss, "loss_fn"), aux

    def _check(self, state: ProbeState) -> _Prepared:
        if not isinstance(state, ProbeState):
            kind = type(state).__name__
            raise TypeError(f"state is a {kind}: wanted what init returned, (params, batch, state)")
        if self._prepared is None:
            raise ValueError("probe has no layers yet: wanted probe.init(params, batch) first")
        if jnp.ndim(state.step):
            raise ValueError(
                f"state is of {jnp.shape(state.step)} runs: wanted one; take each by "
                "jax.tree.map(lambda a: a[i], state)"
            )
        wanted, given = self._prepared.form, form_of(state)
        if given != wanted:
            raise ValueError(misfit(given, wanted))
        return self._prepared

    def _watch(self, call: Any, batch: Any, axis_name: Any) -> tuple[Any, Any, dict[str, Array]]:
        """What ``value_and_grad`` returns, the sums of the batch, and the kernels."""
        plan, projections, *_ = self._prepared  # type: ignore[misc]
        labels, weights = self.targets(batch), self.weights(batch) if self.weights else None
        if not len(labels):
            raise ValueError("batch holds 0 samples: wanted one at least")
        if weights is not None:
            weights = jnp.asarray(weights, float)  # as ``measure`` has them, also those of bool
        samples = Batch(batch, batch, jnp.asarray(labels), weights)
        traced, values = capture(
            lambda params, x: call.loss(params, x, *call.rest), call.params, (batch,)
        )
        plan = for_size(plan, traced, len(labels))
        names = [name for name in plan.names if traced.layers.sites[name].has_kernel]
        sites = names if OF_GRADIENTS & self._needs else []
        attention = "attention" in self._needs
        result, passed = value_and_grad_with_taps(call, traced, values, sites, attention)
        taps: Any = passed.taps
        features = {name: taps[name].features for name in plan.rows}
        read: Any = {
            name: Tap(features.get(name), attention=taps[name].attention)  # type: ignore[arg-type]
            for name in plan.names
        }
        used = passed._replace(taps=read)
        kernels = {}
        if "kernel" in self._needs:
            kernels = {name: widened(taps[name].kernel) for name in names}
        # What is summed is computed once, in the pass, and changes nothing in it.
        used, kernels = jax.tree.map(lax.optimization_barrier, (used, kernels))
        score = Losses(lambda output, y: output[0], self._logits, self.ignore_label)
        summed = Summed(score, plan.names, plan.rows, plan.axes, self._needs)
        sums = reduced(traced, values, used, samples, projections, summed)
        if axis_name is not None:
            sums = _over_devices(sums, axis_name)
            kernels = lax.pmax(kernels, axis_name)  # they are the same on all
        return result, sums, kernels

    def _logits(self, output: tuple[Any, tuple[Any, Any]]) -> Any:
        _, (aux, _) = output
        if aux is None:
            raise ValueError(
                "loss_fn returns no aux where targets are labels: wanted (loss, logits) and "
                "has_aux=True, or one-hot targets of floating point"
            )
        return self.outputs(aux) if self.outputs else aux


def _not_finite(**trees: PyTree) -> str:
    """The name of the first tree with a value that is not finite; empty if there is none."""
    for name, tree in trees.items():
        arrays = filter(is_array, jax.tree.leaves(tree))
        floats = [a for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact)]
        if not all(bool(jnp.isfinite(a).all()) for a in floats):
            return name
    return ""


def _summed(tracing: Tracing, stack: Batch) -> str:
    """A note on a loss that is a sum over samples; empty if it is none, or cannot be tried."""
    x, (traced, held) = first_of(stack).x, tracing.at(stack.x)
    twice = tracing.twice(x)
    return "" if twice is None else a_sum(*map(float, try_twice(traced, twice)(held, x)))


def _beside_kernels(call: Any, tracing: Tracing, stack: Batch) -> dict[str, str]:
    """Notes on layers whose parameters have other gradients than their kernels."""
    x, (traced, held) = first_of(stack).x, tracing.at(stack.x)
    compare = jax.jit(functools.partial(gradients_and_through_kernels, call, traced))
    found = jax.device_get(compare([*held, *jax.tree.leaves(x)]))
    return beside_kernels(traced.layers, *found)


@in_float64
def _on_devices(state: ProbeState) -> ProbeState:
    """NumPy's arrays, as some checkpoints restore them, as JAX's of the same type."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, state
    )


@in_float64
def _over_devices(sums: Any, axis_name: Any) -> Any:
    def total(leaf: Any) -> Any:
        return leaf.psum(axis_name) if isinstance(leaf, Additive) else lax.psum(leaf, axis_name)

    return jax.tree.map(total, sums, is_leaf=lambda leaf: isinstance(leaf, Additive))
