"""The documentation as a reader has it: built by ``make docs``, opened in Chromium on a phone."""

import functools
import json
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

SITE = Path(__file__).parents[1] / "build/site"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.site
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
--disable-background-networking --disable-component-update""".split()
PHONE = 390

# Opens each page in a frame as wide as a phone, and sends back what it finds there.
VISITOR = """<!doctype html><iframe id=frame width=%d height=800></iframe><script>
const pages = %s, found = {}, frame = document.getElementById("frame");
const settled = () => new Promise(done => setTimeout(done, 60));
(async () => {
  for (const page of pages) {
    const loaded = new Promise(done => frame.onload = done);
    frame.src = "/" + page;
    await loaded; await settled();
    const there = frame.contentDocument, all = query => [...there.querySelectorAll(query)];
    found[page] = {
      title: there.querySelector("h1")?.textContent ?? "",
      width: there.documentElement.scrollWidth,
      unset: all(".arithmatex").filter(e => !e.querySelector(".katex")).length,
      wrong: all(".katex-error").map(e => e.textContent),
      formulas: all(".katex").length,
      fonts: [...there.fonts].filter(f => f.status == "loaded").map(f => f.family),
      broken: all("article img").filter(e => !e.naturalWidth).map(e => e.src),
    };
  }
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
})();
</script>"""


class Links(HTMLParser):
    """What a page points to, what it loads, and its anchors."""

    def __init__(self, page):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], {""}
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors.add(attributes.get("id") or attributes.get("name") or "")
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag == "link" and attributes.get("rel") in ("stylesheet", "preconnect"):
            self.loads.append(attributes["href"])
        elif tag in ("script", "img", "iframe") and attributes.get("src"):
            self.loads.append(attributes["src"])


@pytest.fixture(scope="module")
def pages():
    assert SITE.is_dir(), "wanted the site: run make docs"
    return {page: Links(page) for page in SITE.rglob("*.html") if page.name != "404.html"}


def local(page, link):
    """The file that a link of a page leads to."""
    path = unquote(link.partition("#")[0].partition("?")[0])
    target = page if not path else (page.parent / path).resolve()
    return target / "index.html" if target.is_dir() else target


def test_no_link_is_dead(pages):
    dead = []
    for page, found in pages.items():
        for link in found.links:
            if re.match(r"https?:|mailto:", link):
                continue
            target, anchor = local(page, link), unquote(link.partition("#")[2])
            if not target.exists() or (target in pages and anchor not in pages[target].anchors):
                dead.append((str(page.relative_to(SITE)), link))
    assert len(pages) > 35 and not dead


def test_nothing_is_loaded_from_elsewhere(pages):
    for page, found in pages.items():
        assert found.loads
        for load in found.loads:
            assert not re.match(r"https?:|//", load) and local(page, load).exists(), (page, load)


class Handler(SimpleHTTPRequestHandler):
    """Serves the site and the visitor, and keeps what the latter sends."""

    def do_GET(self):
        if self.path != "/visitor":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.server.visitor.encode())

    def do_POST(self):
        self.server.found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.done.set()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def visited(pages, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    names = sorted(str(page.relative_to(SITE)) for page in pages)
    server = ThreadingHTTPServer(("localhost", 0), functools.partial(Handler, directory=SITE))
    server.visitor, server.done = VISITOR % (PHONE, json.dumps(names)), threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tmp_path_factory.mktemp("chromium")
    address = f"http://localhost:{server.server_port}/visitor"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "--remote-debugging-port=0", address]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert server.done.wait(180), "the browser sent nothing"
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        server.server_close()
    assert sorted(server.found) == names
    return server.found


def test_every_page_has_a_title_and_its_pictures(visited):
    assert not {page: found for page, found in visited.items() if not found["title"]}
    assert not {page: found["broken"] for page, found in visited.items() if found["broken"]}


def test_every_formula_is_set(visited):
    for page, found in visited.items():
        assert not found["unset"] and not found["wrong"], page
        assert not found["formulas"] or "KaTeX_Main" in found["fonts"], page
    assert visited["idea/index.html"]["formulas"] > 30


def test_every_page_fits_on_a_phone(visited):
    wide = {page: found["width"] for page, found in visited.items() if found["width"] > PHONE}
    assert not wide
