"""Options of the command line, and settings of a configuration as such; errors are one line."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import re
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn

from ..shared.checks import KINDS

HELP = ("-h", "--help")

MEANINGS = {
    "activation": "Activation of the hidden layers.",
    "batch_size": "Samples in a batch.",
    "dataset": "Data set: digits, or a name that ``gramlin_jax.data.load`` knows.",
    "depth": "Number of hidden layers.",
    "epochs": "Epochs of training.",
    "learning_rate": "Learning rate.",
    "momentum": "Momentum of SGD.",
    "optimizer": "Optimiser.",
    "samples": "Training samples to use, 0 for all.",
    "seeds": "Number of random seeds.",
    "steps": "Steps of training.",
    "width": "Units of each hidden layer.",
}
"""What settings mean whose configuration does not say otherwise."""


class Options(argparse.ArgumentParser):
    """A parser that raises ``ValueError`` where argparse would print its usage and exit."""

    def __init__(self, prog: str, description: str, **more: Any) -> None:
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(
            prog=prog,
            usage=f"{prog} [options]",
            description=description,
            formatter_class=form,
            allow_abbrev=False,
            exit_on_error=False,
            **more,
        )

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Read all arguments.

        Raises:
            ValueError: If one is unknown, lacks its value or has one of the wrong kind.
        """
        found, rest = self.read_known(arguments)
        if rest:
            self._refuse(next((word for word in rest if word.startswith("-")), rest[0]))
        return found

    def read_known(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Read what is known; the rest comes back."""
        try:
            return self.parse_known_args([_dashed(word) for word in arguments])
        except argparse.ArgumentError as error:
            name = str(error.argument_name).split("/")[-1].lstrip("-").replace("-", "_")
            if error.message.startswith("expected"):
                raise ValueError(f"{name} has no value: wanted one behind it") from None
            raise ValueError(f"{name} is {error.message}") from None

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong."""
        missing = message.partition("required: ")[2]
        raise ValueError(f"{missing} is absent: see {self.prog} --help" if missing else message)

    def _refuse(self, word: str) -> NoReturn:
        if not word.startswith("-"):
            raise ValueError(f"{word!r} is one word too many: see {self.prog} --help")
        option = word.partition("=")[0]
        near = difflib.get_close_matches(option, self._option_string_actions, n=1)
        wanted = f"wanted {near[0]}, or another" if near else "wanted one"
        raise ValueError(f"option {option} is unknown: {wanted} of {self.prog} --help")


def _dashed(word: str) -> str:
    """``--learning_rate`` is ``--learning-rate``."""
    return re.sub(r"^--\w[\w-]*", lambda found: found[0].replace("_", "-"), word)


def add_settings(parser: Options, config: Any, title: str) -> None:
    """An option for each setting of a configuration, with its meaning and value."""
    group = parser.add_argument_group(title)
    kind = type(config)
    meanings = MEANINGS | told(inspect.getdoc(kind) or "")
    for name, annotation in typing.get_type_hints(kind).items():
        value = getattr(config, name)
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            default=argparse.SUPPRESS,
            help=f"{meanings.get(name, '')} ({shown})".replace("%", "%%").replace("``", "").strip(),
            **_reading(annotation),
        )


def _reading(annotation: Any) -> dict[str, Any]:
    """How argparse reads a setting of that annotation."""
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(annotation) is tuple:
        kind, *others = typing.get_args(annotation)
        count = "*" if others == [...] else 1 + len(others)
        return {**_reading(kind), "nargs": count}
    if typing.get_origin(annotation) is Literal:
        return {"metavar": "|".join(typing.get_args(annotation))}
    return {"type": _reader(annotation), "metavar": {int: "N", float: "X"}.get(annotation, "NAME")}


def _reader(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            wanted = KINDS[kind][1]  # type: ignore[index]
            raise argparse.ArgumentTypeError(f"{text!r}: wanted {wanted}") from None

    return read


def told(docstring: str) -> dict[str, str]:
    """What a docstring says of the attributes, by name."""
    section = docstring.partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def configured(config: Any, found: argparse.Namespace) -> Any:
    """The configuration with the settings that were given.

    Raises:
        ValueError: As the configuration does.
    """
    names = {field.name for field in dataclasses.fields(config)}
    given = {name: value for name, value in vars(found).items() if name in names}
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    return dataclasses.replace(config, **given)
