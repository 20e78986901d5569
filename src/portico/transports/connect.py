"""Connections to an application server."""

from __future__ import annotations

import errno
import math
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from portico.errors import ConfigError, TransportError
from portico.transports.stream import Stream

if TYPE_CHECKING:
    from portico.transports.bind import Bind


def connect(bind: Bind, timeout: float) -> Stream:
    """Connect to where *bind* listens.

    Args:
        bind: A TCP or Unix address.
        timeout: Seconds until the peer must have accepted, over all addresses of a name; the
            lookup of the name itself is the system's.

    Returns:
        The connection; owned by the caller.

    Raises:
        ConfigError: the bind has no address to connect to.
        TransportError: says why in one sentence.
    """
    if bind.transport == "unix":
        return _connect_unix(bind.path, timeout)
    if bind.transport != "tcp" or not bind.port:
        raise ConfigError(
            f"cannot connect to {bind}: it has no address that others know; name a TCP port or a"
            " Unix socket",
            key="bind",
        )
    return _connect_tcp(bind, timeout)


def _connect_tcp(bind: Bind, timeout: float) -> Stream:
    try:
        found = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TransportError(
            f"the name {bind.host} is unknown ({getattr(error, 'strerror', None) or error})"
        ) from error
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)  # as a listener chooses
    deadline = time.monotonic() + timeout
    failure: OSError = TimeoutError()
    for family, kind, number, _, address in found:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            return _dial(family, kind, number, address, left)
        except OSError as error:
            failure = error
    raise TransportError(_explain(bind.address, failure, timeout)) from failure


def _dial(family: int, kind: int, number: int, address: Any, timeout: float) -> Stream:
    sock = socket.socket(family, kind, number)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
        # a request goes out in few writes; none waits for the ACK of the one before
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Stream(sock.detach())
    except BaseException:
        sock.close()
        raise


def _connect_unix(path: str, timeout: float) -> Stream:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A non-blocking connect to a full queue fails at once and nothing tells when there is
        # room; a blocking one waits, and no longer than the send timeout.
        fraction, seconds = math.modf(max(timeout, 0.001))
        limit = struct.pack("ll", int(seconds), int(fraction * 1e6))
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        sock.connect(path)
        return Stream(sock.detach())
    except OSError as error:
        sock.close()
        raise TransportError(_explain(path, error, timeout)) from error
    except BaseException:
        sock.close()
        raise


def _explain(where: str, error: OSError, timeout: float) -> str:
    if isinstance(error, (TimeoutError, BlockingIOError)):
        return (
            f"{where} did not accept within {timeout:g} seconds: its server is overloaded or hangs"
        )
    number = error.errno
    if number == errno.ECONNREFUSED:
        return f"nothing listens on {where} (connection refused)"
    if number == errno.ENOENT:
        return f"there is no socket {where}: its server is not running, or made it elsewhere"
    if number in {errno.EACCES, errno.EPERM}:
        return (
            f"user {os.geteuid()} has no permission to connect to {where}: look at the mode and"
            " group of the socket and of the directories above it"
        )
    if number in {errno.ENETUNREACH, errno.EHOSTUNREACH}:
        return f"no route leads to {where}"
    return f"cannot connect to {where}: {error.strerror or error}"
