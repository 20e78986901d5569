"""A server that answers wrongly gets no figure, and the benchmark ends with status 1."""

import json
import socket
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "bench"))

import load
import serve
from contestants import Contestant
from load import Expected, Sample, WrongAnswer

#: What the last lines of wrk are, with our script.
OUTPUT = """\
Running 1s test @ http://127.0.0.1:1/
Requests/sec:   9.00
figures: {"requests": 900, "bytes": 90050, "microseconds": 2000000, "p50": 400, "p99": 1500,\
 "connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0, "wrong": 0}
"""

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Served-By: us\r\n\r\nhello"


def test_what_wrk_prints_is_read():
    sample = load.parse(OUTPUT)
    assert (sample.requests, sample.bytes, sample.p50, sample.p99) == (900, 90_050, 400, 1500)
    assert sample.rate == 450


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("unable to connect to 127.0.0.1:1 Connection refused\n", "refused"),
        (OUTPUT.replace("900,", "0,"), "no request was answered"),
    ],
    ids=["no figures", "no requests"],
)
def test_wrk_without_figures(output, words):
    with pytest.raises(WrongAnswer, match=words):
        load.parse(output)


def sample(**changes):
    return Sample(**{
        "requests": 900, "bytes": 90_000, "microseconds": 10**6, "p50": 1, "p99": 2, **changes
    })  # fmt: skip


@pytest.mark.parametrize("over", [0, 1, 1600])
def test_octets_of_as_many_answers_and_of_those_that_the_end_cut(over):
    load.check(sample(bytes=90_000 + over), 100, 16)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bytes": 89_999}, r"900 answers of 100 octets took 89999: -1"),
        ({"bytes": 91_601}, r"\+1601"),
        ({"status": 3}, "3 status errors in 900 requests"),
        ({"connect": 1}, "1 connect errors"),
        ({"read": 2, "timeout": 4}, "2 read errors, 4 timeout errors"),
        ({"write": 1}, "1 write errors"),
        ({"wrong": 7}, "7 wrong answers in 900 requests"),
    ],
)
def test_what_a_load_must_not_bring(changes, words):
    with pytest.raises(WrongAnswer, match=words):
        load.check(sample(**changes), 100, 16)


@pytest.fixture
def answering():
    """A server that answers everything with some octets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def run(octets):
            def serve_once():
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(octets)

            threads.append(threading.Thread(target=serve_once))
            threads[-1].start()
            return listener.getsockname()[1]

        threads = []
        yield run
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()


def test_a_right_answer_is_counted_to_the_octet(answering):
    assert load.ask(answering(ANSWER), "/", Expected("us", b"hello")) == len(ANSWER)


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (ANSWER.replace(b"200 OK", b"502 Bad Gateway"), "it answered 'HTTP/1.1 502"),
        (ANSWER.replace(b"us", b"them"), "not the server meant"),
        (ANSWER.replace(b"X-Served-By: us\r\n", b""), "not the server meant"),
        (ANSWER.replace(b"\r\n\r\n", b"\r\nX-Served-By: them\r\n\r\n"), "not the server meant"),
        (ANSWER.replace(b"hello", b"hallo"), "are not the 5 expected"),
        (ANSWER[:-1], "4 octets came"),
        (ANSWER.replace(b"Content-Length: 5\r\n", b""), "no Content-Length"),
        (b"", "it answered ''"),
    ],
    ids=["status", "name", "no name", "two names", "octet", "cut", "length", "nothing"],
)
def test_what_an_answer_must_not_be(answering, octets, words):
    with pytest.raises(WrongAnswer, match=words):
        load.ask(answering(octets), "/", Expected("us", b"hello"))


#: The benchmark's application, but for what the server's name says.
STUB = """\
import itertools, os, sys
sys.path.insert(0, {bench!r})
import application as right

KIND = right.SERVED_BY
numbers = itertools.count(1)


def application(environ, start_response):
    number = next(numbers)
    body, headers = right.HELLO, right.HELLO_HEADERS
    if KIND == "other_octets":
        body = body.replace(b"small", b"SMALL")
    elif KIND == "other_name":
        headers = [*headers[:2], ("X-Served-By", "right")]
    elif KIND == "longer_at_times" and number % 50 == 0:
        body += b"!"
        headers = [headers[0], ("Content-Length", str(len(body))), headers[2]]
    elif KIND == "fails_at_times" and number % 50 == 0:
        start_response("500 Internal Server Error", headers)
        return [body]
    start_response("200 OK", headers)
    return [body]
"""

WRONG = {
    "other_octets": "octets came that are not the 36 expected",
    "other_name": "not the server meant: X-Served-By is ['right']",
    "longer_at_times": "wrong answers",
    "fails_at_times": "status errors",
}


def stub(name, file):
    command = (
        sys.executable, "-m", "portico", "serve", str(file), "--bind", "scgi://127.0.0.1:{port}",
        "--workers", "0", "--log-level", "error",
    )  # fmt: skip
    return Contestant(name, "scgi", "portico", command)


def run_bench(monkeypatch, tmp_path, field):
    """One short round of one case; gives the exit status and the results."""
    monkeypatch.setattr(serve, "contestants", lambda: field)
    options = ["--cases", "hello", "--seconds", "1", "--rounds", "1", "--connections", "2"]
    monkeypatch.setattr(sys, "argv", ["serve.py", *options, "--json", str(tmp_path / "json")])
    status = serve.main()
    return status, json.loads((tmp_path / "json").read_text("utf-8"))


@pytest.mark.frontend("nginx", "wrk")
def test_wrong_servers_get_no_figure_and_status_1(monkeypatch, tmp_path, capsys):
    file = tmp_path / "stub.py"
    file.write_text(STUB.format(bench=str(ROOT / "bench")))
    field = [stub(name, file) for name in ("right", *WRONG)]
    status, results = run_bench(monkeypatch, tmp_path, field)
    case = results["cases"]["hello"]
    assert status == 1
    assert set(case["rounds"]) == {"right"}
    assert case["rounds"]["right"][0]["requests"] > 0
    assert set(case["refused"]) == set(WRONG)
    printed = capsys.readouterr().out
    for name, words in WRONG.items():
        assert words in case["refused"][name]
        assert f"{name}: no figure: {case['refused'][name]}\n" in printed


@pytest.mark.frontend("nginx", "wrk")
def test_a_server_that_does_not_start_is_named_and_is_no_error(monkeypatch, tmp_path, capsys):
    file = tmp_path / "stub.py"
    file.write_text(STUB.format(bench=str(ROOT / "bench")))
    broken = Contestant(
        "broken", "scgi", "portico", (sys.executable, "-c", "raise SystemExit('no')")
    )
    status, results = run_bench(monkeypatch, tmp_path, [stub("right", file), broken])
    assert status == 0
    assert results["not_run"] == {"broken": "no"}
    assert "not run: broken: no\n" in capsys.readouterr().out


def test_our_own_that_does_not_run_is_an_error():
    results = {"cases": {}, "not_run": {"portico_scgi": "no"}}
    assert serve.status(results) == 1
    assert serve.status({"cases": {}, "not_run": {"uwsgi_scgi": "no"}}) == 0


def test_names_that_there_are_not(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["serve.py", "--only", "portico_http"])
    with pytest.raises(SystemExit) as ended:
        serve.main()
    assert ended.value.code == 2
    assert "there is no portico_http; there are portico_fastcgi" in capsys.readouterr().err
