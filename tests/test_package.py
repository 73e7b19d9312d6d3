import re
import subprocess
import sys
from pathlib import Path

import pytest

import gramlin_jax

ROOT = Path(__file__).parents[1]


def test_import_needs_no_extra():
    """Only jax, flax, optax and numpy; the rest is imported where it is used."""
    forbidden = ("orbax", "tensorflow_datasets", "matplotlib", "sklearn", "array_record", "PIL")
    code = (
        "import sys, gramlin_jax, gramlin_jax.models, gramlin_jax.training, gramlin_jax.data\n"
        f"print([name for name in {forbidden!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_public_names_have_docstrings_that_say_enough():
    for name in gramlin_jax.__all__:
        text = getattr(gramlin_jax, name).__doc__
        assert text and len(text.splitlines()) > 3, name


NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"


@pytest.mark.runs
def test_the_readme_s_python_prints_what_the_readme_shows(capsys):
    """Every Python block runs, in one namespace; a block without a language is what one printed."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.M)
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
    assert shown == 2


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
