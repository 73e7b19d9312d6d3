import ast
import re
import subprocess
import sys
from pathlib import Path

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


def test_the_readme_s_python_runs():
    """Every Python block of the README, one after another in one namespace."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    namespace: dict = {}
    for block in blocks:
        ast.parse(block)
        exec(block, namespace)
