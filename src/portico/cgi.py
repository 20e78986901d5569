"""CGI: one request from the process environment, standard input and standard output.

Imports next to nothing: what counts here is the start of the process.

Spec: RFC 3875.
"""

import _signal  # type: ignore[import-not-found] # `signal` adds enums to it, for 3 ms
import os
import stat
import sys

from portico.core.environ import EnvironRules
from portico.core.input import RequestBody, Spool
from portico.core.response import FileWrapper, run_request
from portico.errors import RemoteProtocolError, RequestAborted
from portico.head import encode_cgi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

    from portico.core.mount import Mounting
    from portico.nph import NphHead

_READ_BYTES = 65_536

#: Body kept in memory while the application answers before it has read; more goes to a file.
_SPOOL_BYTES = 262_144

#: Stands for the length of a body that goes on to the end of file.
_TO_THE_END = 1 << 62


def run(
    application: "Callable[..., Any] | str",
    *,
    debug: bool = False,
    mounting: "Mounting | None" = None,
    directory: "str | None" = None,
) -> int:
    """Serve the one request that this process was started for.

    Standard output is the wire, so what the application prints goes to standard error instead,
    that of its subprocesses too.

    Args:
        application: The WSGI callable, or a text that names it for `portico.loader`; where it
            cannot be loaded, the answer is 500.
        debug: Whether error pages show tracebacks.
        mounting: Decides SCRIPT_NAME and PATH_INFO.
        directory: Where an application that is named is looked for first.

    Returns:
        The process's exit status: 0, or 1 where the response was broken off.
    """
    missing = _open_missing()
    # the interpreter has no stderr where descriptor 2 was closed
    errors = sys.stderr or os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    if 1 in missing:  # what the application did would be done for nobody
        errors.write("portico: standard output is closed: no answer would be read\n")
        return 1
    output = _Output(_take_stdout())
    environ = _process_environ()
    os.environ.pop("HTTP_PROXY", None)  # httpoxy: HTTP clients would take it for a setting
    base = {
        "wsgi.version": (1, 0),
        "wsgi.errors": errors,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": True,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "portico.protocol": "cgi",
    }
    try:
        length = _body_length(environ)
        complete = EnvironRules(base, mounting).finish(environ)
    except RemoteProtocolError as error:
        errors.write(f"portico: refused: {error}\n")
        _answer_error(output, error.status_hint)
        return 1
    script = environ.get("SCRIPT_FILENAME") or environ.get("SCRIPT_NAME", "")
    if script.rpartition("/")[2].startswith("nph-"):
        from portico.nph import NphHead  # noqa: PLC0415 - lazy: scripts of that name alone

        output.nph = NphHead(environ)
    stdin = output.stdin = _Stdin(length)
    complete["wsgi.input"] = RequestBody(b"", stdin.feed if length else None)
    ours = _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL
    try:
        if ours:
            _signal.signal(_signal.SIGTERM, _on_sigterm)
        if isinstance(application, str):
            from portico.loader import stand_in  # noqa: PLC0415 - lazy: only texts need it

            application = stand_in(application, directory, debug=debug)
        run_request(application, complete, output, debug=debug)
    except RequestAborted as error:
        errors.write(f"portico: 499: {error}\n")
        return 1
    finally:
        if ours:
            _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
        stdin.drain()
    return 1 if output.broken else 0


def _on_sigterm(_number: int, _frame: object) -> None:
    """End the request so that the response is closed: the client is gone, or it took too long."""
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    raise RequestAborted("the web server ended the script")


def _process_environ() -> "dict[str, str]":
    """Give the process environment byte-exactly, as latin-1 strings."""
    if os.supports_bytes_environ:
        return {
            name.decode("latin-1"): value.decode("latin-1") for name, value in os.environb.items()
        }
    # Windows keeps the environment in UTF-16: back to the octets that the client sent.
    return {
        name: value.encode("utf-8", "surrogateescape").decode("latin-1")
        for name, value in os.environ.items()
    }


def _body_length(environ: "dict[str, str]") -> int:
    """Tell how many octets of standard input are the body; it may stay open behind them.

    Raises:
        RemoteProtocolError: CONTENT_LENGTH is no number; answer 400.

    Spec: RFC 3875 §4.2.
    """
    length = environ.get("CONTENT_LENGTH", "")
    if not length:
        # Apache's mod_cgid passes a chunked upload decoded, without a length, to its end of file.
        chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
        return _TO_THE_END if chunked else 0
    if not (length.isdecimal() and len(length) < 19):
        raise RemoteProtocolError(
            f"CONTENT_LENGTH is no number: {length[:80]!a}",
            section="RFC 3875 §4.1.2",
            status_hint=400,
        )
    return int(length)


