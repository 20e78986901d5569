"""Who calls the application when: the token, the watchdog, parked requests, stopping."""

import logging
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from engine_harness import (
    KEEPING,
    PLAIN,
    PROTOCOLS,
    WAIT,
    Frontend,
    Held,
    Process,
    Running,
    environ_for,
    hello,
    in_background,
    open_descriptors,
    until,
)
from portico.engine import leader as leader_module
from portico.engine import parking as parking_module
from portico.engine import watchdog as watchdog_module
from portico.engine.pace import SLOW_SECONDS
from portico.errors import RemoteProtocolError

each = pytest.mark.parametrize("protocol", PROTOCOLS)


@pytest.fixture
def held():
    app = Held()
    yield app
    app.gate.set()


def begin(server, *paths, protocol="scgi"):
    """Send a request for each of *paths* on connections of their own."""
    frontends = []
    for path in paths:
        frontend = server.connect(protocol)
        frontend.begin(path)
        frontends.append(frontend)
    return frontends


def finish(frontends):
    bodies = [bytes(frontend.finish().body).decode() for frontend in frontends]
    for frontend in frontends:
        frontend.close()
    return bodies


# -- how many at once ----------------------------------------------------------------------


def test_one_thread_serves_one_call_at_a_time(held):
    paths = [f"/held/{number}" for number in range(8)]
    with Running(held, threads=1) as server:
        frontends = [
            frontend
            for protocol in PROTOCOLS
            for frontend in begin(server, *paths, protocol=protocol)
        ]
        held.wait_entered()
        assert not held.entered.acquire(timeout=0.1)
        held.gate.set()
        assert finish(frontends) == paths * 4
        assert server.threads() == []  # not even a watchdog
    assert held.most == 1


def test_never_more_calls_than_threads(held):
    paths = [f"/held/{number}" for number in range(20)]
    with Running(held, threads=3) as server:
        frontends = begin(server, *paths)
        held.wait_entered(3)
        assert not held.entered.acquire(timeout=0.1)
        assert held.running == 3
        held.gate.set()
        assert finish(frontends) == paths
        assert server.workers() == 3
    assert held.most == 3


def test_slow_requests_use_all_threads(held):
    with Running(held, threads=8) as server:
        frontends = begin(server, *(f"/held/{number}" for number in range(8)))
        held.wait_entered(8)
        assert held.running == 8
        held.gate.set()
        finish(frontends)


def test_known_slow_requests_use_all_threads_without_the_watchdog(held, monkeypatch):
    """What is known to be slow gives the token away before the call."""
    with Running(held, threads=4) as server:
        server.engine.pace.suspect(time.monotonic())
        server.engine.pace.note("/held", 1.0, time.monotonic())
        monkeypatch.setattr(leader_module.Engine, "take_over", lambda *_: None)
        frontends = begin(server, *["/held"] * 4)
        held.wait_entered(4)
        held.gate.set()
        finish(frontends)


@each
def test_stuck_leader_does_not_stop_the_others(held, protocol):
    with Running(held, protocol, threads=2) as server:
        stuck = begin(server, "/held", protocol=protocol)
        held.wait_entered()
        for number in range(50):
            answer = server.ask(protocol, f"/{number}")
            assert answer.body == b"/%d" % number
        held.gate.set()
        assert finish(stuck) == ["/held"]


@pytest.mark.parametrize("protocol", KEEPING)
def test_connection_that_lost_the_token_is_kept(held, protocol):
    held.gate.set()
    calls = []

    def app(environ, start_response):
        calls.append(threading.current_thread())
        if environ["PATH_INFO"] == "/slow":
            until(lambda: server.engine.leader is None or server.workers() > 1, "the take-over")
        return held(environ, start_response)

    with Running(app, protocol, threads=4) as server, server.connect(protocol) as frontend:
        for _ in range(5):
            assert frontend.ask("/slow").body == b"/slow"
            assert frontend.ask("/fast").body == b"/fast"


