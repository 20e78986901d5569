"""Readiness of many descriptors, for one polling thread at a time.

A descriptor is reported for as long as it is registered and readable. The leader serves inline
and polls again only when done, so it pays no system call for arming; a descriptor is taken out
while a thread that no longer polls owns it (see decision 0003).
"""

from __future__ import annotations

import os
import select
import selectors
import sys
from collections import deque
from typing import Protocol

#: Events fetched in one call; what does not fit comes with the next.
_MAX_EVENTS = 64


class Poller(Protocol):
    """What the engine needs of the system's readiness interface; safe across threads."""

    def register(self, fd: int, *, shared: bool = False) -> None:
        """Watch *fd* for octets, connections or an end of file.

        Args:
            fd: The descriptor.
            shared: Whether other processes watch it too, of which one is enough to be woken.
        """
        ...

    def unregister(self, fd: int) -> None:
        """Forget *fd*; must precede its closing."""
        ...

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait up to *timeout* seconds (None: for ever).

        Returns:
            The ready descriptors, each with what the system says of it, which means nothing here.
        """
        ...

    def close(self) -> None:
        """Let go of the system's resources."""
        ...


def make_poller() -> Poller:
    """Make the best poller that this system has."""
    if sys.platform == "linux":
        return EpollPoller()
    return SelectorPoller()


if sys.platform == "linux":
    #: One connection wakes one process of those that wait in their poll, not all of them.
    _SHARED = select.EPOLLIN | select.EPOLLEXCLUSIVE

    class EpollPoller:
        """Linux: epoll, level-triggered."""

        __slots__ = ("_epoll", "_poll")

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._poll = self._epoll.poll

        def register(self, fd: int, *, shared: bool = False) -> None:
            """Watch *fd*."""
            self._epoll.register(fd, _SHARED if shared else select.EPOLLIN)

        def unregister(self, fd: int) -> None:
            """Forget *fd*."""
            self._epoll.unregister(fd)

        def poll(self, timeout: float | None) -> list[tuple[int, int]]:
            """Wait for ready descriptors."""
            return self._poll(timeout, _MAX_EVENTS)

        def close(self) -> None:
            """Close the epoll descriptor."""
            self._epoll.close()


class SelectorPoller:
    """Everywhere else: the standard library's best selector, woken when its set changes."""

    __slots__ = ("_changes", "_selector", "_waker", "_woken")

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._changes: deque[tuple[bool, int]] = deque()

    def register(self, fd: int, *, shared: bool = False) -> None:  # noqa: ARG002 - Linux's alone
        """Watch *fd* from the next poll on."""
        self._changes.append((True, fd))
        self._wake()

    def unregister(self, fd: int) -> None:
        """Forget *fd*."""
        self._changes.append((False, fd))
        self._wake()

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait for ready descriptors; may come back empty after a change."""
        self._apply()
        ready = [(key.fd, events) for key, events in self._selector.select(timeout)]
        if any(fd == self._woken for fd, _ in ready):
            os.read(self._woken, 4096)
            self._apply()
            watched = self._selector.get_map()
            ready = [one for one in ready if one[0] in watched and one[0] != self._woken]
        return ready

    def close(self) -> None:
        """Close the selector and its pipe."""
        self._selector.close()
        os.close(self._woken)
        os.close(self._waker)

    def _apply(self) -> None:
        """Carry out the changes, oldest first, in the polling thread alone."""
        while self._changes:
            watch, fd = self._changes.popleft()
            if watch and fd not in self._selector.get_map():
                self._selector.register(fd, selectors.EVENT_READ)
            elif not watch and fd in self._selector.get_map():
                self._selector.unregister(fd)

    def _wake(self) -> None:
        try:
            os.write(self._waker, b"\0")
        except BlockingIOError:
            return  # the pipe is full of wake-ups already


class Waker:
    """A pipe that ends a poll; writing to it is all that a signal handler does.

    Attributes:
        fd: The end to register with a poller.
        write_fd: The other end, for `signal.set_wakeup_fd`; -1 once closed.
    """

    __slots__ = ("fd", "write_fd")

    def __init__(self) -> None:
        self.fd, self.write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self.write_fd, False)

    def wake(self) -> None:
        """End the poll, or the next one."""
        try:
            os.write(self.write_fd, b"\0")
        except OSError:
            return  # woken already, or closed at the end

    def drain(self) -> bytes:
        """Take note of all wake-ups so far; gives the signals' numbers among them, and zeros."""
        try:
            return os.read(self.fd, 4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close both ends."""
        # first the number, so that a late call writes to nobody else's descriptor
        write_fd, self.write_fd = self.write_fd, -1
        os.close(self.fd)
        os.close(write_fd)
