"""Errors as one line."""

from __future__ import annotations


def line_of(error: Exception) -> str:
    """An error of the user's or of the machine, in one line if that says all; else empty."""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory: choose smaller sizes ({_first_line(error) or 'none is left'})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is missing: wanted the extra; pip install 'gramlin-jax[figures]'"
    if isinstance(error, FileNotFoundError):  # says where it looked, and how to get what is missing
        return str(error)
    if isinstance(error, ValueError | OSError | ImportError | OverflowError):
        return _first_line(error) or type(error).__name__
    if isinstance(error, TypeError) and ": wanted" in str(error):  # a check's, not of a bug
        return _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    """With the notes that are one line, as those of what a function was called with."""
    notes = [note for note in getattr(error, "__notes__", ()) if "\n" not in note]
    return "; ".join(filter(None, [str(error).strip().partition("\n")[0], *notes]))
