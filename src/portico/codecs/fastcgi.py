"""FastCGI 1.0: records, streams of name-value pairs, management records.

The server codec serves one request at a time, as nearly every web server wants it; where one
needs more, a `MultiplexCodec` takes over. Sections named here are those of the FastCGI 1.0
specification (1996).
"""

from __future__ import annotations

from portico.codecs._fastcgi_client import ClientCodec
from portico.codecs._fastcgi_records import (
    BEGIN_BODY,
    BEGIN_BYTES,
    EMPTY_PARAMS_1,
    EMPTY_STDIN_1,
    FCGI_ABORT_REQUEST,
    FCGI_AUTHORIZER,
    FCGI_BEGIN_REQUEST,
    FCGI_CANT_MPX_CONN,
    FCGI_FILTER,
    FCGI_GET_VALUES,
    FCGI_KEEP_CONN,
    FCGI_PARAMS,
    FCGI_REQUEST_COMPLETE,
    FCGI_RESPONDER,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_ROLE,
    HEADER_BYTES,
    MAX_CONTENT_BYTES,
    Values,
    announced_length,
    decode_pairs,
    decode_params,
    encode_pairs,
    end_request,
    not_version_1,
    pack_header,
    record,
    stream,
    tail,
    too_many_params,
    unpack_header,
)
from portico.errors import LocalProtocolError, RemoteProtocolError
from portico.events import AbortReceived, BodyEnded, BodyReceived, RequestReceived
from portico.head import encode_cgi
from portico.refusals import plain_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from portico.codecs._fastcgi_multiplex import MultiplexCodec
    from portico.events import Event
    from portico.limits import Limits

# What lives in the two private modules and is offered here.
__all__ = ["ClientCodec", "ServerCodec", "decode_pairs", "decode_params", "encode_pairs"]

#: States of a server's connection: no request; its parameters arrive; its STDIN arrives; STDIN
#: has ended and the answer has not; the frontend has given it up and the answer has not ended.
IDLE, PARAMS, STDIN, ANSWER, ABORTED = range(5)

#: (state, type of a record with the request's id, empty?) -> next state. Types that are no part
#: of a Responder's request (`SKIPPED`) change nothing; what is absent is refused, except that
#: in IDLE all but BEGIN_REQUEST is discarded. BEGIN_REQUEST in ANSWER and ABORTED waits,
#: undecoded, for the answer's end, which leads from every state to IDLE. An empty STDIN that
#: comes before CONTENT_LENGTH octets leads to ABORTED.
#: The tests hold the codec to this table; nothing reads it at run time.
TRANSITIONS = {
    (IDLE, FCGI_BEGIN_REQUEST, False): PARAMS,
    (PARAMS, FCGI_PARAMS, False): PARAMS,
    (PARAMS, FCGI_PARAMS, True): STDIN,
    (PARAMS, FCGI_ABORT_REQUEST, True): IDLE,
    (PARAMS, FCGI_ABORT_REQUEST, False): IDLE,
    (STDIN, FCGI_STDIN, False): STDIN,
    (STDIN, FCGI_STDIN, True): ANSWER,
    (STDIN, FCGI_ABORT_REQUEST, True): ABORTED,
    (STDIN, FCGI_ABORT_REQUEST, False): ABORTED,
    (ANSWER, FCGI_BEGIN_REQUEST, False): ANSWER,
    (ANSWER, FCGI_BEGIN_REQUEST, True): ANSWER,
    (ANSWER, FCGI_ABORT_REQUEST, True): ABORTED,
    (ANSWER, FCGI_ABORT_REQUEST, False): ABORTED,
    (ABORTED, FCGI_BEGIN_REQUEST, False): ABORTED,
    (ABORTED, FCGI_BEGIN_REQUEST, True): ABORTED,
    (ABORTED, FCGI_STDIN, False): ABORTED,
    (ABORTED, FCGI_STDIN, True): ABORTED,
    (ABORTED, FCGI_ABORT_REQUEST, True): ABORTED,
    (ABORTED, FCGI_ABORT_REQUEST, False): ABORTED,
}

#: What a Responder's request has no use for is skipped: DATA, what only an application sends,
#: and every type that version 1 does not have ("FCGI_MAXTYPE", §8). FCGI_GET_VALUES is not
#: among them: with a request's id it is malformed (§3.3).
SKIPPED = frozenset(range(256)) - {
    FCGI_BEGIN_REQUEST,
    FCGI_ABORT_REQUEST,
    FCGI_PARAMS,
    FCGI_STDIN,
    FCGI_GET_VALUES,
}

