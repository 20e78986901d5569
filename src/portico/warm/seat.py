"""Where the resident server of a script listens: nobody else can sit there."""

import _imp  # the siphash of the interpreter's own caches; hashlib costs 4 ms
import _socket  # `socket` adds enums and selectors to it, for 6 ms
import os
import stat
import sys
import time

from portico import __version__
from portico.warm import PATIENCE, Trouble

#: Seconds for which a server's queue may be full.
_FULL_SECONDS = 1.0

_BACKLOG = 1024

#: Octets of a socket's path (unix(7), sun_path), where most systems have 108 and macOS 104.
_MOST_PATH_BYTES = 103


class Seat:
    """Where the resident server of one script listens, and who may sit there.

    Attributes:
        path: Of its socket; another script, user, Portico or Python has another.
        lock_path: Of the file that is locked while a server starts.
        log_path: Of the file that the server's standard error goes to.
        identity: What a server must have been started with to take this script's requests.
        spec: The application, as a text.
        script: Full path of the script.
        lock: Descriptor of the lock file while it is held; -1 otherwise.
        starts: How many servers this process has started.

    Raises:
        Trouble: the directory is not this user's own, or others may enter it.
        OSError: it cannot be made.
    """

    __slots__ = ("identity", "lock", "lock_path", "log_path", "path", "script", "spec", "starts")

    def __init__(self, spec: str, script: str, directory: str, options: str) -> None:
        self.spec = spec
        self.script = script
        self.lock = -1
        self.starts = 0
        if not directory:
            place = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - made and checked below
            directory = f"{place}/portico-warm-{os.geteuid()}"
        _check_directory(directory)
        who = f"{__version__}\n{sys.version}\n{sys.executable}\n{script}\n{spec}"
        stem = f"{directory}/{_digest(who)}"
        self.path = f"{stem}.sock"
        if len(os.fsencode(self.path)) > _MOST_PATH_BYTES:
            raise Trouble(f"{directory} is too long for a socket's path; name a shorter one")
        self.lock_path = f"{stem}.lock"
        self.log_path = f"{stem}.log"
        try:
            changed = os.stat(script).st_mtime_ns
        except OSError:  # run by `python -c`, say
            changed = 0
        self.identity = _digest(f"{changed}\n{sys.path}\n{options}")

    def connect(self) -> "_socket.socket | None":
        """Connect to the server; None where there is none.

        Raises:
            Trouble: it is somebody else's.
            OSError: there are no sockets to be had.
        """
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.settimeout(PATIENCE)
            deadline = time.monotonic() + _FULL_SECONDS
            while True:
                try:
                    connection.connect(self.path)
                    break
                except (FileNotFoundError, ConnectionRefusedError):
                    connection.close()
                    return None
                except BlockingIOError:  # its queue is full
                    if time.monotonic() > deadline:
                        raise Trouble("the resident server's queue is full") from None
                    time.sleep(0.005)
            _check_peer(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def try_lock(self) -> bool:
        """Whether nobody else starts a server just now, and nobody will until `unlock`."""
        import fcntl  # noqa: PLC0415 - lazy: most requests find a server

        fd = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self.lock = fd
        return True

    def unlock(self) -> None:
        """Let go of the lock; a process that was forked meanwhile still holds it."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def release(self) -> None:
        """Give the lock up for all: also for what the application may have forked meanwhile."""
        if self.lock >= 0:
            import fcntl  # noqa: PLC0415 - as above

            fcntl.flock(self.lock, fcntl.LOCK_UN)
            self.unlock()

    def take(self) -> "_socket.socket":
        """Listen, in the process that serves; whoever connects from now on waits for it.

        Raises:
            OSError: the system does not let it.
        """
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        new = f"{self.path[:-5]}.new"
        if os.path.lexists(new):  # of a start that was cut short; the lock is ours
            os.unlink(new)
        before = os.umask(0o177)
        try:
            listener.bind(new)
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        os.rename(new, self.path)
        return listener


def _digest(text: str) -> str:
    return _imp.source_hash(0, text.encode("utf-8", "surrogateescape")).hex()


def peer(connection: "_socket.socket") -> "tuple[int, int]":
    """Give process and user behind a connection (unix(7), SO_PEERCRED)."""
    data = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return (
        int.from_bytes(data[:4], sys.byteorder, signed=True),
        int.from_bytes(data[4:8], sys.byteorder),
    )


def _check_peer(connection: "_socket.socket", path: str) -> None:
    """Make sure that it is this user who listens.

    Raises:
        Trouble: it is somebody else.
    """
    user = peer(connection)[1]
    if user != os.geteuid():
        raise Trouble(f"{path} belongs to a process of user {user}")


def _check_directory(path: str) -> None:
    """Make sure that nobody else can put a socket into the directory.

    Raises:
        Trouble: somebody could.
        OSError: it cannot be made.
    """
    try:
        about = os.lstat(path)
    except FileNotFoundError:
        _make_directory(path)
        about = os.lstat(path)
    if not stat.S_ISDIR(about.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(about.st_mode) else "no directory"
        raise Trouble(f"{path} is {what}")
    if about.st_uid != os.geteuid():
        raise Trouble(f"{path} belongs to user {about.st_uid}")
    if stat.S_IMODE(about.st_mode) & 0o077:
        mode = stat.S_IMODE(about.st_mode)
        raise Trouble(f"{path} is open to others (mode {mode:o}); have it be 700")


def _make_directory(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:  # a request beside this one has made it
        return
