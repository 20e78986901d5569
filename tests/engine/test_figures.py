"""What an engine tells: counts that lose nothing, running requests, and when it tells."""

import gc
import json
import threading
import time
import weakref
from contextlib import suppress

import pytest

from engine_harness import (
    KEEPING,
    PLAIN,
    PROTOCOLS,
    WAIT,
    Held,
    Running,
    hello,
    path_of,
    request_octets,
    until,
)
from portico.engine import watchdog as watchdog_module


class Observer:
    """Keeps what it is told."""

    def __init__(self):
        self.told = []
        self.woken = 0

    def wake(self):
        self.woken += 1

    def observe(self, figures):
        self.told.append(json.loads(json.dumps(figures)))  # plain values, and a copy

    def last(self, **wanted):
        """Whether the last figures told are as *wanted*."""
        return bool(self.told) and all(
            self.told[-1][name] == value for name, value in wanted.items()
        )


def observed(app, *protocols, **settings):
    observer = Observer()
    server = Running(app, *protocols, engine={"observer": observer}, **settings)
    server.observer = observer
    return server


def numbered(path, number):
    """One FastCGI request with an id of its own."""
    octets = bytearray(request_octets("fastcgi", path))
    at = 0
    while at < len(octets):  # its records
        octets[at + 3] = number
        at += 8 + int.from_bytes(octets[at + 4 : at + 6], "big") + octets[at + 6]
    return bytes(octets)


def asleep(server):
    return not server.engine._watchdog.awake


def is_silent(server):
    """Whether nothing is told for a while, three times as long as between two tellings."""
    told = len(server.observer.told)
    end = time.monotonic() + 0.35
    until(lambda: time.monotonic() > end)
    return len(server.observer.told) == told


@pytest.fixture
def held():
    held = Held()
    yield held
    held.gate.set()


# -- counts --------------------------------------------------------------------------------


def test_before_the_first_request():
    with Running(hello) as server:
        until(lambda: server.engine._threads, "the engine")
        figures = server.engine.figures()
    repairs = figures.pop("repairs")
    assert set(repairs.values()) == {0}
    assert figures == {
        "requests": 0, "errors": 0, "aborted": 0, "octets": 0, "threads": 1, "busy": 0,
        "connections": 0, "waiting": 0, "lost": 0, "protocols": {}, "running": [],
    }  # fmt: skip


@pytest.mark.parametrize("threads", [1, 8])
def test_thousands_of_requests_are_counted_exactly(threads):
    """Many threads at once, some of them stuck, so that the token goes round."""

    def app(environ, start_response):
        number = int(environ["QUERY_STRING"])
        if number % 97 == 0 and threads > 1:
            time.sleep(0.006)  # slow: the watchdog takes the token
        start_response("503 Busy" if number % 10 == 0 else "200 OK", PLAIN)
        return [b"x" * (number % 7)]

    def ask(server, protocol):
        try:
            if protocol in KEEPING:
                with server.connect(protocol) as frontend:
                    for number in range(300):
                        frontend.ask(f"/?{number}")
            else:
                for number in range(300):
                    server.ask(protocol, f"/?{number}")
        except BaseException as error:
            failures.append(error)
            raise

    failures = []
    with Running(app, threads=threads) as server:
        visitors = [
            threading.Thread(target=ask, args=(server, protocol))
            for protocol in PROTOCOLS
            for _ in range(3)
        ]
        for one in visitors:
            one.start()
        for one in visitors:
            one.join(100)
        assert not failures
        until(lambda: server.engine.figures()["requests"] >= 3600, "the last count")
        figures = server.engine.figures()
    assert figures["requests"] == 3600
    assert figures["errors"] == 12 * 30
    assert figures["octets"] == 12 * sum(number % 7 for number in range(300))
    assert figures["protocols"] == dict.fromkeys(PROTOCOLS, 900)
    assert figures["aborted"] == 0


def test_counts_of_threads_that_have_ended_stay():
    """A lost thread is replaced, and goes when it comes back."""
    leave = threading.Event()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/stuck":
            while not leave.is_set():  # catches the exception, as bad code does
                with suppress(Exception):
                    leave.wait(0.05)
        start_response("200 OK", PLAIN)
        return [b"x"]

    with Running(app, "scgi", threads=2, timeout=0.2) as server:
        assert server.ask("scgi", "/stuck").status[:3] == "504"
        until(lambda: server.engine._lost == 1, "the loss", 10)
        for _ in range(5):
            server.ask("scgi")
        leave.set()
        until(lambda: server.engine._lost == 0, "the return")
        threads = server.engine.figures()["threads"]
        for _ in range(20):
            server.ask("scgi")
        until(lambda: server.engine.figures()["requests"] == 26, "the counts")
        assert server.engine.figures()["threads"] <= max(threads, 2)
        assert server.engine.figures()["errors"] == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_auto_counts_what_is_spoken(protocol):
    with Running(hello, "auto") as server:
        server.ports[protocol] = server.ports["auto"]
        server.paths[protocol] = ""
        server.ask(protocol)
        until(lambda: server.engine.figures()["requests"], "the count")
        assert server.engine.figures()["protocols"] == {protocol: 1}


