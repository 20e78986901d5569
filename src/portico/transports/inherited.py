"""Listening sockets that the process was started with, fd 0 above all.

Spec: FastCGI 1.0 §2.2 (file descriptors), §3.2 (accepting transport connections).
"""

from __future__ import annotations

import _socket  # not socket: 0.5 against 5.8 ms, on the way to CGI as well
import errno
import os

from portico.errors import ConfigError, TransportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The web servers' addresses, comma-separated, as FastCGI 1.0 §3.2 has them.
WEB_SERVER_ADDRS = "FCGI_WEB_SERVER_ADDRS"


def is_listening(fd: int) -> bool:
    """Tell whether *fd* is a listening stream socket; a closed one, a file or a pipe is not."""
    try:
        sock = _socket.socket(fileno=fd)
    except OSError:
        return False
    try:
        if sock.type != _socket.SOCK_STREAM:
            return False
        try:
            return bool(sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN))
        except OSError:  # where the option cannot be read, FastCGI 1.0 §2.2's own test
            return _is_unconnected(sock)
    finally:
        sock.detach()


def _is_unconnected(sock: _socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def take(fd: int) -> int:
    """Take a listening socket over that the process inherited.

    A standard descriptor is moved away, the null device takes its place; subprocesses inherit
    neither.

    Returns:
        The socket's descriptor, which may be another number; owned by the caller.

    Raises:
        TransportError: *fd* is no listening socket.
    """
    if not is_listening(fd):
        raise TransportError(
            f"descriptor {fd} is no listening socket: the program that starts this one must open"
            " it, as spawn-fcgi, a web server's process manager or systemd do"
        )
    try:
        if fd < 3:
            from portico.transports import stdio  # noqa: PLC0415 - not when only asked what fd 0 is

            return stdio.move_away(fd)
        os.set_inheritable(fd, False)
    except OSError as error:
        raise TransportError(f"descriptor {fd} cannot be taken over: {error.strerror}") from error
    return fd


def web_server_addresses(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Give the addresses in FCGI_WEB_SERVER_ADDRS, for `Bind.allow`; empty where it is not set.

    Raises:
        ConfigError: one is no address.

    Spec: FastCGI 1.0 §3.2.
    """
    text = environ.get(WEB_SERVER_ADDRS, "")
    if not text.strip():
        return ()
    from portico.transports.bind import parse_networks  # noqa: PLC0415 - 9 ms, rarely set

    try:
        return parse_networks(text)
    except ValueError as error:
        raise ConfigError(
            f"{WEB_SERVER_ADDRS}: {error}", key=WEB_SERVER_ADDRS, source="environment"
        ) from None
