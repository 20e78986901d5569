"""Python without the global interpreter lock: the rule, and that nothing relied on the lock.

The rule is forced on, so that all of this runs on every Python. With the lock, threads that take
turns at nearly every step stand for those that run at the same time; a build without it runs the
same tests as it is.
"""

import collections
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import pytest

from engine_harness import KEEPING, PLAIN, PROTOCOLS, WAIT, Held, Running, hello, until
from portico.codecs._fastcgi_multiplex import ANSWER, MultiplexCodec
from portico.engine import deadlines, parallel
from portico.engine import leader as leader_module
from portico.engine.handover import Handover
from portico.engine.pace import PARALLEL, SHORT, SLOW, SLOW_SECONDS, UNTRIED, Pace
from portico.engine.parallel import PARALLEL_SECONDS, ParallelPace, lacks_gil, make_pace
from portico.engine.stopped import stack_of
from portico.engine.worker import Worker
from portico.limits import Limits

#: A call worth a handover, in seconds, and one that is not.
LONG, BRIEF = 2 * PARALLEL_SECONDS, PARALLEL_SECONDS / 10


@pytest.fixture
def forced(monkeypatch):
    """The rule, whatever Python this is."""
    monkeypatch.setattr(parallel, "lacks_gil", lambda: True)


@pytest.fixture
def handing_over(forced, monkeypatch):  # noqa: ARG001 - for what it does
    """The rule, with a handover before each request."""
    monkeypatch.setattr(parallel, "PARALLEL_SECONDS", 0.0)


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


# -- which rule ----------------------------------------------------------------------------


@pytest.mark.parametrize("enabled", [True, False])
def test_the_interpreter_is_asked(monkeypatch, enabled):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: enabled, raising=False)
    assert lacks_gil() == (not enabled)
    assert type(make_pace()) is (Pace if enabled else ParallelPace)


def test_older_pythons_have_the_lock(monkeypatch):
    monkeypatch.delattr(sys, "_is_gil_enabled", raising=False)
    assert not lacks_gil()
    assert type(make_pace()) is Pace


@pytest.mark.usefixtures("forced")
def test_calls_fall_into_three_kinds():
    pace = make_pace()
    assert pace.active
    for target, seconds in (("/brief", BRIEF), ("/long?x=1", LONG), ("/slow", SLOW_SECONDS)):
        pace.note(target, seconds, 1.0)
    assert [pace.guess(one) for one in ("/brief", "/long?x=1", "/long?x=2", "/slow")] == [
        SHORT, PARALLEL, PARALLEL, SLOW,
    ]  # fmt: skip


@pytest.mark.usefixtures("forced")
def test_unknown_target_is_taken_for_what_most_are():
    pace = make_pace()
    assert pace.guess("/new") == SHORT
    for number in range(100):
        pace.note(f"/{number}", LONG, 1.0)
    assert pace.guess("/new") == PARALLEL
    for number in range(200):
        pace.note(f"/{number}", BRIEF, 1.0)
    assert pace.guess("/new") == SHORT
    for _ in range(20):
        pace.note("/slow", SLOW_SECONDS, 1.0)
    assert pace.guess("/new") == UNTRIED


@pytest.mark.usefixtures("forced")
def test_one_long_call_does_not_stand_for_many():
    pace = make_pace()
    for number in range(50):
        pace.note(f"/{number}", BRIEF, 1.0)
    pace.note("/report", 3600.0, 1.0)
    for number in range(50):
        pace.note(f"/{number}", BRIEF, 1.0)
    assert pace.guess("/new") == SHORT


@pytest.mark.usefixtures("forced")
def test_what_is_known_is_kept_while_nothing_is_slow():
    pace = make_pace()
    pace.note("/long", LONG, 1.0)
    for _ in range(200):
        pace.note("/brief", BRIEF, 1000.0)
    assert pace.active
    assert pace.guess("/long") == PARALLEL


def test_the_lock_brought_back_ends_the_rule(monkeypatch):
    """An extension module that the application imports late may need it."""
    back = False
    monkeypatch.setattr(parallel, "lacks_gil", lambda: not back)
    pace = make_pace()
    pace.note("/long", LONG, 1.0)
    assert pace.guess("/long") == PARALLEL
    back = True
    assert pace.guess("/long") == SHORT
    pace.note("/long", LONG, 1000.0)
    assert not pace.active


