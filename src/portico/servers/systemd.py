"""Units of systemd: a hardened service, and sockets that systemd opens for it.

Written for systemd 252 (Debian 12) and later.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from portico.config.resolve import flag_of
from portico.config.settings import OPTIONS
from portico.errors import ConfigError
from portico.servers.unit import check_path, quote, whole
from portico.transports.bind import (
    DEFAULT_BACKLOG,
    DEFAULT_MODE,
    is_loopback,
    join_host_port,
)

if TYPE_CHECKING:
    from portico.servers.unit import Unit
    from portico.transports.bind import Bind

#: Seconds that the end may take beyond what running requests are given.
_MARGIN_SECONDS = 10

#: Seconds after which systemd takes a parent that says nothing for stuck.
_WATCHDOG_SECONDS = 30

#: Place -> the setting that makes a directory there for the service.
_MADE = {"/run/": "RuntimeDirectory", "/var/lib/": "StateDirectory", "/var/log/": "LogsDirectory"}

#: What those settings take without quotes and colons, which newer systemds read as links.
_MADE_NAME = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*", re.ASCII)

#: Settings that name a file which is written.
_WRITTEN = ("log_file", "access_log", "pid_file", "status_socket")

#: What holds without regard to the application; each with the reason where the name is not one.
_HARDENING = """\
NoNewPrivileges=yes
# none of root's powers, for whoever breaks in either
CapabilityBoundingSet=
RestrictSUIDSGID=yes
# everything is read-only but what is named above, /tmp is the service's own
ProtectSystem=strict
PrivateTmp=yes
{home}
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
# the web server's side, databases and other servers; no raw packets
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
# what servers call; anything else fails, as if there were no permission
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# files are for the user and its group
UMask=0027"""


def render(unit: Unit) -> dict[str, str]:
    """Give the units, file name -> text, the service first.

    Raises:
        ConfigError: a value that a unit cannot hold.
    """
    sockets = _sockets(unit) if unit.activated else {}
    names = list(sockets)
    files = {f"{unit.name}.service": _service(unit, names)}
    for name, (descriptor, bind) in sockets.items():
        files[name] = _socket(unit, descriptor, bind)
    return files


def _service(unit: Unit, sockets: list[str]) -> str:
    lines = [
        "[Unit]",
        f"Description={whole(unit.application, what='application')}, served by Portico",
        *_order(unit, sockets),
        "",
        "[Service]",
        *_running(unit, sockets),
        "",
        "# Whose it is, and what it may write to",
        *_identity(unit),
        *_directories(unit),
        "",
        "# What it cannot do",
        *_hardening(unit),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        *([f"Also={' '.join(sockets)}"] if sockets else []),
    ]
    return "\n".join(lines) + "\n"


def _order(unit: Unit, sockets: list[str]) -> list[str]:
    if sockets:
        return [f"Requires={' '.join(sockets)}", "After=network.target"]
    if any(bind.transport == "tcp" and not is_loopback(bind.host) for bind in unit.binds):
        return ["# its address must be there", "Wants=network-online.target",
                "After=network-online.target"]  # fmt: skip
    return ["After=network.target"]


def _running(unit: Unit, sockets: list[str]) -> list[str]:
    settings = unit.settings
    lines = []
    if unit.notifies:
        lines += [
            "# It says itself when it is ready, reloading or stopping. systemd 252 does not know",
            "# notify-reload, and would take the service for ready at once.",
            "Type=notify",
        ]
    else:
        lines += ["# one process, without a parent that says when it is ready", "Type=exec"]
    lines += [
        f"WorkingDirectory={whole(unit.directory, what='directory')}",
        f"ExecStart={_command(unit)}",
    ]
    if unit.notifies:
        lines += [
            "# new workers first; the old ones go when those serve",
            "ExecReload=/bin/kill -HUP $MAINPID",
        ]
    if sockets:
        lines.append(f"Sockets={' '.join(sockets)}")
    lines += [
        "Restart=on-failure",
        "# far enough apart that systemd does not give up: what is missing may come later",
        "RestartSec=5",
    ]
    if unit.notifies:
        lines += [
            "# until the first worker has loaded the application",
            f"TimeoutStartSec={math.ceil(settings.startup_timeout) + _MARGIN_SECONDS}",
            "# a parent that says nothing for so long is stuck",
            f"WatchdogSec={_WATCHDOG_SECONDS}",
            "# the parent alone is told to stop; what is left after it is killed",
        ]
    lines += [
        "KillMode=mixed",
        f"# graceful_timeout ({settings.graceful_timeout:g} s), and time to leave",
        f"TimeoutStopSec={math.ceil(settings.graceful_timeout) + _MARGIN_SECONDS}",
        "# two for each connection (max_connections), and some",
        f"LimitNOFILE={2 * settings.max_connections + 256}",
    ]
    return lines


def _command(unit: Unit) -> str:
    words = [*unit.command, "serve", unit.application]
    if unit.config:
        words += ["--config", unit.config]
    for descriptor, bind in _named(unit):
        words += ["--bind", (_passed(bind, descriptor) if unit.activated else bind).to_url()]
    for name, text in unit.options:
        option = OPTIONS[name]
        if option.kind == "bool":
            on = option.read(text)
            words.append(flag_of(option) if on else "--no-" + flag_of(option).removeprefix("--"))
        else:
            words.append(f"{flag_of(option)}={text}")
    first, *others = words
    return " ".join(
        [quote(first, what="command"), *(quote(word, variables=True) for word in others)]
    )


def _identity(unit: Unit) -> list[str]:
    groups = sorted(
        {
            bind.group
            for bind in unit.binds
            if bind.transport == "unix" and bind.group and not unit.activated
        }
    )
    if unit.user:
        lines = [f"User={unit.user}", *([f"Group={unit.group}"] if unit.group else [])]
    else:
        lines = ["# a user of its own, which exists while it runs", "DynamicUser=yes"]
    if groups:
        lines += [
            "# only a member may give the socket to the group",
            f"SupplementaryGroups={' '.join(groups)}",
        ]
    return lines


def _directories(unit: Unit) -> list[str]:
    """Say which directories systemd makes for the service, and which it may write to."""
    made: dict[str, set[str]] = {setting: set() for setting in _MADE.values()}
    made["StateDirectory"].add(unit.name)
    others = set()
    for directory in _written(unit):
        place = next((place for place in _MADE if directory.startswith(place)), "")
        name = directory.removeprefix(place)
        if place and _MADE_NAME.fullmatch(name):
            made[_MADE[place]].add(name)
        else:
            others.add(directory)
    lines = [f"{setting}={' '.join(sorted(names))}" for setting, names in made.items() if names]
    if others:
        lines += [
            "# these must be there, and its user's",
            f"ReadWritePaths={' '.join(quote(path) for path in sorted(others))}",
        ]
    return lines


def _written(unit: Unit) -> list[str]:
    """Give the directories that are written to.

    Raises:
        ConfigError: one that only root may write to.
    """
    files = [bind.path for bind in unit.binds if bind.transport == "unix" and not unit.activated]
    for name in _WRITTEN:
        path = getattr(unit.settings, name)
        if path and path != "-":
            if not path.startswith("/"):
                path = f"{unit.directory}/{path}"
            check_path(name, path)
            files.append(path)
    directories = [path.rpartition("/")[0] for path in files]
    for path, directory in zip(files, directories, strict=True):
        if directory in {"", *(place.rstrip("/") for place in _MADE)}:
            inside = f"{directory}/{unit.name}/{path.rpartition('/')[2]}"
            raise ConfigError(
                f"{path} is in a directory that only root may write to: choose {inside}",
                key="bind",
            )
    return [*directories, *unit.writable]


def _hardening(unit: Unit) -> list[str]:
    home = "ProtectHome=yes"
    if unit.in_home:
        home = (
            "# read-only, and not hidden: something of the service is there\nProtectHome=read-only"
        )
    return _HARDENING.format(home=home).splitlines()


# -- sockets -------------------------------------------------------------------------------


def _named(unit: Unit) -> list[tuple[str, Bind]]:
    """Give each bind a name that begins with its protocol, as `portico.run` expects it."""
    found: list[tuple[str, Bind]] = []
    for bind in unit.binds:
        earlier = sum(other.protocol == bind.protocol for _, other in found)
        found.append((bind.protocol + (f"-{earlier + 1}" if earlier else ""), bind))
    return found


def _sockets(unit: Unit) -> dict[str, tuple[str, Bind]]:
    """Give the sockets by the file name of their unit, which has one name for all it opens."""
    named = _named(unit)
    if len(named) == 1:
        return {f"{unit.name}.socket": named[0]}
    return {f"{unit.name}-{descriptor}.socket": (descriptor, bind) for descriptor, bind in named}


def _socket(unit: Unit, descriptor: str, bind: Bind) -> str:
    lines = [
        "[Unit]",
        f"Description={bind.protocol} socket of {whole(unit.application, what='application')}",
        "",
        "[Socket]",
        *(_unix(bind) if bind.transport == "unix" else _tcp(bind)),
        f"FileDescriptorName={descriptor}",
        "# connections that wait while the service starts",
        f"Backlog={bind.backlog}",
        f"Service={unit.name}.service",
        "",
        "[Install]",
        "WantedBy=sockets.target",
    ]
    return "\n".join(lines) + "\n"


def _unix(bind: Bind) -> list[str]:
    return [
        f"ListenStream={whole(bind.path, what='socket')}",
        *([f"SocketUser={bind.user}"] if bind.user else []),
        *([f"SocketGroup={bind.group}"] if bind.group else []),
        f"SocketMode={bind.mode:04o}",
        "RemoveOnStop=yes",
    ]


def _tcp(bind: Bind) -> list[str]:
    lines = [f"ListenStream={join_host_port(bind.host, bind.port)}"]
    if ":" in bind.host:
        lines += ["# 0.0.0.0 is a socket of its own", "BindIPv6Only=ipv6-only"]
    if not is_loopback(bind.host):
        lines += ["# an address that comes later, when a network does", "FreeBind=yes"]
    if bind.reuse_port:
        lines.append("ReusePort=yes")
    return lines


def _passed(bind: Bind, descriptor: str) -> Bind:
    """Give the bind of the service for a socket that systemd opens: who may connect stays."""
    return replace(
        bind,
        transport="systemd",
        name=descriptor,
        host="",
        port=0,
        path="",
        mode=DEFAULT_MODE,
        user="",
        group="",
        backlog=DEFAULT_BACKLOG,
        reuse_port=False,
    )


def describe(files: dict[str, str]) -> str:
    """Write units one below the other, each under the path where it belongs."""
    return "\n".join(f"# /etc/systemd/system/{name}\n{text}" for name, text in files.items())
