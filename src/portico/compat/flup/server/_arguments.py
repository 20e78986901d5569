"""What flup's arguments mean in Portico's terms; what cannot be is refused in flup's."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portico.compat.flup.server.fcgi_base import FCGI_AUTHORIZER, FCGI_FILTER, FCGI_RESPONDER
from portico.errors import ConfigError
from portico.transports.bind import Bind, did_you_mean, is_loopback, parse_networks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log = logging.getLogger("portico")

#: Keywords of servers with threads, and flup's defaults.
THREADS: Mapping[str, float] = {"minSpare": 1, "maxSpare": 5, "maxThreads": sys.maxsize}

#: Keywords of servers that fork.
PROCESSES: Mapping[str, float] = {
    "minSpare": 1, "maxSpare": 5, "maxChildren": 50, "maxRequests": 0, "sockTimeout": 0,
}  # fmt: skip

#: Keywords that flup takes out and does nothing with.
TAKEN_OUT = frozenset({"jobClass", "jobArgs"})
TAKEN_OUT_BY_FORKS = TAKEN_OUT | {"multithreaded", "multiprocess"}

#: flup's server for one request at a time has no pool, and takes the keywords of any.
TAKEN_OUT_BY_SINGLE = TAKEN_OUT_BY_FORKS.union(THREADS, PROCESSES, ("timeout",))

#: Threads where flup has no bound: a thread costs memory, and a queue is better than an end.
_UNBOUNDED_THREADS = 200

_MOST_THREADS = 10_000
_MOST_PROCESSES = 1000
_MOST_SECONDS = 86_400

_ROLES = {
    FCGI_RESPONDER: "responder",
    FCGI_AUTHORIZER: "authorizer",
    FCGI_FILTER: "filter",
}

#: Addresses that mean all of a machine's, and the one that means the machine itself.
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def take_keywords(
    given: Mapping[str, Any], known: Mapping[str, float], taken_out: frozenset[str]
) -> dict[str, Any]:
    """Check the keywords that go to flup's pools; gives each of *known* with its value.

    Raises:
        TypeError: a keyword that this server does not have.
        ConfigError: a value that is no number.
        ValueError: numbers that flup refuses as well.
    """
    for name in given:
        if name not in known and name not in taken_out:
            raise TypeError(
                f"WSGIServer() got an unexpected keyword argument {name!r}"
                f"{did_you_mean(name, known)}"
            )
    pool = {name: given.get(name, default) for name, default in known.items()}
    for name, value in pool.items():
        kinds = (int, float) if name == "sockTimeout" else (int,)
        if type(value) not in kinds:
            what = "a number of seconds" if name == "sockTimeout" else "a whole number"
            raise ConfigError(f"{name} is {value!r}, must be {what}", key=name)
    if "maxChildren" in pool:
        if pool["minSpare"] < 1:
            raise ValueError("minSpare must be at least 1")
        if pool["maxSpare"] < pool["minSpare"]:
            raise ValueError("maxSpare must not be less than minSpare")
        if pool["sockTimeout"] < 0:
            raise ValueError("sockTimeout must not be negative")
        if pool["maxRequests"] < 0:
            raise ConfigError("maxRequests must not be negative; 0 is for no limit", key="")
    return pool


def count_threads(pool: Mapping[str, Any], *, multithreaded: bool) -> int:
    """Give the number of requests that run at the same time in one process."""
    if not multithreaded:
        return 1
    fewest: int = pool["minSpare"]
    most: int = pool["maxThreads"]
    if most == sys.maxsize:
        most = _UNBOUNDED_THREADS
    return max(1, min(_MOST_THREADS, max(fewest, most)))


def count_processes(pool: Mapping[str, Any]) -> tuple[int, int]:
    """Give the fewest and the most processes.

    Raises:
        ConfigError: more than Portico watches.
    """
    least, most = pool["maxSpare"], max(pool["maxSpare"], pool["maxChildren"])
    if most > _MOST_PROCESSES:
        raise ConfigError(
            f"maxChildren is {most}: have it be {_MOST_PROCESSES} at most", key="maxChildren"
        )
    return least, most


def read_timeout(name: str, value: Any) -> float:
    """Check a number of seconds; 0 and None are for no limit.

    Raises:
        ConfigError: it is none.
    """
    if value is None or value == 0:
        return 0.0
    if type(value) not in {int, float} or not 0 < value <= _MOST_SECONDS:
        raise ConfigError(
            f"{name} is {value!r}, must be a number of seconds up to {_MOST_SECONDS}, or None",
            key=name,
        )
    return max(0.1, float(value))


def read_roles(roles: Any) -> tuple[str, ...]:
    """Give the names of FastCGI's roles.

    Raises:
        ConfigError: one that FastCGI does not have, or none at all.
    """
    try:
        names = tuple(_ROLES[number] for number in roles)
    except (TypeError, KeyError):
        names = ()
    if not names:
        raise ConfigError(
            f"roles is {roles!r}, must hold FCGI_RESPONDER, FCGI_AUTHORIZER or FCGI_FILTER",
            key="roles",
        )
    return names


def read_script_name(name: Any, *, absent: object) -> Any:
    """Check the path of the application; *absent*, None and texts pass.

    Raises:
        ConfigError: it is no path.
    """
    if name is absent or name is None or name == "":
        return name
    if not isinstance(name, str) or name[0] != "/":
        raise ConfigError(
            f"scriptName is {name!r}: it must begin with a slash, such as /app, or be empty for"
            " the root",
            key="scriptName",
        )
    return name


def read_level(level: Any) -> int:
    """Give the number of a level of `logging`, which may be named.

    Raises:
        ConfigError: it is none.
    """
    number = logging.getLevelNamesMapping().get(level) if isinstance(level, str) else level
    if type(number) is not int:
        raise ConfigError(
            f"loggingLevel is {level!r}, must be a level of logging, such as logging.INFO",
            key="loggingLevel",
        )
    return number


def read_address(protocol: str, address: Any, umask: int | None) -> Bind:
    """Make a bind of flup's bindAddress: None, a path, or host and port.

    Args:
        protocol: What is spoken there.
        address: As flup takes it; None, where FastCGI has it, is descriptor 0.
        umask: What the mode of a Unix socket is without; that of the process where it is None.

    Raises:
        ConfigError: it is nothing that can be listened on.
    """
    if umask is not None and (type(umask) is not int or not 0 <= umask <= 0o777):
        raise ConfigError(f"umask is {umask!r}, must be a number from 0 to 0o777", key="umask")
    if address is None and protocol == "fastcgi":
        return Bind(protocol=protocol, transport="fd", fd=0)
    if isinstance(address, (str, os.PathLike)):
        path = os.fspath(address)
        if not path or "\0" in path:
            raise ConfigError(
                f"bindAddress is {path!r}: name the path of a Unix socket; an abstract one is open"
                " to every user of the machine",
                key="bindAddress",
            )
        mode = 0o777 & ~(_process_umask() if umask is None else umask)
        return Bind(protocol=protocol, transport="unix", path=str(Path(path).absolute()), mode=mode)
    if isinstance(address, tuple) and len(address) in {2, 3, 4}:
        host, port = address[:2]
        if isinstance(host, str) and type(port) is int and 0 <= port <= 65_535:
            if len(address) > 2 and not host:
                host = "::"
            if len(address) == 4 and address[3]:
                host = f"{host}%{address[3]}"
            return Bind(protocol=protocol, host=host or "0.0.0.0", port=port)
    raise ConfigError(
        f"bindAddress is {address!r}: name (host, port), such as ('127.0.0.1', 4000), or the path"
        " of a Unix socket",
        key="bindAddress",
    )


def read_allowed(addresses: Any) -> tuple[str, ...] | None:
    """Give the networks that may connect; None where none are named.

    Raises:
        ConfigError: one is no address, or there is none in the list.
    """
    if addresses is None:
        return None
    words: Iterable[Any] = [addresses] if isinstance(addresses, str) else addresses
    try:
        networks = parse_networks(" ".join(words))
    except TypeError:
        raise ConfigError(
            f"allowedServers is {addresses!r}, must be a list of addresses", key="allowedServers"
        ) from None
    except ValueError as error:
        raise ConfigError(f"allowedServers: {error}", key="allowedServers") from None
    if not networks:
        raise ConfigError(
            "allowedServers is empty, so nobody could connect: name the web server's address, or"
            " leave it out for this machine alone",
            key="allowedServers",
        )
    return networks


def restrict(bind: Bind, allowed: tuple[str, ...] | None, instead: str) -> Bind:
    """Let those connect that *allowed* names, and where it names none this machine alone.

    flup lets anybody connect there, and who connects says who the visitor is.

    Args:
        bind: Where to listen.
        allowed: Networks, or None.
        instead: What to do to let others connect, for the log and the refusal.

    Raises:
        ConfigError: an address of the machine that others reach, and nobody is named.
    """
    if bind.transport != "tcp":
        return bind
    if allowed is not None:
        if bind.protocol == "ajp" and _is_exposed(bind.host):
            raise ConfigError(
                f"bindAddress {bind.address} can be reached from other machines, and AJP wants a"
                " secret there, for which flup has no argument: bind 127.0.0.1, or use portico"
                " serve with secret_file in the bind URL",
                key="bindAddress",
            )
        return replace(bind, allow=allowed)
    if bind.host in _EVERYWHERE:
        near = _EVERYWHERE[bind.host]
        log.warning(
            "listening on %s instead of %s, for this machine alone; %s", near, bind.host, instead
        )
        return replace(bind, host=near)
    if _is_exposed(bind.host):
        raise ConfigError(
            f"bindAddress {bind.address} can be reached from other machines, and"
            f" {bind.protocol} authenticates nobody; {instead}, or bind 127.0.0.1",
            key="bindAddress",
        )
    return bind


def _is_exposed(host: str) -> bool:
    """Whether *host* is for certain an address that others can reach; a name may be."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return not host
    return not is_loopback(host)


def _process_umask() -> int:
    """Give the umask, on Linux without setting it: it belongs to all threads."""
    try:
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except (OSError, ValueError, IndexError):
        pass
    before = os.umask(0o077)
    os.umask(before)
    return before
