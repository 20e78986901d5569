"""What the engine knows of one of its threads."""

from __future__ import annotations

import _thread
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portico.engine.call import Call
    from portico.engine.connection import Connection
    from portico.engine.leader import Served


class Worker:
    """One thread of the engine.

    Attributes:
        claim: Holds the connection while this thread serves it as the leader; whoever pops it
            decides over the token.
        wake: Held; released to wake the thread while it follows.
        job: A parked connection handed over with the wake-up.
        call: The request that it runs, where limits of time are set.
        until: When its waits for a peer end at the latest, monotonic seconds; 0 for a thread that
            never waits for one.
    """

    __slots__ = ("call", "claim", "job", "until", "wake")

    def __init__(self) -> None:
        self.claim: list[Served] = []
        self.wake = _thread.allocate_lock()
        self.wake.acquire()
        self.job: Connection | None = None
        self.call: Call | None = None
        self.until = inf
