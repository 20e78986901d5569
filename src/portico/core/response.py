"""The application's response: ``start_response``, ``write``, the iterable, ``close`` (PEP 3333).

Errors of the application go to ``wsgi.errors``; who serves decides where that leads.
"""

from portico.errors import ApplicationError, LimitExceeded, RequestAborted
from portico.head import COMMON_STATUSES, check_headers, check_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, Protocol

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

    class Sink(Protocol):
        """Where a response goes: a connection, or the output of a CGI process.

        Each method raises `RequestAborted` when the frontend is gone. A head is sent once, and
        body follows only if it was sent with ``end=False``.
        """

        def send_response(
            self, status: str, headers: "list[tuple[str, str]]", body: bytes, *, end: bool
        ) -> None:
            """Send a checked head with the body's first octets."""
            ...

        def send_body(self, data: bytes, *, end: bool) -> None:
            """Send more body."""
            ...

        def send_file(self, fd: int, offset: int, count: int) -> int:
            """Send *count* octets of an open file; gives the octets sent."""
            ...

        def flush(self) -> None:
            """Let nothing sent wait: the response has ended, and application code follows."""
            ...

        def abort(self) -> None:
            """Break off, so that the frontend sees an error and no complete response."""
            ...


#: Joining a list's blocks for one write pays up to here; above, each is sent by itself.
_JOIN_BYTES = 65_536

_BODILESS = ("204", "205", "304")


class FileWrapper:
    """``wsgi.file_wrapper``: iterates a file in blocks; whole files leave by the kernel.

    Args:
        filelike: Read from where it stands; closed with the response if it can be.
        blksize: Octets a block.
    """

    __slots__ = ("blksize", "close", "filelike")

    def __init__(self, filelike: "Any", blksize: int = 65_536) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close: Callable[[], object] = filelike.close

    def __iter__(self) -> "Iterator[bytes]":
        return iter(lambda: self.filelike.read(self.blksize), b"")

    def extent(self) -> "tuple[int, int, int] | None":
        """Give descriptor, position and remaining octets of a regular file, else None."""
        import os  # noqa: PLC0415 - loaded by the interpreter at start; kept off the module's head
        import stat  # noqa: PLC0415 - likewise
        from io import BufferedRandom, BufferedReader, FileIO  # noqa: PLC0415 - likewise

        file = self.filelike
        # What reads by itself may give other octets than its descriptor: GzipFile, text files.
        if type(getattr(file, "raw", file)) is not FileIO or type(file) not in {
            BufferedReader,
            BufferedRandom,
            FileIO,
        }:
            return None
        try:
            fd = file.fileno()
            at = file.tell()
            about = os.fstat(fd)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(about.st_mode) or at > about.st_size:
            return None
        return fd, at, about.st_size - at


