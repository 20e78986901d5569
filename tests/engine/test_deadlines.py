"""Answers by deadline: the slow log, 504 and the exception, 503 while nobody is free."""

import gc
import io
import logging
import math
import os
import random
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

import portico
from engine_harness import (
    KEEPING,
    PLAIN,
    PROTOCOLS,
    WAIT,
    Held,
    Running,
    hello,
    in_background,
    until,
)
from portico.core.response import run_request, run_response
from portico.engine import call as call_module
from portico.engine import connection as connection_module
from portico.engine import deadlines as deadlines_module
from portico.engine import interrupt
from portico.engine import leader as leader_module
from portico.engine import parking as parking_module
from portico.engine import watchdog as watchdog_module
from portico.errors import RemoteProtocolError

each = pytest.mark.parametrize("protocol", PROTOCOLS)
threads = pytest.mark.parametrize("threads", [1, 4])

#: Seconds within which an answer has come on time: far above the limits, far below `WAIT`.
SOON = 5.0


class Spinning:
    """Runs pure Python at /spin until it is interrupted; is `hello` elsewhere."""

    def __init__(self):
        self.raised = []

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] != "/spin":
            return hello(environ, start_response)
        try:
            self.spin()
        except BaseException as error:
            self.raised.append(type(error))
            raise
        return []

    def spin(self):
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            pass


class Stuck:
    """Waits in C at /stuck, out of every exception's reach, until let go; is `hello` elsewhere."""

    def __init__(self):
        self._held, self._letting = os.pipe()
        self.entered = threading.Semaphore(0)
        self.raised = []
        self.late = []

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] != "/stuck":
            return hello(environ, start_response)
        try:
            self.entered.release()
            self.wait()
        except portico.RequestTimeout as error:
            self.raised.append(type(error))
        write = start_response("200 OK", PLAIN)
        try:
            write(b"late")
        except BaseException as error:
            self.late.append(type(error))
            raise
        return [b"later still"]

    def wait(self):
        select.select([self._held], [], [], WAIT)

    def let_go(self):
        if self._letting >= 0:
            os.close(self._letting)
            self._letting = -1


@pytest.fixture
def stuck():
    app = Stuck()
    yield app
    app.let_go()
    os.close(app._held)


@pytest.fixture
def held():
    app = Held()
    yield app
    app.gate.set()


@pytest.fixture
def short_grace(monkeypatch):
    monkeypatch.setattr(deadlines_module, "GRACE", 0.1)


def told(server, text):
    until(lambda: server.log.having(text), f"{text!r} in the log")


def timed(function, *args):
    began = time.monotonic()
    return function(*args), time.monotonic() - began


# -- the hard limit ------------------------------------------------------------------------


@each
@threads
def test_loop_in_python_is_answered_504_and_interrupted(protocol, threads):
    app = Spinning()
    with Running(app, protocol, timeout=0.3, threads=threads) as server:
        answer, seconds = timed(server.ask, protocol, "/spin")
        assert 0.25 < seconds < SOON
        assert answer.status == "504 Gateway Timeout"
        assert b"did not answer in time" in answer.body
        until(lambda: app.raised, "the exception")
        assert app.raised == [portico.RequestTimeout]
        assert server.ask(protocol, "/").body == b"hello"
        assert server.engine.wants_recycling
        assert len(server.log.having("ran longer than timeout (0.3 seconds): 504")) == 1
        assert "in spin" in server.errors.getvalue()
        assert not server.log.having("counts as lost")


def test_other_requests_go_on_meanwhile():
    app = Spinning()
    with Running(app, "fastcgi", timeout=0.5, threads=4) as server:
        spinning = server.connect("fastcgi")
        spinning.begin("/spin")
        others = 0
        with server.connect("fastcgi") as frontend:
            while not app.raised:
                assert frontend.ask("/").body == b"hello"
                others += 1
        assert others > 3
        assert spinning.finish().status == "504 Gateway Timeout"


def test_504_of_a_head_request_has_no_body():
    with Running(Spinning(), "scgi", timeout=0.2) as server:
        frontend = server.connect("scgi")
        frontend.begin("/spin", method="HEAD")
        received = b""
        while data := frontend.sock.recv(65_536):
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"Status: 504 Gateway Timeout" in head
        assert body == b""


