"""Tells when one more worker is wanted: when connections wait that no worker takes."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from portico.supervisor.loop import Loop, Timer

#: Seconds that the workers have to take what has come; if something still waits then, they are
#: too few. It bounds as well how often the parent looks while they are busy.
PATIENCE_SECONDS = 0.1


class Demand:
    """Watches the listeners beside the workers.

    Args:
        loop: The parent's.
        urgent: Whether nobody is there who could take a connection.
        start: Starts a worker; called again when one more is wanted, and `resume` was called
            since.
    """

    __slots__ = ("_fds", "_loop", "_start", "_timer", "_urgent", "_watching")

    def __init__(self, loop: Loop, urgent: Callable[[], bool], start: Callable[[], object]) -> None:
        self._loop = loop
        self._urgent = urgent
        self._start = start
        self._fds: tuple[int, ...] = ()
        self._watching = False
        self._timer: Timer | None = None

    def resume(self, fds: Iterable[int]) -> None:
        """Watch *fds* from now on, which may be others than before."""
        self.stop()
        self._fds = tuple(fds)
        self._watching = True
        for fd in self._fds:
            self._loop.watch(fd, self._wake)

    def stop(self) -> None:
        """Watch nothing; must precede the closing of what is watched."""
        if self._watching:
            self._watching = False
            for fd in self._fds:
                self._loop.unwatch(fd)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        """Something waits: for a worker to be started, or just for one to take it."""
        self.stop()
        if self._urgent():
            self._start()
        else:
            self._timer = self._loop.after(PATIENCE_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        poll = select.poll()
        for fd in self._fds:
            poll.register(fd, select.POLLIN)
        if poll.poll(0):
            self._start()
        else:
            self.resume(self._fds)
