"""Tables of layers: as text, as HTML, and as data frames."""

from __future__ import annotations

import html
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

Library: TypeAlias = Literal["pandas", "polars"]
Form: TypeAlias = Literal["wide", "long"]


def cell(value: float) -> str:
    """Four digits; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.4g}"


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of cells, the first of each to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if i else text.ljust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (head, *rows)
    )


def html_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], below: Sequence[str] = ()
) -> str:
    """The same for notebooks, with lines of text below."""

    def line(cells: Sequence[str], tag: str) -> str:
        sides = ["left", *["right"] * (len(cells) - 1)]
        parts = (
            f'<{tag} style="text-align: {side}">{html.escape(text)}</{tag}>'
            for side, text in zip(sides, cells, strict=True)
        )
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    notes = "".join(f"<div>{html.escape(text)}</div>" for text in below)
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>{notes}"


def frame(
    rows: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]],
    form: Form = "wide",
    library: Library = "pandas",
) -> Any:
    """A data frame from rows.

    Args:
        rows: Each is what names it, and its numbers, by the names of their columns.
        form: ``"wide"`` has a column for each number; ``"long"`` has the columns ``metric`` and
            ``value``, and a line for each number.
        library: Whose frame it is.

    Raises:
        ValueError: If ``form`` or ``library`` is unknown, or a number has the name of a key.
        ImportError: If the library is not installed.
    """
    if form not in ("wide", "long"):
        raise ValueError(f"form is {form!r}: wanted 'wide' or 'long'")
    if library not in ("pandas", "polars"):
        raise ValueError(f"library is {library!r}: wanted 'pandas' or 'polars'")
    if taken := {name for keys, numbers in rows for name in keys if name in numbers}:
        raise ValueError(f"a metric is called {taken.pop()!r}: wanted another name than a column's")
    lines: list[dict[str, Any]] = [{**keys, **numbers} for keys, numbers in rows]
    if form == "long":
        lines = [
            {**keys, "metric": name, "value": value}
            for keys, numbers in rows
            for name, value in numbers.items()
        ]
    names = dict.fromkeys(name for line in lines for name in line)
    columns = {name: [line.get(name, math.nan) for line in lines] for name in names}
    try:
        return importlib.import_module(library).DataFrame(columns)
    except ImportError as error:
        raise ImportError(
            f"{library} is missing ({error}): wanted it; pip install {library}"
        ) from None
