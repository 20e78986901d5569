"""System calls: counted where Portico makes them, for one small request each."""

import contextlib
import os
import select
import socket
import threading
from collections import Counter

import pytest

from engine_harness import (
    KEEPING,
    ONE_SHOT,
    PLAIN,
    PROTOCOLS,
    Running,
    hello,
    request_octets,
    until,
)
from portico.engine import poller as poller_module
from portico.transports.stream import Stream

pytestmark = pytest.mark.skipif(
    not hasattr(select, "epoll"), reason="what is counted here is Linux's"
)


class Calls(list):
    """The names of calls on a server's descriptors, in order."""

    def __init__(self):
        self.locks = 0
        self.counting = False

    def note(self, name):
        if self.counting:
            self.append(name)

    def wrap(self, name, function):
        def counted(*arguments, **named):
            self.note(name)
            return function(*arguments, **named)

        return counted


class CountedLock:
    def __init__(self, lock, calls):
        self._lock = lock
        self._calls = calls

    def __enter__(self):
        self._calls.locks += self._calls.counting
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


@pytest.fixture
def calls(monkeypatch):
    calls = Calls()
    for name in ("read", "write", "writev", "sendfile", "close", "set_blocking"):
        monkeypatch.setattr(os, name, calls.wrap(name, getattr(os, name)))
    for name in ("register", "unregister", "poll"):
        method = getattr(poller_module.EpollPoller, name)
        monkeypatch.setattr(poller_module.EpollPoller, name, calls.wrap(f"epoll.{name}", method))
    for name in ("wait", "shutdown_write", "reset", "uncork"):
        monkeypatch.setattr(Stream, name, calls.wrap(name, getattr(Stream, name)))
    return calls


def counted(server, calls):
    lock = CountedLock(server.engine._lock, calls)
    server.engine._lock = server.engine._waiting.lock = lock
    for gate in server.engine._accepting.gates:
        gate.listener.accept = calls.wrap("accept", gate.listener.accept)


@pytest.mark.parametrize("protocol", KEEPING)
@pytest.mark.parametrize("threads", [1, 16])
def test_kept_connection_one_read_one_write(calls, protocol, threads):
    with Running(hello, protocol, threads=threads) as server:
        counted(server, calls)
        with server.connect(protocol) as frontend:
            for _ in range(3):
                frontend.ask()
            calls.counting = True
            for _ in range(10):
                frontend.ask()
            calls.counting = False
    # the poll that begins the count may have begun before it, and one more may follow the last
    found = Counter(calls)
    assert 9 <= found.pop("epoll.poll") <= 11
    assert found == {"read": 10, "write": 10}
    assert calls.locks == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_new_connection_whose_request_is_there(calls, protocol):
    """Never registered with the poller: accept, read, write, close."""
    with socket.socket() as sock:
        server = Running(hello, protocol, threads=16)
        counted(server, calls)
        sock.connect(("127.0.0.1", server.ports[protocol]))
        sock.sendall(request_octets(protocol, keep=False))
        calls.counting = True
        # AJP keeps the connection in any case
        last = "epoll.register" if protocol == "ajp" else "close"
        with server:
            sock.settimeout(20)
            assert sock.recv(65_536)
            until(lambda: last in calls[calls.index("accept") :], last)
            calls.counting = False
    started = calls.index("accept")
    wanted = ["accept", "set_blocking", "read", "write", last]
    assert calls[started : started + 5] == wanted


@pytest.mark.parametrize("protocol", ONE_SHOT)
def test_new_connection_takes_the_lock_once(calls, protocol):
    with socket.socket() as sock:
        server = Running(hello, protocol, threads=16)
        counted(server, calls)
        sock.connect(("127.0.0.1", server.ports[protocol]))
        sock.sendall(request_octets(protocol))
        calls.counting = True
        with server:
            sock.settimeout(20)
            while sock.recv(65_536):
                pass
            calls.counting = False
    assert calls.locks <= 1


@pytest.mark.parametrize("protocol", ONE_SHOT)
def test_a_connection_is_told_of_when_its_request_is_there(calls, protocol):
    """However late it comes: nobody accepts a connection to find nothing on it."""
    with Running(hello, protocol, threads=16) as server:
        counted(server, calls)
        calls.counting = True
        for _ in range(10):
            with server.connect(protocol) as frontend:
                frontend.ask()
        until(lambda: calls.count("close") == 10, "the closes")
        calls.counting = False
    found = Counter(calls)
    assert found["read"] == 10
    assert found["epoll.register"] == 0


