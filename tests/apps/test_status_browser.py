"""The status page in a real browser, of a real service, and of a board that has everything."""

import re
import signal

import pytest

from browser_harness import Picture, measures, measuring, text_of
from cli_harness import Command, eventually, fetch
from engine_harness import Frontend
from portico.servers.front import Front

pytestmark = pytest.mark.frontend("chromium")

#: Requests below /held wait for the file "go".
SITE = """\
import time
from pathlib import Path

def application(environ, start_response):
    while environ["PATH_INFO"].startswith("/held") and not Path(__file__).with_name("go").exists():
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
"""

#: The status, but for the looks whose numbers the file "fails" has.
FLAKY = """\
from pathlib import Path

from portico.apps.status import application as status

def application(environ, start_response):
    looks = Path(__file__).with_name("looks")
    with looks.open("a") as file:
        file.write("x")
    if str(looks.stat().st_size) in Path(__file__).with_name("fails").read_text().split():
        start_response("500 Internal Server Error", [])
        return [b""]
    return status(environ, start_response)
"""

#: The status of a service with long names, many workers and many requests; ``/bare`` has it
#: without scripts.
CROWDED = """\
import time

from portico.apps import status
from portico.engine.scoreboard import Scoreboard

now = time.time()
LONG = "x" * 190
figures = {
    "started": now - 90_000, "published": now, "rss": 987_654_321, "requests": 1_234_567_890,
    "errors": 123_456_789, "aborted": 1_000_000, "octets": 2**50, "threads": 999, "busy": 888,
    "connections": 99_999, "waiting": 99_999, "protocols": {"fastcgi": 1, LONG: 2},
    "repairs": {"iis-path": 12},
}
request = {
    "method": "PROPFIND", "target": "/" + LONG, "protocol": "fastcgi",
    "peer": "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "since": now - 7000, "id": LONG,
}
board = Scoreboard(12)
states = ("starting", "serving", "retiring")
board.write(0, {
    "pid": 4_194_304, "started": now - 90_000, "state": "reloading", "generation": 1234,
    "configured": 12, "reloads": 1233, "failed_reloads": 12, "crashes": 7, "gone": {},
    "last_failure": f"{LONG}\\nTraceback\\n{LONG}", "application": f"/srv/{LONG}/site.py",
    "binds": [f"fastcgi+unix:///run/{LONG}.sock", "scgi://127.0.0.1:4000"],
    "children": [
        {"slot": slot, "pid": 4_194_304 + slot, "generation": 1234, "started": now - 90_000,
         "state": states[slot % 3]} for slot in range(1, 13)
    ],
})
for slot in range(1, 13):
    board.write(slot, {**figures, "pid": 4_194_304 + slot, "running": [request] * (slot % 4)})

BARE = b'''<!DOCTYPE html><iframe sandbox="allow-same-origin" src="/"></iframe><pre></pre>
<script>addEventListener("load", () => {
  document.querySelector("pre").textContent = frames[0].document.body.innerText;
});</script>'''

def application(environ, start_response):
    if environ["PATH_INFO"] == "/bare":
        start_response("200 OK", [("Content-Type", "text/html")])
        return [BARE]
    return status.application({**environ, "portico.scoreboard": board}, start_response)
"""


@pytest.fixture
def service(tmp_path):
    """Two workers that have served a request and run one; gives the URL of the front."""
    (tmp_path / "site.py").write_text(SITE)
    (tmp_path / "flaky.py").write_text(FLAKY)
    bind = f"scgi+unix://{tmp_path}/app.sock"
    places = ("--app-at=/status=portico.apps.status", f"--app-at=/flaky={tmp_path}/flaky.py")
    with (
        Command(
            "serve", tmp_path / "site.py", "--bind", bind, "--workers", "2", *places
        ) as command,
        Front(bind) as front,
    ):
        command.await_text("serving", "err")
        url = f"http://127.0.0.1:{front.port}"
        with Frontend("scgi", f"{tmp_path}/app.sock") as held:
            held.begin("/held/<b>")
            eventually(lambda: "/held" in fetch(url, "status/json")[1], "the running request")
            yield url
            (tmp_path / "go").touch()
        command.kill(signal.SIGTERM)
        assert command.finish() == 0


