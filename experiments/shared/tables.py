"""Tables of text, as a terminal and as a page of Markdown shows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells under their heads.

    Attributes:
        heads: Of the columns.
        rows: As many cells each.
        note: What stands above them, if anything.

    Example:
        >>> print(Table(("layer", "TL"), [("1", "0.9"), ("2", "0.95")]))
        layer    TL
            1   0.9
            2  0.95
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def __str__(self) -> str:
        lines = [self.heads, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        texts = (
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        )
        return "\n".join([self.note] * bool(self.note) + [text.rstrip() for text in texts])


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The lines of a table in Markdown.

    Example:
        >>> print(markdown(["a", "b"], [["1", "2"]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in (heads, *rows)]
    lines.insert(1, "|".join(["---"] * len(heads)))
    return "\n".join(f"|{line}|" if set(line) <= {"-", "|"} else f"| {line} |" for line in lines)
