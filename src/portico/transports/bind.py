"""Bind URLs: where to listen or connect, ``PROTOCOL[+TRANSPORT]://ADDRESS[?option=value&...]``.

The protocol is an opaque word here. A printed bind never shows its secret.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from portico.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TRANSPORTS = ("tcp", "unix", "fd", "systemd", "pipe")

#: Connections that the kernel completes and holds until one is accepted; it cuts the number to
#: its own ceiling (net.core.somaxconn). nginx takes a full queue of a Unix socket for a dead
#: backend at once, so the queue must outlast the restart of a worker, not just a burst.
DEFAULT_BACKLOG = 1024

#: Owner and group: a web server in the group may connect, other users may not.
DEFAULT_MODE = 0o660

#: Stands for the secret in a printed bind; `parse` refuses it as a secret.
REDACTED = "***"

_FALSE_TRUE = {"no": False, "0": False, "false": False, "off": False,
               "yes": True, "1": True, "true": True, "on": True}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """One place to listen on or to connect to.

    Attributes:
        protocol: Gateway protocol, a lower-case word that is not checked here; ``auto`` is all.
        transport: One of `TRANSPORTS`.
        host: TCP: address or name, IPv6 without brackets.
        port: TCP: 0 lets the kernel choose when listening.
        path: Unix: absolute path of the socket.
        fd: Number of an inherited listening descriptor.
        name: systemd: ``NAME`` or ``NAME:INDEX``; empty for the only socket there is.
        secret: AJP: what each request must carry; empty for none.
        secret_file: AJP: file that holds the secret.
        packet_size: AJP: octets of the largest packet; 0 for the protocol's default.
        allow: Networks whose peers may connect by TCP, as ``10.0.0.0/8``; empty for all.
        allow_uid: Users whose processes may connect by Unix socket; names or numbers.
        allow_gid: Groups, likewise; one match in either is enough.
        mode: Unix: permission bits of the socket file.
        group: Unix: its group, name or number; empty leaves it.
        user: Unix: its owner, name or number; empty leaves it.
        backlog: Connections that wait in the kernel.
        reuse_port: TCP: whether several processes may bind the same port.
    """

    protocol: str
    transport: str = "tcp"
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1
    name: str = ""
    secret: str = field(default="", repr=False)
    secret_file: str = ""
    packet_size: int = 0
    allow: tuple[str, ...] = ()
    allow_uid: tuple[str, ...] = ()
    allow_gid: tuple[str, ...] = ()
    mode: int = DEFAULT_MODE
    group: str = ""
    user: str = ""
    backlog: int = DEFAULT_BACKLOG
    reuse_port: bool = False

    def __str__(self) -> str:
        return self.to_url()

    @property
    def address(self) -> str:
        """The address alone, as error messages and web servers write it."""
        if self.transport == "tcp":
            return join_host_port(self.host, self.port)
        if self.transport == "unix":
            return self.path
        return str(self.fd) if self.transport == "fd" else self.name

    def to_url(self, *, show_secret: bool = False) -> str:
        """Print the URL; `parse` gives an equal bind for it when the secret is shown."""
        scheme = self.protocol if self.transport == "tcp" else f"{self.protocol}+{self.transport}"
        address = self.address
        if self.transport == "unix":
            address = quote(address, safe="/:@,+=~", errors="surrogateescape")
        shown = []
        for name, option in _OPTIONS.items():
            value = getattr(self, name)
            if value == _DEFAULTS[name]:
                continue
            text = option.show(value)
            if name == "secret" and not show_secret:
                text = REDACTED
            shown.append(f"{name}={quote(text, safe='/:@,+*~', errors='surrogateescape')}")
        return f"{scheme}://{address}" + ("?" + "&".join(shown) if shown else "")

    def with_secret(self) -> Bind:
        """Give the bind with its secret read from `secret_file`, where it names one.

        Raises:
            ConfigError: the file cannot be read or is empty.
        """
        if self.secret or not self.secret_file:
            return self
        try:
            with open(self.secret_file, encoding="utf-8") as file:  # noqa: PTH123 - pathlib: 5 ms
                secret = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(
                f"the secret file {self.secret_file} cannot be read: {reason}", key="secret_file"
            ) from error
        if not secret:
            raise ConfigError(f"the secret file {self.secret_file} is empty", key="secret_file")
        return replace(self, secret=secret)

    def ajp_options(self) -> dict[str, object]:
        """Give what an AJP codec takes by keyword, the secret file read.

        Raises:
            ConfigError: the secret file cannot be read or is empty.
        """
        options: dict[str, object] = {}
        secret = self.with_secret().secret
        if secret:
            options["secret"] = secret
        if self.packet_size:
            options["packet_size"] = self.packet_size
        return options


def parse(url: str) -> Bind:
    """Parse a bind URL.

    Raises:
        ConfigError: what is wrong, in one sentence that never shows a secret.
    """
    scheme, mark, rest = url.partition("://")
    address, _, query = rest.partition("?")
    if not mark:
        bare = url.partition("?")[0]
        raise _refusal(bare, "has no protocol", _suggest_url(bare))
    shown = f"{scheme}://{address}"
    protocol, plus, transport = scheme.lower().partition("+")
    transport = transport if plus else "tcp"
    if protocol in TRANSPORTS:
        raise _refusal(
            shown, f"names the transport {protocol} and no protocol", f"fastcgi+{protocol}://..."
        )
    if not (protocol.isascii() and protocol.isalnum()):
        raise _refusal(shown, "has no protocol", f"fastcgi://{address}")
    if transport not in TRANSPORTS:
        hint = did_you_mean(transport, TRANSPORTS)
        raise ConfigError(f"bind URL {shown!r}: unknown transport {transport!r}{hint}", key="bind")
    fields: dict[str, Any] = {"protocol": protocol, "transport": transport}
    fields.update(_ADDRESSES[transport](address, shown))
    fields.update(_parse_options(query, protocol, transport, shown))
    return Bind(**fields)


def check_exposed(bind: Bind, host: str = "") -> None:
    """Refuse a TCP address that others can reach, unless the bind says who may connect.

    None of the gateway protocols authenticates its peer, and a peer may set REMOTE_USER.

    Args:
        bind: What is to be listened on.
        host: The address that `bind` resolved to or inherited; by default the one in it.

    Raises:
        ConfigError: says what to add.
    """
    if not host and bind.transport != "tcp":
        return
    host = host or bind.host
    if is_loopback(host):
        return
    where = f"{join_host_port(host, bind.port)} can be reached from other machines"
    if not bind.allow:
        raise ConfigError(
            f"bind {bind}: {where}, and {bind.protocol} authenticates nobody: add"
            " allow=ADDRESS[,NETWORK...] with the web server's address, or bind 127.0.0.1",
            key="bind",
        )
    if bind.protocol in _AJP and not (bind.secret or bind.secret_file):
        instead = "bind 127.0.0.1"
        if bind.protocol == "auto":
            instead = f"name one protocol instead of auto, such as fastcgi, or {instead}"
        raise ConfigError(
            f"bind {bind}: {where}, and ajp wants a secret there: add secret_file=PATH, and the"
            f" same secret to the web server, or {instead}",
            key="bind",
        )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach *host*, an address or ``localhost``."""
    try:
        return plain_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def plain_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an address; ``::ffff:10.0.0.1``, as IPv6 sockets name IPv4 peers, is 10.0.0.1.

    Raises:
        ValueError: it is no IP address.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def join_host_port(host: str, port: int) -> str:
    """Write ``host:port``, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_networks(text: str) -> tuple[str, ...]:
    """Parse addresses and networks between commas and blanks, in their usual form.

    Raises:
        ValueError: says which one is wrong.
    """
    networks = []
    for word in text.replace(",", " ").split():
        try:
            network = ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise ValueError(
                f"{word!r} is no IP address or network, such as 10.0.0.5 or 10.0.0.0/8"
            ) from None
        if "/" in word and ipaddress.ip_address(word.partition("/")[0]) != network.network_address:
            raise ValueError(f"{word!r} has host bits set; the network is {network}")
        mapped = isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped
        if mapped and network.prefixlen >= 96:
            network = ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}")
        networks.append(str(network))
    return tuple(networks)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Give the end of a refusal: the nearest known word, or all of them."""
    from difflib import get_close_matches  # noqa: PLC0415 - 6 ms that only a refusal is worth

    known = list(known)
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"


