"""Memory and threads run short."""

import logging
import resource
import subprocess
import sys
import threading

import pytest

from engine_harness import WAIT, Held, Running, hello, until
from portico.engine import leader as leader_module
from portico.engine import shortage

FIT = """\
import os, resource, sys, threading
from portico.engine import shortage
limit, reserve, size = map(int, sys.argv[1:])
held = bytearray(reserve)
if size:
    threading.stack_size(size)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print(shortage.fit_threads(16), size := threading.stack_size(0))
threading.stack_size(size)
started = 0
over = threading.Event()
try:
    for _ in range(1000):
        threading.Thread(target=over.wait, daemon=True).start()
        started += 1
except RuntimeError:
    print(shortage.name_limit(), flush=True)
os._exit(0)  # with no memory left the interpreter would abort
"""

MIB = 1 << 20


def fit(limit, reserve=0, size=0):
    done = subprocess.run(
        [sys.executable, "-c", FIT, *(str(one * MIB) for one in (limit, reserve, size))],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
    )
    first, reason = done.stdout.splitlines()
    threads, stack = first.split()
    return int(threads), int(stack) // MIB, reason


@pytest.mark.parametrize(
    ("limit", "reserve", "least", "most"),
    [(2048, 0, 16, 16), (256, 0, 12, 15), (128, 0, 4, 7), (128, 60, 1, 3), (128, 90, 1, 1)],
)
def test_threads_leave_room_for_the_application(limit, reserve, least, most):
    fitting, stack, reason = fit(limit, reserve)
    assert least <= fitting <= most  # the interpreter itself takes more or less
    assert stack == 4
    assert reason == f"RLIMIT_AS is {limit} MiB"


def test_stack_size_that_the_application_has_chosen_stays():
    assert fit(512, size=8)[1] == 8


def test_without_a_limit_nothing_changes():
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        pytest.fail("the tests run under a limit of address space")
    assert shortage.fit_threads(16) == 16
    assert threading.stack_size(0) == 0


@pytest.mark.parametrize(
    ("limits", "tasks", "told"),
    [
        ({"RLIMIT_NPROC": 20}, "", "RLIMIT_NPROC is 20, for all processes and threads of the user"),
        ({"RLIMIT_AS": 1 << 50, "RLIMIT_NPROC": 20}, "", "RLIMIT_NPROC is 20"),
        ({"RLIMIT_AS": 64 * MIB, "RLIMIT_NPROC": 20}, "", "RLIMIT_AS is 64 MiB"),
        ({}, "30", "its cgroup may have 30 tasks"),
        ({}, "", "the system has no more"),
    ],
)
def test_limit_that_is_in_the_way_is_named(monkeypatch, limits, tasks, told):
    monkeypatch.setattr(shortage, "_limit", limits.get)
    monkeypatch.setattr(shortage, "_address_space", lambda: 60 * MIB)
    monkeypatch.setattr(shortage, "_most_tasks", lambda: tasks)
    assert shortage.name_limit().startswith(told)


def fail(monkeypatch, name, times, error=MemoryError):
    """Have a method of the engine raise so many times, then work again."""
    method = getattr(leader_module.Engine, name)
    left = [times]

    def failing(engine, *args, **more):
        if left[0]:
            left[0] -= 1
            raise error
        return method(engine, *args, **more)

    monkeypatch.setattr(leader_module.Engine, name, failing)
    return left


@pytest.mark.parametrize("name", ["_poll", "_await", "_drop", "_follow"])
def test_thread_without_memory_goes_on(monkeypatch, name):
    held = Held()
    with Running(held, "fastcgi", threads=3) as server:
        with server.connect("fastcgi") as frontend:
            assert frontend.ask("/").body == b"/"
            left = fail(monkeypatch, name, 1)
            with server.connect("fastcgi") as other:
                other.begin("/held")
                held.wait_entered(2)
                frontend.close()
                assert server.ask("fastcgi", "/more").body == b"/more"  # by another thread
                held.gate.set()
        until(lambda: not left[0], "the failure")
        for _ in range(3):
            assert server.ask("fastcgi", "/more").body == b"/more"
        assert len(server.log.having("no memory is left", logging.ERROR)) <= 1


def test_connection_that_was_about_to_be_served_is_closed(monkeypatch):
    with Running(hello, "scgi", threads=2) as server:
        assert server.ask("scgi").body == b"hello"
        until(lambda: not server.engine._watchdog.awake, "the watchdog's sleep")

        def refuse():
            monkeypatch.undo()
            raise MemoryError

        monkeypatch.setattr(leader_module.Watchdog, "wake", lambda _: refuse())
        with server.connect("scgi") as frontend:
            frontend.begin("/")
            assert frontend.ends() in {"eof", "reset"}
        assert server.ask("scgi").body == b"hello"
        assert len(server.log.having("no memory is left", logging.ERROR)) == 1


def test_watchdog_without_memory_looks_again(monkeypatch):
    held = Held()
    with Running(held, "scgi", threads=2) as server:
        looks = []

        def look(_):
            looks.append(None)
            monkeypatch.undo()
            raise MemoryError

        monkeypatch.setattr(leader_module.Watchdog, "_look_until_idle", look)
        with server.connect("scgi") as frontend:
            frontend.begin("/held")
            held.wait_entered()
            assert server.ask("scgi", "/").body == b"/"
            held.gate.set()
            assert frontend.finish().body == b"/held"
        assert looks == [None]
