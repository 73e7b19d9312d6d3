"""``gramlin measure``: measure a model of the user's own, named by a file and a function in it."""

from __future__ import annotations

import csv
import dataclasses
import html
import importlib.util
import inspect
import io
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from gramlin_jax.support.files import write_whole

from .options import read
from .place import PATH

if TYPE_CHECKING:
    from gramlin_jax import Measurement

PURPOSE = """Measure a model of your own.

FILE:FUNCTION names a function without arguments in a Python file. It returns the arguments of
gramlin_jax.measure by name, as in

    def digits():
        ...
        return {"f": model.apply, "params": params, "batches": (x, y), "loss": loss}"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options.

    Attributes:
        target: As model.py:digits.
        metrics: Metrics instead of the usual.
        layers: Layers instead of all.
        batch_size: Samples per slice.
        coverage: Print how parameters are used.
        csv: Write the table as CSV.
        html: Write the table as a page.
        save: Write it for ``Measurement.load``.
    """

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE:FUNCTION")]
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    layers: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    coverage: bool = False
    csv: Annotated[Path | None, PATH] = None
    html: Annotated[Path | None, PATH] = None
    save: Annotated[Path | None, PATH] = None


def main(arguments: Sequence[str], prog: str) -> None:
    """Print the table of a measurement, and write what the options name."""
    from gramlin_jax import measure

    found = read(Options, arguments, prog, PURPOSE)
    given = _returned(found.target)
    for name in ("metrics", "layers", "batch_size"):
        if (value := getattr(found, name)) not in (None, ()):
            given[name] = value
    _check_names(given)
    unmeasured = [name for name in ("coverage", "csv", "html", "save") if getattr(found, name)]
    if given.get("dry_run") and unmeasured:
        raise ValueError(
            f"--{unmeasured[0]} is given where {found.target} returns dry_run=True, which measures "
            "nothing: wanted one of both"
        )
    m = measure(**given)
    print(m)
    if found.coverage:
        print(m.coverage)
    for option, text in (("csv", _csv), ("html", _page)):
        if path := getattr(found, option):
            content = text(m)
            write_whole(path, lambda file, content=content: file.write(content.encode()))  # type: ignore[misc]
    if found.save:
        m.save(found.save)


def _returned(target: str) -> dict[str, Any]:
    """What the named function returns.

    Raises:
        ValueError: If there is no such file or function, or it returns something else.
    """
    file, _, name = target.rpartition(":")
    if not file or not name:
        raise ValueError(f"FILE:FUNCTION is {target!r}: wanted a file and a function, model.py:f")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(f"FILE is {file}, which does not exist: wanted a Python file")
    function = getattr(_module(path, target), name, None)
    if not callable(function):
        raise ValueError(f"FUNCTION is {name!r}: wanted a function that {file} defines")
    returned = _of_the_user(function, target)
    if not isinstance(returned, Mapping):
        raise ValueError(
            f"{target} returns {type(returned).__name__}: wanted a dictionary of the arguments of "
            "gramlin_jax.measure"
        )
    return dict(returned)


def _module(path: Path, target: str) -> Any:
    sys.path.insert(0, str(path.resolve().parent))  # as for a script
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"FILE is {path}: wanted a Python file, NAME.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    loader = spec.loader
    _of_the_user(lambda: loader.exec_module(module), target)
    return module


def _of_the_user(function: Any, target: str) -> Any:
    """Call code of the user's, whose errors need their traceback."""
    try:
        return function()
    except Exception:
        traceback.print_exc()
        raise SystemExit(f"error: {target} raised what stands above") from None


def _check_names(given: Mapping[str, Any]) -> None:
    from gramlin_jax import measure

    known = inspect.signature(measure).parameters
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{unknown[0]} is no argument of measure: wanted {', '.join(known)}")
    needed = ("f", "params", "batches", "loss")
    if absent := [name for name in needed if name not in given]:
        raise ValueError(f"{absent[0]} is absent: wanted {', '.join(needed)} from the function")


def _csv(m: Measurement) -> str:
    """A line a layer; numbers in full."""
    file = io.StringIO()
    names = list(next(iter(m.metrics.values()), {}))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["layer", *names])
    writer.writerows(
        [layer, *(repr(float(v)) for v in row.values())] for layer, row in m.metrics.items()
    )
    return file.getvalue()


def _page(m: Measurement) -> str:
    style = (
        "body{font:15px/1.5 system-ui;margin:2em;color-scheme:light dark}td,th{padding:2px 10px}"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Layers</title>'
        f"<style>{style}</style>{m._repr_html_()}<pre>{html.escape(m.coverage)}</pre></html>\n"
    )
