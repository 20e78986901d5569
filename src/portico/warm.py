"""Warm CGI: hand the one request to a resident server, which the first request starts.

A CGI process costs what its application imports. Here it imports none of it: it sends the request
over a private Unix socket, in FastCGI, to a server that the first request has started, and passes
the response on. Whatever stands in the way, the request is served as plain CGI.

What makes that safe is that the server says first whether it takes the request (`GO`, on the
stream for errors) and the body is not touched before: until then nothing has happened, and another
server, or this process, may take the request. A resident server is never told a request that it
could still run after this process has given up: the channel for its `GO` is closed first.

Imports next to nothing, as CGI does.

Spec: FastCGI 1.0 §3.3 (records), §3.4 (pairs), §5 (streams); RFC 3875.
"""

import _imp  # the siphash of the interpreter's own caches; hashlib costs 4 ms
import _socket  # `socket` adds enums and selectors to it, for 6 ms
import os
import stat
import sys
import time

from portico import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.nph import NphHead

#: What a resident server writes first to the stream for errors: whether it takes the request.
GO = b"portico: go\n"
LEAVE = b"portico: leave\n"

#: The parameter by which it sees that script and options are those that it was started with.
IDENTITY = "PORTICO_RESIDENT"

#: Seconds that everything takes at most which does not depend on an application.
_PATIENCE = 0.05

#: Seconds that a server which is serving may take to say whether it takes the request: all its
#: threads may be busy. After that plain CGI is the faster way.
_BUSY_SECONDS = 1.0

#: Seconds for somebody else's fork, on a machine that a burst of requests has loaded.
_FORK_SECONDS = 5.0

#: Seconds that an application may take to load.
_LOAD_SECONDS = 60.0

#: Servers that one request is offered to: each may be killed at any moment, or leave.
_MOST_SERVERS = 8

_BACKLOG = 1024

#: Octets of a socket's path (unix(7), sun_path), where most systems have 108 and macOS 104.
_MOST_PATH_BYTES = 103

#: What a resident server tells the process that has started it.
_LISTENING = b"listening"

_BEGIN_RESPONDER = b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"
_END_PARAMS = b"\x01\x04\x00\x01\x00\x00\x00\x00"
_END_STDIN = b"\x01\x05\x00\x01\x00\x00\x00\x00"
_PARAMS, _STDIN, _STDOUT, _STDERR, _END_REQUEST = 4, 5, 6, 7, 3
_OVERLOADED = b"\x02"
_HEADER_BYTES = 8

#: Most octets of a record that is sent, a multiple of 8 (§3.3).
_CONTENT_BYTES = 65_528

#: Methods whose request may be repeated where a server died over it (RFC 9110 §9.2.1).
_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})

#: No body is longer; more stands for one that goes on to the end of file.
_MOST_LENGTH = 10**18
_TO_THE_END = 1 << 62


class Trouble(Exception):  # noqa: N818 - the reader wants to know what it is
    """Why no resident server answers: this request is plain CGI's."""


class Died(Exception):  # noqa: N818 - likewise
    """A resident server went away, or is about to; the next one may take the request.

    Attributes:
        began: Whether it had taken the request.
    """

    def __init__(self, *, began: bool = False) -> None:
        super().__init__("the resident server ended")
        self.began = began


