"""Durations as a person says them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in words, to two digits or whole hours.

    Example:
        >>> duration(7.2), duration(43), duration(192), duration(9000)
        ('7 seconds', '43 seconds', '3 minutes', '2.5 hours')
    """
    if seconds < 89.5:
        return _counted(f"{seconds:.0f}", "second")
    if seconds < 5400:
        return _counted(f"{seconds / 60:.0f}", "minute")
    hours = seconds / 3600
    return _counted(f"{hours:.2g}" if hours < 99 else f"{hours:.0f}", "hour")  # not 1e+02


def _counted(number: str, unit: str) -> str:
    return f"{number} {unit}" if number == "1" else f"{number} {unit}s"
