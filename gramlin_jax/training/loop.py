"""Training that is one program: data on the device, an epoch a scan, a sweep vmapped or mapped."""

from __future__ import annotations

import dataclasses
import functools
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from tqdm.auto import tqdm

from gramlin_jax._moments.features import Moments
from gramlin_jax.support.checks import check_finite, check_leading_axis
from gramlin_jax.support.precision import in_float64
from gramlin_jax.training.checkpoints import Checkpoints
from gramlin_jax.training.sweeps import Execution, check_sweep, choose_execution, over_runs

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

Hyper: TypeAlias = "Mapping[str, Array]"
Loss: TypeAlias = "Callable[[Any, Any, Array, Hyper], tuple[Array, Mapping[str, Array]]]"
SampleLoss: TypeAlias = "Callable[[Array, Array], Array]"
Optimizer: TypeAlias = (
    "optax.GradientTransformation | Callable[[Hyper], optax.GradientTransformation]"
)


@dataclasses.dataclass(frozen=True)
class Fit:
    """What ``fit`` returns; the first axis of every array is the run (r of them).

    Attributes:
        params: Parameters at the end, each leaf (r, ...).
        opt_state: The optimiser's state at the end, each leaf (r, ...).
        history: ``loss`` and the loss's metrics, each (r, epochs): running means of an epoch.
        measurements: What ``measure`` returned, each leaf (r, len(measured_at), ...); ``Moments``
            as JAX arrays, ready for ``jax.vmap``, the rest as NumPy's.
        measured_at: The epochs of the measurements; 0 is before training.
        sweep: The hyper-parameters of the runs, each (r,).
        execution: ``"vmap"`` or ``"map"``, as chosen.
    """

    params: Any
    opt_state: Any
    history: dict[str, np.ndarray]
    measurements: Any
    measured_at: np.ndarray
    sweep: dict[str, np.ndarray]
    execution: str

    def run(self, i: int) -> Any:
        """The parameters of run ``i`` at the end, without the axis of runs."""
        return jax.tree.map(lambda a: a[i], self.params)


def classification_loss(
    apply: Callable[..., Any],
    per_sample: SampleLoss = optax.softmax_cross_entropy_with_integer_labels,
) -> Loss:
    """Mean loss over batches (x, labels), softmax cross-entropy or another, and ``accuracy``.

    A label outside of [0, classes) makes the loss NaN, which ``fit`` reports.

    Args:
        apply: ``(params, x) -> (logits, features)``, as of a model of this package.
        per_sample: ``(logits, labels) -> losses``, from (n, C) and integers (n,) to (n,).

    Raises:
        TypeError: From the loss, if x is not of floating point or labels not integers (n,).
    """

    def loss(params: PyTree, batch: Any, key: Array, hyper: Hyper) -> Any:
        del key, hyper
        x, labels = batch
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"x has dtype {x.dtype}: wanted floating point; divide pixels by 255")
        if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.ndim != 1:
            raise TypeError(f"labels are {labels.dtype}{list(labels.shape)}: wanted integers (n,)")
        logits, _ = apply(params, x)
        losses = per_sample(logits, labels)
        known = (labels >= 0) & (labels < logits.shape[-1])
        loss = jnp.where(known, losses, jnp.nan).mean()
        return loss, {"accuracy": jnp.mean(logits.argmax(-1) == labels)}

    return loss


