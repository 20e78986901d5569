"""What the generator of systemd units needs to know, checked, and systemd's own syntax."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portico.codecs import AUTO, PROTOCOLS
from portico.errors import ConfigError
from portico.transports.bind import check_exposed, is_loopback, plain_address

if TYPE_CHECKING:
    from portico.config.settings import Settings
    from portico.transports.bind import Bind

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", re.ASCII)

#: Words that mean nothing in systemd's syntax; all others stand in quotes.
_PLAIN = re.compile(r"[A-Za-z0-9_./:@=+,?&-]+", re.ASCII)

#: Directories that a hardened service has for itself, empty.
_PRIVATE = ("/tmp", "/var/tmp")  # noqa: S108 - named, not used

_HOMES = ("/home", "/root", "/run/user")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One application as a service of systemd.

    Attributes:
        name: Of the service, without its suffix.
        application: As ``portico serve`` takes it.
        command: Absolute path of the ``portico`` command, or of Python and what follows it.
        directory: Working directory, from which the application is found; absolute.
        binds: Where it listens.
        settings: All settings, those of the file and of *options* below.
        user: Account that it runs as; ``""`` for one that systemd makes up while it runs.
        group: Its group; ``""`` for the account's own.
        activated: Whether systemd opens the sockets.
        config: Absolute path of the YAML file; ``""`` for none.
        options: Names and texts of further settings, in order, as the command line has them.
        writable: Absolute paths of directories that the application may write to.

    Raises:
        ConfigError: a value that cannot stand in a unit, or that cannot work in this one.
    """

    name: str
    application: str
    command: tuple[str, ...]
    directory: str
    binds: tuple[Bind, ...]
    settings: Settings
    user: str = ""
    group: str = ""
    activated: bool = False
    config: str = ""
    options: tuple[tuple[str, str], ...] = ()
    writable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_names(self)
        for what, path in self._paths():
            check_path(what, path)
            _check_visible(what, path)
        if "$" in self.command[0]:
            raise ConfigError(f"the command {self.command[0]!a} holds $, which systemd misreads")
        for bind in self.binds:
            check_bind(self, bind)

    def _paths(self) -> list[tuple[str, str]]:
        """All paths that the service must find, and what they are."""
        found = [("command", self.command[0]), ("directory", self.directory)]
        found += [("configuration file", self.config)] if self.config else []
        target = self.application.rpartition(":")[0] or self.application
        found += [("application", target)] if target.startswith("/") else []
        found += [("writable directory", path) for path in self.writable]
        return found

    @property
    def in_home(self) -> bool:
        """Whether anything that the service needs is below somebody's home directory."""
        return any(_is_below(path, _HOMES) for _, path in self._paths())

    @property
    def notifies(self) -> bool:
        """Whether there is a parent process, which tells systemd of its state and reloads."""
        return self.settings.workers > 0


def default_name(application: str) -> str:
    """Derive a service's name: ``shop`` of ``shop.wsgi:application`` or ``/srv/x/shop.py``.

    Raises:
        ConfigError: there is nothing to derive it from.
    """
    target = application.rpartition(":")[0] or application
    stem = Path(target).stem if target.endswith((".py", ".wsgi")) else target.partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")
    if not name:
        raise ConfigError("the service needs a name: say --name NAME", key="name")
    return name


def quote(text: str, *, what: str = "word", variables: bool = False) -> str:
    """Write one word for a setting of systemd that takes several.

    Args:
        text: The word.
        what: What it is, for the refusal.
        variables: Whether systemd replaces ``$NAME`` there, as in ``ExecStart=``.

    Raises:
        ConfigError: a control character, or what is no UTF-8.

    Spec: systemd.syntax(7), "Quoting"; systemd.unit(5), "Specifiers"; systemd.service(5),
        "Command lines".
    """
    check_text(what, text)
    escaped = text.replace("%", "%%")
    if variables:
        escaped = escaped.replace("$", "$$")
    if _PLAIN.fullmatch(text):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


def whole(text: str, *, what: str) -> str:
    r"""Write a value for a setting of systemd that takes the rest of its line as it is.

    Raises:
        ConfigError: as `quote`; also blanks at an end and ``\`` at the last one, which would not
            stay.
    """
    check_text(what, text)
    if text != text.strip() or text.endswith("\\"):
        raise ConfigError(
            f"the {what} {text!a} begins or ends with what systemd does not keep there", key=what
        )
    return text.replace("%", "%%")


