"""What can be said of settings before anything is opened or loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from portico.codecs import AUTO, PROTOCOLS
from portico.core.mount import EXAMPLES
from portico.errors import ConfigError
from portico.loader import missing_file
from portico.transports.bind import check_exposed, did_you_mean, parse
from portico.transports.systemd import passed_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from portico.config.settings import Settings
    from portico.transports.bind import Bind


def binds(settings: Settings) -> list[Bind]:
    """Give the binds, each with a protocol that can be served.

    Where none is configured, those are meant that systemd has passed to this process.

    Raises:
        ConfigError: there is none, or one that cannot be served.
    """
    urls = settings.bind or passed_binds(os.environ)
    if not urls:
        raise ConfigError(
            "nothing to listen on; add --bind, e.g. --bind scgi://127.0.0.1:4000", key="bind"
        )
    return [_parse(url) for url in urls]


def passed_binds(environ: Mapping[str, str]) -> list[str]:
    """Give a bind URL for each socket that systemd has passed.

    One whose name begins with a protocol's speaks that protocol, the others FastCGI.

    Raises:
        ConfigError: LISTEN_FDS or LISTEN_PID is no number.
    """
    urls = []
    for name, fd in passed_sockets(environ):
        protocol = name.replace(".", "-").partition("-")[0]
        known = protocol in PROTOCOLS or protocol == AUTO
        urls.append(f"{protocol if known else 'fastcgi'}+fd://{fd}")
    return urls


def mistakes(settings: Settings) -> list[ConfigError]:
    """Find what cannot work on this machine, as far as that shows without opening or loading.

    Looks at binds, files and their directories, users, groups, and names of repairs.
    """
    return [
        *_bind_mistakes(settings),
        *_application_mistakes(settings),
        *_name_mistakes(settings),
        *_directory_mistakes(settings),
    ]


def _parse(url: str) -> Bind:
    """Parse a bind that the codecs can serve."""
    bind = parse(url)
    if bind.protocol not in (*PROTOCOLS, AUTO):
        way = "; for a look at it in a browser: portico up" if "http" in bind.protocol else ""
        raise ConfigError(
            f"bind {bind}: no protocol {bind.protocol!a} can be served, only"
            f" {', '.join((*PROTOCOLS, AUTO))}{way}",
            key="bind",
        )
    return bind


def _bind_mistakes(settings: Settings) -> Iterator[ConfigError]:
    for url in settings.bind:
        try:
            bind = _parse(url)
            check_exposed(bind)
            bind.with_secret()
        except ConfigError as error:
            yield _kept(error, "bind")
            continue
        if bind.transport == "unix":
            yield from _unix_mistakes(bind)


def _unix_mistakes(bind: Bind) -> Iterator[ConfigError]:
    # lazy, here and below: there are neither Unix sockets nor such names on Windows
    from portico.transports.unix import group_id, user_id  # noqa: PLC0415

    names = [(user_id, bind.user), (group_id, bind.group)]
    names += [(user_id, name) for name in bind.allow_uid]
    names += [(group_id, name) for name in bind.allow_gid]
    for find, name in names:
        if name and (mistake := _unknown(find, name)):
            yield _kept(mistake, "bind", f"bind {bind}: ")
    if fault := _directory_fault(bind.path):
        yield ConfigError(f"bind {bind}: {fault}", key="bind")


def _application_mistakes(settings: Settings) -> Iterator[ConfigError]:
    if settings.app is not None and (fault := missing_file(settings.app)):
        yield ConfigError(fault, key="app")
    for mount in settings.mounts:
        if fault := missing_file(mount.app):
            yield ConfigError(f"mount {mount.place}: {fault}", key="mounts")
        if settings.app is not None and mount.place == "/":
            yield ConfigError(
                f"the mount / takes all that app {settings.app!r} would serve; leave one away",
                key="mounts",
            )


def _name_mistakes(settings: Settings) -> Iterator[ConfigError]:
    for name in settings.disable_repairs:
        if name not in EXAMPLES:
            yield ConfigError(
                f"there is no repair {name!r}{did_you_mean(name, EXAMPLES)}", key="disable_repairs"
            )
    if settings.user is None and settings.group is None:
        return
    from portico.transports.unix import group_id, user_id  # noqa: PLC0415 - as above

    if settings.user is not None and (mistake := _unknown(user_id, settings.user)):
        yield _kept(mistake, "user")
    if settings.group is not None and (mistake := _unknown(group_id, settings.group)):
        yield _kept(mistake, "group")


def _directory_mistakes(settings: Settings) -> Iterator[ConfigError]:
    for key in ("pid_file", "status_socket", "log_file", "access_log"):
        path = getattr(settings, key)
        if path is not None and path != "-" and (fault := _directory_fault(path)):
            yield ConfigError(f"{key} {path}: {fault}", key=key)


def _directory_fault(path: str) -> str:
    """Say why no file can be at *path*; empty where one can."""
    if "\0" in path:
        return "this is no path of a file"
    try:
        target = Path(path).absolute()
        if not target.parent.is_dir():
            return f"there is no directory {target.parent}"
        return f"{target} is a directory" if target.is_dir() else ""
    except OSError as error:
        return f"{os.fspath(path)} cannot be looked at: {error.strerror}"


def _unknown(find: Callable[[str], int], name: str) -> ConfigError | None:
    try:
        find(name)
    except ConfigError as error:
        return error
    return None


def _kept(error: ConfigError, key: str, before: str = "") -> ConfigError:
    """Give *error* as a mistake of the setting *key*."""
    return ConfigError(before + str(error), key=key, source=error.source)
