"""What every generator of a web server's configuration needs to know.

Values are checked here once, so that the generators only quote. What could break out of a
configuration file is refused, not repaired.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from portico.errors import ConfigError
from portico.transports.bind import join_host_port

if TYPE_CHECKING:
    from portico.transports.bind import Bind

#: What a path segment may hold unencoded (RFC 3986 §3.3) and no configuration file gives a
#: meaning: without ``$`` (variables), ``'``, ``;`` (ends a directive) and ``*`` (wildcards).
_MOUNT = re.compile(r"(?:/[A-Za-z0-9._~!&()+,:@=-]+)+", re.ASCII)
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: sun_path holds 108 octets on Linux and 104 on BSD, a closing NUL included.
_MAX_SOCKET_PATH_BYTES = 103
_WILDCARDS = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One application behind one web server.

    Attributes:
        via: The route, as the catalog names it: a protocol, or ``"fcgid"``, ``"spawn"`` or
            ``"cgi"``.
        bind: Where the application listens; None for a route that starts a script.
        script: Absolute path of the script; ``""`` for a route that connects.
        mount: URL path of the application, ``""`` or ``"/app"``.
        server_name: Host name that the site answers to; ``""`` for any.
        listen_host: Address that the web server listens on; ``""`` for all.
        listen_port: Its port.
        body_limit_bytes: Largest request body the web server lets pass; 0 for no limit
        timeout_seconds: How long the web server waits for the application to send or take
            anything.
        streaming: Whether bodies pass through at once, both ways, instead of being buffered.
        application: How the application is named to ``portico serve``; ``""`` if unknown.
        socket_directory: Where a web server that spawns a script makes its sockets; absolute.

    Raises:
        ConfigError: a value that cannot stand in a configuration file.
    """

    via: str = "fastcgi"
    bind: Bind | None = None
    script: str = ""
    mount: str = ""
    server_name: str = ""
    listen_host: str = ""
    listen_port: int = 80
    body_limit_bytes: int = 0
    timeout_seconds: int = 60
    streaming: bool = False
    application: str = ""
    socket_directory: str = "/run/lighttpd"

    def __post_init__(self) -> None:
        _check_mount(self.mount)
        _check_names(self)
        _check_numbers(self)
        if self.script:
            _check_path("script", self.script)
        _check_path("socket directory", self.socket_directory)
        if self.bind is not None:
            _check_bind(self.bind)

    @property
    def socket_path(self) -> str:
        """Path of the application's Unix socket; ``""`` if it listens on TCP."""
        return self.bind.path if self.bind and self.bind.transport == "unix" else ""

    @property
    def backend(self) -> str:
        """``address:port`` to connect to, IPv6 in brackets; ``""`` without a TCP address.

        An application that listens on every address is reached over loopback.
        """
        if self.bind is None or self.bind.transport != "tcp":
            return ""
        return join_host_port(self.backend_host, self.bind.port)

    @property
    def backend_host(self) -> str:
        """The address part of `backend`, without brackets."""
        host = self.bind.host if self.bind else ""
        return _WILDCARDS.get(host, host)

    @property
    def mount_pattern(self) -> str:
        """The mount point as a regular expression; brackets, since quoting eats backslashes."""
        return re.sub(r"[^A-Za-z0-9/_-]", r"[\g<0>]", self.mount)

    @property
    def listen(self) -> str:
        """``address:port`` of the web server, ``*`` for every address."""
        return join_host_port(self.listen_host or "*", self.listen_port)

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the application."""
        host = self.listen_host
        authority = join_host_port(_WILDCARDS.get(host, host), self.listen_port)
        return f"http://{authority}{self.mount}/"

    @property
    def secret(self) -> str:
        """The AJP secret, from the bind URL or the file it names; ``""`` without one.

        Raises:
            ConfigError: the file cannot be read or is empty.
        """
        return self.bind.with_secret().secret if self.bind else ""

    @property
    def packet_size(self) -> int:
        """Octets of the largest AJP packet; 0 for the protocol's default."""
        return self.bind.packet_size if self.bind else 0

    @property
    def serve_command(self) -> str:
        """The command that runs the application for this site; never tells the secret."""
        if self.bind is None:
            return ""
        words = ["portico", "serve", self.application or "MODULE:CALLABLE"]
        words += ["--bind", str(self.bind)]
        if self.mount:
            words += ["--mount", self.mount]
        return shlex.join(words)


