"""What an engine tells of itself: counts of requests, and those that run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from portico.core.identity import is_id, sent_id
from portico.engine.worker import Tally, make_tallies

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from portico.core.mount import Mounting
    from portico.engine.leader import Served
    from portico.engine.worker import Worker

#: Running requests told of, and characters of each text.
MOST_RUNNING = 64
_MOST_TEXT = 200


class Observer(Protocol):
    """Who is told an engine's figures."""

    def wake(self) -> None:
        """Take note that requests come after a pause; called before the first is served."""
        ...

    def settle(self, number: int | None) -> int:
        """Take note how many connections stay in this process; gives the least of any like it.

        Args:
            number: How many; None if it accepts no more.
        """
        ...

    def observe(self, figures: dict[str, Any]) -> None:
        """Take what `Engine.figures` gives; called by one thread at a time."""
        ...


class Census:
    """The threads of one engine that call the application.

    Each counts in its own tallies without a lock, so nothing is lost to a race. All methods are
    called under the engine's lock.
    """

    __slots__ = ("_own", "_workers")

    def __init__(self) -> None:
        self._workers: dict[Worker, None] = {}  # in the order of their coming
        self._own = make_tallies()  # of threads that have ended, and of answers without one

    def enter(self, worker: Worker) -> None:
        """Take note of a new thread."""
        self._workers[worker] = None

    def leave(self, worker: Worker) -> None:
        """Forget a thread that ends, but not what it has counted."""
        if worker in self._workers:
            del self._workers[worker]
            for name, tally in worker.tallies.items():
                self._own[name].add(tally)

    def count(self, protocol: str, status: int, octets: int, *, aborted: bool) -> None:
        """Count a request that was answered without the application."""
        tally = self._own[protocol]
        tally.requests += 1
        tally.octets += octets
        tally.errors += status >= 500
        tally.aborted += aborted

    def is_settled(self) -> bool:
        """Whether no thread is about to begin or end a request."""
        return all(one.apart is None or one.environ is not None for one in self._workers)

    def served(self) -> list[Served]:
        """Give the connections that threads serve just now."""
        found = []
        for worker in self._workers:
            try:
                found.append(worker.claim[0])
            except IndexError:
                if worker.apart is not None:
                    found.append(worker.apart)
        return found

    def figures(self, now: float) -> dict[str, Any]:
        """Give counts, threads and running requests, as plain JSON values.

        Args:
            now: When the leader has begun its request, if it is in one; monotonic seconds.
        """
        total = Tally()
        protocols = {}
        for name, own in self._own.items():
            tally = Tally()
            tally.add(own)
            for worker in self._workers:
                tally.add(worker.tallies[name])
            if tally.requests:
                protocols[name] = tally.requests
            total.add(tally)
        running = self._running(now)
        return {
            "requests": total.requests,
            "errors": total.errors,
            "aborted": total.aborted,
            "octets": total.octets,
            "threads": len(self._workers),
            "busy": len(running),
            "protocols": protocols,
            "running": running[:MOST_RUNNING],
        }

    def _running(self, now: float) -> list[dict[str, Any]]:
        """Describe the requests that run, the longest first."""
        started = time.time() - time.monotonic()
        found = []
        for worker in self._workers:
            environ = worker.environ
            if environ is not None:
                since = now if worker.claim else worker.since
                found.append(_describe(environ, started + since))
        found.sort(key=lambda one: one["since"])
        return found


def count_repairs(mountings: Iterable[Mounting]) -> dict[str, int]:
    """Add up how often each repair changed something; gates may share a mounting."""
    found: dict[str, int] = {}
    for mounting in {id(one): one for one in mountings}.values():
        for name, times in mounting.counts.items():
            found[name] = found.get(name, 0) + times
    return found


def _describe(environ: Mapping[str, object], since: float) -> dict[str, Any]:
    """Describe a running request whose application may be changing *environ*."""
    name = environ.get("portico.request_id")
    return {
        "method": _text(environ, "REQUEST_METHOD"),
        "target": _text(environ, "REQUEST_URI") or _text(environ, "PATH_INFO"),
        "protocol": _text(environ, "portico.protocol"),
        "peer": _text(environ, "REMOTE_ADDR"),
        "since": round(since, 3),
        "id": str(name) if is_id(name) else sent_id(environ),
    }


def _text(environ: Mapping[str, object], name: str) -> str:
    text = environ.get(name)
    return text[:_MOST_TEXT] if type(text) is str else ""
