"""What a process with one thread waits for: descriptors, moments, signals."""

from __future__ import annotations

import heapq
import os
import select
import signal
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType


class Timer:
    """A moment at which something is done, unless it is cancelled before."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        """Do nothing when the moment comes."""
        self.action = None


class Loop:
    """Calls what is due, one thing after the other; without a timer it sleeps for good.

    Args:
        signals: Number -> what to do; done between two other things, never in the midst of one.
    """

    __slots__ = (
        "_actions", "_before", "_came", "_poll", "_ready", "_sequence", "_timers", "_wake",
        "_woken",
    )  # fmt: skip

    def __init__(self, signals: Mapping[int, Callable[[], object]]) -> None:
        self._actions = dict(signals)
        self._came: deque[int] = deque()
        self._poll = select.poll()
        self._ready: dict[int, Callable[[], object]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._sequence = count()
        self._woken, self._wake = os.pipe()
        for fd in (self._woken, self._wake):
            os.set_blocking(fd, False)
        self.watch(self._woken, self._drain)
        self._before = {number: signal.signal(number, self._take) for number in signals}
        # a handler runs before the next step of the program, which may be a long wait
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def watch(self, fd: int, action: Callable[[], object]) -> None:
        """Call *action* whenever *fd* is readable, or at its end."""
        self._ready[fd] = action
        self._poll.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        """Watch *fd* no more, if it is watched; must precede its closing."""
        if self._ready.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def after(self, seconds: float, action: Callable[[], object]) -> Timer:
        """Call *action* once, in *seconds*."""
        timer = Timer(action)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._sequence), timer))
        return timer

    def step(self) -> None:
        """Wait until something is due, and do it."""
        self._forget_cancelled()
        timeout = None
        if self._came:
            timeout = 0.0
        elif self._timers:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) * 1000
        for fd, _ in self._poll.poll(timeout):
            action = self._ready.get(fd)  # which an earlier one may have taken away
            if action is not None:
                action()
        while self._came:
            self._actions[self._came.popleft()]()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heapq.heappop(self._timers)
            if timer.action is not None:
                timer.action()

    def leave(self) -> None:
        """Let go of all; in a forked process, whose signals are set anew by what it becomes."""
        signal.set_wakeup_fd(-1)
        os.close(self._woken)
        os.close(self._wake)

    def close(self) -> None:
        """Let go of all, and let signals do what they did before."""
        self.leave()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _forget_cancelled(self) -> None:
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)

    def _take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's interface
        self._came.append(number)

    def _drain(self) -> None:
        os.read(self._woken, 4096)
