"""``gramlin record``: keep what the documentation says of a run, and make its tables of that."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from gramlin_jax.support.files import read_json, write_json, write_whole

from ..gallery.documented import EARLIER, NAME, earlier_in, rewritten, summaries_in, summary
from ..registry import Experiment, find
from ..shared.results import Result
from .options import read
from .place import PATH

PURPOSE = """Keep a summary of a finished run, and its figures, in the documentation.

Without a run, make the tables of all pages anew from the summaries that are kept."""


@dataclasses.dataclass(frozen=True)
class Record:
    """Options.

    Attributes:
        run: NAME FOLDER: what to call the run, as in fig02_digits, and its folder.
        docs: The folder of the documentation.
        commit: Of the code that ran, where the run does not say.
        figures: Whether to draw those of its figures, too, that a page shows.
    """

    run: Annotated[
        tuple[str, Path] | tuple[()], tyro.conf.Positional, tyro.conf.arg(metavar="NAME FOLDER")
    ] = ()
    docs: Annotated[Path, PATH] = Path("docs")
    commit: str = ""
    figures: bool = True


def main(arguments: Sequence[str], prog: str) -> None:
    """Write the summary, then all pages whose tables change, and say which."""
    options = read(Record, arguments, prog, PURPOSE)
    if not options.docs.is_dir():
        raise ValueError(f"docs is {options.docs}, no folder: wanted that of a clone's pages")
    if options.run:
        name, folder = options.run
        print(keep(name, folder.expanduser(), options))
    results = options.docs / "results"
    known, earlier = summaries_in(results), earlier_in(results)
    for page in sorted(options.docs.rglob("*.md")):
        before = page.read_text()
        after = rewritten(before, known, earlier)
        if after != before:
            write_whole(page, lambda file, text=after: file.write(text.encode()))  # type: ignore[misc]
            print(f"tables: {page}")


def keep(name: str, folder: Path, options: Record) -> str:
    """Keep the summary and the figures of a run; where, in a line.

    Raises:
        ValueError: If no page could name it so.
    """
    from ..runs import read_result

    if not re.fullmatch(NAME, name) or f"{name}.json" == EARLIER:
        raise ValueError(
            f"name is {name!r}: wanted letters, digits, _ and ., as in fig02_digits, which a page "
            f"can name, and not {EARLIER.removesuffix('.json')}"
        )
    values = read_json(folder / "config.json")
    experiment = find(values.pop("experiment", ""))
    result = read_result(experiment.name, config_of(experiment, values), folder)
    path = options.docs / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, summary(experiment, result, options.commit))
    if options.figures:
        _draw(name, experiment, result, options.docs)
    return f"summary: {path}"


def _draw(name: str, experiment: Experiment, result: Result, docs: Path) -> None:
    """The pictures of a run that a page shows."""
    pages = "".join(page.read_text() for page in docs.rglob("*.md"))
    for picture, draw in experiment.pictures(result).items():
        end = ".png" if picture == "figure.png" else f"_{picture}"
        if f"figures/{name}{end})" in pages:
            (docs / "figures").mkdir(exist_ok=True)
            write_whole(docs / "figures" / f"{name}{end}", draw)


def config_of(experiment: Experiment, values: dict[str, Any]) -> Any:
    """The configuration that a run folder keeps, in which tuples have become lists.

    Raises:
        ValueError: If it has settings that the experiment does not.
    """

    def plain(value: Any) -> Any:
        return tuple(map(plain, value)) if isinstance(value, list) else value

    preset = experiment.preset("default")
    if unknown := sorted(set(values) - set(dataclasses.asdict(preset))):
        raise ValueError(
            f"config.json has {', '.join(unknown)}: wanted the settings of {experiment.name} in "
            "this version"
        )
    return dataclasses.replace(preset, **{name: plain(value) for name, value in values.items()})