# -- what the leader does ------------------------------------------------------------------


def known(server, target, seconds):
    """Let the engine know how long requests for *target* take."""
    server.engine.pace.note(target, seconds, time.monotonic())


def begin(server, *paths):
    frontends = [server.connect("scgi") for _ in paths]
    for frontend, path in zip(frontends, paths, strict=True):
        frontend.begin(path)
    return frontends


def finish(frontends):
    return [bytes(frontend.finish().body).decode() for frontend in frontends]


@pytest.mark.usefixtures("forced")
def test_calls_worth_it_run_beside_one_another_at_once(held, monkeypatch):
    monkeypatch.setattr(leader_module.Engine, "take_over", lambda *_: None)
    with Running(held, "scgi", threads=4) as server:
        known(server, "/held", LONG)
        frontends = begin(server, *["/held"] * 4)
        held.wait_entered(4)
        assert held.running == 4
        held.gate.set()
        assert finish(frontends) == ["/held"] * 4


@pytest.mark.usefixtures("forced")
def test_the_last_free_thread_calls_it_as_the_leader(held, monkeypatch):
    """It is short: nothing waits for it as for a slow one, and nobody is woken for it."""
    monkeypatch.setattr(leader_module.Engine, "take_over", lambda *_: None)
    with Running(held, "scgi", threads=2) as server:
        known(server, "/held", LONG)
        frontends = begin(server, "/held", "/held")
        held.wait_entered(2)
        leader = server.engine.leader
        assert leader is not None
        assert len(leader.claim) == 1
        assert len(server.engine._parking) == 0
        held.gate.set()
        finish(frontends)


@pytest.mark.usefixtures("forced")
def test_short_calls_stay_with_the_leader(monkeypatch):
    monkeypatch.setattr(leader_module.Engine, "take_over", lambda *_: None)
    # however slow the machine is
    monkeypatch.setattr(parallel, "PARALLEL_SECONDS", WAIT)
    monkeypatch.setattr("portico.engine.pace.SLOW_SECONDS", WAIT)
    with Running(hello, threads=4) as server:
        for _ in range(50):
            for protocol in PROTOCOLS:
                assert server.ask(protocol).body == b"hello"
        assert server.workers() == 1


@pytest.mark.usefixtures("handing_over")
def test_one_thread_never_hands_over(held):
    with Running(held, "scgi", threads=1) as server:
        frontends = begin(server, *(f"/held/{number}" for number in range(5)))
        held.wait_entered()
        assert not held.entered.acquire(timeout=0.05)
        held.gate.set()
        assert finish(frontends) == [f"/held/{number}" for number in range(5)]
    assert held.most == 1


@pytest.mark.usefixtures("handing_over")
def test_never_more_calls_than_threads(held):
    with Running(held, "scgi", threads=3) as server:
        frontends = begin(server, *(f"/held/{number}" for number in range(12)))
        held.wait_entered(3)
        assert not held.entered.acquire(timeout=0.05)
        held.gate.set()
        assert finish(frontends) == [f"/held/{number}" for number in range(12)]
    assert held.most == 3


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


@pytest.mark.usefixtures("interleaved", "forced")
@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("seconds", [0.0, PARALLEL_SECONDS])
def test_each_request_is_served_once(monkeypatch, threads, seconds):
    monkeypatch.setattr(parallel, "PARALLEL_SECONDS", seconds)
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


@pytest.mark.usefixtures("interleaved", "handing_over")
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


@pytest.mark.usefixtures("interleaved", "handing_over")
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


@pytest.mark.usefixtures("interleaved", "handing_over")
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


@pytest.mark.usefixtures("interleaved", "forced")
def test_pace_survives_threads():
    pace = make_pace()

    def learn(at):
        for number in range(400):
            pace.note(f"/{at}?{number}", (BRIEF, LONG, SLOW_SECONDS)[number % 3], number * 0.1)
            assert pace.guess(f"/{number}") in {SHORT, UNTRIED, PARALLEL, SLOW}

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


@pytest.mark.usefixtures("forced")
def test_slow_log_has_the_stack(held, monkeypatch):
    monkeypatch.setattr(deadlines, "lacks_gil", lambda: True)
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
