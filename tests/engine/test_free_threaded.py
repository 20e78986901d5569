"""Python without the global interpreter lock: nothing in the engine relies on it.

Handing over before each call makes all threads serve at the same time, on every Python. With the
lock, threads that take turns at nearly every step stand for those that run at once; a build
without it runs the same tests as it is.
"""

import collections
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import pytest

from engine_harness import KEEPING, PLAIN, PROTOCOLS, WAIT, Held, Running, until
from portico.codecs._fastcgi_multiplex import ANSWER, MultiplexCodec
from portico.engine import deadlines
from portico.engine import leader as leader_module
from portico.engine.handover import Handover
from portico.engine.pace import SHORT, SLOW, SLOW_SECONDS, UNTRIED, Pace
from portico.engine.stopped import stack_of
from portico.engine.worker import Worker
from portico.limits import Limits

pytestmark = pytest.mark.slow  # processes, one after another


class Early(Pace):
    """Takes every call for a slow one, so that the leader gives the token away before each."""

    __slots__ = ()

    def __init__(self):
        super().__init__()
        self.active = True

    def guess(self, _target):
        return SLOW

    def note(self, _target, _seconds, _now):
        pass


@pytest.fixture
def early(monkeypatch):
    monkeypatch.setattr(leader_module, "Pace", Early)


@pytest.fixture
def interleaved():
    """Threads that take turns at nearly every step, where there is a lock to take turns with."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def held():
    app = Held()
    yield app
    app.gate.set()


def begin(server, *paths):
    frontends = [server.connect("scgi") for _ in paths]
    for frontend, path in zip(frontends, paths, strict=True):
        frontend.begin(path)
    return frontends


def finish(frontends):
    return [bytes(frontend.finish().body).decode() for frontend in frontends]


# -- how many at once ----------------------------------------------------------------------


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_as_many_calls_run_as_there_are_threads(held, threads, monkeypatch):
    monkeypatch.setattr(leader_module.Engine, "take_over", lambda *_: None)
    paths = [f"/held/{number}" for number in range(4 * threads)]
    with Running(held, "scgi", threads=threads) as server:
        frontends = begin(server, *paths)
        held.wait_entered(threads)
        assert not held.entered.acquire(timeout=0.05)
        held.gate.set()
        assert finish(frontends) == paths
    assert held.most == threads


# -- nothing lost, nothing doubled ---------------------------------------------------------


class Echo:
    """Answers with the path and the body, quickly or after a wait; counts each path."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls = collections.Counter()

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        with self.lock:
            self.calls[path] += 1
        body = environ["wsgi.input"].read()
        if path.endswith("slow"):
            time.sleep(0.005)
        start_response("200 OK", PLAIN)
        return [path.encode(), b" ", body]


def visit(server, protocol, name, asks, kept):
    """Ask many times, each for a path of its own; gives the paths."""
    paths = []
    frontend = server.connect(protocol) if kept else None
    for number in range(asks):
        path = f"/{name}/{number}/{'slow' if number % 7 == 3 else 'fast'}"
        body = b"%d" % number * (number % 5)
        one = frontend or server.connect(protocol, keep=False)
        answer = one.ask(path, body)
        assert bytes(answer.body) == path.encode() + b" " + body
        assert answer.status == "200 OK"
        if not kept:
            one.close()
        paths.append(path)
    if frontend is not None:
        frontend.close()
    return paths


def crowd(server, *, visitors, asks, protocols=PROTOCOLS):
    """Let visitors of each protocol ask at the same time; gives all paths."""
    with ThreadPoolExecutor(visitors * len(protocols)) as pool:
        jobs = [
            pool.submit(visit, server, protocol, f"{protocol}-{number}", asks, protocol in KEEPING)
            for protocol in protocols
            for number in range(visitors)
        ]
        return [path for job in jobs for path in job.result(6 * WAIT)]