@each
@threads
@pytest.mark.usefixtures("short_grace")
def test_stuck_thread_is_answered_on_time_and_its_output_goes_nowhere(protocol, threads, stuck):
    with Running(stuck, protocol, timeout=0.3, threads=threads) as server:
        frontend = server.connect(protocol)
        frontend.begin("/stuck")
        answer, seconds = timed(frontend.finish)
        assert seconds < SOON
        assert answer.status == "504 Gateway Timeout"
        # the web server is told at once that this connection takes no further request
        assert frontend.ends() == "eof"
        until(lambda: server.log.having("counts as lost"), "the warning")
        assert server.ask(protocol, "/").body == b"hello"
        stuck.let_go()
        until(lambda: stuck.late, "the late write")
        assert stuck.raised == [portico.RequestTimeout]
        assert stuck.late == [portico.RequestTimeout]
        assert server.ask(protocol, "/").body == b"hello"
        assert not server.log.having(": 499 ")


@pytest.mark.usefixtures("short_grace")
def test_capacity_is_kept_while_every_thread_is_stuck(stuck):
    with Running(stuck, "fastcgi", timeout=0.3, threads=2) as server:
        lost = [server.connect("fastcgi") for _ in range(2)]
        for frontend in lost:
            frontend.begin("/stuck")
        for frontend in lost:
            assert frontend.finish().status == "504 Gateway Timeout"
        until(lambda: server.engine._lost == 2, "the loss of both")
        assert server.ask("fastcgi", "/").body == b"hello"
        # as many calls at once as before, and no more
        more = [server.connect("fastcgi") for _ in range(3)]
        for _ in range(2):
            stuck.entered.acquire()
        for frontend in more:
            frontend.begin("/stuck")
        for _ in range(2):
            assert stuck.entered.acquire(timeout=WAIT)
        assert server.workers() == 4
        stuck.let_go()
        until(lambda: server.engine._lost == 0, "the return")
        until(lambda: server.workers() <= 3, "the end of what is one too many")
        assert server.ask("fastcgi", "/").body == b"hello"


@pytest.mark.usefixtures("short_grace")
def test_replacements_are_bounded(stuck):
    with Running(stuck, "fastcgi", timeout=0.2, threads=1) as server:
        for _ in range(2):
            assert server.ask("fastcgi", "/stuck").status == "504 Gateway Timeout"
            until(lambda: server.log.having("its thread cannot be interrupted"), "the word")
        until(lambda: server.log.having("have been replaced already", logging.ERROR), "the error")
        assert server.workers() == 2
        stuck.let_go()
        assert server.ask("fastcgi", "/").body == b"hello"


@each
@threads
@pytest.mark.parametrize("how", ["stuck", "spin"])
def test_response_that_has_begun_is_cut(protocol, threads, how, stuck):
    ended = []

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        try:
            yield b"first"
            if how == "stuck":
                stuck.wait()
            else:
                Spinning().spin()
            yield b"second"
        finally:
            ended.append(sys.exception())

    with Running(app, protocol, timeout=0.3, threads=threads) as server:
        frontend = server.connect(protocol)
        frontend.begin("/")
        began = time.monotonic()
        with pytest.raises((RemoteProtocolError, ConnectionResetError)):
            frontend.finish()
        assert time.monotonic() - began < SOON
        assert bytes(frontend.answer.body) in {b"", b"first"}  # a reset may overtake it
        told(server, "ran longer than timeout (0.3 seconds): cut")
        # the line comes first; one that leaves between the two is left with a GeneratorExit
        until(lambda: all(one.raised for one in server.engine.deadlines._running), "the exception")
        stuck.let_go()
        until(lambda: ended, "the end of the generator")
        assert type(ended[0]) is portico.RequestTimeout


