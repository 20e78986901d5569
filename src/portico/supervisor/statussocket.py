"""The socket on which the parent tells how the service is doing.

Whoever connects is sent the text and is done; nothing is read. The parent has one thread and
other work, so nothing here waits for a peer: what does not fit into a socket's buffer at once is
kept for a few peers and seconds.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from portico.transports import unix
from portico.transports.bind import Bind

if TYPE_CHECKING:
    from collections.abc import Callable

#: For nobody but the user who started the service: requests' targets may be confidential.
MODE = 0o600

#: Connections that are accepted at a time, that the kernel holds, and that are sent the rest.
_MOST_AT_ONCE = 16

#: Seconds that a peer may take to read what did not fit at once, and between two attempts.
PATIENCE_SECONDS = 5.0
RETRY_SECONDS = 0.02

#: Octets that the socket's buffer is asked to hold; the system has a maximum of its own.
_BUFFER_BYTES = 1 << 20


class StatusSocket:
    """A listening Unix socket, for one thread that waits on other things as well.

    Args:
        path: Where its file is made; taken away by `close`.

    Attributes:
        fd: Readable when a peer has connected: then call `accept_and_answer`.

    Raises:
        ConfigError: the path is too long.
        TransportError: the system refuses, or the path is taken.
    """

    __slots__ = ("_file", "_late", "_sock", "_spare", "fd")

    def __init__(self, path: str) -> None:
        bind = Bind(
            protocol="status",
            transport="unix",
            path=os.path.abspath(path),  # noqa: PTH100 - pathlib: 5 ms at start
            mode=MODE,
            backlog=_MOST_AT_ONCE,
        )
        self._sock, self._file = unix.listen(bind)
        self.fd = self._sock.fileno()
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._late: list[tuple[socket.socket, memoryview, float]] = []

    def accept_and_answer(self, text: Callable[[], bytes]) -> bool:
        """Send each peer that waits the text, and close; never blocks.

        Args:
            text: Called once, if there is a peer.

        Returns:
            Whether a peer is still owed something: then call `go_on` in `RETRY_SECONDS`.
        """
        peers = []
        for _ in range(_MOST_AT_ONCE):
            peer = self._accept()
            if peer is None:
                break
            peers.append(peer)
        if peers:
            rest = memoryview(text())
            deadline = time.monotonic() + PATIENCE_SECONDS
            self._late += [(peer, rest, deadline) for peer in peers]
        return self.go_on()

    def go_on(self) -> bool:
        """Send more to whom something is still owed; returns as `accept_and_answer`."""
        now = time.monotonic()
        late, self._late = self._late, []
        for peer, rest, deadline in late:
            left = _send(peer, rest)
            if left and now < deadline:
                self._late.append((peer, left, deadline))
            else:
                peer.close()
        while len(self._late) > _MOST_AT_ONCE:
            self._late.pop(0)[0].close()
        return bool(self._late)

    def close(self) -> None:
        """Close, and take the file away; a forked process closes its copies alone."""
        self._file.remove()
        self.close_in_child()

    def close_in_child(self) -> None:
        """Close the descriptors and leave the file; for a process that was forked."""
        self._sock.close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        for peer, _, _ in self._late:
            peer.close()
        self._late.clear()

    def _accept(self) -> socket.socket | None:
        """Take a connection; None if there is none, or none that can be served."""
        try:
            peer, _ = self._sock.accept()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                self._turn_away()
            return None
        peer.setblocking(False)
        with suppress(OSError):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        return peer

    def _turn_away(self) -> None:
        """Drop a connection without a free descriptor: one that waits would keep `fd` ready."""
        if self._spare < 0:
            return
        os.close(self._spare)
        self._spare = -1
        with suppress(OSError):
            self._sock.accept()[0].close()
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)


def _send(peer: socket.socket, rest: memoryview) -> memoryview:
    """Send as much as *peer* takes now; gives what is left, none if it has gone."""
    while rest:
        try:
            rest = rest[peer.send(rest) :]
        except BlockingIOError:
            return rest
        except OSError:
            return rest[:0]
    return rest
