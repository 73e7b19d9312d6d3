"""The runs that are found in a folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from gramlin_jax.support.files import read_json

from ..registry import EXPERIMENTS, PRESETS

VERSIONS = ("gramlin_jax", "python", "jax", "jaxlib", "flax", "optax", "numpy", "device")


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder says of itself.

    Attributes:
        folder: The folder, ``root/NAME/PRESET-HASH``.
        name: Of the experiment.
        title: Of the experiment; its name where no experiment is of that name.
        preset: Whose configuration the run changes.
        config: The settings.
        summary: Claims, notes, seconds and versions; empty where the run has not finished.
        problem: Why the folder cannot be read; empty if it can.
    """

    folder: Path
    name: str
    title: str
    preset: str
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    problem: str = ""

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Statement, verdict and evidence of each claim."""
        found: list[dict[str, Any]] = self.summary.get("claims", [])
        return found

    @property
    def changes(self) -> list[str]:
        """Settings that are not those of the preset, as ``dataset=mnist``."""
        experiment = next((e for e in EXPERIMENTS if e.name == self.name), None)
        if experiment is None or self.preset not in experiment.presets:
            return []
        preset = json.loads(json.dumps(dataclasses.asdict(experiment.preset(self.preset))))
        return [f"{k}={v}" for k, v in self.config.items() if k in preset and v != preset[k]]

    @property
    def versions(self) -> dict[str, str]:
        """With which the result was computed."""
        return {name: self.summary[name] for name in VERSIONS if name in self.summary}


def runs_in(root: Path) -> list[Run]:
    """The runs below ``root``, in the order of the experiments, unfinished ones last."""
    found = [_read(path.parent) for path in root.expanduser().glob("*/*/config.json")]
    return sorted(found, key=_place)


def _read(folder: Path) -> Run:
    name, preset = folder.parent.name, folder.name.rpartition("-")[0] or folder.name
    title = next((e.title for e in EXPERIMENTS if e.name == name), name)
    run = Run(folder, name, title, preset)
    try:
        config = read_json(folder / "config.json")
        path = folder / "summary.json"
        summary = read_json(path) if path.exists() else {}
    except (ValueError, OSError) as error:
        return dataclasses.replace(run, problem=str(error).partition("\n")[0])
    config.pop("experiment", None)
    return dataclasses.replace(run, config=config, summary=summary)


def _place(run: Run) -> tuple[bool, int, int, str]:
    names, presets = [e.name for e in EXPERIMENTS], list(PRESETS)[::-1]  # the largest first
    return (
        not run.summary,
        names.index(run.name) if run.name in names else len(names),
        presets.index(run.preset) if run.preset in presets else len(presets),
        run.folder.name,
    )
