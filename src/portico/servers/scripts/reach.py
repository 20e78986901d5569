"""Modes and owners on the way to a script: what suexec refuses, what the web server may reach."""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

from portico.servers.account import may
from portico.servers.scripts.findings import Finding, found

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from portico.servers.account import Account

_FOR_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def look_at_modes(path: Path) -> Iterator[Finding]:
    """Tell what the system and suexec refuse to start.

    Args:
        path: The script, which exists.
    """
    status = path.stat()
    mode = _mode(status)
    if not status.st_mode & 0o111:
        yield found("not-executable", path=path, mode=mode)
    if _is_noexec(path):
        yield found("noexec", path=path)
    if status.st_mode & _FOR_OTHERS:
        yield found("writable-file", path=path, mode=mode)
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        yield found("set-id", path=path, mode=mode)
    directory = path.absolute().parent
    its = directory.stat()
    if its.st_mode & _FOR_OTHERS:
        yield found("writable-directory", path=directory, mode=_mode(its))
    if its.st_uid != status.st_uid:
        yield found("other-owner", path=path, owner=_name(status.st_uid), other=_name(its.st_uid))


def look_for(account: Account, path: Path, *, executed: bool) -> Iterator[Finding]:
    """Walk *path* as *account*: the first place where it may not pass, or what it may not read.

    Access control lists are not looked at.
    """
    try:
        yield from _obstacles(account, path, executed=executed)
    except OSError:  # the present user may not even look
        return


def _obstacles(account: Account, path: Path, *, executed: bool) -> Iterator[Finding]:
    for place in (*reversed(path.absolute().parents), *reversed(path.resolve().parents)):
        if not may(account, place, stat.S_IXOTH):
            yield found(
                "out-of-reach",
                user=account.user,
                place=place,
                mode=_mode(place.stat()),
                path=path,
            )
            return
    wanted = stat.S_IROTH | (stat.S_IXOTH if executed else 0)
    if not may(account, path, wanted):
        yield found(
            "not-for-user",
            user=account.user,
            verb="read and execute" if executed else "read",
            path=path,
            mode=_mode(path.stat()),
            wanted="755" if executed else "644",
        )


def _is_noexec(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_NOEXEC)
    except (OSError, AttributeError):  # Linux alone tells it
        return False


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):o}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