class _Stdin:
    """The body on standard input: *length* octets, or all of them.

    Attributes:
        pending: Whether there is more to be expected from the web server.
    """

    __slots__ = ("_left", "_spool", "_to_the_end", "pending")

    def __init__(self, length: int) -> None:
        self._left = length
        self._to_the_end = length == _TO_THE_END
        self._spool: Spool | None = None
        self.pending = length > 0

    def feed(self) -> bytes:
        """Give the next octets; empty after the last.

        Raises:
            RequestAborted: the body ended before its length.
        """
        data = self._spool.take() if self._spool is not None else b""
        if not data and self.pending:
            data = self._read()
        if not data and self._left:
            raise RequestAborted(f"the body ended {self._left} bytes before its CONTENT_LENGTH")
        return data

    def make_way(self, fd: int) -> int:
        """Wait until *fd* takes octets; body that comes meanwhile goes into the spool.

        Without that, a web server that sends the whole body before it reads, as Apache's
        mod_cgid does, and an application that answers before it has read would wait for each
        other.

        Returns:
            How many octets it takes for certain.
        """
        import select  # noqa: PLC0415 - lazy: most applications read the body first

        if not hasattr(select, "poll"):  # Windows: its pipes cannot be waited for
            return _READ_BYTES
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        poll.register(0, select.POLLIN)
        while self.pending:
            ready = [number for number, _ in poll.poll()]
            if fd in ready:
                break
            if self._spool is None:
                self._spool = Spool(_SPOOL_BYTES, _temporary_file)
            data = self._read()
            try:
                self._spool.append(data)
            except OSError as error:
                raise RequestAborted(f"the body cannot be kept: {error}") from error
        return select.PIPE_BUF

    def drain(self) -> None:
        """Take what the application left unread, where leaving it would cost the response.

        Closing a Unix socket over unread octets resets it, and the server loses what it has not
        read yet. Apache's mod_cgid has one socket for both directions.
        """
        if self.pending and stat.S_ISSOCK(os.fstat(0).st_mode):
            try:
                while self.pending:
                    self._read()
            except RequestAborted:
                return

    def _read(self) -> bytes:
        """Read once; empty at the end of file, which ends what is pending."""
        try:
            data = os.read(0, min(self._left, _READ_BYTES))
        except RequestAborted:  # by a signal
            raise
        except OSError as error:
            raise RequestAborted(f"standard input failed: {error}") from error
        if data:
            self._left -= len(data)
        elif self._to_the_end:
            self._left = 0
        self.pending = bool(data and self._left)
        return data


def _temporary_file() -> "IO[bytes]":
    import tempfile  # noqa: PLC0415 - 8 ms, for large bodies alone

    return tempfile.TemporaryFile(prefix="portico-")


class _Output:
    """The sink: a CGI response on what was standard output.

    Attributes:
        broken: Whether the response is not what it should have been.
        nph: Makes HTTP of it, where the web server passes it on unparsed.
        stdin: Where body may still come from while the response is written.
    """

    __slots__ = ("_fd", "broken", "nph", "stdin")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.nph: NphHead | None = None
        self.broken = False
        self.stdin: _Stdin | None = None

    def send_response(
        self,
        status: str,
        headers: "list[tuple[str, str]]",
        body: bytes,
        *,
        end: bool,  # noqa: ARG002 - the end of a CGI response is the end of the process
    ) -> None:
        data = encode_cgi(status, headers) + body
        self._write(data if self.nph is None else self.nph.convert(data))

    def send_body(self, data: bytes, *, end: bool) -> None:  # noqa: ARG002 - as above
        self._write(data)

    def send_file(self, fd: int, offset: int, count: int) -> int:
        sent = 0
        while sent < count:
            block = os.pread(fd, min(count - sent, _READ_BYTES), offset + sent)
            if not block:
                break
            self._write(block)
            sent += len(block)
        return sent

    def flush(self) -> None:
        pass

    def abort(self) -> None:
        self.broken = True

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        stdin = self.stdin
        try:
            while left:
                room = len(left)
                if stdin is not None and stdin.pending:
                    room = stdin.make_way(self._fd)
                left = left[os.write(self._fd, left[:room]) :]
        except RequestAborted:  # by a signal, or by the body
            raise
        except OSError as error:
            self.broken = True
            raise RequestAborted(f"the web server went away: {error}") from error


def _answer_error(output: "_Output", status_code: int) -> None:
    from portico.core.pages import refusal  # noqa: PLC0415 - lazy: only errors need it

    try:
        output.send_response(*refusal(status_code), end=True)
    except RequestAborted:
        return


def _open_missing() -> "list[int]":
    """Fill closed standard descriptors, so that no file lands on one of them; gives which."""
    missing = []
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: fd itself
            os.set_inheritable(fd, True)
            missing.append(fd)
    return missing


def _take_stdout() -> int:
    """Keep standard output for the response alone; gives its new descriptor."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - Windows only

        # text mode would turn LF into CR LF and take 0x1A for the end of the input
        msvcrt.setmode(0, os.O_BINARY)
        msvcrt.setmode(1, os.O_BINARY)
    else:  # a server that waits with poll() may have left its own mode on what it passed on
        os.set_blocking(0, True)
        os.set_blocking(1, True)
    wire = os.dup(1)
    os.dup2(2, 1)
    return wire
