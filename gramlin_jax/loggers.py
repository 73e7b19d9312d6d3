"""Loggers: functions of ``(values, step)`` that hand numbers to what people watch them in.

``values`` are floats by name, as ``Measurement.scalars`` gives them. Anything with this one method
is a logger: a function, too.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax

from gramlin_jax.support.checks import check_function
from gramlin_jax.support.extras import import_extra
from gramlin_jax.support.files import append_lines, check_lines
from gramlin_jax.support.warn import warn_only


class Logger(Protocol):
    """What takes the numbers of a step.

    Example:
        >>> def logger(values, step):
        ...     print(step, values["loss"])
        >>> Loggers(logger)({"loss": 2.5}, 10)
        10 2.5
    """

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Take ``values`` of ``step``."""


class Loggers:
    """Several loggers as one, none of which can stop training.

    Where one raises, the others are called all the same. Its first error is shown as a warning, or
    printed to standard error where warnings are errors; later ones are not.

    Args:
        loggers: To call, in this order.

    Raises:
        TypeError: If one is no function.

    Warns:
        RuntimeWarning: With the first error of each logger.

    Example:
        >>> log = Loggers(Print(), Print("{step:>6}  {name} is {value:.2f}"))
        >>> log({"loss": 2.5}, 10)
        step 10  loss 2.5
            10  loss is 2.50
    """

    def __init__(self, *loggers: Logger) -> None:
        for index, logger in enumerate(loggers):
            check_function(f"loggers[{index}]", logger, "Print(), or lambda values, step: …")
        self._loggers, self._failed = loggers, set[int]()

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Hand the values to each logger."""
        for index, logger in enumerate(self._loggers):
            try:
                logger(dict(values), step)
            except Exception as error:  # the user's logger may raise anything
                if index not in self._failed:
                    warn_only(
                        f"a logger ({type(logger).__name__}) failed at step {step} with "
                        f"{type(error).__name__}: {error}. Training goes on; its further errors "
                        "are not shown"
                    )
                self._failed.add(index)


class Print:
    """Print a line for each number.

    Args:
        form: Of a line, with ``step``, ``name`` and ``value``.
        to: What takes the line.

    Example:
        >>> Print()({"params/Dense_0/kernel/target_linearity": 0.5}, 10)
        step 10  params/Dense_0/kernel/target_linearity 0.5
    """

    def __init__(
        self, form: str = "step {step}  {name} {value:.6g}", to: Callable[[str], Any] = print
    ) -> None:
        self._form, self._to = form, to

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Print the values."""
        for name, value in values.items():
            self._to(self._form.format(step=step, name=name, value=value))


class JSONLines:
    """Append a line of JSON for each step: ``step`` and the values; NaN and infinity are null.

    On a full disk no line is torn: the call raises, and the file is as it was. A last line that was
    torn, as by a kill, is cut off. Epochs that run again after a kill have a second line; the last
    one of a step counts.

    Args:
        path: The file, made if it is absent.

    Raises:
        ValueError: If the file holds something else than lines of JSON; it is left as it is. From a
            call, if a value is called ``step``, or the step is no whole number.
        OSError: If the file cannot be read, or from a call, written.

    Warns:
        RuntimeWarning: Where a line is cut off.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "log.jsonl"
        ...     JSONLines(path)({"loss": 2.5}, 10)
        ...     print(path.read_text(), end="")
        {"step": 10, "loss": 2.5}
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).expanduser()
        if self._path.is_file():
            check_lines(self._path, BEGIN)

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Append the values."""
        if "step" in values:
            raise ValueError("values has the name 'step': wanted another, this is the step's own")
        known = {k: float(v) if math.isfinite(v) else None for k, v in values.items()}
        line = json.dumps({"step": _whole(step), **known}) + "\n"
        if torn := append_lines(self._path, line.encode(), BEGIN):
            warn_only(f"the last line of {self._path} was torn and is cut off: {torn[:40]!r}")


BEGIN = b'{"step": '


class TensorBoard:
    """Write event files that TensorBoard shows, a curve for each name. Needs ``tensorboardX``.

    Each step is on the disk when the call returns.

    Args:
        folder: Where the files go: ``tensorboard --logdir folder``.

    Raises:
        ImportError: If tensorboardX is not installed.

    Example:
        >>> log = TensorBoard("runs/first")  # doctest: +SKIP
        >>> log(probe.read(state).scalars(), step)  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        files = import_extra("tensorboardX.event_file_writer", "loggers")
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        # Not its SummaryWriter: that one's thread loses what it has not written when training ends.
        # Files are named by host and second, which writers that start together share.
        own = f".{os.getpid()}.{secrets.token_hex(4)}"
        self._writer = files.EventsWriter(str(folder / "events"), own)
        weakref.finalize(self, self._writer.close)

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Write the values."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        each = [Summary.Value(tag=k, simple_value=float(v)) for k, v in values.items()]
        event = Event(step=_whole(step), wall_time=time.time(), summary=Summary(value=each))
        self._writer.write_event(event)
        self._writer.flush()


class WandB:
    """Log to a run of Weights & Biases, online or offline.

    It takes what several calls log of a step, keeps it until the next step or the end of the run,
    and ignores earlier steps.

    Args:
        run: From ``wandb.init``.

    Example:
        >>> log = WandB(wandb.init(project="layers", mode="offline"))  # doctest: +SKIP
        >>> log(probe.read(state).scalars(), step)  # doctest: +SKIP
    """

    def __init__(self, run: Any) -> None:
        self._run = run

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Log the values."""
        self._run.log(dict(values), step=_whole(step))


class Monitoring:
    """Record the numbers as scalars of ``jax.monitoring``, with ``step`` beside each.

    Args:
        prefix: Of the names, which JAX wants to look like paths.

    Example:
        >>> def listen(event, value, **also):
        ...     if event.startswith("/example/"):
        ...         print(event, value, also)
        >>> jax.monitoring.register_scalar_listener(listen)
        >>> Monitoring("/example")({"loss": 2.5}, 10)
        /example/loss 2.5 {'step': 10}
        >>> jax.monitoring.unregister_scalar_listener(listen)
    """

    def __init__(self, prefix: str = "/gramlin_jax") -> None:
        self._prefix = prefix

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Record the values."""
        for name, value in values.items():
            jax.monitoring.record_scalar(f"{self._prefix}/{name}", float(value), step=_whole(step))


def _whole(step: Any) -> int:
    try:
        if (whole := int(step)) == step:  # cut, it would be another step
            return whole
    except (TypeError, ValueError, OverflowError):  # None, NaN, infinity
        pass
    raise ValueError(f"step is {step!r}: wanted a whole number")