def test_what_a_stuck_leader_fetched_is_served_by_the_next(held):
    """Ready events live in one queue: all come with one poll, and the first one sticks."""
    with Running(held, "fastcgi", threads=2) as server:
        frontends = [server.connect("fastcgi") for _ in range(10)]
        for frontend in frontends:
            frontend.ask("/")
        held.wait_entered(10)
        # both threads busy, so that nobody polls while the requests come
        busy = begin(server, "/held/1", "/held/2", protocol="fastcgi")
        held.wait_entered(2)
        until(lambda: server.engine.leader is None, "the last thread's call")
        for number, frontend in enumerate(frontends):
            frontend.begin(f"/once/{number}")
        held.gate.set()
        assert finish(frontends) == [f"/once/{number}" for number in range(10)]
        finish(busy)


# -- when threads start --------------------------------------------------------------------


def test_short_requests_start_no_thread(monkeypatch):
    # on a busy machine 2 ms are nothing
    monkeypatch.setattr(watchdog_module, "INTERVAL", 0.5)
    monkeypatch.setattr(watchdog_module, "BUSY_INTERVAL", 0.5)
    with Running(hello, threads=16) as server:
        for _ in range(50):
            for protocol in PROTOCOLS:
                assert server.ask(protocol).body == b"hello"
        assert server.workers() == 1
        assert [thread.name for thread in server.threads()] == ["portico-watchdog"]


def test_idle_engine_has_no_ticking_watchdog():
    with Running(hello, "scgi") as server:
        server.ask("scgi")
        until(lambda: not server.engine._watchdog.awake, "the watchdog's sleep")
        for _ in range(3):
            assert server.ask("scgi").body == b"hello"
            until(lambda: not server.engine._watchdog.awake, "the watchdog's sleep")


def test_watchdog_that_slept_still_finds_a_stuck_leader(held):
    with Running(held, "scgi", threads=2) as server:
        for _ in range(3):
            until(lambda: not server.engine._watchdog.awake, "the watchdog's sleep")
            held.gate.clear()
            stuck = begin(server, "/held")
            held.wait_entered()
            assert server.ask("scgi", "/").body == b"/"
            held.gate.set()
            finish(stuck)


def refuse_threads(monkeypatch, *names):
    """Let threads whose name begins with one of *names* not be started."""
    start = threading.Thread.start

    def refusing(thread):
        if thread.name.startswith(names):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)


@pytest.mark.parametrize("names", [("portico-2",), ("portico-",), ("portico-watchdog",)])
def test_engine_goes_on_with_the_threads_it_can_have(held, monkeypatch, names):
    refuse_threads(monkeypatch, *names)
    with Running(held, "scgi", threads=8) as server:
        stuck = begin(server, "/held/1")
        held.wait_entered()
        later = begin(server, "/later/1", "/later/2")
        assert not held.entered.acquire(timeout=0.05)
        held.gate.set()
        assert finish([*stuck, *later]) == ["/held/1", "/later/1", "/later/2"]
        for number in range(20):
            assert server.ask("scgi", f"/{number}").body == b"/%d" % number
    assert held.most == 1
    (line,) = server.log.having("no more threads", logging.WARNING)
    assert "going on with 1 of 8" in line
    assert ("slow requests hold the others up" in line) == (names != ("portico-2",))
    assert len(server.log.lines(logging.WARNING)) == 1


def test_some_threads_may_start_and_others_not(held, monkeypatch):
    refuse_threads(monkeypatch, "portico-4")
    with Running(held, "scgi", threads=8) as server:
        frontends = begin(server, *(f"/held/{number}" for number in range(10)))
        held.wait_entered(3)
        assert not held.entered.acquire(timeout=0.1)
        held.gate.set()
        assert finish(frontends) == [f"/held/{number}" for number in range(10)]
    assert held.most == 3


# -- fast beside slow ----------------------------------------------------------------------


def reserve(monkeypatch, seconds):
    """Let a fast request keep the last thread free for *seconds*."""
    monkeypatch.setattr(leader_module, "RESERVE_SECONDS", seconds)
    monkeypatch.setattr(parking_module, "RESERVE_SECONDS", seconds)


def saturate(server, held, threads, more):
    """Let slow requests hold all threads but one, and *more* of them wait.

    Both kinds are known by then; a fast one has just been served.
    """
    now = time.monotonic()
    pace = server.engine.pace
    pace.suspect(now)
    for _ in range(20):
        pace.note("/held", 60.0, now)
    pace.note("/fast", 0.0001, now)
    assert server.ask("scgi", "/fast").body == b"/fast"
    until(lambda: pace.fast_at > 0.0, "the note of it")  # taken behind the answer
    held.wait_entered()
    frontends = begin(server, *["/held"] * (threads - 1))
    held.wait_entered(threads - 1)
    frontends += begin(server, *["/held"] * more)
    until(lambda: server.engine._parking.count == more, "the parking of the others")
    return frontends


