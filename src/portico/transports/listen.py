"""Listening sockets, whichever way they come: made here, inherited, passed by systemd."""

from __future__ import annotations

import errno
import os
import socket
import sys
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from portico.errors import ConfigError, TransportError
from portico.transports import inherited, systemd
from portico.transports.bind import check_exposed, join_host_port, plain_address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.transports.bind import Bind
    from portico.transports.unix import PeerRule, SocketFile

#: Addresses whose verdict is remembered; 3 µs each time otherwise.
_MOST_KNOWN = 4096

#: Linux tells of a connection when its first octets are there, or after so many seconds. Told
#: sooner, one reads nothing, and has the poller watch and forget one more descriptor: behind nginx
#: that was four connections of five, 4 system calls each. In every protocol here the web server
#: speaks first.
_DEFER_SECONDS = 1

_AF_UNIX = getattr(socket, "AF_UNIX", None)

#: Protocols whose connections carry one request, or (FastCGI) may: on Linux these are corked. The
#: system then holds back what is written until there is a full segment, the close, or 0.2 s, so
#: that a small answer leaves in one segment with the end of file. That is one way through the
#: system instead of two: 4 to 5 of the 15 µs that it spends on a connection (accept, read, write,
#: close), and one wake-up of the web server.
_CORKED = frozenset({"scgi", "uwsgi", "fastcgi", "fcgi"})


class Listener:
    """A listening, non-blocking socket; owns the descriptor, and the file made for it.

    Attributes:
        fd: The descriptor; -1 once closed.
        bind: Where it listens: the port that the kernel chose, the secret read from its file.
        configured: The same as it was asked for.
        accept: Takes a connection: its descriptor, owned by the caller, and the peer's address.
        checks_peers: Whether `permits` may say no.
        corks: Whether accepted connections hold back what is written until they are closed, or
            `Stream.uncork` is called.
    """

    __slots__ = (
        "_file",
        "_known",
        "_networks",
        "_rule",
        "_sock",
        "accept",
        "bind",
        "checks_peers",
        "configured",
        "corks",
        "fd",
    )

    def __init__(self, sock: socket.socket, bind: Bind, file: SocketFile | None = None) -> None:
        local = sock.family == _AF_UNIX
        self._sock = sock
        self._file = file
        self._networks = () if local else tuple(ip_network(text) for text in bind.allow)
        self._known: dict[str, bool] = {}
        self._rule = _peer_rule(bind, local=local)
        self.checks_peers = bool(self._networks or self._rule)
        self.bind = bind
        self.configured = bind
        self.corks = False
        self.fd = sock.fileno()
        # The C method below socket.accept, which makes no socket object: a connection that is
        # accepted, served and closed costs 4.4 µs instead of 6.3.
        self.accept = sock._accept  # type: ignore[attr-defined] # noqa: SLF001

    def permits(self, fd: int, address: Any) -> bool:
        """Tell whether the peer of the accepted connection may stay.

        Args:
            fd: The connection.
            address: What `accept` gave with it.
        """
        if self._networks:
            host: str = address[0]
            verdict = self._known.get(host)
            return self._look(host) if verdict is None else verdict
        if self._rule is not None:
            try:
                return self._rule.permits(fd)
            except OSError:
                return False
        return True

    def _look(self, host: str) -> bool:
        address = plain_address(host)
        verdict = any(address in network for network in self._networks)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[host] = verdict
        return verdict

    def peer_name(self, address: Any, fd: int = -1) -> str:
        """Name a peer for a log line.

        Args:
            address: What `accept` gave.
            fd: The connection; with it, a Unix peer's user and group are named.
        """
        if self._sock.family == _AF_UNIX:
            return self._local_name(fd)
        try:
            return join_host_port(str(plain_address(address[0])), address[1])
        except (ValueError, IndexError, TypeError):
            return str(address)

    def _local_name(self, fd: int) -> str:
        name = f"unix:{self.bind.address}"
        if fd >= 0:
            from portico.transports import unix  # noqa: PLC0415 - POSIX only

            try:
                pid, uid, gid = unix.peer_credentials(fd)
            except (OSError, AttributeError):  # gone, or a system without SO_PEERCRED
                return name
            return f"{name} (uid {uid}, gid {gid}, pid {pid})"
        return name

    def renewed(self, bind: Bind) -> Listener:
        """Give a listener on the same socket with the options of *bind*; it takes this one's place.

        Who may connect, the protocol and its secret change; what the system fixed when the socket
        was made does not.

        Args:
            bind: Of the same transport and address.

        Raises:
            ConfigError: as `open_listener`.
        """
        now = bind.with_secret()
        if self._sock.family != _AF_UNIX:
            host, port = self._sock.getsockname()[:2]
            check_exposed(replace(now, port=port), host)
            if bind.transport == "tcp":
                now = replace(now, port=port)
        listener = Listener(self._sock, now, self._file)
        listener.configured = bind
        if self.corks:  # never the other way round: who still accepts here would not know of it
            listener.set_cork()
        return listener

    def set_cork(self) -> None:
        """Cork the connections that will be accepted, or no longer, as the protocol wants it.

        Only for a socket that was made here: one that was inherited may be shared with programs
        that know nothing of it, and outlive this one.
        """
        if sys.platform == "linux":
            self.corks = self.bind.protocol in _CORKED
            # accepted connections inherit it
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(self.corks))

    def close(self) -> None:
        """Remove the socket file if it is ours, and close; does nothing the second time."""
        if self.fd >= 0:
            self.fd = -1
            if self._file is not None:
                self._file.remove()
            self._sock.close()


