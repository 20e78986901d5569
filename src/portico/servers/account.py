"""The account that a web server drops to when root starts it, and what it may reach."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portico.errors import ConfigError

if TYPE_CHECKING:
    from portico.servers.site import Site

#: Web servers' accounts by distribution, then the one that exists everywhere.
_NAMES = ("www-data", "apache", "http", "www", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """A user without privileges.

    Attributes:
        user: Name.
        group: Name of the primary group.
        uid: Number of the user.
        gids: Numbers of all groups.
    """

    user: str
    group: str
    uid: int
    gids: frozenset[int]


def is_root() -> bool:
    """Tell whether this process may do everything."""
    return os.geteuid() == 0


def unprivileged() -> Account | None:
    """Choose the account for a server that refuses to serve as root; None unless we are root.

    Raises:
        ConfigError: this system has none of the usual accounts.
    """
    if not is_root():
        return None
    for name in _NAMES:
        account = named(name)
        if account is not None:
            return account
    raise ConfigError(f"root needs an account for the web server: one of {', '.join(_NAMES)}")


def named(user: str | int) -> Account | None:
    """Give the account of that name or number; None where there is none."""
    try:
        entry = pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
        group = grp.getgrgid(entry.pw_gid).gr_name
    except KeyError:
        return None
    gids = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, group, entry.pw_uid, gids)


def admit(account: Account, title: str, site: Site) -> None:
    """Make the application's socket or script reachable for *account*.

    Only what Portico made itself, in a temporary directory of its own, is changed.

    Raises:
        ConfigError: something else is in the way; the message names it.
    """
    if site.socket_path:
        _admit_path(account, Path(site.socket_path), stat.S_IROTH | stat.S_IWOTH, title)
    if site.script:
        _admit_path(account, Path(site.script), stat.S_IROTH | stat.S_IXOTH, title)


def _admit_path(account: Account, path: Path, wanted: int, title: str) -> None:
    for parent in reversed(path.parents):
        if parent.is_dir() and not may(account, parent, stat.S_IXOTH):
            if not _is_ours(parent):
                raise _refusal(account, path, parent, title)
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o011)
    if path.exists() and not may(account, path, wanted):
        if not any(_is_ours(parent) for parent in path.parents):
            raise _refusal(account, path, path, title)
        os.chown(path, account.uid, -1)


def _refusal(account: Account, path: Path, obstacle: Path, title: str) -> ConfigError:
    return ConfigError(
        f"started by root, {title} runs as {account.user}, who cannot reach {path}"
        f" ({obstacle} has mode {stat.S_IMODE(obstacle.stat().st_mode):o}): open it to"
        f" {account.user}, or let the application listen on 127.0.0.1",
        key="bind",
    )


def may(account: Account, path: Path, bits: int) -> bool:
    """Tell whether the mode of *path* gives *account* the permissions; *bits* as for others."""
    status = path.stat()
    if status.st_uid == account.uid:
        bits <<= 6
    elif status.st_gid in account.gids:
        bits <<= 3
    return status.st_mode & bits == bits


def _is_ours(directory: Path) -> bool:
    """Tell whether this process's user made *directory* with the name that Portico gives."""
    return (
        directory.name.startswith("portico-")
        and directory.parent == Path(tempfile.gettempdir())
        and directory.stat().st_uid == os.geteuid()
    )
