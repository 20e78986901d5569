"""The rule for Python without the global interpreter lock: more requests run at the same time.

With the lock, one thread runs Python code at a time, and a handover is pure loss for a request
that is short. Without it a handover lets another core begin with the next request, and pays as
soon as the call takes much longer than the handover. So the leader gives the token away before
such a call if a thread is free, and goes on as ever where it is shorter (decision 0017).
"""

from __future__ import annotations

import _thread
import os
import sys

from portico.engine.pace import PARALLEL, SHORT, Pace

#: A call this long, in seconds, is worth a handover where another core can run meanwhile.
PARALLEL_SECONDS = 0.000_2

#: The share of each call in the mean of all.
_SHARE = 1 / 16

#: Seconds of one call that the mean takes note of: one that sleeps must not stand for hundreds.
_MOST_SECONDS = 10 * PARALLEL_SECONDS


#: What adds one to an eventfd.
_ONE = (1).to_bytes(8, sys.byteorder)


def lacks_gil() -> bool:
    """Whether threads run Python code at the same time, now.

    An extension module that needs the lock brings it back for good when it is imported.
    """
    is_enabled = getattr(sys, "_is_gil_enabled", None)
    return is_enabled is not None and not is_enabled()


def make_pace() -> Pace:
    """Make what tells short requests from others, as this interpreter needs it."""
    return ParallelPace() if lacks_gil() else Pace()


class Wake:
    """A lock, held at first, by which one thread wakes another: an eventfd of Linux.

    Without the interpreter's lock, a thread that waits for one of CPython's locks first yields its
    processor forty times: a handover cost 40 µs where this costs 3 (3.13).
    """

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = os.eventfd(0)

    def acquire(self) -> None:
        """Wait until it is released, and hold it again."""
        os.read(self._fd, 8)

    def release(self) -> None:
        """Let the thread that waits go on, or the next that will."""
        os.write(self._fd, _ONE)

    def __del__(self) -> None:
        os.close(self._fd)


def make_wake() -> Wake | _thread.LockType:
    """Make what a thread waits for while it follows; held."""
    if lacks_gil() and hasattr(os, "eventfd"):
        return Wake()
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


class ParallelPace(Pace):
    """Times all calls, to know which are worth a handover; the plain rule once the lock is back."""

    __slots__ = ("_mean",)

    def __init__(self) -> None:
        super().__init__()
        self.active = True
        self._mean = 0.0

    def guess(self, target: str) -> int:
        """Say also whether a request that is not slow is worth a handover: PARALLEL.

        One whose target is unknown is taken for as long as requests are on the average.
        """
        guess = super().guess(target)
        if guess != SHORT:
            return guess
        seconds = self._known.get(target)
        if seconds is None:
            seconds = self._known.get(target.partition("?")[0], self._mean)
        return PARALLEL if seconds >= PARALLEL_SECONDS and lacks_gil() else SHORT

    def note(self, target: str, seconds: float, now: float) -> None:
        """Learn that a request for *target* took *seconds*."""
        super().note(target, seconds, now)
        self._mean += (min(seconds, _MOST_SECONDS) - self._mean) * _SHARE

    def _forget(self) -> None:
        """Keep what is known of short calls, as it is needed all the time."""
        if lacks_gil():
            self._level = 0
        else:
            super()._forget()
