"""Makes bind URLs of the addresses that other servers write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from portico.errors import ConfigError
from portico.transports.bind import Bind, check_exposed, parse

if TYPE_CHECKING:
    from portico.migrate.model import Entry, Plan

_ABSTRACT = "an abstract socket, which any local user may connect to; give it a path"

_EXPOSED = (
    "{address} can be reached from other machines, so Portico listens on {instead} until it is"
    " told who may connect: where the web server is on another machine, write the address as it"
    " was and add ?allow=ITS-ADDRESS"
)


@dataclass(frozen=True, slots=True)
class Sockets:
    """What holds for all sockets of one configuration.

    Attributes:
        protocol: What is spoken there.
        base: Directory of relative paths.
        mode: Permission bits of Unix sockets, octal; empty for Portico's own.
        user: Their owner.
        group: Their group.
        backlog: Connections that wait in the kernel; 0 for Portico's own.
    """

    protocol: str
    base: str
    mode: str = ""
    user: str = ""
    group: str = ""
    backlog: int = 0


def carry_address(plan: Plan, entry: Entry, address: str, sockets: Sockets, text: str = "") -> str:
    """Carry an address over, as a bind that Portico takes.

    Args:
        plan: Gets the bind, or why there is none.
        entry: Where it stands.
        address: ``HOST:PORT``, ``:PORT``, a path, or ``fd://N``.
        sockets: What holds for all.
        text: What is to be said beside.

    Returns:
        The bind URL; empty where there is none.
    """
    try:
        bind = _make(address, sockets)
        url = str(parse(str(bind)))
    except (ConfigError, ValueError) as error:
        plan.leave(entry, f"no address that Portico takes: {error}")
        return ""
    try:
        check_exposed(bind)
    except ConfigError:
        loopback = "::1" if ":" in bind.host else "127.0.0.1"
        safe = replace(bind, host=loopback)
        plan.leave(entry, _EXPOSED.format(address=bind.address, instead=safe.address))
        url = str(safe)
    plan.carry_bind(entry, url, text)
    return url


def _make(address: str, sockets: Sockets) -> Bind:
    """Make the bind.

    Raises:
        ValueError: there is none for this address; says why.
    """
    plain = Bind(protocol=sockets.protocol)
    if address.startswith("@") or "\0" in address:
        raise ValueError(_ABSTRACT)
    if address.startswith("fd://"):
        number = address.removeprefix("fd://")
        if not (number.isascii() and number.isdecimal()):
            raise ValueError(f"{address} is no descriptor")
        return replace(plain, transport="fd", fd=int(number[:9]))
    if sockets.backlog > 0:
        plain = replace(plain, backlog=min(sockets.backlog, 65_535))
    host, colon, port = address.rpartition(":")
    if colon and "/" not in address:
        if not (port.isascii() and port.isdecimal() and len(port) < 6):
            raise ValueError(f"{port!r} is no port")
        host = host.strip("[]")
        return replace(plain, host="0.0.0.0" if host in {"", "*"} else host, port=int(port))
    if not address:
        raise ValueError("it is empty")
    path = str(PurePosixPath(sockets.base) / address)
    mode = int(sockets.mode, 8) if sockets.mode else plain.mode
    return replace(
        plain, transport="unix", path=path, user=sockets.user, group=sockets.group, mode=mode
    )