def test_fast_requests_are_served_before_the_slow_queue(held, monkeypatch):
    reserve(monkeypatch, WAIT)
    with Running(held, "scgi", threads=4) as server:
        slow = saturate(server, held, 4, 10)
        for _ in range(30):
            assert server.ask("scgi", "/fast").body == b"/fast"
        assert held.running == 3
        held.gate.set()
        assert finish(slow) == ["/held"] * 13
    assert held.order[:34] == ["/fast", *["/held"] * 3, *["/fast"] * 30]
    assert held.most <= 4


def test_untried_request_goes_before_slow_ones(held, monkeypatch):
    reserve(monkeypatch, WAIT)
    with Running(held, "scgi", threads=3) as server:
        slow = saturate(server, held, 3, 5)
        assert server.ask("scgi", "/new").body == b"/new"
        assert held.running == 2
        held.gate.set()
        finish(slow)


def test_last_thread_takes_slow_requests_where_no_fast_ones_come(held, monkeypatch):
    reserve(monkeypatch, 0.05)
    with Running(held, "scgi", threads=3) as server:
        now = time.monotonic()
        server.engine.pace.suspect(now)
        server.engine.pace.note("/held", 60.0, now)
        slow = begin(server, *["/held"] * 10)
        held.wait_entered(3)
        held.gate.set()
        finish(slow)


def test_parked_requests_are_served_in_order(held, monkeypatch):
    reserve(monkeypatch, WAIT)

    def app(environ, start_response):
        if environ["QUERY_STRING"] == "":
            return held(environ, start_response)
        order.append(environ["QUERY_STRING"])
        start_response("200 OK", PLAIN)
        return [b""]

    order = []
    with Running(app, "scgi", threads=2) as server:
        slow = saturate(server, held, 2, 0)
        for number in range(10):
            slow += begin(server, f"/held?{number}")
            until(lambda: server.engine._parking.count == number + 1, "the parking")  # noqa: B023
        held.gate.set()
        finish(slow)
    assert order == [str(number) for number in range(10)]


@each
def test_request_that_finds_no_thread_in_time_is_answered_503(held, monkeypatch, protocol):
    reserve(monkeypatch, WAIT)
    with Running(held, "scgi", *{protocol} - {"scgi"}, threads=2, queue_timeout=0.2) as server:
        slow = saturate(server, held, 2, 0)
        late = begin(server, *["/held"] * 3, protocol=protocol)
        until(lambda: server.engine._parking.count == 3, "the parking")
        waited = time.monotonic() + 0.3
        until(lambda: time.monotonic() > waited)
        held.gate.set()
        for frontend in late:
            assert frontend.finish().status == "503 Service Unavailable"
            if protocol in KEEPING:
                assert frontend.ask("/held").body == b"/held"
            frontend.close()
        assert finish(slow) == ["/held"]
    assert len(server.log.having("no thread became free within queue_timeout")) == 3


def test_parked_connections_count_as_open(held, monkeypatch):
    reserve(monkeypatch, WAIT)
    with Running(held, "scgi", threads=2, max_connections=5) as server:
        slow = saturate(server, held, 2, 3)
        late = begin(server, *["/held"] * 5)
        until(lambda: server.engine._accepting.paused, "the pause in accepting")
        assert server.engine.open_connections() <= 5
        held.gate.set()
        assert finish([*slow, *late]) == ["/held"] * 9


def test_slow_ones_do_not_stay_slow_for_ever():
    pauses = [SLOW_SECONDS * 3] * 3 + [0] * 100

    def app(environ, start_response):
        if pauses:
            threading.Event().wait(pauses.pop(0))
        return hello(environ, start_response)

    with Running(app, "scgi", threads=4) as server:
        while pauses:
            server.ask("scgi", "/same")
        assert server.engine.pace.guess("/same") == leader_module.SHORT


# -- races ---------------------------------------------------------------------------------


