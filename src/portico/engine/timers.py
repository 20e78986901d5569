"""When to look at waiting connections: a heap of moments, looked at by the leader alone."""

from __future__ import annotations

import heapq
from itertools import count
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portico.engine.leader import Served

#: Timers up to which nobody looks for dead ones.
_FEW = 256


class Timers:
    """Moments in monotonic seconds, each with a connection, or None for the listeners.

    A connection has one timer that means something, named by its `timer`; its deadline may move
    on meanwhile, so that a request costs no timer. All methods are called under the engine's
    lock.

    Attributes:
        next_at: The earliest moment, `inf` without one; read without the lock.
    """

    __slots__ = ("_heap", "_most", "_sequence", "next_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Served | None]] = []
        self._most = _FEW
        self._sequence = count()
        self.next_at = inf

    def add(self, when: float, connection: Served | None) -> None:
        """Have *connection* looked at *when*."""
        if connection is not None:
            connection.timer = when
        if len(self._heap) > self._most:
            self._forget()
        heapq.heappush(self._heap, (when, next(self._sequence), connection))
        self.next_at = self._heap[0][0]

    def take_due(self, now: float) -> list[Served | None]:
        """Give and forget what is to be looked at by *now*; closed connections are passed over."""
        due: list[Served | None] = []
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, _, connection = heapq.heappop(heap)
            if connection is None:
                due.append(None)
            elif connection.fd >= 0:
                connection.timer = inf
                due.append(connection)
        while heap and not _is_alive(heap[0]):
            heapq.heappop(heap)  # else many connections that are gone would wake an idle process
        self.next_at = heap[0][0] if heap else inf
        return due

    def _forget(self) -> None:
        """Let go of timers that mean nothing any more, and of their connections.

        Connections come and go much faster than their timers: a kept one's lasts an hour.
        """
        self._heap = [timer for timer in self._heap if _is_alive(timer)]
        heapq.heapify(self._heap)
        self._most = 2 * len(self._heap) + _FEW


def _is_alive(timer: tuple[float, int, Served | None]) -> bool:
    """Whether it is the one that its connection, still open, waits for; or the listeners'."""
    when, _, connection = timer
    return connection is None or (connection.fd >= 0 and connection.timer == when)
