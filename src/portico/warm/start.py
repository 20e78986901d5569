"""The start of a resident server, and what to think of one that says nothing.

Loaded where there is none, or where it is slow.
"""

import _socket
import os
import sys
import time

from portico.warm import Died, Trouble
from portico.warm.seat import peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.warm.seat import Seat

#: Seconds for somebody else's fork, on a machine that a burst of requests has loaded.
_FORK_SECONDS = 5.0

#: Servers that one request starts: one that ends while it loads its application may have been
#: killed; the next ones will have ended by themselves.
_MOST_STARTS = 3

#: Seconds that a server which is serving may take to say whether it takes the request: all its
#: threads may be busy. After that plain CGI is the faster way.
_BUSY_SECONDS = 1.0

#: Seconds that an application may take to load.
_LOAD_SECONDS = 60.0

#: What a resident server tells the process that has started it.
_LISTENING = b"listening"


def reach(seat: "Seat", reside: "Callable[[Seat, int], None]") -> "_socket.socket":
    """Connect to the resident server, and start it where there is none.

    Raises:
        Trouble: there is none, and none starts.
        OSError: likewise.
    """
    deadline = time.monotonic() + _FORK_SECONDS
    while True:
        connection = seat.connect()
        if connection is not None:
            return connection
        if seat.try_lock():
            try:
                connection = seat.connect()  # somebody may have been faster
                if connection is None:
                    if seat.starts >= _MOST_STARTS:
                        raise Trouble(f"its servers end at the start; their log is {seat.log_path}")
                    _start(seat, reside)
                    connection = seat.connect()
            finally:
                seat.unlock()
            if connection is not None:
                return connection
            raise Trouble("the resident server ended at once; its log is " + seat.log_path)
        if time.monotonic() > deadline:
            raise Trouble("another request has been starting a resident server for too long")
        time.sleep(0.005)


def _start(seat: "Seat", reside: "Callable[[Seat, int], None]") -> None:
    """Fork the resident server; it listens when this returns.

    It is nobody's child and has a session of its own: the web server ends what it has started.

    Raises:
        Trouble: it does not listen.
        OSError: there can be no further process.
    """
    seat.starts += 1
    ours, theirs = _socket.socketpair()
    sys.stderr.flush()
    try:
        child = os.fork()
        if not child:
            _be_resident(seat, reside, ours, theirs)
        theirs.close()
        _await_end(child)
        ours.settimeout(_FORK_SECONDS)
        try:
            word = ours.recv(200)
        except TimeoutError:
            word = b""
    finally:
        ours.close()
        theirs.close()
    if word != _LISTENING:
        reason = word.decode("utf-8", "replace") or "it ended; its log is " + seat.log_path
        raise Trouble(f"the resident server cannot start: {reason}")


def _await_end(child: int) -> None:
    try:
        os.waitpid(child, 0)
    except ChildProcessError:  # the web server has had the system take its children's ends
        return


def _be_resident(
    seat: "Seat",
    reside: "Callable[[Seat, int], None]",
    ours: "_socket.socket",
    theirs: "_socket.socket",
) -> None:
    """Become the resident server, in the forked process; never returns."""
    status = 1
    try:
        ours.close()
        os.setsid()
        if os.fork():
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        log = os.open(seat.log_path, flags, 0o600)
        # none of the web server's pipes may stay open here: it waits for their ends
        for new, fd in ((null, 0), (log, 1), (log, 2)):
            os.dup2(new, fd)
        os.close(null)
        os.close(log)
        listener = seat.take()
        theirs.send(_LISTENING)
        theirs.close()
        reside(seat, listener.detach())
        status = 0
    except OSError as error:
        try:
            theirs.send(str(error).encode("utf-8", "replace")[:200])
        except OSError:  # it is serving, or was about to
            sys.excepthook(type(error), error, error.__traceback__)
    except BaseException as error:  # noqa: BLE001 - whatever it is, this process ends here
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        _leave(status)


def _leave(status: int) -> None:
    """End this process as the interpreter would, but for the script's code behind this call."""
    import atexit  # noqa: PLC0415 - lazy: for this alone

    try:
        atexit._run_exitfuncs()  # noqa: SLF001 - nothing else runs them
        sys.stderr.flush()
    finally:
        os._exit(status)


def why_silent(seat: "Seat", connection: "_socket.socket", since: float) -> str:
    """Tell why a server that has not taken the request yet is not worth waiting for; or nothing.

    Args:
        seat: The server's.
        connection: To it.
        since: When it was sent the request, monotonic seconds.

    Raises:
        Died: there is no server, only its socket.
    """
    pid = peer(connection)[0]
    state = _state(pid)
    if state in {b"Z", b"X"}:  # a process that it has left behind holds the socket
        _remove(seat)
        raise Died
    if state in {b"T", b"t"}:
        return f"the resident server, process {pid}, is stopped"
    silent = time.monotonic() - since
    if silent > _LOAD_SECONDS:
        return f"the application does not load within {_LOAD_SECONDS:g} seconds"
    if silent <= _BUSY_SECONDS:
        return ""
    if not seat.try_lock():  # a server that loads its application
        return ""
    seat.unlock()
    return f"the resident server, process {pid}, is busy"


def _state(pid: int) -> bytes:
    """Give a process's state as proc(5) has it, X for none; empty where the system tells none."""
    if pid <= 0:  # one of another namespace (pid_namespaces(7))
        return b""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read(512).rpartition(b") ")[2][:1]
    except (FileNotFoundError, ProcessLookupError):
        return b"X" if os.path.exists("/proc/self/stat") else b""


def _remove(seat: "Seat") -> None:
    """Remove the socket of a server that is gone, unless somebody else does just now."""
    if seat.try_lock():
        try:
            os.unlink(seat.path)
        except FileNotFoundError:
            return
        finally:
            seat.unlock()