class Response:
    """One response on its way from the application to a sink.

    Attributes:
        sink: Where it goes.
        status: What ``start_response`` was given; empty before.
        sent: Body octets handed to the sink.
        started: Whether the head has left.
        ended: Whether the sink has been told that nothing more will come.
        over: Whether the request is done, so that ``write`` must refuse.
    """

    __slots__ = (
        "_bodiless", "_errors", "_head_only", "_headers", "_length",
        "ended", "over", "sent", "sink", "started", "status",
    )  # fmt: skip

    def __init__(self, environ: "dict[str, Any]", sink: "Sink") -> None:
        self.sink = sink
        self._errors = environ["wsgi.errors"]
        self._head_only = environ["REQUEST_METHOD"] == "HEAD"
        self._bodiless = False
        self._headers: list[tuple[str, str]] = []
        self._length: int | None = None
        self.status = ""
        self.started = False
        self.ended = False
        self.over = False
        self.sent = 0

    def start_response(
        self, status: str, headers: "list[tuple[str, str]]", exc_info: "ExcInfo | None" = None
    ) -> "Callable[[bytes], None]":
        """Take status and headers; nothing is sent before the first block of body.

        Raises:
            ApplicationError: they are malformed, or this is the second call without *exc_info*.
        """
        if exc_info:
            try:
                if self.started:
                    if exc_info[1] is None:  # sys.exc_info() outside an except clause
                        raise ApplicationError("start_response came after the head had left")
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # breaks the cycle through this frame
        elif self.status:
            raise ApplicationError("start_response was called a second time without exc_info")
        if type(status) is not str or status not in COMMON_STATUSES:
            check_status(status)
        length = check_headers(headers)
        self.status = status if len(status) > 3 else status + " "
        self._headers = headers[:]
        self._length = length
        self._bodiless = self._head_only or status[:3] in _BODILESS
        if self._bodiless and status[:3] in {"204", "205"}:
            self._set_empty(headers, status)
        return self.write

    def _set_empty(self, headers: "list[tuple[str, str]]", status: str) -> None:
        """Correct the length of what has no body: none with 204, 0 with 205 (RFC 9110)."""
        self._headers = [item for item in headers if item[0].lower() != "content-length"]
        self._length = None
        if status[:3] == "205":
            self._headers.append(("Content-Length", "0"))

    def write(self, data: bytes) -> None:
        """Send a block now, ahead of what the iterable gives.

        Raises:
            ApplicationError: *data* is no bytes, or the response is over.
        """
        if self.over:
            raise ApplicationError("write was called after the response had ended")
        self._check_block(data)
        if data:
            self._send(data)

    def run(self, result: "Any") -> None:
        """Send what the application returned; does not close it."""
        kind = type(result)
        if (kind is list or kind is tuple) and not self.started:
            if len(result) == 1:
                body = result[0]
                if self.status and type(body) is bytes:
                    self._send_whole(body)
                    return
            elif (
                self.status
                and all(type(block) is bytes for block in result)
                and sum(map(len, result)) <= _JOIN_BYTES
            ):
                self._send_whole(b"".join(result))
                return
        elif kind is FileWrapper and self.status and self._send_file(result):
            return
        self._iterate(result)

    def _send_whole(self, body: bytes) -> None:
        """Send head, body and end in one piece."""
        status = self.status
        size = len(body)
        if self._bodiless:
            # RFC 9110 §8.6: only what a GET would have sent; an empty list does not tell that
            if size and self._head_only and self._length is None and status[:3] not in _BODILESS:
                self._headers.append(("Content-Length", str(size)))
            body = b""
        elif self._length is None:
            self._headers.append(("Content-Length", str(size)))
        elif self._length != size:
            body = self._fit(body)
            if len(body) < self._length:
                self._send_head(body)
                self._cut_short()
                return
        self.started = self.ended = True
        self.sink.send_response(status, self._headers, body, end=True)
        self.sent = len(body)

    def _iterate(self, result: "Any") -> None:
        """Send each block before the next one is asked for."""
        if isinstance(result, (bytes, str)):
            raise ApplicationError(
                f"the application returned a bare {type(result).__name__}; return [body] with"
                " body as bytes"
            )
        for block in result:
            if type(block) is not bytes:
                self._check_block(block)
            if block:
                self._send(block)
                if self._bodiless:
                    break
        if not self.status:
            raise ApplicationError("the application never called start_response")
        self._finish()

    def _send(self, block: bytes) -> None:
        """Send one non-empty block, after the head if that has not left yet."""
        if not self.status:
            raise ApplicationError("body came before start_response was called")
        if self._bodiless:
            if not self.started:
                self._send_head(b"")
            return
        length = self._length
        if length is not None and self.sent + len(block) > length:
            block = self._fit(block)
        complete = length is not None and self.sent + len(block) >= length
        if not self.started:
            self.started = True
            self.ended = complete
            self.sink.send_response(self.status, self._headers, block, end=complete)
        elif block and not self.ended:
            self.ended = complete
            self.sink.send_body(block, end=complete)
        self.sent += len(block)
        if complete:
            self.sink.flush()

    def _send_head(self, first: bytes) -> None:
        self.started = True
        self.ended = self._bodiless
        self.sink.send_response(self.status, self._headers, first, end=self._bodiless)
        self.sent += len(first)
        if self._bodiless:
            self.sink.flush()

    def _finish(self) -> None:
        """End the response: nothing more will come."""
        if self.ended:
            return
        if not self._bodiless and self._length is not None and self.sent < self._length:
            if not self.started:
                self._send_head(b"")
            self._cut_short()
        elif self.started:
            self.ended = True
            self.sink.send_body(b"", end=True)
        else:
            if self._length is None and not self._bodiless:
                self._headers.append(("Content-Length", "0"))
            self.started = self.ended = True
            self.sink.send_response(self.status, self._headers, b"", end=True)
        self.sink.flush()

    def _fit(self, block: bytes) -> bytes:
        """Cut *block* to what Content-Length leaves, and say so if that loses something."""
        room = (self._length or 0) - self.sent
        if len(block) > room:
            self.report(
                f"portico: the application sent more than its Content-Length of {self._length}"
                " bytes; the rest is dropped\n"
            )
            self._bodiless = True  # nothing more is wanted
        return block[:room]

    def _cut_short(self) -> None:
        self.report(
            f"portico: the application sent {self.sent} of the {self._length} bytes that its"
            " Content-Length promised; the connection is cut\n"
        )
        self.ended = True
        self.sink.abort()

    def _send_file(self, wrapper: "FileWrapper") -> bool:
        """Send a regular file through the sink; False leaves it to iteration."""
        extent = wrapper.extent()
        if extent is None or self._bodiless or self.started:
            return False
        fd, at, size = extent
        if self._length is None:
            self._headers.append(("Content-Length", str(size)))
            self._length = size
        count = min(size, self._length)
        if count == 0:
            self._finish()
            return True
        self.started = True
        self.sink.send_response(self.status, self._headers, b"", end=False)
        self.sent = self.sink.send_file(fd, at, count)
        self._finish()
        return True

    def _check_block(self, block: object) -> None:
        if type(block) is str:
            raise ApplicationError(
                "the application gave str where bytes are due; encode it, e.g. text.encode()"
            )
        if not isinstance(block, bytes):
            raise ApplicationError(
                f"the application gave {type(block).__name__} where bytes are due"
            )

    def fail(self, error: BaseException, environ: "dict[str, Any]", *, debug: bool = False) -> None:
        """Answer for an application that raised: 500 before the head, a cut after it.

        What a read raised because the body is too long is no fault of the application's: 413.
        """
        from portico.core import pages  # noqa: PLC0415 - lazy: only errors need pages
        from portico.core.identity import label  # noqa: PLC0415 - likewise

        status = "500 Internal Server Error"
        if isinstance(error, LimitExceeded) and error.status_hint:  # the client's, from a read
            from portico.refusals import status_line  # noqa: PLC0415 - likewise

            status = status_line(error.status_hint)
            debug = False
            self.report(f"portico: {error}; raise {error.option} to allow it\n")
        else:
            name = label(environ)
            heading = f"portico: the application failed{name}\n" if name else ""
            self.report(heading + pages.traceback_text(error))
        if isinstance(error, ApplicationError) and error.answered:
            self.status = status
        if self.ended:
            return
        self.ended = True
        if self.started:
            self.sink.abort()
            return
        self.started = True
        self.status = status
        body = pages.error_page(self.status, error if debug else None)
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
        ]
        if self._head_only:
            body = b""
        self.sink.send_response(self.status, headers, body, end=True)

    def report(self, text: str) -> None:
        """Write to ``wsgi.errors``, which must not be able to fail the request."""
        try:
            self._errors.write(text)
            self._errors.flush()
        except Exception:  # noqa: BLE001, S110 - the application may have closed the stream
            pass


