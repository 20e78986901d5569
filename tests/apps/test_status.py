"""The status application: what it says of a scoreboard, in three forms."""

import base64
import hashlib
import json
import re
from html import escape, unescape

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import docs_harness as docs
from portico import __version__
from portico.apps import _openmetrics as openmetrics
from portico.apps.status import application
from portico.engine.scoreboard import Scoreboard

EVIL = '/<script>alert("1")</script>?x=&y=\u2028'


@pytest.fixture
def board():
    """Two workers of a service whose last reload has failed; one runs a request."""
    board = Scoreboard(4)
    figures = {
        "requests": 12, "errors": 1, "aborted": 2, "octets": 3456, "threads": 3, "busy": 1,
        "connections": 5, "waiting": 0, "repairs": {"no-path-info": 4},
        "protocols": {"fastcgi": 10, "scgi": 2}, "pid": 101, "started": 1000.0,
        "published": 1001.0, "rss": 20_000_000,
        "running": [
            {"method": "GET", "target": EVIL, "protocol": "fastcgi", "peer": "192.0.2.7",
             "since": 1000.5, "id": "a-1"},
        ],
    }  # fmt: skip
    children = [
        {"slot": slot, "pid": 100 + slot, "generation": 3, "state": "serving", "started": 1000.0}
        for slot in (1, 2)
    ]
    board.write(
        0,
        {
            "pid": 100, "started": 900.0, "state": "serving", "generation": 3, "configured": 2,
            "reloads": 2, "failed_reloads": 1, "last_failure": "no <b>such</b> module\nTraceback",
            "crashes": 1, "binds": ["scgi://127.0.0.1:4000"], "application": 'a"b\\c',
            "gone": {"requests": 100, "errors": 0, "aborted": 0, "octets": 1}, "children": children,
        },
    )  # fmt: skip
    board.write(1, figures)
    board.write(2, {**figures, "pid": 102, "running": []})
    return board


def ask(board, path="/", query="", method="GET", **more):
    environ = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "/status", "PATH_INFO": path,
        "QUERY_STRING": query, "portico.scoreboard": board, **more,
    }  # fmt: skip
    said = []
    body = b"".join(application(environ, lambda *given: said.extend(given)))
    headers = dict(said[1])
    if method != "HEAD":
        assert int(headers["Content-Length"]) == len(body)
    return said[0], headers, body.decode()


def words(text):
    """What a person reads of a page."""
    return " ".join(unescape(re.sub("<[^>]*>", "", text)).split())


def test_page_shows_workers_requests_and_counts(board):
    status, headers, text = ask(board)
    assert status == "200 OK"
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert text.count('<span class="state busy">busy</span>') == 2
    assert "<dt>requests</dt><dd>124</dd>" in text
    assert "By protocol: fastcgi 20, scgi 4." in text
    assert "Paths repaired: no-path-info 8." in text
    assert "2 workers of 2, generation 3, 2 of 6 threads busy" in words(text)
    assert "1 more is not shown" in words(text)


def test_a_failed_reload_is_told_with_all_its_lines(board):
    _, _, text = ask(board)
    (summary,) = re.findall("<summary>(.*)</summary>", text)
    assert summary.endswith("no &lt;b&gt;such&lt;/b&gt; module")
    assert "<pre>no &lt;b&gt;such&lt;/b&gt; module\nTraceback</pre>" in text


def test_what_clients_send_stays_text(board):
    _, headers, text = ask(board)
    assert escape('<script>alert("1")</script>?x=&y=\\u2028') in text
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert text.count("<script") == 1


@pytest.mark.parametrize(("sent", "shown"), [("/caf\xc3\xa9", "/café"), ("/\x1b[2J", r"/\x1b[2J")])
def test_targets_are_readable(board, sent, shown):
    figures = board.read(1)
    figures["running"][0]["target"] = sent
    board.write(1, figures)
    assert f"GET {shown}</span>" in ask(board)[2]


def test_lone_surrogates_fail_nothing(board):
    parent = board.read(0)
    board.write(0, parent | {"application": "\udce9"})
    for path in ("/", "/json", "/metrics"):
        assert ask(board, path)[0] == "200 OK"


def test_long_lists_are_cut_and_counted(board):
    figures = board.read(1)
    one = figures["running"][0] | {"target": "/"}
    for slot in (1, 2):
        board.write(slot, figures | {"pid": 100 + slot, "busy": 70, "running": [one] * 64})
    _, _, text = ask(board)
    assert text.count('<td class="text target">') == 100
    assert "40 more are not shown" in words(text)


def test_without_workers_and_requests_it_says_so():
    _, _, text = ask(Scoreboard(1))
    assert "There is none." in text
    assert "None just now." in text
    assert ask(Scoreboard(1), "/metrics")[2].endswith("# EOF\n")


