"""Which requests are slow: an estimate that costs nothing until a request proved slow.

The leader serves inline what is short. What is slow it must hand over before it calls the
application, or every connection waits for the watchdog's next look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What `Pace.guess` says.
SHORT, UNTRIED, SLOW = range(3)

#: A call this long, in seconds, is slow: about two looks of the watchdog.
SLOW_SECONDS = 0.004

#: Targets and paths remembered; a site with more slow ones goes by the level alone.
_MOST_TARGETS = 1024

#: Characters by which a target is known.
_MOST_CHARACTERS = 512

#: Seconds without a slow call after which everything is forgotten.
_FORGET_SECONDS = 5.0

_LEVEL_STEP = 16
_LEVEL_MOST = 1024
_LEVEL_EARLY = 64


class Pace:
    """Learns from finished calls; used by many threads, each statement atomic enough.

    Attributes:
        active: Whether calls need to be timed and asked about; False while all are short.
        fast_at: When a target known to be fast was last served, on the monotonic clock, seconds.
    """

    __slots__ = ("_known", "_level", "_slow_at", "active", "fast_at")

    def __init__(self) -> None:
        self.active = False
        self.fast_at = 0.0
        self._level = 0
        self._slow_at = 0.0
        self._known: dict[str, float] = {}

    def guess(self, target: str) -> int:
        """Say whether a request for *target* will be SHORT or SLOW, or is UNTRIED.

        Known by its whole target first, then by its path. An unknown one is SHORT as long as
        most requests are.
        """
        seconds = self._known.get(target)
        if seconds is None:
            seconds = self._known.get(target.partition("?")[0])
            if seconds is None:
                return UNTRIED if self._level >= _LEVEL_EARLY else SHORT
        return SLOW if seconds >= SLOW_SECONDS else SHORT

    def suspect(self, now: float) -> None:
        """Begin to time calls: the watchdog met a slow one."""
        self._slow_at = now
        self.active = True

    def note(self, target: str, seconds: float, now: float) -> None:
        """Learn that a request for *target* took *seconds*."""
        known = self._known.get(target)
        self._remember(target, seconds)
        path, mark, _ = target.partition("?")
        if mark:
            self._remember(path, seconds)
        if seconds >= SLOW_SECONDS:
            self._level = min(self._level + _LEVEL_STEP, _LEVEL_MOST)
            self._slow_at = now
            self.active = True
            return
        if known is not None and known < SLOW_SECONDS:
            self.fast_at = now
        level = self._level
        if level:  # from what was looked at: two threads must not take it below nothing
            self._level = level - 1
        if now - self._slow_at > _FORGET_SECONDS:
            self._level = 0
            self.active = False
            self._known.clear()

    def _remember(self, key: str, seconds: float) -> None:
        known = self._known.get(key)
        if known is not None:
            # A busy machine delays short calls too; one of them must not look like a slow one,
            # so an estimate grows by three quarters at most.
            self._known[key] = known + (min(seconds, 4 * known + 1e-4) - known) * 0.25
        else:
            if len(self._known) >= _MOST_TARGETS:
                self._known.clear()
            self._known[key] = seconds


def target_of(environ: Mapping[str, str]) -> str:
    """Give what a request is known by: its target as the client sent it, or its beginning."""
    return (environ.get("REQUEST_URI") or environ.get("PATH_INFO", ""))[:_MOST_CHARACTERS]
