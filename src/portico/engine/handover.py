"""Kept connections on their way from a process that retires to one that goes on.

FastCGI and AJP let the web server keep a connection open, and neither lets this side say that it
would rather not: who closes such a connection may do so just as the next request is sent on it,
which is lost then. So a process that retires closes none. It sends the descriptor of each idle one
to the others, by the only way there is, a message on a Unix socket, and the web server never
notices. A worker that takes it serves the next request on it like any other.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from contextlib import suppress
from typing import Any

#: Octets of the longest message: the bind's name and the peer's address.
_MOST_BYTES = 8192

#: Programs that the application starts must not inherit the connection, not for a moment.
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

#: Errors of sendmsg() that say "not now": the queue is full, or too many are on their way.
_NOT_NOW = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS, errno.ENOMEM})


class Handover:
    """A queue of connections between processes: made before they are forked, shared by all.

    To the engine it looks like a listener whose connections have come in elsewhere.

    Attributes:
        fd: What becomes readable when a connection waits; -1 once closed in this process.
        checks_peers: As a listener's; the engine asks this one for the peer's origin instead.
    """

    __slots__ = ("_inner", "_outer", "checks_peers", "fd")

    def __init__(self) -> None:
        # datagrams: a message is read whole by one process, and never mixes with another
        self._outer, self._inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._outer.setblocking(False)
        self._inner.setblocking(False)
        self.fd = self._outer.fileno()
        self.checks_peers = True

    def send(self, fd: int, place: str, address: Any) -> bool:
        """Pass a connection on.

        Args:
            fd: Its descriptor; the caller's copy stays the caller's.
            place: Name of the bind where it came in.
            address: The peer's address, as `accept` gave it.

        Returns:
            Whether it is on its way; if not, it may be tried again later.
        """
        message = json.dumps([place, address]).encode()
        try:
            socket.send_fds(self._inner, [message], [fd])
        except OSError as error:
            if error.errno in _NOT_NOW:
                return False
            raise
        return True

    def permits(self, fd: int, address: Any) -> bool:  # noqa: ARG002 - a listener's interface
        """Say no: the connection is none that has come in here."""
        return False

    def accept(self) -> tuple[int, tuple[str, Any]]:
        """Take a connection: its descriptor, owned by the caller; the bind's name, and the peer.

        Raises:
            BlockingIOError: none waits, or another process was first.
        """
        message, fds, _, _ = socket.recv_fds(self._outer, _MOST_BYTES, 1, _CLOEXEC)
        if not fds:  # the system had none left
            raise BlockingIOError
        os.set_inheritable(fds[0], False)  # where the flag above is unknown
        place, address = json.loads(message)
        return fds[0], (place, tuple(address) if isinstance(address, list) else address)

    def close(self) -> None:
        """Take none any more in this process; what waits is for the others."""
        self.fd = -1
        self._outer.close()

    def close_all(self) -> None:
        """Close both ends in this process."""
        self.close()
        with suppress(OSError):
            self._inner.close()
