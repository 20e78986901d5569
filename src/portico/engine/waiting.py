"""What waits in the poller, and until when; shared by who accepts and who serves."""

from __future__ import annotations

import threading
from math import inf
from typing import TYPE_CHECKING

from portico.engine.connection import IDLE
from portico.engine.gate import Gate
from portico.engine.poller import Waker, make_poller
from portico.engine.timers import Timers

if TYPE_CHECKING:
    from portico.engine.leader import Served


class Waiting:
    """The poller with what is registered there, the timers, and the pipe that ends a poll.

    Methods are called under `lock`, those excepted that say otherwise. The leader alone polls.

    Attributes:
        lock: The engine's: everything off the fast path happens under it.
        items: What waits, by its descriptor; the leader reads it without the lock.
        poller: Watches them all.
        timers: When to look at which connection.
        waker: Ends a poll; any thread may use it without the lock.
        poll_until: When the poll that goes on ends by itself, monotonic seconds; 0 while nobody
            polls. Who adds an earlier timer wakes the poll.
    """

    __slots__ = ("items", "lock", "poll_until", "poller", "timers", "waker")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items: dict[int, Served | Gate | Waker] = {}
        self.poller = make_poller()
        self.timers = Timers()
        self.waker = Waker()
        self.poll_until = 0.0
        self.items[self.waker.fd] = self.waker
        self.poller.register(self.waker.fd)

    def watch(self, connection: Served) -> None:
        """Have the poller watch a connection, and look at it when its time is over."""
        if connection.deadline < connection.timer:
            self.add_timer(connection.deadline, connection)
        if not connection.waiting:
            connection.waiting = True
            self.items[connection.fd] = connection
            # last: from here on the leader may serve it
            self.poller.register(connection.fd)

    def unwatch(self, connection: Served) -> None:
        """Take a connection from the poller, if it is there."""
        if connection.waiting:
            connection.waiting = False
            del self.items[connection.fd]
            self.poller.unregister(connection.fd)

    def add_timer(self, when: float, connection: Served | None) -> None:
        """Look at *connection* (None: at the listeners) at *when*."""
        self.timers.add(when, connection)
        if when < self.poll_until:
            self.waker.wake()

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait up to *timeout* seconds (None: for ever); without the lock, in the leader alone."""
        ready = self.poller.poll(timeout)
        self.poll_until = 0.0  # until the next poll, which looks at the timers itself
        return ready

    def connections(self) -> list[Served]:
        """Give the connections that wait; the lock is not needed for a moment's picture."""
        return [item for item in list(self.items.values()) if not isinstance(item, (Gate, Waker))]

    def idle(self) -> list[Served]:
        """Give those of them between two requests."""
        return [item for item in self.connections() if item.phase == IDLE]

    def close(self) -> None:
        """Let go of the system's resources."""
        self.waker.close()
        self.poller.close()
        self.items.clear()
        self.timers.next_at = inf