def fit(
    init: Callable[[Array], Any],
    loss: Loss,
    optimizer: Optimizer,
    data: PyTree,
    *,
    epochs: int,
    batch_size: int | None = None,
    shuffle: bool = True,
    sweep: Mapping[str, Sequence[float] | np.ndarray] | None = None,
    execution: Execution = "auto",
    measure: Callable[[Any, Hyper, Any], Any] | None = None,
    measure_data: PyTree = None,
    measure_at: Iterable[int] | None = None,
    directory: str | None = None,
    save_interval: float = 30.0,
    progress: bool = True,
) -> Fit:
    """Train one network, or a sweep of them over seeds and hyper-parameters, in one program.

    The data lie on the device; an epoch is one scan over batches, the shorter last one included.
    All that a run draws comes from its ``seed`` and the epoch, so a run that is killed goes on
    from its checkpoint and ends bitwise as if it had not been.

    Args:
        init: ``key -> params``.
        loss: ``(params, batch, key, hyper) -> (scalar, metrics)``: the batch's mean loss and
            means to record; ``hyper`` holds this run's scalars of ``sweep``.
        optimizer: Any Optax optimiser, or ``hyper -> optimiser`` to sweep its arguments.
        data: Pytree of arrays that share their first axis (n, ...); a batch is a selection.
        epochs: Passes over the data.
        batch_size: Samples a step; None: all of them, full-batch descent in the data's order.
        shuffle: Draw a new order of the samples each epoch, where a batch is not all of them.
        sweep: Names and the equally long values of the runs, see ``grid``; ``seed`` is 0 where
            it is not named.
        execution: ``"vmap"`` trains all runs at once, ``"map"`` one after another within the same
            program; ``"auto"`` picks by ``choose_execution``.
        measure: ``(params, hyper, data) -> pytree``, jitted; what it returns is kept.
        measure_data: Arrays that ``measure`` receives (closed over, they would be compiled into
            the program); None: those of ``data``.
        measure_at: Epochs at which to measure, 0 to ``epochs``; None: all of them.
        directory: Folder of checkpoints; a run found there goes on if its settings, shapes and
            data are the same (functions, and what they close over, cannot be compared). None: no
            checkpoints.
        save_interval: Seconds from one checkpoint to the next, at least.
        progress: Show a bar.

    Raises:
        ValueError: If ``data`` is empty, not of equal lengths or not finite, a size is not
            positive, ``loss`` does not return a scalar, ``measure_at`` or ``sweep`` do not fit,
            or ``directory`` holds a run of another configuration or a damaged checkpoint
            (nothing in it is changed then).

    Warns:
        RuntimeWarning: If the loss of a run became NaN or infinite; its history keeps them.
    """
    n = check_leading_axis("data", data)
    check_finite("data", data)
    hyper = check_sweep(sweep)
    at = _check_epochs(epochs, measure_at if measure else ())
    measure_run = measure or _measure_nothing
    batch_size = n if batch_size is None else batch_size
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: wanted at least 1, or None for all samples")
    if execution not in get_args(Execution):
        raise ValueError(f"execution is {execution!r}: wanted {', '.join(get_args(Execution))}")
    data = jax.tree.map(jnp.asarray, data)
    run = _Run(init, loss, optimizer, n, min(batch_size, n), shuffle)

    runs = len(hyper["seed"])
    first = jax.tree.map(lambda a: a[0], hyper)
    batch = jax.tree.map(lambda a: a[: run.batch_size], data)
    if execution == "auto":
        execution = choose_execution(_working_set(run, first, batch), runs)
    lift = functools.partial(over_runs, execution=execution)
    run_epoch = jax.jit(lift(run.epoch, shared=2), donate_argnums=0)
    run_measure = jax.jit(lift(lambda state, *rest: measure_run(state.params, *rest), shared=1))
    measured_on = data if measure_data is None else jax.tree.map(jnp.asarray, measure_data)

    state = jax.jit(lift(run.start))(hyper)
    history = _blank(jax.eval_shape(run_epoch, state, hyper, data, jnp.int32(0))[1], epochs)
    measured = (
        _blank(jax.eval_shape(run_measure, state, hyper, measured_on), len(at)) if len(at) else None
    )
    checkpoints = Checkpoints(
        directory,
        _Progress(state, history, measured),
        {
            "epochs": epochs,
            "batch_size": run.batch_size,
            "shuffle": shuffle,
            "measure_at": at.tolist(),
            "execution": execution,
            "sweep": {name: values.tolist() for name, values in hyper.items()},
            "data": _fingerprint(data) if directory else {},
        },
        interval=save_interval,
    )
    done, (state, history, measured) = checkpoints.restore()

    with tqdm(total=epochs, initial=done, unit="epoch", disable=not progress) as bar:
        for epoch in range(done, epochs + 1):
            if epoch in at:
                _record(
                    measured,
                    int(np.searchsorted(at, epoch)),
                    run_measure(state, hyper, measured_on),
                )
            if epoch == epochs:
                break
            state, metrics = run_epoch(state, hyper, data, jnp.int32(epoch))
            _record(history, epoch, metrics)
            reached = _Progress(state, history, measured)
            checkpoints.save(epoch + 1, reached, last=epoch + 1 == epochs)
            bar.set_postfix(loss=f"{np.mean(history['loss'][:, epoch]):.4g}", refresh=False)
            bar.update()
    _warn_of_divergence(history["loss"])
    measurements = _moments_on_device(measured)
    return Fit(state.params, state.opt_state, history, measurements, at, hyper, execution)


def _measure_nothing(params: Any, hyper: Hyper, data: Any) -> None:
    del params, hyper, data


class _State(NamedTuple):
    params: Any
    opt_state: Any


class _Progress(NamedTuple):
    state: _State
    history: dict[str, np.ndarray]
    measured: Any