def run_request(
    application: "Callable[..., Any]",
    environ: "dict[str, Any]",
    sink: "Sink",
    *,
    debug: bool = False,
) -> "Response":
    """Serve one request whose sink is *sink*; gives the finished response. As `run_response`."""
    response = Response(environ, sink)
    run_response(response, application, environ, debug=debug)
    return response


def run_response(
    response: "Response",
    application: "Callable[..., Any]",
    environ: "dict[str, Any]",
    *,
    debug: bool = False,
) -> None:
    """Serve one request: call *application*, send what it gives, close it on every path.

    Args:
        response: Of this request; tells afterwards what was sent, also where this raises.
        application: The WSGI callable.
        environ: A finished environ, given away to the application.
        debug: Whether an error page shows the traceback.

    Raises:
        RequestAborted: the frontend is gone; the iterable is closed already.
        SystemExit, KeyboardInterrupt: raised by the application; the request is answered.
    """
    result = None
    try:
        try:
            result = application(environ, response.start_response)
            response.run(result)
        finally:
            if type(result) is not list:  # which has none
                close = getattr(result, "close", None)
                if close is not None:
                    close()
    except RequestAborted:
        raise
    except Exception as error:  # noqa: BLE001 - whatever an application raises is answered
        response.fail(error, environ, debug=debug)
    except BaseException as error:
        response.fail(error, environ, debug=debug)
        raise
    finally:
        response.over = True