@pytest.mark.usefixtures("interleaved")
@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("pace", [Early, Pace])
def test_each_request_is_served_once(monkeypatch, threads, pace):
    monkeypatch.setattr(leader_module, "Pace", pace)
    app = Echo()
    with Running(app, threads=threads) as server:
        paths = crowd(server, visitors=3, asks=80)
        assert app.calls == dict.fromkeys(paths, 1)
        # counted behind the answers
        until(lambda: server.engine.figures()["requests"] == len(paths), "the last counts")
        until(lambda: server.engine.figures()["connections"] == 0, "the connections' ends")
        figures = server.engine.figures()
        assert figures["protocols"] == dict.fromkeys(PROTOCOLS, len(paths) // 4)
        assert figures["aborted"] == figures["errors"] == figures["waiting"] == 0
        assert figures["busy"] == 0
    assert server.log.lines(30) == []


@pytest.mark.usefixtures("interleaved", "early")
def test_limits_of_time_hit_their_own_requests(monkeypatch):
    """Some end just before their limit, some behind it; each gets its own answer or its own 504."""
    monkeypatch.setattr(deadlines, "GRACE", WAIT)

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path.endswith("slow"):
            until = time.monotonic() + 0.06
            while time.monotonic() < until:
                time.sleep(0.001)
        start_response("200 OK", PLAIN)
        return [path.encode()]

    def ask(name):
        seen = collections.Counter()
        for number in range(20):
            path = f"/{name}/{number}/{'slow' if number % 3 == 0 else 'fast'}"
            with server.connect("fastcgi", keep=False) as frontend:
                answer = frontend.ask(path)
            seen[answer.status[:3], path[-4:]] += 1
            assert answer.status[:3] == "504" or bytes(answer.body) == path.encode()
        return seen

    with Running(app, "fastcgi", threads=6, timeout=0.03) as server:
        with ThreadPoolExecutor(5) as pool:
            seen = sum((job.result(6 * WAIT) for job in [pool.submit(ask, n) for n in range(5)]),
                       collections.Counter())  # fmt: skip
        until(lambda: server.engine.figures()["busy"] == 0, "the last thread's return")
        assert server.engine.figures()["lost"] == 0
    assert seen["504", "slow"] == 35
    assert seen["200", "fast"] + seen["504", "fast"] == 65  # a machine may be slow as well
    assert seen["200", "fast"] > 0


# -- the end -------------------------------------------------------------------------------


@pytest.mark.usefixtures("interleaved", "early")
@pytest.mark.parametrize("round_", range(5))
def test_a_stop_answers_what_has_been_asked(round_):
    app = Echo()
    with Running(app, "scgi", threads=4) as server:
        frontends = begin(server, *(f"/{round_}/{number}/slow" for number in range(20)))
        # none may be left in the kernel's queue
        until(lambda: len(app.calls) == 20, "the last request")
        server.engine.stop()
        assert sorted(finish(frontends)) == sorted(
            f"/{round_}/{number}/slow " for number in range(20)
        )
        server.thread.join(WAIT)
        assert not server.thread.is_alive()


@pytest.mark.usefixtures("interleaved", "early")
def test_kept_connections_go_on_in_another_engine():
    handover = Handover()
    theirs = copy(handover)  # as in another process
    theirs._outer, theirs._inner = handover._outer.dup(), handover._inner.dup()
    theirs.fd = theirs._outer.fileno()
    bind = "fastcgi://127.0.0.1:0?reuse_port=1"
    old, new = Echo(), Echo()
    with Running(old, binds=[bind], engine={"handover": handover}, threads=4) as first:
        port = first.ports["fastcgi"]
        go_on = threading.Event()

        def ask(name):
            paths = []
            with first.connect("fastcgi") as frontend:
                while not go_on.is_set() or len(paths) < 30:
                    path = f"/{name}/{len(paths)}/{'slow' if len(paths) % 9 == 4 else 'fast'}"
                    assert bytes(frontend.ask(path).body) == path.encode() + b" "
                    paths.append(path)
            return paths

        with ThreadPoolExecutor(6) as pool:
            jobs = [pool.submit(ask, name) for name in range(6)]
            until(lambda: sum(old.calls.values()) > 60, "the first requests")
            again = bind.replace(":0", f":{port}")
            with Running(new, binds=[again], engine={"handover": theirs}, threads=4):
                first.engine.stop(hand_over=True)
                first.thread.join(WAIT)
                assert not first.thread.is_alive()
                before = sum(new.calls.values())
                until(lambda: sum(new.calls.values()) > before + 60, "requests in the other one")
                go_on.set()
                paths = [path for job in jobs for path in job.result(WAIT)]
    handover.close_all()
    theirs.close_all()
    assert not old.calls.keys() & new.calls.keys()
    assert old.calls + new.calls == dict.fromkeys(paths, 1)


# -- what several threads write ------------------------------------------------------------


def together(number, function):
    """Run *function* in *number* threads that begin at the same time."""
    barrier = threading.Barrier(number)

    def run(at):
        barrier.wait(WAIT)
        return function(at)

    with ThreadPoolExecutor(number) as pool:
        return [job.result(WAIT) for job in [pool.submit(run, at) for at in range(number)]]


@pytest.mark.usefixtures("interleaved")
def test_pace_survives_threads():
    pace = Pace()

    def learn(at):
        for number in range(400):
            seconds = SLOW_SECONDS if number % 40 == 0 else 0.0001
            pace.note(f"/{at}?{number}", seconds, number * 0.01)
            assert pace.guess(f"/{number}") in {SHORT, UNTRIED, SLOW}

    together(4, learn)
    assert pace._level >= 0


@pytest.mark.usefixtures("interleaved")
def test_one_thread_alone_gets_the_token():
    """The element of a claim goes to one of those who pop it, each time."""
    claim = []
    won = [0] * 4
    rounds = threading.Barrier(4)

    def race(at):
        for number in range(300):
            if at == 0:
                claim.append(number)
            rounds.wait(WAIT)
            try:
                claim.pop()
                won[at] += 1
            except IndexError:
                pass
            rounds.wait(WAIT)

    together(4, race)
    assert sum(won) == 300


def codec_with(*numbers):
    """A codec of several requests, those with *numbers* being answered."""
    codec = MultiplexCodec(Limits(), roles=(1,), values=None, most=100)
    for number in numbers:
        codec.adopt(number, 1, answering=True, aborted=False, left=-1, wrote_errors=False)
    return codec


def test_codec_bears_answers_while_it_looks_for_incomplete_requests():
    """Whoever answers takes a request out, while another thread asks."""
    codec = codec_with(1, 2, 3)

    class Leaving:
        @property
        def state(self):
            codec.send_body(next(number for number in (1, 2, 3) if number in open_), b"", end=True)
            return ANSWER

    open_ = codec._requests
    codec._requests[4] = codec._requests[5] = Leaving()
    assert codec.gathering is False
    assert sorted(open_) == [3, 4, 5]


def test_only_who_receives_counts_what_has_come():
    codec = codec_with(1)
    codec._gathered = None  # as if another thread were about to write it
    codec.send_body(1, b"", end=True)
    assert codec._gathered is None
    assert codec.idle


def test_lost_thread_may_come_back_while_it_is_counted_as_lost(held):
    class Popped(list):
        """A claim whose element has been taken since somebody looked."""

        def __bool__(self):
            return True

    with Running(held, "scgi", threads=2) as server:
        frontends = begin(server, "/held/1")
        held.wait_entered()
        until(lambda: server.engine.leader is not None and server.workers() == 2, "a new leader")
        worker = Worker()
        worker.claim = Popped()
        assert server.engine.replace(worker)
        server.engine.take_back()
        held.gate.set()
        finish(frontends)
        assert server.ask("scgi", "/").body == b"/"


# -- the stack of a thread that runs -------------------------------------------------------


def spin(until_set):
    while not until_set.is_set():
        pass


def outer(until_set):
    spin(until_set)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_interpreter_is_asked_whether_it_has_the_lock(monkeypatch, enabled):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: enabled, raising=False)
    assert deadlines._lacks_gil() == (not enabled)


