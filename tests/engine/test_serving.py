"""Requests of every protocol through real sockets: the life of a connection."""

import os
import select
import socket
import tempfile
import threading
import time
import tracemalloc

import pytest

from engine_harness import (
    KEEPING,
    ONE_SHOT,
    PLAIN,
    PROTOCOLS,
    WAIT,
    Running,
    environ_for,
    hello,
    in_background,
    make_codec,
    open_descriptors,
    path_of,
    reading,
    request_octets,
    until,
)
from portico.engine import waiting as waiting_module
from portico.engine.poller import SelectorPoller
from portico.errors import RemoteProtocolError, RequestAborted

each = pytest.mark.parametrize("protocol", PROTOCOLS)
each_keeping = pytest.mark.parametrize("protocol", KEEPING)
each_one_shot = pytest.mark.parametrize("protocol", ONE_SHOT)


# -- whole requests ------------------------------------------------------------------------


@each
def test_small_request_is_answered(protocol):
    with Running(hello, protocol) as server:
        answer = server.ask(protocol)
    assert answer.status == "200 OK"
    assert answer.header("Content-Length") == ["5"]
    assert answer.body == b"hello"
    assert server.log.lines() == []


@each_keeping
def test_kept_connection_carries_many_requests(protocol):
    with Running(path_of, protocol) as server, server.connect(protocol) as frontend:
        for number in range(300):
            answer = frontend.ask(f"/{number}?q={number}", b"x" * (number % 3))
            assert answer.body == b"/%d?q=%d" % (number, number)
            assert answer.reusable


@each_keeping
def test_connection_that_is_not_to_be_kept_is_closed(protocol):
    with Running(hello, protocol) as server, server.connect(protocol, keep=False) as frontend:
        frontend.ask()
        if protocol == "ajp":  # the protocol knows no such wish: the web server closes
            frontend.sock.shutdown(socket.SHUT_WR)
        assert frontend.ends() == "eof"


@each_one_shot
def test_one_request_connection_is_closed(protocol):
    with Running(hello, protocol) as server, server.connect(protocol) as frontend:
        frontend.ask()  # its end is the end of file


@each
def test_request_sent_octet_by_octet(protocol):
    octets = request_octets(protocol, "/slowly?x=1", b"body")
    with Running(path_of, protocol) as server, server.connect(protocol) as frontend:
        frontend.codec.send_request(
            environ_for("/slowly?x=1", "POST", CONTENT_LENGTH="4"), b"body", end=True
        )
        for at in range(len(octets)):
            frontend.send(octets[at : at + 1])
        assert frontend.finish().body == b"/slowly?x=1"


@each_keeping
def test_pipelined_requests_are_answered_in_order(protocol):
    codec = make_codec(protocol)
    octets = b"".join(request_octets(protocol, f"/{number}") for number in range(20))
    bodies = []
    with Running(path_of, protocol) as server, server.connect(protocol) as frontend:
        frontend.send(octets)
        frontend.codec = codec
        for _ in range(20):
            codec.send_request(environ_for("/"), b"", end=True)
            # one response at a time: the codec takes no second one before it is asked
            bodies.append(_one_response(frontend, protocol))
    assert bodies == [b"/%d?" % number for number in range(20)]


def _one_response(frontend, protocol):
    """Read exactly one response, by its framing, and decode it."""
    while True:
        head = _receive_exactly(frontend.sock, 8 if protocol == "fastcgi" else 4)
        if protocol == "fastcgi":
            rest = int.from_bytes(head[4:6]) + head[6]
            last = head[1] == 3
        else:
            rest = int.from_bytes(head[2:4])
            last = False
        content = _receive_exactly(frontend.sock, rest)
        if protocol == "ajp":
            last = content[:1] == b"\x05"
        for event in frontend.codec.receive_data(head + content):
            if type(event).__name__ == "ResponseBodyReceived":
                body = event.data
        if last:
            return body