#: Most octets kept of what a frontend sends behind a request that is not yet answered. None of
#: those known sends any.
_MAX_HELD_BYTES = 1_048_576

#: More octets than ever arrive: nothing is decoded until the answer has ended.
_NEVER = 1 << 62

# Every frontend known but HAProxy gives each request the id 1.
_TAIL_1 = tail(1)
_PARAMS_1 = record(FCGI_PARAMS, 1)[:4]
_STDIN_1 = record(FCGI_STDIN, 1)[:4]
#: The BEGIN_REQUEST records of a Responder's request 1, and whether each keeps the connection.
_BEGIN_1 = {
    record(FCGI_BEGIN_REQUEST, 1, BEGIN_BODY.pack(FCGI_RESPONDER, flags)): bool(flags)
    for flags in (0, FCGI_KEEP_CONN)
}
_BEGIN_1_BYTES = HEADER_BYTES + BEGIN_BYTES
#: BEGIN_REQUEST and the headers of PARAMS, of its end and of STDIN's: less is no whole request.
_LEAST_REQUEST_BYTES = _BEGIN_1_BYTES + 3 * HEADER_BYTES


class ServerCodec:
    """The application's side of a connection, one request at a time.

    What was decoded before a malformed record is handed over first; the next call of
    `receive_data` raises, and `pending` says that it is due. STDIN that comes after a request
    was answered is discarded by its id.

    Check `keep_open` after each `receive_data` that leaves no request open: a request that was
    rejected here, and so never reported, may have asked for the connection's end.

    Args:
        limits: Ceilings on the parameters.
        roles: Roles accepted; all others are answered FCGI_UNKNOWN_ROLE.
        max_conns: FCGI_MAX_CONNS, the connections served at a time; a count.
        max_reqs: FCGI_MAX_REQS, the requests served at a time on all connections; a count.
        most: Requests in flight on one connection. With 1, a second one is answered
            FCGI_CANT_MPX_CONN; with more it waits here, `crowded` says so, and who drives the
            codec may go on with what `several` gives.
    """

    __slots__ = (
        "_begins",
        "_id",
        "_left",
        "_limits",
        "_max_params",
        "_max_params_bytes",
        "_most",
        "_need",
        "_out",
        "_params",
        "_rest",
        "_role",
        "_roles",
        "_state",
        "_tail",
        "_values",
        "crowded",
        "keep_open",
        "pending",
    )

    protocol = "fastcgi"
    raw_body = False
    excess = False

    def __init__(
        self,
        limits: Limits,
        *,
        roles: tuple[int, ...] = (FCGI_RESPONDER,),
        max_conns: int = 128,
        max_reqs: int = 128,
        most: int = 1,
    ) -> None:
        self._limits = limits
        self._max_params = limits.max_params
        self._max_params_bytes = limits.max_params_bytes
        self._roles = roles
        self._begins = _BEGIN_1 if FCGI_RESPONDER in roles else {}
        self._values = (max_conns, max_reqs)
        self._most = most
        self.crowded = False
        self.keep_open = True
        self.pending = False
        self._state = IDLE
        self._id = 0  # of the request that is not yet answered; 0 for none
        self._role = FCGI_RESPONDER
        self._tail = _TAIL_1
        self._params = bytearray()
        self._left = -1  # octets of STDIN still promised by CONTENT_LENGTH, or -1
        self._rest = bytearray()  # begins with a record that is incomplete, or must wait
        self._need = 0  # octets of _rest before which there is nothing to decode
        self._out = bytearray()

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the peer.

        Raises:
            RemoteProtocolError: they are no FastCGI, or a request's parameters are malformed.
            LimitExceeded: the parameters are more than the limits allow.
        """
        if self._rest:
            rest = self._rest
            rest += data
            if len(rest) < self._need:
                if self.pending and len(rest) > _MAX_HELD_BYTES:
                    raise RemoteProtocolError(
                        "too much behind a request that is not answered", section="FastCGI 1.0 §3.3"
                    )
                return []
            data = bytes(rest)
            rest.clear()
            return self._receive_records(data)
        if self._state == IDLE and (keep := self._begins.get(data[:_BEGIN_1_BYTES])) is not None:
            event = self._receive_whole(data, keep)
            if event is not None:
                return [event]
        return self._receive_records(data)

    def _receive_whole(self, data: bytes, keep: bool) -> RequestReceived | None:  # noqa: FBT001 - hot
        """Decode the commonest delivery: all of request 1, its STDIN in at most one record.

        Finding four records this way costs 1.3 µs, and 3.2 one by one; the parameters
        themselves cost 8.2. Anything unusual is left to `_receive_records`.
        """
        size = len(data)
        if size < _LEAST_REQUEST_BYTES or data[16:20] != _PARAMS_1:
            return None
        length = data[20] << 8 | data[21]
        at = 24 + length + data[22]
        if length > self._max_params_bytes or data[at : at + 8] != EMPTY_PARAMS_1 or not length:
            return None
        at += 8
        if data[at:] == EMPTY_STDIN_1:
            body = b""
        elif size >= at + 16 and data[at : at + 4] == _STDIN_1:
            end = at + 8 + (data[at + 4] << 8 | data[at + 5])
            body = data[at + 8 : end]
            if not body or data[end + data[at + 6] :] != EMPTY_STDIN_1:
                return None
        else:
            return None
        environ: dict[str, str] = {}
        self._state = PARAMS
        self._id = 1
        self._tail = _TAIL_1
        decode_params(data[24 : 24 + length], environ, max_params=self._max_params)
        left = announced_length(environ.get("CONTENT_LENGTH"))
        if left >= 0 and left != len(body):
            self._state = IDLE
            self._id = 0
            return None
        self._state = ANSWER
        self._role = FCGI_RESPONDER
        if not keep:
            self.keep_open = False
        return RequestReceived(1, environ, body, True)

    def _receive_records(self, data: bytes) -> list[Event]:
        """Decode record by record, and keep what must wait."""
        events: list[Event] = []
        pieces: list[bytes] = []  # of STDIN; joined once, reported once
        self.pending = False
        self._need = HEADER_BYTES
        pos = 0
        size = len(data)
        try:
            while size - pos >= HEADER_BYTES:
                version, kind, request_id, length, padding = unpack_header(data, pos)
                if version != 1:
                    raise not_version_1(version)
                start = pos + HEADER_BYTES
                end = start + length
                if end + padding > size:
                    self._need = end + padding - pos
                    break
                if request_id == self._id and request_id:
                    if kind == FCGI_BEGIN_REQUEST and self._state >= ANSWER:
                        self.pending = True
                        self._need = _NEVER
                        break
                    self._receive_record(kind, data[start:end], events, pieces)
                elif kind == FCGI_BEGIN_REQUEST and self._is_crowd(request_id, data[start:end]):
                    self.crowded = self.pending = True
                    self._need = _NEVER
                    break
                else:
                    self._receive_other(kind, request_id, data[start:end])
                pos = end + padding
            if pos < size and data[pos] != 1:
                raise not_version_1(data[pos])
        except RemoteProtocolError:
            if not events and not pieces:
                raise
            self.pending = True
            self._need = 0
        if pos < size:
            self._rest += memoryview(data)[pos:]
        if pieces:
            self._report_body(pieces, events)
        return events

    def _receive_record(
        self, kind: int, content: bytes, events: list[Event], pieces: list[bytes]
    ) -> None:
        """Take one record of the present request; `TRANSITIONS` in branches."""
        state = self._state
        if kind == FCGI_STDIN and state == STDIN:
            if content:
                self._take_stdin(content, pieces)
            else:
                self._end_stdin(events)
        elif kind == FCGI_PARAMS and state == PARAMS:
            if content:
                self._take_params(content)
            else:
                events.append(self._end_params())
        elif kind == FCGI_ABORT_REQUEST:
            self._take_abort(events)
        elif kind not in SKIPPED and not (
            kind == FCGI_STDIN and (state == ABORTED or self._role == FCGI_AUTHORIZER)
        ):
            raise RemoteProtocolError(
                f"record type {kind} in state {state} of request {self._id}",
                section="FastCGI 1.0 §3.3" if kind == FCGI_GET_VALUES else "FastCGI 1.0 §6.2",
                status_hint=400 if kind == FCGI_STDIN and state == PARAMS else 0,
            )

    def _take_params(self, content: bytes) -> None:
        self._params += content
        if len(self._params) > self._max_params_bytes:
            raise too_many_params(self._max_params_bytes)

    def _end_params(self) -> RequestReceived:
        environ: dict[str, str] = {}
        decode_params(bytes(self._params), environ, max_params=self._max_params)
        self._params = bytearray()
        if self._role == FCGI_AUTHORIZER:
            # "does not include ... CONTENT_LENGTH" (§6.3), and three frontends of four send no
            # STDIN at all, not even its end: nothing is waited for, and what comes is ignored.
            self._state = ANSWER
            return RequestReceived(self._id, environ, b"", True, self._role)
        self._left = announced_length(environ.get("CONTENT_LENGTH"))
        self._state = STDIN
        return RequestReceived(self._id, environ, b"", False, self._role)

    def _take_stdin(self, content: bytes, pieces: list[bytes]) -> None:
        """Take content of STDIN, without what exceeds CONTENT_LENGTH."""
        left = self._left
        if left >= 0:
            content = content[:left]
            if not content:
                return
            self._left = left - len(content)
        pieces.append(content)

    def _end_stdin(self, events: list[Event]) -> None:
        """Take the end of STDIN; short of CONTENT_LENGTH it means that the client went away."""
        first = events[0] if events else None
        if self._left > 0:
            self._state = ABORTED
            events.append(AbortReceived(self._id))
        else:
            self._state = ANSWER
            if type(first) is RequestReceived:
                first.complete = True
            else:
                events.append(BodyEnded(self._id))

    def _take_abort(self, events: list[Event]) -> None:
        """Take ABORT_REQUEST: a request not yet reported is answered here (§5.4)."""
        if self._state == PARAMS:
            self._out += end_request(self._id, FCGI_REQUEST_COMPLETE)
            self._finish()
        elif self._state != ABORTED:
            self._state = ABORTED
            events.append(AbortReceived(self._id))

    def _report_body(self, pieces: list[bytes], events: list[Event]) -> None:
        """Report STDIN: with the request where that is new, else before what followed it."""
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        first = events[0] if events else None
        if type(first) is RequestReceived:
            first.body = body
        else:
            events.insert(0, BodyReceived(self._id, body))

    def _receive_other(self, kind: int, request_id: int, content: bytes) -> None:
        """Take a record that is not of the present request."""
        if kind == FCGI_BEGIN_REQUEST:
            self._begin(request_id, content)
        elif request_id == 0:
            self._manage(kind, content)
        elif kind == FCGI_GET_VALUES:
            raise RemoteProtocolError(
                f"FCGI_GET_VALUES with request id {request_id}", section="FastCGI 1.0 §3.3"
            )

    def _begin(self, request_id: int, content: bytes) -> None:
        if request_id == 0 or len(content) < BEGIN_BYTES:
            raise RemoteProtocolError(
                f"FCGI_BEGIN_REQUEST of {len(content)} octets with request id {request_id}",
                section="FastCGI 1.0 §5.1",
            )
        role, flags = BEGIN_BODY.unpack_from(content)
        if not flags & FCGI_KEEP_CONN:
            self.keep_open = False
        if self._id:
            self._out += end_request(request_id, FCGI_CANT_MPX_CONN)
        elif role not in self._roles:
            self._out += end_request(request_id, FCGI_UNKNOWN_ROLE)
        else:
            self._state = PARAMS
            self._id = request_id
            self._role = role
            self._tail = _TAIL_1 if request_id == 1 else tail(request_id)

    def _manage(self, kind: int, content: bytes) -> None:
        """Answer a management record (§4)."""
        values = self._make_values()
        self._out += values.manage(kind, content)
        if values.asked and self._most > 1:
            self.crowded = True  # who asks may do it

    def _make_values(self) -> Values:
        max_conns, max_reqs = self._values
        return Values(max_conns, max_reqs, multiplexes=self._most > 1)

    def _is_crowd(self, request_id: int, content: bytes) -> bool:
        """Tell whether a BEGIN_REQUEST asks for more than this codec does."""
        if request_id == 0 or len(content) < BEGIN_BYTES:
            return False
        role = BEGIN_BODY.unpack_from(content)[0]
        return self._most > 1 if self._id else role == FCGI_FILTER and role in self._roles

    def several(self) -> MultiplexCodec:
        """Give a codec that goes on from here, with several requests; this one is finished."""
        # 1 ms to load, and hardly any frontend needs it
        from portico.codecs._fastcgi_multiplex import MultiplexCodec  # noqa: PLC0415

        codec = MultiplexCodec(
            self._limits, roles=self._roles, values=self._make_values(), most=self._most
        )
        if self._state == PARAMS:
            codec.adopt_params(self._id, self._role, bytes(self._params))
        elif self._state != IDLE:
            codec.adopt(
                self._id,
                self._role,
                answering=self._state == ANSWER,
                aborted=self._state == ABORTED,
                left=self._left,
                wrote_errors=self._tail != tail(self._id),
            )
        codec.inherit(bytes(self._rest), bytes(self._out), keep_open=self.keep_open)
        self._out = bytearray()
        return codec

    def receive_eof(self) -> list[Event]:
        """Take the peer's end of file.

        An `AbortReceived` where a reported request's STDIN has not ended; nothing between
        requests, before a request was reported, and after its STDIN has ended.
        """
        self.keep_open = False
        if self._state != STDIN:
            return []
        self._state = ABORTED
        return [AbortReceived(self._id)]

    def data_to_send(self) -> bytes:
        """Give, once, replies to management records and rejected requests."""
        out = self._out
        if not out:
            return b""
        self._out = bytearray()
        return bytes(out)

    def send_response(
        self,
        request_id: int,
        status: str,
        headers: list[tuple[str, str]],
        body: bytes = b"",
        *,
        end: bool = True,
    ) -> bytes:
        """Encode a checked head, the body's first octets and, with *end*, the response's end.

        Raises:
            LocalProtocolError: *request_id* is not the present request.
        """
        head = encode_cgi(status, headers)
        size = len(head) + len(body)
        if size > MAX_CONTENT_BYTES:
            return self.send_body(request_id, head + body, end=end)
        self._check(request_id)
        header = pack_header(1, FCGI_STDOUT, request_id, size, 0)
        if end:
            self._finish()
            return b"".join((header, head, body, self._tail))
        return b"".join((header, head, body))

    def send_body(self, request_id: int, data: bytes, *, end: bool = False) -> bytes:
        """Encode more body; *data* may be empty with *end* alone.

        With no octets and *end* it also closes a request that got no response at all, as
        FCGI_ABORT_REQUEST asks for.

        Raises:
            LocalProtocolError: *request_id* is not the present request.
        """
        return b"".join(self.send_body_parts(request_id, data, end=end))

    def send_body_parts(
        self, request_id: int, data: bytes, *, end: bool = False
    ) -> list[bytes | memoryview]:
        """Encode a large piece of body as record headers and views of *data*.

        Raises:
            LocalProtocolError: *request_id* is not the present request.
        """
        self._check(request_id)
        parts = stream(FCGI_STDOUT, request_id, data)
        if end:
            self._finish()
            parts.append(self._tail)
        return parts

    def send_errors(self, request_id: int, data: bytes) -> bytes:
        """Encode text of the request's error stream, FCGI_STDERR (§5.3).

        Raises:
            LocalProtocolError: *request_id* is not the present request.
        """
        self._check(request_id)
        self._tail = tail(request_id, errors=True)
        return b"".join(stream(FCGI_STDERR, request_id, data))

    def want_body(self, request_id: int, size: int) -> None:
        """Do nothing: a frontend sends STDIN unasked."""

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come since the last answer."""
        return self._state == IDLE and not self._rest

    def refuse(self, status: int) -> bytes:
        """Encode the error answer to a request whose parameters could not be decoded.

        Empty where no request is being decoded.
        """
        if self._state != PARAMS:
            return b""
        return self.send_response(self._id, *plain_refusal(status))

    def abort(self, request_id: int) -> None:
        """Give up a response that cannot be completed; the connection must close.

        Raises:
            LocalProtocolError: *request_id* is not the present request.
        """
        self._check(request_id)
        self._finish()
        self.keep_open = False

    def _check(self, request_id: int) -> None:
        if request_id != self._id or not request_id:
            raise LocalProtocolError(f"request {request_id} is not open")

    def _finish(self) -> None:
        """Make ready for the next BEGIN_REQUEST, whatever of the old request still comes."""
        self._state = IDLE
        self._id = 0
        if self._params:
            self._params = bytearray()
        if self.pending:
            self._need = 0
