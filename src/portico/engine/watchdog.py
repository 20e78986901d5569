"""Takes the token from a leader that is stuck in a request; asleep while there is no work."""

from __future__ import annotations

import _thread
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portico.engine.leader import Engine

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


class Watchdog:
    """One thread that looks at the leader every couple of milliseconds while there is work.

    Attributes:
        awake: Whether it looks; the leader calls `wake` where it does not.
    """

    __slots__ = ("_bell", "_engine", "_over", "_thread", "awake")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._bell = _thread.allocate_lock()
        self._bell.acquire()
        self._over = False
        self._thread: threading.Thread | None = None
        self.awake = False

    def wake(self) -> None:
        """Begin to look; called by the leader as it takes up a request after a pause."""
        self.awake = True
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="portico-watchdog", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # no threads to be had: then there is no follower to hand over to either
            self._thread = thread
        self._ring()

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
            self._look_until_idle()

    def _look_until_idle(self) -> None:
        engine = self._engine
        seen = -1
        idle = 0
        interval = INTERVAL
        while not self._over:
            time.sleep(interval)
            turns = engine.turns
            busy = seen >= 0 and turns - seen > _BUSY_RATE * interval
            interval = BUSY_INTERVAL if busy else INTERVAL
            leader = engine.leader
            if leader is not None and leader.claim:
                idle = 0
                if turns == seen:
                    engine.take_over(leader, turns)
            elif turns != seen:
                idle = 0
            else:
                idle += 1
            seen = turns
            if idle >= _IDLE_LOOKS:
                self.awake = False
                # A turn that began between the look and this line saw `awake` and did not ring.
                leader = engine.leader
                if leader is None or not leader.claim:
                    return
                self.awake = True
                idle = 0
