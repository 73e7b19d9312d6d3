"""The command ``gramlin``, which is ``python -m experiments`` too."""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from .commands.errors import line_of

COMMANDS = {
    "list": "the experiments, and how long they take",
    "run": "run an experiment, or resume it",
    "plot": "draw the figure of a finished run again",
    "reproduce": "run all experiments whose data are available",
    "gallery": "one page with all runs",
    "record": "keep a run in the documentation, and rebuild its tables",
    "measure": "measure a model of your own",
}
"""The modules of ``commands``, and what they do."""


def main(arguments: Sequence[str]) -> None:
    """Carry out one command; an error or a signal is one line without a traceback."""
    command, *rest = arguments or ["list"]
    try:
        if command in ("-h", "--help"):
            print(_usage())
        elif command not in COMMANDS:
            near = difflib.get_close_matches(command, COMMANDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"command is {command!r}: wanted one of {', '.join(COMMANDS)}{hint}")
        else:
            module = importlib.import_module(f".commands.{command}", __package__)
            module.main(rest, f"{_prog()} {command}")
        sys.stdout.flush()
    except BrokenPipeError:  # as when piped to head: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (KeyboardInterrupt, Terminated) as stop:
        print("stopped: the same command goes on from here", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT))
    except Exception as error:
        if not (line := line_of(error)):
            raise
        sys.exit(f"error: {line}")


class Terminated(BaseException):
    """SIGTERM. A KeyboardInterrupt that passes through ``exec`` would make Python end by SIGINT."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _prog() -> str:
    """What the user typed."""
    name = Path(sys.argv[0]).stem
    return name if name == "gramlin" else f"python -m {__package__}"


def _usage() -> str:
    lines = [f"usage: {_prog()} COMMAND ...", ""]
    lines += [f"  {name:11}{summary}" for name, summary in COMMANDS.items()]
    return "\n".join([*lines, "", f"{_prog()} COMMAND --help says more."])


def start() -> None:
    """The script ``gramlin``."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    signal.signal(signal.SIGTERM, _terminate)
    main(sys.argv[1:])


if __name__ == "__main__":
    start()
