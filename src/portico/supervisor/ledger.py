"""What the parent tells on the scoreboard: its workers, its reloads, and what ended workers did."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from portico.engine.scoreboard import Scoreboard
from portico.engine.snapshot import add_counts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.supervisor.child import Child
    from portico.supervisor.generation import Generation

#: Slots on top of two generations of workers: for those that SIGTTIN adds, and that linger.
_SPARE_SLOTS = 32

#: Slots at least, for reloads with more workers: 17 MB of addresses, and memory only where written.
_LEAST_SLOTS = 512

#: Characters of a failed reload's reason.
_MOST_TEXT = 4000


class Ledger:
    """The parent's entry, and what goes into it.

    Args:
        workers: How many are configured.

    Attributes:
        board: The scoreboard; shared with the workers.
        reloads: How many have succeeded.
        failed_reloads: How many have not.
        last_failure: Why the last one has not, unless one has succeeded since.
        crashes: Workers that ended though nobody wanted it.
    """

    __slots__ = (
        "_gone", "_said", "_started", "board", "crashes", "failed_reloads", "last_failure",
        "reloads",
    )  # fmt: skip

    def __init__(self, workers: int) -> None:
        self.board = Scoreboard(max(_LEAST_SLOTS, 2 * workers + _SPARE_SLOTS))
        self.reloads = 0
        self.failed_reloads = 0
        self.last_failure = ""
        self.crashes = 0
        self._started = time.time()
        self._gone: dict[str, Any] = {}
        self._said: dict[str, Any] = {}

    @property
    def most_workers(self) -> int:
        """How many workers a reload may ask for: a worker without a slot would not be seen."""
        return (self.board.slots - _SPARE_SLOTS) // 2

    def fail(self, reason: str) -> None:
        """Take note of a reload that has failed."""
        self.failed_reloads += 1
        self.last_failure = reason[:_MOST_TEXT]

    def succeed(self) -> None:
        """Take note of a reload that has succeeded."""
        self.reloads += 1
        self.last_failure = ""

    def bury(self, slot: int) -> None:
        """Keep what an ended worker had counted."""
        add_counts(self._gone, self.board.read(slot) or {})

    def publish(self, state: str, generation: Generation, children: Iterable[Child]) -> None:
        """Write the entry, if anything in it is new."""
        entry = {
            "pid": os.getpid(),
            "started": self._started,
            "state": state,
            "generation": generation.number,
            "configured": generation.wanted,
            "reloads": self.reloads,
            "failed_reloads": self.failed_reloads,
            "last_failure": self.last_failure,
            "crashes": self.crashes,
            "gone": dict(self._gone),
            "binds": [str(listener.bind) for listener in generation.listeners],
            "application": generation.service.name,
            "children": [
                {
                    "slot": child.slot,
                    "pid": child.pid,
                    "generation": child.generation.number,
                    "state": child.state,
                    "started": child.born,
                }
                for child in children
            ],
        }
        if entry != self._said:
            self._said = entry
            self.board.write(0, entry)