def _receive_exactly(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, "the connection ended"
        data += piece
    return data


# -- bodies --------------------------------------------------------------------------------


@each
def test_body_in_pieces(protocol):
    pieces = [bytes([65 + number]) * 7001 for number in range(10)]
    seen = []

    def app(environ, start_response):
        seen.append(environ["wsgi.input"].read())
        start_response("200 OK", PLAIN)
        return [b"done"]

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin(body=pieces[0], length=70_010, end=False)
        for piece in pieces[1:]:
            frontend.more(piece)
        frontend.more(b"", end=True)
        assert frontend.finish().body == b"done"
    assert seen == [b"".join(pieces)]


@each
def test_body_without_length_where_the_protocol_knows_its_end(protocol):
    if protocol in ONE_SHOT:
        codec = make_codec(protocol)
        with pytest.raises(Exception, match="needs a CONTENT_LENGTH"):
            codec.send_request(environ_for(method="POST"), b"abc", end=False)
        return
    with Running(reading, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin(body=b"a" * 20_000, end=False, method="POST")
        frontend.more(b"b" * 20_000)
        frontend.more(b"", end=True)
        assert frontend.finish().body == b"40000"


@each
def test_echo_of_20_megabytes_while_they_are_sent(protocol):
    """The application writes before it has read, the web server sends before it reads."""
    size = 20_000_000
    block = os.urandom(1_000_000)

    def echo(environ, start_response):
        start_response("200 OK", [("Content-Length", str(size))])
        while piece := environ["wsgi.input"].read(65_536):
            yield piece

    with Running(echo, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin(length=size, end=False)
        if protocol == "ajp":  # sends what it is asked for
            for _ in range(20):
                frontend.more(block)
            frontend.more(b"", end=True)
        else:

            def send():
                for _ in range(20):
                    frontend.more(block)
                frontend.more(b"", end=True)

            # all of it before the first read of the response
            with in_background(send):
                pass
        answer = frontend.finish()
    assert len(answer.body) == size
    assert answer.body == block * 20


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "uwsgi"])
def test_echo_keeps_little_in_memory(protocol):
    size = 20_000_000
    before = _spool_files()
    spooled = []

    def echo(environ, start_response):
        start_response("200 OK", [("Content-Length", str(size))])
        while piece := environ["wsgi.input"].read(65_536):
            yield piece
        spooled.append(_spool_files())

    with Running(echo, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin(length=size, end=False)
        octets = frontend.codec.send_body(bytes(1_000_000))
        received = 0
        tracemalloc.start()
        try:
            for _ in range(20):
                frontend.send(octets)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        if protocol == "fastcgi":
            frontend.send(b"\1\5\0\1\0\0\0\0")
        while received < size:
            data = frontend.sock.recv(262_144)
            assert data
            received += len(data)
        until(lambda: spooled, "the end of the request")
        assert spooled[0] == before + 1
        until(lambda: _spool_files() == before, "the closing of the spool")
    assert peak < 3_000_000


def _spool_files():
    """Count the deleted temporary files that this process has open."""
    place = tempfile.gettempdir()
    targets = open_descriptors().values()
    return sum(target.startswith(place) and "deleted" in target for target in targets)


def test_spool_that_stays_small_makes_no_file():
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"w" * 8_000_000  # more than the sockets hold
        yield b"%d" % len(environ["wsgi.input"].read())

    with Running(app, "scgi") as server, server.connect("scgi", receive_bytes=8192) as frontend:
        frontend.begin(length=100_000, end=False)
        frontend.more(b"a" * 100_000, end=True)
        answer = frontend.finish()
    assert answer.body == b"w" * 8_000_000 + b"100000"


@each
def test_large_body_in_one_block(protocol):
    """More buffers than one gathered write takes: IOV_MAX is 1024."""
    block = os.urandom(1_000_000) * (6 if protocol == "ajp" else 36)

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        return [block]

    with Running(app, protocol) as server:
        answer = server.ask(protocol)
    assert answer.body == block


@each
def test_file_is_sent(protocol, tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(content)

    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        return environ["wsgi.file_wrapper"](open(tmp_path / "file", "rb"))  # noqa: PTH123

    with Running(app, protocol) as server:
        answer = server.ask(protocol)
    assert answer.header("Content-Length") == ["3000000"]
    assert answer.body == content


@each_keeping
def test_small_unread_body_keeps_the_connection(protocol):
    with Running(path_of, protocol) as server, server.connect(protocol) as frontend:
        for number in range(5):
            answer = frontend.ask(f"/{number}", b"u" * 100_000)
            assert answer.body == b"/%d?" % number
            if not answer.reusable:  # the rest of a body that nobody asked for
                frontend.codec = make_codec(protocol)
        assert frontend.ask("/last").body == b"/last?"


def test_unread_body_in_many_small_pieces_keeps_the_connection():
    """What is skipped is counted in octets, not in reads."""
    with Running(path_of, "fastcgi") as server, server.connect("fastcgi") as frontend:
        frontend.begin("/first", length=4000, end=False)
        frontend.finish()
        for _ in range(40):
            # its own codec takes no body after the answer's end
            frontend.send(b"\1\5\0\1\0\x64\0\0" + b"u" * 100)
            assert not _readable(frontend.sock)  # no end of file
        frontend.send(b"\1\5\0\1\0\0\0\0")
        frontend.codec = make_codec("fastcgi")
        assert frontend.ask("/second").body == b"/second?"


def test_connection_stays_idle_after_an_unread_body_as_after_any_other():
    """The end of the skipped body begins no request, so head_timeout does not run."""
    with (
        Running(path_of, "fastcgi", head_timeout=0.2) as server,
        server.connect("fastcgi") as frontend,
    ):
        frontend.begin("/first", length=100, end=False)
        frontend.finish()
        frontend.send(b"\1\5\0\1\0\x64\0\0" + b"u" * 100 + b"\1\5\0\1\0\0\0\0")
        frontend.sock.settimeout(0.6)
        with pytest.raises(TimeoutError):
            frontend.sock.recv(1)
        frontend.sock.settimeout(WAIT)
        frontend.codec = make_codec("fastcgi")
        assert frontend.ask("/second").body == b"/second?"
    assert server.log.lines() == []


@each_keeping
def test_reading_on_after_the_response_has_ended_takes_no_later_request(protocol):
    """Body of an answered request is not told apart any more from what follows it."""
    raised = []
    go = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "2")])
        yield b"ok"
        if environ["PATH_INFO"] == "/first":
            assert go.wait(WAIT)
            try:
                environ["wsgi.input"].read()
            except RequestAborted as error:
                raised.append(str(error))
                raise

    with Running(app, protocol, body_timeout=1.0) as server, server.connect(protocol) as frontend:
        frontend.begin("/first", b"b" * 3000, length=9000, end=False)
        assert frontend.finish().body == b"ok"
        if protocol == "fastcgi":
            frontend.send(b"\1\5\0\1\0\x64\0\0" + b"u" * 100 + b"\1\5\0\1\0\0\0\0")
        frontend.codec = make_codec(protocol)
        frontend.begin("/second")
        go.set()
        assert frontend.finish().body == b"ok"
    assert raised == ["the response has ended, and the body with it"]


