"""The files that logs go to: standard error with all that ends up there, and the access log.

Processes share such a file by appending to it, each line in one write. Somebody moves it away,
as logrotate does; then each process opens the path anew.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from portico.errors import ConfigError
from portico.transports.stdio import open_missing

if TYPE_CHECKING:
    from portico.config.settings import Settings

log = logging.getLogger("portico")

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOCTTY", 0)

#: The log may repeat what is secret; the group is that of whoever evaluates it.
_MODE = 0o640

_STDOUT, _STDERR = 1, 2


def start_logging(settings: Settings) -> None:
    """Let Portico's log lines go to standard error, wherever that leads."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s portico[%(process)d] %(levelname)s %(message)s",
        stream=sys.stderr,
    )


def change_level(old: Settings, new: Settings) -> None:
    """Let the log be as loud as *new* says, if *old* did not say so already."""
    if old.log_level != new.log_level:  # else whoever has set it up without us may know better
        logging.getLogger().setLevel(new.log_level.upper())


class LogFiles:
    """The log files of one process, and of those that are forked from it.

    `log_file` takes the place of descriptor 2, so tracebacks of C code and what programs print that
    the application starts go there as well.

    Args:
        settings: `log_file` and `access_log`; a relative path means the present directory.

    Attributes:
        access_fd: Where access lines go; -1 without an access log.

    Raises:
        ConfigError: a file cannot be opened; then nothing has changed.
    """

    __slots__ = ("_owner", "_paths", "access_fd")

    def __init__(self, settings: Settings) -> None:
        open_missing()  # or a log file would become descriptor 1
        self._paths: dict[int, str] = {}
        self._owner: tuple[int, int] | None = None
        self.access_fd = -1
        log_fd = -1
        if settings.log_file is not None:
            log_fd = _open_first("log_file", settings.log_file)
        try:
            if settings.access_log == "-":
                self.access_fd = _STDOUT
            elif settings.access_log is not None:
                self.access_fd = _open_first("access_log", settings.access_log)
                self._paths[self.access_fd] = _whole(settings.access_log)
        except ConfigError:
            if log_fd >= 0:
                os.close(log_fd)
            raise
        if settings.log_file is not None:
            _put(log_fd, _STDERR)
            self._paths[_STDERR] = _whole(settings.log_file)

    @property
    def has_own(self) -> bool:
        """Whether there are files to be opened anew."""
        return bool(self._paths)

    def reopen(self) -> bool:
        """Open the paths anew; where that fails, the old file goes on, and the log says so.

        Each process has its own descriptors, so each must do it. One that may create files does it
        before those that may only open them.

        Returns:
            Whether this process was permitted to. If not, its parent may be, and a process that is
            forked there afterwards has the new files.
        """
        is_permitted = True
        for fd, path in self._paths.items():
            try:
                _put(os.open(path, _FLAGS, _MODE), fd)
            except OSError as error:
                is_permitted = is_permitted and not isinstance(error, PermissionError)
                log.error(  # noqa: TRY400 - no traceback: it would say nothing more
                    "cannot open %s anew: %s; going on with the old file", path, error.strerror
                )
        self._give()
        return is_permitted

    def give_to(self, uid: int, gid: int) -> None:
        """Let a user open the files that belong to root, now and after each `reopen`.

        Without effect in a process that is not root's.

        Args:
            uid: The user's number.
            gid: The group's.
        """
        self._owner = uid, gid
        self._give()

    def _give(self) -> None:
        if self._owner is None or os.geteuid() != 0:
            return
        for fd in self._paths:
            with suppress(OSError):  # a file system without owners
                about = os.fstat(fd)
                # a file of one name, which nobody can have linked here from elsewhere
                if stat.S_ISREG(about.st_mode) and about.st_uid == 0 and about.st_nlink == 1:
                    os.fchown(fd, *self._owner)

    def close(self) -> None:
        """Close the access log's file; standard error stays where it leads."""
        if self.access_fd in self._paths:
            del self._paths[self.access_fd]
            os.close(self.access_fd)
        self.access_fd = -1


def _open_first(key: str, path: str) -> int:
    """Open a log file at the start.

    Raises:
        ConfigError: it cannot be opened.
    """
    try:
        return os.open(path, _FLAGS, _MODE)
    except OSError as error:
        reason = error.strerror
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:  # else it would be made
            reason = f"there is no directory {Path(_whole(path)).parent}"
        raise ConfigError(f"cannot write to {path}: {reason}", key=key) from error


def _put(new: int, fd: int) -> None:
    """Let *fd* lead where *new* leads, at once for all threads, and close *new*."""
    os.dup2(new, fd, inheritable=fd == _STDERR)
    os.close(new)


def _whole(path: str) -> str:
    """Make *path* absolute; a link that it goes through is followed at each opening."""
    return str(Path.cwd() / path)
