import io
import threading
import tracemalloc
from wsgiref.validate import validator

import pytest

from backends import PROTOCOLS, WAIT, Backend, Scripted
from portico.client.exchange import BackendError, Timeouts
from portico.client.forward import Forward, forwarded_headers, forwarded_params
from portico.errors import LocalProtocolError, RequestAborted


def make_environ(method="GET", body=b"", **changes):
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": "/x",
        "QUERY_STRING": "q=1",
        "REQUEST_URI": "/x?q=1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    environ.update({name.replace("__", "."): value for name, value in changes.items()})
    return environ


class Answer:
    """Calls an application as a server does."""

    def __init__(self, app, environ):
        self.status = None
        self.environ = environ
        result = app(environ, self.start_response)
        self.kind = type(result)
        blocks = []
        try:
            for block in result:
                assert self.status, "start_response was not called"
                blocks.append(block)
        finally:
            if hasattr(result, "close"):
                result.close()
        self.body = b"".join(blocks)
        self.errors = environ["wsgi.errors"].getvalue()

    def start_response(self, status, headers, _exc_info=None):
        assert self.status is None
        self.status = status
        self.headers = headers
        self.names = [name.lower() for name, _ in headers]


def show(environ, start_response):
    """Answers with its parameters, a line each, and its body."""
    body = environ["wsgi.input"].read()
    lines = [f"{n}={v}\n" for n, v in sorted(environ.items()) if type(v) is str and n.isupper()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["".join(lines).encode("latin-1") + b"\n" + body]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_and_its_answer_pass_through(protocol):
    with Backend(protocol, show) as backend:
        forward = Forward(backend.url)
        environ = make_environ("POST", b"body", CONTENT_TYPE="text/x", HTTP_COOKIE="a=\xe9")
        answer = Answer(forward, environ)
        forward.close()
    assert answer.status == "200 OK"
    assert ("Content-Type", "text/plain") in answer.headers
    params, _, body = answer.body.decode("latin-1").partition("\n\n")
    assert body == "body"
    assert {"CONTENT_LENGTH=4", "CONTENT_TYPE=text/x", "HTTP_COOKIE=a=\xe9", "QUERY_STRING=q=1",
            "REQUEST_METHOD=POST", "PATH_INFO=/x"} <= set(params.split("\n"))  # fmt: skip
    assert answer.kind is list  # whole: a server sends it in one write
    assert answer.errors == ""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_is_a_wsgi_application(protocol):
    """wsgiref's validator looks over its shoulder."""

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield environ["wsgi.input"].read()
        yield b"more"

    with Backend(protocol, app) as backend:
        forward = validator(Forward(backend.url, max_kept=0))
        got = []
        result = forward(
            make_environ("POST", b"body", CONTENT_TYPE="text/x"),
            lambda *args: got.append(args) or (lambda _data: None),
        )
        body = b"".join(result)
        result.close()
    assert got[0][0] == "200 OK"
    assert body == b"bodymore"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_large_response_comes_in_blocks_of_bounded_memory(protocol):
    block = b"x" * 100_000

    def app(_environ, start_response):
        start_response("200 OK", [])
        for _ in range(500):
            yield block

    with Backend(protocol, app) as backend:
        forward = Forward(backend.url)
        count = 0
        tracemalloc.start()
        try:
            result = forward(make_environ(), lambda *_args: None)
            for piece in result:
                count += len(piece)
            result.close()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            forward.close()
    assert count == 50_000_000
    assert peak < 3_000_000


@pytest.mark.parametrize("protocol", ["fastcgi", "ajp"])
def test_an_upload_of_unknown_length_is_streamed(protocol):
    with Backend(protocol, show) as backend:
        environ = make_environ("POST", wsgi__input_terminated=True)
        environ["wsgi.input"] = io.BytesIO(b"y" * 100_000)
        answer = Answer(Forward(backend.url, max_kept=0), environ)
    assert answer.body.endswith(b"\n\n" + b"y" * 100_000)


@pytest.mark.parametrize("protocol", ["scgi", "uwsgi"])
def test_an_upload_of_unknown_length_is_411_where_the_protocol_needs_it(protocol):
    with Backend(protocol, show) as backend:
        environ = make_environ("POST", wsgi__input_terminated=True)
        environ["wsgi.input"] = io.BytesIO(b"y")
        answer = Answer(Forward(backend.url), environ)
        assert backend.accepted == 0
    assert answer.status == "411 Length Required"
    assert answer.errors == "portico: 411: an upload of unknown length\n"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_body_where_a_body_of_unknown_length_could_be(protocol):
    """Portico's own servers end every input, so that this is every GET."""
    with Backend(protocol, show) as backend:
        answer = Answer(Forward(backend.url, max_kept=0), make_environ(wsgi__input_terminated=True))
    assert answer.status == "200 OK"
    assert answer.body.endswith(b"\n\n")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_input_that_does_not_end_is_not_read_without_a_length(protocol):
    class Endless:
        def read(self, _size):
            raise AssertionError("would block")

    with Backend(protocol, show) as backend:
        environ = make_environ(wsgi__input=Endless())
        assert Answer(Forward(backend.url, max_kept=0), environ).status == "200 OK"


def test_only_parameters_are_forwarded():
    environ = make_environ(
        HTTP_X="1",
        HTTP_PROXY="http://evil/",
        HTTP_CONTENT_LENGTH="9",
        HTTP_CONTENT_TYPE="a/b",
        HTTP_TRANSFER_ENCODING="chunked",
        HTTP_CONNECTION="close, X-Hop",
        HTTP_X_HOP="1",
        HTTP_UPGRADE="h2c",
        HTTP_TE="trailers",
        HTTP_EXPECT="100-continue",
        lower="1",
        SERVER_PROTOCOL="HTTP/1.1",
    )
    environ["portico.secret"] = "s"
    environ["HTTP_X\nY"] = "1"
    environ["COUNT"] = 3
    params = forwarded_params(environ)
    assert sorted(params) == [
        "HTTP_X", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "REQUEST_METHOD", "REQUEST_URI",
        "SCRIPT_NAME", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL",
    ]  # fmt: skip


def test_https_is_told_in_the_one_way_that_all_backends_know():
    assert forwarded_params(make_environ(wsgi__url_scheme="https"))["HTTPS"] == "on"
    assert "HTTPS" not in forwarded_params(make_environ())


def test_what_is_not_latin_1_is_not_sent():
    with pytest.raises(LocalProtocolError, match="HTTP_X is not latin-1"):
        forwarded_params(make_environ(HTTP_X="€"))


def test_headers_of_the_connection_stay_behind():
    headers = [
        ("Content-Type", "a/b"),
        ("Connection", "close, X-Hop, Content-Length"),
        ("X-Hop", "1"),
        ("Content-Length", "3"),
        ("Keep-Alive", "timeout=5"),
        ("Transfer-Encoding", "chunked"),
        ("Proxy-Connection", "close"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ]
    assert forwarded_headers(headers) == [headers[0], headers[3], *headers[7:]]


@pytest.mark.parametrize("length", ["x", "-1", "1_0", "1" * 30])
def test_a_length_that_is_none_is_400(length):
    with Backend("scgi", show) as backend:
        answer = Answer(Forward(backend.url), make_environ("POST", CONTENT_LENGTH=length))
        assert backend.accepted == 0
    assert answer.status == "400 Bad Request"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_body(protocol, status):
    def app(_environ, start_response):
        start_response(status, [("X-A", "b")])
        return []

    with Backend(protocol, app) as backend:
        answer = Answer(Forward(backend.url, max_kept=0), make_environ())
    assert answer.status == status
    assert answer.body == b""
    assert ("X-A", "b") in answer.headers


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_head_keeps_its_length_and_its_connection(protocol):
    def app(_environ, start_response):
        start_response("200 OK", [("Content-Length", "1000")])
        return [b"x" * 1000]

    with Backend(protocol, app) as backend:
        forward = Forward(backend.url)
        for _ in range(2):
            answer = Answer(forward, make_environ("HEAD"))
            assert answer.body == b""
            assert answer.headers[answer.names.index("content-length")][1] == "1000"
        assert backend.accepted == (1 if protocol in ("fastcgi", "ajp") else 2)
        forward.close()


def test_a_body_in_answer_to_head_is_dropped():
    """As a CGI script that does not look at the method sends it."""

    def script(conn):
        conn.recv(65_536)
        conn.sendall(b"Status: 200 OK\r\n\r\n" + b"x" * 100_000)

    with Scripted(script) as backend:
        answer = Answer(Forward(backend.url("scgi")), make_environ("HEAD"))
    assert answer.status == "200 OK"
    assert answer.body == b""


@pytest.mark.parametrize(("sent", "given"), [("404", "404 Not Found"), ("299", "299 Unknown")])
def test_a_status_without_reason_gets_one(sent, given):
    def script(conn):
        conn.recv(65_536)
        conn.sendall(f"Status: {sent}\r\n\r\nbody".encode())

    with Scripted(script) as backend:
        answer = Answer(Forward(backend.url("scgi")), make_environ())
    assert answer.status == given
    assert answer.body == b"body"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_backend_that_is_not_there_is_502_and_one_line(protocol):
    with Scripted(lambda _conn: None) as backend:
        url = backend.url(protocol)
    answer = Answer(Forward(url), make_environ())
    assert answer.status == "502 Bad Gateway"
    assert answer.body.startswith(b"<!DOCTYPE html>")
    assert str(len(answer.body)) == dict(answer.headers)["Content-Length"]
    assert answer.errors.startswith("portico: 502: nothing listens on 127.0.0.1:")
    assert answer.errors.count("\n") == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_backend_that_stalls_is_504(protocol):
    done = threading.Event()
    with Scripted(lambda _conn: done.wait(WAIT)) as backend:
        forward = Forward(backend.url(protocol), timeouts=Timeouts(read=0.1))
        answer = Answer(forward, make_environ())
        done.set()
    assert answer.status == "504 Gateway Timeout"
    assert answer.errors.count("\n") == 1


@pytest.mark.parametrize("body", [b"", b"first"], ids=["before-body", "within-body"])
def test_a_cut_is_an_error_page_as_long_as_it_can_be(body):
    def script(conn):
        conn.recv(65_536)
        conn.sendall(b"Status: 200 OK\r\nContent-Length: 100\r\n\r\n" + body)

    with Scripted(script) as backend:
        forward = Forward(backend.url("scgi"))
        if body:
            with pytest.raises(BackendError, match="cut"):
                Answer(forward, make_environ())
        else:
            assert Answer(forward, make_environ()).status == "502 Bad Gateway"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_that_breaks_off_its_upload_is_no_fault_of_the_backend(protocol):
    class Broken(io.BytesIO):
        def read(self, _size=-1):
            raise RequestAborted("gone")

        read1 = read

    with Backend(protocol, show) as backend:
        environ = make_environ("POST", CONTENT_LENGTH="10", wsgi__input=Broken())
        with pytest.raises(RequestAborted, match="gone"):
            Answer(Forward(backend.url), environ)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_closing_the_result_lets_go_of_the_backend(protocol):
    def app(_environ, start_response):
        start_response("200 OK", [])
        while True:
            yield b"x" * 100_000

    with Backend(protocol, app) as backend:
        result = Forward(backend.url)(make_environ(), lambda *_args: None)
        iterator = iter(result)
        assert next(iterator)
        result.close()
        assert backend.aborted.wait(WAIT)


def test_what_is_in_the_error_stream_of_a_response_given_up_goes_to_ours():
    received = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"x"
        assert received.wait(WAIT)
        environ["test.stderr"]("why it went on")
        while True:
            yield b"x" * 100_000

    with Backend("fastcgi", app) as backend:
        environ = make_environ()
        result = Forward(backend.url)(environ, lambda *_args: None)
        iterator = iter(result)
        assert next(iterator) == b"x"
        received.set()
        while not result._exchange._stderr:  # taken, and not passed on yet
            result._exchange._move()
        result.close()
        assert environ["wsgi.errors"].getvalue() == "why it went on"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_free_connection_is_503_in_time(protocol):
    entered, leave = threading.Event(), threading.Event()

    def app(_environ, start_response):
        entered.set()
        assert leave.wait(WAIT)
        start_response("200 OK", [])
        return [b"hello"]

    with Backend(protocol, app) as backend:
        forward = Forward(backend.url, max_open=1, timeouts=Timeouts(queue=0.05))
        first = []
        thread = threading.Thread(target=lambda: first.append(Answer(forward, make_environ())))
        thread.start()
        assert entered.wait(WAIT)
        answer = Answer(forward, make_environ())
        assert answer.status == "503 Service Unavailable"
        assert "queue timeout" in answer.errors
        leave.set()
        thread.join(WAIT)
        assert first[0].body == b"hello"
        forward.close()


def test_the_backends_error_stream_goes_to_ours():
    def app(environ, start_response):
        start_response("200 OK", [])
        environ["test.stderr"]("early ")
        yield b"first"
        environ["test.stderr"]("late")

    with Backend("fastcgi", app) as backend:
        answer = Answer(Forward(backend.url, max_kept=0), make_environ())
    assert answer.body == b"first"
    assert answer.errors == "early late"


def test_a_start_response_that_raises_closes_the_exchange():
    def refuse(_status, _headers, _exc_info=None):
        raise ZeroDivisionError

    def app(_environ, start_response):
        start_response("200 OK", [])
        while True:
            yield b"x" * 100_000

    with Backend("fastcgi", app) as backend:
        with pytest.raises(ZeroDivisionError):
            Forward(backend.url)(make_environ(), refuse)
        assert backend.aborted.wait(WAIT)


def test_a_unix_socket_serves_as_well(tmp_path):
    with Backend("fastcgi", show, path=tmp_path / "app.sock") as backend:
        answer = Answer(Forward(backend.url, max_kept=0), make_environ())
    assert answer.status == "200 OK"
