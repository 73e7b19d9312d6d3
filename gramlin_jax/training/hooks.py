"""Hooks of ``fit``: measurements, checkpoints, a progress bar, warnings and logs."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm.auto import tqdm

from gramlin_jax.loggers import Logger, Loggers
from gramlin_jax.support.checks import check_function
from gramlin_jax.support.conversion import as_jax
from gramlin_jax.support.devices import Placement, placed
from gramlin_jax.support.fingerprints import fingerprint
from gramlin_jax.support.signals import HeldSignals
from gramlin_jax.training.checkpoints import Checkpoints
from gramlin_jax.training.identity import lowering
from gramlin_jax.training.program import Hyper, Run, State
from gramlin_jax.training.sweeps import compiled_over_runs, run_labels

if TYPE_CHECKING:
    from jaxtyping import PyTree

    from gramlin_jax.training.sources import Arrays, Batches


class Progress(NamedTuple):
    """What a checkpoint keeps."""

    state: State
    history: dict[str, np.ndarray]
    measured: Any


@dataclasses.dataclass
class Training:
    """The state of a call of ``fit``, which hooks read and may change.

    The first axis of every array is the run (r of them).

    Attributes:
        source: Where batches come from; ``source.data`` are its arrays, None for an iterable.
        hyper: The hyper-parameters of the runs, each (r,).
        epochs: Epochs to train.
        execution: ``"vmap"`` or ``"map"``.
        mesh: Devices over which the runs are spread; None: they are on one.
        state: Parameters and optimiser's state, each leaf (r, ...). The next epoch overwrites
            its buffers: copy what is to be kept.
        history: ``loss`` and the loss's metrics, each (r, epochs), filled up to ``epoch``.
        programs: What lowers the user's functions, by their names: a checkpoint compares them.
        epoch: Epochs done.
        measured: What was measured, each leaf (r, len(measured_at), ...).
        measured_at: The epochs of the measurements.
        measured_data: Arrays that are measured on; None for the training data.
    """

    source: Arrays | Batches
    hyper: dict[str, np.ndarray]
    epochs: int
    execution: str
    mesh: Mesh | None
    state: State
    history: dict[str, np.ndarray]
    programs: dict[str, Callable[[], jax.stages.Lowered]]
    epoch: int = 0
    measured: Any = None
    measured_at: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    measured_data: PyTree = None

    def identity(self) -> dict[str, Any]:
        """What has to be the same for a run to go on from a checkpoint."""
        return {
            "epochs": self.epochs,
            "measure_at": self.measured_at.tolist(),
            "measured_data": fingerprint(self.measured_data),
            "execution": self.execution,
            "sweep": {name: _used(values).tolist() for name, values in self.hyper.items()},
            **self.source.identity(),
        }


def _used(values: np.ndarray) -> np.ndarray:
    """Hyper-parameters in the type of the calculation."""
    return values.astype(jax.dtypes.canonicalize_dtype(values.dtype))


class Hook:
    """What ``fit`` calls between epochs. A hook overrides the methods that it needs.

    Example:
        >>> class Announce(Hook):
        ...     def after_epoch(self, training):
        ...         print(training.epoch, "of", training.epochs)
    """

    def wrap(self, run: Run, example: Callable[[], PyTree], hyper: Hyper) -> Run:
        """Called before all else: the run that is trained in the place of ``run``.

        Args:
            run: What would be trained.
            example: Gives a batch.
            hyper: Hyper-parameters of the first run.
        """
        del example, hyper
        return run

    def prepare(self, training: Training) -> None:
        """Called first: check settings and allocate what is recorded."""

    def start(self, training: Training) -> None:
        """Called once all hooks are prepared: a checkpoint restores its progress here."""

    def before_epoch(self, training: Training) -> None:
        """Called before each epoch; ``training.epoch`` are done."""

    def after_epoch(self, training: Training) -> None:
        """Called after each epoch; ``training.epoch`` are done."""

    def end(self, training: Training) -> None:
        """Called once when all epochs are done."""

    def close(self, training: Training) -> None:
        """Called last, also where training fails or is interrupted."""


@dataclasses.dataclass
class Measure(Hook):
    """Measure the parameters of every run at chosen epochs, into ``Fit.measurements``.

    Attributes:
        function: ``(params, hyper, data) -> pytree`` of one run, jitted.
        data: Arrays that ``function`` receives (closed over, they would be compiled into the
            program); None: the training data.
        at: Epochs at which to measure; 0 is before training; None: all of them.

    Raises:
        ValueError: When training begins, if ``at`` is not within 0 to ``epochs``, there are no
            data, JAX's types change them, or there is another ``Measure``.

    Example:
        >>> hook = Measure(lambda params, hyper, data: jnp.sum(data @ params), at=(0, 10))
    """

    function: Callable[[Any, Hyper, Any], Any]
    data: PyTree = None
    at: Iterable[int] | None = None

    def __post_init__(self) -> None:
        if np.iterable(self.at):
            self.at = tuple(self.at)  # a generator is read once

    def prepare(self, training: Training) -> None:
        """Check the settings and allocate the measurements."""
        if training.measured is not None:
            raise ValueError("hooks has two Measure: wanted one, whose function returns both")
        check_function("Measure.function", self.function, "lambda params, hyper, data: …")
        epochs = range(training.epochs + 1)
        if self.at is not None and not np.iterable(self.at):
            raise ValueError(f"Measure.at is {self.at}: wanted several epochs, as ({self.at},)")
        at = np.unique(list(epochs if self.at is None else self.at))
        if not set(at.tolist()) <= set(epochs):
            raise ValueError(
                f"Measure.at is {at.tolist()}: wanted epochs from 0 to {training.epochs}"
            )
        at = at.astype(int)
        data = training.source.data if self.data is None else self.data
        if data is None:
            raise ValueError("Measure.data is None where data yields batches: wanted arrays")
        self._data = as_jax("Measure.data", data)
        training.measured_data = None if self.data is None else self._data
        training.measured_at = at
        self._function, alone = compiled_over_runs(
            self.function, execution=training.execution, shared=(2,), mesh=training.mesh
        )
        arguments = (training.state.params, training.hyper, self._data)
        training.programs["Measure.function"] = lowering(alone, *arguments)
        self._data = placed(self._data, Placement(training.mesh))
        if len(at):
            shapes = jax.eval_shape(alone, *arguments)
            training.measured = blank(shapes, len(at))

    def before_epoch(self, training: Training) -> None:
        """Measure, if this is one of the epochs."""
        if training.epoch in training.measured_at:
            column = int(np.searchsorted(training.measured_at, training.epoch))
            values = self._function(training.state.params, training.hyper, self._data)
            record(training.measured, column, values)

    def end(self, training: Training) -> None:
        """Measure after the last epoch, if it is one of the epochs."""
        self.before_epoch(training)


@dataclasses.dataclass
class Checkpoint(Hook):
    """Keep checkpoints in a folder, and resume from its newest one.

    A run that was killed and resumed ends bitwise the same as one that was not. Its settings,
    shapes and data, those of ``Measure`` too, must be the same, and so must the compiled programs
    of its functions, with what they close over. Of an iterable only the first batch is compared,
    and it must yield the same batches again. The folder is locked while training runs. Ctrl-C and
    SIGTERM wait until all hooks have seen the epoch, and its state is saved; a second one does not.

    Attributes:
        directory: The folder, made if it is absent.
        interval: Least seconds between two checkpoints; the last epoch always has one.

    Raises:
        ValueError: When training begins, if the folder holds a run of another configuration or
            program, or a damaged checkpoint, or another process is running it; nothing in it is
            changed then.
        OSError: If a checkpoint cannot be written; the one before it stays.

    Warns:
        RuntimeWarning: If the run began with other versions of its packages.

    Example:
        >>> hook = Checkpoint("runs/first", interval=60)
    """

    directory: str | Path
    interval: float = 30.0
    _checkpoints: Checkpoints | None = dataclasses.field(default=None, init=False, repr=False)
    _signals: HeldSignals | None = dataclasses.field(default=None, init=False, repr=False)

    def start(self, training: Training) -> None:
        """Claim the folder and restore its newest checkpoint."""
        if not isinstance(self.interval, int | float | np.number):
            raise TypeError(f"Checkpoint.interval is {self.interval!r}: wanted seconds")
        self._checkpoints = Checkpoints(
            self.directory,
            _progress(training),
            training.identity(),
            training.programs,
            interval=self.interval,
        )
        training.epoch, progress = self._checkpoints.restore()
        training.state, training.history, training.measured = progress
        self._signals = HeldSignals()

    def before_epoch(self, training: Training) -> None:
        """Save and stop, if a signal waits: hooks behind this one have seen the epoch before."""
        if self._signals is not None and self._signals.pending is not None:
            self._save(training, last=True)
            self._signals.deliver()

    def after_epoch(self, training: Training) -> None:
        """Save if the interval has passed or this was the last epoch."""
        self._save(training, last=training.epoch == training.epochs)

    def _save(self, training: Training, *, last: bool) -> None:
        if self._checkpoints is not None:
            self._checkpoints.save(training.epoch, _progress(training), last=last)

    def close(self, training: Training) -> None:
        """Unlock the folder."""
        if self._checkpoints is not None:
            self._checkpoints.close()
            self._checkpoints = None
        if self._signals is not None:
            signals, self._signals = self._signals, None
            signals.release()


@dataclasses.dataclass
class ProgressBar(Hook):
    """Show a bar of epochs with the mean loss of all runs, and on how many devices they are.

    Attributes:
        description: What stands in front of the bar.
    """

    description: str = ""
    _bar: Any = dataclasses.field(default=None, init=False, repr=False)

    def before_epoch(self, training: Training) -> None:
        """Open the bar at the first epoch, or where a checkpoint left off."""
        if self._bar is None:
            devices = "" if training.mesh is None else f"on {training.mesh.size} devices"
            self._bar = tqdm(
                desc=" ".join(filter(None, (self.description, devices))) or None,
                total=training.epochs,
                initial=training.epoch,
                unit="epoch",
            )
            self._bar.set_postfix_str("compiling")

    def after_epoch(self, training: Training) -> None:
        """Advance by one epoch."""
        loss = np.mean(training.history["loss"][:, training.epoch - 1])
        self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        self._bar.update()

    def end(self, training: Training) -> None:
        """Close the bar, before other hooks print."""
        self.close(training)

    def close(self, training: Training) -> None:
        """Close the bar, if there was anything to train."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class WarnOfDivergence(Hook):
    """Warn at the end of each run whose loss became NaN or infinite.

    Warns:
        RuntimeWarning: With the run and its first epoch that is not finite; training begins in
            epoch 1.
    """

    def end(self, training: Training) -> None:
        """Look through the losses."""
        for run, finite in enumerate(np.isfinite(training.history["loss"])):
            if not finite.all():
                warnings.warn(
                    f"the loss of run {run} is NaN or infinite from epoch {finite.argmin() + 1} "
                    "on: lower its learning rate, or look for labels out of range",
                    RuntimeWarning,
                    stacklevel=3,
                )


