"""``Comparison``: two measurements side by side, layer by layer."""

from __future__ import annotations

import dataclasses
from typing import Any

from gramlin_jax._measure.tables import Library, cell, frame, html_table, text_table


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The metrics that two measurements share, and how they differ; ``print`` shows the table.

    Attributes:
        before: Values by layer and metric, of those that both measurements have.
        after: The same of the other measurement.
        only_before: Layers that only the first has.
        only_after: Layers that only the other has.
    """

    before: dict[str, dict[str, float]]
    after: dict[str, dict[str, float]]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    @property
    def differences(self) -> dict[str, dict[str, float]]:
        """After less before, by layer and metric."""
        return {
            layer: {name: self.after[layer][name] - value for name, value in values.items()}
            for layer, values in self.before.items()
        }

    def to_frame(self, *, library: Library = "pandas") -> Any:
        """Columns layer, metric, before, after and difference: a line for each number."""
        rows = [({"layer": layer, "metric": name}, n) for layer, name, n in self._rows()]
        return frame(rows, library=library)

    def __repr__(self) -> str:
        return "\n".join([text_table(HEAD, self._cells()), *self._missing()])

    def _repr_html_(self) -> str:
        return html_table(HEAD, self._cells(), self._missing())

    def _rows(self) -> list[tuple[str, str, dict[str, float]]]:
        differences = self.differences
        return [
            (
                layer,
                name,
                {
                    "before": value,
                    "after": self.after[layer][name],
                    "difference": differences[layer][name],
                },
            )
            for layer, values in self.before.items()
            for name, value in values.items()
        ]

    def _cells(self) -> list[list[str]]:
        return [
            [layer, name, *map(cell, numbers.values())] for layer, name, numbers in self._rows()
        ]

    def _missing(self) -> list[str]:
        sides = {"first": self.only_before, "second": self.only_after}
        return [f"only in the {side}: {', '.join(names)}" for side, names in sides.items() if names]


HEAD = ("layer", "metric", "before", "after", "difference")
