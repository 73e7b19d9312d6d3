"""Train a network or a sweep entirely on device, with hooks between epochs."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gramlin_jax._moments.additive import Additive
from gramlin_jax.support.array_fields import ArrayFields
from gramlin_jax.support.checks import check_count
from gramlin_jax.support.devices import on_one_device
from gramlin_jax.support.precision import in_float64
from gramlin_jax.training.hooks import Hook, ProgressBar, Training, WarnOfDivergence, blank, record
from gramlin_jax.training.identity import lowering
from gramlin_jax.training.program import Hyper, Loss, Optimizer, Run
from gramlin_jax.training.sources import Arrays, Batches, source_of
from gramlin_jax.training.sweeps import (
    Execution,
    check_spread,
    check_sweep,
    choose_execution,
    compiled_over_runs,
)

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fit(ArrayFields):
    """What ``fit`` returns; the first axis of every array is the run (r of them).

    Attributes:
        params: Parameters at the end, each leaf (r, ...), on the devices that trained them.
        opt_state: The optimiser's state at the end, each leaf (r, ...).
        history: ``loss`` and the loss's metrics, each (r, epochs): means over the samples of an
            epoch, taken while the parameters moved.
        measurements: What ``Measure`` measured, each leaf (r, len(measured_at), ...); ``Moments``
            as JAX arrays, ready for ``jax.vmap``, the rest as NumPy's; None without.
        measured_at: The epochs of the measurements; 0 is before training.
        sweep: The hyper-parameters of the runs as they were given, each (r,).
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
        """The parameters of run ``i`` at the end, without the axis of runs, on one device.

        Raises:
            IndexError: If there is no such run.
        """
        runs, i = len(self.sweep["seed"]), operator.index(i)
        if not -runs <= i < runs:  # JAX would give the nearest one
            raise IndexError(f"i is {i}: wanted a run from 0 to {runs - 1}")
        return jax.tree.map(lambda a: on_one_device(a[i]), self.params)


def fit(
    init: Callable[[Array], Any],
    loss: Loss,
    optimizer: Optimizer,
    data: Any,
    *,
    epochs: int,
    batch_size: int | None = None,
    shuffle: bool = True,
    sweep: Mapping[str, Sequence[float] | np.ndarray] | None = None,
    execution: Execution = "auto",
    mesh: Mesh | None = None,
    hooks: Sequence[Hook] | None = None,
) -> Fit:
    """Train one network, or a sweep over seeds and hyper-parameters, in one compiled program.

    An epoch over arrays is one ``lax.scan`` over batches, the shorter last one included; over an
    iterable it is a loop over one jitted step. Every random number follows from the ``seed`` of
    the run, the epoch and the batch.

    Args:
        init: ``key -> params``.
        loss: ``(params, batch, key, hyper) -> (scalar, metrics)``: the batch's mean loss and
            means to record; ``hyper`` holds this run's scalars of ``sweep``.
        optimizer: Any Optax optimiser, or ``hyper -> optimiser`` to sweep its arguments.
        data: Pytree of arrays (n, ...), of which a batch is a selection. Or batches, the same for
            all runs: any other iterable that starts anew each epoch, or a callable ``epoch ->
            iterable`` (a list is a pytree: pass ``lambda epoch: batches``).
        epochs: Passes over the data.
        batch_size: Samples in a step; None: all of them, in their order, or batches as they come.
        shuffle: Draw a new order of the samples each epoch, where arrays are cut into batches.
        sweep: Names and the equally long values of the runs, see ``grid``; ``seed`` is 0 where
            it is not named.
        execution: ``"vmap"`` trains all runs at once, ``"map"`` one after another within the same
            program; ``"auto"`` picks by ``choose_execution``.
        mesh: Devices, each of which trains an equal share of the runs, see ``over_runs``; the data
            lie whole on each. None: JAX's default device.
        hooks: What acts between epochs, in this order; None: ``ProgressBar()`` and
            ``WarnOfDivergence()``.

    Raises:
        ValueError: If ``data`` is empty, not of equal lengths, not finite or can be read only
            once, a size is not positive, ``loss`` does not return a scalar and a dict of
            scalars, ``sweep`` does not fit, the devices of ``mesh`` do not divide its runs, or a
            hook refuses.
        TypeError: If ``data`` holds no numbers, ``init`` or ``loss`` is no function, ``sweep`` has
            no names, ``hooks`` is no list of hooks, or ``optimizer`` gives none.

    Example:
        >>> import optax
        >>> def loss(params, batch, key, hyper):
        ...     x, y = batch
        ...     return jnp.mean((params["slope"] * x - y) ** 2), {}
        >>> x = np.arange(4, dtype=np.float32)
        >>> fitted = fit(
        ...     lambda key: {"slope": jnp.zeros(())},
        ...     loss,
        ...     lambda hyper: optax.sgd(hyper["learning_rate"]),
        ...     (x, 3 * x),
        ...     epochs=20,
        ...     sweep={"learning_rate": (0.01, 0.1)},
        ...     hooks=[WarnOfDivergence()],
        ... )
        >>> print(fitted.history["loss"].shape, fitted.params["slope"].round(2))
        (2, 20) [2.3 3. ]
    """
    hyper = check_sweep(sweep)
    check_count("epochs", epochs)
    if execution not in get_args(Execution):
        raise ValueError(f"execution is {execution!r}: wanted {', '.join(get_args(Execution))}")
    check_spread(mesh, len(hyper["seed"]))
    run = Run(init, loss, optimizer, batch_size, shuffle)
    source = source_of(data, run)
    hooks = (ProgressBar(), WarnOfDivergence()) if hooks is None else _checked_hooks(hooks)
    first: Any = jax.tree.map(lambda a: a[0], hyper)
    for hook in hooks:
        run = hook.wrap(run, source.example, first)
    source.run = run
    training = _begin(run, source, hyper, epochs, execution, mesh)
    with contextlib.ExitStack() as stack:
        for hook in reversed(hooks):
            stack.callback(hook.close, training)
        _train(training, hooks)

    return Fit(
        *training.state,
        training.history,
        _sums_on_device(training.measured),
        training.measured_at,
        hyper,
        training.execution,
    )


