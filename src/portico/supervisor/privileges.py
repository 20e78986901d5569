"""The account that workers run as: looked up before anything starts, taken on after the fork."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from portico.errors import ConfigError, TransportError

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable

#: User and group ids are 32 bits wide; the last one means "unchanged".
_MOST_ID = 0xFFFF_FFFE


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a worker becomes.

    Attributes:
        user: Name, or number where no name is known.
        home: Home directory.
        uid: Number of the user.
        gid: Number of the group.
        groups: Numbers of all groups, that one among them.
    """

    user: str
    home: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    def become(self) -> None:
        """Make this process the account's, for good.

        Sets HOME, USER and LOGNAME in `os.environ` to the account's, as login(1) does: libraries
        look for their files there. An ordinary user, who can only be this account already, keeps
        everything else.

        Raises:
            TransportError: the system refuses, or there is a way back.
        """
        if os.geteuid() == 0:
            self._leave_root()
        os.environ.update(HOME=self.home, USER=self.user, LOGNAME=self.user)

    def _leave_root(self) -> None:
        try:
            # groups first: after setuid nobody may change them any more
            os.setgroups(self.groups)
            os.setgid(self.gid)
            os.setuid(self.uid)
        except OSError as error:
            raise TransportError(
                f"cannot become user {self.user} (uid {self.uid}, gid {self.gid}): {error.strerror}"
            ) from error
        if not self._is_taken() or (self.uid and _can_return()):
            raise TransportError(
                f"became user {self.user}, and privileges are left: this process would not be safe"
            )

    def _is_taken(self) -> bool:
        users = {os.getuid(), os.geteuid()}
        groups = {os.getgid(), os.getegid()}
        kept = set(os.getgroups())
        return users == {self.uid} and groups == {self.gid} and kept <= set(self.groups)


def find_account(user: str | None, group: str | None) -> Account | None:
    """Look up the account of the settings `user` and `group`, before anything starts.

    A group alone leaves the user as it is; a user alone has its own group, and in any case its
    supplementary groups.

    Args:
        user: Name or number; None or empty to stay who we are.
        group: Name or number; None or empty for the user's own.

    Returns:
        The account; None where neither is given.

    Raises:
        ConfigError: there is no such user or group, or this process cannot become it.
    """
    if not user and not group:
        return None
    entry = _find_user(user) if user else _myself()
    gid = _find_group(group) if group else entry.pw_gid
    if gid < 0:
        raise ConfigError(
            f"user {user} has no entry in the system's list, and so no group: add --group",
            key="group",
        )
    _check_power(entry, gid, group)
    groups = tuple(sorted(os.getgrouplist(entry.pw_name, gid)))
    return Account(entry.pw_name, entry.pw_dir, entry.pw_uid, gid, groups)


def warn_if_root(log: logging.Logger, account: Account | None = None) -> None:
    """Say in one line that the application runs as root, where it does.

    Args:
        log: Where to.
        account: Whom the workers become; None if they stay who we are.
    """
    if (os.geteuid() if account is None else account.uid) == 0:
        log.warning(
            "the application runs as root, and so does whoever finds a hole in it: add --user NAME"
        )


def _check_power(entry: pwd.struct_passwd, gid: int, group: str | None) -> None:
    """Refuse what only root can do, unless we are root."""
    me = os.geteuid()
    if me == 0:
        return
    if entry.pw_uid != me:
        raise ConfigError(
            f"only root can become user {entry.pw_name}, and this is user {me}: start it as root,"
            f" or as {entry.pw_name} without --user",
            key="user",
        )
    if group and gid != os.getegid():
        raise ConfigError(
            f"only root can become group {group}, and this is user {me}: start it as root, or"
            " without --group",
            key="group",
        )


def _myself() -> pwd.struct_passwd:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return _unlisted(uid, os.getegid())


def _find_user(name: str) -> pwd.struct_passwd:
    number = _number(name)
    try:
        return pwd.getpwnam(name) if number is None else pwd.getpwuid(number)
    except (KeyError, UnicodeEncodeError):
        if number is not None:
            return _unlisted(number, os.getegid() if number == os.geteuid() else -1)
    raise _unknown("user", name, (entry.pw_name for entry in pwd.getpwall()))


def _find_group(name: str) -> int:
    number = _number(name)
    if number is not None:
        return number
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, UnicodeEncodeError):
        pass
    raise _unknown("group", name, (entry.gr_name for entry in grp.getgrall()))


def _number(text: str) -> int | None:
    if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _MOST_ID:
        return int(text)
    return None


def _unlisted(uid: int, gid: int) -> pwd.struct_passwd:
    """Give the entry of a user that the system has no entry for, as containers have them."""
    return pwd.struct_passwd((str(uid), "", uid, gid, "", "/", ""))


def _unknown(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ConfigError(f"there is no {kind} {name!r} on this machine{hint}", key=kind)


def _can_return() -> bool:
    """Tell whether this process can be root again; it must not be.

    A process that still has CAP_SETUID, or root as its saved user, can.
    """
    for become in (os.seteuid, os.setuid, os.setegid, os.setgid):
        if become in {os.setegid, os.setgid} and 0 in {os.getgid(), *os.getgroups()}:
            continue  # root's group is what was asked for
        try:
            become(0)
        except PermissionError:
            continue
        return True
    return False
