"""FastCGI 1.0: the web server's side."""

from __future__ import annotations

from portico.codecs._fastcgi_records import (
    BEGIN_BODY,
    EMPTY_PARAMS_1,
    EMPTY_STDIN_1,
    END_BODY,
    END_BYTES,
    FCGI_ABORT_REQUEST,
    FCGI_BEGIN_REQUEST,
    FCGI_END_REQUEST,
    FCGI_KEEP_CONN,
    FCGI_OVERLOADED,
    FCGI_PARAMS,
    FCGI_REQUEST_COMPLETE,
    FCGI_RESPONDER,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_TYPE,
    HEADER_BYTES,
    encode_pairs,
    record,
    stream,
    unpack_header,
)
from portico.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from portico.events import (
    ResponseBodyReceived,
    ResponseEnded,
    ResponseReceived,
    StderrReceived,
)
from portico.head import find_end, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.events import Event
    from portico.limits import Limits

#: States of a client's connection: no request; the response's head arrives; its body arrives;
#: STDOUT has ended; the request was given up and END_REQUEST is awaited.
CLIENT_IDLE, CLIENT_HEAD, CLIENT_BODY, CLIENT_ENDED, CLIENT_ABORTED = range(5)

#: (state, type of a record with the request's id, empty?) -> next state; anything absent is
#: refused, unknown types are skipped. A head is complete, and HEAD left for BODY, where its
#: blank line comes. END_REQUEST is never empty.
CLIENT_TRANSITIONS = {
    (CLIENT_HEAD, FCGI_STDOUT, False): CLIENT_BODY,
    (CLIENT_HEAD, FCGI_STDERR, False): CLIENT_HEAD,
    (CLIENT_HEAD, FCGI_STDERR, True): CLIENT_HEAD,
    (CLIENT_BODY, FCGI_STDOUT, False): CLIENT_BODY,
    (CLIENT_BODY, FCGI_STDOUT, True): CLIENT_ENDED,
    (CLIENT_BODY, FCGI_STDERR, False): CLIENT_BODY,
    (CLIENT_BODY, FCGI_STDERR, True): CLIENT_BODY,
    (CLIENT_BODY, FCGI_END_REQUEST, False): CLIENT_IDLE,
    (CLIENT_ENDED, FCGI_STDERR, False): CLIENT_ENDED,
    (CLIENT_ENDED, FCGI_STDERR, True): CLIENT_ENDED,
    (CLIENT_ENDED, FCGI_END_REQUEST, False): CLIENT_IDLE,
    (CLIENT_ABORTED, FCGI_STDOUT, False): CLIENT_ABORTED,
    (CLIENT_ABORTED, FCGI_STDOUT, True): CLIENT_ABORTED,
    (CLIENT_ABORTED, FCGI_STDERR, False): CLIENT_ABORTED,
    (CLIENT_ABORTED, FCGI_STDERR, True): CLIENT_ABORTED,
    (CLIENT_ABORTED, FCGI_END_REQUEST, False): CLIENT_IDLE,
}