@each_one_shot
def test_body_can_be_read_after_the_response_has_ended(protocol):
    lengths = []

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "2")])
        yield b"ok"
        lengths.append(len(environ["wsgi.input"].read()))

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin(length=9000, end=False)
        frontend.more(b"b" * 3000)
        frontend.more(b"b" * 6000, end=True)
        assert frontend.finish().body == b"ok"
    assert lengths == [9000]


@each
def test_large_unread_body_does_not_destroy_the_response(protocol):
    """The connection closes, but not before the web server can have read the answer."""
    text = b"refused: too large\n" * 1000

    def app(_environ, start_response):
        start_response("413 Content Too Large", PLAIN)
        return [text]

    size = 50_000_000
    stopped = threading.Event()
    with Running(app, protocol, drain_timeout=2.0) as server, server.connect(protocol) as frontend:
        frontend.begin(length=size, end=False)
        block = frontend.codec.send_body(bytes(1_000_000)) or bytes(1_000_000)

        def send():
            try:
                for _ in range(size // 1_000_000):
                    frontend.send(block)
            except OSError:
                stopped.set()

        if protocol == "ajp":
            assert frontend.finish().body == text
            return
        with in_background(send):
            answer = frontend.finish()
        assert answer.status == "413 Content Too Large"
        assert answer.body == text
    assert stopped.is_set()
    assert server.log.lines() == []


@each_one_shot
def test_unread_body_is_drained_before_closing(protocol):
    """The web server reads nothing until it has sent all of a body that nobody reads."""
    with Running(hello, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin(length=900_000, end=False)
        frontend.more(b"u" * 400_000)
        until(lambda: _readable(frontend.sock), "the response")
        frontend.more(b"u" * 500_000, end=True)
        assert frontend.finish().body == b"hello"


def _readable(sock):
    return bool(select.select([sock], [], [], 0)[0])


@each_one_shot
def test_draining_is_bounded_in_time(protocol):
    with (
        Running(hello, protocol, drain_timeout=0.2) as server,
        server.connect(protocol) as frontend,
    ):
        frontend.begin(length=900_000, end=False)
        frontend.finish()
        frontend.dribble(b"u" * 1000, 0.01)


# -- timeouts ------------------------------------------------------------------------------


@each
def test_slow_head_is_closed_and_costs_no_thread(protocol):
    with Running(hello, protocol, head_timeout=0.3, threads=4) as server:
        frontends = [server.connect(protocol) for _ in range(20)]
        octets = request_octets(protocol)
        for frontend in frontends:
            frontend.send(octets[: len(octets) // 2])
        assert server.ask(protocol).body == b"hello"
        assert server.workers() == 1
        names = [frontend.name for frontend in frontends]
        for frontend in frontends:
            assert frontend.ends() in {"eof", "reset"}
            frontend.close()
        until(lambda: len(server.log.having("head_timeout")) == 20, "the log lines")
        lines = "\n".join(server.log.having("head_timeout"))
        assert all(name in lines for name in names)


@each
def test_connection_without_octets_is_closed(protocol):
    with Running(hello, protocol, head_timeout=0.2) as server:
        with server.connect(protocol) as frontend:
            assert frontend.ends() == "eof"
        assert len(server.log.having("head_timeout")) == 1


def test_head_timeout_runs_from_acceptance_and_is_not_prolonged_by_octets():
    with (
        Running(hello, "fastcgi", head_timeout=0.5) as server,
        server.connect("fastcgi") as frontend,
    ):
        began = time.monotonic()
        frontend.dribble(request_octets("fastcgi"), 0.05)
        assert time.monotonic() - began < 3
    assert len(server.log.having("head_timeout")) == 1


@each_keeping
def test_idle_connection_is_closed(protocol):
    with (
        Running(hello, protocol, idle_timeout=0.2) as server,
        server.connect(protocol) as frontend,
    ):
        frontend.ask()
        assert frontend.ends() == "eof"
    assert server.log.lines() == []


@each_keeping
def test_idle_timeout_begins_anew_with_each_request(protocol):
    with (
        Running(hello, protocol, idle_timeout=0.5) as server,
        server.connect(protocol) as frontend,
    ):
        began = time.monotonic()
        pause = threading.Event()
        while time.monotonic() - began < 1.2:
            assert frontend.ask().reusable
            pause.wait(0.05)


@pytest.mark.parametrize("threads", [1, 2])
def test_idle_timeout_begins_at_the_end_of_a_slow_request(threads):
    def slow(_environ, start_response):
        threading.Event().wait(0.6)
        start_response("200 OK", PLAIN)
        return [b"slow"]

    with (
        Running(slow, "fastcgi", idle_timeout=0.4, threads=threads) as server,
        server.connect("fastcgi") as frontend,
    ):
        frontend.ask()
        assert frontend.ask().body == b"slow"
        began = time.monotonic()
        assert frontend.ends() == "eof"
        assert time.monotonic() - began > 0.2


@each
def test_silence_in_the_body_raises_in_read(protocol):
    raised = []

    def app(environ, _start_response):
        try:
            environ["wsgi.input"].read()
        except RequestAborted as error:
            raised.append(str(error))
            raise

    with (
        Running(app, protocol, body_timeout=0.2) as server,
        server.connect(protocol) as frontend,
    ):
        frontend.begin(body=b"beginning", length=100_000, end=False)
        if protocol == "ajp":  # it is asked for more
            assert len(frontend.sock.recv(100)) == 7
        assert frontend.ends() in {"eof", "reset"}
    assert raised == ["the frontend sent no body for body_timeout seconds"]
    assert len(server.log.having(": 499 ")) == 1
    assert server.errors.getvalue() == ""


@each
def test_peer_that_does_not_read_is_given_up(protocol):
    closed = []

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        return Blocks(closed, bytes(1_000_000), 100)

    with (
        Running(app, protocol, write_timeout=0.3) as server,
        server.connect(protocol, receive_bytes=4096) as frontend,
    ):
        frontend.begin()
        until(lambda: closed, "the iterable's close")
    assert closed == [1]
    assert len(server.log.having(": 499 ")) == 1
    assert "no progress in 0.3 seconds" in server.log.having(": 499 ")[0]
    assert server.errors.getvalue() == ""


class Blocks:
    """An iterable of *count* times *block* that counts its closings."""

    def __init__(self, closed, block, count):
        self.closed = closed
        self.block = block
        self.count = count

    def __iter__(self):
        for _ in range(self.count):
            yield self.block

    def close(self):
        self.closed.append(1)


# -- ends ----------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("how", ["close", "reset"])
def test_peer_that_goes_away_in_the_response(protocol, how):
    closed = []

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        return Blocks(closed, bytes(1_000_000), 1000)

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin()
        frontend.step()
        getattr(frontend, how)()
        until(lambda: closed, "the iterable's close")
        until(lambda: server.log.having(": 499 "), "the log line")
        assert server.ask(protocol, method="HEAD").status == "200 OK"
    assert closed == [1, 1]
    assert len(server.log.lines()) == 1
    assert frontend.name in server.log.lines()[0]
    assert server.errors.getvalue() == ""


@each
@pytest.mark.parametrize("how", ["close", "reset"])
def test_peer_that_goes_away_in_the_body(protocol, how):
    raised = []

    def app(environ, _start_response):
        try:
            environ["wsgi.input"].read()
        except RequestAborted as error:
            raised.append(error)
            with pytest.raises(RequestAborted):  # again: a cut body never looks like an end
                environ["wsgi.input"].read()
            raise

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin(body=b"some", length=100_000, end=False)
        getattr(frontend, how)()
        until(lambda: server.log.having(": 499 "), "the log line")
    assert len(raised) == 1
    assert len(server.log.lines()) == 1
    assert server.errors.getvalue() == ""


def test_abort_request_raises_in_read():
    def app(environ, _start_response):
        environ["wsgi.input"].read()

    with Running(app, "fastcgi") as server, server.connect("fastcgi") as frontend:
        frontend.begin(body=b"some", length=100_000, end=False)
        frontend.send(frontend.codec.abort())
        until(lambda: server.log.having(": 499 "), "the log line")
        assert frontend.ends() in {"eof", "reset"}
    assert len(server.log.lines()) == 1


@each
def test_exception_before_the_head_is_answered_500(protocol):
    def app(environ, _start_response):
        raise ValueError(environ["PATH_INFO"])

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        answer = frontend.ask("/secret-detail")
        assert answer.status == "500 Internal Server Error"
        assert b"secret-detail" not in answer.body
        if protocol in KEEPING:
            assert frontend.ask("/again").status == "500 Internal Server Error"
    assert "ValueError: /secret-detail" in server.errors.getvalue()


@each
def test_debug_shows_the_traceback(protocol):
    def app(_environ, _start_response):
        raise ValueError("what happened")

    with Running(app, protocol, debug=True) as server:
        assert b"what happened" in server.ask(protocol).body


@each
def test_exception_after_the_head_is_seen_as_a_cut(protocol):
    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"beginning"
        raise ValueError("too late")

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin()
        with pytest.raises((RemoteProtocolError, ConnectionResetError)):
            frontend.finish()
        assert not frontend.answer.whole
    assert "ValueError: too late" in server.errors.getvalue()


@each
def test_short_response_is_seen_as_a_cut(protocol):
    def app(_environ, start_response):
        start_response("200 OK", [("Content-Length", "100")])
        return [b"ten octets"]

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin()
        with pytest.raises((RemoteProtocolError, ConnectionResetError)):
            frontend.finish()
    assert "Content-Length" in server.errors.getvalue()


def test_cut_is_a_reset_where_an_end_of_file_would_look_whole():
    """SCGI without Content-Length: an end of file is a complete response."""

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"beginning"
        raise ValueError("too late")

    with Running(app, "scgi") as server, server.connect("scgi") as frontend:
        frontend.begin()
        with pytest.raises(ConnectionResetError):
            frontend.finish()


class Quit(BaseException):
    """What neither Exception nor a signal is, such as asyncio.CancelledError."""


@each
@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, Quit, KeyboardInterrupt])
def test_what_would_end_a_thread_ends_one_request(protocol, kind):
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/quit":
            raise kind("leaving")
        start_response("200 OK", PLAIN)
        return [b"alive"]

    with Running(app, protocol, threads=2) as server:
        for _ in range(4):
            answer = server.ask(protocol, "/quit")
            assert answer.status == "500 Internal Server Error"
        assert server.ask(protocol).body == b"alive"
        assert server.workers() == 1
    lines = server.log.having("only the request ended")
    assert len(lines) == 4
    assert "sys.exit(leaving)" in lines[0] if kind is SystemExit else kind.__name__ in lines[0]


@each
def test_client_gone_tells_a_running_application(protocol):
    seen = []
    entered = threading.Event()
    over = threading.Event()

    def app(environ, start_response):
        gone = environ["portico.client_gone"]
        seen.append(gone())
        entered.set()
        until(gone, "the client's going")
        seen.append(gone())
        start_response("200 OK", PLAIN)
        over.set()
        return [b"nobody reads this"]

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin()
        assert entered.wait(WAIT)
        frontend.close()
        assert over.wait(WAIT)
    assert seen == [False, True]


def test_client_gone_asked_after_the_end():
    kept = []

    def app(environ, start_response):
        kept.append(environ["portico.client_gone"])
        return hello(environ, start_response)

    with Running(app, "scgi") as server:
        server.ask("scgi")
        until(kept[0], "the connection's end")


def test_response_head_too_large_for_the_protocol_is_answered_500():
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/good":
            return hello(environ, start_response)
        start_response("200 OK", [("X-Large", "x" * 9000)])
        return [b"body"] if environ["PATH_INFO"] == "/list" else iter([b"body"])

    with Running(app, "ajp") as server, server.connect("ajp") as frontend:
        for path in ("/list", "/stream"):
            assert frontend.ask(path).status == "500 Internal Server Error"
        assert frontend.ask("/good").body == b"hello"
    assert server.errors.getvalue().count("raise packet_size") == 2


# -- refusals ------------------------------------------------------------------------------


@each
def test_malformed_parameters_are_refused_and_named(protocol):
    with Running(hello, protocol, max_params=16) as server, server.connect(protocol) as frontend:
        many = {f"HTTP_X_{number}": "1" for number in range(100)}
        frontend.begin(**many)
        answer = frontend.finish()
        assert answer.status.startswith("431")
        assert frontend.ends() == "eof"
    assert len(server.log.lines()) == 1
    line = server.log.lines()[0]
    assert frontend.name in line
    assert "raise max_params to allow it" in line
    assert f"{protocol}://127.0.0.1" in line


@each
def test_request_without_a_method_is_refused(protocol):
    if protocol == "ajp":  # the method is a field of its message there
        return
    environ = environ_for()
    del environ["REQUEST_METHOD"]
    environ["CONTENT_LENGTH"] = "0"
    with Running(hello, protocol) as server, server.connect(protocol) as frontend:
        frontend.send(frontend.codec.send_request(environ, b"", end=True))
        assert frontend.finish().status == "400 Bad Request"
    assert len(server.log.having("REQUEST_METHOD")) == 1


def test_wrong_secret_is_refused():
    with Running(hello, "ajp", query="?secret=right") as server:
        with server.connect("ajp", secret="wrong") as frontend:  # noqa: S106 - made up
            assert frontend.ask().status.startswith("403")
        with server.connect("ajp", secret="right") as frontend:  # noqa: S106 - made up
            assert frontend.ask().body == b"hello"
    assert "wrong" not in server.log.lines()[0].replace("missing or wrong", "")


def test_unknown_role_is_rejected_by_the_codec():
    begin = b"\1\1\0\1\0\x08\0\0\0\x07\0\0\0\0\0\0"
    with Running(hello, "fastcgi") as server, server.connect("fastcgi") as frontend:
        frontend.send(begin)
        data = _receive_exactly(frontend.sock, 16)
        assert data[1] == 3  # FCGI_END_REQUEST
        assert data[12] == 3  # FCGI_UNKNOWN_ROLE
        assert frontend.ends() == "eof"


def test_management_record_is_answered_between_requests():
    with Running(hello, "fastcgi") as server, server.connect("fastcgi") as frontend:
        frontend.ask()
        name = b"FCGI_MPXS_CONNS"
        frontend.send(b"\1\x09\0\0\0\x11\0\0" + bytes([len(name), 0]) + name)
        assert _receive_exactly(frontend.sock, 8)[1] == 10
        _receive_exactly(frontend.sock, 18)
        assert frontend.ask().body == b"hello"


def test_cping_is_answered_between_requests():
    with Running(hello, "ajp") as server, server.connect("ajp") as frontend:
        for _ in range(3):
            frontend.send(frontend.codec.ping())
            frontend.step()
            assert frontend.ask().body == b"hello"


# -- how many ------------------------------------------------------------------------------


@each_keeping
def test_connection_beyond_max_connections_waits(protocol):
    with Running(hello, protocol, max_connections=3) as server:
        kept = [server.connect(protocol) for _ in range(3)]
        for frontend in kept:
            frontend.ask()
        with server.connect(protocol) as late:
            late.begin()
            late.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.step()
            late.sock.settimeout(WAIT)
            for frontend in kept:
                assert frontend.ask().body == b"hello"  # those inside go on
            kept[0].close()
            assert late.finish().body == b"hello"
            for frontend in kept[1:]:
                assert frontend.ask().body == b"hello"
                frontend.close()


@each_one_shot
def test_one_connection_at_a_time_serves_all(protocol):
    with Running(path_of, protocol, max_connections=1, threads=4) as server:
        frontends = [server.connect(protocol) for _ in range(50)]
        for number, frontend in enumerate(frontends):
            frontend.begin(f"/{number}")
        for number, frontend in enumerate(frontends):
            assert frontend.finish().body == b"/%d?" % number
            frontend.close()


def test_all_protocols_on_one_engine():
    with Running(path_of) as server:
        for number in range(20):
            for protocol in PROTOCOLS:
                path = f"/{protocol}/{number}"
                assert server.ask(protocol, path).body == f"{path}?".encode()
    assert server.log.lines() == []


def test_all_protocols_with_the_standard_library_s_selector(monkeypatch):
    monkeypatch.setattr(waiting_module, "make_poller", SelectorPoller)
    pause = threading.Event()

    def app(environ, start_response):
        pause.wait(float(environ["QUERY_STRING"]))
        return path_of(environ, start_response)

    with Running(app, threads=4, head_timeout=0.5) as server:
        slow_head = server.connect("scgi")
        slow_head.send(b"70:")
        kept = {protocol: server.connect(protocol) for protocol in KEEPING}
        for seconds in (0, 0.02, 0, 0.001, 0):
            for protocol in PROTOCOLS:
                path = f"/{protocol}?{seconds}"
                assert server.ask(protocol, path).body == path.encode()
                if protocol in kept:
                    assert kept[protocol].ask(path).body == path.encode()
        assert slow_head.ends() == "eof"


def test_unix_socket(tmp_path):
    path = tmp_path / "app.sock"
    with (
        Running(hello, binds=[f"fastcgi+unix://{path}"]) as server,
        server.connect("fastcgi") as frontend,
    ):
        assert path.is_socket()
        assert frontend.ask().body == b"hello"
        assert frontend.ask().body == b"hello"
    assert not path.exists()
