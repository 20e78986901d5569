"""When waiting connections are looked at."""

import gc
import weakref
from math import inf

import pytest

from portico.engine.timers import Timers


class Waiting:
    def __init__(self):
        self.fd = 5
        self.timer = inf


@pytest.fixture
def timers():
    return Timers()


def test_earliest_is_told(timers):
    assert timers.next_at == inf
    timers.add(5.0, Waiting())
    timers.add(3.0, None)
    timers.add(4.0, Waiting())
    assert timers.next_at == 3.0


def test_due_ones_are_given_in_order_and_once(timers):
    waiting = [Waiting() for _ in range(3)]
    for when, one in zip((3.0, 1.0, 2.0), waiting, strict=True):
        timers.add(when, one)
        assert one.timer == when
    timers.add(1.5, None)
    assert timers.take_due(0.5) == []
    assert timers.take_due(2.0) == [waiting[1], None, waiting[2]]
    assert [one.timer for one in waiting] == [3.0, inf, inf]
    assert timers.next_at == 3.0
    assert timers.take_due(9.0) == [waiting[0]]
    assert timers.next_at == inf


def test_equal_moments_compare_no_connections(timers):
    waiting = [Waiting() for _ in range(5)]
    for one in waiting:
        timers.add(1.0, one)
    assert timers.take_due(1.0) == waiting


def test_closed_connections_are_passed_over(timers):
    gone = Waiting()
    timers.add(1.0, gone)
    gone.fd = -1
    assert timers.take_due(1.0) == []


def test_closed_connections_are_let_go_of(timers):
    """A kept connection's timer lasts an hour; connections come and go meanwhile."""
    kept = [Waiting() for _ in range(100)]
    for one in kept:
        timers.add(3600.0, one)
    references = []
    for _ in range(20_000):
        gone = Waiting()
        timers.add(3600.0, gone)
        gone.fd = -1
        references.append(weakref.ref(gone))
    del gone
    gc.collect()
    assert sum(reference() is not None for reference in references) < 1000
    assert timers.take_due(4000.0) == kept


def test_timers_that_mean_nothing_any_more_are_let_go_of(timers):
    one = Waiting()
    for number in range(20_000):
        timers.add(10_000.0 - number / 10, one)
    assert len(timers._heap) < 1000
    assert timers.take_due(one.timer)[0] is one


def test_many_connections_that_are_gone_wake_a_process_once(timers):
    gone = [Waiting() for _ in range(20)]
    for number, one in enumerate(gone):
        timers.add(1.0 + number / 10, one)
        one.fd = -1
    kept = Waiting()
    timers.add(60.0, kept)
    assert timers.take_due(1.0) == []
    assert timers.next_at == 60.0