def test_style_and_script_are_those_the_policy_lets_in(board):
    _, headers, text = ask(board)
    for name in ("style", "script"):
        (content,) = re.findall(f"(?s)<{name}>(.*?)</{name}>", text)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in headers["Content-Security-Policy"]
    assert " style=" not in text
    assert not re.search(r"<[^>]* on\w+=", text)


def test_page_asks_for_nothing_from_elsewhere(board):
    _, _, text = ask(board)
    assert set(re.findall(r'(?:src|href)="([^":]*)', text)) == {
        "data", "?format=json", "?format=openmetrics",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "query", "accept"),
    [("/json", "", "text/html"), ("/", "format=json", "text/html"), ("", "", "application/json")],
)
def test_json_is_the_snapshot(board, path, query, accept):
    _, headers, text = ask(board, path, query, HTTP_ACCEPT=accept)
    assert headers["Content-Type"] == "application/json"
    assert "Content-Security-Policy" not in headers
    found = json.loads(text)
    assert found["total"]["requests"] == 124
    assert found["workers"][0]["running"][0]["target"] == EVIL


#: What Prometheus 2.53 sends.
SCRAPE = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1"
    ";q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("path", "query", "accept"),
    [
        ("/metrics", "", "*/*"),
        ("/", "format=openmetrics", "text/html"),
        ("/", "", SCRAPE),
    ],
)
def test_metrics_are_what_a_parser_takes(board, path, query, accept):
    _, headers, text = ask(board, path, query, HTTP_ACCEPT=accept)
    assert headers["Content-Type"] == openmetrics.CONTENT_TYPE
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert list(families) == [metric.name for metric in openmetrics.METRICS]
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["portico_requests_total",] == 124
    assert samples["portico_errors_total",] == 2
    assert samples["portico_aborted_total",] == 4
    assert samples["portico_response_octets_total",] == 2 * 3456 + 1
    assert samples["portico_requests_by_protocol_total", ("protocol", "fastcgi")] == 20
    assert samples["portico_repairs_total", ("repair", "no-path-info")] == 8
    assert samples["portico_reloads_total", ("result", "ok")] == 2
    assert samples["portico_reloads_total", ("result", "failed")] == 1
    assert samples["portico_reload_failed",] == 1
    assert samples["portico_worker_crashes_total",] == 1
    assert samples["portico_worker_resident_bytes", ("worker", "2")] == 20_000_000
    assert samples["portico_worker_busy_threads", ("worker", "1")] == 1
    assert samples["portico_workers", ("state", "busy")] == 2
    assert samples["portico_workers", ("state", "idle")] == 0
    assert samples["portico_state", ("portico_state", "serving")] == 1
    assert samples["portico_state", ("portico_state", "stopping")] == 0
    (service,) = families["portico_service"].samples
    assert service.labels == {"application": 'a"b\\c', "version": __version__}
    assert all(family.documentation for family in families.values())
    assert {f.unit for f in families.values()} == {"", "seconds", "bytes", "octets"}


def test_every_metric_has_its_row_in_the_docs():
    text = (docs.ROOT / "docs/reference/metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `(portico_\w+)(?:\{(\w+)\})?` \| (\w+) \|", text, re.MULTILINE)
    suffixes = {"counter": "_total", "info": "_info"}
    assert [(name, kind) for name, _, kind in rows] == [
        (metric.name + suffixes.get(metric.kind, ""), metric.kind) for metric in openmetrics.METRICS
    ]


@pytest.mark.parametrize("accept", ["", "*/*", "text/html,application/xhtml+xml,*/*;q=0.8"])
def test_without_another_wish_it_is_the_page(board, accept):
    assert ask(board, HTTP_ACCEPT=accept)[1]["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/", "/json", "/metrics", "/other"])
def test_head_has_the_same_head_and_no_body(board, path):
    lengths = ("Content-Length",)  # of a moment later
    given, asked = ask(board, path), ask(board, path, method="HEAD")
    assert asked[0] == given[0]
    assert asked[1].keys() == given[1].keys()
    assert all(asked[1][name] == text for name, text in given[1].items() if name not in lengths)
    assert asked[2] == ""


@pytest.mark.parametrize(
    ("method", "path", "query", "status"),
    [
        ("POST", "/", "", "405"),
        ("GET", "/other", "", "404"),
        ("GET", "/metrics/", "", "404"),
        ("GET", "/", "format=xml", "404"),
    ],
)
def test_what_there_is_not(board, method, path, query, status):
    assert ask(board, path, query, method)[0].startswith(status)


def test_without_a_parent_it_says_why():
    status, _, text = ask(None)
    assert status == "503 Service Unavailable"
    assert "--workers" in text
