"""The inspector in a real browser: what `portico up` shows to who tries it for the first time."""

import re
import signal
from urllib.parse import urlsplit

import pytest

from browser_harness import Picture, measures, measuring, text_of
from cli_harness import Command

pytestmark = pytest.mark.frontend("chromium")


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
    path.write_text(measuring("portico.apps.inspector"))
    with Command("up", "--port", "0", path) as command:
        yield command.await_url()


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
    assert measures(dom) == {"inner": width, "scroll": width, "wide": []}


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