def test_older_pythons_have_the_lock(monkeypatch):
    monkeypatch.delattr(sys, "_is_gil_enabled", raising=False)
    assert not deadlines._lacks_gil()


@pytest.mark.usefixtures("interleaved")
def test_stack_of_a_running_thread_is_read_while_it_stands():
    done = threading.Event()
    thread = threading.Thread(target=outer, args=(done,), daemon=True)
    thread.start()
    try:
        until(lambda: "spin" in [one.name for one in stack_of(thread.ident, set(), 40)], "spin()")
        frames = [one.name for one in stack_of(thread.ident, {outer.__code__}, 40)]
        assert frames[0] == "spin"
        assert len(stack_of(thread.ident, set(), 1)) == 1
    finally:
        done.set()
        thread.join(WAIT)
    assert stack_of(thread.ident, set(), 40) == []


def test_slow_log_has_the_stack(held, monkeypatch):
    monkeypatch.setattr(deadlines, "_lacks_gil", lambda: True)
    with Running(held, "scgi", threads=2, slow_timeout=0.01) as server:
        frontends = begin(server, "/held")
        held.wait_entered()
        until(lambda: server.log.having("has run for"), "the slow log")
        held.gate.set()
        finish(frontends)
    (line,) = server.log.having("has run for")
    assert re.search(r"engine_harness.py\", line \d+, in __call__", line)
    assert "self.gate.wait(WAIT)" in line
    assert "run_response" not in line
