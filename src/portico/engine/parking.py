"""Requests that wait for a thread: decoded, and not yet given to the application."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.engine.connection import Connection

#: Seconds for which a fast request keeps one thread free of slow ones, and after which a slow
#: one has waited long.
RESERVE_SECONDS = 1.0


class Parking:
    """Two queues, oldest first: requests known to be slow, and those never tried.

    All methods but `is_reserved` are called under the engine's lock.

    Attributes:
        count: How many wait; the leader reads it at each turn, without the lock.
    """

    __slots__ = ("_overdue_at", "_slow", "_untried", "count")

    def __init__(self) -> None:
        self._slow: deque[tuple[float, Connection]] = deque()
        self._untried: deque[Connection] = deque()
        self._overdue_at = 0.0
        self.count = 0

    def __iter__(self) -> Iterator[Connection]:
        yield from (connection for _, connection in self._slow)
        yield from self._untried

    def add(self, connection: Connection, now: float) -> None:
        """Let *connection* wait, behind those of its kind."""
        if connection.untried:
            self._untried.append(connection)
        else:
            self._slow.append((now, connection))
        self.count += 1

    def take(self, now: float) -> Connection:
        """Choose one, which must be there: one that may be short before one that is slow.

        A slow one that has waited long goes before both.
        """
        self.count -= 1
        if self._untried and not (self._slow and self._slow[0][0] < now - RESERVE_SECONDS):
            return self._untried.popleft()
        return self._slow.popleft()[1]

    def take_last(self, now: float) -> Connection:
        """The same for the last free thread, which takes note of it for `is_reserved`."""
        self._overdue_at = now
        return self.take(now)

    def is_reserved(self, fast_at: float, now: float) -> bool:
        """Whether the last free thread stays free for fast requests.

        It does while there are such, but lets one slow request a second pass where the oldest
        has waited that long: the other threads may be in requests that never end.

        Args:
            fast_at: When a fast request was last served, monotonic seconds.
            now: The same clock.
        """
        if self._untried or fast_at <= now - RESERVE_SECONDS:
            return False
        try:
            oldest, _ = self._slow[0]
        except IndexError:  # taken by another thread just now
            return True
        return oldest > now - RESERVE_SECONDS or self._overdue_at > now - RESERVE_SECONDS

    def take_late(self, now: float) -> list[Connection]:
        """Give and forget those whose deadline has come, oldest first."""
        late: list[Connection] = []
        slow, untried = self._slow, self._untried
        while slow and slow[0][1].deadline <= now:
            late.append(slow.popleft()[1])
        while untried and untried[0].deadline <= now:
            late.append(untried.popleft())
        self.count -= len(late)
        return late

    def late_at(self) -> float:
        """Give the earliest deadline, `inf` where nothing waits."""
        slow = self._slow[0][1].deadline if self._slow else inf
        return min(slow, self._untried[0].deadline) if self._untried else slow

    def clear(self) -> list[Connection]:
        """Give all and forget them."""
        everyone = list(self)
        self._slow.clear()
        self._untried.clear()
        self.count = 0
        return everyone
