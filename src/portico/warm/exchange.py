"""One request and its response, in FastCGI, between standard streams and a resident server.

Spec: FastCGI 1.0 §3.3 (records), §3.4 (pairs), §5 (streams).
"""

import _socket
import os
import stat
import time

from portico.warm import GO, IDENTITY, LEAVE, PATIENCE, Died, Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from portico.nph import NphHead
    from portico.warm.seat import Seat

#: Seconds for which a server may take nothing of a request's head.
_SEND_SECONDS = 1.0

_BEGIN_RESPONDER = b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"
_END_PARAMS = b"\x01\x04\x00\x01\x00\x00\x00\x00"
_END_STDIN = b"\x01\x05\x00\x01\x00\x00\x00\x00"
_PARAMS, _STDIN, _STDOUT, _STDERR, _END_REQUEST = 4, 5, 6, 7, 3
_OVERLOADED = b"\x02"
_HEADER_BYTES = 8

#: Most octets of a record that is sent, a multiple of 8 (§3.3).
_CONTENT_BYTES = 65_528

#: No body is longer; more stands for one that goes on to the end of file.
_MOST_LENGTH = 10**18


def encode_head(identity: str, *, end: bool) -> bytes:
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


class _ServerGone(Exception):  # noqa: N818 - the event is the news
    """The web server reads no more; the log says so."""


class Exchange:
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
            connection.settimeout(_SEND_SECONDS)
            connection.sendall(head)
        except TimeoutError:
            raise Trouble("the resident server reads nothing") from None
        except OSError:
            raise Died from None
        since = time.monotonic()
        connection.settimeout(PATIENCE)
        while (found := self._next()) is None:
            try:
                self._receive()
            except TimeoutError:
                from portico.warm.start import why_silent  # noqa: PLC0415 - lazy: most answer

                reason = why_silent(seat, connection, since)
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
            say(f"portico: 499: the web server went away: {error}\n")
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
                say(f"portico: standard input failed: {error}\n")
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
            wanted = select.POLLOUT if up else 0
            if not down and status < 0:
                wanted |= select.POLLIN
            if wanted:  # else its end would be told of again and again
                poll.register(fd, wanted)
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


def say(text: str) -> None:
    """Write one line to the log."""
    try:
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        return