def curves(dom):
    """How many points each chart has."""
    found = re.findall(r'id="chart-(\w+)".*?<path class="curve"(?: d="([^"]*)")?>', dom)
    return {name: len(re.findall("[ML]", line)) for name, line in found}


def test_page_tells_of_workers_and_requests(service, browse):
    text = text_of(browse(f"{service}/status", "--dump-dom"))
    assert re.search(r"Serving , started [\d.]+ s ago: 2 workers of 2, generation 1, 1 of \d", text)
    assert re.search(
        r"Running requests The longest first\..* [\d.]+ s \S* ?scgi GET /held/<b>", text
    )


@pytest.mark.parametrize("path", ["/status", "/status/", "/status?format=html"])
def test_charts_grow(path, service, browse):
    dom = browse(f"{service}{path}", "--dump-dom", "--virtual-time-budget=9000")
    points = curves(dom)
    assert points.keys() == {"requests", "errors", "octets", "busy"}
    assert points["busy"] > 2
    assert [points[name] for name in ("requests", "errors", "octets")] == [points["busy"] - 1] * 3
    assert not re.search(r'<section id="charts" hidden', dom)
    assert re.search(r'<p class="note" id="silence" hidden', dom)
    # the held request; a look that has just ended in the other worker may still be told of
    assert re.search(r'id="chart-busy".*?<b>[12]</b>', dom)


def test_a_look_is_one_request(service, browse, tmp_path):
    (tmp_path / "fails").write_text("")
    dom = browse(f"{service}/flaky", "--dump-dom", "--virtual-time-budget=9000")
    assert (tmp_path / "looks").stat().st_size - curves(dom)["busy"] in {0, 1}  # one under way


@pytest.mark.parametrize(("fails", "silent"), [("2", False), ("2 3 4 5 6 7 8", True)])
def test_page_says_that_the_service_is_silent(fails, silent, service, browse, tmp_path):
    (tmp_path / "fails").write_text(fails)
    dom = browse(f"{service}/flaky", "--dump-dom", "--virtual-time-budget=9000")
    (note,) = re.findall(r'<p class="note" id="silence".*?>.*?</p>', dom)
    assert (" hidden" not in note) is silent
    assert re.search(r"<b>\d+:\d\d", note)
    assert (curves(dom)["busy"] == 1) is silent
    assert "GET /held/<b>" in text_of(dom)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """The page of `CROWDED`, measured."""
    directory = tmp_path_factory.mktemp("crowded")
    (directory / "crowded.py").write_text(CROWDED)
    (directory / "measured.py").write_text(measuring("crowded"))
    with Command("up", "--port", "0", directory / "measured.py", cwd=directory) as command:
        yield command.await_url()


def test_page_is_whole_without_its_script(crowded, browse):
    """``/bare`` shows it in a frame that may run none, and repeats its visible words."""
    text = text_of(browse(f"{crowded}bare", "--dump-dom"))
    assert "Reloading, started 25 h 0 min ago: 12 workers of 12, generation 1234" in text
    assert "The last reload failed" in text
    assert text.count("PROPFIND /xxx") == 18
    assert "a second" not in text


@pytest.mark.parametrize("width", [320, 400, 800, 928, 929, 1000, 1160])
def test_nothing_is_wider_than_the_window(width, crowded, browse):
    dom = browse(f"{crowded}frame?{width}&/", "--dump-dom", width=1300)
    assert measures(dom) == {"inner": width, "scroll": width, "wide": []}


@pytest.mark.parametrize("size", [(1000, 900), (400, 800)], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_painted(scheme, size, service, browse, tmp_path):
    width, height = size
    file = tmp_path / "page.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    browse(f"{service}/status", f"--screenshot={file}", *dark, width=width, height=height)
    picture = Picture(file.read_bytes())
    assert (picture.width, picture.height) == size
    assert len(picture.colours()) > 100
    brightness = sum(picture.pixel(width - 2, height - 2)) / 3
    assert (brightness > 200) is (scheme == "light")
    assert (brightness < 60) is (scheme == "dark")
