"""``Records``: measurements over the steps of training, appended to a file."""

from __future__ import annotations

import json
import math
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gramlin_jax._measure.charts import curves
from gramlin_jax._measure.measurement import FLOORS, Measurement
from gramlin_jax._measure.tables import Form, Library, frame
from gramlin_jax.support.checks import check_integer
from gramlin_jax.support.files import append_lines, is_json
from gramlin_jax.support.warn import warn_only

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Records(Mapping[int, Measurement]):
    """A series of measurements over steps, in a file that only grows: a mapping of steps.

    The file holds one line of JSON for each measurement: its metrics, loss, accuracy, notes and a
    checksum, not its sums. When ``append`` returns, the line is on the disk, or a warning says that
    it is not. A process may be killed at any moment: a last line that is torn is dropped with a
    note, and cut off by the next ``append``; the rest is as it was. Where training resumed from an
    earlier step, what it measured again takes the place of what it had measured from there on.

    Args:
        path: The file. It is made by the first ``append``; an older one is continued.

    Attributes:
        path: The file.
        notes: What is wrong with the file: lines that were dropped.

    Raises:
        OSError: If the path is a folder, or the file cannot be read.
        ValueError: If the file holds something else; it is left as it is.

    Warns:
        RuntimeWarning: With the notes.

    Example:
        >>> import tempfile
        >>> f, params = lambda params, x: x @ params["w"], {"w": jnp.ones((3, 2))}
        >>> data = jax.random.normal(jax.random.key(0), (50, 3)), jnp.arange(50) % 2
        >>> loss = lambda out, y: optax.losses.softmax_cross_entropy_with_integer_labels(out, y)
        >>> m = measure(f, params, data, loss=lambda out, y: loss(out, y).mean())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     records = Records(folder + "/layers.jsonl")
        ...     records.append(0, m)
        ...     records.append(100, m)
        ...     again = Records.load(records.path)
        >>> again.steps, again[100]["w"]["kernel_norm"] == m["w"]["kernel_norm"]
        ((0, 100), True)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._measurements: dict[int, Measurement] = {}
        self._unwritten = b""
        self.notes: tuple[str, ...] = ()
        if self.path.is_dir():
            raise IsADirectoryError(f"path {self.path} is a folder: wanted a file, as run.jsonl")
        if self.path.exists():
            self._read()

    @staticmethod
    def load(path: str | Path) -> Records:
        """The records in a file that is there.

        Raises:
            FileNotFoundError: If there is none.
            OSError: If it cannot be read.
            ValueError: If it holds something else.
        """
        if not Path(path).expanduser().exists():
            raise FileNotFoundError(f"path {path} does not exist: wanted a file of Records")
        return Records(path)

    def append(self, step: int, measurement: Measurement) -> None:
        """Add the measurement of a step to the file.

        Where it cannot be written, as on a full disk, training goes on: the measurement is kept in
        memory, and written with the next one that can be.

        Raises:
            TypeError: If ``step`` is no integer or ``measurement`` no ``Measurement``.

        Warns:
            RuntimeWarning: With the error, at the first measurement that cannot be written; where
                warnings are errors, it is printed to standard error.
        """
        if not isinstance(measurement, Measurement):
            kind = type(measurement).__name__
            raise TypeError(f"measurement is a {kind}: wanted append(step, measurement)")
        line = _line(check_integer("step", step), measurement)
        self._put(*_parsed(line))
        failed_before, self._unwritten = bool(self._unwritten), self._unwritten + line
        try:
            append_lines(self.path, self._unwritten, BEGIN)
            self._unwritten = b""
        except (OSError, ValueError) as error:
            if not failed_before:
                warn_only(
                    f"step {step} was not written: {error}. It is kept in memory, and written "
                    "with the next step that can be"
                )

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps that were measured, ascending."""
        return tuple(self._measurements)

    def __getitem__(self, step: int) -> Measurement:
        if step not in self._measurements:
            raise KeyError(f"step is {step}: wanted one of {', '.join(map(str, self.steps))}")
        return self._measurements[step]

    def __iter__(self) -> Iterator[int]:
        return iter(self._measurements)

    def __len__(self) -> int:
        return len(self._measurements)

    def __repr__(self) -> str:
        steps = f", steps {self.steps[0]} to {self.steps[-1]}" if self.steps else ""
        return "\n".join([f"{self.path}: {len(self)} measurements{steps}", *self.notes])

    def frame(self, form: Form = "wide", *, library: Library = "pandas") -> Any:
        """All metrics as a data frame, with a line for each step and layer.

        Args:
            form: ``"wide"``: columns ``step``, ``layer`` and one for each metric; ``"long"``:
                ``step``, ``layer``, ``metric`` and ``value``.
            library: ``"pandas"`` or ``"polars"``.

        Raises:
            ValueError: If ``form`` or ``library`` is unknown.
            ImportError: If the library is not installed.
        """
        rows = [
            ({"step": step, "layer": layer}, values)
            for step, measurement in self._measurements.items()
            for layer, values in measurement.metrics.items()
        ]
        return frame(rows, form, library)

    def series(self, metric: str) -> dict[str, np.ndarray]:
        """The values of a metric over ``steps`` by layer, NaN where it was not measured.

        Raises:
            ValueError: If it never was.
        """
        values = [m.metrics for m in self._measurements.values()]
        known = dict.fromkeys(name for v in values for layer in v.values() for name in layer)
        if metric not in known:
            wanted = f"one of {', '.join(known)}" if known else "a measurement first, by append"
            raise ValueError(f"metric is {metric!r}: wanted {wanted}")
        layers = dict.fromkeys(layer for v in values for layer in v)
        return {
            layer: np.array([v.get(layer, {}).get(metric, math.nan) for v in values])
            for layer in layers
        }

    def plot(self, metric: str = "target_linearity") -> Figure:
        """A metric over the steps, a line for each layer; the mean noise floor dotted.

        Raises:
            ValueError: If the metric was not measured.
        """
        values = self.series(metric)
        try:
            floors = list(self.series(FLOORS.get(metric, "")).values())
        except ValueError:  # it has none, or it was not measured
            return curves(self.steps, values, [], metric)
        known = np.isfinite(floors)
        floor = np.where(known, floors, 0).sum(0) / np.maximum(known.sum(0), 1)
        return curves(self.steps, values, np.where(known.any(0), floor, np.nan), metric)

    def _put(self, step: int, measurement: Measurement) -> None:
        while self._measurements and next(reversed(self._measurements)) >= step:
            self._measurements.popitem()
        self._measurements[step] = measurement

    def _read(self) -> None:
        notes, content = [], self.path.read_bytes()
        lines = content.splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            try:
                self._put(*_parsed(line))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                is_torn = not line.endswith(b"\n") and not is_json(line)
                damaged = f"it is damaged ({error})"
                why = "it is torn, and the next append cuts it off" if is_torn else damaged
                notes.append(f"line {number} of {self.path} was dropped: {why}")
        if content.strip() and not self and not any(map(_is_known, lines)):
            raise ValueError(
                f"path {self.path} holds no record: wanted a new file, or one of Records; nothing "
                "was changed"
            )
        self.notes = tuple(notes)
        for note in notes:
            warnings.warn(note, RuntimeWarning, stacklevel=3)


BEGIN = b'{"checksum": "'


def _is_known(line: bytes) -> bool:
    """Whether a line begins as a record, also where it is torn or damaged."""
    return line[: len(BEGIN)] == BEGIN[: len(line)]


def _line(step: int, measurement: Measurement) -> bytes:
    record = {"step": step, **measurement.to_dict()}
    return _text({"checksum": _checksum(record), **_plain(record)}) + b"\n"


def _parsed(line: bytes) -> tuple[int, Measurement]:
    """What a line holds.

    Raises:
        ValueError: If it is not as it was written.
    """
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("it holds no measurement")
    checksum = record.pop("checksum")
    if checksum != _checksum(record):
        raise ValueError("its checksum is another")
    return record.pop("step"), Measurement.from_dict(record)


def _checksum(record: dict[str, Any]) -> str:
    return f"{zlib.crc32(_text(_plain(record))):08x}"


def _text(plain: Any) -> bytes:
    return json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()


def _plain(value: Any) -> Any:
    """Numbers that JSON does not know as text, which ``float`` reads."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
