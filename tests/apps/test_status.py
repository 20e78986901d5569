"""The status application: what it says of a scoreboard, in three forms."""

import json
import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

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


def test_page_shows_workers_requests_and_counts(board):
    status, headers, text = ask(board)
    assert status == "200 OK"
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert text.count('<td class="text">busy</td>') == 2
    assert "<b>124</b><span>requests</span>" in text
    assert "The last reload failed: no &lt;b&gt;such&lt;/b&gt; module</p>" in text


def test_what_clients_send_stays_text(board):
    _, headers, text = ask(board)
    assert "alert(" in text
    assert '<script>alert("1")' not in text
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert text.count("<script") == 1


@pytest.mark.parametrize(("path", "query"), [("/json", ""), ("/", "format=json")])
def test_json_is_the_snapshot(board, path, query):
    _, headers, text = ask(board, path, query)
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    found = json.loads(text)
    assert found["total"]["requests"] == 124
    assert found["workers"][0]["running"][0]["target"] == EVIL


@pytest.mark.parametrize(
    ("path", "query", "accept"),
    [
        ("/metrics", "", ""),
        ("/", "format=openmetrics", ""),
        ("/", "", "application/openmetrics-text; version=1.0.0"),
    ],
)
def test_metrics_are_what_a_parser_takes(board, path, query, accept):
    _, headers, text = ask(board, path, query, HTTP_ACCEPT=accept)
    assert headers["Content-Type"] == openmetrics.CONTENT_TYPE
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["portico_requests_total",] == 124
    assert samples["portico_requests_by_protocol_total", ("protocol", "fastcgi")] == 20
    assert samples["portico_repairs_total", ("repair", "no-path-info")] == 8
    assert samples["portico_reloads_total", ("result", "failed")] == 1
    assert samples["portico_worker_crashes_total",] == 1
    assert samples["portico_worker_resident_bytes", ("worker", "2")] == 20_000_000
    (service,) = families["portico_service"].samples
    assert service.labels["application"] == 'a"b\\c'
    assert all(family.documentation for family in families.values())


def test_head_has_the_same_head_and_no_body(board):
    assert ask(board, method="HEAD")[1]["Content-Type"] == "text/html; charset=utf-8"
    assert ask(board, method="HEAD")[2] == ""


@pytest.mark.parametrize(
    ("method", "path", "query", "status"),
    [
        ("POST", "/", "", "405"),
        ("GET", "/other", "", "404"),
        ("GET", "/", "format=xml", "404"),
        ("GET", "/json", "format=html", "404"),
    ],
)
def test_what_there_is_not(board, method, path, query, status):
    assert ask(board, path, query, method)[0].startswith(status)


def test_without_a_parent_it_says_why():
    status, _, text = ask(None)
    assert status == "503 Service Unavailable"
    assert "--workers" in text


def test_page_asks_for_nothing_from_elsewhere(board):
    _, _, text = ask(board)
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:|//)", text)