def relay(
    spec: str,
    script: str,
    *,
    directory: str,
    options: str,
    reside: "Callable[[Seat, int], None]",
) -> "int | None":
    """Have the request of this process answered by a resident server.

    Args:
        spec: The application, as a text.
        script: Full path of the script.
        directory: Where the socket lies: private to the user, made if it is missing; empty for one
            of the user's own below the system's directory for temporary files.
        options: All else that a server is started with, as text.
        reside: Becomes the resident server, in a process of its own; does not return before that
            ends.

    Returns:
        The process's exit status; None where the request has not been touched and is to be served
        as plain CGI.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:  # plain CGI knows what to do
            return None
    try:
        _check_system()
        length = _body_length()
        if length is None:  # it answers 400
            return None
        _flush_stdout()
        seat = Seat(spec, script, directory, options)
        return _offer(seat, length, reside)
    except Trouble as trouble:
        text = str(trouble)
    except OSError as error:
        text = (error.strerror or str(error)) + (f": {error.filename}" if error.filename else "")
    except Died:
        text = f"{_MOST_SERVERS} resident servers ended before they took it"
    _say(f"portico: warm CGI: {text}; this request is served as plain CGI\n")
    return None


def _offer(seat: "Seat", length: int, reside: "Callable[[Seat, int], None]") -> int:
    """Offer the request to one server after the other.

    Raises:
        Trouble: there is no server to be had.
        Died: as many as may be have died or left.
        OSError: the system refuses what it takes.
    """
    head = _encode_head(seat.identity, end=not length)
    repeatable = not length and os.environb.get(b"REQUEST_METHOD") in _SAFE
    for _ in range(_MOST_SERVERS):
        connection = _reach(seat, reside)
        exchange = _Exchange(connection, length)
        try:
            exchange.begin(seat, head)
            return exchange.relay()
        except Died as death:
            if death.began and not (repeatable and not exchange.answered):
                return _cut_off(exchange)
        finally:
            connection.close()
    raise Died


def _cut_off(exchange: "_Exchange") -> int:
    """End a request whose response broke off and that must not be repeated."""
    if exchange.cut:
        _say(f"portico: 499: the body ended {exchange.cut} bytes before its CONTENT_LENGTH\n")
        return 1
    _say("portico: warm CGI: the response broke off: its application failed, or was ended\n")
    if not exchange.answered:
        exchange.fail(b"502 Bad Gateway", b"The application was ended before it could answer.\n")
    return 1


def _say(text: str) -> None:
    """Write one line to the log."""
    try:
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        return


def _check_system() -> None:
    """Make sure that it is one whose sockets tell who is behind them, as Linux's do.

    Raises:
        Trouble: it is another.
    """
    if not hasattr(_socket, "SO_PEERCRED"):
        raise Trouble("this system does not tell who is behind a socket")


def _flush_stdout() -> None:
    """Let what the script has printed go to standard error: standard output is the wire."""
    if sys.stdout is not None:
        wire = os.dup(1)
        os.dup2(2, 1)
        sys.stdout.flush()
        os.dup2(wire, 1)
        os.close(wire)


def _body_length() -> "int | None":
    """Tell how many octets of standard input are the body; None where plain CGI answers 400.

    Spec: RFC 3875 §4.2.
    """
    text = os.environb.get(b"CONTENT_LENGTH", b"")
    if not text:
        # Apache's mod_cgid passes a chunked upload decoded, without a length, to its end of file.
        coding = os.environb.get(b"HTTP_TRANSFER_ENCODING", b"").lower()
        return _TO_THE_END if b"chunked" in coding else 0
    return int(text) if text.isdigit() and len(text) < 19 else None


# -- who serves ----------------------------------------------------------------------------


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

    Raises:
        Trouble: the directory is not this user's own, or others may enter it.
        OSError: it cannot be made.
    """

    __slots__ = ("identity", "lock", "lock_path", "log_path", "path", "script", "spec")

    def __init__(self, spec: str, script: str, directory: str, options: str) -> None:
        self.spec = spec
        self.script = script
        self.lock = -1
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
            connection.settimeout(_PATIENCE)
            deadline = time.monotonic() + _BUSY_SECONDS
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


def _peer(connection: "_socket.socket") -> "tuple[int, int]":
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
    user = _peer(connection)[1]
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


def _reach(seat: "Seat", reside: "Callable[[Seat, int], None]") -> "_socket.socket":
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


# -- one request ---------------------------------------------------------------------------


def _encode_head(identity: str, *, end: bool) -> bytes:
    """Encode the request up to its body; with *end*, that has none."""
    parts = []
    for name, value in (*os.environb.items(), (IDENTITY.encode(), identity.encode())):
        for text in (name, value):
            size = len(text)
            parts.append(bytes((size,)) if size < 128 else (size | 1 << 31).to_bytes(4, "big"))
        parts += (name, value)
    params = b"".join(parts)
    starts = range(0, len(params), _CONTENT_BYTES)
    records = [_record(_PARAMS, params[start : start + _CONTENT_BYTES]) for start in starts]
    tail = _END_STDIN if end else b""
    return b"".join((_BEGIN_RESPONDER, *records, _END_PARAMS, tail))


def _record(kind: int, content: bytes) -> bytes:
    return b"\x01%c\x00\x01%b\x00\x00%b" % (kind, len(content).to_bytes(2, "big"), content)


class _ServerGone(Exception):  # noqa: N818 - as above
    """The web server reads no more; the log says so."""