@dataclasses.dataclass
class Log(Hook):
    """Hand the metrics of each epoch to a logger.

    Attributes:
        logger: ``(values, epoch) -> None``, see ``gramlin_jax.loggers``. ``values`` are floats by
            the name of the metric, and in a sweep by name and run, as
            ``"loss/learning_rate=0.1 seed=0"``, so that each run has a line of its own. Where it
            raises, training goes on.

    Warns:
        RuntimeWarning: With the logger's first error.

    Example:
        >>> hook = Log(lambda values, epoch: print(epoch, values))
    """

    logger: Logger

    def __post_init__(self) -> None:
        self._log = Loggers(self.logger)

    def after_epoch(self, training: Training) -> None:
        """Log the epoch."""
        names = [f"/{label}" if label else "" for label in run_labels(training.hyper)]
        values = {
            f"{metric}{name}": float(column)
            for metric, history in training.history.items()
            for name, column in zip(names, history[:, training.epoch - 1], strict=True)
        }
        self._log(values, training.epoch)


def blank(shapes: Any, length: int) -> Any:
    """Host arrays (r, length, ...) to record values of the given shapes (r, ...) in."""
    return jax.tree.map(lambda s: np.zeros((s.shape[0], length, *s.shape[1:]), s.dtype), shapes)


def record(arrays: Any, column: int, values: Any) -> None:
    """Write values (r, ...) into a column of arrays (r, columns, ...)."""
    for array, value in zip(jax.tree.leaves(arrays), jax.tree.leaves(values), strict=True):
        array[:, column] = value


def _progress(training: Training) -> Progress:
    return Progress(training.state, training.history, training.measured)
