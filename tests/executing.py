"""Execute the texts (.py) of notebooks into .ipynb with outputs: ``make notebooks``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
TEXTS = sorted((ROOT / "notebooks").glob("*.py"))
# A smoke preset spends most of its time on compilation.
KERNEL = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "TQDM_DISABLE": "1"}


def executed(text: Path) -> nbformat.NotebookNode:
    """The notebook of a text, run in a kernel of its own from the root of the repository."""
    book = jupytext.read(text)
    for number, cell in enumerate(book.cells):
        cell["id"] = f"cell-{number}"  # the same in each run
    client = NotebookClient(
        book,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(ROOT)}},
    )
    client.execute(env={**os.environ, **KERNEL})
    for cell in book.cells:
        if cell.cell_type == "code":  # bars and warnings about them
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    book.metadata.pop("language_info", None)  # names the version of the interpreter
    return book


def sources(book: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """The type and the text of each cell."""
    return [(cell.cell_type, cell.source) for cell in book.cells]


if __name__ == "__main__":
    for text in TEXTS:
        if len(sys.argv) == 1 or text.stem in sys.argv[1:]:
            print(text.stem, flush=True)
            nbformat.write(executed(text), text.with_suffix(".ipynb"))