class ClientCodec:
    """The web server's side of a connection, one request at a time, always with id 1.

    Args:
        limits: A ceiling on the response's head.
        keep_open: Whether to ask the backend to keep the connection (FCGI_KEEP_CONN).
    """

    __slots__ = ("_head", "_hint", "_max_head_bytes", "_rest", "_sent", "_state", "keep_open")

    protocol = "fastcgi"
    body_on_demand = False

    def __init__(self, limits: Limits, *, keep_open: bool = True) -> None:
        self._max_head_bytes = limits.max_response_head_bytes
        self.keep_open = keep_open
        self._state = CLIENT_IDLE
        self._sent = True  # STDIN has ended
        self._hint = 0  # what to answer where nothing of a response has been reported
        self._head = bytearray()
        self._rest = bytearray()

    def send_request(
        self, environ: Mapping[str, str], body: bytes = b"", *, end: bool = True
    ) -> bytes:
        """Encode a Responder's request: all of *environ*, the body's first octets.

        Args:
            environ: What to send as parameters; the caller has chosen them.
            body: The body's first octets.
            end: Whether they are all.

        Raises:
            LocalProtocolError: the response to the last request has not ended, or a
                parameter is not latin-1.
        """
        if self._state != CLIENT_IDLE:
            raise LocalProtocolError("the last response has not ended")
        flags = FCGI_KEEP_CONN if self.keep_open else 0
        params = stream(FCGI_PARAMS, 1, encode_pairs(environ.items()))
        begin = record(FCGI_BEGIN_REQUEST, 1, BEGIN_BODY.pack(FCGI_RESPONDER, flags))
        self._state = CLIENT_HEAD
        self._sent = False
        return b"".join((begin, *params, EMPTY_PARAMS_1, self.send_body(body, end=end)))

    def send_body(self, data: bytes, *, end: bool = False) -> bytes:
        """Encode more of the body.

        Raises:
            LocalProtocolError: the body or the response has ended.
        """
        if self._sent or self._state == CLIENT_IDLE:
            raise LocalProtocolError("no request body is open")
        parts = stream(FCGI_STDIN, 1, data)
        if end:
            self._sent = True
            parts.append(EMPTY_STDIN_1)
        return b"".join(parts)

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the backend.

        Raises:
            RemoteProtocolError: they are no response, or END_REQUEST rejects the request;
                `status_hint` is what to answer where no head has been reported yet.
            LimitExceeded: the head is longer than the limits allow.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed():
                return []
            data = bytes(self._rest)
            self._rest.clear()
        self._hint = 502 if self._state == CLIENT_HEAD else 0
        events: list[Event] = []
        body: list[bytes] = []
        stderr: list[bytes] = []
        pos = 0
        size = len(data)
        while size - pos >= HEADER_BYTES:
            version, kind, request_id, length, padding = unpack_header(data, pos)
            if version != 1:
                raise self._fault(f"FastCGI version {version}", "FastCGI 1.0 §3.3")
            start = pos + HEADER_BYTES
            end = start + length
            if end + padding > size:
                break
            pos = end + padding
            if request_id != 1:
                self._skip(request_id)
            elif kind == FCGI_STDOUT:
                self._take_stdout(data[start:end], events, body)
            elif kind == FCGI_STDERR and self._state != CLIENT_IDLE:
                if length:
                    stderr.append(data[start:end])
            elif kind == FCGI_END_REQUEST:
                self._take_end(data[start:end])
                reusable = self.keep_open and self._sent and pos == size
                events.append(ResponseEnded(reusable))
            elif kind <= FCGI_UNKNOWN_TYPE or self._state == CLIENT_IDLE:
                raise self._fault(f"record type {kind} from a backend", "FastCGI 1.0 §3.3")
        if pos < size:
            if data[pos] != 1:
                raise self._fault(f"FastCGI version {data[pos]}", "FastCGI 1.0 §3.3")
            self._rest += memoryview(data)[pos:]
        return _in_order(events, body, stderr)

    def _needed(self) -> int:
        """Tell how many octets the first record in `_rest` takes, at least."""
        if len(self._rest) < HEADER_BYTES:
            return HEADER_BYTES
        _, _, _, length, padding = unpack_header(self._rest)
        return HEADER_BYTES + int(length) + int(padding)

    def _skip(self, request_id: int) -> None:
        """Skip what a backend says of itself; nothing was asked of it (§4)."""
        if request_id:
            raise self._fault(f"record of a request {request_id}", "FastCGI 1.0 §3.3")

    def _take_stdout(self, content: bytes, events: list[Event], body: list[bytes]) -> None:
        state = self._state
        if state == CLIENT_BODY:
            if content:
                body.append(content)
            else:
                self._state = CLIENT_ENDED
        elif state == CLIENT_HEAD and content:
            self._take_head(content, events, body)
        elif state != CLIENT_ABORTED:
            raise self._fault(
                f"FCGI_STDOUT of {len(content)} octets in state {state}", "FastCGI 1.0 §5.3"
            )

    def _take_head(self, content: bytes, events: list[Event], body: list[bytes]) -> None:
        head = self._head
        looked = max(0, len(head) - 3)
        head += content
        found = find_end(head, looked)
        # A CR at the end may begin the blank line, which does not count.
        size = found[0] if found else len(head) - head.endswith(b"\r")
        if size > self._max_head_bytes:
            raise LimitExceeded(
                f"response head of more than {self._max_head_bytes} octets",
                option="max_response_head_bytes",
                section="RFC 3875 §6",
                status_hint=502,
            )
        if found is None:
            return
        status, headers = parse(bytes(head[: found[0]]), max_bytes=self._max_head_bytes)
        events.append(ResponseReceived(status, headers))
        if found[1] < len(head):
            body.append(bytes(head[found[1] :]))
        self._head = bytearray()
        self._state = CLIENT_BODY

    def _take_end(self, content: bytes) -> None:
        state = self._state
        if state == CLIENT_IDLE or len(content) < END_BYTES:
            raise self._fault(
                f"FCGI_END_REQUEST of {len(content)} octets in state {state}", "FastCGI 1.0 §5.5"
            )
        _, protocol_status = END_BODY.unpack_from(content)
        if protocol_status != FCGI_REQUEST_COMPLETE:
            hint = 503 if protocol_status == FCGI_OVERLOADED else 502
            raise RemoteProtocolError(
                f"the backend rejected the request: protocolStatus {protocol_status}",
                section="FastCGI 1.0 §5.5",
                status_hint=hint if self._hint else 0,
            )
        if state == CLIENT_HEAD:
            raise self._fault("a response without a complete head", "RFC 3875 §6.2")
        self._state = CLIENT_IDLE
        self._head = bytearray()

    def _fault(self, message: str, section: str) -> RemoteProtocolError:
        return RemoteProtocolError(message, section=section, status_hint=self._hint)

    def receive_eof(self) -> list[Event]:
        """Take the backend's end of file.

        Raises:
            RemoteProtocolError: FCGI_END_REQUEST has not come; an end of file alone does not
                show that a response is whole.
        """
        self.keep_open = False
        self._hint = 502 if self._state == CLIENT_HEAD else 0
        if self._state != CLIENT_IDLE:
            raise self._fault("the backend closed before FCGI_END_REQUEST", "FastCGI 1.0 §5.5")
        return []

    def abort(self) -> bytes:
        """Encode FCGI_ABORT_REQUEST; what the backend still answers is dropped.

        `ResponseEnded` follows where the backend goes on to end the request. Empty where
        there is no request.
        """
        if self._state == CLIENT_IDLE:
            return b""
        self._state = CLIENT_ABORTED
        self._sent = True
        return record(FCGI_ABORT_REQUEST, 1)


def _in_order(events: list[Event], body: list[bytes], stderr: list[bytes]) -> list[Event]:
    """Put what was said on both streams between the head and the end, each joined."""
    ended = [events.pop()] if events and type(events[-1]) is ResponseEnded else []
    if stderr:
        events.append(StderrReceived(b"".join(stderr)))
    if body:
        events.append(ResponseBodyReceived(b"".join(body)))
    return events + ended