def test_repairs():
    with Running(path_of, "scgi", "fastcgi") as server:
        for protocol in ("scgi", "fastcgi"):
            octets = request_octets(
                protocol, keep=False, SERVER_SOFTWARE="lighttpd/1.4", SCRIPT_NAME="/", PATH_INFO="x"
            )
            with server.connect(protocol, keep=False) as frontend:
                frontend.send(octets)
                while frontend.sock.recv(4096):
                    pass
        until(lambda: server.engine.figures()["repairs"]["slash-in-script-name"] == 2, "both")


# -- running requests ----------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_running_request(held, protocol, threads):
    with Running(held, protocol, threads=threads) as server:
        frontend = server.connect(protocol)
        began = time.time()
        frontend.begin("/held?x", method="PUT", HTTP_X_REQUEST_ID="r1")
        held.wait_entered()
        figures = server.engine.figures()
        [running] = figures["running"]
        assert abs(running.pop("since") - began) < WAIT
        assert running == {
            "method": "PUT", "target": "/held?x", "protocol": protocol, "peer": "192.0.2.7",
            "id": "r1",
        }  # fmt: skip
        assert (figures["busy"], figures["connections"]) == (1, 1)
        held.gate.set()
        frontend.finish()
        until(lambda: not server.engine.figures()["running"], "the end")
        assert server.engine.figures()["busy"] == 0


def test_since_is_when_a_request_began_and_not_the_connection(held):
    """All threads are stuck, and nobody polls, when it is taken up."""
    with Running(held, "fastcgi", threads=1) as server, server.connect("fastcgi") as frontend:
        frontend.ask("/short")
        until(lambda: time.monotonic() - server.engine.now > 0.3)  # it polls for a while
        began = time.time()
        frontend.begin("/held")
        held.wait_entered(2)
        [running] = server.engine.figures()["running"]
        assert began - 0.05 <= running["since"] <= time.time() + 0.05
        held.gate.set()
        frontend.finish()


def test_longest_first_at_most_64_and_bounded(held):
    with Running(held, "scgi", threads=70) as server:
        fronts = []
        for number in range(66):
            fronts.append(server.connect("scgi"))
            fronts[-1].begin(f"/held/{number}/" + "x" * 1000)
            held.wait_entered()
        figures = server.engine.figures()
        assert (figures["busy"], figures["connections"]) == (66, 66)
        running = figures["running"]
        assert len(running) == 64
        since = [one["since"] for one in running]
        assert since == sorted(since)
        assert running[0]["target"].startswith("/held/0/")
        assert {len(one["target"]) for one in running} == {200}
        held.gate.set()
        for one in fronts:
            one.finish()


def test_application_that_spoils_its_environ(held):
    def app(environ, start_response):
        environ["REQUEST_URI"] = environ["REQUEST_METHOD"] = environ["REMOTE_ADDR"] = object()
        environ["portico.request_id"] = 7
        return held(environ, start_response)

    with Running(app, "scgi") as server, server.connect("scgi") as frontend:
        frontend.begin("/held")
        held.wait_entered()
        [running] = server.engine.figures()["running"]
        assert (running["target"], running["method"], running["id"]) == ("/held", "", "")
        held.gate.set()
        frontend.finish()


def test_requests_that_wait_for_a_thread(held):
    with observed(held, "fastcgi", threads=2) as server, server.connect("fastcgi") as frontend:
        frontend.send(b"".join(numbered(f"/held/{number}", number) for number in range(1, 6)))
        held.wait_entered(2)
        until(lambda: server.observer.last(busy=2, waiting=3, connections=1), "all five")
        held.gate.set()
        until(lambda: server.observer.last(busy=0, waiting=0, requests=5), "the end")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("threads", [1, 4])
def test_environ_is_not_kept(protocol, threads):
    class Marked:
        pass

    marks = []

    def app(environ, start_response):
        mark = Marked()
        marks.append(weakref.ref(mark))
        environ["mark"] = mark
        if environ["PATH_INFO"] == "/fails":
            raise ValueError
        start_response("200 OK", PLAIN)
        return [b"x"]

    with Running(app, protocol, threads=threads) as server, server.connect(protocol) as frontend:
        frontend.ask("/works")
        server.ask(protocol, "/fails")
        until(lambda: server.engine.figures()["requests"] == 2, "the counts")
        gc.collect()
        assert [one() for one in marks] == [None, None]


