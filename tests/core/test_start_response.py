"""start_response: what it takes, what it refuses, and when (PEP 3333)."""

import sys
import traceback

import pytest

from core_harness import PLAIN, answering, assert_failed, run
from portico.errors import ApplicationError

# start_response: called wrongly.


def test_a_second_call_is_an_error():
    def app(_environ, start_response):
        start_response("200 OK", list(PLAIN))
        start_response("200 OK", list(PLAIN))
        return [b"x"]

    sink, errors, _ = run(app)
    assert_failed(sink, errors, "second time without exc_info")


def test_a_second_call_with_exc_info_replaces_the_head():
    def app(_environ, start_response):
        start_response("200 OK", [("X-First", "1"), ("Content-Length", "100")])
        try:
            raise ValueError  # noqa: TRY301 - what PEP 3333's example does
        except ValueError:
            start_response("503 Busy", list(PLAIN), sys.exc_info())
        return [b"sorry"]

    sink, errors, _ = run(app)
    assert sink.status == "503 Busy"
    assert sink.headers == [*PLAIN, ("Content-Length", "5")]
    assert errors == ""


def test_a_first_call_with_exc_info_is_fine():
    def app(_environ, start_response):
        try:
            raise ValueError  # noqa: TRY301 - as above
        except ValueError:
            start_response("503 Busy", list(PLAIN), sys.exc_info())
        return [b"sorry"]

    assert run(app)[0].status == "503 Busy"


def test_exc_info_before_the_first_block_replaces_the_head():
    def app(_environ, start_response):
        start_response("200 OK", list(PLAIN))
        yield b""
        try:
            raise ValueError  # noqa: TRY301 - as above
        except ValueError:
            start_response("503 Busy", list(PLAIN), sys.exc_info())
        yield b"sorry"

    sink, _, _ = run(app)
    assert (sink.status, sink.body) == ("503 Busy", b"sorry")


def test_exc_info_after_the_head_is_raised_again():
    caught = []

    def app(_environ, start_response):
        start_response("200 OK", list(PLAIN))(b"begun")
        try:
            raise ValueError("the application's own")  # noqa: TRY301 - as above
        except ValueError as error:
            try:
                start_response("503 Busy", list(PLAIN), sys.exc_info())
            except ValueError as again:
                caught.append(again is error)
                raise
        return [b"sorry"]

    sink, errors, _ = run(app)
    assert caught == [True]
    assert (sink.status, sink.body) == ("200 OK", b"begun")
    assert sink.aborted
    assert "the application's own" in errors


def test_an_empty_exc_info_after_the_head_is_an_error():
    """sys.exc_info() outside an except clause is three times None, yet true."""

    def app(_environ, start_response):
        start_response("200 OK", list(PLAIN))(b"begun")
        start_response("503 Busy", list(PLAIN), (None, None, None))
        return [b"sorry"]

    sink, errors, response = run(app)
    assert (sink.status, sink.body, sink.aborted) == ("200 OK", b"begun", True)
    assert "after the head had left" in errors
    assert response.status == "200 OK"


def test_a_refused_head_may_be_followed_by_a_good_one():
    def app(_environ, start_response):
        try:
            start_response("200 OK", [("X-Bad", "a\nb")])
        except ApplicationError:
            start_response("400 Bad Request", list(PLAIN))
        return [b"x"]

    assert run(app)[0].status == "400 Bad Request"


def test_never_calling_it_is_an_error():
    for result in ([], [b"x"], iter([]), iter([b"x"]), None):
        sink, errors, _ = run(lambda _environ, _start, result=result: result)
        assert_failed(sink, errors, "start_response" if result is not None else "NoneType")


@pytest.mark.parametrize(
    "status",
    [
        "200 OK\r\nX-Injected: 1", "200 OK\n", "200 a\rb", "200 a\0b", "200 a\tb", "200 \u20ac",
        "20 OK", "2000 OK", "OK", "", "200OK", "abc OK", "\xb200 OK", " 200 OK", "-20 OK",
        "100 Continue", "101 Switching Protocols", "099 Odd", "000 Odd", 200, b"200 OK", None,
    ],
)  # fmt: skip
def test_malformed_statuses_are_errors(status):
    sink, errors, _ = run(answering([b"x"], status))
    assert_failed(sink, errors, "status")


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        ("200 OK", "200 OK"),
        ("200 ", "200 "),
        ("200", "200 "),
        ("299 A Reason (with) marks!", "299 A Reason (with) marks!"),
        ("404 Introuvable\xe9", "404 Introuvable\xe9"),
        ("999 Odd", "999 Odd"),
    ],
)
def test_wellformed_statuses_are_sent(status, sent):
    sink, errors, _ = run(answering([b"x"], status))
    assert (sink.status, errors) == (sent, "")


@pytest.mark.parametrize(
    "headers",
    [
        [("X-A", "a\r\nX-Injected: 1")], [("X-A", "a\nb")], [("X-A", "a\rb")], [("X-A", "a\0b")],
        [("X-A", "a\x7fb")], [("X-A", "\u20ac")], [("Location", "/a\r\n\r\nb")],
        [("X\r\nA", "a")], [("X A", "a")], [("X:A", "a")], [("X\xe9", "a")], [("", "a")],
        [("X\0", "a")], [("X-A:", "a")], [("Status", "200 OK")], [("status", "404")],
        [(b"X-A", "a")], [("X-A", b"a")], [("X-A", 1)], [("X-A", None)], [(None, "a")],
        [("X-A",)], [("X-A", "a", "b")], [["X-A", "a"]], ["X-A: a"], [None],
        (("X-A", "a"),), {"X-A": "a"}, None, iter([("X-A", "a")]),
        [("Content-Length", "")], [("Content-Length", "-1")], [("Content-Length", "+1")],
        [("Content-Length", "1.0")], [("Content-Length", " 1")], [("Content-Length", "0x1")],
        [("Content-Length", "\xb2")], [("Content-Length", "1"), ("Content-Length", "2")],
        [("Content-Length", "1"), ("content-length", "1")],
        *[
            [(name, "x")]
            for name in (
                "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "TE",
                "Trailer", "Trailers", "Transfer-Encoding", "Upgrade", "transfer-encoding",
                "CONNECTION",
            )
        ],
    ],
)  # fmt: skip
def test_malformed_headers_are_errors(headers):
    def app(_environ, start_response):
        start_response("200 OK", headers)
        return [b"x"]

    sink, errors, _ = run(app)
    assert_failed(sink, errors, "ApplicationError: ")


@pytest.mark.parametrize("value", ["", " ", "a\tb", "caf\xe9", "\x80\xff", '"quoted"', "a, b"])
def test_odd_but_legal_values_are_sent(value):
    sink, errors, _ = run(answering([b"x"], headers=[("X-A", value), ("x!#$%&'*+-.^_`|~9", "")]))
    assert sink.headers[:2] == [("X-A", value), ("x!#$%&'*+-.^_`|~9", "")]
    assert errors == ""


# What the frames keep.


def test_exc_info_is_not_kept_alive():
    kept = []

    def app(_environ, start_response):
        try:
            raise ValueError  # noqa: TRY301 - as above
        except ValueError as error:
            kept.append(error)
            start_response("503 Busy", list(PLAIN), sys.exc_info())
        return [b"x"]

    run(app)
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(kept[0].__traceback__)]
    assert frames == ["app"]