class _Exchange:
    """One request and its response, over one connection to a resident server.

    Args:
        connection: To the server; stays the caller's.
        length: Octets of standard input that are the body.

    Attributes:
        answered: Whether some of the response has been passed on.
        cut: By how many octets the body is shorter than its length.
    """

    __slots__ = ("_body_left", "_connection", "_data", "_nph", "_pos", "answered", "cut")

    def __init__(self, connection: "_socket.socket", length: int) -> None:
        self._connection = connection
        self._body_left = length
        self._data = b""
        self._pos = 0
        self._nph = _nph()
        self.answered = False
        self.cut = 0

    # -- whether it is taken ---------------------------------------------------------------

    def begin(self, seat: "Seat", head: bytes) -> None:
        """Send the request without its body, and wait until the server takes it.

        Raises:
            Died: it has not, and will not.
            Trouble: it is busy, or stopped, or takes longer than an application may to load.
        """
        connection = self._connection
        try:
            connection.settimeout(_BUSY_SECONDS)
            connection.sendall(head)
        except TimeoutError:
            raise Trouble("the resident server reads nothing") from None
        except OSError:
            raise Died from None
        now = time.monotonic()
        busy, late = now + _BUSY_SECONDS, now + _LOAD_SECONDS
        connection.settimeout(_PATIENCE)
        while (found := self._next()) is None:
            try:
                self._receive()
            except TimeoutError:
                reason = _why_silent(seat, connection, busy, late)
                if reason and not self._has_gone():
                    raise Trouble(reason) from None
        connection.settimeout(None)
        kind, content = found
        if kind != _STDERR:
            if kind == _END_REQUEST and content[4:5] == _OVERLOADED:
                raise Trouble("the resident server is overloaded")
            self._pos = 0  # an answer of Portico's own: the request itself is refused
        elif content == LEAVE:
            raise Died
        elif content != GO:
            raise Trouble("the resident server does not say whether it takes the request")

    def _has_gone(self) -> bool:
        """Close the way of the server's GO; whether it was there already.

        From here on the server cannot take the request any more, as its GO fails.
        """
        self._connection.shutdown(_socket.SHUT_RD)
        try:
            self._receive()
        except (OSError, Died):
            return False
        return True

    # -- the streams -----------------------------------------------------------------------

    def relay(self) -> int:
        """Pass the body on, and the response back; gives the process's exit status.

        Raises:
            Died: the server went away before the response's end.
        """
        try:
            status = self._pump() if self._body_left else -1
            while status < 0:
                data, status = self._take()
                self.write(data)
                if status < 0:
                    self._receive(began=True)
        except _ServerGone:
            return 1
        except OSError as error:  # whatever it was, it must not look as if nothing had happened
            raise Died(began=True) from error
        if self._body_left and stat.S_ISSOCK(os.fstat(0).st_mode):
            # closing a Unix socket over unread octets resets it, and the response is lost
            while self._read_body():
                pass
        return status

    def fail(self, status: bytes, text: bytes) -> None:
        """Answer *status* in the server's place, if somebody reads that."""
        head = b"Content-Type: text/plain\r\nContent-Length: %d\r\nStatus: %b\r\n\r\n"
        data = head % (len(text), status) + text
        try:
            self.write(data if self._nph is None else self._nph.convert(data))
        except _ServerGone:
            return

    def write(self, data: bytes) -> None:
        """Write to standard output.

        Raises:
            _ServerGone: nobody reads there.
        """
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(1, left) :]
                self.answered = True
        except OSError as error:
            _say(f"portico: 499: the web server went away: {error}\n")
            raise _ServerGone from error

    def _receive(self, *, began: bool = False) -> None:
        """Take more octets from the server; waits for them.

        Raises:
            Died: there are no more.
            TimeoutError: they do not come in time.
        """
        try:
            data = self._connection.recv(131_072)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Died(began=began)
        self._data = self._data[self._pos :] + data
        self._pos = 0

    def _next(self) -> "tuple[int, bytes] | None":
        """Give type and content of the next record, if it is whole (§3.3)."""
        data = self._data
        start = self._pos + _HEADER_BYTES
        if len(data) < start:
            return None
        end = start + (data[start - 4] << 8 | data[start - 3])
        if len(data) < end + data[start - 2]:
            return None
        self._pos = end + data[start - 2]
        return data[start - 7], data[start:end]

    def _take(self) -> "tuple[bytes, int]":
        """Take all records that have come.

        Returns:
            What is to be written, and the exit status; -1 where the response has not ended.
        """
        parts = []
        status = -1
        while status < 0 and (found := self._next()) is not None:
            kind, content = found
            if kind == _STDOUT:
                parts.append(content)
            elif kind == _STDERR:
                _log(content)
            elif kind == _END_REQUEST:
                status = 0
        data = b"".join(parts)
        return (data if self._nph is None else self._nph.convert(data)), status

    def _read_body(self) -> bytes:
        """Read once from standard input; empty at its end, or the body's."""
        data = b""
        if self._body_left:
            try:
                data = os.read(0, min(self._body_left, _CONTENT_BYTES))
            except OSError as error:
                _say(f"portico: standard input failed: {error}\n")
        if data:
            self._body_left -= len(data)
        else:
            self.cut = self._body_left if self._body_left <= _MOST_LENGTH else 0
            self._body_left = 0
        return data

    def _pump(self) -> int:
        """Pass body and response on, each as fast as its reader takes it, until the body's end.

        A web server that sends the whole body before it reads, as Apache's mod_cgid does, must
        not wait for one that reads what is sent first: the body goes on while standard output
        takes nothing, and the resident server keeps what its application has not asked for.

        Returns:
            As `_take`; what it gave is written.
        """
        import select  # noqa: PLC0415 - lazy: most requests have no body

        os.set_blocking(0, True)
        os.set_blocking(1, True)
        connection = self._connection
        fd = connection.fileno()
        connection.setblocking(False)
        up = b""
        down, status = self._take()  # what has come with the server's GO
        while up or self._body_left:
            if not down and status >= 0:
                return status
            poll = select.poll()
            poll.register(fd, (0 if down else select.POLLIN) | (select.POLLOUT if up else 0))
            if not up:
                poll.register(0, select.POLLIN)
            if down:
                poll.register(1, select.POLLOUT)
            ready = dict(poll.poll())
            if 0 in ready:
                data = self._read_body()
                up = _record(_STDIN, data) if data else b""
                up += b"" if self._body_left else _END_STDIN
            if ready.get(fd, 0) & select.POLLOUT:
                up = self._send(up)
            if 1 in ready:
                self.write(down[: select.PIPE_BUF])  # as much as is certain to be taken
                down = down[select.PIPE_BUF :]
            if not down and status < 0 and ready.get(fd, 0) & ~select.POLLOUT:
                self._receive(began=True)
                down, status = self._take()
        connection.setblocking(True)
        self.write(down)
        return status

    def _send(self, data: bytes) -> bytes:
        """Send to the server; gives what is left. It may have stopped reading before the end."""
        try:
            return data[self._connection.send(data) :]
        except BlockingIOError:
            return data
        except OSError:  # its response, or its end, follows
            return b""