# -- connections ---------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", KEEPING)
@pytest.mark.parametrize("threads", [1, 4])
def test_kept_connections(protocol, threads):
    with observed(hello, protocol, threads=threads) as server:
        fronts = [server.connect(protocol) for _ in range(5)]
        for one in fronts:
            one.ask()
        until(lambda: server.observer.last(connections=5, requests=5), "all five")
        for one in fronts:
            one.close()
        until(lambda: server.observer.last(connections=0), "their end")


def test_connections_that_carry_several_requests_count_once(held):
    with observed(held, "fastcgi", threads=6) as server, server.connect("fastcgi") as frontend:
        # at once: a second one that came while the first is held would wait for it (decision 0011)
        frontend.send(b"".join(numbered(f"/held/{number}", number) for number in (1, 2, 3)))
        held.wait_entered(3)
        until(lambda: server.observer.last(busy=3, connections=1), "three on one")
        held.gate.set()
        until(lambda: server.observer.last(requests=3, busy=0, connections=1), "their end")


# -- telling -------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_last_observation_is_true(protocol, threads):
    with observed(hello, protocol, threads=threads) as server:
        for number in range(1, 4):
            server.ask(protocol)
            until(lambda: asleep(server), "the sleep")
            until(lambda: server.observer.last(requests=number), "the count")  # noqa: B023
            assert server.observer.last(**server.engine.figures())
            assert server.observer.woken >= number
            # idle: no wake-ups. The last telling may only come now: it follows on `asleep`
            until(lambda: is_silent(server), "silence")
    assert server.observer.last(requests=3, connections=0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_end_of_a_request_that_outlasts_the_watch_is_told(held, protocol):
    with observed(held, protocol, threads=3) as server:
        frontend = server.connect(protocol, keep=False)
        frontend.begin("/held")
        held.wait_entered()
        until(lambda: server.observer.last(busy=1) and asleep(server), "the sleep")
        held.gate.set()
        frontend.finish()
        until(lambda: server.observer.last(busy=0, requests=1), "the news")


def test_all_threads_stuck(held):
    with observed(held, "scgi", threads=3) as server:
        fronts = [server.connect("scgi") for _ in range(3)]
        for one in fronts:
            one.begin("/held")
            held.wait_entered()
        until(lambda: server.observer.last(busy=3, threads=3, connections=3), "all three")
        until(lambda: asleep(server), "the sleep")
        assert server.engine.figures()["busy"] == 3
        held.gate.set()
        for one in fronts:
            one.finish()
        until(lambda: server.observer.last(busy=0, requests=3, connections=0), "their end")


def test_request_of_the_only_thread_is_told_while_it_runs(held):
    with observed(held, "scgi", threads=1) as server:
        frontend = server.connect("scgi")
        frontend.begin("/held")
        held.wait_entered()
        until(lambda: server.observer.last(busy=1), "the running one")
        held.gate.set()
        frontend.finish()
        until(lambda: server.observer.last(busy=0, requests=1, connections=0), "its end")


def test_idle_connections_that_are_closed_are_told():
    with (
        observed(hello, "fastcgi", idle_timeout=0.6) as server,
        server.connect("fastcgi") as frontend,
    ):
        frontend.ask()
        until(lambda: asleep(server) and server.observer.last(connections=1), "the sleep")
        assert frontend.ends() == "eof"
        until(lambda: server.observer.last(connections=0), "the news")


def test_without_an_observer_one_thread_has_no_watchdog():
    with Running(hello, "scgi", threads=1) as server:
        server.ask("scgi")
        assert not server.threads()


def test_figures_are_told_while_there_is_work():
    with observed(hello, "fastcgi", threads=4) as server, server.connect("fastcgi") as frontend:
        begin = time.monotonic()
        while time.monotonic() < begin + 1.0:
            frontend.ask()
        told = len(server.observer.told)
    assert 3 <= told <= 1.0 / watchdog_module.TELLING_INTERVAL + 3


def test_observer_that_fails_is_reported_once():
    class Failing:
        def wake(self):
            pass

        def observe(self, _):
            raise OSError("no room")

    with Running(hello, "scgi", engine={"observer": Failing()}) as server:
        for _ in range(3):
            server.ask("scgi")
            until(lambda: asleep(server), "the sleep")
        assert server.ask("scgi").body == b"hello"
        assert len(server.log.having("cannot tell the figures")) == 1


def test_base_is_in_every_environ():
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        values = [environ["wsgi.multiprocess"], environ["portico.scoreboard"] is board]
        return [repr(values).encode()]

    board = object()
    base = {"wsgi.multiprocess": True, "portico.scoreboard": board}
    with Running(app, engine={"base": base}) as server:
        for protocol in PROTOCOLS:
            assert server.ask(protocol).body == b"[True, True]"