def parse_listen(text: str) -> tuple[str, int]:
    """Read ``ADDRESS:PORT``, ``[IPV6]:PORT``, ``:PORT`` or ``PORT``.

    Returns:
        Address (``""`` for all) and port.

    Raises:
        ConfigError: it is none of these.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or (
        ":" in host and not (host[0] == "[" and host[-1] == "]")
    ):
        raise ConfigError(
            f"{text!r} is no address to listen on; write ADDRESS:PORT, [IPV6]:PORT or PORT",
            key="listen",
        )
    return ("" if host == "*" else host.strip("[]")), int(port)


def in_quotes(text: str, what: str, *, forbidden: str = "") -> str:
    r"""Quote a value with ``"``, escaping ``"`` and ``\``, as all three products read it.

    Args:
        text: The value.
        what: What it is, for the refusal.
        forbidden: Characters that the product cannot be given in this place.

    Raises:
        ConfigError: a control or forbidden character in *text*.
    """
    bad = sorted({char for char in text if char in forbidden} | set(_CONTROL.findall(text)))
    if bad:
        listed = " ".join(ascii(char) for char in bad)
        raise ConfigError(f"the {what} {text!a} holds {listed}, which this web server misreads")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _check_mount(mount: str) -> None:
    segments = mount.split("/")[1:]
    if mount and (not _MOUNT.fullmatch(mount) or {".", ".."}.intersection(segments)):
        raise ConfigError(
            f"the mount point {mount!a} is neither empty nor a path like /app or /a/b"
            " of plain ASCII characters, without a slash at its end",
            key="mount",
        )


def _check_names(site: Site) -> None:
    if site.server_name and not _HOST_NAME.fullmatch(site.server_name):
        raise ConfigError(
            f"the server name {site.server_name!a} is no host name"
            " (write an international name in its xn-- form)",
            key="server_name",
        )
    if site.listen_host:
        try:
            ipaddress.ip_address(site.listen_host)
        except ValueError:
            raise ConfigError(
                f"the address to listen on, {site.listen_host!a}, is no IP address", key="listen"
            ) from None
    if _CONTROL.search(site.application):
        raise ConfigError(f"the application's name {site.application!a} holds control characters")


def _check_numbers(site: Site) -> None:
    if not 0 <= site.listen_port <= 65535:
        raise ConfigError(f"there is no port {site.listen_port}", key="listen")
    if site.timeout_seconds < 1:
        raise ConfigError("the timeout must be at least one second", key="timeout")
    if site.body_limit_bytes < 0:
        raise ConfigError("the body limit cannot be negative", key="body_limit")


def _check_path(what: str, path: str) -> None:
    if not path.startswith("/"):
        raise ConfigError(f"the {what} {path!a} is not an absolute path", key=what)
    if _CONTROL.search(path):
        raise ConfigError(f"the {what}'s path {path!a} holds control characters", key=what)


def _check_bind(bind: Bind) -> None:
    if bind.transport == "unix":
        path = bind.path
        _check_path("socket", path)
        if len(path.encode("utf-8", "surrogateescape")) > _MAX_SOCKET_PATH_BYTES:
            raise ConfigError(
                f"the socket's path {path!a} is longer than {_MAX_SOCKET_PATH_BYTES} bytes",
                key="bind",
            )
    elif bind.transport == "tcp":
        host = bind.host
        if not (host in _WILDCARDS or _HOST_NAME.fullmatch(host) or _is_ip(host)):
            raise ConfigError(f"the application's address {host!a} is no host", key="bind")
        if not 0 < bind.port <= 65535:
            raise ConfigError("the application's address needs a port", key="bind")
    else:
        raise ConfigError(
            f"a web server cannot connect to {bind.transport!r}: it needs a TCP address"
            " or the path of a Unix socket",
            key="bind",
        )


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
