import subprocess
import sys
from pathlib import Path

import yaml

import gramlin_jax

ROOT = Path(__file__).parents[1]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == gramlin_jax.__version__
    assert citation["title"] == "gramlin_jax" and citation["license"] == "Apache-2.0"
    assert "2605.06258" in str(citation["references"])


def test_import_needs_no_extra():
    """Only jax, flax, optax and numpy; the rest is imported where it is used."""
    extras = (
        "array_record PIL tensorflow tensorflow_datasets matplotlib sklearn pandas polars xarray "
        "pyarrow threadpoolctl tokenizers safetensors torch transformers tensorboardX wandb"
    )
    forbidden = ("orbax", "gramlin_jax.experiments", *extras.split())
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
