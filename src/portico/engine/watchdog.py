"""Takes the token from a leader that is stuck in a request; asleep while there is no work.

It is also who lets the engine tell its figures: no other thread has time for that.
"""

from __future__ import annotations

import _thread
import logging
import threading
import time
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.engine.leader import Engine

log = logging.getLogger("portico")

#: Seconds between two looks. A leader is taken for stuck when a whole interval saw no turn end,
#: so a slow request holds the others up for one to two of these.
INTERVAL = 0.002

#: The same while short requests come thick and fast. Each look wants the interpreter's lock, and
#: on a busy machine the leader waits until the watchdog has been given a processor: looking every
#: 2 ms answered 17,800 requests/s where every 10 ms answered 27,200, and no watchdog 27,600.
BUSY_INTERVAL = 0.010

#: Turns a second that count as thick and fast.
_BUSY_RATE = 1000

#: Looks without work before the watchdog sleeps: a tenth of a second.
_IDLE_LOOKS = 50

#: Seconds between two moments at which the figures are told; a look's, where that is all.
TELLING_INTERVAL = 0.1

#: Seconds between two lines that say that they cannot be.
_FAILURE_SECONDS = 60.0


class Watchdog:
    """One thread that looks at the leader every couple of milliseconds while there is work.

    Args:
        engine: Whose leader.
        tell: Called every now and then while there is work, and once more behind it.
        wake: Called before there is work after a pause, by the thread that takes it up.
        alone: Whether there is no other thread that could take the token, so that all there is to
            do is to tell.

    Attributes:
        awake: Whether it looks; the leader calls `wake` where it does not.
    """

    __slots__ = (
        "_alone", "_bell", "_engine", "_failure_told", "_over", "_starting", "_tell", "_tell_at",
        "_thread", "_wake", "awake",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        tell: Callable[[], None] | None = None,
        wake: Callable[[], None] | None = None,
        *,
        alone: bool = False,
    ) -> None:
        self._engine = engine
        self._tell = tell
        self._wake = wake
        self._tell_at = 0.0
        self._failure_told = -inf
        self._alone = alone
        self._starting = _thread.allocate_lock()
        self._bell = _thread.allocate_lock()
        self._bell.acquire()
        self._over = False
        self._thread: threading.Thread | None = None
        self.awake = False

    def wake(self) -> None:
        """Begin to look; called by the leader as it takes up a request after a pause."""
        self.awake = True
        if self._wake is not None:
            self._wake()
        with self._starting:
            if self._thread is None and not self._over:
                try:
                    thread = threading.Thread(
                        target=self._run, name="portico-watchdog", daemon=True
                    )
                    thread.start()
                except (RuntimeError, MemoryError):
                    # stays awake, so that it is not tried again with each request; there is no
                    # follower to hand over to either
                    self._engine.lack_thread()
                    return
                self._thread = thread
        self._ring()

    def loss(self) -> str:
        """Say what does not work as long as the thread cannot be had; empty if it runs."""
        if self._thread is not None or self._over:
            return ""
        lost = "; status and figures stay as they are" if self._tell is not None else ""
        return lost if self._alone else f"; slow requests hold the others up{lost}"

    def hear(self) -> None:
        """Take note, from any thread, that figures have changed outside the leader's turns."""
        if self._tell is not None and not self.awake:
            self.wake()

    def stop(self) -> None:
        """End the thread and wait for it, a look's time at most."""
        self._over = True
        if self._thread is not None:
            self._ring()
            self._thread.join(1.0)

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            return  # rung already

    def _run(self) -> None:
        while not self._over:
            self._bell.acquire()
            while True:
                try:
                    self._look_until_idle()
                except MemoryError:  # some thread takes all there is
                    time.sleep(TELLING_INTERVAL)
                else:
                    break

    def _look_until_idle(self) -> None:
        engine = self._engine
        alone = self._alone
        seen = -1
        idle = 0
        interval = TELLING_INTERVAL if alone else INTERVAL
        while not self._over:
            self._pause(interval)
            turns = engine.turns
            if not alone:
                busy = seen >= 0 and turns - seen > _BUSY_RATE * interval
                interval = BUSY_INTERVAL if busy else INTERVAL
            leader = engine.leader
            if leader is not None and leader.claim:
                idle = 0
                if turns == seen and not alone:
                    engine.take_over(leader, turns)
            elif turns != seen:
                idle = 0
            else:
                idle += 1
            seen = turns
            if self._tell is not None:
                self._tell_in_time()
            if idle >= _IDLE_LOOKS or (alone and idle):
                self.awake = False
                # A turn that began between the look and this line saw `awake` and did not ring.
                leader = engine.leader
                if (leader is None or not leader.claim) and self._is_told():
                    return
                self.awake = True
                idle = 0

    def _pause(self, seconds: float) -> None:
        """Wait until the next look; a long wait ends with the engine."""
        if self._alone:
            self._bell.acquire(timeout=seconds)
        else:
            time.sleep(seconds)  # cheaper, and `stop` can wait for it

    # -- telling ---------------------------------------------------------------------------

    def _tell_in_time(self) -> None:
        """Tell the figures if it is time to."""
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELLING_INTERVAL
            self.tell()

    def _is_told(self) -> bool:
        """Tell the last figures before the sleep; False where they are about to change.

        `awake` is False by now, so who changes them from here on rings.
        """
        if self._tell is None:
            return True
        if not self._engine.is_quiet():
            return False
        self.tell()
        return True

    def tell(self) -> None:
        """Tell the figures now, if somebody wants them."""
        if self._tell is None:
            return
        try:
            self._tell()
        except Exception:
            # what is told must not end the watch
            now = time.monotonic()
            if now - self._failure_told >= _FAILURE_SECONDS:
                self._failure_told = now
                log.exception("cannot tell the figures")
