"""The file that holds the parent's process id, locked as long as that runs.

Whether a file is stale is told by its lock, which the kernel drops with the process, and not by
the number in it, which another process may have by now.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import time
from contextlib import suppress

from portico.errors import TransportError

#: Octets of the longest pid file there is: 10 digits and a newline, with room.
_MOST_OCTETS = 32

#: Longest wait for another starting process that replaces the same stale file; it takes 0.1 ms.
_WAIT_SECONDS = 0.5

_PAUSE_SECONDS = 0.01


class PidFile:
    """A pid file of this process; owns a descriptor, which holds the lock.

    It appears at its path whole, with its lock and mode 0644. A stale one is replaced. Links are
    not followed.

    Args:
        path: Where it is to be.

    Raises:
        TransportError: another process has it, something else is there, or the system refuses.
    """

    __slots__ = ("_fd", "_pid", "path")

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)  # noqa: PTH100 - the working directory may change
        self._pid = os.getpid()
        made, self._fd = _write(self.path, self._pid)
        try:
            _publish(made, self.path)
        except OSError as error:
            self._close()
            raise TransportError(
                f"cannot make the pid file {self.path}: {error.strerror}"
            ) from error
        except BaseException:
            self._close()
            raise
        finally:
            with suppress(OSError):  # where it was renamed there is nothing left
                os.unlink(made)  # noqa: PTH108 - as the other calls here

    def close_in_child(self) -> None:
        """Close the descriptor that a forked child has; call it there first of all.

        A lock of flock(2) belongs to the open file, which parent and child share: as long as one
        has it open, the file counts as held. Closing a copy, other than unlocking, leaves the
        lock to the parent. The descriptor is closed on exec as well, so that only a fork without
        exec needs this.
        """
        if os.getpid() != self._pid:
            self._close()

    def remove(self) -> None:
        """Remove the file if this process made it and it is still ours; unlocks it.

        Does nothing the second time, or in a forked child.
        """
        if self._fd < 0 or os.getpid() != self._pid:
            return
        ours = os.fstat(self._fd)
        with suppress(OSError):  # gone, or its directory is closed to us now: stale, unlocked
            if os.path.samestat(os.lstat(self.path), ours):
                os.unlink(self.path)  # noqa: PTH108 - as the other calls here
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write(path: str, pid: int) -> tuple[str, int]:
    """Write the file beside its place, locked; gives its path there and its descriptor."""
    directory = os.path.dirname(path)  # noqa: PTH120 - texts here, as os has them
    try:
        fd, made = tempfile.mkstemp(prefix=".portico-pid-", dir=directory)
    except OSError as error:
        raise _explain_directory(directory, error) from error
    try:
        os.write(fd, b"%d\n" % pid)
        os.fchmod(fd, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        with suppress(OSError):
            os.unlink(made)  # noqa: PTH108 - as above
        raise TransportError(
            f"cannot make a locked pid file in {directory}: {error.strerror}"
        ) from error
    return made, fd


def _publish(made: str, path: str) -> None:
    """Give the file its place, that of a stale one too.

    Raises:
        TransportError: the place is taken.
        OSError: the system refuses.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    last = False
    while not last:
        last = time.monotonic() >= deadline
        try:
            os.link(made, path, follow_symlinks=False)
        except FileExistsError:
            if _replace_stale(made, path, last=last):
                return
            time.sleep(_PAUSE_SECONDS)
        else:
            return
    raise TransportError(f"{path} is taken again and again by another process")


def _replace_stale(made: str, path: str, *, last: bool) -> bool:
    """Replace a pid file whose process is gone; gives False if it is to be tried again.

    Args:
        made: The new file.
        path: Its place.
        last: Whether this is the last try.
    """
    old = _open_pid_file(path)
    if old < 0:
        return False
    try:
        text = os.pread(old, _MOST_OCTETS, 0)
        try:
            fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # a number that nobody has: another one that starts is replacing the file just now
            if _is_pid(text) and (last or _runs(int(text))):
                raise _held(path, text) from None
            if last:
                raise TransportError(f"{path} is locked by another process") from None
            return False
        if text and not _is_pid(text):
            raise TransportError(
                f"{path} exists and is no pid file (a process id and nothing else), so it is left"
                " alone: move it away or choose another file"
            )
        if not _is_at(path, old):
            return False
        os.rename(made, path)  # noqa: PTH104 - as above
    finally:
        os.close(old)
    return True


def _open_pid_file(path: str) -> int:
    """Open what is at *path*; -1 if it went away.

    Raises:
        TransportError: it is no regular file.
        OSError: the system refuses.
    """
    foreign = TransportError(
        f"{path} exists and is no regular file, so it is left alone: move it away or choose"
        " another file"
    )
    try:
        # looked at before it is opened: opening a device may do something
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise foreign
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise foreign from None
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise foreign


def _held(path: str, text: bytes) -> TransportError:
    return TransportError(
        f"{path} belongs to the running process {int(text)}: stop it, or choose another file"
    )


def _is_pid(text: bytes) -> bool:
    digits = text.removesuffix(b"\n")
    return digits.isdigit() and len(digits) <= 10


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _explain_directory(directory: str, error: OSError) -> TransportError:
    if error.errno == errno.ENOENT:
        return TransportError(
            f"the directory {directory} of the pid file does not exist: create it, or let systemd"
            " do so (RuntimeDirectory=)"
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return TransportError(
            f"no permission to make a pid file in {directory}: choose a directory that user"
            f" {os.geteuid()} may write to, such as one of its own below /run"
        )
    return TransportError(f"no pid file can be made in {directory}: {error.strerror}")
