"""The gallery: what its page holds, and how it behaves in a browser."""

import base64
import html
import json
import re
import shutil
import subprocess
import zlib

import numpy as np
import pytest
from matplotlib.image import imread

from experiments import __main__ as command
from experiments.gallery.folders import runs_in
from experiments.gallery.page import page
from gramlin_jax.support.files import write_json

pytestmark = pytest.mark.runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def png(colour=(255, 255, 255)):
    """One pixel."""

    def chunk(kind, data):
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    head = chunk(b"IHDR", bytes([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]))
    pixel = chunk(b"IDAT", zlib.compress(bytes([0, *colour])))
    return b"\x89PNG\r\n\x1a\n" + head + pixel + chunk(b"IEND", b"")


def claim(statement, holds, evidence="1 of 1 seeds", paper=""):
    return {"statement": statement, "holds": holds, "evidence": evidence, "paper": paper}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two finished runs, one unfinished, one damaged."""
    root = tmp_path_factory.mktemp("runs")
    linearity = root / "fig04_target_linearity"
    for name, seconds, claims in (
        ("fig04_target_linearity/default-1", 90.0, [claim("layers gain <it>", True)]),
        (
            "fig01_swissroll/smoke-2",
            7.0,
            [claim("it unrolls", False), claim("so?", None, paper="3")],
        ),
    ):
        folder = root / name
        config = {"experiment": folder.parent.name, "width": 32, "rates": [0.1, 0.2]}
        write_json(folder / "config.json", config)
        facts = {
            "notes": ["2 runs diverged"],
            "seconds": seconds,
            "jax": "0.10.2",
            "python": "3.11",
        }
        write_json(folder / "summary.json", {"claims": claims, **facts})
        (folder / "figure.png").write_bytes(png())
    write_json(linearity / "default-3" / "config.json", {"experiment": linearity.name, "width": 8})
    (linearity / "paper-4").mkdir()
    (linearity / "paper-4" / "config.json").write_text("{")
    return root


def test_runs_are_found_in_the_order_of_the_figures_unfinished_ones_last(root):
    runs = runs_in(root)
    assert [run.folder.name for run in runs] == ["smoke-2", "default-1", "paper-4", "default-3"]
    assert runs[1].config == {"width": 32, "rates": [0.1, 0.2]}
    assert runs[1].versions == {"python": "3.11", "jax": "0.10.2"}
    assert "config.json is damaged" in runs[2].problem
    assert not runs[3].summary and not runs[3].problem


def test_the_page_holds_everything_and_needs_nothing_else(root):
    text = page(runs_in(root), root)
    assert "layers gain &lt;it&gt;" in text and "The paper: 3." in text
    assert text.count(base64.b64encode(png()).decode()) == 2
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", text) + re.findall(
        r"url\((.+?)\)", text
    )
    assert len(addresses) == 2 and all(a.startswith("data:image/png") for a in addresses)
    assert "fig04_target_linearity · default · width=32 · 2 minutes" in text
    assert "1 hold, 1 fail and 1 are undecided" in text and "<!-- " not in text


def test_the_command_writes_it(root, capsys, tmp_path):
    command.main(["gallery", "--runs", str(root), "--out", str(tmp_path / "page.html")])
    assert capsys.readouterr().out == f"gallery of 4 runs: {tmp_path}/page.html\n"
    assert (tmp_path / "page.html").read_text() == page(runs_in(root), root)
    with pytest.raises(SystemExit, match="runs is .*, where no run is"):
        command.main(["gallery", "--runs", str(tmp_path / "none")])


def test_the_row_shows_the_largest_finished_run_of_each_experiment(tmp_path, capsys):
    """Red, green and blue from left to right and, in the next line, yellow."""
    colours = {
        "fig01_swissroll/paper-1": (255, 0, 0),
        "fig01_swissroll/smoke-2": (9, 9, 9),
        "fig04_target_linearity/paper-3": None,
        "fig04_target_linearity/default-4": (0, 255, 0),
        "fig08_staircase/smoke-5": (0, 0, 255),
        "ansatz/smoke-6": (255, 255, 0),
    }
    for name, colour in colours.items():
        write_json(tmp_path / name / "config.json", {})
        if colour:
            (tmp_path / name / "figure.png").write_bytes(png(colour))
    out, arguments = tmp_path / "row.png", ["gallery", "--runs", str(tmp_path), "--row"]
    command.main([*arguments, str(out)])
    assert capsys.readouterr().out.splitlines()[1] == f"row of 4 figures: {out}"
    pixels = imread(out)[..., :3]
    places = {}
    for name, colour in colours.items():
        same = np.all(pixels == np.divide(colour or (9, 9, 9), 255), axis=-1)
        places[name.partition("/")[0], colour] = np.argwhere(same).mean(0) if same.any() else None
    red, grey, none, green, blue, yellow = places.values()
    assert grey is None and none is None
    assert red[1] < green[1] < blue[1] and abs(red[1] - yellow[1]) < 1
    assert red[0] == green[0] == blue[0] < yellow[0]
    command.main([*arguments, str(out), "fig01", "fig08"])
    assert capsys.readouterr().out.splitlines()[1] == f"row of 2 figures: {out}"
    (tmp_path / "ansatz/smoke-6/figure.png").unlink()
    with pytest.raises(SystemExit, match=r"where no run has a figure\.png"):
        command.main([*arguments, str(out), "ansatz"])
    with pytest.raises(SystemExit, match="where no run of fig05_vae_interpolation is"):
        command.main([*arguments, str(out), "fig05"])


# In a frame as wide as a phone: what shows after each step.
STEPS = """
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => {
  const inner = frame.contentDocument, found = {}, of = (id) => inner.getElementById(id);
  const set = (id, value) => { of(id).value = value; of(id).dispatchEvent(new Event("input")); };
  const shown = () => [...inner.querySelectorAll(".run")].filter((r) => !r.hidden)
    .map((r) => r.querySelector(".facts").textContent.split(" · ").slice(0, 2).join(" "));
  const style = (query) => inner.defaultView.getComputedStyle(inner.querySelector(query));
  const texts = ["h2", ".facts", ".verdict.holds", ".verdict.fails", ".verdict.undecided"];
  const colours = () => [".run", ...texts]
    .map((query, i) => i ? style(query).color : style(query).backgroundColor);
  found.all = shown();
  set("search", "UNROLLS jax"); found.search = shown();
  set("search", "nothing like it"); found.nothing = [shown(), of("none").hidden];
  set("search", ""); set("state", "fails"); found.fails = shown();
  set("state", "unfinished"); found.unfinished = shown();
  set("state", ""); set("order", "seconds"); found.longest = shown();
  found.width = ["scrollWidth", "clientWidth"].map((name) => inner.documentElement[name]);
  found.first = colours(); of("theme").click(); found.second = colours();
  inner.querySelector(".figure").click(); found.open = of("large").open;
  of("large").click(); found.closed = !of("large").open;
  found.pixels = inner.querySelector("img").naturalWidth;
  document.body.dataset.found = JSON.stringify(found);
});
"""


@pytest.fixture(scope="module")
def seen(root, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    folder = tmp_path_factory.mktemp("browser")
    inside = html.escape(page(runs_in(root), root))
    (folder / "frame.html").write_text(
        f'<body><iframe style="width:390px;height:900px;border:0" srcdoc="{inside}"></iframe>'
        f"<script>{STEPS}</script>"
    )
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
        "--disable-background-networking --disable-component-update --disable-sync"
    ).split()
    own = [f"--user-data-dir={folder}/profile", "--virtual-time-budget=4000", "--dump-dom"]
    address = f"file://{folder}/frame.html"
    run = subprocess.run(
        [CHROMIUM, *flags, *own, address], capture_output=True, text=True, timeout=120, check=True
    )
    return json.loads(html.unescape(re.search(r'data-found="(.*?)"', run.stdout)[1]))


ALL = [
    "fig01_swissroll smoke",
    "fig04_target_linearity default",
    "fig04_target_linearity paper",
    "fig04_target_linearity default",
]


def test_a_browser_searches_and_sorts(seen):
    assert seen["all"] == ALL
    assert seen["search"] == ["fig01_swissroll smoke"] == seen["fails"]
    assert seen["nothing"] == [[], False]
    assert seen["unfinished"] == ["fig04_target_linearity default"]
    assert seen["longest"][:2] == ["fig04_target_linearity default", "fig01_swissroll smoke"]
    assert seen["open"] and seen["closed"] and seen["pixels"] == 1


def test_a_phone_needs_no_sideways_scrolling(seen):
    needed, given = seen["width"]
    assert needed <= given <= 390


@pytest.mark.parametrize("theme", ["first", "second"])
def test_text_stands_out_in_light_and_dark(seen, theme):
    """WCAG's contrast of 4.5, of text of its level AA."""
    assert seen["first"] != seen["second"]

    def luminance(colour):
        parts = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    card, *texts = map(luminance, seen[theme])
    for text in texts:
        low, high = sorted((card, text))
        assert (high + 0.05) / (low + 0.05) >= 4.5