def check_text(what: str, text: str) -> None:
    """Refuse what cannot stand on one line of UTF-8.

    Raises:
        ConfigError: names *what*.
    """
    if not all(char.isprintable() or char in "\xa0\u3000" for char in text):
        raise ConfigError(
            f"the {what} {text!a} holds a character that cannot stand in a unit", key=what
        )


def check_path(what: str, path: str) -> None:
    """Refuse a path that is not absolute and in its plain form.

    Raises:
        ConfigError: names *what*.
    """
    check_text(what, path)
    parts = path.split("/")
    if parts[0] or len(parts) < 2 or any(part in {"", ".", ".."} for part in parts[1:]):
        raise ConfigError(
            f"the {what} {path!a} is no absolute path without . and .. in it", key=what
        )


def check_bind(unit: Unit, bind: Bind) -> None:
    """Refuse a bind that an unprivileged, hardened service cannot have.

    Raises:
        ConfigError: says what to do instead.
    """
    if bind.protocol not in (*PROTOCOLS, AUTO):
        raise ConfigError(f"bind {bind}: no protocol {bind.protocol!a} can be served", key="bind")
    if bind.secret:
        raise ConfigError(
            f"bind {bind}: everybody may read a unit: keep the secret in a file, secret_file=PATH",
            key="bind",
        )
    if bind.transport in {"fd", "pipe"} or (unit.activated and bind.transport == "systemd"):
        raise ConfigError(
            f"bind {bind}: say where to listen, on TCP or a Unix socket; with --socket systemd"
            " opens it",
            key="bind",
        )
    if bind.transport == "tcp":
        _check_tcp(unit, bind)
    elif bind.transport == "unix":
        _check_unix(unit, bind)


def _check_tcp(unit: Unit, bind: Bind) -> None:
    check_exposed(bind)
    if not bind.port:
        raise ConfigError(f"bind {bind}: a service needs a port, 0 is none", key="bind")
    if unit.activated:
        try:
            plain_address(bind.host)
        except ValueError:
            better = "127.0.0.1" if is_loopback(bind.host) else "an address"
            raise ConfigError(
                f"bind {bind}: systemd looks up no names: write {better}", key="bind"
            ) from None
    elif bind.port < 1024:
        raise ConfigError(
            f"bind {bind}: ports below 1024 need root, which this service is not: add --socket, or"
            " choose a higher one",
            key="bind",
        )


def _check_unix(unit: Unit, bind: Bind) -> None:
    check_path("socket", bind.path)
    for what, account in (("user", bind.user), ("group", bind.group)):
        if account:
            _check_account(what, account)
    if unit.activated:
        return
    _check_visible("socket", bind.path)
    if bind.user and bind.user != unit.user:
        raise ConfigError(
            f"bind {bind}: only root can give a socket to user {bind.user}: add --socket, or say"
            " group=",
            key="bind",
        )


def _check_names(unit: Unit) -> None:
    if not _NAME.fullmatch(unit.name):
        raise ConfigError(
            f"the service's name {unit.name!a} is not made of plain letters, digits, - and _",
            key="name",
        )
    check_text("application", unit.application)
    if not unit.application or unit.application.startswith("-"):
        raise ConfigError(
            f"the service needs an application, and {unit.application!a} is none", key="app"
        )
    for what, account in (("user", unit.user), ("group", unit.group)):
        if account:
            _check_account(what, account)
    if unit.group and not unit.user:
        raise ConfigError("--group needs --user", key="group")


def _check_account(what: str, name: str) -> None:
    if not _ACCOUNT.fullmatch(name):
        raise ConfigError(f"{name!a} is no name of a {what} for systemd", key=what)


def _check_visible(what: str, path: str) -> None:
    if _is_below(path, _PRIVATE):
        better = "/run/NAME/app.sock" if what == "socket" else f"/srv, with --{what}"
        raise ConfigError(
            f"the {what} {path} is below a directory that the service has for itself alone"
            f" (PrivateTmp=): choose another place, such as {better}",
            key=what,
        )


def _is_below(path: str, directories: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in directories)