def _log(data: bytes) -> None:
    """Pass on what the application has written to ``wsgi.errors``."""
    try:
        os.write(2, data)
    except OSError:
        return


def _nph() -> "NphHead | None":
    """Give what makes HTTP of the response, where the web server passes it on unparsed."""
    env = os.environb
    script = env.get(b"SCRIPT_FILENAME") or env.get(b"SCRIPT_NAME", b"")
    if not script.rpartition(b"/")[2].startswith(b"nph-"):
        return None
    from portico.nph import NphHead  # noqa: PLC0415 - lazy: scripts of that name alone

    names = ("SERVER_PROTOCOL", "SERVER_SOFTWARE")
    return NphHead({name: os.environ.get(name, "") for name in names})


def _why_silent(seat: "Seat", connection: "_socket.socket", busy: float, late: float) -> str:
    """Tell why a server that has not taken the request yet is not worth waiting for; or nothing.

    Raises:
        Died: there is no server, only its socket.

    Args:
        seat: The server's.
        connection: To it.
        busy: When a server that serves has been silent for too long, monotonic seconds.
        late: When one that loads its application has.
    """
    pid = _peer(connection)[0]
    state = _state(pid)
    if state in {b"Z", b"X"}:  # a process that it has left behind holds the socket
        _remove(seat)
        raise Died
    if state in {b"T", b"t"}:
        return f"the resident server, process {pid}, is stopped"
    now = time.monotonic()
    if now > late:
        return f"the application does not load within {_LOAD_SECONDS:g} seconds"
    if now <= busy:
        return ""
    if not seat.try_lock():  # a server that loads its application
        return ""
    seat.unlock()
    return f"the resident server, process {pid}, is busy"


def _state(pid: int) -> bytes:
    """Give a process's state as proc(5) has it, X for none; empty where the system tells none."""
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
