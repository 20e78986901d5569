"""What the parent knows of one worker, and how that worker talks to it.

A worker tells its parent what happens to it by lines of JSON in a pipe; the parent tells it what
to do by signals, and by a word in shared memory that says how to take them.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portico.supervisor.generation import Generation

#: States of a worker. It loads, then serves; retiring, it takes nothing new.
STARTING, SERVING, RETIRING = "starting", "serving", "retiring"

#: Kinds of messages: it serves; it cannot serve, and why; it has been told to leave; it had better
#: be replaced, and why; requests come after a pause, and they have a limit of time; it has neither
#: request nor connection; a file of its code has changed.
READY, FAILED, LEAVING, WORN, BUSY, IDLE = "ready", "failed", "leaving", "worn", "busy", "idle"
CHANGED = "changed"

#: A template's: it has forked a worker (slot and process id); one has ended (id and status).
FORKED, ENDED = "forked", "ended"

#: How workers are to take SIGTERM: others go on, nobody goes on, nobody goes on and none waits.
RETIRE, STOP, STOP_AT_ONCE = range(3)

#: Characters of a message's text: with its escapes it fits into an empty pipe.
_MOST_TEXT = 8000

_READ_BYTES = 65_536


class Orders:
    """How to take SIGTERM: one octet of shared memory, written by the parent alone."""

    __slots__ = ("_shared",)

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def set(self, order: int) -> None:
        """Say that SIGTERM means *order* from now on."""
        self._shared[0] = order

    def get(self) -> int:
        """Give what SIGTERM means."""
        return self._shared[0]


class Mouthpiece:
    """A worker's end of the pipe; owns it.

    Args:
        fd: The pipe's writing end.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)

    def tell(self, kind: str, text: str = "") -> None:
        """Send a message; nothing happens if the parent is gone. A signal handler may call it."""
        line = json.dumps([kind, text[:_MOST_TEXT]]) + "\n"
        with suppress(OSError):
            os.write(self._fd, line.encode())


class Child:
    """One worker process, seen by its parent.

    Attributes:
        pid: Its process; 0 until its template has forked it.
        slot: Its place in the scoreboard; 1 for the first.
        generation: What it serves.
        fd: The pipe in which it talks; -1 once it has ended that.
        started: When it was started, monotonic seconds.
        born: The same in seconds since the epoch.
        state: `STARTING`, `SERVING` or `RETIRING`.
        owner: Number of the user that it must belong to for a signal of ours, where its id is not
            known from the system but from a process of that user; None for any.
        replaces: The worker that retires once this one serves.
        busy_at: When it said last that requests come, seconds since the epoch; 0 while nobody
            looks after it.
        idle_at: When it last had nothing to do, monotonic seconds; 0 if nobody waits for it to
            leave.
        failure: Why it cannot serve, as it said itself; or why it was killed.
    """

    __slots__ = (
        "_rest", "born", "busy_at", "failure", "fd", "generation", "idle_at", "owner", "pid",
        "replaces", "slot", "started", "state",
    )  # fmt: skip

    def __init__(self, slot: int, generation: Generation, fd: int) -> None:
        self.pid = 0
        self.slot = slot
        self.generation = generation
        self.fd = fd
        self.started = time.monotonic()
        self.born = time.time()
        self.state = STARTING
        self.owner: int | None = None
        self.replaces: Child | None = None
        self.busy_at = 0.0
        self.idle_at = 0.0
        self.failure = ""
        self._rest = b""

    def __str__(self) -> str:
        return f"worker {self.slot} (process {self.pid})"

    def hear(self) -> list[tuple[str, str]] | None:
        """Read what it has said: kinds and texts; None once it will say no more."""
        messages, self._rest = hear(self.fd, self._rest)
        return messages

    def signal(self, number: int) -> None:
        """Send it a signal; it may have ended already."""
        send_signal(self.pid, number, self.owner)

    def close(self) -> None:
        """Close the pipe."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def send_signal(pid: int, number: int, owner: int | None) -> None:
    """Send a signal to one process, which may have ended already.

    Args:
        pid: The process; 0 for none that is known.
        number: The signal's.
        owner: Number of the user that it must belong to; None for any. A template runs the
            application, as a user who may not signal others' processes: it must not get a parent
            that is root to do so by telling it an id.
    """
    if pid <= 1 or (owner is not None and not _belongs(pid, owner)):
        return
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _belongs(pid: int, owner: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - pathlib: 5 ms at start
            text = file.read(65_536)
    except OSError:
        # gone; or a system that does not tell, where nobody becomes another user behind a template
        return False
    users = re.search(rb"^Uid:\t(\d+)\t(\d+)\t(\d+)\t", text, re.MULTILINE)
    return users is not None and {*map(int, users.groups())} == {owner}


def hear(fd: int, rest: bytes) -> tuple[list[tuple[str, str]] | None, bytes]:
    """Read messages from a pipe, without waiting.

    Args:
        fd: The pipe.
        rest: What was read before of a message that had not come whole.

    Returns:
        Kinds and texts, None at the pipe's end; and the new rest.
    """
    try:
        data = os.read(fd, _READ_BYTES)
    except BlockingIOError:
        return [], rest
    if not data:
        return None, b""
    *lines, rest = (rest + data).split(b"\n")
    messages = []
    for line in lines:
        # anything may stand there: the application can find the descriptor
        with suppress(ValueError, TypeError, RecursionError):
            kind, text = json.loads(line)
            messages.append((str(kind), str(text)))
    return messages, rest[-_READ_BYTES:]
