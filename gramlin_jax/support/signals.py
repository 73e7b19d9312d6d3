"""Ctrl-C and SIGTERM that wait until what is under way has been saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

Handler: TypeAlias = "Callable[[int, FrameType | None], Any] | int"

HELD = (signal.SIGINT, signal.SIGTERM)


class HeldSignals:
    """Hold SIGINT and SIGTERM back until ``deliver`` or ``release``.

    A second signal does not wait. Outside of the main thread, where Python allows no handlers,
    nothing is held.

    Attributes:
        pending: The signal that waits; None if none does.

    Example:
        >>> held = HeldSignals()
        >>> signal.raise_signal(signal.SIGINT)
        >>> try:
        ...     held.deliver()
        ... except KeyboardInterrupt:
        ...     print("stopped")
        stopped
    """

    def __init__(self) -> None:
        self.pending: int | None = None
        self._before: dict[int, Handler] = {}
        if threading.current_thread() is threading.main_thread():
            for number in HELD:
                # None: a handler that was not installed from Python, which cannot be put back.
                self._before[number] = signal.signal(number, self._hold) or signal.SIG_DFL

    def deliver(self) -> None:
        """Release, if a signal waits."""
        if self.pending is not None:
            self.release()

    def release(self) -> None:
        """Put the handlers of before back, and send them the signal that waits."""
        while self._before:
            signal.signal(*self._before.popitem())
        number, self.pending = self.pending, None
        if number is not None:
            signal.raise_signal(number)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        del frame
        again, self.pending = self.pending is not None, number
        if again:
            self.release()
