"""The thread that takes the token from a stuck leader."""

import threading
import time

import pytest

from engine_harness import WAIT, until
from portico.engine import watchdog as watchdog_module
from portico.engine.watchdog import Watchdog


class Leader:
    def __init__(self):
        self.claim = []


class Engine:
    """As much of an engine as the watchdog looks at; its take-over is recorded."""

    def __init__(self):
        self.turns = 0
        self.leader = Leader()
        self.taken = []
        self.lacking = 0

    def lack_thread(self):
        self.lacking += 1

    def take_over(self, leader, turns):
        if leader.claim:
            leader.claim.pop()
            self.taken.append(turns)


@pytest.fixture
def engine():
    engine = Engine()
    engine.watchdog = Watchdog(engine)
    yield engine
    began = time.monotonic()
    engine.watchdog.stop()
    assert time.monotonic() - began < 0.9
    assert not [one for one in threading.enumerate() if one.name == "portico-watchdog"]


def begin_turn(engine):
    engine.turns += 1
    engine.leader.claim.append(None)
    if not engine.watchdog.awake:
        engine.watchdog.wake()


def test_stuck_leader_loses_the_token(engine):
    began = time.monotonic()
    begin_turn(engine)
    until(lambda: engine.taken, "the take-over")
    assert engine.taken == [1]
    assert time.monotonic() - began >= watchdog_module.INTERVAL


def test_leader_that_goes_on_keeps_the_token(engine, monkeypatch):
    monkeypatch.setattr(watchdog_module, "INTERVAL", 0.05)
    monkeypatch.setattr(watchdog_module, "BUSY_INTERVAL", 0.05)
    deadline = time.monotonic() + 0.5
    begin_turn(engine)
    while time.monotonic() < deadline:
        engine.leader.claim.clear()
        begin_turn(engine)
    engine.leader.claim.clear()
    assert engine.taken == []


def test_it_sleeps_when_idle_and_wakes_again(engine):
    for round_number in range(1, 4):
        begin_turn(engine)
        until(lambda: len(engine.taken) == round_number, "the take-over")  # noqa: B023
        until(lambda: not engine.watchdog.awake, "the sleep")
    assert len([one for one in threading.enumerate() if one.name == "portico-watchdog"]) == 1


def test_it_sleeps_while_all_threads_are_busy(engine):
    engine.leader.claim.append(None)
    engine.turns = 1
    engine.leader, leader = None, engine.leader
    engine.watchdog.wake()
    until(lambda: not engine.watchdog.awake, "the sleep")
    engine.leader = leader
    leader.claim.clear()
    begin_turn(engine)
    until(lambda: engine.taken == [2], "the take-over")


def test_turn_that_begins_as_it_falls_asleep_is_watched(engine):
    """The leader appends, then looks at `awake`; the watchdog clears it, then looks again."""

    class Late:
        """Claims just when the watchdog has decided to sleep, without ringing."""

        looks = 0

        @property
        def claim(self):
            if not engine.watchdog.awake and not claim and not engine.taken:
                engine.turns += 1
                claim.append(None)
            return claim

    claim = []
    engine.leader = Late()
    engine.watchdog.wake()
    until(lambda: engine.taken == [1], "the take-over")


def test_it_looks_less_often_while_turns_come_thick_and_fast(engine, monkeypatch):
    pauses = []
    looked = threading.Event()

    def sleep(seconds):
        pauses.append(seconds)
        engine.turns += 1000 if len(pauses) < 10 else 0
        if len(pauses) == 20:
            looked.set()
        threading.Event().wait(0.0001)

    monkeypatch.setattr(watchdog_module.time, "sleep", sleep)
    engine.watchdog.wake()
    assert looked.wait(WAIT)
    engine.watchdog.stop()
    monkeypatch.undo()
    assert pauses[:2] == [watchdog_module.INTERVAL] * 2
    assert pauses[3:9] == [watchdog_module.BUSY_INTERVAL] * 6
    assert pauses[12:20] == [watchdog_module.INTERVAL] * 8


def test_without_threads_it_does_nothing(engine, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    begin_turn(engine)
    assert engine.watchdog.awake  # and so is not tried again for each request
    assert engine.taken == []
    assert engine.lacking == 1
    assert "slow requests" in engine.watchdog.loss()


def test_stop_before_the_first_wake(engine):
    engine.watchdog.stop()
    assert not engine.watchdog.awake
