"""Options of the command line, read by tyro; what is wrong with them is one line."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import re
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

T = TypeVar("T")

MEANINGS = {
    "activation": "Activation of the hidden layers.",
    "batch_size": "Samples in a batch.",
    "dataset": "Data set: digits, or a name that ``gramlin_jax.data.load`` knows.",
    "depth": "Number of hidden layers.",
    "epochs": "Epochs of training.",
    "heads": "Attention heads of each layer.",
    "learning_rate": "Learning rate.",
    "learning_rates": "Learning rates.",
    "momentum": "Momentum of SGD.",
    "optimizer": "Optimiser.",
    "pretraining_rate": "Learning rate of pre-training.",
    "samples": "Training samples to use, 0 for all.",
    "seeds": "Number of random seeds.",
    "steps": "Steps of training.",
    "weight_decays": "Weight decays.",
    "width": "Units of each hidden layer.",
}
"""What settings mean whose configuration does not say otherwise."""


def read(form: Callable[..., T], arguments: Sequence[str], prog: str, purpose: str) -> T:
    """Call ``form``, a dataclass, with the arguments that its fields say.

    Raises:
        ValueError: If one is unknown, lacks its value or has one of the wrong kind.
        SystemExit: After ``--help`` was printed.
    """
    return _called(form, arguments, prog, purpose)


def read_known(form: Callable[..., T], arguments: Sequence[str]) -> T:
    """As ``read``, leaving out what is unknown."""
    return _called(form, arguments, "", "", return_unknown_args=True)[0]


def _called(form: Any, arguments: Sequence[str], prog: str, purpose: str, **more: Any) -> Any:
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return tyro.cli(form, args=[*arguments], prog=prog, description=purpose, **more)
    except SystemExit as end:
        if end.code:
            raise ValueError(_in_a_line(said.getvalue())) from None
        print(said.getvalue(), end="")
        raise


def _in_a_line(box: str) -> str:
    """What tyro says of an error, and what it guesses was meant, without its box."""
    parts = re.split(r"^[\W_]*[-─]{9,}[\W_]*$", box, flags=re.MULTILINE)
    words = [" ".join(re.sub("[│╭╮╰╯]", " ", part).split()) for part in parts]
    said, *rest = words[1:] or words
    guess = next((part for part in rest if part.startswith("Perhaps")), "")
    return f"{said} {guess}".strip()


def settings_of(config: Any) -> list[tuple[str, Any, Any]]:
    """The settings of a configuration as fields of a dataclass that tyro reads."""
    import docstring_parser
    import tyro

    kind = type(config)
    told = docstring_parser.parse(inspect.getdoc(kind) or "").params
    meanings = MEANINGS | {item.arg_name: item.description or "" for item in told}
    return [
        (
            name,
            Annotated[hint, tyro.conf.arg(help=meanings.get(name, ""))],
            dataclasses.field(default=getattr(config, name)),
        )
        for name, hint in typing.get_type_hints(kind).items()
    ]
