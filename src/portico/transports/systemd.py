"""Sockets passed by systemd: LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES.

Spec: sd_listen_fds(3).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from portico.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The first descriptor passed (SD_LISTEN_FDS_START).
_FIRST_FD = 3

#: The name of a socket that was given none.
_UNNAMED = "unknown"


def passed_sockets(environ: Mapping[str, str]) -> list[tuple[str, int]]:
    """Give name and descriptor of each socket meant for this process, in systemd's order.

    Raises:
        ConfigError: LISTEN_FDS or LISTEN_PID is no number.
    """
    if "LISTEN_FDS" not in environ or _number(environ, "LISTEN_PID") != os.getpid():
        return []
    count = _number(environ, "LISTEN_FDS")
    given = environ.get("LISTEN_FDNAMES", "")
    names = given.split(":") if given else []
    names += [_UNNAMED] * (count - len(names))
    return [(names[index], _FIRST_FD + index) for index in range(count)]


def find(name: str, environ: Mapping[str, str]) -> int:
    """Give the descriptor of the socket called *name*.

    Args:
        name: ``NAME``, ``NAME:INDEX`` where several have that name, or empty for the only one.
        environ: The process environment.

    Raises:
        ConfigError: there is no such socket, or more than one; says what there is.
    """
    sockets = passed_sockets(environ)
    if not sockets:
        raise ConfigError(_why_none(environ), key="bind")
    wanted, colon, index = name.partition(":")
    found = [fd for given, fd in sockets if given == wanted or not wanted]
    if colon and int(index) < len(found):
        return found[int(index)]
    if len(found) == 1 and not colon:
        return found[0]
    have = ", ".join(given for given, _ in sockets)
    if not found or colon:
        raise ConfigError(
            f"systemd passed no socket {name!r}: it passed {have} (FileDescriptorName= in the"
            " .socket unit names them)",
            key="bind",
        )
    choices = ", ".join(f"{wanted}:{number}" for number in range(len(found)))
    raise ConfigError(
        f"systemd passed {len(found)} sockets that fit {name!r}: choose one of {choices}",
        key="bind",
    )


def _why_none(environ: Mapping[str, str]) -> str:
    if "LISTEN_FDS" not in environ:
        return (
            "systemd passed no socket (LISTEN_FDS is not set): start the .socket unit, which"
            " starts the service"
        )
    pid = environ.get("LISTEN_PID", "")
    if pid != str(os.getpid()):
        return (
            f"systemd's sockets are for process {pid or '(no LISTEN_PID)'}, this one is"
            f" {os.getpid()}: a wrapper script must start it with exec"
        )
    return "systemd passed no socket: LISTEN_FDS is 0"


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ConfigError(f"{name} is {text!r}, no number", key=name, source="environment")
    return int(text)
