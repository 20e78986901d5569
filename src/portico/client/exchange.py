"""One request over one connection: both directions move whenever they can."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Protocol, Self, cast

from portico.client.upload import (
    PIECE_BYTES,
    Upload,
    content_length,
    data_upload,
    parse_length,
)
from portico.errors import LimitExceeded, LocalProtocolError, PorticoError, RemoteProtocolError
from portico.events import (
    BodyWanted,
    ResponseBodyReceived,
    ResponseEnded,
    ResponseReceived,
    StderrReceived,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from portico.client.upload import Readable
    from portico.codecs import ClientCodec
    from portico.events import Event
    from portico.transports.stream import Stream

_IN = select.POLLIN
_OUT = select.POLLOUT

#: Protocols that frame no body: a request's needs its length, a response's ends with its
#: Content-Length or the connection.
UNFRAMED = frozenset({"scgi", "uwsgi"})

#: The first body packet of AJP, of which no packet size has less room.
_FIRST_ON_DEMAND_BYTES = 8186

#: Most octets of the backend's error stream that are held.
_MAX_STDERR_BYTES = 65_536

#: Statuses without a body (RFC 9110 §6.4.1).
BODILESS = ("204", "304")


class DataCodec(Protocol):
    """A codec that may take data beside the body: FastCGI's.

    Attributes:
        takes_data: Whether it does, and has to: as a Filter's.
    """

    takes_data: bool

    def send_data(self, data: bytes, *, end: bool = False) -> bytes:
        """Encode more of the data, once the body has ended."""
        ...


class BackendError(PorticoError):
    """The backend gave no usable answer; the connection is closed.

    Attributes:
        status_hint: HTTP status for the client where no head was passed on yet: 502, or 504
            for a timeout.
        stderr: What the backend wrote to its error stream before it failed (FastCGI alone).
    """

    def __init__(self, message: str, *, status_hint: int = 502) -> None:
        super().__init__(message)
        self.status_hint = status_hint
        self.stderr = ""


class Timeouts:
    """Bounds of each single wait for progress, in seconds.

    Attributes:
        connect: Until the backend has accepted.
        read: Until it sends the next octet, with the request sent.
        write: Until it takes or sends an octet, with more of the request to send.
        queue: Until one of the pool's connections is free, where their number is bounded.
    """

    __slots__ = ("connect", "queue", "read", "write")

    def __init__(
        self,
        *,
        connect: float = 10.0,
        read: float = 60.0,
        write: float = 60.0,
        queue: float = 10.0,
    ) -> None:
        self.connect = connect
        self.read = read
        self.write = write
        self.queue = queue


class Exchange:
    """One request and its response over one connection; for one thread.

    Iterating gives the response's body in blocks, none empty. Where the response is cut or the
    backend stalls, iteration raises: a block sequence that ends is a whole body. While a block
    is not asked for, nothing moves in either direction.

    Args:
        stream: A connection on which no request is under way; owned until `close` or release.
        codec: The codec of that connection.
        environ: CGI-style parameters. CONTENT_LENGTH may be missing for bytes, and for FastCGI
            and AJP always.
        body: The request's body, as `Upload` takes it, or an `Upload`.
        data: A FastCGI Filter's data, as `Upload` takes it, of known length: FCGI_DATA_LENGTH of
            *environ*, or that of the bytes. *environ* has FCGI_DATA_LAST_MOD, too.
        timeouts: Bounds of waiting.
        release: Takes the connection back, once, with its codec and whether it can carry another
            request; without it, it is closed.
        tap: Is given all octets as they pass, and whether they were sent.

    Attributes:
        app_status: What the application gave as its exit status, once the response has ended
            (FastCGI alone; 0 is the normal value).
        status: The response's status, e.g. ``"200 OK"``; empty before the head is here.
        headers: Names and values as received.
        answered: Whether an octet of the response has been received.
        ended: Whether the response has been received to its end.

    Raises:
        LocalProtocolError: the body needs a CONTENT_LENGTH, or does not agree with it; there is
            data for what takes none, or none for a Filter.
    """

    __slots__ = (
        "_blocks", "_codec", "_data", "_deaf", "_environ", "_given_up", "_left", "_lost", "_out",
        "_release", "_sent", "_stderr", "_stderr_lost", "_stream", "_tap", "_text", "_timeouts",
        "_upload", "_wanted", "answered", "app_status", "ended", "headers", "status",
    )  # fmt: skip

    def __init__(
        self,
        stream: Stream,
        codec: ClientCodec,
        environ: dict[str, str],
        body: bytes | Readable | Iterable[bytes] | Upload = b"",
        *,
        data: bytes | Readable | Upload | None = None,
        timeouts: Timeouts | None = None,
        release: Callable[[Stream, ClientCodec, bool], None] | None = None,
        tap: Callable[[bytes, bool], None] | None = None,
    ) -> None:
        self._stream: Stream | None = stream
        self._tap = tap
        self._codec = codec
        self._timeouts = timeouts or Timeouts()
        self._release = release
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.answered = False
        self.ended = False
        self.app_status = 0
        self._environ = environ
        self._blocks: list[bytes] = []
        self._left: int | None = None  # octets missing of the announced body
        self._out: bytes | memoryview = b""  # encoded, not yet taken by the kernel
        self._sent = False  # whether the kernel took an octet of the request
        self._deaf = False  # the backend takes no more of the request
        self._given_up = False  # it was told that nobody wants the response
        self._lost = False  # the backend is gone
        self._wanted = 0  # body octets the backend asked for; AJP: the first ones unasked
        self._stderr = bytearray()
        self._stderr_lost = False
        self._text = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        if not isinstance(body, Upload):
            body = Upload(body, content_length(environ))
        self._upload = body
        if getattr(codec, "takes_data", False) != (data is not None):
            raise LocalProtocolError(
                "data beside the body goes to a FastCGI Filter, and each of its requests has some"
            )
        self._data = data_upload(data, environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> None:
        """Send the request until the response's head is here; body may remain to be sent.

        Raises:
            BackendError: no usable head came.
            LocalProtocolError: the protocol cannot carry this request.
            Exception: whatever reading the body raises.
        """
        try:
            self._send_head()
            while not self.status:
                self._move()
        except BaseException as exc:
            self.close()
            if isinstance(exc, BackendError):
                exc.stderr = self.take_stderr()
            raise

    def settle(self, seconds: float = 1.0) -> None:
        """Let go of a response whose body is of no use, so that its connection may be kept.

        Args:
            seconds: How long to wait for its end; a response that goes on is given up.
        """
        self._drain(seconds)
        self.close()

    def abort(self, seconds: float = 1.0) -> None:
        """Give the response up so that its connection may be kept; `close` for what cannot be.

        FastCGI alone has a message for it (FCGI_ABORT_REQUEST, §5.4), and not every backend
        minds it.

        Args:
            seconds: How long to wait until the backend has ended the request.
        """
        if self._tell_abort():
            self._given_up = True
            self._deaf = True
            self._left = None
            self._drain(seconds)
        self.close()

    def _tell_abort(self) -> bool:
        """Send the message that gives the request up; False where there is none to be sent."""
        stream = self._stream
        if stream is None or not self._sent or self._out or self._deaf:
            return False
        message = self._codec.abort()
        try:
            sent = os.write(stream.fd, message)
        except OSError:  # closing says it as well
            return False
        if self._tap is not None:
            self._tap(message[:sent], True)
        return 0 < sent == len(message)

    def _drain(self, seconds: float) -> None:
        """Take octets and drop them for at most *seconds*, until the response has ended."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(BackendError):  # nobody waits for what is missing
            while self._stream is not None and (left := deadline - time.monotonic()) > 0:
                self._wait(self._stream, _IN, left)
                self._read(self._stream)
                self._blocks.clear()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not self._blocks:
            if self.ended:
                raise StopIteration
            try:
                self._move()
            except BaseException:
                self.close()
                raise
        blocks, self._blocks = self._blocks, []
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def may_repeat(self) -> bool:
        """Whether the request may be sent again over another connection.

        Only where it has certainly not been executed: the kernel took no octet of it before the
        connection failed, so that none can have reached the backend; and no octet of an answer
        came. A request of which an octet was taken may have been executed, whatever its method
        is, and whether or not the backend ever saw that octet.
        """
        return (
            self._lost
            and not self.answered
            and not self._sent
            and self._upload.rewind()
            and (self._data is None or self._data.rewind())
        )

    def take_stderr(self) -> str:
        """Give and forget the text of the backend's error stream so far (FastCGI alone)."""
        text = self._text.decode(bytes(self._stderr), final=self._stream is None)
        self._stderr.clear()
        if self._stderr_lost:
            self._stderr_lost = False
            text += "\n[portico: more than was held of this error stream is left out]\n"
        return text

    def close(self) -> None:
        """Let go of the connection; a response that has not ended is given up."""
        stream = self._stream
        if stream is None:
            return
        self._tell_abort()
        self._let_go(stream, reusable=False)

    def _let_go(self, stream: Stream, *, reusable: bool) -> None:
        self._stream = None
        if self._release is not None:
            self._release(stream, self._codec, reusable)
        else:
            stream.close()

    def _send_head(self) -> None:
        upload = self._upload
        upload.probe()
        length = upload.length
        environ = self._environ
        if length is not None:
            if length and not environ.get("CONTENT_LENGTH"):
                environ = {**environ, "CONTENT_LENGTH": str(length)}
        elif self._codec.protocol in UNFRAMED:
            raise LocalProtocolError(f"{self._codec.protocol} needs the length of the body")
        if self._data is not None:
            environ = {**environ, "FCGI_DATA_LENGTH": str(self._data.length)}
        first = b""
        on_demand = self._codec.body_on_demand
        if upload.wait_fd() is not None:  # the head need not wait for a slow client
            self._wanted = _FIRST_ON_DEMAND_BYTES if length else 0
        elif not on_demand or length is not None:
            first = upload.read(_FIRST_ON_DEMAND_BYTES if on_demand else PIECE_BYTES)
        try:
            self._out = self._codec.send_request(environ, first, end=upload.ended)
        except LimitExceeded as exc:  # raised of our own request, where it outgrows the protocol
            raise LocalProtocolError(str(exc)) from exc
        self._write()

    def _move(self) -> None:
        """Wait for one direction to be ready and move octets."""
        stream = self._stream
        if stream is None:
            raise LocalProtocolError("the exchange is closed")
        timeouts = self._timeouts
        if self._out:
            ready = self._wait(stream, _IN | _OUT, timeouts.write)
            if ready & _OUT:
                self._write()
            if ready & ~_OUT:
                self._read(stream)
        elif not self._deaf and self._may_send():
            if self._response_is_next(stream):
                self._read(stream)
            else:
                self._send_piece()
        else:
            self._wait(stream, _IN, timeouts.read)
            self._read(stream)

    def _may_send(self) -> bool:
        if self._codec.body_on_demand:
            return self._wanted > 0
        return not self._upload.ended or self._data is not None

    def _send_piece(self) -> None:
        if self._upload.ended and self._data is not None:
            self._send_data(self._data)
            return
        size = PIECE_BYTES
        if self._codec.body_on_demand:
            size = min(self._wanted, size)
            self._wanted = 0
        piece = self._upload.read(size)
        self._out = self._codec.send_body(piece, end=self._upload.ended)
        self._write()

    def _send_data(self, data: Upload) -> None:
        piece = data.read()
        self._out = cast("DataCodec", self._codec).send_data(piece, end=data.ended)
        if data.ended:
            self._data = None
        self._write()

    def _write(self) -> None:
        """Give the kernel what it takes at once."""
        stream = self._stream
        if stream is None or not self._out:
            return
        try:
            sent = os.write(stream.fd, self._out)
        except BlockingIOError:
            return
        except OSError:
            # It may have answered before it closed: what there is to read tells.
            self._deaf = True
            self._out = b""
            return
        self._sent = True
        if self._tap is not None:
            self._tap(bytes(self._out[:sent]), True)
        self._out = memoryview(self._out)[sent:] if sent < len(self._out) else b""

    def _read(self, stream: Stream) -> None:
        """Take octets of the response, once."""
        try:
            data = stream.read(self._timeouts.read)
        except TimeoutError as exc:
            raise BackendError(str(exc), status_hint=504) from exc
        except OSError as exc:
            self._lost = True
            raise BackendError(f"{self._progress()}: {exc.strerror or exc}") from exc
        if self._tap is not None and data:
            self._tap(data, False)
        self.answered = self.answered or bool(data)
        self._lost = not data
        try:
            events = self._codec.receive_data(data) if data else self._codec.receive_eof()
        except RemoteProtocolError as exc:
            self._deaf = True  # the codec is finished
            if not data:
                raise BackendError(self._progress()) from exc
            hint = exc.status_hint if exc.status_hint >= 500 else 502
            raise BackendError(f"the backend broke the protocol: {exc}", status_hint=hint) from exc
        for event in events:
            self._take(event)
        if self.ended:
            return
        if self._lost:
            raise BackendError(self._progress())
        if self._left == 0 and self._codec.protocol in UNFRAMED:
            self._finish(reusable=False)  # whether it closes or not

    def _take(self, event: Event) -> None:
        if type(event) is ResponseBodyReceived:
            self._take_body(event.data)
        elif type(event) is ResponseReceived:
            self._take_head(event)
        elif type(event) is ResponseEnded:
            if self._left:
                raise BackendError(
                    f"the backend ended its response {self._left} octets before its Content-Length"
                )
            self.app_status = event.app_status
            self._finish(reusable=event.reusable)
        elif type(event) is BodyWanted:
            self._wanted = event.size
        elif type(event) is StderrReceived:
            self._keep_stderr(event.data)

    def _take_head(self, head: ResponseReceived) -> None:
        if not "200" <= head.status[:3] <= "999":
            raise BackendError(f"status {head.status[:40]!a} is not a final response")
        self.status = head.status
        self.headers = head.headers
        lengths = {value for name, value in head.headers if name.lower() == "content-length"}
        if self._environ.get("REQUEST_METHOD") == "HEAD" or head.status[:3] in BODILESS:
            self._left = 0
        elif lengths:
            length = parse_length(lengths.pop())
            if lengths or length is None:
                raise BackendError("the response's Content-Length is not one length")
            self._left = length

    def _take_body(self, data: bytes) -> None:
        """Keep a block, without what goes beyond the announced length."""
        if self._given_up:
            return
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if data:
            self._blocks.append(data)

    def _finish(self, *, reusable: bool) -> None:
        """Let go of the connection of a response that is complete."""
        self.ended = True
        stream = self._stream
        if stream is None:
            return
        # A body that was not asked for (AJP) leaves the connection in step, as one that was given
        # up with the request does; one that was cut does not.
        whole = self._codec.body_on_demand or (self._upload.ended and not self._deaf)
        in_step = (whole and not self._deaf) or self._given_up
        self._let_go(stream, reusable=reusable and in_step and not self._out)

    def _keep_stderr(self, data: bytes) -> None:
        room = _MAX_STDERR_BYTES - len(self._stderr)
        self._stderr += data[:room]
        if len(data) > room:
            self._stderr_lost = True

    def _wait(self, stream: Stream, events: int, timeout: float) -> int:
        try:
            return stream.wait(events, timeout)
        except TimeoutError as exc:
            taking = events & _OUT
            doing = "took no octet of the request" if taking else "sent nothing"
            name = "write" if taking else "read"
            raise BackendError(
                f"the backend {doing} for {timeout:g} seconds ({name} timeout)", status_hint=504
            ) from exc

    def _progress(self) -> str:
        """Say how far the response had come when the backend was gone."""
        if self.status:
            return "the backend cut its response"
        if self.answered:
            return "the backend closed within the head of its response"
        return "the backend closed the connection without a response"

    def _response_is_next(self, stream: Stream) -> bool:
        """Whether to read before more body is sent: what is here already goes first.

        Where reading the body would wait for its sender, wait for either side: the sender may
        be waiting for the response.
        """
        poll = select.poll()
        poll.register(stream.fd, _IN)
        source = self._upload.wait_fd()
        if source is not None:
            poll.register(source, _IN)
        ready = poll.poll(0 if source is None else self._timeouts.read * 1000)
        return any(fd == stream.fd for fd, _ in ready)