@dataclasses.dataclass(frozen=True)
class _Run:
    """One training run as pure functions of its hyper-parameters; no axis of runs anywhere."""

    init: Callable[[Array], Any]
    loss: Loss
    optimizer: Optimizer
    n: int
    batch_size: int
    shuffle: bool

    def start(self, hyper: Hyper) -> _State:
        params = self.init(jax.random.key(hyper["seed"]))
        return _State(params, self._optimizer(hyper).init(params))

    def epoch(self, state: _State, hyper: Hyper, data: Any, epoch: Array) -> tuple[_State, Any]:
        """All batches once; the metrics are means over samples as the parameters moved."""
        order_key, key = jax.random.split(
            jax.random.fold_in(jax.random.key(hyper["seed"]), epoch + 1)
        )
        keys = jax.random.split(key, -(-self.n // self.batch_size))
        if self.batch_size == self.n:
            return self.step(state, hyper, data, keys[0])
        order = jax.random.permutation(order_key, self.n) if self.shuffle else jnp.arange(self.n)
        whole, rest = divmod(self.n, self.batch_size)
        rows = order[: whole * self.batch_size].reshape(whole, self.batch_size)

        def step(state: _State, at: tuple[Array, Array]) -> tuple[_State, Any]:
            rows, key = at
            return self.step(state, hyper, jax.tree.map(lambda a: a[rows], data), key)

        state, metrics = lax.scan(step, state, (rows, keys[:whole]))
        metrics = jax.tree.map(lambda m: m.mean(0), metrics)
        if rest:
            share = rest / self.n
            state, last = step(state, (order[-rest:], keys[-1]))
            metrics = jax.tree.map(lambda a, b: (1 - share) * a + share * b, metrics, last)
        return state, metrics

    def step(self, state: _State, hyper: Hyper, batch: Any, key: Array) -> tuple[_State, Any]:
        grad = jax.value_and_grad(self.checked_loss, has_aux=True)
        (loss, metrics), gradient = grad(state.params, batch, key, hyper)
        updates, opt_state = self._optimizer(hyper).update(
            gradient,
            state.opt_state,
            state.params,
            value=loss,  # these three are for line searches and schedules of the loss
            grad=gradient,
            value_fn=lambda params: self.checked_loss(params, batch, key, hyper)[0],
        )
        params = optax.apply_updates(state.params, updates)
        return _State(params, opt_state), {**metrics, "loss": loss}

    def checked_loss(self, *args: Any) -> tuple[Array, Mapping[str, Array]]:
        value = self.loss(*args)
        if not (isinstance(value, tuple) and len(value) == 2 and jnp.shape(value[0]) == ()):
            shapes = jax.tree.map(jnp.shape, value)
            raise ValueError(f"loss returned shapes {shapes}: wanted (scalar, dict of scalars)")
        return value

    def _optimizer(self, hyper: Hyper) -> optax.GradientTransformationExtraArgs:
        given: Any = self.optimizer
        made = given if hasattr(given, "update") else given(hyper)
        return optax.with_extra_args_support(made)


def _working_set(run: _Run, hyper: Hyper, batch: Any) -> int:
    """Bytes of parameters, optimiser state and all that a step's backward pass keeps."""
    state = jax.eval_shape(run.start, hyper)

    def residuals(params: Any, batch: Any, key: Array) -> Any:
        return jax.vjp(lambda p: run.checked_loss(p, batch, key, hyper)[0], params)[1]

    kept = jax.eval_shape(residuals, state.params, batch, jax.eval_shape(jax.random.key, 0))
    return sum(
        leaf.size * leaf.dtype.itemsize
        for leaf in jax.tree.leaves((state, kept))
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)
    )


def _blank(shapes: Any, length: int) -> Any:
    """Host arrays (r, length, ...) to record values of the given shapes (r, ...) in."""
    return jax.tree.map(lambda s: np.zeros((s.shape[0], length, *s.shape[1:]), s.dtype), shapes)


def _record(arrays: Any, column: int, values: Any) -> None:
    for array, value in zip(jax.tree.leaves(arrays), jax.tree.leaves(values), strict=True):
        array[:, column] = value


@in_float64
def _moments_on_device(measured: Any) -> Any:
    """Moments as JAX arrays: as NumPy's, ``vmap`` and ``jit`` would cut them to float32."""

    def convert(leaf: Any) -> Any:
        return jax.tree.map(jnp.asarray, leaf) if isinstance(leaf, Moments) else leaf

    return jax.tree.map(convert, measured, is_leaf=lambda leaf: isinstance(leaf, Moments))


def _fingerprint(data: PyTree) -> dict[str, str]:
    """Type, shape and checksum of each array."""
    prints = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        checksum = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data)
        prints[jax.tree_util.keystr(path)] = f"{leaf.dtype}{list(leaf.shape)} {checksum:08x}"
    return prints


def _check_epochs(epochs: int, measure_at: Iterable[int] | None) -> np.ndarray:
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}: wanted at least 1")
    at = np.unique(np.fromiter(range(epochs + 1) if measure_at is None else measure_at, int))
    if len(at) and (at[0] < 0 or at[-1] > epochs):
        raise ValueError(f"measure_at is {at.tolist()}: wanted epochs from 0 to {epochs}")
    return at


def _warn_of_divergence(losses: np.ndarray) -> None:
    for run, row in enumerate(np.isfinite(losses)):
        if not row.all():
            warnings.warn(
                f"the loss of run {run} is NaN or infinite from epoch {int(row.argmin())} on: "
                "lower its learning rate, or look for labels out of range",
                RuntimeWarning,
                stacklevel=3,
            )
