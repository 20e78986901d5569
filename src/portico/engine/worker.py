"""What the engine knows of one of its threads."""

from __future__ import annotations

import _thread
from math import inf
from typing import TYPE_CHECKING, Any

from portico.codecs import AUTO, PROTOCOLS

if TYPE_CHECKING:
    from portico.engine.call import Call
    from portico.engine.connection import Connection
    from portico.engine.leader import Served


class Tally:
    """Counts of requests that are done.

    Attributes:
        requests: All of them.
        errors: Those with a status of 500 and more.
        aborted: Those that the client or the web server gave up (499).
        octets: Octets of response bodies.
    """

    __slots__ = ("aborted", "errors", "octets", "requests")

    def __init__(self) -> None:
        self.requests = self.errors = self.aborted = self.octets = 0

    def add(self, other: Tally) -> None:
        """Count as well what *other* has counted."""
        self.requests += other.requests
        self.errors += other.errors
        self.aborted += other.aborted
        self.octets += other.octets


def make_tallies() -> dict[str, Tally]:
    """Make a tally for each protocol, by its name."""
    return {name: Tally() for name in (*PROTOCOLS.values(), AUTO)}


class Worker:
    """One thread of the engine.

    Attributes:
        claim: Holds the connection while this thread serves it as the leader; whoever pops it
            decides over the token.
        apart: The connection that it serves without the token.
        wake: Held; released to wake the thread while it follows.
        job: A parked connection handed over with the wake-up.
        call: The request that it runs, where limits of time are set.
        until: When its waits for a peer end at the latest, monotonic seconds; 0 for a thread that
            never waits for one.
        environ: Of the request that it runs; None between requests.
        since: Without the token: when that began, monotonic seconds.
        tallies: What it has counted, by protocol; written by this thread alone.
    """

    __slots__ = (
        "apart", "call", "claim", "environ", "job", "since", "tallies", "until", "wake",
    )  # fmt: skip

    def __init__(self) -> None:
        self.claim: list[Served] = []
        self.apart: Served | None = None
        self.wake = _thread.allocate_lock()
        self.wake.acquire()
        self.job: Connection | None = None
        self.call: Call | None = None
        self.until = inf
        self.environ: dict[str, Any] | None = None
        self.since = 0.0
        self.tallies = make_tallies()

    def step_aside(self, connection: Served, since: float) -> None:
        """Go on with *connection* without the token, in a request that began at *since*."""
        self.apart = connection
        self.since = since
