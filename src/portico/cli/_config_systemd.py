"""``portico config systemd``: from its arguments to the units."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portico.config import resolve
from portico.config.settings import OPTIONS
from portico.errors import ConfigError
from portico.servers import systemd
from portico.servers.unit import Unit, default_name
from portico.transports import bind as binds
from portico.transports.bind import did_you_mean

if TYPE_CHECKING:
    from portico.config.settings import Settings

TARGET = "systemd"

#: Arguments of the web servers -> what they are where they are not given.
_OTHERS: dict[str, Any] = {
    "script": "",
    "server_name": "",
    "listen": "80",
    "body_limit": "0",
    "timeout": 60,
    "stream": False,
}

_OWN = ("name", "user", "group", "socket", "config", "option", "writable", "directory", "command",
        "output")  # fmt: skip

#: Settings that `--option` does not take, and why.
_REFUSED = {
    "app": "say it with APP",
    "bind": "say it with --bind",
    "mount": "say it with --mount",
    "user": "say it with --user: systemd starts the service as that user",
    "group": "say it with --group: systemd starts the service in that group",
    "reload": "it is for development",
}


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the arguments that only this target has."""
    group.add_argument("--name", help="of the service; derived from APP by default")
    group.add_argument(
        "--user", metavar="NAME", help="account that it runs as; by default one of its own"
    )
    group.add_argument("--group", metavar="NAME", help="its group; by default the account's")
    group.add_argument("--socket", action="store_true", help="let systemd open the sockets")
    group.add_argument("--config", metavar="FILE", help="YAML file with options, absolute")
    group.add_argument(
        "--option",
        action="append",
        metavar="NAME=VALUE",
        help="an option of portico serve, such as workers=4; may be repeated",
    )
    group.add_argument(
        "--writable",
        action="append",
        metavar="DIR",
        help="a directory that the application may write to; may be repeated",
    )
    group.add_argument(
        "--directory",
        metavar="DIR",
        help="from which the application is found; the present one by default",
    )
    group.add_argument(
        "--command",
        metavar="PATH",
        help="the portico command of the service; the present one by default",
    )
    group.add_argument("--output", metavar="DIR", help="write files there instead of printing them")


def refuse_arguments(options: argparse.Namespace, title: str) -> None:
    """Refuse what only this target has, where it is another one.

    Raises:
        ConfigError: there is such an argument.
    """
    for name in _OWN:
        if getattr(options, name):
            raise ConfigError(f"--{name} is for systemd, not for {title}", key=name)


def run(options: argparse.Namespace, urls: list[str]) -> int:
    """Print the units, or write them.

    Args:
        options: The command's arguments.
        urls: Where the application listens, unless the configuration file says it.

    Raises:
        ConfigError: an argument that is for web servers, or a value that no unit can hold.
    """
    if not options.application:
        raise ConfigError("a service runs an application: portico config systemd APP", key="app")
    for name, default in _OTHERS.items():
        if getattr(options, name) != default:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} is for web servers, not for systemd", key=name)
    files = systemd.render(_make_unit(options, urls))
    if options.output:
        _write(Path(options.output), files)
    else:
        sys.stdout.write(systemd.describe(files))
    return 0


def _make_unit(options: argparse.Namespace, urls: list[str]) -> Unit:
    settings, words = _settings(options)
    if not options.bind and settings.bind:
        urls = list(settings.bind)
    return Unit(
        name=options.name or default_name(options.application),
        application=options.application,
        command=(options.command,) if options.command else _present_command(),
        directory=os.path.abspath(options.directory or "."),  # noqa: PTH100 - keeps links, drops ..
        binds=tuple(binds.parse(url) for url in urls),
        user=options.user or "",
        group=options.group or "",
        activated=options.socket,
        config=options.config or "",
        options=words,
        settings=settings,
        writable=tuple(options.writable or ()),
    )


def _settings(options: argparse.Namespace) -> tuple[Settings, tuple[tuple[str, str], ...]]:
    """Give all settings that the service will have, and those for its command line."""
    words = [_split(text) for text in options.option or ()]
    if options.mount:
        words.insert(0, ("mount", options.mount.rstrip("/") or "/"))
    given: dict[str, Any] = {}
    for name, text in words:
        given[name] = [*given.get(name, ()), text] if OPTIONS[name].repeatable else text
    settings, sources = resolve.resolve(argparse.Namespace(**given), {}, options.config)
    for name in ("user", "group"):
        if getattr(settings, name):
            raise ConfigError(
                f"{sources[name]}: leave {name} to systemd, and say --{name} here", key=name
            )
    return settings, tuple(words)


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name = name.replace("-", "_")
    if name in _REFUSED:
        raise ConfigError(f"--option {name}: {_REFUSED[name]}", key=name)
    if name not in OPTIONS:
        raise ConfigError(f"--option: there is no {name!a}{did_you_mean(name, OPTIONS)}", key=name)
    if not equals:
        raise ConfigError(f"--option {name} has no value: write {name}=VALUE", key=name)
    OPTIONS[name].read(value, "command line, --option")
    return name, value


def _present_command() -> tuple[str, ...]:
    """Find the command of this environment, by the path that leads into it."""
    python = os.path.abspath(sys.executable)  # noqa: PTH100 - resolve() would leave the venv
    beside = Path(python).with_name("portico")
    return (str(beside),) if beside.is_file() else (python, "-m", "portico")


def _write(directory: Path, files: dict[str, str]) -> None:
    """Write the units, none of them over another file.

    Raises:
        ConfigError: there is one already that says something else, or the system refuses.
    """
    try:
        for name, text in files.items():
            path = directory / name
            if path.exists() and path.read_text(encoding="utf-8") != text:
                raise ConfigError(
                    f"{path} exists and says something else: move it away, or leave --output out"
                    " and compare",
                    key="output",
                )
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {directory / name}\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"cannot write to {directory}: {reason}", key="output") from error