def open_listener(bind: Bind) -> Listener:
    """Start listening.

    Raises:
        ConfigError: the bind is unsafe or impossible; says what to change.
        TransportError: the system refuses; says what to do.
    """
    listener = _open(bind.with_secret())
    listener.configured = bind
    return listener


def _open(bind: Bind) -> Listener:
    if bind.transport == "tcp":
        return _open_tcp(bind)
    if bind.transport == "unix":
        return _open_unix(bind)
    if bind.transport == "fd":
        return _adopt(bind.fd, bind)
    if bind.transport == "systemd":
        return _adopt(systemd.find(bind.name, os.environ), bind)
    raise ConfigError(
        f"bind {bind}: this system has no named pipes; use another transport", key="bind"
    )


def open_listeners(binds: Iterable[Bind]) -> list[Listener]:
    """Open one listener for each of *binds*, or none where one fails.

    Raises:
        ConfigError: as `open_listener`.
        TransportError: as `open_listener`.
    """
    listeners: list[Listener] = []
    try:
        for bind in binds:
            # one by one: what is open when the next one fails must be closed
            listeners.append(open_listener(bind))  # noqa: PERF401
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _open_tcp(bind: Bind) -> Listener:
    family, address = _resolve(bind)
    check_exposed(bind, address[0])
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _explain(bind, error) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bind.reuse_port:
            _set_reuse_port(sock, bind)
        if family == socket.AF_INET6:
            # [::] means IPv6, on every system alike: with 0.0.0.0 beside it both can be had
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if sys.platform == "linux":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
        sock.bind(address)
        sock.listen(bind.backlog)
        _set_up(sock)
        listener = Listener(sock, replace(bind, port=sock.getsockname()[1]))
        listener.set_cork()
        return listener  # noqa: TRY300 - one way out for all errors
    except OSError as error:
        sock.close()
        raise _explain(bind, error) from error
    except BaseException:
        sock.close()
        raise


def _open_unix(bind: Bind) -> Listener:
    from portico.transports import unix  # noqa: PLC0415 - POSIX only

    sock, file = unix.listen(bind)
    try:
        return Listener(sock, bind, file)
    except BaseException:
        file.remove()
        sock.close()
        raise


def _adopt(fd: int, bind: Bind) -> Listener:
    """Make a listener of an inherited socket; the same rules hold for it."""
    if bind.transport == "fd" and not bind.allow:
        bind = replace(bind, allow=inherited.web_server_addresses(os.environ))
    sock = socket.socket(fileno=inherited.take(fd))
    try:
        if sock.family != _AF_UNIX:
            host, port = sock.getsockname()[:2]
            check_exposed(replace(bind, port=port), host)
        _set_up(sock)
        return Listener(sock, bind)
    except BaseException:
        sock.close()
        raise


def _set_up(sock: socket.socket) -> None:
    sock.setblocking(False)
    if sock.family != _AF_UNIX:
        # accepted connections inherit it; a streamed block does not wait for the last one's ACK
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _set_reuse_port(sock: socket.socket, bind: Bind) -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError(f"bind {bind}: this system has no SO_REUSEPORT", key="bind")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _peer_rule(bind: Bind, *, local: bool) -> PeerRule | None:
    if not (bind.allow_uid or bind.allow_gid):
        return None
    if not local:
        raise ConfigError(
            f"bind {bind}: allow_uid and allow_gid are for Unix sockets, this is TCP: use allow=",
            key="bind",
        )
    from portico.transports import unix  # noqa: PLC0415 - POSIX only

    return unix.PeerRule(bind.allow_uid, bind.allow_gid)


def _resolve(bind: Bind) -> tuple[int, Any]:
    try:
        found = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise TransportError(
            f"cannot listen on {bind.address}: the name {bind.host} is unknown"
            f" ({getattr(error, 'strerror', None) or error}); write an address"
        ) from error
    # IPv4 first: web servers' examples, and people, mean 127.0.0.1 when they say localhost
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return found[0][0], found[0][4]


def _explain(bind: Bind, error: OSError) -> TransportError:
    where = bind.address
    if error.errno == errno.EADDRINUSE:
        text = (
            f"{where} is taken, another process listens there: stop that one or choose another port"
        )
    elif error.errno in {errno.EACCES, errno.EPERM}:
        text = (
            f"no permission to listen on {where}: ports below 1024 need root or"
            " CAP_NET_BIND_SERVICE; choose a higher one"
        )
    elif error.errno == errno.EADDRNOTAVAIL:
        text = f"cannot listen on {where}: this machine has no address {bind.host}"
    else:
        text = f"cannot listen on {where}: {error.strerror}"
    return TransportError(text)
