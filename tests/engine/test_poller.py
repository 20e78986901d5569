"""Readiness, and the pipe that ends a wait for it."""

import os
import select
import socket
import sys
import threading
import time

import pytest

from engine_harness import WAIT, open_descriptors
from portico.engine import poller as poller_module
from portico.engine.poller import SelectorPoller, Waker, make_poller

KINDS = [SelectorPoller]
if sys.platform == "linux":
    KINDS.append(poller_module.EpollPoller)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def poller(request):
    descriptors = open_descriptors()
    poller = request.param()
    yield poller
    poller.close()
    assert open_descriptors() == descriptors


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def poll(poller, timeout):
    """As the leader does: a change may end a poll early."""
    deadline = time.monotonic() + timeout
    while True:
        ready = [fd for fd, _ in poller.poll(max(0.0, deadline - time.monotonic()))]
        if ready or time.monotonic() >= deadline:
            return ready


def test_best_poller_of_this_system():
    made = make_poller()
    assert type(made) is (KINDS[-1] if sys.platform == "linux" else SelectorPoller)
    made.close()


def test_elsewhere_it_is_the_standard_library(monkeypatch):
    monkeypatch.setattr(poller_module.sys, "platform", "darwin")
    made = make_poller()
    assert type(made) is SelectorPoller
    made.close()


def test_ready_descriptor_is_reported_for_as_long_as_it_is_readable(poller, pair):
    ours, theirs = pair
    poller.register(ours.fileno())
    assert poll(poller, 0) == []
    theirs.send(b"x")
    assert poll(poller, WAIT) == [ours.fileno()]
    assert poll(poller, WAIT) == [ours.fileno()]
    ours.recv(1)
    assert poll(poller, 0) == []


def test_end_of_file_is_reported(poller, pair):
    ours, theirs = pair
    poller.register(ours.fileno())
    theirs.close()
    assert poll(poller, WAIT) == [ours.fileno()]


def test_forgotten_descriptor_is_not_reported(poller, pair):
    ours, theirs = pair
    poller.register(ours.fileno())
    theirs.send(b"x")
    poller.unregister(ours.fileno())
    assert poll(poller, 0.05) == []
    poller.register(ours.fileno())
    assert poll(poller, WAIT) == [ours.fileno()]


def test_wait_is_bounded(poller):
    began = time.monotonic()
    assert poll(poller, 0.1) == []
    assert 0.09 < time.monotonic() - began < 5


def test_number_of_a_closed_descriptor_may_be_used_again(poller):
    for _ in range(5):
        ours, theirs = socket.socketpair()
        number = ours.fileno()
        poller.register(number)
        theirs.send(b"x")
        assert poll(poller, WAIT) == [number]
        poller.unregister(number)
        ours.close()
        theirs.close()


def test_registering_ends_or_joins_a_wait_of_another_thread(poller, pair):
    """Level-triggered: what is readable already is reported as well."""
    ours, theirs = pair
    found = []
    waiting = threading.Thread(target=lambda: found.append(poll(poller, WAIT)))
    waiting.start()
    theirs.send(b"x")
    poller.register(ours.fileno())
    waiting.join(WAIT)
    assert found == [[ours.fileno()]]


def test_many_changes_while_nobody_polls(poller, pair):
    ours, theirs = pair
    for _ in range(100_000 if type(poller) is SelectorPoller else 1000):
        poller.register(ours.fileno())
        poller.unregister(ours.fileno())
    poller.register(ours.fileno())
    theirs.send(b"x")
    assert poll(poller, WAIT) == [ours.fileno()]


def test_more_events_than_fit_come_with_the_next_polls(poller):
    pairs = [socket.socketpair() for _ in range(100)]
    for ours, theirs in pairs:
        poller.register(ours.fileno())
        theirs.send(b"x")
    found = set()
    deadline = time.monotonic() + WAIT
    while len(found) < 100:
        assert time.monotonic() < deadline
        for fd, _ in poller.poll(WAIT):
            found.add(fd)
            os.read(fd, 1)
    assert found == {ours.fileno() for ours, _ in pairs}
    for ours, theirs in pairs:
        poller.unregister(ours.fileno())
        ours.close()
        theirs.close()


# -- the waker -----------------------------------------------------------------------------


def test_waker_ends_a_poll(poller):
    waker = Waker()
    poller.register(waker.fd)
    waker.wake()
    waker.wake()
    assert poll(poller, WAIT) == [waker.fd]
    assert waker.drain() == b"\0\0"
    assert poll(poller, 0) == []
    assert waker.drain() == b""
    poller.unregister(waker.fd)
    poll(poller, 0)
    waker.close()


def test_waker_never_blocks():
    waker = Waker()
    for _ in range(100_000):
        waker.wake()
    assert select.select([waker.fd], [], [], 0)[0]
    waker.close()


def test_waker_that_is_closed_writes_to_nobody():
    waker = Waker()
    number = waker.write_fd
    waker.close()
    read_end, write_end = os.pipe()
    os.dup2(write_end, number)
    os.set_blocking(read_end, False)
    waker.wake()
    with pytest.raises(BlockingIOError):
        os.read(read_end, 1)
    for fd in {read_end, write_end, number}:
        os.close(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all processes are woken")
def test_connection_wakes_one_of_those_that_share_a_listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        pollers = [make_poller() for _ in range(4)]
        woken = []
        waiting = threading.Barrier(5)

        def wait(poller):
            waiting.wait(WAIT)
            if poller.poll(WAIT):
                woken.append(listener.accept()[0])

        threads = [threading.Thread(target=wait, args=(one,)) for one in pollers]
        for one, thread in zip(pollers, threads, strict=True):
            one.register(listener.fileno(), shared=True)
            thread.start()
        waiting.wait(WAIT)
        for number in range(1, 5):
            with socket.create_connection(listener.getsockname(), WAIT):
                deadline = time.monotonic() + WAIT
                while len(woken) < number:
                    assert time.monotonic() < deadline
                    threading.Event().wait(0.001)
                # a second one that had been woken would have found nothing to accept
                assert sum(thread.is_alive() for thread in threads) >= 4 - number
        for thread in threads:
            thread.join(WAIT)
        for connection in woken:
            connection.close()
        for one in pollers:
            one.close()
        assert len(woken) == 4
