"""What a worker tells while it serves: its figures to everybody, and to its parent when it is worn.

Called by the engine's watchdog, about every 0.1 seconds while there is work: an idle worker says
nothing and is not woken for it.
"""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from portico.supervisor.child import BUSY, IDLE, WORN

if TYPE_CHECKING:
    from portico.config.settings import Settings
    from portico.engine.leader import Engine
    from portico.engine.scoreboard import Scoreboard
    from portico.supervisor.child import Mouthpiece


#: Figures that are 0 while a worker has nothing to do.
_OCCUPIED = ("busy", "connections", "waiting")


class Reporter:
    """An engine's `Observer` for one worker.

    Args:
        board: Where the figures go.
        slot: The worker's place there.
        settings: When a worker is worn.
        mouthpiece: Where the parent is told so, once.

    Attributes:
        engine: Whose figures they are.
    """

    __slots__ = (
        "_board", "_is_told", "_most_memory", "_most_requests", "_mouthpiece", "_settings", "_slot",
        "_started", "engine",
    )  # fmt: skip

    def __init__(
        self, board: Scoreboard, slot: int, settings: Settings, mouthpiece: Mouthpiece
    ) -> None:
        self.engine: Engine | None = None
        self._board = board
        self._slot = slot
        self._settings = settings
        self._mouthpiece = mouthpiece
        self._started = time.time()
        self._is_told = False
        jitter = 1 + settings.recycle_jitter / 100 * random.random()  # noqa: S311 - no secret
        self._most_requests = settings.max_requests * jitter
        self._most_memory = settings.max_memory

    def wake(self) -> None:
        """Tell the parent that requests come; only it can end a process that is stuck in C code."""
        if self._settings.timeout:
            self._mouthpiece.tell(BUSY)

    def settle(self, number: int | None) -> int:
        """Tell how many connections stay here, None for no more; gives the least of any worker."""
        self._board.count_staying(self._slot, number)
        return self._board.least_staying()

    def observe(self, figures: dict[str, Any]) -> None:
        """Publish the engine's figures."""
        rss = resident_bytes()
        self._board.write(
            self._slot,
            {
                **figures,
                "pid": os.getpid(),
                "started": self._started,
                "published": time.time(),
                "rss": rss,
            },
        )
        if self._settings.on_demand and not any(figures[name] for name in _OCCUPIED):
            self._mouthpiece.tell(IDLE)
        reason = "" if self._is_told else self._why_worn(figures["requests"], rss)
        if reason:
            self._is_told = True
            self._mouthpiece.tell(WORN, reason)

    def _why_worn(self, requests: int, rss: int) -> str:
        if self.engine is not None and self.engine.wants_recycling:
            return "a request was interrupted"
        if self._most_requests and requests >= self._most_requests:
            return f"{requests} requests (max_requests)"
        if self._most_memory and rss > self._most_memory:
            return f"{rss} bytes of memory (max_memory)"
        return ""


def resident_bytes() -> int:
    """Give this process's resident memory, or the most it ever was where only that is known."""
    with suppress(OSError, ValueError), open("/proc/self/statm", "rb") as file:  # noqa: PTH123
        return int(file.read(64).split()[1]) * os.sysconf("SC_PAGESIZE")
    import resource  # noqa: PLC0415 - where there is no /proc

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