@pytest.fixture
def restless():
    """Let threads be switched as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("threads", [2, 4])
def test_requests_about_as_long_as_the_watchdog_looks(threads):
    """The token changes hands in every way at once; each answer must be the right one."""
    running = []
    most = []
    pause = threading.Event()

    def app(environ, start_response):
        running.append(None)
        most.append(len(running))
        pause.wait(float(environ["QUERY_STRING"]))
        body = environ["wsgi.input"].read()
        running.pop()
        start_response("200 OK", PLAIN)
        return [environ["PATH_INFO"].encode() + b":" + body]

    def client(server, seed):
        choose = random.Random(seed)  # noqa: S311 - the same each time
        kept = {protocol: server.connect(protocol) for protocol in KEEPING}
        for number in range(60):
            protocol = choose.choice(PROTOCOLS)
            seconds = choose.choice((0, 0, 0, 0.001, 0.002, 0.003, 0.004, 0.006, 0.012))
            path = f"/{choose.randrange(8)}?{seconds}"
            body = b"%d.%d" % (seed, number) * choose.choice((0, 1, 5000))
            frontend = kept.get(protocol) or server.connect(protocol)
            half = len(body) // 2
            if half:
                frontend.begin(path, body[:half], length=len(body), end=False)
                pause.wait(choose.choice((0, 0.003)))
                frontend.more(body[half:], end=True)
            else:
                frontend.begin(path, body)
            answer = frontend.finish()
            assert answer.body == path.partition("?")[0].encode() + b":" + body
            if protocol not in kept:
                frontend.close()

    with Running(app, threads=threads) as server:
        failures = []
        clients = []
        for seed in range(8):

            def run(seed=seed):
                try:
                    client(server, seed)
                except BaseException as error:  # noqa: BLE001 - raised again below
                    failures.append(error)

            clients.append(threading.Thread(target=run, daemon=True))
            clients[-1].start()
        for thread in clients:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"
        if failures:
            raise failures[0]
        engine = server.engine
        until(lambda: engine.leader is not None and len(engine._idle) == engine._threads - 1)
        assert not engine._parking.count
        assert engine.open_connections() == 8 * len(KEEPING)
    assert max(most) <= threads
    assert server.log.lines() == []


# -- stopping ------------------------------------------------------------------------------


def test_stop_lets_running_requests_finish(held):
    with Running(held, threads=4) as server:
        frontends = [
            frontend
            for protocol in PROTOCOLS
            for frontend in begin(server, "/held", protocol=protocol)
        ]
        held.wait_entered(4)
        server.engine.stop()
        held.gate.set()
        for frontend in frontends:
            assert frontend.finish().body == b"/held"
            if frontend.protocol in KEEPING:
                assert frontend.ends() == "eof"
            frontend.close()
        server.thread.join(WAIT)
        assert not server.thread.is_alive()


@pytest.mark.parametrize("threads", [1, 4])
def test_stop_closes_idle_connections_at_once(threads):
    with Running(hello, threads=threads, graceful_timeout=60.0) as server:
        kept = [server.connect(protocol) for protocol in KEEPING]
        for frontend in kept:
            frontend.ask()
        began = time.monotonic()
        server.engine.stop()
        for frontend in kept:
            assert frontend.ends() == "eof"
            frontend.close()
        server.thread.join(WAIT)
        assert time.monotonic() - began < 5


def test_stop_answers_a_request_that_nobody_has_read_yet(held):
    """It came on a kept connection while the only thread was busy."""
    with Running(held, "fastcgi", threads=1) as server:
        kept = [server.connect("fastcgi") for _ in range(100)]
        for frontend in kept:
            frontend.ask("/")
        held.wait_entered(100)
        (busy,) = begin(server, "/held", protocol="fastcgi")
        held.wait_entered()
        for frontend in kept:
            frontend.begin("/unread")
        server.engine.stop()
        held.gate.set()
        for frontend in kept:
            assert frontend.finish().body == b"/unread"
            assert frontend.ends() == "eof"
            frontend.close()
        finish([busy])


@each
def test_stop_waits_for_the_rest_of_a_head(protocol):
    with Running(hello, protocol) as server, server.connect(protocol) as frontend:
        octets = frontend.codec.send_request({**environ_for(), "CONTENT_LENGTH": "0"}, b"")
        frontend.send(octets[:20])
        until(lambda: server.engine.open_connections() == 1, "the connection")
        server.engine.stop()
        until(lambda: server.engine._accepting.closed, "the stop")
        frontend.send(octets[20:])
        assert frontend.finish().body == b"hello"


def test_stop_serves_parked_requests(held, monkeypatch):
    reserve(monkeypatch, WAIT)
    with Running(held, "scgi", threads=2) as server:
        slow = saturate(server, held, 2, 5)
        server.engine.stop()
        held.gate.set()
        assert finish(slow) == ["/held"] * 6


def test_stop_is_bounded_by_graceful_timeout(held):
    with Running(held, "scgi", threads=4, graceful_timeout=0.3) as server:
        # the thread that runs serve() must be free to come back
        frontends = begin(server, *["/held"] * 3)
        held.wait_entered(3)
        until(lambda: server.engine.leader is not None, "a leader")
        began = time.monotonic()
        server.engine.stop()
        until(lambda: server.engine._over, "the end")
        assert 0.2 < time.monotonic() - began < 5
        held.gate.set()
        server.thread.join(WAIT)
        until(lambda: not server.threads(), "the end of the threads")
        for frontend in frontends:
            frontend.close()
    assert len(server.log.having("unfinished")) == 1


def test_stop_while_all_threads_are_busy(held):
    with Running(held, "scgi", threads=3) as server:
        frontends = begin(server, *["/held"] * 3)
        held.wait_entered(3)
        until(lambda: server.engine.leader is None, "the last thread's call")
        server.engine.stop()
        held.gate.set()
        assert finish(frontends) == ["/held"] * 3
        server.thread.join(WAIT)
        assert not server.thread.is_alive()


def test_time_to_stop_counts_from_the_order_even_if_nobody_heard_it(held):
    with Running(held, "scgi", threads=1, graceful_timeout=0.2) as server:
        frontends = begin(server, "/held", "/unread")
        held.wait_entered()
        with server.connect("scgi") as half:
            half.send(b"70:")
            server.engine.stop()
            waited = time.monotonic() + 0.3
            until(lambda: time.monotonic() > waited)
            began = time.monotonic()
            held.gate.set()
            server.thread.join(WAIT)
            assert time.monotonic() - began < 0.2 + 1
        assert frontends[0].finish().body == b"/held"
        for frontend in frontends:
            frontend.close()


def test_stop_twice_and_after_the_end():
    with Running(hello, "scgi") as server:
        server.engine.stop()
        server.engine.stop()
        server.thread.join(WAIT)
        before = open_descriptors()
        server.engine.stop()  # writes to no descriptor that someone else has by now
        assert open_descriptors() == before


def test_nothing_is_left(held):
    held.gate.set()
    with Running(hello, "scgi") as server:
        server.ask("scgi")
    threads = threading.active_count()
    descriptors = open_descriptors()
    for _ in range(5):
        with Running(held, threads=4) as server:
            for protocol in PROTOCOLS:
                server.ask(protocol)
                for _ in range(5):
                    server.connect(protocol)
                finish(begin(server, "/held", protocol=protocol))
                server.connect(protocol).send(b"\1")
            server.engine.stop()
    assert threading.active_count() == threads
    assert open_descriptors() == descriptors


def test_late_thread_after_the_end_leaves_nothing(held):
    """Its request outlasts graceful_timeout; it must neither register nor leak anything."""
    descriptors = open_descriptors()
    failures = []
    hook, threading.excepthook = threading.excepthook, failures.append
    try:
        with Running(held, "fastcgi", threads=4, graceful_timeout=0.1) as server:
            frontends = begin(server, *["/held"] * 3, protocol="fastcgi")
            held.wait_entered(3)
            until(lambda: server.engine.leader is not None, "a leader")
            server.engine.stop()
            until(lambda: server.engine._over, "the end")
            held.gate.set()
            for frontend in frontends:
                assert frontend.finish().body == b"/held"
                assert frontend.ends() == "eof"
                frontend.close()
            server.thread.join(WAIT)
            until(lambda: not server.threads(), "the end of the threads")
    finally:
        threading.excepthook = hook
    assert failures == []
    assert open_descriptors() == descriptors


def test_interrupt_of_the_main_thread_ends_all():
    """Where nobody handles SIGINT: serve() raises, and leaves nothing."""
    descriptors = open_descriptors()
    threads = threading.active_count()
    entered, go = threading.Semaphore(0), threading.Event()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/interrupt":
            assert threading.current_thread() is threading.main_thread()
            raise KeyboardInterrupt
        entered.release()
        assert go.wait(WAIT)
        return hello(environ, start_response)

    server = Running(app, "fastcgi", threads=2)
    engine = server.engine
    frontends = [server.connect("fastcgi") for _ in range(3)]

    def play():
        for frontend in frontends[:2]:  # the second one sticks in the second thread
            go.clear()
            frontend.begin()
            assert entered.acquire(timeout=WAIT)
            until(lambda: engine.leader and not engine.leader.claim, "the take-over")
            go.set()
            frontend.finish()
            until(lambda: len(engine._idle) == 1, "the other thread's idling")
        frontends[2].begin("/interrupt")

    with in_background(play), pytest.raises(KeyboardInterrupt):
        engine.serve()
    for frontend in frontends[:2]:
        assert frontend.ends() == "eof"
    for frontend in frontends:
        frontend.close()
    until(lambda: threading.active_count() == threads, "the end of the threads")
    assert open_descriptors() == descriptors


# -- signals -------------------------------------------------------------------------------

SCRIPT = """\
import sys, time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        sys.stderr.write("entered\\n")
        sys.stderr.flush()
        time.sleep(float(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
"""


@pytest.fixture
def serve(tmp_path):
    """Start ``portico serve`` on a Unix socket; gives the process and the socket's path."""
    (tmp_path / "application.py").write_text(SCRIPT)
    path = tmp_path / "s"
    started = []

    def start(*options, protocol="fastcgi"):
        process = Process(
            tmp_path,
            *("-m", "portico", "serve", tmp_path / "application.py"),
            *("--bind", f"{protocol}+unix://{path}", *options),
        )
        started.append(process)
        until(lambda: path.exists() or process.process.poll() is not None, "the socket")
        return process, str(path)

    yield start
    for process in started:
        process.__exit__()


@pytest.mark.parametrize("threads", [1, 4])
def test_sigint_ends_the_process_at_once(serve, threads):
    process, path = serve("--threads", threads)
    with Frontend("fastcgi", path) as busy:
        busy.begin("/slow?60")
        process.wait_for("entered")
        process.signal(signal.SIGINT)
        assert process.ends() in {0, 1}
        with pytest.raises((RemoteProtocolError, ConnectionResetError)):
            busy.finish()


@pytest.mark.parametrize("threads", [1, 4])
def test_sigterm_ends_the_process_gracefully(serve, threads):
    process, path = serve("--threads", threads)
    with Frontend("fastcgi", path) as idle, Frontend("fastcgi", path) as busy:
        assert idle.ask().body == b"done"
        busy.begin("/slow?0.5")
        process.wait_for("entered")
        process.signal(signal.SIGTERM)
        assert busy.finish().body == b"done"
        assert busy.ends() == "eof"
        assert idle.ends() == "eof"
    assert process.ends() == 0
    assert "stopped" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("threads", [1, 4])
def test_second_signal_ends_the_process_at_once(serve, threads):
    process, path = serve("--threads", threads)
    with Frontend("fastcgi", path) as busy:
        busy.begin("/slow?60")
        process.wait_for("entered")
        process.signal(signal.SIGTERM)
        with pytest.raises(Exception, match="timed out"):
            process.ends(0.3)
        process.signal(signal.SIGTERM)
        assert process.ends() == 1
        with pytest.raises((RemoteProtocolError, ConnectionResetError)):
            busy.finish()


@pytest.mark.parametrize("threads", [1, 2])
def test_process_ends_although_a_request_does_not(serve, threads):
    process, path = serve("--threads", threads, "--graceful-timeout", "0.3")
    frontends = [Frontend("fastcgi", path) for _ in range(threads)]
    for frontend in frontends:
        frontend.begin("/slow?60")
    until(lambda: process.stderr.count("entered") == threads, "the requests")
    process.signal(signal.SIGTERM)
    assert process.ends(10) == 1
    for frontend in frontends:
        frontend.close()


def test_idle_process_ends_at_once(serve):
    process, path = serve()
    with Frontend("fastcgi", path) as frontend:
        frontend.ask()  # it has its signal handlers by then
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.ends() == 0
    assert time.monotonic() - began < 5
    assert not Path(path).exists()
