"""Runs the real browser, without a window, and reads what it paints."""

import html
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import zlib

from conftest import PROGRAMS, SEARCH

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

#: An application, with a script that measures its page; and a page with a frame around it, since
#: a window of Chromium is never narrower than 500 pixels.
_MEASURED = """\
from MODULE import application as measured

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
    body = b"".join(measured(environ, lambda *given: head.extend(given)))
    names = ("content-length", "content-security-policy")
    start_response(head[0], [pair for pair in head[1] if pair[0].lower() not in names])
    return [body.replace(b"</body>", SCRIPT + b"</body>") if b"</body>" in body else body + SCRIPT]
"""


def run_browser(directory, url, *flags, width=1000, height=700):
    """Run the browser once, its profile below *directory*; gives what it prints."""
    name = next(name for name in PROGRAMS["chromium"] if shutil.which(name, path=SEARCH))
    binary = shutil.which(name, path=SEARCH)
    command = [
        binary,
        *FLAGS,
        f"--user-data-dir={directory / 'profile'}",
        f"--window-size={width},{height}",
        *flags,
        url,
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"HOME": str(directory)},
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


def text_of(dom):
    """The words of a page, markup and style sheets left out."""
    dom = dom.replace("<wbr>", "")
    dom = re.sub(r"(?s)<(style|script)\b.*?</\1>", " ", dom)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", dom)).split())


def measuring(module):
    """Source of a module whose application is that of *module*, and measures its page.

    A path ``/frame?320&/path`` shows ``/path`` 320 pixels wide.
    """
    return _MEASURED.replace("MODULE", module)


def measures(dom):
    """What was measured: widths of the window and of its content, and what is wider."""
    return json.loads(html.unescape(re.search(r"<title>(\{.*?\})</title>", dom)[1]))


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