class Iterable:
    """What an application may return: counts the calls of its close()."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.closed = 0

    def __iter__(self):
        return self.blocks

    def close(self):
        self.closed += 1


@threads
@pytest.mark.parametrize("first", [[], [b"first"]])
def test_iterable_is_closed_once(threads, first):
    results = []

    def blocks():
        yield from first
        Spinning().spin()
        yield b"never"

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        results.append(Iterable(blocks()))
        return results[-1]

    with Running(app, "fastcgi", timeout=0.2, threads=threads) as server:
        frontend = server.connect("fastcgi")
        frontend.begin("/")
        with suppress(RemoteProtocolError, ConnectionResetError):
            assert frontend.finish().status == "504 Gateway Timeout"
        until(lambda: results[0].closed, "the closing")
    assert results[0].closed == 1


def test_iterable_is_closed_though_the_exception_came_in_the_call():
    """The application holds the exception back and returns all the same."""
    result = Iterable(iter([b"late"]))

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        with suppress(portico.RequestTimeout):
            Spinning().spin()
        return result

    with Running(app, "fastcgi", timeout=0.2) as server:
        assert server.ask("fastcgi").status == "504 Gateway Timeout"
        until(lambda: result.closed, "the closing")
    assert result.closed == 1


@each
def test_upload_that_stalls_is_answered_504(protocol):
    """The thread waits in the engine then, and answers itself."""
    raised = []

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except portico.RequestTimeout as error:
            raised.append(error)
            raise
        return hello(environ, start_response)

    with Running(app, protocol, timeout=0.3, body_timeout=WAIT) as server:
        frontend = server.connect(protocol)
        frontend.begin("/", b"abc", length=10, method="POST", end=False)
        answer, seconds = timed(frontend.finish)
        assert seconds < SOON
        assert answer.status == "504 Gateway Timeout"
        until(lambda: raised, "the exception")
        assert len(raised) == 1
        told(server, "ran longer than timeout (0.3 seconds): 504")


@each
@pytest.mark.parametrize("threads", [1, 2])
def test_peer_that_takes_nothing_is_cut(protocol, threads):
    raised = []

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        try:
            while True:
                yield bytes(100_000)
        except GeneratorExit:
            raised.append(True)
            raise

    settings = {"timeout": 0.3, "write_timeout": WAIT, "threads": threads}
    with Running(app, protocol, **settings) as server:
        frontend = server.connect(protocol, receive_bytes=4096)
        frontend.begin("/")
        told(server, "ran longer than timeout (0.3 seconds): cut")
        until(lambda: raised, "the closing of the generator")
        with pytest.raises((RemoteProtocolError, ConnectionResetError)):
            frontend.finish()


@pytest.mark.usefixtures("short_grace")
def test_application_that_goes_on_after_the_exception_counts_as_lost():
    go_on = threading.Event()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/":
            return hello(environ, start_response)
        while not go_on.is_set():
            with suppress(Exception):
                spin()
        return hello(environ, start_response)

    def spin():  # a function: CPython 3.13 takes a loop's end for being outside of its `with`
        while not go_on.is_set():
            pass

    with Running(app, "scgi", timeout=0.2, threads=1) as server:
        assert server.ask("scgi", "/deaf").status == "504 Gateway Timeout"
        until(lambda: server.log.having("counts as lost"), "the warning")
        assert server.ask("scgi", "/").body == b"hello"
        go_on.set()
        until(lambda: server.engine._lost == 0, "the return")


def test_response_that_is_whole_stays_so_and_its_connection_ends(stuck):
    """Only the closing of the iterable takes too long then."""

    class Result(Iterable):
        def close(self):
            stuck.wait()

    def app(_environ, start_response):
        start_response("200 OK", [("Content-Length", "5")])
        return Result(iter([b"whole"]))

    with Running(app, "fastcgi", timeout=0.3) as server:
        frontend = server.connect("fastcgi")
        answer = frontend.ask("/")
        assert answer.body == b"whole"
        assert frontend.ends() == "eof"
        told(server, "answered before")
        stuck.let_go()


def test_client_that_is_gone_at_the_limit_costs_nothing(stuck):
    with Running(stuck, "fastcgi", timeout=0.3) as server:
        frontend = server.connect("fastcgi")
        frontend.begin("/stuck")
        assert stuck.entered.acquire(timeout=WAIT)
        frontend.reset()
        until(lambda: server.log.having("ran longer than timeout"), "the limit")
        assert server.ask("fastcgi", "/").body == b"hello"
        stuck.let_go()


def test_answers_are_as_ever_under_limits_that_are_not_reached():
    """The application is called through another way then, which must not show."""

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/stop":
            raise StopIteration
        if path == "/none":
            return None
        if path == "/error":
            raise ValueError(path)
        if path == "/write":
            start_response("200 OK", PLAIN)(b"one ")
            return [b"two"]
        if path == "/file":
            start_response("200 OK", PLAIN)
            return environ["wsgi.file_wrapper"](io.BytesIO(b"a file"))
        start_response("200 OK", PLAIN)
        if path == "/text":
            return "text"
        return iter([environ["wsgi.input"].read(), b"!"])

    with Running(app, "fastcgi", timeout=WAIT, slow_timeout=WAIT) as server:
        wanted = {"/write": b"one two", "/file": b"a file", "/": b"!"}
        for path in ("/stop", "/none", "/error", "/text", *wanted):
            answer = server.ask("fastcgi", path)
            assert answer.status == ("200 OK" if path in wanted else "500 Internal Server Error")
            if path in wanted:
                assert answer.body == wanted[path]
        assert server.ask("fastcgi", "/", b"body" * 50_000).body == b"body" * 50_000 + b"!"
        assert "StopIteration" in server.errors.getvalue()
        assert "ValueError: /error" in server.errors.getvalue()


@pytest.mark.parametrize("threads", [1, 3])
def test_exception_never_leaves_its_request(threads):
    """Requests that end just about when their limit does, for as long as it takes to be sure.

    Every answer must be whole, one of two; only a request that was answered 504 may see the
    exception, and it once; no thread may be lost or broken.
    """
    limit = 0.1
    rounds = 40
    seen = []

    def app(environ, start_response):
        number = environ["QUERY_STRING"]
        # the limit begins a few milliseconds late, and the watching thread wakes late
        deadline = time.monotonic() + limit - 0.010 + 0.024 * random.random()  # noqa: S311
        try:
            while time.monotonic() < deadline:
                pass
            start_response("200 OK", PLAIN)
            return [number.encode()] if int(number) % 2 else iter([number.encode()])
        except portico.RequestTimeout:
            seen.append(number)
            raise

    def ask(first):
        frontend = server.connect(protocol)
        for number in range(first, first + rounds):
            frontend.begin(f"/?{number}")
            try:
                answer = frontend.finish()
            except (RemoteProtocolError, OSError):
                answer = frontend.answer
                assert answer.status.startswith("200")  # the head had left: cut
            answers[number] = answer.status[:3]
            if answer.status[:3] != "504" and answer.whole:
                assert answer.body == b"%d" % number
            if answer.status[:3] == "504" or not answer.whole:
                frontend.close()
                frontend = server.connect(protocol)

    protocol = "fastcgi"
    answers = {}
    with Running(app, protocol, timeout=limit, threads=threads) as server:
        if threads == 1:
            ask(0)
        else:
            with in_background(ask, 1000):
                ask(0)
        until(lambda: not server.engine.deadlines._running, "the end of all")
        assert not server.log.having("Traceback", logging.ERROR)
        assert not server.log.lines(logging.ERROR)
        assert server.engine._lost == 0
        assert server.workers() <= threads
    assert len(set(seen)) == len(seen)
    assert {int(number) for number in seen} <= {
        number for number, status in answers.items() if status == "504"
    }
    counts = list(answers.values())
    assert counts.count("200") >= 3, counts
    assert counts.count("504") >= 3, counts


class Sink:
    """As much of a connection as a call needs, in this thread alone."""

    def __init__(self):
        self.worker = None
        self.sent = []

    def send_response(self, status, _headers, _body, *, end):
        self.sent.append((status[:3], end))

    def send_body(self, data, *, end):
        self.sent.append((data, end))

    def flush(self):
        pass

    def answer_and_hang_up(self, status, _headers, _body):
        self.sent.append((status[:3], True))

    def cut(self):
        self.sent.append("cut")


def make_call(app):
    sink = Sink()
    call = call_module.Call(app, {"REQUEST_METHOD": "GET"}, sink, lambda call: call.answer())
    return call, sink


def run(call):
    environ = {"REQUEST_METHOD": "GET", "wsgi.errors": io.StringIO()}
    with suppress(portico.RequestTimeout):
        run_request(call, environ, call)


def strike(call):
    """Do what the watching thread does at the limit."""
    call.expired = True
    if not call.capture():
        return False
    call.answer()
    interrupt.raise_in(call.ident, portico.RequestTimeout)
    call.raised = True
    return True


def count(steps=100_000):
    """Run so much Python that an exception on its way must come."""
    for _ in range(steps):
        pass


def test_limit_that_strikes_in_the_engine_is_kept_until_the_application_goes_on():
    def app(_environ, start_response):
        write = start_response("200 OK", PLAIN)
        write(b"first")
        went_on.append(True)
        return []

    went_on = []
    call, sink = make_call(app)
    send = sink.send_response

    def send_response(*args, **options):
        assert not strike(call)  # not in the application
        send(*args, **options)

    sink.send_response = send_response
    run(call)
    assert sink.sent == [("200", False), "cut"]
    assert went_on == []
    count()


def test_exception_that_did_not_come_in_time_is_taken_back():
    """The thread had left the application in all but name when the limit struck."""
    came = []
    call, sink = make_call(hello)
    call.enter()
    assert call.capture()
    call.expired = True
    answered = threading.Event()

    def finish():
        call.answer()
        answered.set()
        call.raised = True  # and the exception never comes

    with in_background(finish):
        try:
            call.leave()
        except portico.RequestTimeout:
            came.append(answered.is_set())
    assert came == [True]
    assert sink.sent == [("504", True)]
    with pytest.raises(portico.RequestTimeout):
        call.send_response("200 OK", [], b"late", end=True)
    assert sink.sent == [("504", True)]
    count()


def test_exception_that_was_taken_back_does_not_come():
    ready, go = threading.Event(), threading.Lock()
    came = []

    def victim():
        try:
            ready.set()
            go.acquire()
            count()
            came.append(None)
        except portico.RequestTimeout as error:
            came.append(type(error))

    for taken_back in (False, True):
        ready.clear()
        go.acquire()
        with in_background(victim) as thread:
            ready.wait(WAIT)
            interrupt.raise_in(thread.ident, portico.RequestTimeout)
            if taken_back:
                interrupt.clear(thread.ident)
            go.release()
        with suppress(RuntimeError):
            go.release()
    assert came == [portico.RequestTimeout, None]


def test_exception_is_taken_back_by_whoever_left_first():
    call, sink = make_call(hello)
    call.enter()
    call.leave()
    assert not strike(call)
    count()
    assert sink.sent == []


# -- the soft limit ------------------------------------------------------------------------


@threads
@pytest.mark.parametrize("hard", [0, WAIT])
def test_slow_request_is_logged_once_with_its_line(threads, hard, held):
    def app(environ, start_response):
        return held(environ, start_response)  # this line

    settings = {"threads": threads, "slow_timeout": 0.2, "timeout": hard}
    with Running(app, "scgi", **settings) as server:
        frontend = server.connect("scgi")
        frontend.begin("/held", REQUEST_URI="/held?a\nb" + "c" * 1000, method="PUT")
        told(server, "seconds; its thread:")
        held.wait_entered()
        waited = time.monotonic() + 0.5
        until(lambda: time.monotonic() > waited)
        held.gate.set()
        assert frontend.finish().body == b"/held"
        [record] = [one for one in server.log.records if one.name == "portico.slow"]
        assert record.levelno == logging.WARNING
        first, rest = record.getMessage().split("\n", 1)
        assert first.startswith(f"scgi://127.0.0.1:{server.ports['scgi']}: {frontend.name}: ")
        assert "'PUT /held?a\\nbccc" in first
        assert len(first) < 500
        assert "return held(environ, start_response)  # this line" in rest
        assert "assert self.gate.wait(WAIT)" in rest
        assert "run_response" not in rest
        assert len(rest) < 10_000
        until(lambda: not server.engine.deadlines._running, "the end")
        assert not server.engine.wants_recycling


def test_request_below_the_soft_limit_is_not_logged(held):
    with Running(held, "scgi", slow_timeout=1.5) as server:
        frontend = server.connect("scgi")
        frontend.begin("/held")
        held.wait_entered()
        until(lambda: server.engine.deadlines._running, "the watch over it")
        held.gate.set()
        frontend.finish()
        until(lambda: server.engine.deadlines._alarm == math.inf, "the look that finds nothing")
        assert not [one for one in server.log.records if one.name == "portico.slow"]


# -- 503 while nobody is free --------------------------------------------------------------


def park(server, held, monkeypatch, protocol, number):
    """Let calls hold both threads and *number* requests wait that no thread looks at."""
    monkeypatch.setattr(leader_module, "RESERVE_SECONDS", WAIT)
    monkeypatch.setattr(parking_module, "RESERVE_SECONDS", WAIT)
    now = time.monotonic()
    server.engine.pace.suspect(now)
    for _ in range(20):
        server.engine.pace.note("/held", 60.0, now)
    server.engine.pace.note("/fast", 0.0001, now)
    server.ask(protocol, "/fast")
    held.wait_entered()
    frontends = [server.connect(protocol) for _ in range(number + 2)]
    for frontend in frontends:
        frontend.begin("/held")
    until(lambda: server.engine._parking.count == number + 1, "the parking")
    monkeypatch.setattr(leader_module, "RESERVE_SECONDS", 0.0)
    monkeypatch.setattr(parking_module, "RESERVE_SECONDS", 0.0)
    server.engine._waiting.waker.wake()
    held.wait_entered(2)
    assert server.engine.leader is None
    return frontends


@each
def test_parked_request_is_answered_503_though_no_thread_becomes_free(protocol, held, monkeypatch):
    with Running(held, protocol, threads=2, queue_timeout=3.0) as server:
        frontends = park(server, held, monkeypatch, protocol, 3)
        sockets = {frontend.sock: frontend for frontend in frontends}
        until(lambda: len(select.select(sockets, [], [], 0)[0]) == 3, "three answers")
        refused = [sockets[sock] for sock in select.select(sockets, [], [], 0)[0]]
        for frontend in refused:
            answer = frontend.finish()
            assert answer.status == "503 Service Unavailable"
            assert answer.header("Retry-After") == ["3"]
        assert server.engine.leader is None
        assert held.running == 2
        held.gate.set()
        if protocol in KEEPING:
            for frontend in refused:
                assert frontend.ask("/fast").body == b"/fast"
        for frontend in set(frontends) - set(refused):
            assert frontend.finish().body == b"/held"
    assert len(server.log.having("no thread became free within queue_timeout")) == 3


def test_parked_request_of_a_peer_that_takes_nothing_holds_nobody_up(held, monkeypatch):
    """The watching thread writes what the kernel takes at once, and waits for no peer."""
    real = connection_module.os.write
    full = set()
    waits = []

    def wait(_stream, _events, seconds):
        waits.append(seconds)
        raise TimeoutError

    def write(fd, data):
        if fd in full:
            raise BlockingIOError
        return real(fd, data)

    with Running(held, "scgi", threads=2, queue_timeout=2.0) as server:
        park(server, held, monkeypatch, "scgi", 2)
        parked = [one for _, one in server.engine._parking._slow]
        monkeypatch.setattr(connection_module.os, "write", write)
        monkeypatch.setattr(connection_module.Stream, "wait", wait)
        full.add(parked[0].fd)
        told(server, "takes no answer")
        until(lambda: all(one.fd < 0 for one in parked), "the end of both", 5.0)
        assert waits == [0.0]
        monkeypatch.undo()
        held.gate.set()


# -- what it costs -------------------------------------------------------------------------


def test_without_limits_there_is_nothing_of_it(held):
    with Running(held, "scgi") as server:
        assert server.engine._accepting.gates[0].run is run_response
        server.ask("scgi", "/")
        assert [one.name for one in server.threads() if "deadlines" in one.name] == []


def test_short_requests_among_many_threads_never_wake_the_watching_thread(monkeypatch):
    watched = []
    for name in ("INTERVAL", "BUSY_INTERVAL"):  # however slow the machine is just now
        monkeypatch.setattr(watchdog_module, name, 0.5)

    monkeypatch.setattr(deadlines_module.Deadlines, "watch", lambda _, call: watched.append(call))
    settings = {"timeout": 5, "slow_timeout": 3}
    with Running(hello, "fastcgi", **settings) as server, server.connect("fastcgi") as frontend:
        for _ in range(300):
            frontend.ask("/")
    assert watched == []


@pytest.mark.parametrize("threads", [1, 2])
def test_requests_under_limits_leave_nothing_to_the_collector(threads):
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        return iter([environ["wsgi.input"].read(1)])  # of a body that is not here whole

    settings = {"timeout": 30, "slow_timeout": 20, "threads": threads}
    with Running(app, "fastcgi", **settings) as server, server.connect("fastcgi") as frontend:
        for _ in range(10):
            frontend.ask("/", b"x" * 100_000)
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                frontend.ask("/", b"x" * 100_000)
            assert gc.collect() < 20
        finally:
            gc.enable()


def test_idle_process_has_no_timer():
    with Running(hello, "fastcgi", timeout=0.2, slow_timeout=0.1, threads=1) as server:
        with server.connect("fastcgi") as frontend:
            for _ in range(50):
                frontend.ask("/")
        until(lambda: server.engine.deadlines._alarm == math.inf, "the last look")
        assert not server.engine.deadlines._running


def test_ctypes_is_for_a_hard_limit_alone():
    script = """
import sys
from portico.config.settings import Settings
from portico.engine.leader import Engine
for settings in (Settings(slow_timeout=1), Settings(timeout=1)):
    engine = Engine(None, [], settings)
    print("ctypes" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_exception_is_part_of_the_package():
    from portico.errors import RequestTimeout  # noqa: PLC0415 - beside the other way to it

    assert portico.RequestTimeout is RequestTimeout
    assert issubclass(RequestTimeout, portico.errors.PorticoError)
    assert "longer than timeout" in str(RequestTimeout())
