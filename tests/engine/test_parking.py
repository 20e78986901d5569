"""Requests that wait for a thread: who is next."""

import pytest

from portico.engine.parking import RESERVE_SECONDS, Parking


class Parked:
    def __init__(self, name, *, untried=False):
        self.name = name
        self.untried = untried

    def __repr__(self):
        return self.name


@pytest.fixture
def parking():
    return Parking()


def test_slow_ones_go_in_order(parking):
    slow = [Parked(name) for name in "abc"]
    for number, one in enumerate(slow):
        parking.add(one, float(number))
    assert parking.count == 3
    assert [parking.take(3.0) for _ in slow] == slow
    assert not parking.count


def test_untried_ones_go_before_slow_ones(parking):
    parking.add(slow := Parked("slow"), 10.0)
    parking.add(untried := Parked("untried", untried=True), 10.1)
    assert [parking.take(10.2), parking.take(10.2)] == [untried, slow]


def test_slow_one_that_has_waited_long_goes_before_both(parking):
    parking.add(slow := Parked("slow"), 10.0)
    parking.add(untried := Parked("untried", untried=True), 10.1)
    now = 10.1 + RESERVE_SECONDS
    assert [parking.take(now), parking.take(now)] == [slow, untried]


def test_last_thread_stays_free_while_fast_requests_come(parking):
    parking.add(Parked("slow"), 10.0)
    assert parking.is_reserved(9.9, 10.0)
    assert not parking.is_reserved(10.0 - RESERVE_SECONDS, 10.0)


def test_last_thread_takes_untried_ones_at_once(parking):
    parking.add(Parked("untried", untried=True), 10.0)
    assert not parking.is_reserved(10.0, 10.0)


def test_last_thread_lets_one_slow_one_a_second_pass(parking):
    for name in "abc":
        parking.add(Parked(name), 10.0)
    now = 10.1 + RESERVE_SECONDS
    assert not parking.is_reserved(now, now)
    assert parking.take_last(now).name == "a"
    assert parking.is_reserved(now, now + 0.1)
    now += 0.1 + RESERVE_SECONDS
    assert not parking.is_reserved(now, now)


def test_reserved_where_the_last_one_was_just_taken(parking):
    assert parking.is_reserved(10.0, 10.0)


def test_clear_gives_all(parking):
    parking.add(slow := Parked("slow"), 10.0)
    parking.add(untried := Parked("untried", untried=True), 10.0)
    assert parking.clear() == [slow, untried]
    assert parking.count == 0
