"""The inspector in a real browser: what `portico up` shows to who tries it for the first time."""

import html
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import zlib
from urllib.parse import urlsplit

import pytest

from cli_harness import Command
from conftest import PROGRAMS, SEARCH

pytestmark = pytest.mark.frontend("chromium")

#: Seconds for one run of the browser.
BROWSER_SECONDS = 60

FLAGS = [
    "--headless",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--virtual-time-budget=2000",
]

#: The inspector, with a script that measures its page; and a page with a frame around it, since
#: a window of Chromium is never narrower than 500 pixels.
MEASURED = """\
from portico.apps.inspector import application as inspector

SCRIPT = b'''<script>
addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter(
    (part) => part.getBoundingClientRect().right > innerWidth + 1);
  document.title = JSON.stringify({
    inner: innerWidth, scroll: document.documentElement.scrollWidth,
    wide: wide.map((part) => part.tagName + "." + part.getAttribute("class")),
  });
});
</script>'''

FRAME = '''<!DOCTYPE html><iframe style="border: 0; width: %spx" src="%s"></iframe><script>
addEventListener("load", () => { document.title = frames[0].document.title; });
</script>'''

def application(environ, start_response):
    if environ["PATH_INFO"] == "/frame":
        start_response("200 OK", [("Content-Type", "text/html")])
        return [(FRAME % tuple(environ["QUERY_STRING"].split("&", 1))).encode()]
    head = []
    body = b"".join(inspector(environ, lambda *given: head.extend(given)))
    names = ("content-length", "content-security-policy")
    start_response(head[0], [pair for pair in head[1] if pair[0].lower() not in names])
    return [body.replace(b"</body>", SCRIPT + b"</body>") if b"</body>" in body else body + SCRIPT]
"""


@pytest.fixture
def browse(tmp_path):
    """Run the browser once; gives what it prints."""
    name = next(name for name in PROGRAMS["chromium"] if shutil.which(name, path=SEARCH))
    binary = shutil.which(name, path=SEARCH)

    def run(url, *flags, width=1000, height=700):
        command = [
            binary,
            *FLAGS,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},{height}",
            *flags,
            url,
        ]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"HOME": str(tmp_path)},
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=BROWSER_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        assert process.returncode == 0, err.decode()
        return out.decode()

    return run


@pytest.fixture(scope="module")
def inspector():
    """The inspector behind the built-in front; gives its URL."""
    with Command("up", "--port", "0") as command:
        yield command.await_url(), command.pid
        command.kill(signal.SIGINT)
        assert (command.finish(), command.err) == (0, "")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp("measured") / "measured.py"
    path.write_text(MEASURED)
    with Command("up", "--port", "0", path) as command:
        yield command.await_url()


def text_of(dom):
    """The words of a page, markup and style sheets left out."""
    dom = dom.replace("<wbr>", "")
    dom = re.sub(r"(?s)<(style|script)\b.*?</\1>", " ", dom)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", dom)).split())


def test_page_tells_the_route(inspector, browse):
    url, pid = inspector
    text = text_of(browse(url, "--dump-dom"))
    assert f"GET {url} came through Portico-front and FastCGI to process {pid}" in text
    assert f"Process {pid}" in text
    assert re.search(r"Protocol FastCGI fastcgi\+unix://\S+app\.sock", text)
    assert re.search(r"Client Chrom\w+ 127\.0\.0\.1:\d+ HTTP/1\.1", text)
    assert "Application Inspector mounted at /" in text
    assert f"HTTP_HOST {urlsplit(url).netloc}" in text


def test_page_asks_for_nothing_else(inspector, browse, tmp_path):
    """One request is all that the browser makes for it, or a first look would show others."""
    log = tmp_path / "net.json"
    browse(inspector[0], "--dump-dom", f"--log-net-log={log}")
    asked = re.findall(r'"url":"(https?://[^"]+)"', log.read_text())
    hosts = {urlsplit(found).netloc for found in asked}
    assert urlsplit(inspector[0]).netloc in hosts
    ours = {found for found in asked if urlsplit(found).netloc == urlsplit(inspector[0]).netloc}
    assert ours == {inspector[0]}


LONG = "x" * 300


TARGETS = {"root": "", "long": f"{LONG}?{LONG}={LONG}", "no-latin": "?a=%F0%9F%8F%9B"}


@pytest.mark.parametrize("width", [320, 400, 1000])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_nothing_is_wider_than_the_window(target, width, measured, browse):
    dom = browse(f"{measured}frame?{width}&/{target}", "--dump-dom", width=1200)
    size = json.loads(html.unescape(re.search(r"<title>(\{.*?\})</title>", dom)[1]))
    assert size == {"inner": width, "scroll": width, "wide": []}


@pytest.mark.parametrize("size", [(1000, 700), (400, 800)], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_painted(scheme, size, inspector, browse, tmp_path):
    width, height = size
    file = tmp_path / "page.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    browse(inspector[0], f"--screenshot={file}", *dark, width=width, height=height)
    picture = Picture(file.read_bytes())
    assert (picture.width, picture.height) == size
    assert len(picture.colours()) > 200
    brightness = sum(picture.pixel(width - 2, height - 2)) / 3
    assert (brightness > 200) is (scheme == "light")
    assert (brightness < 60) is (scheme == "dark")


class Picture:
    """A PNG of eight bits a sample, RGB or RGBA, not interlaced (PNG, second edition, 11.2.2)."""

    def __init__(self, data):
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        at, packed = 8, b""
        while at < len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            content = data[at + 8 : at + 8 + length]
            (crc,) = struct.unpack_from(">I", data, at + 8 + length)
            assert crc == zlib.crc32(kind + content)
            if kind == b"IHDR":
                self.width, self.height, *form = struct.unpack(">IIBBBBB", content)
                assert form in ([8, 2, 0, 0, 0], [8, 6, 0, 0, 0])
                self._step = 3 if form[1] == 2 else 4
            elif kind == b"IDAT":
                packed += content
            at += length + 12
        self._rows = self._unfilter(zlib.decompress(packed))

    def pixel(self, x, y):
        return tuple(self._rows[y][x * self._step :][:3])

    def colours(self):
        step = self._step
        return {bytes(row[at : at + 3]) for row in self._rows for at in range(0, len(row), step)}

    def _unfilter(self, data):
        """Undo the filter of each line (ibidem, 9.2)."""
        size = self.width * self._step
        assert len(data) == (size + 1) * self.height
        rows, above = [], bytes(size)
        for start in range(0, len(data), size + 1):
            kind, row = data[start], bytearray(data[start + 1 : start + 1 + size])
            if kind:
                self._undo(kind, row, above)
            rows.append(row)
            above = row
        return rows

    def _undo(self, kind, row, above):
        step = self._step
        for at in range(len(row)):
            left = row[at - step] if at >= step else 0
            corner = above[at - step] if at >= step else 0
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = above[at]
            elif kind == 3:
                guess = (left + above[at]) // 2
            else:
                guess = _paeth(left, above[at], corner)
            row[at] = (row[at] + guess) & 255


def _paeth(left, above, corner):
    estimate = left + above - corner
    return min((left, above, corner), key=lambda value: abs(estimate - value))
