"""The README and the page behind it: their code runs, and their commands exist."""

import re
import shlex
from pathlib import Path

import pytest

from experiments.__main__ import COMMANDS
from experiments.commands.place import read_place
from experiments.registry import EXPERIMENTS, find

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def commands():
    """What follows ``gramlin`` in the shell, in the README and on the page behind it."""
    for page in (README, (ROOT / "docs/library.md").read_text()):
        for line in re.findall(
            r"(?:^|`)(?:gramlin|python -m experiments) (.*?)(?:`|$)", page, re.M
        ):
            yield tuple(shlex.split(line, comments=True))


@pytest.mark.parametrize("words", sorted({*commands()}), ids=" ".join)
def test_commands_are_known_with_their_options(words):
    command, *rest = words
    assert command in COMMANDS
    if command in ("run", "plot") and rest != ["X"]:
        assert read_place(rest, "gramlin", "").experiment in EXPERIMENTS


def test_the_table_of_figures_is_complete_and_says_the_times_of_the_registry():
    (table,) = re.findall(r"^\| what \| command .*\n\|[-|]+\n((?:\|.*\n)+)", README, re.M)
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    found = [(find(command.strip("`").split()[2]), time) for _, command, time, _ in rows]
    assert found == [(e, e.duration("default")) for e in EXPERIMENTS]


NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"


@pytest.mark.docs
@pytest.mark.parametrize("page", ["README.md", "docs/library.md"])
def test_the_python_of_a_page_prints_what_the_page_shows(page, capsys):
    """Every Python block runs, in one namespace; a block without a language is what one printed."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.M)
    namespace: dict = {}
    printed, shown = "", 0
    for language, block in blocks:
        if language == "python":
            exec(compile(block, "README.md", "exec"), namespace)
            printed = capsys.readouterr().out
        elif not language:
            lines = block.splitlines()
            last = printed.splitlines()[-len(lines) :]
            # Something else may be printed on the line where the block begins.
            words = lines[0].split()
            last[0] = " ".join(last[0].split()[-len(words) :])
            for wanted, found in zip(lines, last, strict=True):
                assert_same_line(found, wanted)
            shown += 1
    assert shown == 1


def assert_same_line(found, wanted):
    """Equal but for white space and the last digit, where rounding may differ."""
    text = [re.sub(NUMBER, "#", " ".join(line.split())) for line in (found, wanted)]
    assert text[0] == text[1]
    for a, b in zip(*(re.findall(NUMBER, line) for line in (found, wanted)), strict=True):
        assert abs(float(a) - float(b)) <= 1.01 * max(last_digit(a), last_digit(b)), (found, wanted)


def last_digit(number):
    """What a number's last digit stands for; integers are exact."""
    mantissa, _, exponent = number.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - decimals) if decimals or exponent else 0.0
