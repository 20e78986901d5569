"""Unix sockets: the file's mode and owner, the stale-socket rule, the peer's credentials."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import socket
import stat
import struct
import tempfile
import time
from typing import TYPE_CHECKING

from portico.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from portico.transports.bind import Bind

#: Octets of the longest path in a sockaddr_un, its NUL not counted: 108 on Linux, 104 on BSD.
MAX_PATH_BYTES = 107 if hasattr(socket, "SO_PASSCRED") else 103

#: Times that a path taken by others while we look is tried again.
_TRIES = 5

#: Longest wait for another starting server that clears a stale socket; it takes it 0.1 ms.
_LOCK_SECONDS = 2.0

_UCRED = struct.Struct("iII")


class SocketFile:
    """The file that stands for a listening socket; remembers which one it is.

    Args:
        path: Where it is.
        made: What `os.lstat` said when it was made.
    """

    __slots__ = ("_id", "_pid", "path")

    def __init__(self, path: str, made: os.stat_result) -> None:
        self.path = path
        self._id = (made.st_dev, made.st_ino)
        self._pid = os.getpid()

    def remove(self) -> None:
        """Remove the file if it is still ours; call while the socket is open.

        A forked worker that closes its copy leaves the file to its parent. While the socket is
        open its inode number is not given to another file.
        """
        if os.getpid() != self._pid:
            return
        try:
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self._id:
                os.unlink(self.path)  # noqa: PTH108 - pathlib: 5 ms at start
        except OSError:
            return  # gone, or privileges are dropped: the next start finds it stale


def listen(bind: Bind) -> tuple[socket.socket, SocketFile]:
    """Make a listening socket with its file.

    The socket is bound in a private directory beside the path (mode 0700, so nobody reaches it;
    the umask, which belongs to all threads, stays alone), gets owner and mode, listens, and only
    then appears at its path, by a link that never replaces anything. `getsockname` and ``ss``
    go on telling the path in the private directory.

    Raises:
        ConfigError: the path is too long, or the user or group unknown.
        TransportError: the system refuses, or the path is taken.
    """
    path = bind.path
    parent, name = os.path.split(path)
    _check_length(path)
    owner = user_id(bind.user) if bind.user else -1
    group = group_id(bind.group) if bind.group else -1
    try:
        private = tempfile.mkdtemp(prefix=".portico-", dir=parent)
    except OSError as error:
        raise _explain_directory(parent, error) from error
    made = _fitting(f"{private}/{name}", f"{private}/s")
    aside = f"{private}/old"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(made)
        _give(made, owner, group, bind)
        os.chmod(made, bind.mode)  # noqa: PTH101 - pathlib: 5 ms at start
        sock.listen(bind.backlog)
        sock.setblocking(False)
        file = SocketFile(path, os.lstat(made))
        _publish(made, path, aside)
    except OSError as error:
        sock.close()
        raise TransportError(f"cannot make the socket {path}: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    finally:
        _remove_private(private, made, aside)
    return sock, file


def is_answered(path: str) -> bool:
    """Tell whether a server listens on the socket file *path*; False if there is none.

    Raises:
        TransportError: it cannot be told.
    """
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.setblocking(False)
    try:
        probe.connect(path)
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except BlockingIOError:
        return True  # its queue is full
    except OSError as error:
        raise TransportError(
            f"{path} exists and connecting to it fails ({error.strerror}), so it is left alone:"
            " remove it if its server is gone, or choose another path"
        ) from error
    finally:
        probe.close()
    return True


class PeerRule:
    """Which processes may connect, by the user and group that the kernel vouches for.

    Args:
        users: Names or numbers.
        groups: Names or numbers.

    Raises:
        ConfigError: an unknown name, or a system that does not tell.
    """

    __slots__ = ("_groups", "_users")

    def __init__(self, users: tuple[str, ...], groups: tuple[str, ...]) -> None:
        if not hasattr(socket, "SO_PEERCRED"):
            raise ConfigError(
                "allow_uid and allow_gid need SO_PEERCRED, which this system lacks", key="allow_uid"
            )
        self._users = frozenset(user_id(user) for user in users)
        self._groups = frozenset(group_id(group) for group in groups)

    def permits(self, fd: int) -> bool:
        """Tell whether the peer of the connection *fd* may stay."""
        _, uid, gid = peer_credentials(fd)
        return uid in self._users or gid in self._groups


def peer_credentials(fd: int) -> tuple[int, int, int]:
    """Give pid, uid and gid that the peer of a Unix connection had when it connected.

    Raises:
        OSError: the connection is none or gone.
    """
    sock = socket.socket(fileno=fd)
    try:
        octets = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    finally:
        sock.detach()
    pid, uid, gid = _UCRED.unpack(octets)
    return pid, uid, gid


def group_id(name: str) -> int:
    """Give the number of a group, by name or number.

    Raises:
        ConfigError: no such group.
    """
    if name.isascii() and name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, UnicodeEncodeError):
        raise ConfigError(f"there is no group {name!r} on this machine", key="group") from None


def user_id(name: str) -> int:
    """Give the number of a user, by name or number.

    Raises:
        ConfigError: no such user.
    """
    if name.isascii() and name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, UnicodeEncodeError):
        raise ConfigError(f"there is no user {name!r} on this machine", key="user") from None


def _check_length(path: str) -> None:
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise ConfigError(
            f"the socket path {path} has {length} bytes, the system takes {MAX_PATH_BYTES}:"
            " choose a shorter one, such as /run/app.sock",
            key="bind",
        )
    # "/.portico-", eight characters of mkdtemp and "/old"
    room = MAX_PATH_BYTES - 22
    if len(os.fsencode(os.path.dirname(path))) > room:  # noqa: PTH120 - pathlib: 5 ms at start
        raise ConfigError(
            f"the directory of the socket {path} is too long: it may have {room} bytes, to leave"
            " room for a temporary name in it",
            key="bind",
        )


def _fitting(path: str, shorter: str) -> str:
    return path if len(os.fsencode(path)) <= MAX_PATH_BYTES else shorter


def _give(made: str, owner: int, group: int, bind: Bind) -> None:
    if owner == group == -1:
        return
    try:
        os.chown(made, owner, group)
    except PermissionError as error:
        whom = " and ".join(
            f"{kind} {name}" for kind, name in (("user", bind.user), ("group", bind.group)) if name
        )
        raise TransportError(
            f"no permission to give {bind.path} to {whom}: start as root, or as a member of"
            " the group without user="
        ) from error


def _publish(made: str, path: str, aside: str) -> None:
    """Let the socket *made* appear at *path*, in the place of a stale one at most."""
    for _ in range(_TRIES):
        try:
            os.link(made, path)
        except FileExistsError:
            lock = _lock(os.path.dirname(path))  # noqa: PTH120 - pathlib: 5 ms at start
            try:
                _clear_stale(path, aside)
            finally:
                if lock >= 0:
                    os.close(lock)
        else:
            return
    raise TransportError(f"{path} is taken again and again by another process")


def _lock(directory: str) -> int:
    """Keep other starting servers from clearing in *directory* until the descriptor is closed.

    Three that start at once could otherwise harm each other: while one looks at what it took
    aside, the path is free for the third. The lock is a courtesy among ourselves; one that
    somebody keeps, or that the file system does not know, is not waited for long.

    Returns:
        A descriptor, owned by the caller; -1 where there is no locking.
    """
    try:
        fd = os.open(directory, os.O_RDONLY)
    except OSError:
        return -1  # writable, but not readable
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.01)
                continue
        except OSError:
            return fd
        return fd


def _clear_stale(path: str, aside: str) -> None:
    """Remove a socket file on which nothing answers; leave anything else alone.

    The file is taken aside in one step and looked at again there, so that a server which
    started since the first look loses nothing.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise TransportError(
            f"{path} exists and is no socket, so it is left alone: move it away or choose another"
            " path"
        )
    taken = f"{path} is in use, a server answers on it: stop that one or choose another path"
    if is_answered(path):
        raise TransportError(taken)
    try:
        os.rename(path, aside)  # noqa: PTH104 - pathlib: 5 ms at start
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise TransportError(
            f"no permission to replace {path}, which an ended server left: remove it as its owner"
        ) from error
    if _is_stale(aside):
        os.unlink(aside)  # noqa: PTH108 - pathlib: 5 ms at start
        return
    os.link(aside, path, follow_symlinks=False)
    raise TransportError(taken)


def _is_stale(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode) and not is_answered(path)
    except TransportError:
        return False


def _remove_private(private: str, *paths: str) -> None:
    for path in paths:
        try:
            os.unlink(path)  # noqa: PTH108 - pathlib: 5 ms at start
        except OSError:
            continue  # not there, the usual case
    try:
        os.rmdir(private)  # noqa: PTH106 - pathlib: 5 ms at start
    except OSError:
        return  # an empty directory too many must not hide the socket's own error


def _explain_directory(parent: str, error: OSError) -> TransportError:
    if error.errno == errno.ENOENT:
        return TransportError(
            f"the directory {parent} does not exist: create it, or let systemd do so"
            " (RuntimeDirectory=)"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return TransportError(
            f"no permission to make a socket in {parent}: choose a directory that user"
            f" {os.geteuid()} may write to, such as one of its own below /run"
        )
    return TransportError(f"no socket can be made in {parent}: {error.strerror}")
