"""A connected stream socket as a raw descriptor: every wait has a bound.

Raw descriptors, because a socket object costs 2 µs a connection and 0.4 µs a call more
(accept, read, write and close of a one-request connection: 4.4 against 6.3 µs).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys

#: Octets asked for in one read: a request with its head and a small body fits.
READ_BYTES = 65_536

#: Buffers in one gathered write; POSIX promises no fewer than 16, Linux takes 1024.
_MAX_BUFFERS = 64

#: Buffers in one gathered write that is made in a single call; Linux takes 1024.
MOST_BUFFERS = 512

_IN = select.POLLIN
_OUT = select.POLLOUT
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Stream:
    """One connected, non-blocking descriptor; owns it until `close`.

    Every method raises `OSError` for what the system reports: `ConnectionError` kinds when the
    peer is gone, `TimeoutError` when the peer did not take or give an octet in time. Timeouts
    are seconds; each bounds one wait for progress, not the whole transfer.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd

    def read(self, timeout: float, size: int = READ_BYTES) -> bytes:
        """Read at most *size* octets, waiting up to *timeout* seconds; empty at end of file."""
        while True:
            try:
                return os.read(self.fd, size)
            except BlockingIOError:
                self.wait(_IN, timeout)

    def write(self, data: bytes | memoryview, timeout: float) -> None:
        """Write all of *data*."""
        while True:
            try:
                sent = os.write(self.fd, data)
            except BlockingIOError:
                self.wait(_OUT, timeout)
                continue
            if sent == len(data):
                return
            data = memoryview(data)[sent:]

    def writev(self, buffers: list[bytes | memoryview], timeout: float) -> None:
        """Write all of *buffers* in order, gathered, copying none."""
        queue = [buffer for buffer in buffers if len(buffer)]
        start = 0
        while start < len(queue):
            try:
                sent = os.writev(self.fd, queue[start : start + _MAX_BUFFERS])
            except BlockingIOError:
                self.wait(_OUT, timeout)
                continue
            while start < len(queue) and sent >= len(queue[start]):
                sent -= len(queue[start])
                start += 1
            if sent:
                queue[start] = memoryview(queue[start])[sent:]

    def sendfile(self, source_fd: int, offset: int, count: int, timeout: float) -> int:
        """Send *count* octets of a file from *offset*; fewer only where the file ends.

        Returns:
            The octets sent.
        """
        total = 0
        while total < count:
            try:
                sent = os.sendfile(self.fd, source_fd, offset + total, min(count - total, 1 << 30))
            except BlockingIOError:
                self.wait(_OUT, timeout)
                continue
            if not sent:
                break
            total += sent
        return total

    def wait(self, events: int, timeout: float) -> int:
        """Wait until one of *events* (``select.POLL*``) or an error is there.

        Returns:
            The events that are there.

        Raises:
            TimeoutError: none came within *timeout* seconds.
        """
        poll = select.poll()
        poll.register(self.fd, events)
        ready = poll.poll(timeout * 1000)
        if not ready:
            raise TimeoutError(f"the peer made no progress in {timeout:g} seconds")
        return ready[0][1]

    def peer_gone(self) -> bool:
        """Whether the peer has closed or reset the connection; does not wait.

        A peer that only closed its sending side looks the same as one that is gone.
        """
        poll = select.poll()
        # POLLRDHUP exists on Linux alone; elsewhere an end of file shows as readable and empty.
        rdhup = getattr(select, "POLLRDHUP", 0)
        poll.register(self.fd, rdhup)
        ready = poll.poll(0)
        return bool(ready and ready[0][1] & (_GONE | rdhup))

    def shutdown_write(self) -> None:
        """Send the end of file and keep reading; a peer that is gone already is no error."""
        sock = socket.socket(fileno=self.fd)
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        finally:
            sock.detach()

    def push(self) -> None:
        """Let nothing written wait any longer; only streams of a corked listener hold it back."""

    def uncork(self) -> None:
        """Send at once what the system holds back, and whatever follows; see `Listener.corks`.

        Does nothing once the descriptor is closed.
        """
        if self.fd < 0:
            return
        try:
            sock = _Socket(socket.AF_INET, socket.SOCK_STREAM, 0, self.fd)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            finally:
                sock.detach()
        except OSError:  # the peer is gone, which the next call finds as well
            pass

    def reset(self) -> None:
        """Close so that the peer sees an error, not an end of file, where the transport can.

        Does nothing once the descriptor is closed.
        """
        if self.fd < 0:
            return
        sock = socket.socket(fileno=self.fd)
        self.fd = -1
        try:
            if sock.family != getattr(socket, "AF_UNIX", None):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        except OSError:
            pass
        sock.close()

    def close(self) -> None:
        """Close the descriptor; does nothing the second time."""
        fd = self.fd
        if fd >= 0:
            self.fd = -1
            os.close(fd)


#: The C class below `socket.socket`. Made with a family it asks the system for no more than the
#: address; setting an option needs no right family.
_Socket = socket.SocketType

_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


def unsent(parts: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """Give what of *parts* is left once *sent* octets have gone."""
    for at, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[at + 1 :]]
        sent -= len(part)
    return []
