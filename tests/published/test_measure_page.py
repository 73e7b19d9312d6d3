"""The Hugging Face part of docs/measure.md, which needs transformers."""

import re
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytestmark = pytest.mark.models


def test_its_python_runs():
    text = (Path(__file__).parents[2] / "docs/measure.md").read_text()
    blocks = re.findall(r"```python( title=\"needs transformers\")?\n(.*?)```", text, re.DOTALL)
    needed = [blocks[0][1], *(block for title, block in blocks if title)]
    assert len(needed) == 2
    namespace: dict = {}
    for block in needed:
        exec(block, namespace)