@pytest.mark.parametrize("protocol", ONE_SHOT)
def test_connections_that_wait_are_taken_up_between_two_polls(calls, protocol):
    frontends = 8
    with contextlib.ExitStack() as stack:
        server = Running(hello, protocol, threads=16)
        counted(server, calls)
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.ports[protocol]), 20))
            for _ in range(frontends)
        ]
        for sock in sockets:
            sock.sendall(request_octets(protocol))
        calls.counting = True
        with server:
            for sock in sockets:
                while sock.recv(65_536):
                    pass
            until(lambda: calls.count("close") == frontends, "the closes")
            calls.counting = False
    first, last = calls.index("accept"), len(calls) - calls[::-1].index("close")
    assert calls[first:last].count("epoll.poll") <= 1


def test_a_kept_connection_is_uncorked_once(calls):
    with Running(hello, "fastcgi") as server, server.connect("fastcgi") as frontend:
        calls.counting = True
        for _ in range(5):
            frontend.ask()
        calls.counting = False
    assert calls.count("uncork") == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("size", [1, 10_000, 100_000])
def test_response_of_one_block_is_one_write(calls, protocol, size):
    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        return [b"x" * size]

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        calls.counting = True
        answer = frontend.ask()
        calls.counting = False
    assert len(answer.body) == size
    found = Counter(calls)
    assert found["write"] + found["writev"] == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_streamed_block_is_one_write(calls, protocol):
    def app(_environ, start_response):
        start_response("200 OK", [("Content-Length", "9")])
        yield b"one"
        yield b"two"
        yield b"six"

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        calls.counting = True
        assert frontend.ask().body == b"onetwosix"
        calls.counting = False
    assert Counter(calls)["write"] == 3


class Unhurried:
    """A whole response whose close() waits until the test lets it go on."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.closing = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, _environ, start_response):
        start_response("200 OK", [("Content-Length", "5")])
        return self

    def __iter__(self):
        return iter(self.blocks)

    def close(self):
        self.closing.set()
        self.go_on.wait(20)


@pytest.mark.parametrize("protocol", ONE_SHOT)
@pytest.mark.parametrize("threads", [1, 16])
@pytest.mark.parametrize("blocks", [[b"whole"], [b"wh", b"ole"]])
def test_a_whole_response_does_not_wait_for_the_application(calls, protocol, threads, blocks):
    """What the system holds back until the close is sent when that is not next."""
    app = Unhurried(blocks)
    with Running(app, protocol, threads=threads) as server, server.connect(protocol) as frontend:
        calls.counting = True
        frontend.begin()
        assert app.closing.wait(20)
        until(lambda: "uncork" in calls, "what is held back to be sent")
        app.go_on.set()
        assert frontend.finish().body == b"whole"
        calls.counting = False
    assert calls.count("uncork") == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_streamed_block_of_no_known_length_is_one_write_too(calls, protocol):
    """AJP's wish to flush travels with the block."""

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"one"
        yield b"x" * 10_000
        yield b"y" * 100_000

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        calls.counting = True
        assert len(frontend.ask().body) == 110_003
        calls.counting = False
    found = Counter(calls)
    assert (found["write"], found["writev"]) == (3 if protocol in KEEPING else 2, 1)


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "uwsgi"])
def test_small_body_costs_no_read_of_its_own(calls, protocol):
    def app(environ, start_response):
        body = environ["wsgi.input"].read()
        start_response("200 OK", PLAIN)
        return [body]

    with socket.socket() as sock:
        server = Running(app, protocol)
        counted(server, calls)
        sock.connect(("127.0.0.1", server.ports[protocol]))
        sock.sendall(request_octets(protocol, body=b"b" * 1000, keep=False))
        calls.counting = True
        with server:
            sock.settimeout(20)
            while sock.recv(65_536):
                pass
            calls.counting = False
    found = Counter(calls)
    assert (found["read"], found["write"], found["wait"]) == (1, 1, 0)
