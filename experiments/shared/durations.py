"""Durations as a person says them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in words, to two digits.

    Example:
        >>> duration(7.2), duration(43), duration(192), duration(9000)
        ('7 seconds', '43 seconds', '3 minutes', '2.5 hours')
    """
    if seconds < 89.5:
        return _counted(f"{seconds:.0f}", "second")
    if seconds < 5400:
        return _counted(f"{seconds / 60:.0f}", "minute")
    return _counted(f"{seconds / 3600:.2g}", "hour")


def _counted(number: str, unit: str) -> str:
    return f"{number} {unit}" if number == "1" else f"{number} {unit}s"