# -- addresses -----------------------------------------------------------------------------


def _parse_tcp(address: str, shown: str) -> dict[str, object]:
    if address.startswith("/"):
        unix = shown.replace("://", "+unix://", 1)
        raise _refusal(shown, "has a path where HOST:PORT belongs", unix)
    address = unquote(address).removesuffix("/")
    host, colon, port = address.rpartition(":")
    scheme = shown.partition("://")[0]
    if not colon or port.endswith("]"):
        host = "127.0.0.1" if address.isdecimal() else address
        port = address if address.isdecimal() else "9000"
        raise _refusal(shown, "has no port", f"{scheme}://{host}:{port}")
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and int(port) <= 65_535):
        raise _refusal(shown, f"has the port {port!r}, which is none of 0 to 65535")
    if host in {"", "*"}:
        raise _refusal(shown, "names no address", f"{scheme}://127.0.0.1:{port}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise _refusal(shown, f"has {host!r} in brackets, which is no IPv6 address") from None
    elif ":" in host:
        raise _refusal(shown, "has an IPv6 address without brackets", f"{scheme}://[{host}]:{port}")
    elif not host.replace("-", "").replace(".", "").replace("_", "").isalnum():
        raise _refusal(shown, f"has the host {host!r}, which is no address or name")
    return {"host": host, "port": int(port)}


def _parse_unix(address: str, shown: str) -> dict[str, object]:
    path = unquote(address, errors="surrogateescape")
    if path.startswith("@") or "\0" in path:
        raise _refusal(shown, "names an abstract socket, which any local user may connect to")
    if not path.startswith("/"):
        absolute = shown.partition("://")[0] + ":///run/" + address
        raise _refusal(shown, "has no absolute path (three slashes)", absolute)
    if path.endswith("/"):
        raise _refusal(shown, "names a directory, no socket")
    return {"path": path}


def _parse_fd(address: str, shown: str) -> dict[str, object]:
    if not (address.isascii() and address.isdecimal() and len(address) < 10):
        scheme = shown.partition("://")[0]
        raise _refusal(shown, f"has {address!r} where a descriptor belongs", f"{scheme}://0")
    return {"fd": int(address)}


def _parse_systemd(address: str, shown: str) -> dict[str, object]:
    name, colon, index = unquote(address).partition(":")
    if colon and not (index.isascii() and index.isdecimal() and len(index) < 10):
        raise _refusal(shown, f"has the index {index!r}", shown[: -len(index) or None] + "0")
    return {"name": name + colon + index}


def _parse_pipe(address: str, shown: str) -> dict[str, object]:
    if address:
        scheme = shown.partition("://")[0]
        raise _refusal(shown, "has an address, but the pipe is inherited", f"{scheme}://")
    return {}


_ADDRESSES: dict[str, Callable[[str, str], dict[str, object]]] = {
    "tcp": _parse_tcp,
    "unix": _parse_unix,
    "fd": _parse_fd,
    "systemd": _parse_systemd,
    "pipe": _parse_pipe,
}


def _suggest_url(text: str) -> str:
    if text.startswith("unix:"):
        return "fastcgi+unix://" + text.removeprefix("unix:")
    if text.startswith("/"):
        return f"fastcgi+unix://{text}"
    host, _, port = text.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        return f"fastcgi://{text}"
    return "fastcgi://127.0.0.1:9000"


def _refusal(shown: str, fault: str, better: str = "") -> ConfigError:
    hint = f"; write {better}" if better else ""
    return ConfigError(f"bind URL {shown!r} {fault}{hint}", key="bind")


# -- options -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Option:
    """How one option is read and printed, and where it means something."""

    read: Callable[[str], object]
    show: Callable[[Any], str]
    transports: tuple[str, ...]
    protocols: tuple[str, ...] = ()


def _read_text(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("it is empty" if not text else "it has a NUL")
    return text


def _read_secret(text: str) -> str:
    if text == REDACTED:
        raise ValueError("*** only stands for it where a URL is printed")
    return _read_text(text)


def _read_path(text: str) -> str:
    if not os.path.isabs(text):  # noqa: PTH117 - pathlib: 5 ms at start
        raise ValueError(f"{text!r} is no absolute path")
    return text


def _read_list(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    if not all(words):
        raise ValueError(f"{text!r} has an empty entry")
    return words


def _read_networks(text: str) -> tuple[str, ...]:
    return parse_networks(_read_text(text))


def _read_mode(text: str) -> int:
    if len(text) in {3, 4} and text.isascii() and text.isdecimal():
        try:
            mode = int(text, 8)
        except ValueError:
            mode = 0o1000
        if mode <= 0o777:
            return mode
    raise ValueError(f"{text!r} is no octal mode from 000 to 777, such as 660")


def _read_bool(text: str) -> bool:
    value = _FALSE_TRUE.get(text.lower())
    if value is None:
        raise ValueError(f"{text!r} is neither yes nor no")
    return value


def _count(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most:
            return int(text)
        raise ValueError(f"{text!r} is no number from {least} to {most}")

    return read


_INHERITED = ("fd", "systemd")
_ANY = TRANSPORTS
_AJP = ("ajp", "auto")

_OPTIONS = {
    "secret": _Option(_read_secret, str, _ANY, _AJP),
    "secret_file": _Option(_read_path, str, _ANY, _AJP),
    "packet_size": _Option(_count(8192, 65_536), str, _ANY, _AJP),
    "allow": _Option(_read_networks, ",".join, ("tcp", *_INHERITED)),
    "allow_uid": _Option(_read_list, ",".join, ("unix", *_INHERITED)),
    "allow_gid": _Option(_read_list, ",".join, ("unix", *_INHERITED)),
    "mode": _Option(_read_mode, "{:03o}".format, ("unix",)),
    "group": _Option(_read_text, str, ("unix",)),
    "user": _Option(_read_text, str, ("unix",)),
    "backlog": _Option(_count(1, 65_535), str, ("tcp", "unix")),
    "reuse_port": _Option(_read_bool, lambda value: "yes" if value else "no", ("tcp",)),
}

_DEFAULTS = {name: getattr(Bind(protocol=""), name) for name in _OPTIONS}


def _parse_options(query: str, protocol: str, transport: str, shown: str) -> dict[str, object]:
    values: dict[str, object] = {}
    for pair in query.split("&") if query else ():
        name, _, text = pair.partition("=")
        option = _OPTIONS.get(name)
        if option is None:
            fault = f"unknown option {name!r}{did_you_mean(name, _OPTIONS)}"
        elif name in values:
            fault = f"{name} is given twice"
        elif transport not in option.transports:
            fault = f"{name} belongs to {' and '.join(option.transports)} binds, not to {transport}"
        elif option.protocols and protocol not in option.protocols:
            fault = f"{name} belongs to {' and '.join(option.protocols)}, not to {protocol}"
        else:
            try:
                values[name] = option.read(unquote(text, errors="surrogateescape"))
                continue
            except ValueError as error:
                fault = f"{name}: {error}"
        raise ConfigError(f"bind URL {shown!r}: {fault}", key="bind")
    if "secret" in values and "secret_file" in values:
        raise ConfigError(
            f"bind URL {shown!r}: secret and secret_file are both given; keep one", key="bind"
        )
    return values
