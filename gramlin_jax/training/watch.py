"""``Watch``: a hook of ``fit`` that watches layers in the training steps themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from gramlin_jax._measure.measurement import Measurement
from gramlin_jax._measure.probe import Probe, ProbeState
from gramlin_jax.loggers import Logger, Loggers
from gramlin_jax.support.precision import in_float64
from gramlin_jax.training.hooks import Hook, Training
from gramlin_jax.training.program import Hyper, Metrics, Run, State
from gramlin_jax.training.sweeps import run_labels

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


@dataclasses.dataclass
class Watch(Hook):
    """Measure layers on the batches that train them, with a ``Probe`` in every run's step.

    Training itself stays as it is, bit for bit. Each epoch has a measurement of its own, of the
    batches that were watched in it, while the parameters moved; one of fewer than ``every`` steps
    may have none. Under ``execution="vmap"`` each step pays for the watched and the plain pass;
    ``"map"`` pays for what it takes.

    Attributes:
        targets: ``batch -> real targets`` (n, k), as ``jax.nn.one_hot(batch[1], classes)``: the
            loss of ``fit`` returns no logits that labels could be compared with.
        every: Watch one step in ``every``.
        options: Further arguments of ``Probe``.
        logger: Takes ``Measurement.scalars`` after each epoch, with ``watched/`` before ``loss``,
            ``accuracy`` and ``count``: those of the whole epoch are ``Log``'s. In a sweep the
            names are followed by the run, as there.
        measurements: By epoch (the first is 1), one for each run, without their sums. Where a run
            goes on from a checkpoint, of the epochs since then; what logs them keeps all.

    Raises:
        ValueError: When training begins, as ``Probe``, or if there is another ``Watch``, or a hook
            before it that trains a ``Run`` of a class of its own.

    Example:
        >>> hook = Watch(lambda batch: jax.nn.one_hot(batch[1], 10), every=10)
    """

    targets: Callable[[Any], Array]
    every: int = 10
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    logger: Logger | None = None
    measurements: dict[int, list[Measurement]] = dataclasses.field(default_factory=dict)

    def wrap(self, run: Run, example: Callable[[], PyTree], hyper: Hyper) -> Run:
        """The run with a probe in its steps."""
        if isinstance(run, _Watched):
            raise ValueError("hooks has two Watch: wanted one, whose options name all metrics")
        if type(run) is not Run:  # what it has of its own would be lost
            raise ValueError(
                f"hooks has Watch behind one that trains a {type(run).__name__}: wanted Watch first"
            )
        self.measurements = {}  # those of a call before are of other networks
        self._log = Loggers(*([] if self.logger is None else [self.logger]))
        self._probe = Probe(
            run.checked_loss, self.targets, has_aux=True, every=self.every, **self.options
        )
        key, params = run.batch_key(hyper, 0, 0), run.start(hyper).params
        zero = self._probe.init(params, example(), key, hyper)
        return _Watched(**vars(run), probe=self._probe, zero=zero)

    def before_epoch(self, training: Training) -> None:
        """Begin anew: a checkpoint may hold what the epoch before has seen."""
        opt_state, state = training.state.opt_state
        training.state = training.state._replace(opt_state=(opt_state, _cleared(state)))

    def after_epoch(self, training: Training) -> None:
        """Read what the epoch has seen."""
        _, state = training.state.opt_state
        if not state.watched.all():  # ``every`` is more than the steps of an epoch
            return
        names = [f"/{label}" if label else "" for label in run_labels(training.hyper)]
        each = [self._probe.read(run) for run in _by_run(state, len(names))]
        self.measurements[training.epoch] = [dataclasses.replace(m, sums={}) for m in each]
        values = {
            f"{key if '/' in key else f'watched/{key}'}{name}": value
            for name, m in zip(names, each, strict=True)
            for key, value in m.scalars().items()
        }
        self._log(values, training.epoch)

    def end(self, training: Training) -> None:
        """Leave the optimiser's state as it is without a probe."""
        training.state = training.state._replace(opt_state=training.state.opt_state[0])


@dataclasses.dataclass(frozen=True)
class _Watched(Run):
    """A run whose optimiser's state is a pair, with that of the probe."""

    probe: Any = None
    zero: Any = None

    def start(self, hyper: Hyper) -> State:
        """The run's own start, and a probe that has seen nothing."""
        params, opt_state = super().start(hyper)
        return State(params, (opt_state, self.zero))

    def step(self, state: State, batch: PyTree, key: Array, hyper: Hyper) -> tuple[State, Metrics]:
        """The run's own, with the sums of the batch where it is watched."""
        opt_state, seen = state.opt_state
        (loss, metrics), gradient, seen = self.probe.value_and_grad(
            state.params, batch, seen, key, hyper
        )
        state = State(state.params, opt_state)
        params, opt_state = self.update(state, loss, gradient, (batch, key, hyper))
        return State(params, (opt_state, seen)), {**metrics, "loss": loss}


def _by_run(state: ProbeState, runs: int) -> list[ProbeState]:
    leaves, structure = jax.tree.flatten(state)
    return [jax.tree.unflatten(structure, [leaf[i] for leaf in leaves]) for i in range(runs)]


@in_float64
def _cleared(state: ProbeState) -> ProbeState:
    """The state with nothing watched yet; calls are counted on."""
    cleared = jax.tree.map(jnp.zeros_like, state)
    return cleared._replace(step=state.step, decay=state.decay)