def _checked_hooks(hooks: Any) -> tuple[Hook, ...]:
    found = tuple(hooks) if np.iterable(hooks) else (None,)
    if not all(isinstance(hook, Hook) for hook in found):
        raise TypeError(f"hooks is {hooks!r}: wanted a list of hooks, as [ProgressBar()]")
    return found


def _train(training: Training, hooks: Sequence[Hook]) -> None:
    """The epochs that are left, with the hooks between them."""
    train = training.source.epoch(training.execution, training.mesh)
    program = training.source.program(training.state, training.hyper)
    training.programs["loss or optimizer"] = program
    for hook in hooks:
        hook.prepare(training)
    for hook in hooks:
        hook.start(training)
    while training.epoch < training.epochs:
        for hook in hooks:
            hook.before_epoch(training)
        training.state, metrics = train(training.state, training.hyper, training.epoch)
        record(training.history, training.epoch, metrics)
        training.epoch += 1
        for hook in hooks:
            hook.after_epoch(training)
    for hook in hooks:
        hook.end(training)


def _begin(
    run: Run,
    source: Arrays | Batches,
    hyper: dict[str, np.ndarray],
    epochs: int,
    execution: Execution,
    mesh: Mesh | None,
) -> Training:
    """All runs before their first epoch."""
    runs = len(hyper["seed"])
    first: Any = jax.tree.map(lambda a: a[0], hyper)
    working_set, metrics = _outline(run, first, source.first)
    if execution == "auto":
        execution = choose_execution(working_set, runs)
    start = compiled_over_runs(run.start, execution=execution, mesh=mesh)
    state = start.call(hyper)
    means = jax.tree.map(
        lambda m: jax.ShapeDtypeStruct((runs, *m.shape), jnp.result_type(m.dtype, float)), metrics
    )
    programs = {"init or optimizer": lowering(start.alone, hyper)}
    history = blank(means, epochs)
    return Training(source, hyper, epochs, execution, mesh, state, history, programs)


def _outline(run: Run, hyper: Hyper, batch: PyTree) -> tuple[int, Any]:
    """Bytes of parameters, optimiser state and all that a step's backward pass keeps; its metrics.

    Nothing is computed: the metrics are shapes.
    """
    state = jax.eval_shape(run.start, hyper)

    def residuals(params: Any, batch: Any, key: Array) -> Any:
        def loss(params: Any) -> Any:
            return run.checked_loss(params, batch, key, hyper)

        value, kept, metrics = jax.vjp(loss, params, has_aux=True)
        return kept, {**metrics, "loss": value}

    key = jax.eval_shape(jax.random.key, 0)
    kept, metrics = jax.eval_shape(residuals, state.params, batch, key)
    working_set = sum(
        leaf.size * leaf.dtype.itemsize
        for leaf in jax.tree.leaves((state, kept))
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)
    )
    return working_set, metrics


@in_float64
def _sums_on_device(measured: Any) -> Any:
    """Sums as JAX arrays: as NumPy's, ``vmap`` and ``jit`` would cut them to float32."""

    def convert(leaf: Any) -> Any:
        return jax.tree.map(jnp.asarray, leaf) if isinstance(leaf, Additive) else leaf

    return jax.tree.map(convert, measured, is_leaf=lambda leaf: isinstance(leaf, Additive))
